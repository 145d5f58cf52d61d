"""Files to marked values: YAML and JSON as they were written, and the words to check them with."""
