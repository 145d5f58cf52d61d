"""Results of `orch doctor` for one host."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from msgspec import Struct, field

CONNECTION_CHECKS = ("resolve", "reach", "key", "auth", "shell")
"""Checks that must pass before a host can be queried, in the order in which they are made."""
HOST_CHECKS = ("become", "disk", "clock", "tools")
"""Checks that query the host itself."""


class HostHealth(Enum):
    """The overall state of a host."""

    FINE = "fine"
    WARNED = "warned"
    """There is a warning, but steps work."""
    FAILS = "fails"
    """Steps will fail."""
    UNREACHABLE = "unreachable"
    INTERRUPTED = "interrupted"
    """The checks were not completed."""


class HealthFinding(Struct, frozen=True):
    """One problem and what to do about it.

    ``check`` is one of CONNECTION_CHECKS, HOST_CHECKS or ``ssh_config``; ``fails``: steps will
    fail.
    """

    check: str
    message: str
    hint: str = ""
    fails: bool = False


class HostCheck(Struct, frozen=True):
    """The result of all checks of one host.

    ``endpoint`` is USER@ADDRESS:PORT, or '' if there is no login; ``jump_hosts`` are the jump hosts
    before it. ``passed_checks`` are the checks without findings. ``shell_name`` is the shell behind
    its ``sh``, ``free_bytes`` the free space at ``home`` and ``tmp``. ``clock_skew`` is how many
    seconds its clock is ahead, ``latency`` the round-trip time of its shell in seconds; None means
    unknown.
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
        """Return ``ok``, ``warn`` or ``fail``, or '' if the check was not made."""
        found = [finding for finding in self.findings if finding.check == check]
        if not found:
            return "ok" if check in self.passed_checks else ""
        return "fail" if any(finding.fails for finding in found) else "warn"
