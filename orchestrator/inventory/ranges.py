"""Ranges in host names: ``web[01:20].example.net``, ``db[a:f]``, ``n[0:10:5]``."""

from __future__ import annotations

import re
from itertools import product

MOST = 100_000
"""How many hosts one name may stand for."""

_RANGE = re.compile(r"\[([^\[\]:]*):([^\[\]:]*)(?::([^\[\]:]*))?\]")
_NUMBER = re.compile(r"[0-9]{1,15}")
_LETTER = re.compile(r"[a-z]|[A-Z]")


class BadNameError(ValueError):
    """A name that cannot be; says why, and what to do about it."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.why, self.hint = why, hint


def expand(text: str) -> tuple[str, ...]:
    """Every name that the text stands for, in order; the text alone where it has no range.

    Both ends are included and zero padding is kept; a third number is the step.
    Raises ``BadNameError``.
    """
    if "[" not in text and "]" not in text:
        return (text,)
    parts = _RANGE.split(text)  # fixed text, first, last, step, fixed text, …
    if any("[" in fixed or "]" in fixed for fixed in parts[::4]):
        raise BadNameError("a range is written [1:20], [01:20] or [a:f]")
    spans = [_span(*parts[i : i + 3]) for i in range(1, len(parts), 4)]
    count = 1
    for codes, _ in spans:
        count *= len(codes)
    if count > MOST:
        raise BadNameError(
            f"it stands for {count} hosts; {MOST} are the most that one name may mean"
        )
    words = [
        [chr(c) if width is None else f"{c:0{width}}" for c in codes] for codes, width in spans
    ]
    fixed = parts[::4]
    return tuple(
        fixed[0] + "".join(word + after for word, after in zip(chosen, fixed[1:], strict=True))
        for chosen in product(*words)
    )


def _span(first: str, last: str, step: str | None) -> tuple[range, int | None]:
    """The numbers of a range and their width; the letters' codes and None."""
    shown = f"[{first}:{last}]"
    every = int(step) if step and _NUMBER.fullmatch(step) else 1 if step is None else 0
    if every < 1:
        raise BadNameError(f"the step of the range {shown} must be a number from 1, found '{step}'")
    if _NUMBER.fullmatch(first) and _NUMBER.fullmatch(last):
        padded = len(first) > 1 and first[0] == "0"
        if len(last) > 1 and last[0] == "0" and len(last) != len(first):
            hint = f"write [{first.zfill(len(last))}:{last}]"
            raise BadNameError(f"the ends of the range {shown} are padded differently", hint)
        low, high, width = int(first), int(last), len(first) if padded else 1
    elif _LETTER.fullmatch(first) and _LETTER.fullmatch(last) and first.isupper() == last.isupper():
        low, high, width = ord(first), ord(last), None
    else:
        why = f"the range {shown} must run between two numbers or two letters of one case"
        raise BadNameError(why)
    if low > high:
        raise BadNameError(f"the range {shown} runs backwards", f"write [{last}:{first}]")
    return range(low, high + 1, every), width
