"""Which steps ``--tags`` and ``--skip-tags`` choose."""

from __future__ import annotations

from msgspec import Struct

ALWAYS, NEVER = "always", "never"


class Tags(Struct, frozen=True):
    """``only``: if any are named, steps need one of them, or the tag ``always``. ``skip``: steps
    with one of these are left out. Steps tagged ``never`` need one of their tags in ``only``."""

    only: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()

    def chosen(self, tags: frozenset[str]) -> bool:
        """Whether a step with these tags is to run."""
        if tags & self.skip:
            return False
        if NEVER in tags:
            return bool(tags & self.only)
        return not self.only or bool(tags & self.only) or ALWAYS in tags
