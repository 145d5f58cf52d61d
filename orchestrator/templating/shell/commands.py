"""The part of the lexer for commands: words, operators, parentheses, `case` and redirections.

Here-documents are followed up to their announcement.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.templating.shell.lexer_state import (
    COMMAND_KINDS,
    UNIT_KINDS,
    FrameKind,
    HereDocument,
    LexerFrame,
    UnsafeShellError,
)
from orchestrator.templating.shell.word_state import (
    COMMAND_ROLES,
    NUMERIC_OPERATORS,
    RESERVED_WORDS,
    TEST_ROLES,
    RedirectTarget,
    WordAlternative,
    WordEndAction,
    WordRole,
    WordShape,
    append_char,
    append_quoted,
    finish_word,
    role_after_command,
    role_after_line,
)

if TYPE_CHECKING:
    from orchestrator.templating.shell.lexer import ShellLexer


def end_word(lexer: ShellLexer, i: int, *, descriptor: bool = False) -> None:
    """End the word before a character.

    ``descriptor``: digits right before it are a file descriptor, not a word (``2>``).
    """
    frame = lexer.state.top
    if frame.kind is FrameKind.PARENS:
        return
    _doubt_case_keyword(lexer, i)
    alts: set[WordAlternative] = set()
    actions: set[WordEndAction] = set()
    for alt in frame.alternatives:
        if descriptor and alt.shape is WordShape.DIGITS:
            alts.add(WordAlternative(alt.role, alt.target))
            continue
        action, after = finish_word(alt, in_case=frame.kind is FrameKind.CASE)
        if alt.role in TEST_ROLES and alt.text in NUMERIC_OPERATORS and alt.shape is WordShape.KEY:
            for index in lexer.state.operands:
                lexer.placeholders[index].integer = True
        actions.add(action)
        alts.update(after)
    if len(actions) > 1:
        what = "whether this is the keyword `case` or `esac` depends on what is inserted before it"
        raise UnsafeShellError(what, lexer.offset_of(i), "put the keyword on a line of its own")
    if WordEndAction.CLOSE_CASE in actions:
        lexer.pop()
        return
    frame.alternatives = frozenset(alts)
    if alts == {WordAlternative(WordRole.START)}:
        frame.command_start = lexer.offset_of(i)
    if WordEndAction.OPEN_CASE in actions:
        lexer.push(FrameKind.CASE, i).alternatives = frozenset({WordAlternative(WordRole.CASE)})


def _doubt_case_keyword(lexer: ShellLexer, i: int) -> None:
    """Note a doubt for a ``case`` or ``esac`` that bash before 5.2 may take for an argument.

    This happens in substitutions (tested with bash 4.2 to 5.1); bash then takes the wrong ``)`` for
    the end.
    """
    frame, state = lexer.state.top, lexer.state
    words = {alt.text for alt in frame.alternatives if alt.shape is WordShape.KEY}
    fresh, frame.fresh = frame.fresh, frame.fresh and frame.alternatives <= _BETWEEN_COMMANDS
    if not words & {"case", "esac"} or not state.is_in_substitution():
        return
    substitutions = [f for f in state.frames if f.kind is FrameKind.SUBSTITUTION]
    first = frame is substitutions[-1] and fresh
    if words == {"case"} and first and not (frame.process and len(substitutions) > 1):
        return
    if words == {"esac"} and frame.kind is FrameKind.CASE and _may_end_case(frame):
        return
    lexer.note_doubt(
        "a `case` in `$(…)`",
        i,
        "which bash before 5.2 does not parse in every position",
        "move the `case` into a function before it, and call that in the `$(…)`",
    )


_BETWEEN_COMMANDS = frozenset({WordAlternative(WordRole.START)})


def _may_end_case(frame: LexerFrame) -> bool:
    return {alt.role for alt in frame.alternatives} <= {WordRole.START, WordRole.PATTERN}


def begin_command(lexer: ShellLexer, i: int, *, tests: bool) -> None:
    """Begin another command at ``i``, after an operator. ``tests``: in ``[[ ]]`` a test."""
    lexer.state.operands = frozenset()
    top = lexer.state.top
    spots = {
        role_after_command(a.role) if tests or a.role not in TEST_ROLES else WordRole.START
        for a in top.alternatives
    }
    top.alternatives, top.command_start = (
        frozenset(WordAlternative(spot) for spot in spots),
        lexer.offset_of(i),
    )


def begin_documents(lexer: ShellLexer, documents: tuple[HereDocument, ...], i: int) -> None:
    """Begin the first of the here-documents, if there are any."""
    if documents:
        frame = lexer.push(FrameKind.DOCUMENT, i)
        frame.document, frame.rest = documents[0], documents[1:]


def open_parenthesis(lexer: ShellLexer, i: int) -> int:
    """Pass a ``(``."""
    state, text = lexer.state, lexer.text
    top = state.top
    if state.lone:
        raise UnsafeShellError(
            "an expression right before `(`", lexer.offset_of(i), "put a blank between them"
        )
    if top.kind is FrameKind.PARENS:
        lexer.push(FrameKind.PARENS, i)
        return i + 1
    _end_reserved_word(lexer, i)
    top = state.top
    between = {alt.shape is WordShape.NONE for alt in top.alternatives}
    spots = {alt.role for alt in top.alternatives}
    j = lexer.skip_continuations(i + 1)
    lexer.end = "(" if j >= len(text) else ""
    if between == {False}:
        return _open_inside_word(lexer, i)
    if between == {True} and spots <= {WordRole.PATTERN}:
        top.alternatives = frozenset({WordAlternative(WordRole.PATTERNS)})
        return i + 1
    if between == {True} and spots <= set(TEST_ROLES):
        lexer.push(FrameKind.PARENS, i)
        return i + 1
    if between == {True} and not spots & {WordRole.PATTERN, *TEST_ROLES}:
        return _open_group(lexer, i, j, spots)
    what = "what `(` means here depends on what is inserted before it"
    raise UnsafeShellError(what, lexer.offset_of(i), "put it on a line of its own")


def _end_reserved_word(lexer: ShellLexer, i: int) -> None:
    """End a reserved word before a parenthesis: after ``if(``, ``in(``, ``!(`` a command begins."""
    alts = lexer.state.top.alternatives
    words = {alt.text for alt in alts if alt.shape is WordShape.KEY}
    are_command_roles = {alt.role for alt in alts} <= {WordRole.START, WordRole.CASE_IN}
    if len(words) == len(alts) and words <= RESERVED_WORDS and are_command_roles:
        if "!" in words:
            lexer.note_doubt("`!(`", i)  # a pattern in bash if extglob is set
        end_word(lexer, i)


def _open_group(lexer: ShellLexer, i: int, j: int, spots: set[WordRole]) -> int:
    top = lexer.state.top
    top.alternatives = frozenset({WordAlternative(WordRole.START)})
    if lexer.text[j : j + 1] != "(":
        lexer.push(FrameKind.GROUP, i)
        return i + 1
    if not spots <= {WordRole.START, WordRole.NAME}:
        lexer.note_doubt("`((` where no command begins", i)
    frame = lexer.push(FrameKind.ARITHMETIC, i)
    frame.depth, frame.command = 2, True
    return j + 1


_FUNCTION = lazy_regex(r"\([ \t]*\)")


def _open_inside_word(lexer: ShellLexer, i: int) -> int:
    """Pass ``name()``, ``name=(`` or a pattern such as ``@(a|b)``."""
    top, text = lexer.state.top, lexer.text
    before = text[i - 1 : i] if i else ""
    found = _FUNCTION.match(text, i)
    if found and before not in ("@", "?", "*", "+", "!", "="):
        top.alternatives = frozenset({WordAlternative(WordRole.START)})
        return found.end()
    if before == "=" and all(alt.shape is WordShape.VALUE_START for alt in top.alternatives):
        lexer.push(FrameKind.ARRAY, i).alternatives = frozenset({WordAlternative(WordRole.WORDS)})
        return i + 1
    top.alternatives = frozenset(append_quoted(alt) for alt in top.alternatives)
    lexer.push(FrameKind.PARENS, i)
    return i + 1


def close_parenthesis(lexer: ShellLexer, i: int) -> int:
    """Pass a ``)``; the word before it has ended."""
    state = lexer.state
    top = state.top
    if top.kind is FrameKind.CASE:
        spots = {alt.role for alt in top.alternatives}
        if spots <= {WordRole.PATTERN, WordRole.PATTERNS}:
            top.alternatives, top.command_start = (
                frozenset({WordAlternative(WordRole.START)}),
                lexer.offset_of(i + 1),
            )
            return i + 1
    elif top.kind is not FrameKind.TOP:
        if top.kind is FrameKind.SUBSTITUTION and top.pending:
            lexer.note_doubt("a here-document that begins after its `$(…)`", i)
        lexer.pop()
        return i + 1
    lexer.note_doubt("a `)` without a `(`", i)
    return i + 1


_MAX_DELIMITER_CHARS = 200
_DELIMITER = lazy_regex(
    r"""(?:[^\s'"\\$`;&|<>()]|\\[^\n]|'[^'\n]*'|"[^"$`\\\n]*")+(?=[\s;&|<>()]|\Z)"""
)


def lex_redirection(lexer: ShellLexer, i: int, char: str) -> int:
    """Pass a ``<`` or ``>`` and the rest of its operator."""
    for index in lexer.state.lone:
        lexer.placeholders[index].bare = False  # unquoted digits would be a file descriptor
    text, j = lexer.text, lexer.skip_continuations(i + 1)
    following = text[j : j + 1]
    end_word(lexer, i, descriptor=following != "(")
    top = lexer.state.top
    if following == "(":
        top.alternatives = frozenset(append_quoted(alt) for alt in top.alternatives)
        frame = lexer.push(FrameKind.SUBSTITUTION, i)
        frame.command_start, frame.process = lexer.offset_of(j + 1), True
        return j + 1
    if char == "<" and following == "<":
        k = lexer.skip_continuations(j + 1)
        if text[k : k + 1] != "<":
            strip = text[k : k + 1] == "-"
            return _announce_document(lexer, k + 1 if strip else j + 1, i, strip=strip)
        j = k
    in_test = all(alt.role in TEST_ROLES for alt in top.alternatives)
    if not in_test:
        target = RedirectTarget.COPY if following == "&" else RedirectTarget.FILE
        top.alternatives = frozenset(WordAlternative(alt.role, target) for alt in top.alternatives)
    if following and following in ("<>&" if char == "<" else ">&|"):
        return j + 1
    lexer.end = char if j >= len(text) else ""
    return i + 1


def _announce_document(lexer: ShellLexer, i: int, opened: int, *, strip: bool) -> int:
    """Note the here-document announced here; its delimiter follows after optional blanks."""
    text, state = lexer.text, lexer.state
    j = lexer.skip_continuations(i)
    while text[j : j + 1] in (" ", "\t"):
        j = lexer.skip_continuations(j + 1)
    if j >= len(text):
        lexer.end = "<<"
        return len(text)
    found = _DELIMITER.match(text, j)
    if not found:
        lexer.note_doubt("a here-document's delimiter that is no plain word", opened)
        return j
    word = found.group()
    inside = any(frame.kind is FrameKind.SUBSTITUTION for frame in state.frames)
    delimiter = re.sub(r"\\(.)|['\"]", r"\1", word)
    document = HereDocument(
        delimiter, any(c in word for c in "\\'\""), strip, inside, lexer.offset_of(opened)
    )
    unit, top = state.innermost_unit(), state.top
    if inside and unit.pending:
        what = "a second here-document on a line in `$(…)`"
        why = "whose end bash before 5.2 does not find"
        lexer.note_doubt(what, opened, why, "put the commands on lines of their own")
    if len(unit.pending) >= _MAX_DELIMITER_CHARS:
        raise UnsafeShellError(
            f"more than {_MAX_DELIMITER_CHARS} here-documents on one line", lexer.offset_of(i)
        )
    unit.pending += (document,)
    top.alternatives = frozenset(
        WordAlternative(WordRole.PREFIX if alt.role is WordRole.START else alt.role)
        for alt in top.alternatives
    )
    lexer.end = "delimiter" if found.end() == len(text) else ""
    return found.end()


def lex_both_streams(lexer: ShellLexer, j: int) -> int:
    """Pass ``&>``: both streams in bash; in dash the end of the command, and a redirection."""
    top = lexer.state.top
    spots = {alt.role for alt in top.alternatives}
    spots |= {role_after_command(spot) for spot in spots}
    top.alternatives = frozenset(WordAlternative(spot, RedirectTarget.FILE) for spot in spots)
    k = lexer.skip_continuations(j + 1)
    lexer.end = "&>" if k >= len(lexer.text) else ""
    return k + 1 if lexer.text[k : k + 1] == ">" else j + 1


_OPERATOR_CONTINUATIONS = {
    "<": "<>&(",
    ">": ">&|(",
    "&": "&>",
    "&>": ">",
    "|": "|&",
    ";": ";&",
    ";;": "&",
    "(": "(",
}
_WORD_ENDS = " \t\n;&|<>()"
_PLAIN = lazy_regex(r"[^\s\\'\"`$#;&|<>()=]+")


def lex_command(lexer: ShellLexer, i: int) -> int:
    """Pass the next token in commands or in a pattern's parentheses."""
    char = lexer.text[i]
    if char in " \t":
        end_word(lexer, i)
        return i + 1
    if char == "\n":
        return _lex_newline(lexer, i)
    if char in ";&|<>()":
        return _lex_operator(lexer, i)
    if char == "#" and _lex_comment(lexer, i):
        return i + 1
    if char == "\\" and lexer.text[i + 1 : i + 2] == "\n":
        return i + 2
    continue_word(lexer)
    if char in "\\'\"`$":
        return _lex_quote(lexer, i)
    return _lex_word_char(lexer, i)


def continue_word(lexer: ShellLexer) -> None:
    """Continue the word: a value that ends right here is not a word by itself."""
    for index in lexer.state.lone:
        lexer.placeholders[index].alone = False


def _lex_quote(lexer: ShellLexer, i: int) -> int:
    char, top = lexer.text[i], lexer.state.top
    top.alternatives = frozenset(append_quoted(alt) for alt in top.alternatives)
    if char == "\\":
        inside = any(frame.kind is FrameKind.SUBSTITUTION for frame in lexer.state.frames)
        if top.kind is FrameKind.ARRAY and inside:  # bash 5.2 and 5.3 ignore it
            what = "a backslash in an array in `$(…)`"
            lexer.note_doubt(what, i, "which bash 5.2 and 5.3 ignore", "write quotes instead")
        return lexer.pass_escape(i)
    if char == "$":
        return lexer.pass_dollar(i)
    lexer.push({"'": FrameKind.SINGLE, '"': FrameKind.DOUBLE, "`": FrameKind.BACKTICK}[char], i)
    return i + 1


def _lex_word_char(lexer: ShellLexer, i: int) -> int:
    char, top = lexer.text[i], lexer.state.top
    for alt in top.alternatives:
        named = alt.shape in (WordShape.LONE, WordShape.HOLED) and alt.role in COMMAND_ROLES
        if char == "=" and named and not alt.target:
            hint = "write the name itself, or pass it to `env`: `env {{ name }}={{ x }} …`"
            raise UnsafeShellError(
                "an expression in an assignment's name", lexer.offset_of(i), hint
            )
    if top.alternatives == {
        WordAlternative(alt.role, alt.target, WordShape.OTHER) for alt in top.alternatives
    } and (found := _PLAIN.match(lexer.text, i)):
        return found.end()
    top.alternatives = frozenset(append_char(alt, char) for alt in top.alternatives)
    return i + 1


def _lex_comment(lexer: ShellLexer, i: int) -> bool:
    top = lexer.state.top
    if top.kind is FrameKind.PARENS:
        return False
    between = {alt.shape is WordShape.NONE for alt in top.alternatives}
    if len(between) > 1:
        what = "whether `#` begins a comment depends on an `if` or `for`"
        raise UnsafeShellError(what, lexer.offset_of(i), "put a blank before it, or quote it")
    if between == {True}:
        lexer.push(FrameKind.COMMENT, i)
        return True
    return False


def _lex_newline(lexer: ShellLexer, i: int) -> int:
    state = lexer.state
    end_word(lexer, i)
    if state.top.kind is FrameKind.PARENS:
        return i + 1
    state.top.alternatives = frozenset(
        WordAlternative(role_after_line(alt.role)) for alt in state.top.alternatives
    )
    state.top.command_start = lexer.offset_of(i + 1)
    unit = state.innermost_unit()
    if any(f.pending for f in state.frames if f.kind in UNIT_KINDS and f is not unit):
        lexer.note_doubt("a line's end in `$(…)` on the line of a `<<`", i)
    documents, unit.pending = unit.pending, ()
    begin_documents(lexer, documents, i)
    return i + 1


def _lex_operator(lexer: ShellLexer, i: int) -> int:
    char = lexer.text[i]
    if lexer.state.top.kind is FrameKind.ARRAY and char != ")":
        # After this error bash continues on the next line, even in the middle of a value.
        lexer.note_doubt(f"`{char}` in an array", i)
    if char in "<>":
        return lex_redirection(lexer, i, char)
    if char == "(":
        return open_parenthesis(lexer, i)
    end_word(lexer, i)
    if char == ")":
        return close_parenthesis(lexer, i)
    j = lexer.skip_continuations(i + 1)
    two = char + lexer.text[j : j + 1]
    if two == "&>":
        return lex_both_streams(lexer, j)
    if two in (";;", ";&"):
        return _lex_case_item(lexer, i, j)
    double = two in ("&&", "||", "|&")
    begin_command(lexer, j + 1 if double else i + 1, tests=two in ("&&", "||") or char == "|")
    lexer.end = char if j >= len(lexer.text) else ""
    return j + 1 if double else i + 1


def _lex_case_item(lexer: ShellLexer, i: int, j: int) -> int:
    top = lexer.state.top
    if top.kind is FrameKind.CASE:
        top.alternatives = frozenset({WordAlternative(WordRole.PATTERN)})
    else:
        lexer.note_doubt(f"`;{lexer.text[j]}` outside of `case`", i)
        begin_command(lexer, j + 1, tests=False)
    if lexer.text[j] == ";":
        k = lexer.skip_continuations(j + 1)
        lexer.end = ";;" if k >= len(lexer.text) else ""
        if lexer.text[k : k + 1] == "&":
            return k + 1
    return j + 1


def resume_piece(lexer: ShellLexer) -> int:
    """Pass the text that continues the end of the previous piece.

    Raises ``UnsafeShellError`` if a ``{% … %}`` splits an operator.
    """
    text, ends = lexer.text, lexer.state.open_end
    first = text[lexer.skip_continuations(0) : lexer.skip_continuations(0) + 1]
    for end in sorted(ends):
        split = end in ("$", "\\", "<<") or (
            first and first in _OPERATOR_CONTINUATIONS.get(end, "")
        )
        if split or (end == "delimiter" and first not in _WORD_ENDS):
            what = f"`{{% … %}}` right after `{'<<' if end == 'delimiter' else end}`"
            raise UnsafeShellError(what, lexer.offset, "keep what belongs together in one piece")
    if ")" in ends and first != ")":
        lexer.note_doubt("`((` that does not end in `))`", 0)
    inner = lexer.state.top.kind
    if "name" in ends and inner not in (*COMMAND_KINDS, FrameKind.PARENS):
        return lexer.continue_name()
    return 0
