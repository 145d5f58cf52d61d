from __future__ import annotations

import pytest

from orchestrator.errors import DefinitionError
from orchestrator.yamlio.json_loader import parse_json


def test_json_becomes_marked_values() -> None:
    text = '{"web1": {"vars": {"n": 1, "e": "\\ud83d\\ude00", "t": [true, null]}}}'
    value = parse_json(text, "hosts")
    assert value.to_plain() == {"web1": {"vars": {"n": 1, "e": "😀", "t": [True, None]}}}
    assert str(value.mark) == "hosts"


@pytest.mark.parametrize(
    "text",
    ["", "{", "web1\n", '{"a": NaN}', '{"a": 1, "a": 2}', "[" * 200 + "]" * 200, "[" * 200000],
)
def test_what_is_no_json_is_one_clear_error(text: str) -> None:
    with pytest.raises(DefinitionError, match="its output"):
        parse_json(text, "hosts")
