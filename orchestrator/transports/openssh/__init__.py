"""The ``openssh`` transport: the system's ``ssh`` makes the connections, one for each host."""
