"""One line of a file: its keyword and its words (ssh_config(5): quotes, ``=``, comments)."""

from __future__ import annotations

from orchestrator.model.lazy_regex import lazy_regex

SPACE = " \t\r\n"
# A word up to white space, `=` or a quoted part, which ends it; one `=` may follow the others.
_TOKEN = lazy_regex(r'([^ \t\r\n"=]*)(?:"([^"]*)("?)[ \t\r\n]*|[ \t\r\n]*(?:=[ \t\r\n]*)?)')
_ESCAPED = frozenset("'\"\\")


class UnclosedQuoteError(Exception):
    """A quote is not closed."""


def split_keyword(line: str) -> tuple[str, str]:
    """The keyword in small letters, '' where there is none, and what follows it. Raises
    UnclosedQuoteError.
    """
    word, rest = next_token(line.rstrip(f"{SPACE}\f"))
    if not word:
        word, rest = next_token(rest)
    if not word or word.startswith("#"):
        return "", ""
    return word.lower(), rest.lstrip(SPACE)


def next_token(text: str) -> tuple[str, str]:
    """The first word where ``=`` ends words, as in Match lines, and the rest. Raises
    UnclosedQuoteError.
    """
    found = _TOKEN.match(text)
    assert found is not None  # it matches the empty text
    plain, quoted, close = found.groups()
    if quoted is not None and not close:
        raise UnclosedQuoteError
    return plain + (quoted or ""), text[found.end() :]


def split_words(text: str) -> list[str]:
    """The words up to a comment, without their quotes and escapes. Raises UnclosedQuoteError."""
    found: list[str] = []
    at = 0
    while at < len(text):
        if text[at] in " \t":
            at += 1
        elif text[at] == "#":
            break
        else:
            word, at = _read_word(text, at)
            found.append(word)
    return found


def _read_word(text: str, offset: int) -> tuple[str, int]:
    word, quote = [], ""
    while offset < len(text):
        sign, after = text[offset], text[offset + 1 : offset + 2]
        if sign == "\\" and (after in _ESCAPED or (after == " " and not quote)) and after:
            word.append(after)
            offset += 1
        elif not quote and sign in " \t":
            break
        elif not quote and sign in "\"'":
            quote = sign
        elif quote and sign == quote:
            quote = ""
        else:
            word.append(sign)
        offset += 1
    if quote:
        raise UnclosedQuoteError
    return "".join(word), offset
