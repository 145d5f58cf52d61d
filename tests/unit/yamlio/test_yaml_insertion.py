"""Entries added to YAML files: every other byte stays, or the change is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.yamlio.yaml_insertion import InsertionError, insert_item, insert_key, quote_text
from orchestrator.yamlio.yaml_loader import parse_yaml


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", "c:\n  port: 1\n"),
        ("# only a comment", "# only a comment\nc:\n  port: 1\n"),
        ("a: {}\n", "a: {}\nc:\n  port: 1\n"),
        ("b:\n\n# z\na: 1 # one", "b:\n\n# z\na: 1 # one\nc:\n  port: 1\n"),
        ("a:\r\n  x: 1\r\n", "a:\r\n  x: 1\r\nc:\r\n  port: 1\r\n"),
        ("  a: 1\n", "  a: 1\n  c:\n    port: 1\n"),
        ("---\na: 1\n", "---\na: 1\nc:\n  port: 1\n"),
        ("a: &x {n: 1}\nb: *x\n", "a: &x {n: 1}\nb: *x\nc:\n  port: 1\n"),
        ("a: !secret {env: A}\n", "a: !secret {env: A}\nc:\n  port: 1\n"),
    ],
)
def test_a_key_is_added_behind_what_is_in_the_file(old: str, new: str) -> None:
    assert insert_key(old, "f", "c", ["port: 1"]) == new


@pytest.mark.parametrize(
    "old",
    [
        "{a: {}}\n",
        "{}",
        "a: 1\n...\n",
        "a: |\n  text",
        "a: |+\n  text",
        "[a, b]\n",
        "null\n",
        "a: &x 1\nb: &x 2\n",
    ],
)
def test_a_key_that_cannot_be_added_safely_is_refused(old: str) -> None:
    with pytest.raises(InsertionError):
        insert_key(old, "f", "c", ["port: 1"])


@pytest.mark.parametrize(
    ("old", "keys", "new"),
    [
        ("- a\n", [], "- a\n- c\n"),
        ("- a", [], "- a\n- c\n"),
        ("  -   a # first\n# end\n", [], "  -   a # first\n  -   c\n# end\n"),
        ("- a\r\n- b\r\n", [], "- a\r\n- b\r\n- c\r\n"),
        ("[a, b] # x", [], "[a, b, c] # x"),
        ("[]", [], "[c]"),
        ("[a, # x\n b,\n]\n", [], "[a, # x\n b, c,\n]\n"),
        ("hosts:\n- 'a'\nvars: {}\n", ["hosts"], "hosts:\n- 'a'\n- c\nvars: {}\n"),
        ("web: {hosts: [a]}\n", ["web", "hosts"], "web: {hosts: [a, c]}\n"),
        ("ä:\n  - é\nb: 1\n", ["ä"], "ä:\n  - é\n  - c\nb: 1\n"),
    ],
)
def test_an_item_is_added_behind_the_last_one(old: str, keys: list[str], new: str) -> None:
    assert insert_item(old, "f", keys, "c") == new


@pytest.mark.parametrize(
    ("old", "keys"),
    [
        ("hosts:\n", ["hosts"]),
        ("a: 1\n", ["hosts"]),
        ("hosts: &x [a]\nmore: *x\n", ["hosts"]),
        ("- - a\n", []),
        ("- &x a\n- &x b\n", []),
        ("a\n", []),
        ("", []),
    ],
)
def test_an_item_that_cannot_be_added_safely_is_refused(old: str, keys: list[str]) -> None:
    with pytest.raises(InsertionError):
        insert_item(old, "f", keys, "c")


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1))
def test_a_quoted_text_is_read_as_itself(text: str) -> None:
    assert parse_yaml(f"- {quote_text(text)}\n", "f").to_plain() == [text]


@pytest.mark.parametrize("text", ["yes", "1.5", "0", "true", "null", "web[1-3]", "*", "a: b"])
def test_a_text_with_another_meaning_in_yaml_is_quoted(text: str) -> None:
    assert quote_text(text) == f'"{text}"'
