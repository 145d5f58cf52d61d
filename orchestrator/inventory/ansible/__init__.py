"""Inventories in the formats of Ansible: from their sources to ``model.host``.

The formats and the order of precedence are those of Ansible's documentation ("How to build your
inventory", "Using variables"), checked against ansible-core 2.19. Groups become roles; their
variables become layers that replace each other, with the connection variables among them as connect
settings. Everything after loading is the same as for orch's own inventories.
"""
