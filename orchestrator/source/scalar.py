"""What a plain YAML scalar means: fewer things than YAML 1.1 says, and no surprises.

A scalar is a number only where printing the number gives the same text back, so that
``0644``, ``1_000``, ``1.10``, ``0x1F``, ``22:22``, ``1e3`` and dates stay text. ``yes``,
``no``, ``on`` and ``off`` are text, too.
"""

from __future__ import annotations

from orchestrator.model.regex import regex

Scalar = str | int | float | bool | None

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_INTEGER = regex(r"-?[1-9][0-9]{0,99}|0")
_DECIMAL = regex(r"-?(?:0|[1-9][0-9]*)\.[0-9]+")
_FIRST = frozenset("-0123456789")


def resolve(text: str) -> Scalar:
    """The value of a plain scalar: null, a boolean, a number, or the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _FIRST:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text) and repr(float(text)) == text:
        return float(text)
    return text


def typed(tag: str, text: str) -> Scalar:
    """The value of a scalar under a standard tag like ``!!int``, given by its last word.

    Raises ``ValueError`` where the text is no such value, or the tag is none of
    str, int, float, bool and null.
    """
    if tag == "str":
        return text
    value = resolve(text)
    kinds: dict[str, type | tuple[type, ...]] = {
        **{"int": int, "float": (int, float), "bool": bool, "null": type(None)}
    }
    right = isinstance(value, kinds.get(tag, ()))
    if not right or (isinstance(value, bool) and tag != "bool"):
        raise ValueError(text)
    return float(value) if tag == "float" and isinstance(value, int) else value
