"""How far a word of shell text has come, and what it will be when it ends.

Where branches of a template meet, several answers are possible; so each is a small value
(``Alt``), the lexer carries a set of them, and every decision that would change how the text
after it is read has to be the same for all. Grammar: POSIX.1-2017 XCU 2.10, and bash's words.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple


class Spot(Enum):
    """What the next word is to the command it stands in."""

    START = auto()  # a command may begin: reserved words, assignments
    PREFIX = auto()  # after an assignment or redirection: no reserved words any more
    ARGS = auto()
    NAME = auto()  # the variable of `for` and `select`
    IN = auto()  # `in` or `do`
    FUNCTION = auto()
    CASE = auto()
    CASE_IN = auto()
    PATTERN = auto()  # the first of a case item
    PATTERNS = auto()
    TEST = auto()  # inside [[ ]]
    TEST_NUMBER = auto()  # bash evaluates both sides of -eq as arithmetic, which can run code
    TEST_NAME = auto()  # and what follows -v as a name with a subscript
    WORDS = auto()  # of an array


class Shape(Enum):
    """What a word is so far. Reserved words and their beginnings keep their text beside it."""

    NONE = auto()  # between words
    KEY = auto()
    NAME = auto()
    PLUS = auto()  # a name and `+`
    DIGITS = auto()
    INDEX = auto()  # a name and `[`
    VALUE = auto()  # of an assignment
    TILDE = auto()
    VALUE_START = auto()  # right after `=` or `:` of an assignment, where `~` counts
    VALUE_HOME = auto()  # after such a `~`
    LONE = auto()  # one expression and nothing else
    HOLED = auto()  # expressions and characters of a name
    OTHER = auto()


class Target(Enum):
    """Whether the word belongs to a redirection; false where it does not.

    bash expands what follows ``>&`` a second time where it is no number (tried, 5.2).
    """

    NONE = ""
    FILE = "file"
    COPY = "copy"  # after >& and <&

    def __bool__(self) -> bool:
        return self is not Target.NONE


class Alt(NamedTuple):
    """One way to see the place reached."""

    spot: Spot
    target: Target = Target.NONE
    shape: Shape = Shape.NONE
    text: str = ""


class Action(Enum):
    """What the end of a word does beyond ending it."""

    NONE = auto()
    OPEN_CASE = auto()
    CLOSE_CASE = auto()


NUMERIC = frozenset({"-eq", "-ne", "-lt", "-le", "-gt", "-ge"})
RESERVED = frozenset(
    "if then else elif fi do done while until for select case esac in function time coproc"
    " { } ! [[ ]]".split()
)
_KEYS = RESERVED | NUMERIC | {"-v", "-R"}
_BEGINNINGS = frozenset(key[:n] for key in _KEYS for n in range(1, len(key) + 1))
_GO_ON = frozenset("if then else elif fi do done while until esac time coproc { } !".split())
COMMAND = (Spot.START, Spot.PREFIX)
VALUES = (Shape.VALUE, Shape.VALUE_START, Shape.VALUE_HOME)
TESTS = (Spot.TEST, Spot.TEST_NUMBER, Spot.TEST_NAME)


def _letter(char: str) -> bool:
    return char == "_" or (char.isascii() and char.isalpha())


def _is_name(text: str) -> bool:
    return bool(text) and text.isascii() and text.isidentifier()


def grow(alt: Alt, char: str) -> Alt:
    """After one more unquoted, ordinary character."""
    shape, text = alt.shape, alt.text
    new = Shape.OTHER
    if shape in (Shape.NONE, Shape.KEY):
        return _begin(alt, text + char, char)
    if shape is Shape.NAME:
        new = _after_name(char)
    elif shape is Shape.PLUS:
        new = Shape.VALUE_START if char == "=" else Shape.OTHER
    elif shape is Shape.DIGITS:
        new = Shape.DIGITS if char.isdigit() else Shape.OTHER
    elif shape is Shape.INDEX:
        new = Shape.VALUE_START if char == "=" else Shape.INDEX
    elif shape in VALUES:
        new = _in_value(shape, char)
    elif shape is Shape.TILDE:
        new = Shape.OTHER if char == "/" else Shape.TILDE
    elif shape in (Shape.LONE, Shape.HOLED):
        new = Shape.HOLED if _letter(char) or char.isdigit() or char == "+" else Shape.OTHER
    return Alt(alt.spot, alt.target, new)


def _begin(alt: Alt, text: str, char: str) -> Alt:
    if alt.spot is Spot.WORDS and text == "[":  # a=([KEY]=value)
        return Alt(alt.spot, alt.target, Shape.INDEX)
    if text in _BEGINNINGS:
        return Alt(alt.spot, alt.target, Shape.KEY, text)
    before = text[:-1]
    shape = Shape.OTHER
    if _is_name(text):
        shape = Shape.NAME
    elif _is_name(before):
        shape = _after_name(char)
    elif not before:
        shape = _first(char)
    return Alt(alt.spot, alt.target, shape)


def _first(char: str) -> Shape:
    if char == "~":
        return Shape.TILDE
    return Shape.DIGITS if char.isascii() and char.isdigit() else Shape.OTHER


def _after_name(char: str) -> Shape:
    if _letter(char) or (char.isascii() and char.isdigit()):
        return Shape.NAME
    marks = {"=": Shape.VALUE_START, "+": Shape.PLUS, "[": Shape.INDEX}
    return marks.get(char, Shape.OTHER)


def _in_value(shape: Shape, char: str) -> Shape:
    if char == ":":
        return Shape.VALUE_START
    if shape is Shape.VALUE_START and char == "~":
        return Shape.VALUE_HOME
    return Shape.VALUE_HOME if shape is Shape.VALUE_HOME and char != "/" else Shape.VALUE


def quoted(alt: Alt) -> Alt:
    """After a quoted part or an expansion."""
    if alt.shape in VALUES:
        return alt._replace(shape=Shape.VALUE)
    if alt.shape is Shape.INDEX:
        return alt
    return Alt(alt.spot, alt.target, Shape.OTHER)


def holed(alt: Alt) -> Alt:
    """After an expression's value, which is quoted wherever it is not a word by itself."""
    if alt.shape is Shape.NONE:
        return alt._replace(shape=Shape.LONE)
    named = alt.shape in (Shape.NAME, Shape.LONE, Shape.HOLED) or _is_name(alt.text)
    return Alt(alt.spot, alt.target, Shape.HOLED) if named else quoted(alt)


def finish(alt: Alt, *, in_case: bool) -> tuple[Action, tuple[Alt, ...]]:
    """After the end of the word; where its expression may give no word, both ways."""
    if alt.shape is Shape.NONE:
        return Action.NONE, (alt,)
    if alt.target:
        spot = Spot.PREFIX if alt.spot is Spot.START else alt.spot
        return Action.NONE, (Alt(spot),)
    key = alt.text if alt.shape is Shape.KEY else ""
    if alt.spot is Spot.START and key == "case":
        return Action.OPEN_CASE, (Alt(Spot.START),)
    if key == "esac" and in_case and alt.spot in (Spot.START, Spot.PATTERN):
        return Action.CLOSE_CASE, ()
    after = Alt(_next(alt, key))
    if alt.shape is Shape.LONE and alt.spot in COMMAND:
        return Action.NONE, (after, Alt(alt.spot))
    return Action.NONE, (after,)


_FIXED = {
    Spot.NAME: Spot.IN,
    Spot.FUNCTION: Spot.START,
    Spot.CASE: Spot.CASE_IN,
    Spot.CASE_IN: Spot.PATTERN,
    Spot.PATTERN: Spot.PATTERNS,
    Spot.TEST_NAME: Spot.TEST,
}
_OPENERS = {
    "for": Spot.NAME,
    "select": Spot.NAME,
    "function": Spot.FUNCTION,
    "[[": Spot.TEST,
}


def _next(alt: Alt, key: str) -> Spot:
    spot = alt.spot
    if spot is Spot.START and key:
        if key in _GO_ON:
            return Spot.START
        if key in _OPENERS:
            return _OPENERS[key]
    if spot in COMMAND:
        return Spot.PREFIX if alt.shape in VALUES else Spot.ARGS
    if spot is Spot.IN:
        return Spot.START if key == "do" else Spot.ARGS
    if spot in TESTS:
        if key == "]]":
            return Spot.START
        if key in NUMERIC:
            return Spot.TEST_NUMBER
        if key in ("-v", "-R") and spot is Spot.TEST:
            return Spot.TEST_NAME
    return _FIXED.get(spot, spot)


def after_line(spot: Spot) -> Spot:
    """What the first word of the next line is."""
    return Spot.START if spot in (Spot.START, Spot.PREFIX, Spot.ARGS) else spot


def after_command(spot: Spot) -> Spot:
    """What the word after `;`, `&`, `|`, `&&` or `||` is."""
    if spot in TESTS:
        return Spot.TEST
    if spot in (Spot.PATTERN, Spot.PATTERNS):
        return Spot.PATTERNS
    return spot if spot in (Spot.WORDS, Spot.CASE, Spot.CASE_IN) else Spot.START
