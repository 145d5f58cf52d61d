"""Regular expressions that are compiled when they are first used.

A process uses few of those that its modules hold, and Python takes longer to compile them than to
load the modules.
"""

from __future__ import annotations

import re
from typing import Any, AnyStr, cast


def lazy_regex(pattern: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Return what ``re.compile`` does, except that a mistake in it is found only at its first use.

    For the patterns of a module; not for ``re.sub(pattern, …)``, which takes only what
    ``re.compile`` made.
    """
    return cast("re.Pattern[AnyStr]", LazyRegex(pattern, flags))


class LazyRegex:
    def __init__(self, pattern: str | bytes, flags: int) -> None:
        self.pattern = pattern
        self._flags = flags

    def __getattr__(self, name: str) -> Any:  # only of what is not there yet: once each
        found = getattr(re.compile(self.pattern, self._flags), name)
        setattr(self, name, found)
        return found
