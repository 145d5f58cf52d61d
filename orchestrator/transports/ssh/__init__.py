"""SSH in this process, with paramiko."""
