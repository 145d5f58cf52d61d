"""Host names in Ansible's inventories: ranges, ports and IPv6 addresses."""

from __future__ import annotations

import re
import string

from orchestrator.inventory.hostnames import (
    ALL,
    MAX_NAMES,
    InvalidHostNameError,
    check_port,
    is_ipv6,
)
from orchestrator.model.lazy_regex import lazy_regex

_BRACKETED_PORT = lazy_regex(r"\[(.+)\]:([0-9]+)")
_PORT = lazy_regex(r"((?:[^:\[\]]|\[[^\]]*\])*):([0-9]+)")
_RANGE = re.compile(r"\[([^\[\]]*)\]")
_HOST = lazy_regex(r"\w[\w.-]{0,252}")
_PLAIN = lazy_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}", re.ASCII)
_NUMBER = lazy_regex(r"[0-9]{1,15}")


def expand_host_pattern(text: str) -> tuple[list[str], int | None]:
    """Return the hosts that a text stands for, and their port, or None.

    Ranges are ``[START:END]`` or ``[START:END:STEP]`` with numbers or letters; both ends count, and
    the width of a padded START is kept. Raises ``InvalidHostNameError``.
    """
    if _PLAIN.fullmatch(text):
        if text == ALL:
            raise InvalidHostNameError("'all' means every host", "give the host another name")
        return [text], None
    port = None
    if not is_ipv6(text) and (found := _BRACKETED_PORT.fullmatch(text) or _PORT.fullmatch(text)):
        text, port = found[1], check_port(found[2])
    if is_ipv6(text):
        return [text], port
    names = _expand_ranges(text)
    for name in (names[0], names[-1]) if names else ():
        if why := host_name_error(name):
            raise InvalidHostNameError(why)
    return names, port


def host_name_error(name: str) -> str:
    """Return why a host cannot have this name, or ''."""
    if name == ALL:
        return "'all' means every host"
    if not is_ipv6(name) and not _HOST.fullmatch(name):
        return f"'{name}' is not a host name or IP address"
    return ""


def _expand_ranges(text: str) -> list[str]:
    names = [""]
    rest = text
    while found := _RANGE.search(rest):
        words = _range_words(found[1])
        fixed, rest = rest[: found.start()], rest[found.end() :]
        if len(names) * len(words) > MAX_NAMES:
            raise InvalidHostNameError(f"it expands to more than {MAX_NAMES} hosts")
        names = [name + fixed + word for name in names for word in words]
    return [name + rest for name in names]


def _range_words(inner: str) -> list[str]:
    """Return the texts that a range stands for."""
    bounds = inner.split(":")
    if len(bounds) not in (2, 3):
        raise InvalidHostNameError(f"the range [{inner}] must be [START:END] or [START:END:STEP]")
    first, last, step = bounds[0] or "0", bounds[1], bounds[2] if len(bounds) == 3 else "1"
    if not last:
        raise InvalidHostNameError(f"the range [{inner}] has no end")
    if not _NUMBER.fullmatch(step) or int(step) < 1:
        raise InvalidHostNameError(
            f"the step of the range [{inner}] must be a number from 1, found '{step}'"
        )
    width = len(first) if first[0] == "0" and len(first) > 1 else 0
    if width and width != len(last):
        raise InvalidHostNameError(f"the ends of the range [{inner}] are padded differently")
    letters = string.ascii_letters
    if len(first) == len(last) == 1 and first in letters and last in letters:
        low, high = letters.index(first), letters.index(last)
        if low > high:
            raise InvalidHostNameError(f"the range [{inner}] runs backwards")
        return list(letters[low : high + 1 : int(step)])
    if not (_NUMBER.fullmatch(first) and _NUMBER.fullmatch(last)):
        raise InvalidHostNameError(f"the range [{inner}] must run between numbers or letters")
    numbers = range(int(first), int(last) + 1, int(step))
    if len(numbers) > MAX_NAMES:
        raise InvalidHostNameError(f"it expands to more than {MAX_NAMES} hosts")
    return [f"{number:0{width}}" if width else str(number) for number in numbers]
