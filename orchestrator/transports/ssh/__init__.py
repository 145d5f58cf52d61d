"""SSH in this process, over paramiko."""
