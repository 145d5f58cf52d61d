"""Help lines of errors, without the section of the troubleshooting page that they name."""

from __future__ import annotations

import re


def without_section(text: str) -> str:
    """Return a text without ``see `orch doc NAME` ``, which unit tests check."""
    return re.sub(r"(; s|(?<=\?) S|^s)ee `orch doc [a-z-]+`", "", text)
