from __future__ import annotations

import pytest

from orchestrator.errors import Mark, Problem, Problems
from orchestrator.model.marked_value import Key, Value
from orchestrator.yamlio.schema import Reader
from orchestrator.yamlio.yaml_loader import parse


@pytest.fixture
def read() -> Reader:
    return Reader(Problems())


def fields(text: str) -> dict[Key, Value]:
    data = parse(text, "f.yml").data
    assert isinstance(data, dict)
    return data


def value(text: str) -> Value:
    return fields(f"k: {text}")["k"]  # type: ignore[index]


def only(read: Reader) -> Problem:
    (problem,) = read.problems.found
    return problem


def test_unknown_keys_are_named_with_the_nearest_and_the_rest_is_kept(read: Reader) -> None:
    got = read.mapping(parse("hots: 1\nroles: 2\n", "f"), "role 'x'", {"hosts", "roles"})
    assert {str(k): v.plain() for k, v in got.items()} == {"roles": 2}
    problem = only(read)
    assert problem == Problem(
        "unknown key 'hots' in role 'x'", Mark("f", 1, 1), "did you mean 'hosts'?"
    )


def test_a_key_like_no_other_lists_the_known_ones(read: Reader) -> None:
    read.mapping(parse("zzz: 1", "f"), "x", {"b", "a"})
    assert only(read).hint == "known keys: a, b"


def test_an_absent_or_null_mapping_is_empty_and_a_list_is_wrong(read: Reader) -> None:
    assert read.mapping(None, "vars") == {}
    assert read.mapping(value(""), "vars") == {}
    assert not read.problems.found
    assert read.mapping(value("[a]"), "vars") == {}
    assert only(read).what == "vars must be a mapping (name: value), found a list"


def test_text_takes_numbers_as_written_and_refuses_the_rest(read: Reader) -> None:
    assert read.text(value("42"), "k") == "42"
    assert read.text(value("1.5"), "k") == "1.5"
    assert read.text(value("0644"), "k") == "0644"
    assert read.text(None, "k") is None
    assert not read.problems.found
    for wrong in ("[a]", "{a: 1}", "true", "", "'  '"):
        assert read.text(value(wrong), "k") is None
    assert len(read.problems.found) == 5


@pytest.mark.parametrize("text", ["22", "'22'", "1", "65535"])
def test_integers_within_bounds(read: Reader, text: str) -> None:
    assert read.integer(value(text), "port", 1, 65535) == int(text.strip("'"))
    assert not read.problems.found


@pytest.mark.parametrize("text", ["0", "65536", "-1", "2.5", "true", "abc", "022", "[1]", ""])
def test_integers_out_of_bounds_or_none_at_all_are_problems(read: Reader, text: str) -> None:
    assert read.integer(value(text), "port", 1, 65535) is None
    assert only(read).what.startswith("port must be ")


def test_booleans_are_true_and_false_and_yes_is_told_so(read: Reader) -> None:
    assert read.boolean(value("true"), "k") is True
    assert read.boolean(value("false"), "k") is False
    assert not read.problems.found
    assert read.boolean(value("yes"), "k") is None
    assert only(read).hint == "write true"


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
def test_durations_are_seconds(read: Reader, text: str, seconds: float) -> None:
    assert read.duration(value(text), "timeout") == seconds
    assert not read.problems.found


@pytest.mark.parametrize("text", ["10x", "-1", "true", "[1]", "1 h", "", "s", "1h30m"])
def test_what_is_no_duration_is_a_problem(read: Reader, text: str) -> None:
    assert read.duration(value(text), "timeout") is None
    assert "duration" in only(read).what


def test_string_lists_remember_where_each_item_stands(read: Reader) -> None:
    got = read.string_list(fields("k:\n  - a\n  - 42\n")["k"], "roles")  # type: ignore[index]
    assert got == ("a", "42")
    assert [item.mark.line for item in got] == [2, 3]
    assert read.string_list(value("web"), "roles") == ("web",)
    assert read.string_list(value("[]"), "roles") == ()
    assert read.string_list(None, "roles") is None
    assert not read.problems.found


def test_each_wrong_item_of_a_list_is_told(read: Reader) -> None:
    assert read.string_list(value("[a, [b], '', ~, true]"), "roles") == ("a",)
    assert len(read.problems.found) == 4


def test_a_list_without_value_is_wrong(read: Reader) -> None:
    assert read.string_list(value(""), "roles") is None
    assert only(read).what == "roles must be a list, found nothing"


def test_choices_name_the_nearest(read: Reader) -> None:
    assert read.choice(value("ssh"), "transport", ("ssh", "local")) == "ssh"
    assert read.choice(value("locl"), "transport", ("ssh", "local")) is None
    assert only(read).hint == "did you mean 'local'?"


def test_variables_with_impossible_names_are_left_out(read: Reader) -> None:
    got = read.variables(fields("v: {a: 1, host: 2, b-c: 3}")["v"], "vars")  # type: ignore[index]
    assert list(got) == ["a"]
    assert len(read.problems.found) == 2
