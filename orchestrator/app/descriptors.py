"""How many files this process may have open."""

from __future__ import annotations

import resource


def allow_files() -> None:
    """Let this process hold as many connections as the system lets it: each is a file or two,
    and the usual soft limit of 1024 is for programs that use select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else hard
    if soft not in (wanted, resource.RLIM_INFINITY):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
