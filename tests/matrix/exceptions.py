"""What of tests/conformance cannot hold on a host by that host's nature, and what it says instead."""

from __future__ import annotations

EXCEPTIONS: dict[tuple[str, str], dict[str, str]] = {}
"""By host and transport: a test's name, and the pattern of the error that it has to end with."""


def exception(name: str, transport: str, test: str) -> str:
    """What a test has to end with on a case; empty where it is to hold."""
    return EXCEPTIONS.get((name, transport), {}).get(test, "")
