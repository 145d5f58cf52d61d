"""Stages, hosts and roles: from the folders of ``inventories/`` to ``model.host``.

Precedence of values, from weak to strong: stage, role, host. Within each of these, ``common/`` is
weaker than the stage's own files. Within the roles of one level, a role is weaker than the roles
that it lists under ``roles``. Two roles of which neither contains the other must agree, unless the
host (or a role contained in both) overrides them.
"""
