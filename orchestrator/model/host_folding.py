"""Folds host names into ranges, and merges messages that differ only in the host's name.

Ranges use the syntax of clush node sets: ``web[01-03,07].example.net``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from orchestrator.model.lazy_regex import lazy_regex

_ENDPOINT_ADDRESS = lazy_regex(
    r"(?<=@)(?:\[[^\]\s]+\]|[^\s@:\[\]]+)(?=:[0-9])"
)  # user@ADDRESS:port
_IP_ADDRESS = lazy_regex(
    r"(?<![\w.:-])(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4})(?![\w:])"
)
_MAX_FOLDED_CHARS = 40  # maximum length of folded names inside a message
_MAX_HINT_CHARS = 400  # maximum length of all names in a command
_OPENSSH_COMMAND = lazy_regex(r"\b(ssh(?:-keyscan|-keygen|-copy-id)?|scp)\b[^`;|>&]*\Z")
_DIGITS = lazy_regex(r"[0-9]{1,15}")
_JOINING = (".", "-", "_")
_NameFrame: TypeAlias = tuple[str, str]


def fold_hostnames(names: Iterable[str]) -> str:
    """Return all names, each once, with varying digits of similar names folded into ranges.

    Zero padding is kept: in a range that starts with a zero, all numbers have that width. Groups
    are in the order of their first member; other names are unchanged.
    """
    order = list(dict.fromkeys(names))
    chosen = _choose_frames(order)
    groups: dict[_NameFrame | str, list[str]] = {}
    for name in order:
        frame = chosen.get(name)
        groups.setdefault(frame or name, []).append(_varying_digits(name, frame) if frame else name)
    return ",".join(_folded_group(group, numbers) for group, numbers in groups.items())


def message_frame(text: str, host: str) -> tuple[str, ...]:
    """Return the parts of a message around the host's name and around addresses.

    Messages of two hosts with the same frame can be merged.
    """
    return tuple(_split_at_names(text, host)[::2])


def fold_messages(messages: Iterable[tuple[str, str]]) -> str:
    """Merge messages (host, text) that have the same frame into one.

    Names or addresses that differ are written as a range, or as ``<host>`` if that is too long.
    """
    pieces = [_split_at_names(text, host) for host, text in messages]
    return "".join(
        column[0] if number % 2 == 0 else _fold_or_placeholder(column)
        for number, column in enumerate(zip(*pieces, strict=True))
    )


def fold_hints(hints: Iterable[tuple[str, str]]) -> str:
    """Merge hints (host, text) that have the same frame into one, like ``fold_messages``.

    A command in a hint can be typed as it is: ssh-keyscan gets all names, other commands of OpenSSH
    get ``<host>``, because they have no ranges.
    """
    pieces = [_split_at_names(text, host) for host, text in hints]
    merged = ""
    for number, column in enumerate(zip(*pieces, strict=True)):
        names = list(dict.fromkeys(column))
        if number % 2 == 0 or len(names) == 1:
            merged += column[0]
        elif command := _OPENSSH_COMMAND.search(merged):
            takes_all = command[1] == "ssh-keyscan" and len(" ".join(names)) <= _MAX_HINT_CHARS
            merged += " ".join(names) if takes_all else "<host>"
        else:
            merged += _fold_or_placeholder(column)
    return merged


def _split_at_names(text: str, host: str) -> list[str]:
    """Split a message at the host's name and at addresses, which get the odd indexes."""
    names = {host, *_ENDPOINT_ADDRESS.findall(text), *_IP_ADDRESS.findall(text)} - {""}
    pieces, start = [], 0
    while found := min(_find_names(text, names, start), default=None):
        place, length = found[0], -found[1]
        pieces += [text[start:place], text[place : place + length]]
        start = place + length
    return [*pieces, text[start:]]


def _find_names(text: str, names: Iterable[str], start: int) -> Iterator[tuple[int, int]]:
    """Yield where each name stands next as a word of its own, and its length, negative.

    A pattern for each host's names would take longer to compile than this does.
    """
    for name in names:
        place = text.find(name, start)
        while place >= 0 and not _is_apart(text, place, place + len(name)):
            place = text.find(name, place + 1)
        if place >= 0:
            yield place, -len(name)


def _is_apart(text: str, start: int, end: int) -> bool:
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    return not (before.isalnum() or after.isalnum() or before in _JOINING or after in ("-", "_"))


def _fold_or_placeholder(names: Sequence[str]) -> str:
    if len(set(names)) == 1:
        return names[0]
    folded = _fold_all(tuple(names))
    return folded if len(folded) <= _MAX_FOLDED_CHARS else "<host>"


# The messages of a run name the same hosts again and again.
_fold_all = functools.lru_cache(maxsize=64)(fold_hostnames)


def _choose_frames(names: Sequence[str]) -> dict[str, _NameFrame]:
    """Return the parts around the varying digits, for each name that is similar to another."""
    members: dict[_NameFrame, list[str]] = {}
    for name in names:
        if not any(char in name for char in "[],"):
            for match in _DIGITS.finditer(name):
                frame = (name[: match.start()], name[match.end() :])
                members.setdefault(frame, []).append(name)
    chosen: dict[str, _NameFrame] = {}
    for frame, group in sorted(members.items(), key=lambda item: -len(item[1])):
        free = [name for name in group if name not in chosen]
        if len(free) > 1:
            chosen.update(dict.fromkeys(free, frame))
    return chosen


def _varying_digits(name: str, frame: _NameFrame) -> str:
    return name[len(frame[0]) : len(name) - len(frame[1])]


def _folded_group(group: _NameFrame | str, numbers: Sequence[str]) -> str:
    if isinstance(group, str):
        return group
    return f"{group[0]}[{','.join(_digit_ranges(numbers))}]{group[1]}"


def _digit_ranges(numbers: Sequence[str]) -> list[str]:
    padded = {len(n) for n in numbers if n[0] == "0" and len(n) > 1}
    keys = sorted((len(n) if len(n) in padded else 0, int(n)) for n in numbers)
    runs: list[tuple[int, int, int]] = []
    for width, number in keys:
        if runs and runs[-1][0] == width and runs[-1][2] == number - 1:
            runs[-1] = (width, runs[-1][1], number)
        else:
            runs.append((width, number, number))
    runs.sort(key=lambda run: (run[1], run[0]))
    return [f"{a:0{w}}" if a == b else f"{a:0{w}}-{b:0{w}}" for w, a, b in runs]
