"""Filters and tests of texts, under Ansible's names and with its meaning.

Source: the documentation of ``ansible.builtin``'s filters and tests.
"""

from __future__ import annotations

import base64
import hashlib
import posixpath
import re
import time
import uuid
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.shell_quoting import shell_quote
from orchestrator.model.text_encoding import encode_lossy
from orchestrator.templating import limits
from orchestrator.templating.value_text import UnusableValueError, text_of

MAX_REGEX_CHARS = 1 << 20
"""Length of a text that a regular expression is applied to."""
_ANSIBLE_NAMESPACE = "361E6D51-FAEC-444A-9079-341386DA8E2E"
_GROUP = lazy_regex(r"\\(?:([0-9]+)|g<(\w+)>)")
_BRE_SPECIAL = lazy_regex(r"[].[^$*\\]")


def regex_replace(
    value: Any,
    pattern: Any = "",
    replacement: Any = "",
    ignorecase: bool = False,
    multiline: bool = False,
    count: int = 0,
    mandatory_count: int = 0,
) -> str:
    r"""Replace what a regular expression matches, at most ``count`` times unless it is 0.

    ``\1`` and ``\g<name>`` in the replacement stand for groups. Raises UnusableValueError if
    ``mandatory_count`` is not 0 and not the number of matches.
    """
    text, template = _subject(value), text_of(replacement)
    compiled = _compiled(pattern, ignorecase, multiline)
    _check_replaced(compiled, text, template)
    try:
        output, found = compiled.subn(template, text, count=count)
    except (re.error, IndexError) as error:
        raise UnusableValueError(f"the replacement '{template}' is not valid: {error}") from None
    if mandatory_count and found != mandatory_count:
        raise UnusableValueError(
            f"'{text_of(pattern)}' is to match {mandatory_count} times, and matches {found} times"
        )
    return output


def regex_search(
    value: Any, pattern: Any, *groups: Any, ignorecase: bool = False, multiline: bool = False
) -> str | list[str | None] | None:
    r"""Return the first match of a regular expression, or none.

    With ``groups``, each like ``\1`` or ``\g<name>``, return the list of their texts.
    """
    keys = [_group_key(group) for group in groups]
    match = _compiled(pattern, ignorecase, multiline).search(_subject(value))
    if match is None:
        return None
    if not keys:
        return match[0]
    try:
        return [match[key] for key in keys]
    except IndexError:
        known = match.re.groups
        raise UnusableValueError(
            f"'{text_of(pattern)}' has {known} groups, and not these"
        ) from None


def regex_findall(
    value: Any, pattern: Any, multiline: bool = False, ignorecase: bool = False
) -> list[Any]:
    """Return every match of a regular expression; lists of their groups if it has several."""
    found = _compiled(pattern, ignorecase, multiline).findall(_subject(value))
    return [list(each) if isinstance(each, tuple) else each for each in found]


def regex_escape(value: Any, re_type: str = "python") -> str:
    """Return a regular expression that matches exactly this text.

    ``re_type``: ``python``, or ``posix_basic`` for grep and sed.
    """
    if re_type == "python":
        return re.escape(text_of(value))
    if re_type == "posix_basic":
        return _BRE_SPECIAL.sub(r"\\\g<0>", text_of(value))
    raise UnusableValueError(f"there is no re_type '{re_type}'", "it is python or posix_basic")


def matches(value: Any, pattern: Any, ignorecase: bool = False, multiline: bool = False) -> bool:
    """Return True if a regular expression matches at the beginning of the text."""
    return bool(_compiled(pattern, ignorecase, multiline).match(_subject(value)))


def searches(value: Any, pattern: Any, ignorecase: bool = False, multiline: bool = False) -> bool:
    """Return True if a regular expression matches anywhere in the text."""
    return bool(_compiled(pattern, ignorecase, multiline).search(_subject(value)))


def is_regex(
    value: Any,
    pattern: Any = "",
    ignorecase: bool = False,
    multiline: bool = False,
    match_type: str = "search",
) -> bool:
    """Return True if a regular expression matches: ``search``, ``match`` or ``fullmatch``."""
    if match_type not in ("search", "match", "fullmatch"):
        raise UnusableValueError(
            f"there is no match_type '{match_type}'", "it is search, match or fullmatch"
        )
    compiled = _compiled(pattern, ignorecase, multiline)
    return bool(getattr(compiled, match_type)(_subject(value)))


def b64encode(value: Any, encoding: str = "utf-8", urlsafe: bool = False) -> str:
    """Return the text's bytes in base64 (RFC 4648)."""
    data = _encode(text_of(value), encoding)
    return (base64.urlsafe_b64encode if urlsafe else base64.b64encode)(data).decode()


def b64decode(value: Any, encoding: str = "utf-8", urlsafe: bool = False) -> str:
    """Return the text of bytes in base64. Raises UnusableValueError if it is none."""
    try:
        data = (base64.urlsafe_b64decode if urlsafe else base64.b64decode)(text_of(value))
        return data.decode(encoding)
    except LookupError:
        raise UnusableValueError(f"there is no encoding '{encoding}'") from None
    except ValueError as error:
        raise UnusableValueError(f"it is not text in base64: {_reason(error)}") from None


def hash_text(value: Any, algorithm: str = "sha1") -> str:
    """Return the hash of the text's bytes in hexadecimal digits."""
    known = sorted(name for name in hashlib.algorithms_guaranteed if "shake" not in name)
    if algorithm not in known:
        hint = f"it is one of {', '.join(known)}"
        raise UnusableValueError(f"there is no hash '{algorithm}'", hint)
    return hashlib.new(algorithm, encode_lossy(text_of(value)), usedforsecurity=False).hexdigest()


def split(value: Any, separator: str | None = None, maxsplit: int = -1) -> list[str]:
    """Return the parts of a text between separators, by default blanks of any length."""
    return text_of(value).split(None if separator is None else text_of(separator), int(maxsplit))


def splitext(value: Any) -> list[str]:
    """Return a path without its extension, and the extension with its dot."""
    return list(posixpath.splitext(text_of(value)))


def strftime(pattern: Any, second: Any = None, utc: bool = False) -> str:
    """Return a time, in seconds since 1970, in a format of strftime(3), in this machine's zone.

    Raises UnusableValueError without a time: plans do not depend on when they are made.
    """
    if second is None:
        hint = "`run.started` and `run.release` are the time of the run"
        raise UnusableValueError("`strftime` needs a time, in seconds since 1970", hint)
    try:
        moment = time.gmtime(float(second)) if utc else time.localtime(float(second))
        return time.strftime(text_of(pattern), moment)
    except (TypeError, ValueError, OverflowError, OSError):
        raise UnusableValueError(f"'{text_of(second)}' is not a time in seconds") from None


def to_uuid(value: Any, namespace: Any = _ANSIBLE_NAMESPACE) -> str:
    """Return the UUID of a text in a namespace (RFC 9562, version 5), by default Ansible's own."""
    try:
        return str(uuid.uuid5(uuid.UUID(text_of(namespace)), text_of(value)))
    except ValueError:
        raise UnusableValueError(f"'{text_of(namespace)}' is not a UUID") from None


def quote(value: Any) -> str:
    """Return the text as one word of a POSIX shell; none is an empty word."""
    return shell_quote("" if value is None else text_of(value))


def _group_key(group: Any) -> int | str:
    found = _GROUP.fullmatch(text_of(group))
    if found is None:
        raise UnusableValueError(
            f"'{text_of(group)}' names no group", r"write it like '\\1' or '\\g<name>'"
        )
    return int(found[1]) if found[1] else str(found[2])


def _subject(value: Any) -> str:
    text = text_of(value)
    if len(text) > MAX_REGEX_CHARS:
        raise UnusableValueError(
            f"a regular expression for a text of more than {MAX_REGEX_CHARS:,} characters"
        )
    return text


def _check_replaced(pattern: re.Pattern[str], text: str, template: str) -> None:
    """Raise UnusableValueError if replacing could make the text too long.

    Each backslash of the template is counted as the longest group of a match.
    """
    groups = template.count("\\")
    if (len(text) + 1) * (len(template) + groups * len(text)) <= limits.MAX_TEXT_CHARS:
        return
    size = len(text)
    for match in pattern.finditer(text):
        longest = max(len(group or "") for group in (match[0], *match.groups())) if groups else 0
        size += len(template) + groups * longest
        limits.check_length(size)


def _compiled(pattern: Any, ignorecase: bool, multiline: bool) -> re.Pattern[str]:
    flags = (re.IGNORECASE if ignorecase else 0) | (re.MULTILINE if multiline else 0)
    return _compile(text_of(pattern), flags)


@lru_cache(256)
def _compile(pattern: str, flags: int) -> re.Pattern[str]:
    try:
        return re.compile(pattern, flags)
    except (re.error, OverflowError) as error:
        what = f"'{pattern}' is not a regular expression: {error}"
        raise UnusableValueError(what) from None


def _encode(text: str, encoding: str) -> bytes:
    try:
        if encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
            return encode_lossy(text)
        return text.encode(encoding)
    except LookupError:
        raise UnusableValueError(f"there is no encoding '{encoding}'") from None
    except ValueError as error:
        raise UnusableValueError(f"the text has no {encoding}: {_reason(error)}") from None


def _reason(error: ValueError) -> str:
    """Return the reason without the text, which may be a secret."""
    return (
        error.reason if isinstance(error, UnicodeError) and hasattr(error, "reason") else str(error)
    )


def checksum(value: Any) -> str:
    """Return the SHA-1 of the text, in hexadecimal."""
    return hash_text(value, "sha1")


def md5(value: Any) -> str:
    """Return the MD5 of the text, in hexadecimal."""
    return hash_text(value, "md5")


def urldecode(value: Any) -> str:
    """Return the text that was encoded for a URL; a plus sign is a blank."""
    return unquote_plus(text_of(value))


_URL_PARTS = (
    *("fragment", "hostname", "netloc", "password", "path", "port", "query", "scheme", "username"),
)


def split_url(value: Any, query: str = "") -> Any:
    """Return the parts of a URL, or the one that is asked for."""
    if query and query not in _URL_PARTS:
        raise UnusableValueError(
            f"`urlsplit`: a URL has no '{query}'", f"it has {', '.join(_URL_PARTS)}"
        )
    try:
        split = urlsplit(text_of(value))
        found = {name: getattr(split, name) for name in _URL_PARTS}
    except ValueError as error:
        raise UnusableValueError(f"`urlsplit`: not a URL: {error}") from None
    return found[query] if query else found


_COMMENT_STYLES = {
    "plain": ("", "# ", ""),
    "erlang": ("", "% ", ""),
    "c": ("", "// ", ""),
    "cblock": ("/*", " * ", " */"),
    "xml": ("<!--", " - ", "-->"),
}
"""The line before, the beginning of each line, and the line after, by the style of a comment."""


def comment(
    value: Any,
    style: str = "plain",
    newline: str = "\n",
    beginning: str | None = None,
    prefix: str | None = None,
    prefix_count: int = 1,
    decoration: str | None = None,
    postfix: str | None = None,
    postfix_count: int = 1,
    end: str | None = None,
) -> str:
    """Return the text as a comment, with an empty line of it before and after."""
    if style not in _COMMENT_STYLES:
        raise UnusableValueError(
            f"`comment`: there is no style '{style}'", f"styles: {', '.join(_COMMENT_STYLES)}"
        )
    text = text_of(value)
    limits.check_sizes("", (prefix_count, postfix_count))
    first, each, last = _COMMENT_STYLES[style]
    first, last = (
        first if beginning is None else beginning,
        last if end is None else end,
    )
    each = each if decoration is None else decoration
    before = each.rstrip() if prefix is None else prefix
    after = each.rstrip() if postfix is None else postfix
    limits.check_length((text.count(newline) + 1) * len(each) + len(text))
    limits.check_length(len(before) * prefix_count + len(after) * postfix_count)
    lines = [each + line if line else each.rstrip() for line in text.split(newline)]
    if lines[-1] == each.rstrip():
        lines[-1] = each  # the end of the text keeps its blank
    head = [first] if first else []
    above = [] if not before else ["" if before == newline else before] * prefix_count
    below = [after] * postfix_count
    return newline.join([*head, *above, *lines, *below, *([last] if last else [])])
