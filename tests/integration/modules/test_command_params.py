"""Params of type ``command``: what is run is what was written, and no value in it."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml

from tests.projects import OrchProject
from tests.support.machine import ODD_NAMES, ShellMachine, result_message

HOSTILE = [
    "$(touch pwned)",
    "`touch pwned`",
    "';touch pwned;'",
    '";touch pwned;"',
    "a\ntouch pwned",
]
HOSTILE += [
    "); touch pwned; (",
    "|| touch pwned",
    "\\",
    "&touch pwned&",
    ">pwned",
    "%s; touch pwned",
]


def module_calls(root: Path, validate: str, number: int = 0) -> list[dict[str, Any]]:
    """Every module of files, with something to change and this to try it with."""
    (root / "line").write_text("a\n")
    (root / "block").write_text("a\n")
    arguments = [
        {"copy": {"path": f"{root}/copy", "content": f"{number}\n"}},
        {"template": {"path": f"{root}/template", "src": "it.j2"}},
        {"line": {"path": f"{root}/line", "line": "b"}},
        {"text_block": {"path": f"{root}/block", "block": "b"}},
    ]
    for step in arguments:
        next(iter(step.values()))["validate"] = validate
    return arguments


@pytest.mark.parametrize("check", [True, False])
def test_a_value_in_validate_is_no_command(machine: ShellMachine, check: bool) -> None:
    steps = module_calls(machine.root, "echo {{ v }} %s >/dev/null")
    variables = {"v": f"$(touch {machine.root}/pwned)"}
    done = machine.run_steps(steps, files={"it.j2": "b\n"}, variables=variables, check=check)
    assert set(done.statuses) == {"would_change" if check else "changed"}, result_message(
        done.outcomes[0]
    )
    assert not (machine.root / "pwned").exists()


TEMPLATE_PLACES = {
    "a word": '[ {{ v }} = "$(cat {{ f }}; echo .)" ]',
    "quotes": '[ "{{ v }}" = "$(cat {{ f }}; echo .)" ]',
    "single quotes": "[ '{{ v }}' = \"$(cat {{ f }}; echo .)\" ]",
    "a substitution": '[ "$(x={{ v }}; [ "$x" = "$(cat {{ f }}; echo .)" ] && echo yes)" = yes ]',
    "a here-document": "cat >{{ f }}.seen <<E\n{{ v }}\nE\necho >>{{ f }}; cmp {{ f }} {{ f }}.seen",
}


@pytest.mark.parametrize("position", TEMPLATE_PLACES)
def test_a_value_is_the_word_that_it_is(machine: ShellMachine, position: str) -> None:
    """Behind a dot, lest a shell drop newlines."""
    steps = []
    for number, text in enumerate([*ODD_NAMES, *(t for t in HOSTILE if "%s" not in t)]):
        file = machine.root / f"text{number}"
        dot = "" if position == "a here-document" else "."
        file.write_text(text)
        validate = f"test -s %s; {TEMPLATE_PLACES[position]}"
        copy = {"path": f"{machine.root}/out{number}", "content": "x\n", "validate": validate}
        copy["validate"] = validate.replace("{{ v }}", "{{ item.v }}").replace("{{ f", "{{ item.f")
        steps.append({"copy": copy, "loop": [{"v": text + dot, "f": str(file)}]})
    done = machine.run_steps(steps)
    assert set(done.statuses) == {"changed"}, [result_message(o) for o in done.outcomes]
    assert not list(machine.root.rglob("pwned")) + list(machine.home.rglob("pwned"))


def test_lists_are_words_and_none_is_no_word(machine: ShellMachine) -> None:
    count = {"path": f"{machine.root}/a", "content": "x\n"}
    words = {"v": ["a b", "$(touch pwned)", "c"], "n": None, "i": 7}
    validate = (
        "set -- {{ v }} {{ n }} {{ i }}; [ $# = 4 ] && [ \"$2\" = '$(touch pwned)' ]; test -s %s"
    )
    machine.check_then_run({"copy": {**count, "validate": validate}}, "changed", variables=words)
    maybe = "{% if i == 7 %}cmp %s {{ f }}{% endif %}"
    (machine.root / "f").write_text("y\n")
    step = {**count, "content": "y\n", "validate": maybe}
    variables = {"i": 7, "f": f"{machine.root}/f"}
    machine.check_then_run({"copy": step}, "changed", variables=variables)


def test_a_command_is_handed_on_through_a_task(machine: ShellMachine) -> None:
    inner = {
        "params": {"check": {"type": "command"}},
        "steps": [
            {"copy": {"path": f"{machine.root}/a", "content": "x\n", "validate": "{{ check }}"}}
        ],
    }
    files = {"inner.yml": yaml.safe_dump(inner)}
    value = f"$(touch {machine.root}/pwned)"
    machine.check_then_run(
        {"inner": {"check": '[ {{ v }} = "$(cat {{ f }})" ] && cmp %s {{ g }}'}},
        "changed",
        files=files,
        variables={"v": value, "f": module_text(machine, value), "g": module_text(machine, "x\n")},
    )
    assert not (machine.root / "pwned").exists()


def module_text(machine: ShellMachine, text: str) -> str:
    path = machine.root / f"text{len(text)}"
    path.write_text(text)
    return str(path)


MODULE = """\
desc: m
params:
  check: {type: command, default: "echo {{ v }}"}
probe: |
  said=$(eval {{ check }})
  state said "$said"
want: {said: "{{ v }}"}
"""


def test_users_modules_have_commands_too(machine: ShellMachine) -> None:
    value = f"$(touch {machine.root}/pwned)"
    for step in ({"m": {}}, {"m": {"check": "printf '%s\\n' \"{{ v }}\""}}):
        machine.check_then_run(step, "ok", files={"m.yml": MODULE}, variables={"v": value})
    assert not (machine.root / "pwned").exists()


TASK = """\
desc: t
params: {health: {type: command, default: "true"}}
steps:
  - run: "{{ health | raw }}"
"""
STAGE = """\
connect: {transport: local}
vars: {v: "$(touch pwned)", health: "printf '%s' {{ v }}"}
defaults: {copy: {validate: "echo {{ v }} %s >&2"}}
"""


@pytest.fixture
def local(project: OrchProject) -> OrchProject:
    files = {"inventories/dev/stage.yml": STAGE, "inventories/dev/hosts.yml": "one: {}\n"}
    return project.write({**files, "tasks/t.yml": TASK})


def test_a_variable_that_is_a_command_quotes_its_values(local: OrchProject) -> None:
    done = local.orch("-s", "dev", "run", "t", "--json")
    (step,) = done.host_steps("one")
    assert (step["status"], step["stdout"]) == ("changed", "$(touch pwned)")
    done = local.orch("-s", "dev", "run", "t", "health=printf '%s' hi | cat", "--json")
    assert done.host_steps("one")[0]["stdout"] == "hi"
    done = local.orch("-s", "dev", "run", "t", "-e", "health=echo {{ v }}", "--json")
    assert done.host_steps("one")[0]["stdout"] == "{{ v }}"


def test_so_does_one_among_the_defaults(local: OrchProject) -> None:
    copy = "steps: [{copy: {path: ~/it, content: x}}]\n"
    done = local.write({"tasks/c.yml": copy}).orch("-s", "dev", "run", "c", "--json")
    assert done.code == 0, done.out
    assert not list(local.root.parent.rglob("pwned"))


@pytest.mark.parametrize(
    ("steps", "message", "code"),
    [
        ("[{t: {health: '{{ v }}'}}]", "evaluates to text, but a command is required here", 3),
        ("[{t: {health: [a, b]}}]", "must be a command", 3),
        ("[{t: {health: 'echo ${{ v }}'}}]", "right after `$`", 3),
        ("[{t: {health: 'echo {{ nope }}'}}]", "'nope' is undefined", 3),
        ("[{run: echo id, register: r}, {t: {health: '{{ r.stdout }}'}}]", "evaluates to text", 1),
        ("[{run: echo id, register: r}, {t: {health: '{{ r.stdout | raw }}'}}]", "from a host", 1),
    ],
)
def test_what_is_no_command_is_refused(
    local: OrchProject, steps: str, message: str, code: int
) -> None:
    done = local.write({"tasks/u.yml": f"steps: {steps}\n"}).orch("-s", "dev", "run", "u")
    assert done.code == code, done.err
    assert message in done.err + done.out


def test_what_a_step_gives_is_no_command(local: OrchProject) -> None:
    playbook = dedent("""\
        tasks:
          - steps: [{run: echo id, register: health}]
          - t
        """)
    done = local.write({"tasks/u.yml": playbook}).orch("-s", "dev", "run", "u")
    assert done.code != 0
    assert "text from a host must not be run" in done.err + done.out
    quoted = (
        "steps: [{run: echo '$(touch pwned)', register: r}, {t: {health: 'echo {{ r.stdout }}'}}]\n"
    )
    done = local.write({"tasks/q.yml": quoted}).orch("-s", "dev", "run", "q", "--json")
    assert done.host_steps("one")[-1]["stdout"] == "$(touch pwned)"


LISTED = """\
desc: l
params: {build: {type: list, elements: command, default: ["echo default {{ v }}"]}}
steps:
  - run: "{{ item | raw }}"
    loop: build
"""
QUOTED = "$(touch pwned)"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        ("[\"printf '%s\\\\n' {{ v }} | cat\", 'echo \"{{ v }}\"']", [QUOTED, QUOTED]),
        ("echo {{ v }}", [QUOTED]),
        ("[]", []),
        ("['echo {{ w | raw }}', '{{ none }}']", ["a b"]),
        ("{{ other }}", [QUOTED]),
        ("['{{ other }}', echo x]", [QUOTED, "x"]),
    ],
)
def test_each_of_a_list_of_commands_quotes_its_values(
    local: OrchProject, build: str, message: list[str]
) -> None:
    """Given by a step, handed on by another param, or as a variable."""
    stage = yaml.safe_load(STAGE)
    stage["vars"]["w"] = "a b"
    local.write({"inventories/dev/stage.yml": yaml.safe_dump(stage)})
    handed = (
        "params: {other: {type: list, elements: command, default: ['echo {{ v }}']}}\n"
        f"steps: [{{l: {{build: {build if build[0] == '[' else json.dumps(build)}}}}}]\n"
    )
    local.write({"tasks/l.yml": LISTED, "tasks/h.yml": handed})
    done = local.orch("-s", "dev", "run", "h", "--json")
    assert done.code == 0, done.err
    assert [
        step["stdout"] for step in done.host_steps("one") if step["status"] == "changed"
    ] == message
    if "other" not in build:
        stage["vars"]["build"] = yaml.safe_load(build)
        local.write({"inventories/dev/stage.yml": yaml.safe_dump(stage)})
        done = local.orch("-s", "dev", "run", "l", "--json")
        assert [
            step["stdout"] for step in done.host_steps("one") if step["status"] == "changed"
        ] == message
    assert not list(local.root.parent.rglob("pwned"))


def test_a_list_of_commands_from_the_command_line_is_as_it_is_typed(local: OrchProject) -> None:
    local.write({"tasks/l.yml": LISTED})
    for words in (("build=[\"echo '{{ v }}'\", 'echo b | cat']",), ("-e", "build=echo b")):
        done = local.orch("-s", "dev", "run", "l", *words, "--json")
        assert done.code == 0, done.err
    assert done.host_steps("one")[0]["stdout"] == "b"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        ("['{{ v }}']", "evaluates to text, but a command is required here"),
        ("['{{ [v] }}']", "evaluates to text, but a command is required here"),
        ("[{a: b}]", "must be a command"),
        ("['echo ${{ v }}']", "right after `$`"),
        ("['echo {{ nope }}']", "'nope' is undefined"),
    ],
)
def test_what_is_no_list_of_commands_is_refused(
    local: OrchProject, build: str, message: str
) -> None:
    files = {"tasks/l.yml": LISTED, "tasks/u.yml": f"steps: [{{l: {{build: {build}}}}}]\n"}
    done = local.write(files).orch("-s", "dev", "run", "u")
    assert done.code == 3, done.err
    assert message in done.err
