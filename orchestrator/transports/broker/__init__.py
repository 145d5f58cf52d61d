"""The broker: a process that keeps connections open between commands."""
