"""Regular expressions that are compiled on first use.

A process uses few of the patterns in its modules, and compiling them takes longer than loading the
modules.
"""

from __future__ import annotations

import re
from typing import Any, AnyStr, cast


def lazy_regex(pattern: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Return a lazy ``re.compile``; an error in the pattern is raised on first use.

    It is meant for the patterns of a module, but not for ``re.sub(pattern, …)``, which only accepts
    the result of ``re.compile``.
    """
    return cast("re.Pattern[AnyStr]", LazyRegex(pattern, flags))


class LazyRegex:
    """A stand-in for ``re.Pattern`` that compiles on first use."""

    def __init__(self, pattern: str | bytes, flags: int) -> None:
        """Store the pattern."""
        self.pattern = pattern
        self._flags = flags

    def __getattr__(self, name: str) -> Any:
        """Compile the pattern, and copy the attribute so that it is looked up only once."""
        found = getattr(re.compile(self.pattern, self._flags), name)
        setattr(self, name, found)
        return found
