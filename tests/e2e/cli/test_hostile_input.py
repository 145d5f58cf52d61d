"""Input that once exhausted time or memory, or caused a traceback, now causes an error.

No test measures time: a hanging test is ended by its timeout.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from orchestrator.cli.root_command import run_command_line
from orchestrator.errors import ExitCode
from tests.projects import OrchProject

MANY = 100_000
STAGE = "connect: {transport: sandbox}\nvars: {a: 1}\n"
FILES = {"inventories/dev/stage.yml": STAGE, "inventories/dev/hosts/h1.yml": ""}
PLAN = ("-s", "dev", "plan", "t")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ORCH_STAGE", raising=False)
    write({**FILES, "tasks/t.yml": "steps: [{run: uname}]\n"})
    return tmp_path


def write(files: dict[str, str]) -> None:
    for name, text in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def numbered_lines(line: str, count: int) -> str:
    return "".join(line.replace("#", str(number)) for number in range(count))


def error_output(
    capsys: pytest.CaptureFixture[str], *args: str, code: int = ExitCode.DEFINITION
) -> str:
    found = run_command_line(args)
    err = capsys.readouterr().err
    assert found == code, err[-2000:]
    assert "Traceback" not in err
    return err


FINE = {
    "blank lines": {"tasks/t.yml": "\n" * MANY + "steps: [{run: uname}]\n"},
    "lines of blanks": {"tasks/t.yml": " \n" * MANY + "steps: [{run: uname}]\n"},
    "CRs": {"tasks/t.yml": "\r\n" * MANY + "steps: [{run: uname}]\n"},
    "variables": {"inventories/dev/hosts/h1.yml": "vars:\n" + numbered_lines("  k#: 1\n", 20_000)},
    "hosts of a role": {"inventories/dev/roles/r.yml": numbered_lines("- x#\n", 20_000)},
    "pipes": {"tasks/t.yml": "steps:\n- run: |\n" + "    a | b\n" * 3000},
    "values": {"tasks/t.yml": f"steps:\n- run: echo {'{{ a }} ' * 2000}\n"},
}


@pytest.mark.parametrize("what", FINE)
def test_large_files_are_read_in_their_time(
    root: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    write(FINE[what])
    error_output(capsys, "lint", code=ExitCode.OK)


WRONG = {
    "keys of a task": ({"tasks/t.yml": "steps: []\n" + numbered_lines("k#: 1\n", 20_000)}, "k0"),
    "keys of a host": ({"inventories/dev/hosts/h1.yml": numbered_lines("k#: 1\n", 20_000)}, "k0"),
    "keys of a stage": ({"inventories/dev/stage.yml": numbered_lines("k#: 1\n", 20_000)}, "k0"),
    "names": (
        {"inventories/dev/hosts/h1.yml": "vars:\n" + numbered_lines("  k-#: 1\n", 20_000)},
        "k-0",
    ),
    "twice": ({"inventories/dev/hosts/h1.yml": "vars: {}\n" * 20_000}, "duplicated"),
    "steps": ({"tasks/t.yml": "steps:\n" + numbered_lines("- no#: x\n", 20_000)}, "no0"),
    "args": ({"tasks/t.yml": "steps:\n- copy:\n" + numbered_lines("    k#: 1\n", 20_000)}, "k0"),
    "hosts": ({"inventories/dev/roles/r.yml": numbered_lines("- 'x #'\n", 20_000)}, "x 0"),
    "nested": ({"tasks/t.yml": "[" * 50_000}, "nested"),
    "here-documents": ({"tasks/t.yml": f"steps:\n- run: cat {'<<E ' * 500}\n"}, "here-documents"),
    "substitutions": ({"tasks/t.yml": f"steps:\n- run: {'$(' * 500}\n"}, "levels deep"),
    "a device": ({}, "more than"),
}


@pytest.mark.parametrize("what", WRONG)
def test_many_errors_are_told_in_their_time(
    root: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    files, words = WRONG[what]
    write(files)
    if what == "a device":
        Path("tasks/zero.yml").symlink_to("/dev/zero")
    err = error_output(capsys, "lint")
    assert words in err
    assert err.count("error: ") <= 1100


def test_a_fifo_is_not_waited_for(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("tasks/f.yml")
    assert "is empty" in error_output(capsys, "lint")


def doubling_tasks(text: str, count: int = 40) -> dict[str, str]:
    """Return tasks each of which calls the next one twice."""
    files = {f"tasks/c{n}.yml": f"{text}: [c{n + 1}, c{n + 1}]\n" for n in range(count)}
    return {**files, f"tasks/c{count}.yml": "steps: [{run: 'true'}]\n"}


@pytest.mark.parametrize("text", ["steps", "tasks"])
@pytest.mark.parametrize("args", [("lint",), ("-s", "dev", "plan", "c0"), ("tasks", "--tree")])
def test_tasks_that_double_end(
    root: Path, capsys: pytest.CaptureFixture[str], text: str, args: tuple[str, ...]
) -> None:
    write(doubling_tasks(text))
    assert "more than 20000 steps" in error_output(capsys, *args)


@pytest.mark.parametrize("text", ["steps", "tasks"])
def test_tasks_that_call_each_other_too_deeply(
    root: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    write({f"tasks/c{n}.yml": f"{text}: [c{n + 1}]\n" for n in range(1100)})
    write({"tasks/c1100.yml": "steps: [{run: 'true'}]\n"})
    for args in (("lint",), ("-s", "dev", "plan", "c0")):
        assert "more than 50 levels deep" in error_output(capsys, *args)


@pytest.mark.parametrize("loop", ["range(100000)", "range(1000)"])
def test_loops_that_come_to_too_many_steps(
    root: Path, capsys: pytest.CaptureFixture[str], loop: str
) -> None:
    inner = "steps: [{run: 'echo {{ item }}', loop: '{{ range(1000) }}'}]\n"
    outer = f"steps: [{{inner: {{}}, loop: '{{{{ {loop} }}}}'}}]\n"
    write({"tasks/inner.yml": inner, "tasks/t.yml": outer})
    assert "more than 20000 steps" in error_output(capsys, *PLAN)


DEEP = {
    "one by one": "  v#: '{{ v+ }}'\n",
    "in lists": "  v#: ['{{ v+ }}', '{{ v+ }}']\n",
    "in texts": "  v#: 'x{{ v+ }}{{ v+ }}'\n",
}


@pytest.mark.parametrize("what", DEEP)
@pytest.mark.parametrize("count", [30, 1500])
def test_variables_made_of_each_other(
    root: Path, capsys: pytest.CaptureFixture[str], what: str, count: int
) -> None:
    lines = (DEEP[what].replace("#", str(n)).replace("+", str(n + 1)) for n in range(count))
    write({"inventories/dev/hosts/h1.yml": f"vars:\n{''.join(lines)}  v{count}: x\n"})
    fine = what == "one by one" and count == 30
    err = error_output(
        capsys, "-s", "dev", "vars", "h1", code=ExitCode.OK if fine else ExitCode.DEFINITION
    )
    assert fine or "levels deep" in err or "more than" in err


LONG, DEEP_PATH = "x" * 300, "d/" * 3000
OPTIONS = {
    "-C": [("-C", LONG, "lint"), ("-C", DEEP_PATH, "lint")],
    "-s": [("-s", LONG, "hosts"), ("-s", "\udcff", "hosts")],
    "-l": [
        *(("-s", "dev", "hosts", "-l", limit) for limit in (f"@{LONG}", "@.", "@/dev/zero")),
        *(
            ("-s", "dev", "hosts", "-l", limit)
            for limit in ("~(", "~" + "(" * 5000, "~a{99999999999}")
        ),
        *(
            ("-s", "dev", "hosts", "-l", limit)
            for limit in ("[" * MANY, " " * MANY + "x", "[:" * 50_000)
        ),
        ("-s", "dev", "hosts", "-l", f"h[{'9' * 5000}]"),
        ("-s", "dev", "hosts", "-l", "*a" * 2000 + "b"),
    ],
    "-e": [(*PLAN, "-e", value) for value in (f"@{LONG}", "@.", "@/dev/zero", "a" * MANY, "=")],
    "tasks": [("-s", "dev", "plan", LONG), ("-s", "dev", "plan", "a:" * 3000), ("doc", LONG)],
    "numbers": [
        ("-s", "dev", "run", "t", "--lock-wait", value) for value in ("nan", "inf", "1e300", "-1")
    ],
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options_with_what_nothing_can_be_called(
    root: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    for args in OPTIONS[option]:
        code = run_command_line(args)
        err = capsys.readouterr().err
        assert code in (ExitCode.USAGE, ExitCode.DEFINITION), (args, err[-500:])
        assert "rror: " in err
        assert "Traceback" not in err


@pytest.mark.parametrize("columns", ["9" * 5000, "²", "0", "-1"])
def test_a_terminal_of_any_width(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    error_output(capsys, "-s", "dev", "hosts", code=ExitCode.OK)


@pytest.mark.parametrize("name", [LONG, "a\0b", "~nosuchuser/x", DEEP_PATH, "\udcff", ".", ""])
@pytest.mark.parametrize("module", ["copy", "template", "upload", "unarchive"])
def test_files_with_names_that_none_can_have(
    root: Path, capsys: pytest.CaptureFixture[str], module: str, name: str
) -> None:
    write({"tasks/t.yml": json.dumps({"steps": [{module: {"src": name, "path": "f"}}]})})
    assert run_command_line(PLAN) in (ExitCode.OK, ExitCode.DEFINITION)
    assert "Traceback" not in capsys.readouterr().err


DURATIONS = ("99999999999999h", "1" + "0" * 400, "4000d", "1e400")


@pytest.mark.parametrize("value", DURATIONS)
def test_durations_that_no_timer_takes(
    root: Path, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    for step in (
        {"wait": value},
        {"run": "true", "timeout": value},
        {"run": "true", "retries": 1, "until": "true", "delay": value},
        {"run": "true", "timeout": "{{ '" + value + "' }}"},
    ):
        write({"tasks/t.yml": json.dumps({"steps": [step]})})
        assert "duration" in error_output(capsys, *PLAN)
    write({"inventories/dev/stage.yml": f"connect: {{timeout: {value}}}\n"})
    assert "duration" in error_output(capsys, "-s", "dev", "hosts")


def test_an_ssh_config_without_an_end_is_an_error(project: OrchProject) -> None:
    project.write({"inventories/dev/hosts.yml": "a: {address: 127.0.0.1}\n"})
    done = project.orch("-s", "dev", "exec", "-F", "/dev/zero", "--", "true")
    assert done.code in (3, 4)
    assert "bytes" in done.out + done.err
