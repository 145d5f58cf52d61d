"""What each verb does, from the project's files to data or a run. Prints nothing."""
