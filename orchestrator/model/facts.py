"""The names of what hosts are asked about themselves (``library/facts.sh`` prints them)."""

from __future__ import annotations

FACTS = ("os", "arch", "distro", "release", "hostname", "packager", "init", "user")
NUMBERS = ("cpus", "memory")
"""``memory`` is in MiB."""
