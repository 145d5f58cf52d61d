"""Every key that takes a value, with anything that a host may print: at most its step fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.errors import ExitCode
from orchestrator.model.step_result import Status
from tests.integration.executor.test_hostile_host import HostileRun

PRINTED = {
    "nothing": b"",
    "digits": b"9" * 5000,
    "many": b"9" * 400,
    "minus": b"-1",
    "huge": b"1e999",
    "word": b"nan",
    "zeros": b"00000000",
    "arabic": "٣".encode(),
    "nul": b"a\0b",
    "bytes": b"\xff\xc3(",
    "lines": b"a\nb\n-c",
    "home": b"~/..",
    "template": b"{{ 7 * 7 }}{% if",
    "command": b"$(exit 9)`exit 9`'\"",
    "no": b"false",
    "list": b"[1, {}",
    "much": b"x" * 300_000,
    "years": b"9999999d",
    "escape": b"\x1b[2J\r\x07",
}

MADE = {
    "itself": "v",
    "an int": "v | int",
    "a longer one": "(v | int) * 10 ** 4290",
    "a longer one in a list": "[10 ** ((v | length) * 0 + 5000), v]",
    "a float": "v | float * 1e308 * 10",
    "a list": "v.split()",
    "one bit by bit": "v.split() | map('int')",
    "a yes or no bit by bit": "v.split() | map('bool')",
    "a mapping": "{'k': v}",
    "none": "none if v or true else 1",
    "the result": "r",
    "a function": "v.split",
    "an attribute of it": "r.item",
    "a character that is none": "'\\ud800' ~ v",
}

KEYS: dict[str, Any] = {
    "run": {"run": "echo {{ X }}"},
    "quoted": {"run": "echo \"{{ X }}\" '{{ X }}' $(({{ X }}))"},
    "raw": {"run": "echo a >{{ X }}"},
    "stdin": {"run": "cat", "stdin": "{{ X }}"},
    "environment": {"run": "true", "environment": {"V": "{{ X }}"}},
    "chdir": {"run": "true", "chdir": "{{ X }}"},
    "creates": {"run": "true", "creates": "{{ X }}"},
    "removes": {"run": "true", "removes": "{{ X }}"},
    "unless": {"run": "true", "unless": "test {{ X }}"},
    "onlyif": {"run": "true", "onlyif": "test {{ X }}"},
    "timeout": {"run": "true", "timeout": "{{ X }}"},
    "name": {"run": "true", "name": "{{ X }}"},
    "when": {"run": "true", "when": "X"},
    "compared": {"run": "true", "when": "X > 3 or X == v or X in v"},
    "changed_when": {"run": "true", "changed_when": "X and result.stdout == X"},
    "failed_when": {"run": "true", "failed_when": "X and result.stdout == X"},
    "until": {"run": "true", "until": "X and result.stdout", "retries": 0},
    "ignore_errors": {"run": "true", "ignore_errors": "X"},
    "loop": {"run": "echo {{ item }}", "loop": "X"},
    "loop over one": {"run": "echo {{ item }}", "loop": ["{{ X }}"]},
    "loop_control": {"run": "true", "loop": "[X]", "loop_control": {"label": "{{ item }}"}},
    "wait": {"wait": "{{ X }}"},
    "set": {"set": {"made": "{{ X }}", "text": "a {{ X }}"}},
    "assert": {"assert": {"that": ["X"], "message": "{{ X }}"}},
    "fail": {"fail": "{{ X }}"},
    "content": {"copy": {"path": "out", "content": "{{ X }}"}},
    "path": {"file": {"path": "{{ X }}", "mode": "0600"}},
    "mode": {"file": {"path": "out", "mode": "{{ X }}"}},
    "template": {"template": {"path": "out", "src": "t.j2"}},
    "download": {"download": {"path": "{{ X }}", "to": "here/"}},
    "within": {"mod": {"x": "y", "within": "{{ X }}"}},
    "want": {"mod": {"x": "{{ X }}"}},
    **{
        f"{kind} param": {"typed": {kind: "{{ X }}"}}
        for kind in ("str", "int", "float", "bool", "list", "dict", "path", "mode", "any", "one")
    },
}

FILES = {
    "mod.yml": {
        "params": {"x": {"type": "any"}, "within": {"type": "any", "default": "0s"}},
        "probe": 'state x "$(cat state 2>/dev/null)"',
        "want": {"x": "{{ x }}"},
        "fix": "printf %s {{ x }} >state",
        "within": "{{ within }}",
    },
    "typed.yml": {
        "params": {
            **{
                kind: {"type": kind}
                for kind in ("str", "int", "float", "bool", "list", "dict", "path", "mode", "any")
            },
            "one": {"choices": ["a", "b"]},
        },
        "steps": [{"run": "echo {{ [str, int, float, bool, path, mode, any, one] | length }}"}],
    },
}


def with_expression(step: Any, expression: str) -> Any:
    """Return the step with the expression inserted."""
    if isinstance(step, dict):
        return {key: with_expression(value, expression) for key, value in step.items()}
    if isinstance(step, list):
        return [with_expression(value, expression) for value in step]
    return step.replace("X", f"({expression})") if isinstance(step, str) else step


EVERY = ("digits", "lines", "much")
"""The parts of all values; other printed values are used only as a whole."""


def make_task(key: str) -> str:
    """Return a task with a block for each value, on one host."""
    steps: list[Any] = [{"run": "touch began"}]
    for name in PRINTED:
        steps.append({"run": f"cat ../{name}", "register": "r", "readonly": True})
        steps.append({"set": {"v": "{{ r.stdout }}"}} if name != "much" else {"set": {"v": "m"}})
        for which, created in MADE.items():
            if which == "itself" or name in EVERY:
                value = created.replace("v", "r.stdout") if name == "much" else created
                rescue = [{"set": {"failed": True}}]
                steps.append({"block": [with_expression(KEYS[key], value)], "rescue": rescue})
    steps.append({"name": "the last", "run": "touch reached"})
    return yaml.safe_dump({"steps": steps}, sort_keys=False)


QUICK = ("timeout", "wait", "within", "until", "loop", "content", "int param")
"""Keys that accept numbers and texts; all other keys use the same code."""


@pytest.mark.parametrize(
    "key", [key if key in QUICK else pytest.param(key, marks=pytest.mark.long) for key in KEYS]
)
def test_a_key_takes_any_value_or_refuses_it(
    tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, data in PRINTED.items():
        (tmp_path / name).write_bytes(data)
    files = {name: yaml.safe_dump(content) for name, content in FILES.items()}
    files["t.j2"] = "{{ " + MADE["a longer one"].replace("v", "r.stdout") + " }}"
    ran = HostileRun(tmp_path, make_task(key), {}, files=files, hosts=("bad",))
    assert not ran.crash_reports, ran.crash_reports[0].traceback
    assert ran.code is ExitCode.OK, ran.summary_rows
    assert ran.summary_rows["bad"].status is Status.CHANGED
    assert (ran.homes["bad"] / "reached").exists()
