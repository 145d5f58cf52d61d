"""The user who runs orch."""

from __future__ import annotations

import os
import pwd


def login_name() -> str:
    """Return the name of the user who runs orch.

    It comes from the password database, as for ssh, not from LOGNAME. A user without an entry
    there is called by the number.
    """
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def login_shell() -> str:
    """Return the path of the login shell of the user who runs orch; sh if the user has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_shell or "/bin/sh"
    except KeyError:
        return "/bin/sh"
