"""Names of stages, roles and hosts, and ranges in host names.

Ranges are written as in clush: ``web[01-20].example.net``, ``n[1-3,7,10-20/2]``. ``[01:20]``,
``[0:10:5]`` and ``[a-f]`` are accepted as well. Several brackets in one name mean every
combination.
"""

from __future__ import annotations

import ipaddress
from itertools import product

from msgspec import Struct

from orchestrator.model.lazy_regex import lazy_regex

MAX_NAMES = 100_000
"""Maximum number of hosts that one name may expand to."""

RANGE_FORMS = "[1-20], [01-20], [1-3,7], [0-10/2] or [a-f]"
"""The forms of a range, for messages."""

_BRACKET = lazy_regex(r"\[([^\[\]]*)\]")
_NUMBER = lazy_regex(r"[0-9]{1,15}")
_RANGE_END = r"[0-9]{1,15}|[a-z]|[A-Z]"
_RANGE_ITEM = lazy_regex(
    rf"({_RANGE_END})(?:-({_RANGE_END})(?:/([^,]*))?|:({_RANGE_END})(?::([^,]*))?)?"
)


class InvalidHostNameError(ValueError):
    """An invalid name, with the reason ``why`` and a ``hint`` (or '')."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.why, self.hint = why, hint


def has_range(text: str) -> bool:
    """Return True if the text contains brackets and all of them are ranges.

    ``[!2]`` and ``[abc]`` are globs.
    """
    inner = _BRACKET.findall(text)
    bare = _BRACKET.sub("", text)
    ranges = all(_RANGE_ITEM.fullmatch(item) for part in inner for item in part.split(","))
    return bool(inner) and ranges and "[" not in bare and "]" not in bare


def expand_ranges(text: str) -> tuple[str, ...]:
    """Return every name that the text stands for, without duplicates and in order.

    A text without a range is returned alone. Both ends of a range are included and zero padding is
    kept. Raises ``InvalidHostNameError``.
    """
    if "[" not in text and "]" not in text:
        return (text,)
    parts = _BRACKET.split(text)  # fixed text, content of a bracket, fixed text, …
    if not has_range(text):
        raise InvalidHostNameError(f"a range is written {RANGE_FORMS}")
    spans = [_expand_bracket(inner) for inner in parts[1::2]]
    count = 1
    for words in spans:
        count *= len(words)
        _check_count(count)
    fixed = parts[::2]
    return tuple(
        fixed[0] + "".join(word + after for word, after in zip(chosen, fixed[1:], strict=True))
        for chosen in product(*spans)
    )


def _expand_bracket(inner: str) -> list[str]:
    """Return the expansions of one bracket."""
    words: dict[str, None] = {}
    for item in inner.split(","):
        codes, width = _parse_range_item(item)
        _check_count(len(words) + len(codes))
        words |= dict.fromkeys(chr(c) if width is None else f"{c:0{width}}" for c in codes)
    return list(words)


def _check_count(count: int) -> None:
    if count > MAX_NAMES:
        raise InvalidHostNameError(
            f"it expands to {count} hosts; {MAX_NAMES} are the maximum for one name"
        )


def _parse_range_item(item: str) -> tuple[range, int | None]:
    """Return the numbers of an item and their width, or the letters' codes and None."""
    found = _RANGE_ITEM.fullmatch(item)
    assert found, "has_range has looked"
    first, last, step, other, other_step = found.groups()
    colon = other is not None
    last, step = (other, other_step) if colon else (last or first, step)
    between = ":" if colon else "-"
    shown = f"[{first}{between}{last}]"
    every = int(step) if step and _NUMBER.fullmatch(step) else 1 if step is None else 0
    if every < 1:
        raise InvalidHostNameError(
            f"the step of the range {shown} must be a number from 1, found '{step}'"
        )
    if _NUMBER.fullmatch(first) and _NUMBER.fullmatch(last):
        padded = len(first) > 1 and first[0] == "0"
        if len(last) > 1 and last[0] == "0" and len(last) != len(first):
            hint = f"write [{first.zfill(len(last))}{between}{last}]"
            raise InvalidHostNameError(
                f"the ends of the range {shown} are padded differently", hint
            )
        low, high, width = int(first), int(last), len(first) if padded else 1
    elif _NUMBER.fullmatch(first) or _NUMBER.fullmatch(last) or first.isupper() != last.isupper():
        why = f"the range {shown} must run between two numbers or two letters of one case"
        raise InvalidHostNameError(why)
    else:
        low, high, width = ord(first), ord(last), None
    if low > high:
        raise InvalidHostNameError(
            f"the range {shown} runs backwards", f"write [{last}{between}{first}]"
        )
    return range(low, high + 1, every), width


COMMON = "common"
ALL = "all"

_ROLE = lazy_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HOST = lazy_regex(r"\w[\w.-]{0,252}")
_USER = lazy_regex(r"[^\W][^\s:/,!&\[\]'\"`$;|<>(){}*?~#=\x00-\x1f]*")
_PORT = lazy_regex(r"[1-9][0-9]{0,4}")


class HostSpec(Struct, frozen=True):
    """A host as written, ``user@name:port``; ``names`` has one name, or several for a range."""

    names: tuple[str, ...]
    user: str | None = None
    port: int | None = None


def escape_unprintable(name: str) -> str:
    """Return the name for display, with unprintable characters escaped."""
    return name if name.isprintable() else repr(name)[1:-1]


def stage_name_error(name: str) -> str:
    """Return why a folder of this name cannot be a stage, or '' if it can."""
    if not name.strip():
        return "it is blank"
    if name.lower() == COMMON:
        return f"'{COMMON}' is shared by all stages"
    if name[0] in "-.":
        return f"it begins with '{name[0]}'"
    if "/" in name or ".." in name:
        return "it contains '/' or '..'"
    if any(c.isspace() or not c.isprintable() for c in name):
        return "it contains a blank or an unprintable character"
    return ""


def role_name_error(name: str) -> str:
    """Return why this name cannot be that of a role, or '' if it can."""
    if name == ALL:
        return "'all' means every host"
    if not _ROLE.fullmatch(name):
        return "only letters, digits, '_', '.' and '-' are allowed, and no '.' or '-' in front"
    return ""


def normalize_host(name: str) -> str:
    """Return the normalized name of a host: case and IPv6 spelling are not significant."""
    if ":" in name:
        return ipaddress.IPv6Address(name).compressed.lower()
    return name.lower()


def parse_host_spec(text: str) -> HostSpec:
    """Parse ``name``, ``user@name:port``, ``[v6]:port`` or a bare IPv6 address; expand ranges.

    Raises ``InvalidHostNameError``.
    """
    if "//" in text:
        raise InvalidHostNameError("it is a URL", "write it as user@host:port")
    if any(c.isspace() or not c.isprintable() for c in text):
        raise InvalidHostNameError("it contains a blank or an unprintable character")
    before, at, rest = text.rpartition("@")
    user = check_user(before) if at else None
    name, port = _split_port(rest)
    names = (normalize_host(name),) if is_ipv6(name) else expand_ranges(name)
    for each in (names[0], names[-1]):
        if not is_ipv6(each) and not _HOST.fullmatch(each):
            raise InvalidHostNameError(f"'{each}' is not a host name or IP address")
        if each == ALL:
            raise InvalidHostNameError(
                "'all' means every host", "give the host another name, and an `address`"
            )
    return HostSpec(names, user, check_port(port) if port is not None else None)


def check_user(user: str) -> str:
    """Return the login name if it is valid. Raises ``InvalidHostNameError``."""
    if not _USER.fullmatch(user):
        raise InvalidHostNameError(f"'{user}' is not a user name")
    return user


def check_port(port: str) -> int:
    """Return the TCP port as a number. Raises ``InvalidHostNameError``."""
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise InvalidHostNameError(f"the port must be between 1 and 65535, found '{port}'")
    return int(port)


def is_ipv6(text: str) -> bool:
    """Return True if the text is an IPv6 address without brackets."""
    if text.count(":") < 2:
        return False
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _split_port(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        inner, closed, after = text[1:].partition("]")
        if closed and is_ipv6(inner) and (not after or after.startswith(":")):
            return inner, after[1:] if after else None
    if is_ipv6(text):
        return text, None
    colon = text.rfind(":")
    if colon > text.rfind("]"):
        return text[:colon], text[colon + 1 :]
    return text, None
