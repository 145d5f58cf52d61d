"""Split a line into its keyword and words (ssh_config(5): quotes, ``=``, comments)."""

from __future__ import annotations

from orchestrator.model.lazy_regex import lazy_regex

SPACE = " \t\r\n"
# A word ends at white space, at `=` or after a quoted part; one `=` may follow the white space.
_TOKEN = lazy_regex(r'([^ \t\r\n"=]*)(?:"([^"]*)("?)[ \t\r\n]*|[ \t\r\n]*(?:=[ \t\r\n]*)?)')
_ESCAPED = frozenset("'\"\\")


class UnclosedQuoteError(Exception):
    """A quote is not closed."""


def split_keyword(line: str) -> tuple[str, str]:
    """Return the keyword in lower case, or '' if there is none, and the rest of the line.

    Raises UnclosedQuoteError.
    """
    word, rest = next_token(line.rstrip(f"{SPACE}\f"))
    if not word:
        word, rest = next_token(rest)
    if not word or word.startswith("#"):
        return "", ""
    return word.lower(), rest.lstrip(SPACE)


def next_token(text: str) -> tuple[str, str]:
    """Return the first word, which ``=`` ends as in Match lines, and the rest.

    Raises UnclosedQuoteError.
    """
    found = _TOKEN.match(text)
    assert found is not None  # the pattern matches the empty string
    plain, quoted, close = found.groups()
    if quoted is not None and not close:
        raise UnclosedQuoteError
    return plain + (quoted or ""), text[found.end() :]


def split_words(text: str) -> list[str]:
    """Return the words before a comment, unquoted and unescaped. Raises UnclosedQuoteError."""
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
