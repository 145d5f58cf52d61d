"""Placeholders: the contexts of expressions in a command, and the values allowed there."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field
from msgspec.structs import asdict

from orchestrator.model.charsets import NO_BYTES, may_swallow
from orchestrator.templating.shell import heredoc
from orchestrator.templating.shell.lexer_state import (
    COMMAND_KINDS,
    FrameKind,
    HereDocument,
    UnsafeShellError,
)
from orchestrator.templating.shell.word_state import (
    COMMAND_ROLES,
    TEST_ROLES,
    RedirectTarget,
    WordAlternative,
    WordRole,
    WordShape,
    append_placeholder,
)

if TYPE_CHECKING:
    from orchestrator.templating.shell.lexer import ShellLexer


class QuotingContext(Enum):
    """The rules by which a value is quoted."""

    WORD = auto()
    DOUBLE = auto()
    SINGLE = auto()
    DOCUMENT = auto()
    VERBATIM = auto()
    ARITHMETIC = auto()


class Placeholder(Struct):
    """The context of one expression.

    ``filter``: raw, words or ''. ``alone``: its word contains nothing else. ``single``: it must be
    exactly one word. ``bare``: a harmless value may be unquoted. ``first``: it may be a command's
    name. ``descriptor``: it is the file descriptor to copy. ``integer``: the shell calculates with
    it. ``documents``: the here-documents around it, outermost first. ``sources``: the scope's names
    that it is made of. ``command_start``: the offset of the command around it. ``wide``: the bytes
    before it may begin a multi-byte character; ``joined``: the text after it may continue one.
    ``declared``: the builtin that would take a value in parentheses for an array, or ''. ``lossy``:
    bash may lose or double the characters that it uses to mark quoted characters.
    """

    offset: int
    filter: str = ""
    context: QuotingContext = QuotingContext.WORD
    alone: bool = True
    single: bool = False
    bare: bool = True
    first: bool = False
    descriptor: bool = False
    integer: bool = False
    documents: tuple[HereDocument, ...] = field(default=())
    sources: frozenset[str] = frozenset()
    command_start: int = 0
    wide: bool = False
    joined: bool = False
    declared: str = ""
    lossy: bool = False

    def to_plain(self) -> dict[str, Any]:
        """Return all fields as plain data."""
        documents = [asdict(document) for document in self.documents]
        return asdict(self) | {"context": self.context.value, "documents": documents}

    @property
    def joins_lines(self) -> bool:
        """Return True if bash removes backslash-newline here before it parses quotes."""
        return any(not document.quoted for document in self.documents)


def restore_placeholder(plain: dict[str, Any]) -> Placeholder:
    """Return the placeholder of which ``to_plain`` returned this."""
    context, documents = QuotingContext(plain["context"]), plain["documents"]
    return Placeholder(
        **plain
        | {"context": context, "documents": tuple(HereDocument(**each) for each in documents)}
    )


_FORBIDDEN_FRAMES = {
    FrameKind.DOLLAR_SINGLE: ("inside `$'…'`", "use `'…'`: it may contain newlines"),
    FrameKind.BACKTICK: ("inside backticks", "write `$(…)`"),
    FrameKind.BRACE: ("inside `${…}`", "assign the value to a variable first: `x={{ … }}`"),
    FrameKind.COMMENT: ("in a comment", "move the comment out of the command, into the YAML"),
    FrameKind.PARENS: ("inside a pattern's parentheses", "assign the value to a variable first"),
}
_FORBIDDEN_ENDINGS = {
    "$": ("right after `$`", "for a dollar sign write `\\$`; a variable's name cannot be inserted"),
    "\\": ("right after a backslash", "for a backslash itself write `\\\\`"),
    ")": ("right after a `)` in arithmetic", "put a blank or `)` before it"),
    "<<": ("as a here-document's delimiter", "write the delimiter itself"),
    "delimiter": ("in a here-document's delimiter", "write the delimiter itself"),
}


def add_placeholder(lexer: ShellLexer, index: int) -> None:
    """Pass an expression in the lexer, and record the context of its placeholder.

    Raises ``UnsafeShellError`` if no value is allowed there. May be called again for the same
    placeholder, because loops are lexed until nothing changes.
    """
    state, placeholder = lexer.state, lexer.placeholders[index]
    _check_placeholder(lexer, placeholder)
    placeholder.context = _quoting_context(lexer, index)
    placeholder.integer |= placeholder.context is QuotingContext.ARITHMETIC
    enclosing = state.enclosing_commands()
    placeholder.command_start = enclosing.command_start if enclosing else placeholder.offset
    placeholder.documents = tuple(f.document for f in state.open_documents() if f.document)
    kinds = [frame.kind for frame in state.frames]
    if FrameKind.ARRAY in kinds:  # tested with bash 5.2: a here-document or array inside it
        placeholder.lossy = FrameKind.SUBSTITUTION in kinds[kinds.index(FrameKind.ARRAY) :]
    if state.top.kind in COMMAND_KINDS:
        _note_word(lexer, index)
    elif placeholder.filter:
        what = f"`{placeholder.filter}` inside {state.top.kind.value}"
        hint = "remove it: the value is quoted for its context"
        raise UnsafeShellError(what, placeholder.offset, hint)
    _check_enclosing_word(lexer, index)
    for frame in state.open_documents():
        heredoc.mark_line_dynamic(frame)
    _note_bytes(lexer, index)
    state.open_end = frozenset({""})


def _check_placeholder(lexer: ShellLexer, placeholder: Placeholder) -> None:
    state = lexer.state
    for frame in state.frames:
        if frame.kind in _FORBIDDEN_FRAMES:
            what, hint = _FORBIDDEN_FRAMES[frame.kind]
            raise UnsafeShellError(f"an expression {what}", placeholder.offset, hint)
    for end, (what, hint) in _FORBIDDEN_ENDINGS.items():
        if end in state.open_end:
            raise UnsafeShellError(f"an expression {what}", placeholder.offset, hint)
    if "name" in state.open_end and state.top.kind in (FrameKind.DOUBLE, FrameKind.DOCUMENT):
        what = "an expression right after a variable's name, which the value would extend"
        raise UnsafeShellError(what, placeholder.offset, "write the variable as `${name}`")
    if state.doubt:
        what = f"an expression after {state.doubt.what}, {state.doubt.why}"
        raise UnsafeShellError(what, placeholder.offset, state.doubt.hint)
    inside = state.top.kind is FrameKind.DOCUMENT
    if not inside and any(may_swallow(unfinished, "'") for unfinished in state.unfinished):
        what = (
            "an expression right after a non-ASCII character and a digit, where bash may "
            "not see the quote of the value in locales such as GB18030"
        )
        pair = "''" if state.top.kind is FrameKind.SINGLE else '""'
        raise UnsafeShellError(what, placeholder.offset, f"write `{pair}` before the digit")


def _note_bytes(lexer: ShellLexer, index: int) -> None:
    """Record how multi-byte locales may read a value and the text around it."""
    state, placeholder = lexer.state, lexer.placeholders[index]
    placeholder.wide |= bool(state.ends) or state.unfinished != {NO_BYTES}
    for other in state.ends:
        lexer.placeholders[other].joined = True
    keeps = placeholder.context in (
        QuotingContext.SINGLE,
        QuotingContext.DOCUMENT,
    )  # otherwise its last byte is a quote
    state.ends = frozenset({index}) if keeps else frozenset()
    state.unfinished = frozenset({NO_BYTES})


def _quoting_context(lexer: ShellLexer, index: int) -> QuotingContext:
    state = lexer.state
    top = state.top
    if top.kind is FrameKind.DOCUMENT:
        assert top.document
        if top.document.quoted and any(
            not f.document.quoted for f in state.open_documents() if f.document
        ):
            what = "an expression in a quoted here-document inside another, which joins its lines"
            raise UnsafeShellError(
                what, lexer.placeholders[index].offset, "write the delimiter without quotes"
            )
        return QuotingContext.VERBATIM if top.document.quoted else QuotingContext.DOCUMENT
    return {
        FrameKind.DOUBLE: QuotingContext.DOUBLE,
        FrameKind.SINGLE: QuotingContext.SINGLE,
        FrameKind.ARITHMETIC: QuotingContext.ARITHMETIC,
    }.get(top.kind, QuotingContext.WORD)


def _note_word(lexer: ShellLexer, index: int) -> None:
    state, placeholder = lexer.state, lexer.placeholders[index]
    top = state.top
    for other in state.lone:
        lexer.placeholders[other].alone = False
    placeholder.alone &= all(alt.shape is WordShape.NONE for alt in top.alternatives)
    for alt in top.alternatives:
        _refuse_shape(alt, placeholder)
        placeholder.single |= bool(alt.target) or alt.role in _ONE_WORD_ROLES
        placeholder.bare &= alt.role not in TEST_ROLES
        placeholder.first |= alt.role in COMMAND_ROLES and not alt.target
    state.lone = frozenset({index})
    if placeholder.filter:
        _check_verbatim(lexer, placeholder)
    else:
        top.alternatives = frozenset(append_placeholder(alt) for alt in top.alternatives)


_ONE_WORD_ROLES = (WordRole.CASE, WordRole.PATTERN, WordRole.PATTERNS, *TEST_ROLES)
_FORBIDDEN_ROLES = {
    WordRole.NAME: "as a loop's variable",
    WordRole.IN: "instead of `in`",
    WordRole.CASE_IN: "instead of `in`",
    WordRole.FUNCTION: "as a function's name",
}


def _refuse_shape(alt: WordAlternative, placeholder: Placeholder) -> None:
    if alt.role in _FORBIDDEN_ROLES and not alt.target:
        raise UnsafeShellError(
            f"an expression {_FORBIDDEN_ROLES[alt.role]}",
            placeholder.offset,
            "write the word itself",
        )
    if alt.shape in (WordShape.TILDE, WordShape.VALUE_HOME):
        what = "an expression in the name after `~`, whose expansion quoting would disable"
        raise UnsafeShellError(
            what, placeholder.offset, "for the home folder write `~/`, for a `~` itself `\\~`"
        )


def _check_verbatim(lexer: ShellLexer, placeholder: Placeholder) -> None:
    top, words = lexer.state.top, placeholder.filter == "words"
    spots = {alt.role for alt in top.alternatives}
    fit = all(alt.shape is WordShape.NONE and not alt.target for alt in top.alternatives)
    if not fit or not spots <= {WordRole.START, WordRole.PREFIX, WordRole.ARGS, WordRole.WORDS}:
        what = f"`{placeholder.filter}` where it is not a word of a command by itself"
        raise UnsafeShellError(what, placeholder.offset, "put blanks around it")
    if words or top.kind is FrameKind.ARRAY:
        top.alternatives = frozenset(append_placeholder(alt) for alt in top.alternatives)
        return
    spots = {WordRole.START, WordRole.PREFIX, WordRole.ARGS}
    shapes = (WordShape.NONE, WordShape.OTHER)
    top.alternatives = frozenset(
        WordAlternative(spot, RedirectTarget.NONE, shape) for spot in spots for shape in shapes
    )


def _check_enclosing_word(lexer: ShellLexer, index: int) -> None:
    """Record what the surrounding word means for a value, quoted or not."""
    frame, placeholder = lexer.state.enclosing_commands(), lexer.placeholders[index]
    for alt in frame.alternatives if frame else ():
        if alt.shape is WordShape.INDEX:
            what = "an expression in an array's index, which bash evaluates"
            raise UnsafeShellError(
                what, placeholder.offset, "assign the value to a variable first: `i=$(({{ … }}))`"
            )
        if alt.role is WordRole.TEST_NAME:
            what = "an expression as a variable's name, which bash evaluates"
            raise UnsafeShellError(what, placeholder.offset, "write the name itself")
        if alt.target is RedirectTarget.COPY:
            placeholder.descriptor = True
            placeholder.alone &= alt.shape is WordShape.LONE
        placeholder.integer |= alt.role is WordRole.TEST_NUMBER
        if alt.role in TEST_ROLES:
            lexer.state.operands |= {index}
