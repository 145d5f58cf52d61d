from __future__ import annotations

from pathlib import Path
from typing import Any as Anything

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import DefinitionError, Mark
from orchestrator.model.condition import All, Always, Any, Condition, Exit, Is, Not
from orchestrator.templating import Waits, condition, expression
from tests.templating.support import HERE, Names

PENDING = {"a": 1, "b": 2}


def compiled(source: str, **values: Anything) -> Condition | None:
    scope = Names(later=PENDING, **values)
    return condition(expression(source, HERE), PENDING.get, scope)


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("a.changed", Is(1, "changed")),
        ("a['failed']", Is(1, "failed")),
        ("a is skipped", Is(1, "skipped")),
        ("a is not changed", Not(Is(1, "changed"))),
        ("not (not a.changed)", Is(1, "changed")),
        ("a.succeeded", All((Not(Is(1, "failed")), Not(Is(1, "skipped"))))),
        ("a.exit_status == 3", Exit(1, "==", 3)),
        ("3 < a.exit_status", Exit(1, ">", 3)),
        ("x <= a.exit_status", Exit(1, ">=", 7)),
        ("a.exit_status != x + 1", Exit(1, "!=", 8)),
        ("0 < a.exit_status < 3", All((Exit(1, ">", 0), Exit(1, "<", 3)))),
        ("a.exit_status in [0, 2]", Any((Exit(1, "==", 0), Exit(1, "==", 2)))),
        ("a.exit_status not in [0, 2]", Not(Any((Exit(1, "==", 0), Exit(1, "==", 2))))),
        ("a.exit_status in []", Always(False)),
        ("a.changed == false", Not(Is(1, "changed"))),
        ("true != a.changed", Not(Is(1, "changed"))),
        ("a.changed or b.changed and x", Any((Is(1, "changed"), Is(2, "changed")))),
        ("a.changed and b.failed and not yes", Always(False)),
        (
            "a.changed and b.failed and yes and a.skipped",
            All((Is(1, "changed"), Is(2, "failed"), Is(1, "skipped"))),
        ),
        ("false and a.stdout", Always(False)),
        ("yes or a.stdout", Always(True)),
        ("not yes or a.changed", Is(1, "changed")),
        ("a.changed or yes", Always(True)),
        ("x == 7", Always(True)),
        ("not x", Always(False)),
        ("true", Always(True)),
    ],
)
def test_what_the_host_can_judge_is_compiled_and_the_rest_worked_out(
    source: str, wanted: Condition
) -> None:
    assert compiled(source, x=7, yes=True) == wanted


@pytest.mark.parametrize(
    "source",
    [
        "a.stdout",
        "a",
        "'x' in a.stdout",
        "a.exit_status",
        "a.exit_status == 'x'",
        "a.exit_status == b.exit_status",
        "a.exit_status + 1 == 2",
        "a.changed and b.stdout",
        "(a if x else b).changed",
        "a.changed | bool",
        "x[a.exit_status]",
        "a.changed == 1",
        "later.changed",
    ],
)
def test_what_needs_more_of_a_result_is_not_compiled(source: str) -> None:
    scope = Names(later=["a", "b", "later"], x=[1])
    assert condition(expression(source, HERE), PENDING.get, scope) is None


def test_a_short_cut_leaves_the_rest_alone_and_nothing_else_hides_an_error() -> None:
    assert compiled("false and nothing") == Always(False)
    with pytest.raises(DefinitionError, match="'nothing' is undefined"):
        compiled("a.changed and nothing")


@pytest.mark.parametrize("text", ["no", "False", "off", "0", " none "])
def test_text_that_says_no_is_an_error_not_true(text: str) -> None:
    with pytest.raises(DefinitionError, match="is text"):
        expression("x", HERE).holds(Names(x=text))
    with pytest.raises(DefinitionError, match="is text"):
        compiled("a.changed and x", x=text)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("yes", True), ("/srv", True), ("", False), (0, False), ([], False), (None, False), (2, True)],
)
def test_other_values_are_true_if_there_is_anything(value: Anything, wanted: bool) -> None:
    assert expression("x", HERE).holds(Names(x=value)) is wanted
    assert expression("x", HERE).value(Names(x=value)) == value


@pytest.mark.parametrize(
    ("source", "what", "column"),
    [
        ("{{ x }}", "no template", 1),
        ("x y", "not expected", 3),
        ("", "empty", 1),
        ("x ==", "no template", 3),
        ("y.z", "'y' is undefined", 1),
        ("x.z", "'x.z' is undefined", 3),
        ("x | raw", "for commands", 5),
        ("x | wat", "no filter 'wat'", 5),
    ],
)
def test_an_expression_in_error_is_refused_at_its_place(
    source: str, what: str, column: int, tmp_path: Path
) -> None:
    file = tmp_path / "a.yml"
    file.write_text(f"when: {source or QUOTES}\n")
    with pytest.raises(DefinitionError) as caught:
        expression(source, Mark(str(file), 1, 7)).value(Names(x={}))
    (problem,) = caught.value.problems
    assert what in problem.what
    assert problem.mark == Mark(str(file), 1, 6 + column)


QUOTES = "''"


def test_an_expression_waits_for_what_is_to_come() -> None:
    with pytest.raises(Waits):
        expression("a.stdout == 'x'", HERE).value(Names(later=["a"]))


def judged(of: Condition, results: dict[int, dict[str, Anything]]) -> bool:
    """What a host makes of a condition."""
    match of:
        case Always(value):
            return value
        case Is(step, what):
            return bool(results[step][what])
        case Exit(step, op, status):
            found = results[step]["exit_status"]
            if found is None:
                return op == "!="
            signs = {"==": found == status, "!=": found != status, "<": found < status}
            signs |= {"<=": found <= status, ">": found > status, ">=": found >= status}
            return signs[op]
        case Not(inner):
            return not judged(inner, results)
        case All(parts):
            return all(judged(part, results) for part in parts)
        case Any(parts):
            return any(judged(part, results) for part in parts)


results = st.fixed_dictionaries(
    {
        "changed": st.booleans(),
        "failed": st.booleans(),
        "skipped": st.booleans(),
        "exit_status": st.integers(0, 3),
    }
)
leaves = st.sampled_from(
    (
        "a.changed",
        "b.failed",
        "a is skipped",
        "a.exit_status == 1",
        "2 > b.exit_status",
        "a.exit_status in [0, 3]",
        "b.changed != true",
        "yes",
        "no",
        "true",
        "1 == 2",
    )
)
sources = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.map("not ({})".format),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}) and ({two[1]})"),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}) or ({two[1]})"),
    ),
)


@given(source=sources, a=results, b=results)
@settings(deadline=None)
def test_the_host_judges_as_jinja_would(
    source: str, a: dict[str, Anything], b: dict[str, Anything]
) -> None:
    known = compiled(source, yes=True, no=False)
    assert known is not None
    now = expression(source, HERE).holds(Names(a=a, b=b, yes=True, no=False))
    assert judged(known, {1: a, 2: b}) is now
