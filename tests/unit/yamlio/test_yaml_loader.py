from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition, source_excerpt
from orchestrator.yamlio.yaml_loader import load_yaml, parse_yaml, yaml_error


def load_problems(text: str) -> tuple[Diagnostic, ...]:
    with pytest.raises(DefinitionError) as caught:
        parse_yaml(text, "f.yml")
    return caught.value.diagnostics


def only_problem(text: str) -> Diagnostic:
    (problem,) = load_problems(text)
    return problem


@pytest.mark.parametrize(
    "text",
    [
        "0644",
        "1_000",
        "1.10",
        "0x1F",
        "22:22",
        "2024-01-31",
        "1e3",
        "-0",
        "+1",
        "1.",
        ".5",
        "007",
        "yes",
        "no",
        "on",
        "off",
        "Yes",
        "y",
        "10.0.0.7",
        "0o17",
        "nan",
        "inf",
        ".inf",
        "1 2",
    ],
)
def test_what_would_not_print_as_written_stays_text(text: str) -> None:
    assert parse_yaml(f"a: {text}", "f").to_plain() == {"a": text}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("644", 644),
        ("0", 0),
        ("-3", -3),
        ("1.5", 1.5),
        ("-0.25", -0.25),
        ("1.0", 1.0),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("", None),
    ],
)
def test_plain_numbers_booleans_and_null(text: str, value: object) -> None:
    plain = parse_yaml(f"a: {text}", "f").to_plain()["a"]
    assert plain == value
    assert type(plain) is type(value)


@given(st.from_regex(r"[-+0-9._xeEa-f:]{1,20}", fullmatch=True))
def test_a_number_prints_as_it_was_written(text: str) -> None:
    try:
        plain = parse_yaml(f"a: {text}\n", "f").to_plain()
    except DefinitionError:
        return
    if isinstance(plain, dict) and isinstance(plain["a"], (int, float)):
        assert str(plain["a"]) == text


def test_quoted_scalars_are_text() -> None:
    assert parse_yaml(
        dedent("""\
            a: '12'
            b: "true"
            c: !!str 12
            d: ! 12
            e: |
              1
            """),
        "f",
    ).to_plain() == {
        "a": "12",
        "b": "true",
        "c": "12",
        "d": "12",
        "e": "1\n",
    }


def test_standard_tags_give_their_types_or_are_refused() -> None:
    assert parse_yaml(
        dedent("""\
        a: !!int '3'
        b: !!float 3
        c: !!map {}
        d: !!seq []"""),
        "f",
    ).to_plain() == {
        "a": 3,
        "b": 3.0,
        "c": {},
        "d": [],
    }
    assert only_problem("a: !!int 0644").message == "'0644' cannot be read as !!int"
    assert "!!binary" in only_problem("a: !!binary aGk=").message


def test_every_value_and_key_knows_its_place() -> None:
    value = parse_yaml(
        dedent("""\
        a: 1
        b:
          - x
          - c: y
        """),
        "f.yml",
    )
    assert isinstance(value.data, dict)
    key_a, key_b = value.data
    assert (key_a.mark, key_b.mark) == (
        SourcePosition("f.yml", 1, 1),
        SourcePosition("f.yml", 2, 1),
    )
    items = value.data[key_b].data
    assert isinstance(items, list)
    assert [item.mark for item in items] == [
        SourcePosition("f.yml", 3, 5),
        SourcePosition("f.yml", 4, 5),
    ]


def test_keys_are_text_as_written() -> None:
    assert parse_yaml(
        dedent("""\
        42: a
        true: b
        0644: c
        ~: d
        'x y': e"""),
        "f",
    ).to_plain() == {
        "42": "a",
        "true": "b",
        "0644": "c",
        "~": "d",
        "x y": "e",
    }


def test_a_duplicate_key_is_refused_at_the_second_naming_the_first() -> None:
    problem = only_problem(
        dedent("""\
        a: 1
        b: 2
        a: 3
        """)
    )
    assert problem.mark == SourcePosition("f.yml", 3, 1)
    assert "'a'" in problem.message
    assert "line 1" in problem.message


def test_all_duplicate_keys_and_tags_are_told_at_once() -> None:
    assert [
        p.mark and p.mark.line
        for p in load_problems(
            dedent("""\
            a: 1
            a: 2
            b: !x y
            c: !!set {}
            """)
        )
    ] == [
        2,
        3,
        4,
    ]


def test_unknown_tags_and_secrets_are_refused_at_their_place() -> None:
    problem = only_problem(
        dedent("""\
        a:
          b: !vault |
            x
        """)
    )
    assert problem.mark == SourcePosition("f.yml", 2, 6)
    assert "!vault" in problem.message
    problem = only_problem("a: 1\np: !secret {env: X}\n")
    assert problem.mark == SourcePosition("f.yml", 2, 4)
    assert problem.message == "!secret is allowed only in variables of the inventory"


def test_a_second_document_is_refused_and_one_marker_is_fine() -> None:
    assert parse_yaml("---\na: 1\n...\n", "f").to_plain() == {"a": 1}
    problem = only_problem("---\na: 1\n---\nb: 2\n")
    assert problem.mark == SourcePosition("f.yml", 3, 1)


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "  \n"])
def test_an_empty_file_is_null(text: str) -> None:
    value = parse_yaml(text, "f.yml")
    assert value.data is None
    assert value.mark.line >= 1


def test_crlf_and_bom_change_nothing(tmp_path: Path) -> None:
    unix, dos = tmp_path / "u.yml", tmp_path / "d.yml"
    unix.write_bytes(b"a: 1\nrun: |\n  one\n  two\nb: x\n")
    dos.write_bytes(b"\xef\xbb\xbfa: 1\r\nrun: |\r\n  one\r\n  two\r\nb: x\r\n")
    assert load_yaml(dos, "f") == load_yaml(unix, "f")


@pytest.mark.parametrize("text", ["a:\n\tb: 1\n", "a: 1\n\tb: 2\n", "\ta: 1", "a: |\n\tx\n"])
def test_a_tab_as_indentation_is_named(text: str) -> None:
    problem = only_problem(text)
    assert problem.message == "a tab cannot indent YAML"
    assert problem.hint == "indent with spaces"
    assert problem.mark == SourcePosition("f.yml", 1 if text.startswith("\t") else 2, 1)


def test_tabs_elsewhere_are_fine() -> None:
    assert parse_yaml("a:\tb\nc: |\n  x\ty\n", "f").to_plain() == {"a": "b", "c": "x\ty\n"}


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [("a: b: c", 1, 5), ("x: 1\na: @b", 2, 4), ("a: 'b\n", 1, 4), ("- a\nb: 1", 2, 1)],
)
def test_yaml_errors_carry_their_place(text: str, line: int, column: int) -> None:
    problem = only_problem(text)
    assert problem.mark == SourcePosition("f.yml", line, column)
    assert problem.message.startswith("not valid YAML: ")


@pytest.mark.parametrize(
    "text", ["a: {{ x }}", "a: {{ x }}/y", "- {{ x }}", "a: [{{ x }}]", "a: {% if x %}b{% endif %}"]
)
def test_an_unquoted_template_is_told_to_be_quoted(text: str) -> None:
    assert "must be quoted" in only_problem(text).hint


def test_brackets_in_a_flow_list_are_told_to_be_quoted() -> None:
    assert "quotes" in only_problem("hosts: [web[01:20].example.net]").hint
    assert "quotes" in only_problem("- [::1]:2222\n").hint


def test_invalid_utf8_is_refused_at_its_place(tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_bytes("a: 1\nbä: ".encode() + b"caf\xe9\n")
    with pytest.raises(DefinitionError) as caught:
        load_yaml(path, "x.yml")
    (problem,) = caught.value.diagnostics
    assert problem.mark == SourcePosition("x.yml", 2, 8)
    assert "UTF-8" in problem.message
    path.write_bytes("a: 1".encode("utf-16"))
    with pytest.raises(DefinitionError, match="UTF-16"):
        load_yaml(path, "x.yml")


def test_control_characters_are_refused_at_their_place() -> None:
    problem = only_problem("a: 1\nb: x\x00y\n")
    assert problem.mark == SourcePosition("f.yml", 2, 5)
    assert "U+0000" in problem.message


def test_a_missing_file_a_folder_and_a_file_without_permission_are_no_traceback(
    tmp_path: Path,
) -> None:
    for path in (tmp_path / "none.yml", tmp_path):
        with pytest.raises(DefinitionError, match="cannot read shown"):
            load_yaml(path, "shown.yml")


def test_the_excerpt_shows_the_line(tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_text("a: 1\na: 2\n")
    with pytest.raises(DefinitionError) as caught:
        load_yaml(path, str(path))
    mark = caught.value.diagnostics[0].mark
    assert mark is not None
    assert "2 | a: 2" in source_excerpt(mark)


def test_aliases_stand_for_what_they_name() -> None:
    text = dedent("""\
        base: &b {x: 1, y: 2}
        use: *b
        over:
          <<: *b
          y: 3
        list: [*b, &s text, *s]
        """)
    plain = parse_yaml(text, "f").to_plain()
    assert plain["use"] == {"x": 1, "y": 2}
    assert plain["over"] == {"x": 1, "y": 3}
    assert plain["list"] == [{"x": 1, "y": 2}, "text", "text"]


def test_of_several_merged_mappings_the_first_wins() -> None:
    text = dedent("""\
        a: &a {x: 1}
        b: &b {x: 2, y: 2}
        c: {<<: [*a, *b], z: 3}
        """)
    assert parse_yaml(text, "f").to_plain()["c"] == {"x": 1, "y": 2, "z": 3}


def test_merging_what_is_no_mapping_is_refused() -> None:
    assert (
        only_problem(
            dedent("""\
        a: &a [1]
        b:
          <<: *a
        """)
        ).message
        == "'<<' merges mappings only"
    )


def test_a_quoted_merge_key_is_a_key() -> None:
    assert parse_yaml("'<<': 1", "f").to_plain() == {"<<": 1}


def test_unknown_and_circular_aliases_are_refused() -> None:
    assert only_problem("a: *x").mark == SourcePosition("f.yml", 1, 4)
    assert "inside its own anchor" in only_problem("a: &x [1, *x]").message


def test_a_billion_laughs_is_refused() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert "aliases" in only_problem("\n".join(rows)).message


def test_a_large_file_with_one_alias_is_fine() -> None:
    rows = ["a: &a [1, 2]", "b: *a", "c:", *("  - x" for _ in range(110_000))]
    assert len(parse_yaml("\n".join(rows), "f").to_plain()["c"]) == 110_000


@pytest.mark.parametrize(
    "text",
    [
        *("[" * n + "]" * n for n in (101, 1001, 5000)),
        "[" * 5000,
        "{a: " * 5000 + "}" * 5000,
        "[{a: " * 2000,
        "- " * 5000 + "a",
        "".join(f"{' ' * n}a:\n" for n in range(300)),
        "a: " + "[" * 5000 + " {{ x }}",
    ],
    ids=lambda text: f"{text[:5]!r}{len(text)}",
)
@pytest.mark.parametrize("parser", ["CSafeLoader", "SafeLoader"])
def test_deep_nesting_is_an_error_and_no_crash(
    text: str, parser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.yamlio.yaml_loader._PARSER", getattr(yaml, parser))
    problem = only_problem(text)
    assert (problem.message, problem.hint) == ("nested more than 100 levels deep", "")


@pytest.mark.parametrize("level", ["flow level", "indent level"])
def test_a_parser_with_a_bound_of_its_own_is_told_in_the_same_words(level: str) -> None:
    """Newer libyaml has one; its error is made here, so that it does not matter which is there."""
    at = yaml.Mark("f", 0, 2, 4, None, None)
    error = yaml.scanner.ScannerError(
        f"while increasing {level}", at, "exceeded maximum nesting depth", at
    )
    (problem,) = yaml_error(error, "a:\n  b: [[{{ x }}\n", "f.yml").diagnostics
    assert problem == Diagnostic("nested more than 100 levels deep", SourcePosition("f.yml", 3, 5))


@pytest.mark.parametrize("text", ["? [a]\n: 1\nb: 2", "? {a: 1}\n: 1", "x: &x k\n*x : 1\n"])
def test_a_key_that_is_no_text_is_refused(text: str) -> None:
    assert only_problem(text).message == "a key must be text"


@pytest.mark.parametrize("text", ["a: {run: echo {{ x }}, b: c}\n", "a: [~/{{ x }}.env, b]\n"])
def test_braces_in_braces_are_told_to_be_quoted(text: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_yaml(text, "x.yml")
    assert "must be quoted" in caught.value.diagnostics[0].hint


def test_an_excerpt_of_a_long_line_is_marked_where_it_is_cut(tmp_path: Path) -> None:
    file = tmp_path / "x.yml"
    file.write_text(f"{'a' * 100}!{'b' * 100}\n")
    line, caret = source_excerpt(SourcePosition(str(file), 1, 101)).split("\n")
    assert line.startswith("    1 | …a")
    assert line.endswith("b…")
    assert line[caret.index("^")] == "!"
