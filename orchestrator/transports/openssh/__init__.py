"""The ``openssh`` transport: the system's ``ssh`` makes the connections, one per host."""
