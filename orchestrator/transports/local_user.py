"""Who runs orch."""

from __future__ import annotations

import os
import pwd


def login_name() -> str:
    """Who runs orch, as the system has it (and ssh): not what LOGNAME claims."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
