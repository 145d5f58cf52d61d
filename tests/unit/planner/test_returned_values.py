"""The values that a module's probe prints: typed, and bounded whatever a host sends."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.errors import DefinitionError, OrchError
from orchestrator.model.registered_result import RegisteredResult
from orchestrator.planner.returned_values import parse_values
from tests.support.parsed_modules import load_tasks

RETURNS = """\
probe: "true"
returns:
  text: {}
  count: {type: int}
  part: {type: float}
  on: {type: bool}
  names: {type: list, default: []}
  rows: {type: list, elements: dict}
  map: {type: dict, default: {a: 1}}
  data: {type: any}
"""
NONE = dict.fromkeys(("text", "count", "part", "on", "rows", "data")) | {
    "names": [],
    "map": {"a": 1},
}


def parse(tmp_path: Path, text: str, file: str = RETURNS) -> dict[str, object]:
    (tmp_path / "tasks").mkdir(exist_ok=True)
    (tmp_path / "tasks" / "it.yml").write_text(file)
    module = load_tasks(tmp_path, ["it"]).by_name["it"].module
    assert module is not None
    return parse_values(module.returns, text)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("text=a=b%0A%25 \r\n", {"text": "a=b\n% \r"}),
        ("text=%ff%00\n", {"text": "\udcff\0"}),
        ("text=%zz%\n", {"text": "%zz%"}),
        ("count=-12\npart=1.5\non=false\n", {"count": -12, "part": 1.5, "on": False}),
        ("names=\nnames=a,b\n", {"names": ["", "a,b"]}),
        ('rows={"a": 1}\nrows={"b": "%0A"}\n', {"rows": [{"a": 1}, {"b": "\n"}]}),
        ('map={"b": [null]}\n', {"map": {"b": [None]}}),
        ("data=[1]\n", {"data": [1]}),
        ("text=first\ntext=last", {"text": "last"}),
    ],
)
def test_values_have_their_types(tmp_path: Path, text: str, values: dict[str, object]) -> None:
    assert parse(tmp_path, text) == {**NONE, **values}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("other=1\n", "is not one of the values text, count"),
        ("noise\n", "is not one of the values"),
        ("count=1x\n", "'count' must be a whole number"),
        ("on=perhaps\n", "'on' must be true or false"),
        ("rows=[1]\n", "'rows' must be a mapping"),
        ("map={\n", "map is not JSON"),
        ("map={" + '"a":{' * 99 + "}" * 100 + "\n", "map is too large, or nested too deeply"),
        ('map={"a": NaN}\n', "NaN is not a number"),
    ],
)
def test_other_output_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(tmp_path, text)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ('probe: "true"\nreturns: {stdout: {}}\n', "'stdout' is a field that every result has"),
        ('probe: "true"\nreturns: {a: {type: path}}\n', "cannot be a 'path'"),
        ('probe: "true"\nreturns: [a]\n', "must be a mapping"),
    ],
)
def test_what_cannot_be_returned_is_refused(tmp_path: Path, file: str, message: str) -> None:
    with pytest.raises(DefinitionError) as error:
        parse(tmp_path, "", file)
    assert message in str(error.value)


def test_other_values_can_be_used_beside_one_that_is_not_json(tmp_path: Path) -> None:
    result = RegisteredResult("ok", values=parse(tmp_path, "count=1\ndata={\n"))
    assert result.count == 1
    with pytest.raises(OrchError, match="data is not JSON"):
        _ = result.data
