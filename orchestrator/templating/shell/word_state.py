"""The progress of a word of shell text, and its meaning once it ends.

After the branches of a template several readings are possible. Each is a small value
(``WordAlternative``), the lexer carries a set of them, and every decision that affects the parsing
of later text must be the same for all. Grammar: POSIX.1-2017 XCU 2.10, and bash's words.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple


class WordRole(Enum):
    """The role of the next word in its command."""

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


class WordShape(Enum):
    """The shape of a word so far. Reserved words and their beginnings also keep their text."""

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


class RedirectTarget(Enum):
    """Whether the word belongs to a redirection; NONE is false.

    bash expands the word after ``>&`` a second time if it is not a number (tested with 5.2).
    """

    NONE = ""
    FILE = "file"
    COPY = "copy"  # after >& and <&

    def __bool__(self) -> bool:
        return self is not RedirectTarget.NONE


class WordAlternative(NamedTuple):
    """One possible reading of the text so far."""

    role: WordRole
    target: RedirectTarget = RedirectTarget.NONE
    shape: WordShape = WordShape.NONE
    text: str = ""


class WordEndAction(Enum):
    """What the end of a word does besides ending it."""

    NONE = auto()
    OPEN_CASE = auto()
    CLOSE_CASE = auto()


NUMERIC_OPERATORS = frozenset({"-eq", "-ne", "-lt", "-le", "-gt", "-ge"})
RESERVED_WORDS = frozenset(
    "if then else elif fi do done while until for select case esac in function time coproc"
    " { } ! [[ ]]".split()
)
_KEYWORDS = RESERVED_WORDS | NUMERIC_OPERATORS | {"-v", "-R"}
_BEGINNINGS = frozenset(key[:n] for key in _KEYWORDS for n in range(1, len(key) + 1))
_COMMAND_FOLLOWS = frozenset(
    "if then else elif fi do done while until esac time coproc { } !".split()
)
COMMAND_ROLES = (WordRole.START, WordRole.PREFIX)
VALUE_SHAPES = (WordShape.VALUE, WordShape.VALUE_START, WordShape.VALUE_HOME)
TEST_ROLES = (WordRole.TEST, WordRole.TEST_NUMBER, WordRole.TEST_NAME)


def _is_letter(char: str) -> bool:
    return char == "_" or (char.isascii() and char.isalpha())


def _is_name(text: str) -> bool:
    return bool(text) and text.isascii() and text.isidentifier()


def append_char(alt: WordAlternative, char: str) -> WordAlternative:
    """Return the alternative after one more unquoted, ordinary character."""
    shape, text = alt.shape, alt.text
    new = WordShape.OTHER
    if shape in (WordShape.NONE, WordShape.KEY):
        return _begin_word(alt, text + char, char)
    if shape is WordShape.NAME:
        new = _shape_after_name(char)
    elif shape is WordShape.PLUS:
        new = WordShape.VALUE_START if char == "=" else WordShape.OTHER
    elif shape is WordShape.DIGITS:
        new = WordShape.DIGITS if char.isdigit() else WordShape.OTHER
    elif shape is WordShape.INDEX:
        new = WordShape.VALUE_START if char == "=" else WordShape.INDEX
    elif shape in VALUE_SHAPES:
        new = _shape_in_value(shape, char)
    elif shape is WordShape.TILDE:
        new = WordShape.OTHER if char == "/" else WordShape.TILDE
    elif shape in (WordShape.LONE, WordShape.HOLED):
        new = (
            WordShape.HOLED
            if _is_letter(char) or char.isdigit() or char == "+"
            else WordShape.OTHER
        )
    return WordAlternative(alt.role, alt.target, new)


def _begin_word(alt: WordAlternative, text: str, char: str) -> WordAlternative:
    if alt.role is WordRole.WORDS and text == "[":  # a=([KEY]=value)
        return WordAlternative(alt.role, alt.target, WordShape.INDEX)
    if text in _BEGINNINGS:
        return WordAlternative(alt.role, alt.target, WordShape.KEY, text)
    before = text[:-1]
    shape = WordShape.OTHER
    if _is_name(text):
        shape = WordShape.NAME
    elif _is_name(before):
        shape = _shape_after_name(char)
    elif not before:
        shape = _first_shape(char)
    return WordAlternative(alt.role, alt.target, shape)


def _first_shape(char: str) -> WordShape:
    if char == "~":
        return WordShape.TILDE
    return WordShape.DIGITS if char.isascii() and char.isdigit() else WordShape.OTHER


def _shape_after_name(char: str) -> WordShape:
    if _is_letter(char) or (char.isascii() and char.isdigit()):
        return WordShape.NAME
    marks = {"=": WordShape.VALUE_START, "+": WordShape.PLUS, "[": WordShape.INDEX}
    return marks.get(char, WordShape.OTHER)


def _shape_in_value(shape: WordShape, char: str) -> WordShape:
    if char == ":":
        return WordShape.VALUE_START
    if shape is WordShape.VALUE_START and char == "~":
        return WordShape.VALUE_HOME
    return (
        WordShape.VALUE_HOME if shape is WordShape.VALUE_HOME and char != "/" else WordShape.VALUE
    )


def append_quoted(alt: WordAlternative) -> WordAlternative:
    """Return the alternative after a quoted part or an expansion."""
    if alt.shape in VALUE_SHAPES:
        return alt._replace(shape=WordShape.VALUE)
    if alt.shape is WordShape.INDEX:
        return alt
    return WordAlternative(alt.role, alt.target, WordShape.OTHER)


def append_placeholder(alt: WordAlternative) -> WordAlternative:
    """Return the alternative after a value, which is quoted unless it is a word by itself."""
    if alt.shape is WordShape.NONE:
        return alt._replace(shape=WordShape.LONE)
    named = alt.shape in (WordShape.NAME, WordShape.LONE, WordShape.HOLED) or _is_name(alt.text)
    return WordAlternative(alt.role, alt.target, WordShape.HOLED) if named else append_quoted(alt)


def finish_word(
    alt: WordAlternative, *, in_case: bool
) -> tuple[WordEndAction, tuple[WordAlternative, ...]]:
    """Return the alternatives after the word; both if its expression may give no word."""
    if alt.shape is WordShape.NONE:
        return WordEndAction.NONE, (alt,)
    if alt.target:
        spot = WordRole.PREFIX if alt.role is WordRole.START else alt.role
        return WordEndAction.NONE, (WordAlternative(spot),)
    key = alt.text if alt.shape is WordShape.KEY else ""
    if alt.role is WordRole.START and key == "case":
        return WordEndAction.OPEN_CASE, (WordAlternative(WordRole.START),)
    if key == "esac" and in_case and alt.role in (WordRole.START, WordRole.PATTERN):
        return WordEndAction.CLOSE_CASE, ()
    after = WordAlternative(_next_role(alt, key))
    if alt.shape is WordShape.LONE and alt.role in COMMAND_ROLES:
        return WordEndAction.NONE, (after, WordAlternative(alt.role))
    return WordEndAction.NONE, (after,)


_ROLE_AFTER = {
    WordRole.NAME: WordRole.IN,
    WordRole.FUNCTION: WordRole.START,
    WordRole.CASE: WordRole.CASE_IN,
    WordRole.CASE_IN: WordRole.PATTERN,
    WordRole.PATTERN: WordRole.PATTERNS,
    WordRole.TEST_NAME: WordRole.TEST,
}
_ROLE_AFTER_KEYWORD = {
    "for": WordRole.NAME,
    "select": WordRole.NAME,
    "function": WordRole.FUNCTION,
    "[[": WordRole.TEST,
}


def _next_role(alt: WordAlternative, key: str) -> WordRole:
    spot = alt.role
    if spot is WordRole.START and key:
        if key in _COMMAND_FOLLOWS:
            return WordRole.START
        if key in _ROLE_AFTER_KEYWORD:
            return _ROLE_AFTER_KEYWORD[key]
    if spot in COMMAND_ROLES:
        return WordRole.PREFIX if alt.shape in VALUE_SHAPES else WordRole.ARGS
    if spot is WordRole.IN:
        return WordRole.START if key == "do" else WordRole.ARGS
    if spot in TEST_ROLES:
        if key == "]]":
            return WordRole.START
        if key in NUMERIC_OPERATORS:
            return WordRole.TEST_NUMBER
        if key in ("-v", "-R") and spot is WordRole.TEST:
            return WordRole.TEST_NAME
    return _ROLE_AFTER.get(spot, spot)


def role_after_line(spot: WordRole) -> WordRole:
    """Return the role of the first word of the next line."""
    return WordRole.START if spot in (WordRole.START, WordRole.PREFIX, WordRole.ARGS) else spot


def role_after_command(spot: WordRole) -> WordRole:
    """Return the role of the word after `;`, `&`, `|`, `&&` or `||`."""
    if spot in TEST_ROLES:
        return WordRole.TEST
    if spot in (WordRole.PATTERN, WordRole.PATTERNS):
        return WordRole.PATTERNS
    return spot if spot in (WordRole.WORDS, WordRole.CASE, WordRole.CASE_IN) else WordRole.START
