from __future__ import annotations

from pathlib import Path
from typing import Any as Anything

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import DefinitionError, SourcePosition
from orchestrator.model.condition import (
    AllOf,
    AnyOf,
    Condition,
    ConstantCondition,
    ExitStatusCondition,
    NotCondition,
    StepStateCondition,
)
from orchestrator.templating import ResultPending, compile_condition, compile_expression
from tests.support.template_scope import HERE, PlainScope

PENDING = {"a": 1, "b": 2}


def compile_source(source: str, **values: Anything) -> Condition | None:
    scope = PlainScope(later=PENDING, **values)
    return compile_condition(compile_expression(source, HERE), PENDING.get, scope)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a.changed", StepStateCondition(1, "changed")),
        ("a['failed']", StepStateCondition(1, "failed")),
        ("a is skipped", StepStateCondition(1, "skipped")),
        ("a is not changed", NotCondition(StepStateCondition(1, "changed"))),
        ("not (not a.changed)", StepStateCondition(1, "changed")),
        (
            "a.succeeded",
            AllOf(
                (
                    NotCondition(StepStateCondition(1, "failed")),
                    NotCondition(StepStateCondition(1, "skipped")),
                )
            ),
        ),
        ("a.exit_status == 3", ExitStatusCondition(1, "==", 3)),
        ("3 < a.exit_status", ExitStatusCondition(1, ">", 3)),
        ("x <= a.exit_status", ExitStatusCondition(1, ">=", 7)),
        ("a.exit_status != x + 1", ExitStatusCondition(1, "!=", 8)),
        (
            "0 < a.exit_status < 3",
            AllOf((ExitStatusCondition(1, ">", 0), ExitStatusCondition(1, "<", 3))),
        ),
        (
            "a.exit_status in [0, 2]",
            AnyOf((ExitStatusCondition(1, "==", 0), ExitStatusCondition(1, "==", 2))),
        ),
        (
            "a.exit_status not in [0, 2]",
            NotCondition(AnyOf((ExitStatusCondition(1, "==", 0), ExitStatusCondition(1, "==", 2)))),
        ),
        ("a.exit_status in []", ConstantCondition(False)),
        ("a.changed == false", NotCondition(StepStateCondition(1, "changed"))),
        ("true != a.changed", NotCondition(StepStateCondition(1, "changed"))),
        (
            "a.changed or b.changed and x",
            AnyOf((StepStateCondition(1, "changed"), StepStateCondition(2, "changed"))),
        ),
        ("a.changed and b.failed and not yes", ConstantCondition(False)),
        (
            "a.changed and b.failed and yes and a.skipped",
            AllOf(
                (
                    StepStateCondition(1, "changed"),
                    StepStateCondition(2, "failed"),
                    StepStateCondition(1, "skipped"),
                )
            ),
        ),
        ("false and a.stdout", ConstantCondition(False)),
        ("yes or a.stdout", ConstantCondition(True)),
        ("not yes or a.changed", StepStateCondition(1, "changed")),
        ("a.changed or yes", ConstantCondition(True)),
        ("x == 7", ConstantCondition(True)),
        ("not x", ConstantCondition(False)),
        ("true", ConstantCondition(True)),
    ],
)
def test_what_the_host_can_judge_is_compiled_and_the_rest_worked_out(
    source: str, expected: Condition
) -> None:
    assert compile_source(source, x=7, yes=True) == expected


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
    scope = PlainScope(later=["a", "b", "later"], x=[1])
    assert compile_condition(compile_expression(source, HERE), PENDING.get, scope) is None


def test_a_short_cut_leaves_the_rest_alone_and_nothing_else_hides_an_error() -> None:
    assert compile_source("false and nothing") == ConstantCondition(False)
    with pytest.raises(DefinitionError, match="'nothing' is undefined"):
        compile_source("a.changed and nothing")


@pytest.mark.parametrize("text", ["no", "False", "off", "0", " none "])
def test_text_that_says_no_is_an_error_not_true(text: str) -> None:
    with pytest.raises(DefinitionError, match="is text"):
        compile_expression("x", HERE).is_true(PlainScope(x=text))
    with pytest.raises(DefinitionError, match="is text"):
        compile_source("a.changed and x", x=text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("yes", True), ("/srv", True), ("", False), (0, False), ([], False), (None, False), (2, True)],
)
def test_other_values_are_true_if_there_is_anything(value: Anything, expected: bool) -> None:
    assert compile_expression("x", HERE).is_true(PlainScope(x=value)) is expected
    assert compile_expression("x", HERE).value(PlainScope(x=value)) == value


@pytest.mark.parametrize(
    ("source", "what", "column"),
    [
        ("{{ x }}", "invalid template", 1),
        ("x y", "not expected", 3),
        ("", "empty", 1),
        ("x ==", "invalid template", 3),
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
        compile_expression(source, SourcePosition(str(file), 1, 7)).value(PlainScope(x={}))
    (problem,) = caught.value.diagnostics
    assert what in problem.message
    assert problem.mark == SourcePosition(str(file), 1, 6 + column)


QUOTES = "''"


def test_an_expression_waits_for_what_is_to_come() -> None:
    with pytest.raises(ResultPending):
        compile_expression("a.stdout == 'x'", HERE).value(PlainScope(later=["a"]))


def evaluate_condition(of: Condition, results: dict[int, dict[str, Anything]]) -> bool:
    """Return the host's result of a condition."""
    match of:
        case ConstantCondition(value):
            return value
        case StepStateCondition(step, what):
            return bool(results[step][what])
        case ExitStatusCondition(step, op, status):
            found = results[step]["exit_status"]
            if found is None:
                return op == "!="
            signs = {"==": found == status, "!=": found != status, "<": found < status}
            signs |= {"<=": found <= status, ">": found > status, ">=": found >= status}
            return signs[op]
        case NotCondition(inner):
            return not evaluate_condition(inner, results)
        case AllOf(parts):
            return all(evaluate_condition(part, results) for part in parts)
        case AnyOf(parts):
            return any(evaluate_condition(part, results) for part in parts)


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
def test_the_host_judges_as_jinja_would(
    source: str, a: dict[str, Anything], b: dict[str, Anything]
) -> None:
    known = compile_source(source, yes=True, no=False)
    assert known is not None
    now = compile_expression(source, HERE).is_true(PlainScope(a=a, b=b, yes=True, no=False))
    assert evaluate_condition(known, {1: a, 2: b}) is now
