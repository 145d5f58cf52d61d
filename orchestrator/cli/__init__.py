"""The command line: verbs and their options; the one place where errors become exit codes."""
