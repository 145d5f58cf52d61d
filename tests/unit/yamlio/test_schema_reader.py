from __future__ import annotations

from textwrap import dedent

import pytest

from orchestrator.errors import Diagnostic, DiagnosticCollector, SourcePosition
from orchestrator.model.marked_value import MarkedKey, MarkedValue
from orchestrator.yamlio.schema import SchemaReader
from orchestrator.yamlio.yaml_loader import parse_yaml


@pytest.fixture
def read() -> SchemaReader:
    return SchemaReader(DiagnosticCollector())


def read_fields(text: str) -> dict[MarkedKey, MarkedValue]:
    data = parse_yaml(text, "f.yml").data
    assert isinstance(data, dict)
    return data


def read_value(text: str) -> MarkedValue:
    return read_fields(f"k: {text}")["k"]  # type: ignore[index]


def only_problem(read: SchemaReader) -> Diagnostic:
    (problem,) = read.problems.diagnostics
    return problem


def test_unknown_keys_are_named_with_the_nearest_and_the_rest_is_kept(read: SchemaReader) -> None:
    got = read.mapping(parse_yaml("hots: 1\nroles: 2\n", "f"), "role 'x'", {"hosts", "roles"})
    assert {str(k): v.to_plain() for k, v in got.items()} == {"roles": 2}
    problem = only_problem(read)
    assert problem == Diagnostic(
        "unknown key 'hots' in role 'x'", SourcePosition("f", 1, 1), "did you mean 'hosts'?"
    )


def test_a_key_like_no_other_lists_the_known_ones(read: SchemaReader) -> None:
    read.mapping(parse_yaml("zzz: 1", "f"), "x", {"b", "a"})
    assert only_problem(read).hint == "known keys: a, b"


def test_an_absent_or_null_mapping_is_empty_and_a_list_is_wrong(read: SchemaReader) -> None:
    assert read.mapping(None, "vars") == {}
    assert read.mapping(read_value(""), "vars") == {}
    assert not read.problems.diagnostics
    assert read.mapping(read_value("[a]"), "vars") == {}
    assert only_problem(read).message == "vars must be a mapping (name: value), found a list"


def test_text_takes_numbers_as_written_and_refuses_the_rest(read: SchemaReader) -> None:
    assert read.text(read_value("42"), "k") == "42"
    assert read.text(read_value("1.5"), "k") == "1.5"
    assert read.text(read_value("0644"), "k") == "0644"
    assert read.text(None, "k") is None
    assert not read.problems.diagnostics
    for wrong in ("[a]", "{a: 1}", "true", "", "'  '"):
        assert read.text(read_value(wrong), "k") is None
    assert len(read.problems.diagnostics) == 5


@pytest.mark.parametrize("text", ["22", "'22'", "1", "65535"])
def test_integers_within_bounds(read: SchemaReader, text: str) -> None:
    assert read.integer(read_value(text), "port", 1, 65535) == int(text.strip("'"))
    assert not read.problems.diagnostics


@pytest.mark.parametrize("text", ["0", "65536", "-1", "2.5", "true", "abc", "022", "[1]", ""])
def test_integers_out_of_bounds_or_none_at_all_are_problems(read: SchemaReader, text: str) -> None:
    assert read.integer(read_value(text), "port", 1, 65535) is None
    assert only_problem(read).message.startswith("port must be ")


def test_booleans_are_true_and_false_and_yes_is_told_so(read: SchemaReader) -> None:
    assert read.boolean(read_value("true"), "k") is True
    assert read.boolean(read_value("false"), "k") is False
    assert not read.problems.diagnostics
    assert read.boolean(read_value("yes"), "k") is None
    assert only_problem(read).hint == "write true"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10", 10.0),
        ("1.5", 1.5),
        ("250ms", 0.25),
        ("10s", 10),
        ("5m", 300),
        ("1h", 3600),
        ("2d", 172800),
        ("'10'", 10),
        ("0", 0),
    ],
)
def test_durations_are_seconds(read: SchemaReader, text: str, seconds: float) -> None:
    assert read.duration(read_value(text), "timeout") == seconds
    assert not read.problems.diagnostics


@pytest.mark.parametrize("text", ["10x", "-1", "true", "[1]", "1 h", "", "s", "1h30m"])
def test_what_is_no_duration_is_a_problem(read: SchemaReader, text: str) -> None:
    assert read.duration(read_value(text), "timeout") is None
    assert "duration" in only_problem(read).message


def test_string_lists_remember_where_each_item_stands(read: SchemaReader) -> None:
    got = read.string_list(
        read_fields(
            dedent("""\
        k:
          - a
          - 42
        """)
        )["k"],
        "roles",
    )  # type: ignore[index]
    assert got == ("a", "42")
    assert [item.mark.line for item in got] == [2, 3]
    assert read.string_list(read_value("web"), "roles") == ("web",)
    assert read.string_list(read_value("[]"), "roles") == ()
    assert read.string_list(None, "roles") is None
    assert not read.problems.diagnostics


def test_each_wrong_item_of_a_list_is_told(read: SchemaReader) -> None:
    assert read.string_list(read_value("[a, [b], '', ~, true]"), "roles") == ("a",)
    assert len(read.problems.diagnostics) == 4


def test_a_list_without_value_is_wrong(read: SchemaReader) -> None:
    assert read.string_list(read_value(""), "roles") is None
    assert only_problem(read).message == "roles must be a list, found nothing"


def test_choices_name_the_nearest(read: SchemaReader) -> None:
    assert read.choice(read_value("ssh"), "transport", ("ssh", "local")) == "ssh"
    assert read.choice(read_value("locl"), "transport", ("ssh", "local")) is None
    assert only_problem(read).hint == "did you mean 'local'?"


def test_variables_with_impossible_names_are_left_out(read: SchemaReader) -> None:
    got = read.variables(read_fields("v: {a: 1, host: 2, b-c: 3}")["v"], "vars")  # type: ignore[index]
    assert list(got) == ["a"]
    assert len(read.problems.diagnostics) == 2
