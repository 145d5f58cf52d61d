"""The test ``version``: comparison of version numbers, with Ansible's meaning."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.templating.value_text import UnusableValueError, text_of

_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    **dict.fromkeys(("==", "=", "eq"), operator.eq),
    **dict.fromkeys(("!=", "<>", "ne"), operator.ne),
    **dict.fromkeys(("<", "lt"), operator.lt),
    **dict.fromkeys(("<=", "le"), operator.le),
    **dict.fromkeys((">", "gt"), operator.gt),
    **dict.fromkeys((">=", "ge"), operator.ge),
}
_PARTS = lazy_regex(r"[0-9]+|[a-z]+|[^0-9a-z.]+")
_STRICT = lazy_regex(r"([0-9]+)\.([0-9]+)(?:\.([0-9]+))?(?:([ab])([0-9]+))?")
_SEMANTIC = lazy_regex(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?"
)
_PYTHON = lazy_regex(
    r"v?(?:([0-9]+)!)?([0-9]+(?:\.[0-9]+)*)"
    r"(?:[-_.]?(alpha|a|beta|b|preview|pre|c|rc)[-_.]?([0-9]*))?"
    r"(?:-([0-9]+)|[-_.]?(post|rev|r)[-_.]?([0-9]*))?"
    r"(?:[-_.]?(dev)[-_.]?([0-9]*))?(?:\+([a-z0-9]+(?:[-_.][a-z0-9]+)*))?"
)
_PRE_RELEASES = {"alpha": "a", "beta": "b", "c": "rc", "pre": "rc", "preview": "rc"}
_Key = tuple[Any, ...]


def is_version(
    value: Any,
    other: Any,
    operator: str = "eq",
    strict: bool | None = None,
    version_type: str | None = None,
) -> bool:
    """Return True if a version compares to another one as the operator says.

    ``version_type``: ``loose`` compares numbers as numbers and letters as letters, wherever they
    stand; ``strict`` is 1.2.3 with at most ``a1`` or ``b1``; ``semver`` is Semantic Versioning
    2.0.0; ``pep440`` is a version of Python packages. Raises UnusableValueError for a version that
    is none of that type.
    """
    if strict is not None and version_type is not None:
        raise UnusableValueError("`strict` and `version_type` are both given", "leave one out")
    kind = version_type or ("strict" if strict else "loose")
    if kind not in _KEYS:
        raise UnusableValueError(
            f"there is no version_type '{kind}'", f"it is one of {', '.join(_KEYS)}"
        )
    if operator not in _OPERATORS:
        raise UnusableValueError(
            f"there is no operator '{operator}'", f"it is one of {' '.join(_OPERATORS)}"
        )
    left, right = text_of(value), text_of(other)
    if not left or not right:
        raise UnusableValueError("an empty version")
    return _OPERATORS[operator](_KEYS[kind](left), _KEYS[kind](right))


def _loose_key(text: str) -> _Key:
    """Return the parts; a number is more than letters, which Ansible does not compare."""
    return tuple(_part_key(part) for part in _PARTS.findall(text))


def _part_key(part: str) -> _Key:
    return (1, int(part), "") if part.isdecimal() else (0, 0, part)


def _strict_key(text: str) -> _Key:
    found = _STRICT.fullmatch(text)
    if found is None:
        raise UnusableValueError(f"'{text}' is no strict version", "it is like 1.2, 1.2.3 or 1.2b1")
    numbers = tuple(int(part or 0) for part in found.groups()[:3])
    return (*numbers, found[4] or "z", int(found[5] or 0))  # 1.0a1 < 1.0b1 < 1.0


def _semantic_key(text: str) -> _Key:
    """Return the order of Semantic Versioning 2.0.0, 11."""
    found = _SEMANTIC.fullmatch(text)
    if found is None:
        raise UnusableValueError(
            f"'{text}' is no semantic version", "it is like 1.2.3 or 1.2.3-rc.1"
        )
    release = tuple(map(int, found.groups()[:3]))
    if found[4] is None:
        return (release, 1, ())
    parts = ((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in found[4].split("."))
    return (release, 0, tuple(parts))


def _python_key(text: str) -> _Key:
    """Return the order of PEP 440: 1.dev1 < 1a1.dev1 < 1a1 < 1rc1 < 1 < 1+local < 1.post1."""
    found = _PYTHON.fullmatch(text.strip().lower())
    if found is None:
        raise UnusableValueError(f"'{text}' is no version of PEP 440", "it is like 1.2.3 or 1.2rc1")
    epoch, release, pre, pre_number, post, post_word, post_number, dev, dev_number, local = (
        found.groups()
    )
    numbers = list(map(int, release.split(".")))
    while numbers[-1:] == [0]:
        numbers.pop()
    has_post = post is not None or post_word is not None
    if pre:
        pre_key: _Key = (1, _PRE_RELEASES.get(pre, pre), int(pre_number or 0))
    else:
        pre_key = (0, "", 0) if dev and not has_post else (2, "", 0)
    local_key = tuple(
        (1, int(part), "") if part.isdecimal() else (0, 0, part)
        for part in (local or "").replace("-", ".").replace("_", ".").split(".")
        if part
    )
    return (
        int(epoch or 0),
        tuple(numbers),
        pre_key,
        int(post or post_number or 0) if has_post else -1,
        (0, int(dev_number or 0)) if dev else (1, 0),
        local_key,
    )


_KEYS: Mapping[str, Callable[[str], _Key]] = {
    "loose": _loose_key,
    "strict": _strict_key,
    "semver": _semantic_key,
    "semantic": _semantic_key,
    "pep440": _python_key,
}
