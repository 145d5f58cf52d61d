"""Filters of the project: which functions they are, what they are called with, and their errors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from orchestrator.errors import DefinitionError
from orchestrator.playbook.own_filters import load_own_filters
from orchestrator.playbook.task_loader import load_tasks
from orchestrator.yamlio.local_files import display_path
from tests.unit.planner.plan_project import PlanProject, command_of, resumed_command

FILTERS = '''\
from __future__ import annotations

import re
from dataclasses import dataclass

RUNS = []


@dataclass
class Pair:
    name: str


def shout(text, sign="!"):
    """The text in capitals.

    With a sign.
    """
    return _capitals(text) + sign


def pairs(given: dict, *, order=None):
    for key in sorted(given):
        yield {"key": Pair(key).name, "value": given[key]}


def popped(items):
    items.pop()
    return items


def kind(value):
    return type(value).__name__


def fails(value):
    raise KeyError(
        f"no {value}"
    )


def quits(value):
    raise SystemExit(3)


def odd(value):
    return {"set": {1}, "object": Pair("x"), "bytes": b"x", "key": {(1, 2): 3}, "self": kind}[value]


def endless(value):
    while True:
        yield value


def _capitals(text):
    RUNS.append(text)
    return re.sub("x", "y", text).upper()
'''
PLUGIN = """\
def join_all(values, between=', '):
    '''All values in one text.'''
    return between.join(values)

def helper(value):
    return value

class FilterModule(object):
    def filters(self):
        return {'join_all': join_all, 'first_of': lambda values: values[0]}
"""


@pytest.fixture
def project(plans: PlanProject) -> PlanProject:
    return plans.write({"tasks/filters/texts.py": FILTERS, "tasks/filters/plugin.py": PLUGIN})


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("'ax' | shout", "'AY!'"),
        ("'a' | shout('?')", "'A?'"),
        ("'a' | shout(sign='?') | lower", "'a?'"),
        ("({'b': 1, 'a': [true, none]} | pairs)[0].value[0]", "true"),
        ("{'b': 1, 'a': 2} | pairs | map(attribute='key') | join", "ab"),
        ("['a', 'b'] | map('shout', '') | join", "AB"),
        ("['b', 'a'] | join_all", "'b, a'"),
        ("['b', 'a'] | first_of", "b"),
        ("host | kind ~ (roles | kind) ~ (roles.web | kind) ~ (1.5 | kind)", "strdictlistfloat"),
        ("'shout' is filter", "true"),
        ("said", "'HELLO!'"),
    ],
)
def test_a_function_of_the_project_is_a_filter(
    project: PlanProject, expression: str, text: str
) -> None:
    project.variables("said: \"{{ 'hello' | shout }}\"")
    assert project.command(f"- run: |-\n    echo {{{{ {expression} }}}}\n").text == f"echo {text}"


def test_every_kind_of_template_has_the_filters(project: PlanProject) -> None:
    project.write(
        {"tasks/a.j2": "{{ 'a' | shout }}{% include 'b.j2' %}", "tasks/b.j2": "{{ 'b' | shout }}"}
    )
    steps = """
    - run: echo {{ render('a.j2') }} {{ item | shout }} {{ v }}
      loop: "{{ ['c'] | map('shout') | list }}"
      when: ('d' | shout) == 'D!' and (item | shout) == 'C!!'
      vars: {v: "{{ 'e' | shout }}"}
      name: step {{ 'f' | shout }}
    """
    step = project.step(steps)
    assert command_of(step).text == "echo 'A!B!' 'C!!' 'E!'"
    assert step.name.startswith("step F!")


def test_text_of_a_host_is_filtered_when_it_is_known(project: PlanProject) -> None:
    step = project.step("- {run: x, register: r}\n- run: echo {{ r.stdout | shout }} > x\n")
    assert step.awaited_names == ("r",)
    assert resumed_command(step, r="a;b").text == "echo 'A;B!' > x"


def test_text_of_a_host_stays_one_through_a_filter(project: PlanProject) -> None:
    step = project.step("- {run: x, register: r}\n- run: echo {{ r.stdout | shout | raw }}\n")
    with pytest.raises(DefinitionError) as failed:
        resumed_command(step, r="a;b")
    assert "`raw` of 'r', which came from a host" in failed.value.diagnostics[0].message


def test_a_filter_cannot_change_a_variable(project: PlanProject) -> None:
    project.variables("letters: [a, b, c]")
    steps = "- run: echo {{ letters | popped }} {{ letters | popped }} {{ letters }}\n"
    assert project.command(steps).text == "echo a b a b a b c"


@pytest.mark.parametrize(
    ("expression", "message", "hint"),
    [
        ("1 | fails", "filter 'fails' fails: KeyError: 'no 1'", "line of raise KeyError"),
        ("1 | quits", "filter 'quits' fails: SystemExit: 3", "line of raise SystemExit"),
        ("1 | shout", "filter 'shout' fails: TypeError: expected string", "line of return re.sub"),
        (
            "'a' | shout(1, 2)",
            "filter 'shout' fails: TypeError: shout() takes",
            "line of def shout",
        ),
        ("'set' | odd", "filter 'odd' returns a value of the type 'set'", "it can be text"),
        ("'object' | odd", "filter 'odd' returns a value of the type 'Pair'", "it can be text"),
        ("'bytes' | odd", "filter 'odd' returns a value of the type 'bytes'", "it can be text"),
        ("'self' | odd", "filter 'odd' returns a value of the type 'function'", "it can be text"),
        (
            "'key' | odd",
            "filter 'odd' returns a mapping with a key of the type 'tuple': (1, 2)",
            "it can be text",
        ),
        ("1 | endless", "this would be a list of more than 1,000,000 values", ""),
        ("(nothing | shout)", "'nothing' is undefined", ""),
        ("'x' | helper", "there is no filter 'helper'", ""),
        ("'x' | _capitals", "there is no filter '_capitals'", ""),
        ("'x' | Pair", "there is no filter 'Pair'", ""),
        ("'x' | shuot", "there is no filter 'shuot'", "did you mean 'shout'?"),
        ("'x' | entirely_mine", "there is no filter", "a function in tasks/filters/NAME.py"),
    ],
)
def test_an_error_names_the_filter_and_the_line(
    project: PlanProject, expression: str, message: str, hint: str
) -> None:
    problem = project.refused_steps(f"- run: |-\n    echo {{{{ {expression} }}}}\n")
    assert message in problem.message
    if hint.startswith("line of "):
        lines = FILTERS.splitlines()
        number = next(n for n, line in enumerate(lines, 1) if hint[8:] in line)
        hint = f"see {display_path(project.root / 'tasks/filters/texts.py')}:{number}"
    assert hint in problem.hint
    assert problem.mark is not None
    assert problem.mark.line == 3


@pytest.mark.parametrize(
    ("text", "message", "hint", "line"),
    [
        ("def a(x):\n    return (x\n", "invalid Python: '(' was never closed", "", 2),
        ("def a(x):\n    return '\0'\n", "invalid Python: ", "", 1),
        ("\n\ndef combine(x):\n    return x\n", "orch has a filter of that name", "my_combine", 3),
        ("def raw(x):\n    return x\n", "orch has a filter of that name", "my_raw", 1),
        ("x = 1\nclass FilterModule:\n    filters = {}\n", "cannot be read", "written out", 2),
        (
            "class FilterModule:\n    def filters(self):\n        return dict(a=1)\n",
            "the names of these filters cannot be read",
            "each function of the file is a filter",
            1,
        ),
        (
            "class FilterModule:\n    def filters(self):\n        return {**x, 'a': 1}\n",
            "the names of these filters cannot be read",
            "",
            1,
        ),
    ],
)
def test_a_file_in_error_is_reported_before_anything_runs(
    plans: PlanProject, text: str, message: str, hint: str, line: int
) -> None:
    plans.write({"tasks/filters/texts.py": text}).write_task("steps: [{run: 'true'}]")
    problem = plans.only_diagnostic("t")
    assert message in problem.message
    assert hint in problem.hint
    assert problem.mark is not None
    assert problem.mark.path.endswith("tasks/filters/texts.py")
    assert problem.mark.line == line


def test_two_filters_of_one_name_are_an_error(plans: PlanProject) -> None:
    plans.write({f"tasks/filters/{name}.py": "def a(x):\n    return x\n" for name in "pq"})
    problem = plans.write_task("steps: [{run: 'true'}]").only_diagnostic("t")
    assert problem.message == "the filter 'a' is defined twice"
    assert "filters/p.py:1" in problem.hint


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("import ansible_of_theirs.errors\n", "ModuleNotFoundError", "install it beside orch"),
        ("from ansible.nothing import x\n", "ModuleNotFoundError", "drop the import"),
        ("x = 1 / 0\n", "texts.py:1 fails: ZeroDivisionError: division by zero", ""),
        ("import sys\nsys.exit('enough')\n", "texts.py:2 fails: SystemExit: enough", ""),
    ],
)
def test_a_file_that_fails_is_an_error_only_where_it_is_used(
    plans: PlanProject, text: str, message: str, hint: str
) -> None:
    plans.write({"tasks/filters/texts.py": f"{text}def a(x):\n    return x\n"})
    assert plans.command("- run: echo hi\n").text == "echo hi"
    problem = plans.refused_steps("- run: echo {{ 1 | a }}\n", host="web1,web2")
    assert message in problem.message
    assert hint in problem.hint


def test_loading_runs_no_file_and_a_file_runs_once(plans: PlanProject, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    text = f"open({str(trace)!r}, 'a').write('run ')\ndef a(x):\n    return x\n"
    plans.write({"tasks/filters/texts.py": text})
    plans.write_task('steps: [{run: "echo {{ host.name | a }}"}]')
    load_tasks(plans.root, None)
    assert not trace.exists()
    plans.plan("t")
    plans.plan("t")
    assert trace.read_text() == "run "
    assert load_own_filters(plans.root) is load_own_filters(plans.root)
    assert not list(plans.root.rglob("__pycache__"))
    plans.write({"tasks/filters/texts.py": text.replace("return x", "return 'new'")})
    assert plans.command("- run: echo {{ 1 | a }}\n").text == "echo new"


def test_a_kept_template_does_not_outlive_its_filter(
    plans: PlanProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plans.write(
        {"tasks/filters/texts.py": "def a(x):\n    return x\n", "tasks/x.j2": "{{ 1 | a }}"}
    )
    steps = """
    - run: echo {{ 1 | a }} {{ render('x.j2') }}
      when: (1 | a) == 1
      chdir: "{{ '/' | a }}"
    """
    for _ in range(2):
        assert plans.command(steps).text == "cd -- /\necho 1 1"
    assert list(tmp_path.rglob("orch/templates/*/*"))
    (plans.root / "tasks/filters/texts.py").unlink()
    plans.write_task(f"steps:\n{steps}")
    messages = [problem.message for problem in plans.diagnostics("t")]
    assert messages == ["there is no filter 'a'"] * 3


def test_what_a_filter_prints_goes_to_stderr(
    plans: PlanProject, capsys: pytest.CaptureFixture[str]
) -> None:
    plans.write({"tasks/filters/texts.py": "def a(x):\n    print('seen', x)\n    return x\n"})
    plans.command("- run: echo {{ 1 | a }}\n")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert set(captured.err.splitlines()) == {"seen 1"}


def test_a_file_may_import_modules_and_has_its_own_path(plans: PlanProject) -> None:
    text = "import json, os\n\ndef a(x):\n    return json.dumps(os.path.basename(__file__))\n"
    plans.write(
        {"tasks/filters/of mine.py": text, "tasks/filters/.#x.py": "(", "tasks/filters/x.txt": "("}
    )
    assert plans.command("- run: echo {{ 1 | a }}\n").text == "echo '\"of mine.py\"'"
    assert not [name for name in sys.modules if "of mine" in name]
