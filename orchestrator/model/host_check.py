"""What `orch doctor` finds out about a host."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from msgspec import Struct, field

CONNECTION_CHECKS = ("resolve", "reach", "key", "auth", "shell")
"""What has to be well before a host can be asked anything, in the order in which it is tried."""
HOST_CHECKS = ("become", "disk", "clock", "tools")
"""What the host itself is asked."""


class HostHealth(Enum):
    """How one host is, on the whole."""

    FINE = "fine"
    WARNED = "warned"
    """Something is odd, and steps work all the same."""
    FAILS = "fails"
    """Something is so that steps will fail."""
    UNREACHABLE = "unreachable"
    INTERRUPTED = "interrupted"
    """It was not found out."""


class HealthFinding(Struct, frozen=True):
    """One thing that is wrong, and what to do. ``check`` is one of WAY, ASKED or ``ssh_config``;
    ``fails``: steps will."""

    check: str
    message: str
    hint: str = ""
    fails: bool = False


class HostCheck(Struct, frozen=True):
    """One host. ``endpoint`` is USER@ADDRESS:PORT, '' where nothing is logged in to; ``jump_hosts`` the jump
    hosts before it. ``passed_checks`` are the checks that were made, and where nothing was found.

    ``shell_name`` is what its ``sh`` is, ``free_bytes`` the bytes free at ``home`` and ``tmp``. ``clock_skew`` is
    how many seconds its clock is ahead, ``latency`` the seconds of a round trip with its shell.
    None: not known.
    """

    host: str
    state: HostHealth
    transport: str
    endpoint: str = ""
    jump_hosts: tuple[str, ...] = ()
    passed_checks: frozenset[str] = frozenset()
    findings: tuple[HealthFinding, ...] = ()
    shell_name: str = ""
    free_bytes: Mapping[str, int] = field(default_factory=dict)
    clock_skew: float | None = None
    latency: float | None = None

    def check_status(self, check: str) -> str:
        """``ok``, ``warn`` or ``fail``; '' where it was not made."""
        found = [finding for finding in self.findings if finding.check == check]
        if not found:
            return "ok" if check in self.passed_checks else ""
        return "fail" if any(trouble.fails for trouble in found) else "warn"
