"""Stages, hosts and roles: from the folders of ``inventories/`` to ``model.host``.

How values rank, weak to strong: stage, role, host; within each of these ``common/`` is weaker
than the stage's own files; within the roles of one of the two, a role is weaker than those
that it names in its ``roles``. Two roles of which neither holds the other must agree, or
the host (or a role that both hold) must settle it.
"""
