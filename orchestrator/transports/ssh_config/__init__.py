"""OpenSSH's client configuration (ssh_config(5)), read once per run and looked up per host."""
