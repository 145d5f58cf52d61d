"""Quoting of a value for its context: POSIX.1-2017 XCU 2.2 (quoting) and 2.7.4."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping

from orchestrator.model import charsets, shell_quoting
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.marked_value import HomePath, NamedObject
from orchestrator.model.text_encoding import encode_text, repr_text
from orchestrator.templating.shell.lexer import ShellLexer
from orchestrator.templating.shell.lexer_state import FrameKind, UnsafeShellError, initial_state
from orchestrator.templating.shell.placeholders import Placeholder, QuotingContext
from orchestrator.templating.shell.word_state import RESERVED_WORDS, RedirectTarget, WordRole
from orchestrator.templating.value_text import UnusableValueError, text_of

# Without `=` (an assignment, or =cmd in zsh), `~`, braces, globs, `#`, `!`, `^` and blanks.
_PLAIN = lazy_regex(r"[A-Za-z0-9_/.,:@%+-]+|-[A-Za-z0-9_/.,:@%+=-]+")
_IN_DOUBLE = lazy_regex(r"[\n\t -~]*")
_SPECIAL = lazy_regex(r'[$`"\\]')
_IN_DOCUMENT = lazy_regex(r"(\A|[^\x00-\x7f])?([$`\\])")
_STARTS_WIDE = lazy_regex(r"\Z|[0-9]|[^\x00-\x7f]")
_SEPARATOR = "${0+}"
"""Expands to nothing; separates a backslash from the bytes of another character."""
_INTEGER = lazy_regex(r"[+-]?[0-9]+")
_DESCRIPTOR = lazy_regex(r"[0-9]+-?|-")
_OPERATORS = "<>&|;()"


def quote_value(placeholder: Placeholder, value: object) -> str:
    """Return the value as shell text for its placeholder. Raises ``UnusableValueError``."""
    if placeholder.filter == "raw":
        return _raw_text(_value_text(value))
    if placeholder.integer:
        text = _integer_text(value)
        return (
            f"({text})"
            if placeholder.context is QuotingContext.ARITHMETIC and text[0] == "-"
            else text
        )
    if placeholder.context is QuotingContext.WORD:
        return " ".join(_quoted_words(placeholder, value))
    if value is None:
        raise UnusableValueError("the value is none", "none is allowed only as a word by itself")
    if _is_list(value):
        raise UnusableValueError(
            "the value is a list", "a list is allowed only as words by themselves; see `| join`"
        )
    text = _check_text(placeholder, _value_text(value))
    if isinstance(text, HomePath) and placeholder.context is not QuotingContext.VERBATIM:
        return _HOME[placeholder.context] + _ESCAPES[placeholder.context](placeholder, text[1:])
    return _ESCAPES[placeholder.context](placeholder, text)


def _check_text(placeholder: Placeholder, text: str) -> str:
    """Raise UnusableValueError for a value that bash would not read unchanged in this context."""
    if placeholder.lossy and ("\x01" in text or "\x7f" in text):
        what = "the value contains U+0001 or U+007F, which bash may lose in `$(…)` in an array"
        raise UnusableValueError(what, "assign it to a variable before the array: `x={{ … }}`")
    if placeholder.declared and text.startswith("("):
        what = (
            f"the value begins with `(`: `{placeholder.declared}` may take it for an array's words"
        )
        raise UnusableValueError(
            what, "assign the value to the variable in a separate command: `name={{ … }}`"
        )
    return text


def _quote_double(placeholder: Placeholder, text: str) -> str:
    """Return text for double quotes, without a backslash if possible.

    In some locales a backslash is read as the second half of the character before it.
    """
    if not _IN_DOUBLE.fullmatch(text) or _SPECIAL.search(text):
        return f'"{_quote_word(placeholder, text)}"'
    return '""' * (placeholder.wide and bool(_STARTS_WIDE.match(text))) + text


def _quote_single(placeholder: Placeholder, text: str) -> str:
    before = placeholder.wide and bool(_STARTS_WIDE.match(text))
    after = (
        placeholder.joined
        and charsets.unfinished_after(charsets.NO_BYTES, text) != charsets.NO_BYTES
    )
    if placeholder.joins_lines:  # the surrounding text may have one half of the pair, or both
        before |= not text or text[0] == "\n"
        after |= text.endswith("\\")
    return (
        "''" * before
        + _single_quoted_text(placeholder, shell_quoting.escape_in_single_quotes(text))
        + "''" * after
    )


def _quote_document(placeholder: Placeholder, text: str) -> str:
    def escaped(found: re.Match[str]) -> str:
        wide = placeholder.wide if found[1] == "" else bool(found[1])
        return (found[1] or "") + _SEPARATOR * wide + "\\" + found[2]

    after = not text[-1].isascii() if text else placeholder.wide
    return _IN_DOCUMENT.sub(escaped, text) + _SEPARATOR * (placeholder.joined and after)


def _quote_verbatim(placeholder: Placeholder, text: str) -> str:
    if isinstance(text, HomePath):
        what = "a quoted here-document does not expand the `~/` of the value"
        raise UnusableValueError(what, "write the delimiter without quotes")
    if "\x01" in text and placeholder.documents[-1].inside:  # tested with bash 5.2
        what = (
            "the value contains the character U+0001, which bash may lose in such a here-document"
        )
        raise UnusableValueError(what, "write the delimiter without quotes")
    return text


_ESCAPES: Mapping[QuotingContext, Callable[[Placeholder, str], str]] = {
    QuotingContext.DOUBLE: _quote_double,
    QuotingContext.SINGLE: _quote_single,
    QuotingContext.DOCUMENT: _quote_document,
    QuotingContext.VERBATIM: _quote_verbatim,
}

# The home folder, known only to the host; `~` is expanded only at the beginning of a word.
_HOME = {
    QuotingContext.DOUBLE: "${HOME}",
    QuotingContext.SINGLE: "'\"$HOME\"'",
    QuotingContext.DOCUMENT: "${HOME}",
}


def _single_quoted_text(placeholder: Placeholder, text: str) -> str:
    """Return text for single quotes; in a here-document bash drops backslash-newline even there."""
    return text.replace("\\\n", "\\''\n") if placeholder.joins_lines else text


def _quoted_words(placeholder: Placeholder, value: object) -> Iterator[str]:
    words = _split_words(placeholder, value)
    if not placeholder.alone:
        if value is None:
            raise UnusableValueError(
                "the value is none, in the middle of a word", "see `| default('')`"
            )
        if _is_list(value):
            what = "the value is a list, in the middle of a word"
            raise UnusableValueError(what, "put blanks around the expression, or see `| join`")
    if placeholder.single and len(words) != 1:
        raise UnusableValueError(
            f"the value gives {len(words) or 'no'} words, but exactly one is required"
        )
    if placeholder.descriptor and not _DESCRIPTOR.fullmatch(words[0]):
        what = (
            f"{repr_text(words[0])} is not a file descriptor, and bash expands it after `>&` twice"
        )
        raise UnusableValueError(what, "for both streams write `>{{ … }} 2>&1`")
    for index, word in enumerate(words):
        bare = placeholder.bare and placeholder.alone and not (placeholder.first and index == 0)
        if isinstance(word, HomePath):
            yield '"$HOME"' + (f"/{_quote_word(placeholder, word[2:])}" if word[2:] else word[1:])
        elif bare and _PLAIN.fullmatch(word) and word not in RESERVED_WORDS:
            yield word
        else:
            yield _quote_word(placeholder, word)


def _quote_word(placeholder: Placeholder, text: str) -> str:
    return _single_quoted_text(placeholder, shell_quoting.always_shell_quote(text))


def _split_words(placeholder: Placeholder, value: object) -> list[str]:
    if value is None:
        return []
    if isinstance(value, Iterable) and _is_list(value):
        return [_check_text(placeholder, _value_text(item)) for item in value]
    text = _check_text(placeholder, _value_text(value))
    if placeholder.filter != "words":
        return [text]
    try:
        return shlex.split(text)
    except ValueError as error:
        why = str(error).lower()
        what = f"the value cannot be split into words: {why}"
        raise UnusableValueError(what, f"it is {repr_text(text)}") from None


def _is_list(value: object) -> bool:
    """Return True for several values: a list, or the result of a filter such as ``map``."""
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


def _value_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | NamedObject):
        value = str(value)
    if isinstance(value, Mapping):
        raise UnusableValueError("the value is a mapping, not text", "select a part of it")
    if not isinstance(value, str):
        return text_of(value)
    if "\0" in value:
        raise UnusableValueError(
            "the value contains a NUL character, which a command cannot contain"
        )
    try:
        encode_text(value)
    except ValueError as error:
        raise UnusableValueError(f"the value cannot be used in a command: {error}") from None
    return value if isinstance(value, HomePath) else str.__str__(value)


def _integer_text(value: object) -> str:
    fit = isinstance(value, int | str) and not isinstance(value, bool)
    if not fit or not _INTEGER.fullmatch(str(value)):
        what = f"{repr_text(value)} is not an integer, and the shell evaluates it as arithmetic"
        raise UnusableValueError(what, "see `| int`")
    number = int(str(value))
    if not -(2**63) < number < 2**63:
        raise UnusableValueError(f"{value} is too large for the shell to calculate with")
    return str(number)


def _raw_text(text: str) -> str:
    """Return shell text that leaves nothing open, separated by blanks from adjacent operators."""
    lexer = ShellLexer(initial_state(), [])
    try:
        lexer.feed(text, 0)
    except UnsafeShellError as refusal:
        raise UnusableValueError(
            f"`raw` text in error: {refusal.what}", f"it is {repr_text(text)}"
        ) from None
    state = lexer.state
    what = ""
    if state.doubt:
        what = f"it contains {state.doubt.what}, {state.doubt.why}"
    elif state.top.kind is not FrameKind.TOP:
        what = f"{state.top.kind.value} is not closed in it"
    elif (
        state.top.pending
        or state.open_end & {"\\", "$", "<<"}
        or any(charsets.may_swallow(unfinished, "'") for unfinished in state.unfinished)
    ):
        what = "it ends in the middle of something"
    elif any(
        a.target not in _ENDED_TARGETS or a.role not in _COMPLETE_ROLES
        for a in state.top.alternatives
    ) or (any(a.target for a in state.top.alternatives) and text.rstrip()[-1:] in _OPERATORS):
        what = "it ends in the middle of a command"
    if what:
        raise UnusableValueError(
            f"the value cannot be inserted unchanged: {what}", f"it is {repr_text(text)}"
        )
    before = " " if text[:1] and text[0] in _OPERATORS else ""
    return before + text + (" " if text[-1:] and text[-1] in _OPERATORS else "")


_ENDED_TARGETS = (RedirectTarget.NONE, RedirectTarget.FILE)
_COMPLETE_ROLES = (WordRole.START, WordRole.PREFIX, WordRole.ARGS)
