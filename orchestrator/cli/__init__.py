"""The command line: commands and their options, and the conversion of errors to exit codes."""
