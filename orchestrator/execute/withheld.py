"""Which step that a check did not run can be why a later one fails there."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence

from msgspec import Struct

from orchestrator.model.command import Effects
from orchestrator.plan.model import HERE

ANYTHING = Effects(anything=True, looks=True)
"""What is known of a step that is not made yet, for what it is made of is not known."""


class Withheld(Struct, frozen=True):
    """A step that a check did not run, by its name. ``on``: the host that it would change;
    ``unknown``: whether a run would come to it is not known."""

    name: str
    effects: Effects
    on: str
    unknown: bool = False

    def reason(self, effects: Effects, on: str) -> str:
        """Return why the failure of a step with these effects says nothing of a run."""
        depends = "depends" if _exactly(self, effects, on) else "may depend"
        return f"it {depends} on '{self.name}', which was not run"


def cause(withheld: Sequence[Withheld], effects: Effects, on: str) -> Withheld | None:
    """Return the step that can be why one with these effects fails on a host: the last one that
    makes what it needs, else the last one that can make anything."""
    can = [each for each in reversed(withheld) if can_be(each, effects, on)]
    ranked = sorted(can, key=lambda each: (not _exactly(each, effects, on), each.unknown))
    return ranked[0] if ranked else None


def can_be(withheld: Withheld, effects: Effects, on: str) -> bool:
    """Return True if it can be why a step with these effects fails on a host."""
    if withheld.effects.anything or _exactly(withheld, effects, on):
        return True
    # what would have been downloaded to this machine is no file of another host
    return effects.looks and (on == HERE or withheld.on != HERE)


def _exactly(withheld: Withheld, effects: Effects, on: str) -> bool:
    return withheld.on == on and any(
        _meet(made, needed) for made in withheld.effects.makes for needed in effects.needs
    )


def _meet(made: str, needed: str) -> bool:
    """Whether a path that is made is the one needed, or above or below it; whether a user's or a
    group's name is the one needed, or part of a path: its home folder's."""
    if made[:1] not in ("/", "~"):
        return made == needed or (needed[:1] in ("/", "~") and made in needed.split("/"))
    if needed[:1] not in ("/", "~"):
        return False
    (root, *parts), (other, *others) = _parts(made), _parts(needed)
    if root == other or (root and other):
        # who logs in may be the user of another step: their home folders may be one
        return _along(parts, others)
    inside, absolute = (parts, others) if root else (others, parts)
    # nobody here knows where a home folder is: it may be any folder but /
    return any(_along(inside, absolute[at:]) for at in range(1, len(absolute)))


def _parts(path: str) -> list[str]:
    """First whose home folder it is in, '' for none."""
    root, _, rest = posixpath.normpath(path).partition("/")
    return [root, *filter(None, rest.split("/"))]


def _along(one: Iterable[str], other: Iterable[str]) -> bool:
    return all(a == b for a, b in zip(one, other, strict=False))
