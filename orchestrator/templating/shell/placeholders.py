"""Where in a command an expression stands, and what may be inserted there."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from msgspec import Struct, field

from orchestrator.model.charsets import NOTHING, hides
from orchestrator.templating.shell import heredoc
from orchestrator.templating.shell.lexer_state import COMMANDS, Document, Kind, Refusal
from orchestrator.templating.shell.word_state import (
    COMMAND,
    TESTS,
    Alt,
    Shape,
    Spot,
    Target,
    holed,
)

if TYPE_CHECKING:
    from orchestrator.templating.shell.lexer import Lexer


class How(Enum):
    """By which rules a value is written."""

    WORD = auto()
    DOUBLE = auto()
    SINGLE = auto()
    DOCUMENT = auto()
    VERBATIM = auto()
    ARITHMETIC = auto()


class Place(Struct):
    """The place of one expression.

    ``filter``: raw, words or none. ``alone``: nothing else is part of its word. ``single``:
    it has to be exactly one word. ``bare``: a harmless value may stand unquoted. ``first``:
    it may be a command's name. ``descriptor``: it says which one to copy. ``integer``: the
    shell will calculate with it. ``documents``: the here-documents around it, outermost
    first. ``sources``: the scope's names that it is made of. ``begun``: the offset where the
    command around it begins. ``wide``: the bytes before it may begin a multi-byte character;
    ``joined``: the text after it may go on with one. ``declared``: the builtin that would take
    a value in parentheses for an array, or ''. ``lossy``: bash may lose or double the characters
    that it marks quoted ones with.
    """

    offset: int
    filter: str = ""
    how: How = How.WORD
    alone: bool = True
    single: bool = False
    bare: bool = True
    first: bool = False
    descriptor: bool = False
    integer: bool = False
    documents: tuple[Document, ...] = field(default=())
    sources: frozenset[str] = frozenset()
    begun: int = 0
    wide: bool = False
    joined: bool = False
    declared: str = ""
    lossy: bool = False

    @property
    def joins_lines(self) -> bool:
        """Whether bash takes backslash-newline away here before it looks at quotes."""
        return any(not document.quoted for document in self.documents)


_NOWHERE = {
    Kind.DOLLAR_SINGLE: ("inside `$'…'`", "use `'…'`: newlines may stand in it"),
    Kind.BACKTICK: ("inside backticks", "write `$(…)`"),
    Kind.BRACE: ("inside `${…}`", "give the value to a variable first: `x={{ … }}`"),
    Kind.COMMENT: ("in a comment", "take the comment out of the command, into the YAML"),
    Kind.PARENS: ("inside a pattern's parentheses", "give the value to a variable first"),
}
_BEFORE = {
    "$": ("right after `$`", "for a dollar sign write `\\$`; a variable's name cannot be inserted"),
    "\\": ("right after a backslash", "for a backslash itself write `\\\\`"),
    ")": ("right after a `)` in arithmetic", "put a blank or `)` before it"),
    "<<": ("as a here-document's delimiter", "write the delimiter itself"),
    "delimiter": ("in a here-document's delimiter", "write the delimiter itself"),
}


def hole(lexer: Lexer, index: int) -> None:
    """Let the lexer pass the expression of a place, and note what is known of the place.

    Raises ``Refusal`` where no value can stand. May be called again for the same place, as
    loops are read until nothing changes.
    """
    state, place = lexer.state, lexer.places[index]
    _check(lexer, place)
    place.how = _how(lexer, index)
    place.integer |= place.how is How.ARITHMETIC
    around = state.commands()
    place.begun = around.begun if around else place.offset
    place.documents = tuple(f.document for f in state.documents() if f.document)
    kinds = [frame.kind for frame in state.frames]
    if Kind.ARRAY in kinds:  # tried, bash 5.2: a here-document or another array in there
        place.lossy = Kind.SUBSTITUTION in kinds[kinds.index(Kind.ARRAY) :]
    if state.top.kind in COMMANDS:
        _word(lexer, index)
    elif place.filter:
        what = f"`{place.filter}` inside {state.top.kind.value}"
        hint = "leave it out: the value is escaped for the place it stands in"
        raise Refusal(what, place.offset, hint)
    _enclosing(lexer, index)
    for frame in state.documents():
        heredoc.touch(frame)
    _bytes(lexer, index)
    state.open_end = frozenset({""})


def _check(lexer: Lexer, place: Place) -> None:
    state = lexer.state
    for frame in state.frames:
        if frame.kind in _NOWHERE:
            what, hint = _NOWHERE[frame.kind]
            raise Refusal(f"an expression {what}", place.offset, hint)
    for end, (what, hint) in _BEFORE.items():
        if end in state.open_end:
            raise Refusal(f"an expression {what}", place.offset, hint)
    if "name" in state.open_end and state.top.kind in (Kind.DOUBLE, Kind.DOCUMENT):
        what = "an expression right after a variable's name, which it would make longer"
        raise Refusal(what, place.offset, "write the variable as `${name}`")
    if state.doubt:
        what = f"an expression after {state.doubt.what}, {state.doubt.why}"
        raise Refusal(what, place.offset, state.doubt.hint)
    inside = state.top.kind is Kind.DOCUMENT
    if not inside and any(hides(unfinished, "'") for unfinished in state.unfinished):
        what = (
            "an expression right after a digit behind a character beyond ASCII, where bash may "
            "not see the quote of the value in locales such as GB18030"
        )
        pair = "''" if state.top.kind is Kind.SINGLE else '""'
        raise Refusal(what, place.offset, f"write `{pair}` before the digit")


def _bytes(lexer: Lexer, index: int) -> None:
    """Note what multi-byte locales may make of a value and the text around it."""
    state, place = lexer.state, lexer.places[index]
    place.wide |= bool(state.ends) or state.unfinished != {NOTHING}
    for other in state.ends:
        lexer.places[other].joined = True
    keeps = place.how in (How.SINGLE, How.DOCUMENT)  # else its last byte is one of ours
    state.ends = frozenset({index}) if keeps else frozenset()
    state.unfinished = frozenset({NOTHING})


def _how(lexer: Lexer, index: int) -> How:
    state = lexer.state
    top = state.top
    if top.kind is Kind.DOCUMENT:
        assert top.document
        if top.document.quoted and any(
            not f.document.quoted for f in state.documents() if f.document
        ):
            what = "an expression in a quoted here-document inside another, which joins its lines"
            raise Refusal(what, lexer.places[index].offset, "write the delimiter without quotes")
        return How.VERBATIM if top.document.quoted else How.DOCUMENT
    return {
        Kind.DOUBLE: How.DOUBLE,
        Kind.SINGLE: How.SINGLE,
        Kind.ARITHMETIC: How.ARITHMETIC,
    }.get(top.kind, How.WORD)


def _word(lexer: Lexer, index: int) -> None:
    state, place = lexer.state, lexer.places[index]
    top = state.top
    for other in state.lone:
        lexer.places[other].alone = False
    place.alone &= all(alt.shape is Shape.NONE for alt in top.alts)
    for alt in top.alts:
        _refuse_shape(alt, place)
        place.single |= bool(alt.target) or alt.spot in _ONE_WORD
        place.bare &= alt.spot not in TESTS
        place.first |= alt.spot in COMMAND and not alt.target
    state.lone = frozenset({index})
    if place.filter:
        _as_it_is(lexer, place)
    else:
        top.alts = frozenset(holed(alt) for alt in top.alts)


_ONE_WORD = (Spot.CASE, Spot.PATTERN, Spot.PATTERNS, *TESTS)
_NO_WORD = {
    Spot.NAME: "as a loop's variable",
    Spot.IN: "in the place of `in`",
    Spot.CASE_IN: "in the place of `in`",
    Spot.FUNCTION: "as a function's name",
}


def _refuse_shape(alt: Alt, place: Place) -> None:
    if alt.spot in _NO_WORD and not alt.target:
        raise Refusal(f"an expression {_NO_WORD[alt.spot]}", place.offset, "write the word itself")
    if alt.shape in (Shape.TILDE, Shape.VALUE_HOME):
        what = "an expression in the name after `~`, which quoting would switch off"
        raise Refusal(what, place.offset, "for the home folder write `~/`, for a `~` itself `\\~`")


def _as_it_is(lexer: Lexer, place: Place) -> None:
    top, words = lexer.state.top, place.filter == "words"
    spots = {alt.spot for alt in top.alts}
    fit = all(alt.shape is Shape.NONE and not alt.target for alt in top.alts)
    if not fit or not spots <= {Spot.START, Spot.PREFIX, Spot.ARGS, Spot.WORDS}:
        what = f"`{place.filter}` where it is not among a command's words, alone"
        raise Refusal(what, place.offset, "put blanks around it")
    if words or top.kind is Kind.ARRAY:
        top.alts = frozenset(holed(alt) for alt in top.alts)
        return
    spots = {Spot.START, Spot.PREFIX, Spot.ARGS}
    shapes = (Shape.NONE, Shape.OTHER)
    top.alts = frozenset(Alt(spot, Target.NONE, shape) for spot in spots for shape in shapes)


def _enclosing(lexer: Lexer, index: int) -> None:
    """What the word around means for a value, be it quoted or not."""
    frame, place = lexer.state.commands(), lexer.places[index]
    for alt in frame.alts if frame else ():
        if alt.shape is Shape.INDEX:
            what = "an expression in an array's index, which bash evaluates"
            raise Refusal(
                what, place.offset, "give the value to a variable first: `i=$(({{ … }}))`"
            )
        if alt.spot is Spot.TEST_NAME:
            what = "an expression as a variable's name, which bash evaluates"
            raise Refusal(what, place.offset, "write the name itself")
        if alt.target is Target.COPY:
            place.descriptor = True
            place.alone &= alt.shape is Shape.LONE
        place.integer |= alt.spot is Spot.TEST_NUMBER
        if alt.spot in TESTS:
            lexer.state.operands |= {index}
