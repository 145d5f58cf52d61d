"""Where words and commands end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.templating.shelltext.state import Document, Frame, Kind, Refusal
from orchestrator.templating.shelltext.words import (
    NUMERIC,
    TESTS,
    Action,
    Alt,
    Shape,
    Spot,
    after_command,
    finish,
)

if TYPE_CHECKING:
    from orchestrator.templating.shelltext.lexer import Lexer


def end_word(lexer: Lexer, i: int, *, descriptor: bool = False) -> None:
    """End the word before a character. ``descriptor``: digits right here are no word (``2>``)."""
    frame = lexer.state.top
    if frame.kind is Kind.PARENS:
        return
    _only_as_keywords(lexer, i)
    alts: set[Alt] = set()
    actions: set[Action] = set()
    for alt in frame.alts:
        if descriptor and alt.shape is Shape.DIGITS:
            alts.add(Alt(alt.spot, alt.target))
            continue
        action, after = finish(alt, in_case=frame.kind is Kind.CASE)
        if alt.spot in TESTS and alt.text in NUMERIC and alt.shape is Shape.KEY:
            for index in lexer.state.operands:
                lexer.places[index].integer = True
        actions.add(action)
        alts.update(after)
    if len(actions) > 1:
        what = "whether this is the keyword `case` or `esac` depends on what is inserted before it"
        raise Refusal(what, lexer.at(i), "put the keyword on a line of its own")
    if Action.CLOSE_CASE in actions:
        lexer.pop()
        return
    frame.alts = frozenset(alts)
    if alts == {Alt(Spot.START)}:
        frame.begun = lexer.at(i)
    if Action.OPEN_CASE in actions:
        lexer.push(Kind.CASE, i).alts = frozenset({Alt(Spot.CASE)})


def _only_as_keywords(lexer: Lexer, i: int) -> None:
    """Doubt a ``case`` or ``esac`` in a substitution where bash before 5.2 may not tell the
    keyword from an argument (tried, 4.2 to 5.1); then it takes the wrong ``)`` for the end."""
    frame, state = lexer.state.top, lexer.state
    words = {alt.text for alt in frame.alts if alt.shape is Shape.KEY}
    fresh, frame.fresh = frame.fresh, frame.fresh and frame.alts <= _BETWEEN
    if not words & {"case", "esac"} or not state.substituted():
        return
    substitutions = [f for f in state.frames if f.kind is Kind.SUBSTITUTION]
    first = frame is substitutions[-1] and fresh
    if words == {"case"} and first and not (frame.process and len(substitutions) > 1):
        return
    if words == {"esac"} and frame.kind is Kind.CASE and _ends_case(frame):
        return
    lexer.doubt(
        "a `case` in `$(…)`",
        i,
        "which bash before 5.2 does not read in every place",
        "put the `case` into a function before that, and call it in the `$(…)`",
    )


_BETWEEN = frozenset({Alt(Spot.START)})


def _ends_case(frame: Frame) -> bool:
    return {alt.spot for alt in frame.alts} <= {Spot.START, Spot.PATTERN}


def new_command(lexer: Lexer, i: int, *, tests: bool) -> None:
    """Another command begins at ``i``, after an operator. ``tests``: in ``[[ ]]`` a test."""
    lexer.state.operands = frozenset()
    top = lexer.state.top
    spots = {
        after_command(a.spot) if tests or a.spot not in TESTS else Spot.START for a in top.alts
    }
    top.alts, top.begun = frozenset(Alt(spot) for spot in spots), lexer.at(i)


def read_documents(lexer: Lexer, documents: tuple[Document, ...], i: int) -> None:
    """Begin the first of the here-documents, if there are any."""
    if documents:
        frame = lexer.push(Kind.DOCUMENT, i)
        frame.document, frame.rest = documents[0], documents[1:]
