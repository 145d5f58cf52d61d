"""What a module's script runs on, and what it says of itself.

Its exit status is one of the below, or that of a failure. On the way it reports, by markers:

    have KEY=VALUE    a state that is not as wanted, or no ``=VALUE`` where there is none
    after KEY=VALUE   one that is not as wanted at the end
    old LINE          a line of what it is about to replace; ``old# WHY`` ends it: long, binary,
                      cut (the last line has no newline)
    new LINE          a line of what it would put there, where only the host knows that; ends as
                      `old` does, with ``new# WHY``
    probe STATUS      the probe failed
    fix STATUS        the fix failed

In values a newline is ``%0A`` and ``%`` is ``%25``.
"""

from __future__ import annotations

import secrets

from orchestrator.model.command import Command
from orchestrator.model.shellquote import shell_quote

CHANGED = 79
WOULD_CHANGE = 78
UNSETTLED = 76
MISUSED = 64
"""Exit statuses of a module's script: it changed something; it would; it is not as wanted, and a
run would wait for that; it was called wrongly, whatever the host is like (sysexits.h)."""


def setting(command: Command, nonce: str) -> str:
    """The variables that go before a module's own text."""
    sends = command.wanted.sends if command.wanted else None
    given = {
        "o_to": f"{nonce} T {command.step} ",
        "o_check": "1" if command.check else "",
        "o_show": "1" if command.show else "",
        "o_staged": command.staged,
        "o_digest": sends.digest if sends else "",
        "o_size": str(sends.size) if sends else "",
        "ORCH_TEMP": f"orch-{secrets.token_hex(6)}",
    }
    return ";".join(f"{name}={shell_quote(value)}" for name, value in given.items())


def value_of(text: str) -> tuple[str, str | None]:
    """A state reported: its key, and its value if it has one."""
    key, equals, value = text.partition("=")
    return key, value.replace("%0A", "\n").replace("%25", "%") if equals else None
