"""How a value is written at its place: POSIX.1-2017 XCU 2.2 (quoting) and 2.7.4."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping

from orchestrator.model import charsets, shell_quoting
from orchestrator.model.lazy_regex import regex
from orchestrator.model.marked_value import HomePath, Titled
from orchestrator.model.text_encoding import encode, quote_text
from orchestrator.templating.shell.lexer import Lexer
from orchestrator.templating.shell.lexer_state import Kind, Refusal, begin
from orchestrator.templating.shell.placeholders import How, Place
from orchestrator.templating.shell.word_state import RESERVED, Spot, Target
from orchestrator.templating.value_text import Unfit, text_of

# Without `=` (an assignment, or =cmd to zsh), `~`, braces, globs, `#`, `!`, `^` and blanks.
_PLAIN = regex(r"[A-Za-z0-9_/.,:@%+-]+|-[A-Za-z0-9_/.,:@%+=-]+")
_IN_DOUBLE = regex(r"[\n\t -~]*")
_SPECIAL = regex(r'[$`"\\]')
_IN_DOCUMENT = regex(r"(\A|[^\x00-\x7f])?([$`\\])")
_STARTS_WIDE = regex(r"\Z|[0-9]|[^\x00-\x7f]")
_APART = "${0+}"
"""Nothing, whatever ``$0`` is: keeps a backslash and the bytes of another character apart."""
_INTEGER = regex(r"[+-]?[0-9]+")
_DESCRIPTOR = regex(r"[0-9]+-?|-")
_OPERATORS = "<>&|;()"


def write(place: Place, value: object) -> str:
    """The value as shell text for its place. Raises ``Unfit``."""
    if place.filter == "raw":
        return _raw(_text(value))
    if place.integer:
        text = _integer(value)
        return f"({text})" if place.how is How.ARITHMETIC and text[0] == "-" else text
    if place.how is How.WORD:
        return " ".join(_words(place, value))
    if value is None:
        raise Unfit("the value is none", "only where it stands alone does none give no word")
    if _is_list(value):
        raise Unfit("the value is a list", "only alone, as words, can a list stand; see `| join`")
    text = _checked(place, _text(value))
    if isinstance(text, HomePath) and place.how is not How.VERBATIM:
        return _HOME[place.how] + _ESCAPES[place.how](place, text[1:])
    return _ESCAPES[place.how](place, text)


def _checked(place: Place, text: str) -> str:
    """Raise Unfit for a value that bash would not take as it is at this place."""
    if place.lossy and ("\x01" in text or "\x7f" in text):
        what = "the value holds U+0001 or U+007F, which bash may lose in `$(…)` in an array"
        raise Unfit(what, "give it to a variable before the array: `x={{ … }}`")
    if place.declared and text.startswith("("):
        what = f"the value begins with `(`: `{place.declared}` may take it for an array's words"
        raise Unfit(what, "give the value to the variable by itself: `name={{ … }}`")
    return text


def _double(place: Place, text: str) -> str:
    """No backslash: in some locales it is the rest of the character before it."""
    if not _IN_DOUBLE.fullmatch(text) or _SPECIAL.search(text):
        return f'"{_quoted(place, text)}"'
    return '""' * (place.wide and bool(_STARTS_WIDE.match(text))) + text


def _single(place: Place, text: str) -> str:
    before = place.wide and bool(_STARTS_WIDE.match(text))
    after = place.joined and charsets.after(charsets.NOTHING, text) != charsets.NOTHING
    if place.joins_lines:  # the text around may be one half, or both
        before |= not text or text[0] == "\n"
        after |= text.endswith("\\")
    return "''" * before + _inner(place, shell_quoting.inside_quotes(text)) + "''" * after


def _document(place: Place, text: str) -> str:
    def escaped(found: re.Match[str]) -> str:
        wide = place.wide if found[1] == "" else bool(found[1])
        return (found[1] or "") + _APART * wide + "\\" + found[2]

    after = not text[-1].isascii() if text else place.wide
    return _IN_DOCUMENT.sub(escaped, text) + _APART * (place.joined and after)


def _verbatim(place: Place, text: str) -> str:
    if isinstance(text, HomePath):
        what = "no shell expands the `~/` of the value in a here-document that is quoted"
        raise Unfit(what, "write the delimiter without quotes")
    if "\x01" in text and place.documents[-1].inside:  # tried, bash 5.2
        what = "the value holds the character U+0001, which bash may lose in such a here-document"
        raise Unfit(what, "write the delimiter without quotes")
    return text


_ESCAPES: Mapping[How, Callable[[Place, str], str]] = {
    How.DOUBLE: _double,
    How.SINGLE: _single,
    How.DOCUMENT: _document,
    How.VERBATIM: _verbatim,
}

# The home, where only the host knows it; `~` means it at the beginning of a word and only there.
_HOME = {How.DOUBLE: "${HOME}", How.SINGLE: "'\"$HOME\"'", How.DOCUMENT: "${HOME}"}


def _inner(place: Place, text: str) -> str:
    """Text for single quotes. In a here-document bash drops backslash-newline even there."""
    return text.replace("\\\n", "\\''\n") if place.joins_lines else text


def _words(place: Place, value: object) -> Iterator[str]:
    words = _split(place, value)
    if not place.alone:
        if value is None:
            raise Unfit("the value is none, in the middle of a word", "see `| default('')`")
        if _is_list(value):
            what = "the value is a list, in the middle of a word"
            raise Unfit(what, "put blanks around the expression, or see `| join`")
    if place.single and len(words) != 1:
        raise Unfit(f"the value gives {len(words) or 'no'} words where one has to stand")
    if place.descriptor and not _DESCRIPTOR.fullmatch(words[0]):
        what = f"{quote_text(words[0])} is no file descriptor, and bash expands it after `>&` twice"
        raise Unfit(what, "for both streams write `>{{ … }} 2>&1`")
    for index, word in enumerate(words):
        bare = place.bare and place.alone and not (place.first and index == 0)
        if isinstance(word, HomePath):
            yield '"$HOME"' + (f"/{_quoted(place, word[2:])}" if word[2:] else word[1:])
        elif bare and _PLAIN.fullmatch(word) and word not in RESERVED:
            yield word
        else:
            yield _quoted(place, word)


def _quoted(place: Place, text: str) -> str:
    return _inner(place, shell_quoting.shell_quoted(text))


def _split(place: Place, value: object) -> list[str]:
    if value is None:
        return []
    if isinstance(value, Iterable) and _is_list(value):
        return [_text(item) for item in value]
    text = _checked(place, _text(value))
    if place.filter != "words":
        return [text]
    try:
        return shlex.split(text)
    except ValueError as error:
        why = str(error).lower()
        what = f"the value cannot be split into words: {why}"
        raise Unfit(what, f"it is {quote_text(text)}") from None


def _is_list(value: object) -> bool:
    """Whether it is several values: a list, or what a filter such as ``map`` gives."""
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Titled):
        value = str(value)
    if isinstance(value, Mapping):
        raise Unfit("the value is a mapping, not text", "name the part of it that is meant")
    if not isinstance(value, str):
        return text_of(value)
    if "\0" in value:
        raise Unfit("the value holds a NUL character, which no command can hold")
    try:
        encode(value)
    except ValueError as error:
        raise Unfit(f"the value cannot stand in a command: {error}") from None
    return value if isinstance(value, HomePath) else str.__str__(value)


def _integer(value: object) -> str:
    fit = isinstance(value, int | str) and not isinstance(value, bool)
    if not fit or not _INTEGER.fullmatch(str(value)):
        what = f"{quote_text(value)} is no integer, and the shell calculates here"
        raise Unfit(what, "see `| int`")
    number = int(str(value))
    if not -(2**63) < number < 2**63:
        raise Unfit(f"{value} is too large for the shell to calculate with")
    return str(number)


def _raw(text: str) -> str:
    """Shell text that leaves nothing open. Blanks keep its operators apart from what is near."""
    lexer = Lexer(begin(), [])
    try:
        lexer.feed(text, 0)
    except Refusal as refusal:
        raise Unfit(f"`raw` text in error: {refusal.what}", f"it is {quote_text(text)}") from None
    state = lexer.state
    what = ""
    if state.doubt:
        what = f"it holds {state.doubt.what}, {state.doubt.why}"
    elif state.top.kind is not Kind.TOP:
        what = f"{state.top.kind.value} is not closed in it"
    elif (
        state.top.pending
        or state.open_end & {"\\", "$", "<<"}
        or any(charsets.hides(unfinished, "'") for unfinished in state.unfinished)
    ):
        what = "it ends in the middle of something"
    elif any(a.target not in _ENDED or a.spot not in _COMPLETE for a in state.top.alts) or (
        any(a.target for a in state.top.alts) and text.rstrip()[-1:] in _OPERATORS
    ):
        what = "it ends in the middle of a command"
    if what:
        raise Unfit(f"the value cannot stand as it is: {what}", f"it is {quote_text(text)}")
    before = " " if text[:1] and text[0] in _OPERATORS else ""
    return before + text + (" " if text[-1:] and text[-1] in _OPERATORS else "")


_ENDED = (Target.NONE, Target.FILE)
_COMPLETE = (Spot.START, Spot.PREFIX, Spot.ARGS)
