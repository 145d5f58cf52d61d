"""Implementation of the commands: from the project's files to data or a run. Prints nothing."""
