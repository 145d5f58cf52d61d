"""OpenSSH's client configuration (ssh_config(5)), read once a run and looked up for each host."""
