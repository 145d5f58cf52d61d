"""Ranges in host names, as clush writes them: ``web[01-20].example.net``, ``n[1-3,7,10-20/2]``.

``[01:20]``, ``[0:10:5]`` and ``[a-f]`` are understood as well. Several brackets in one name stand
for every combination.
"""

from __future__ import annotations

from itertools import product

from orchestrator.model.regex import regex

MOST = 100_000
"""How many hosts one name may stand for."""

FORMS = "[1-20], [01-20], [1-3,7], [0-10/2] or [a-f]"
"""How a range is written, for messages."""

_BRACKET = regex(r"\[([^\[\]]*)\]")
_NUMBER = regex(r"[0-9]{1,15}")
_END = r"[0-9]{1,15}|[a-z]|[A-Z]"
_ITEM = regex(rf"({_END})(?:-({_END})(?:/([^,]*))?|:({_END})(?::([^,]*))?)?")


class BadNameError(ValueError):
    """A name that cannot be; says why, and what to do about it."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.why, self.hint = why, hint


def has_range(text: str) -> bool:
    """Return whether each bracket in the text is written as a range, and there is one: ``[!2]``
    and ``[abc]`` are for globs.
    """
    inner = _BRACKET.findall(text)
    bare = _BRACKET.sub("", text)
    ranges = all(_ITEM.fullmatch(item) for part in inner for item in part.split(","))
    return bool(inner) and ranges and "[" not in bare and "]" not in bare


def expand(text: str) -> tuple[str, ...]:
    """Every name that the text stands for, each once, in order; the text alone where it has no
    range.

    Both ends are included and zero padding is kept. Raises ``BadNameError``.
    """
    if "[" not in text and "]" not in text:
        return (text,)
    parts = _BRACKET.split(text)  # fixed text, what is in a bracket, fixed text, …
    if not has_range(text):
        raise BadNameError(f"a range is written {FORMS}")
    spans = [_words(inner) for inner in parts[1::2]]
    count = 1
    for words in spans:
        count *= len(words)
        _not_too_many(count)
    fixed = parts[::2]
    return tuple(
        fixed[0] + "".join(word + after for word, after in zip(chosen, fixed[1:], strict=True))
        for chosen in product(*spans)
    )


def _words(inner: str) -> list[str]:
    """What one bracket stands for."""
    words: dict[str, None] = {}
    for item in inner.split(","):
        codes, width = _span(item)
        _not_too_many(len(words) + len(codes))
        words |= dict.fromkeys(chr(c) if width is None else f"{c:0{width}}" for c in codes)
    return list(words)


def _not_too_many(count: int) -> None:
    if count > MOST:
        raise BadNameError(
            f"it stands for {count} hosts; {MOST} are the most that one name may mean"
        )


def _span(item: str) -> tuple[range, int | None]:
    """The numbers of an item and their width; the letters' codes and None."""
    found = _ITEM.fullmatch(item)
    assert found, "has_range has looked"
    first, last, step, other, other_step = found.groups()
    colon = other is not None
    last, step = (other, other_step) if colon else (last or first, step)
    between = ":" if colon else "-"
    shown = f"[{first}{between}{last}]"
    every = int(step) if step and _NUMBER.fullmatch(step) else 1 if step is None else 0
    if every < 1:
        raise BadNameError(f"the step of the range {shown} must be a number from 1, found '{step}'")
    if _NUMBER.fullmatch(first) and _NUMBER.fullmatch(last):
        padded = len(first) > 1 and first[0] == "0"
        if len(last) > 1 and last[0] == "0" and len(last) != len(first):
            hint = f"write [{first.zfill(len(last))}{between}{last}]"
            raise BadNameError(f"the ends of the range {shown} are padded differently", hint)
        low, high, width = int(first), int(last), len(first) if padded else 1
    elif _NUMBER.fullmatch(first) or _NUMBER.fullmatch(last) or first.isupper() != last.isupper():
        why = f"the range {shown} must run between two numbers or two letters of one case"
        raise BadNameError(why)
    else:
        low, high, width = ord(first), ord(last), None
    if low > high:
        raise BadNameError(f"the range {shown} runs backwards", f"write [{last}{between}{first}]")
    return range(low, high + 1, every), width
