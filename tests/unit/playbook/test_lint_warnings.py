from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator import playbook
from orchestrator.playbook.lint_warnings import lint_warnings

CODE = "interprets this argument as code"
OPTION = "may be taken for an option"
PIPE = "a failure left of a pipe"


def lint_notes(root: Path, task: str) -> list[tuple[str, str]]:
    """Return the warnings of one task: line:column and message."""
    (root / "tasks").mkdir()
    (root / "tasks/t.yml").write_text(task)
    notes = lint_warnings(playbook.load_tasks(root, None).by_name.values())
    return [(f"{mark.line}:{mark.column}", what) for what, mark in notes]


def step_notes(root: Path, step: dict[str, object]) -> list[tuple[str, str]]:
    return lint_notes(root, "desc: d\nsteps:\n- " + json.dumps(step, ensure_ascii=False))


def check_notes(root: Path, source: str, expected: str) -> None:
    found = [what for _, what in step_notes(root, {"run": source})]
    assert len(found) == bool(expected), found
    assert all(expected in what for what in found)


@pytest.mark.parametrize(
    "source",
    [
        "eval {{ x }}",
        "/bin/sh -c {{ x }}",
        "sh -c 'cat {{ x }}'",
        "bash -o pipefail -ec {{ x }}",
        "A=1 awk {{ x }} f",
        "awk -F: '/{{ x }}/' f",
        "sed -n 's/a/{{ x }}/' f",
        "sed f -e {{ x }}",
        "perl -ne'print {{ x }}' f",
        "perl -n -e 'print {{ x }}' f",
        "python3 -c \"print('{{ x }}')\"",
        "python3.11 -I -c {{ x }}",
        'sudo bash -c "cat {{ x }}"',
        'sudo -u {{ u }} -H -- bash -c "cat {{ x }}"',
        'find . -exec sh -c "echo {{ x }}" \\;',
        'trap "echo {{ x }}" EXIT',
        "env A=b sh -c {{ x }}",
        "env A=b {{ n }}=c sh -c {{ x }}",
        "env -S {{ x }}",
        "xargs rm -- {{ x }}",
        "xargs -0 sh -c {{ x }}",
        "su -c {{ x }}",
        "su - deploy -c 'ls {{ x }}'",
        "nohup time -p exec nice -n 5 command sh -c {{ x }}",
        "timeout -k 5 10 sh -c {{ x }}",
        "ssh -p 22 h rm -- {{ x }}",
        "ssh h sudo {{ x }}",
        'docker exec c sh -c "ls {{ x }}"',
        "psql db -c \"select '{{ x }}'\"",
        "if true; then eval {{ x }}; fi",
        "for i in a b; do sh -c {{ x }}; done",
        'echo "$(sh -c {{ x }})"',
        "! sh -c {{ x }}",
        "case a in b) sh -c {{ x }};; esac",
        "( cd a && sh -c {{ x }} )",
        "true 2>&1 >/dev/null\nsh 2>/dev/null -c {{ x }}",
        "sh \\\n  -c {{ x }}",
    ],
)
def test_a_value_that_a_command_takes_as_code_is_noted(tmp_path: Path, source: str) -> None:
    found = step_notes(tmp_path, {"run": source})
    assert [what for _, what in found if CODE in what], found
    assert not [what for _, what in found if PIPE in what]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("rm {{ x }}", OPTION),
        ("rm '{{ x }}/a'", OPTION),
        ("rm -f a{{ x }}", ""),
        ("rm -- {{ x }}", ""),
        ("cd a && rm -f {{ x }}", OPTION),
        ("sudo rm {{ x }}", OPTION),
        ("sudo -u {{ x }} id", ""),
        ("sudo {{ x }}", OPTION),
        ("sudo -- {{ x }}", ""),
        ("env A={{ x }} id", ""),
        ("env A=b nohup rm {{ x }}", OPTION),
        ("timeout 5 rm {{ x }}", OPTION),
        ("A={{ x }} id", ""),
        ("A={{ x }}", ""),
        ("{{ x }}/bin/go a", ""),
        ("{{ c }} {{ x }}", ""),
        ("ssh {{ x }} true", OPTION),
        ("sed -i s/a/b/ {{ x }}", OPTION),
        ("sed -i s/a/b/ -- {{ x }}", ""),
        ("find {{ x }} -name a", OPTION),
        ("find . -name {{ x }}", ""),
        ("python3 tool.py {{ x }}", ""),
        ("sh -c 'cat \"$1\"' - {{ x }}", ""),
        ("id > {{ x }}", ""),
        ("id >{{ x }} 2> {{ x }}", ""),
        ("id > a {{ x }}", OPTION),
        ("printf '%s\\n' {{ x }}", ""),
        ("printf '%s; rm\\n' {{ x }}", ""),
        ("echo {{ x }}", ""),
        ("for i in {{ x }}; do true; done", ""),
        ("for i in a; do echo {{ x }}; done", ""),
        ("case {{ x }} in a|b) true;; esac", ""),
        ("[ -n {{ x }} ] && true", ""),
        ("cat <<E\nrm {{ x }}\nsh -c {{ x }} | cat\nE", ""),
        ("cat <<'E'\nrm {{ x }} | a\nE", ""),
        ("cat <<E\na\nE\nrm {{ x }}", OPTION),
        ("cat <<E\n$(rm {{ x }})\nE", OPTION),
        ("echo 'rm '{{ x }}", ""),
        ('echo "a; sh -c {{ x }}"', ""),
        ("true # rm | x", ""),
        ("x {{ y | raw }}", "`raw`"),
        ("x -- {{ y | words }}", "`words`"),
    ],
)
def test_a_value_that_may_be_an_option_is_noted_and_what_cannot_is_not(
    tmp_path: Path, source: str, expected: str
) -> None:
    check_notes(tmp_path, source, expected)


@pytest.mark.parametrize(
    ("source", "columns"),
    [
        ("a | b", [3]),
        ("a |& b", [3]),
        ("a | b | c", [3]),
        ("a || b", []),
        ("echo 'a | b'", []),
        ('echo "a | b"', []),
        ("echo \"$(a | b 'c | d')\"", [11]),
        ("echo a \\| b", []),
        ("echo a >| b", []),
        ("echo -- {{ x | default('a') }}", []),
        ("echo -- {{ x | default('}}|') }} | b", [34]),
        ("case a in a|b) c | d;; e | f) true;; esac", [18]),
        ("{% if x is defined %}a | b{% endif %}", [24]),
        ("(a; b) | c", [8]),
        ("echo a # | b", []),
        ("echo $((1 | 2))", []),
        ("[[ a =~ (b|c) ]]", []),
    ],
)
def test_a_pipe_is_noted_where_it_is_one(tmp_path: Path, source: str, columns: list[int]) -> None:
    task = f"desc: d\nsteps:\n- run: |\n    {source}\n"
    assert [at for at, what in lint_notes(tmp_path, task) if PIPE in what] == [
        f"4:{column + 4}" for column in columns
    ]


@pytest.mark.parametrize(("shell", "noted"), [("bash", 0), ("/bin/bash", 0), ("dash", 1)])
def test_bash_sees_what_fails_left_of_a_pipe(tmp_path: Path, shell: str, noted: int) -> None:
    assert len(step_notes(tmp_path, {"run": "a | b", "shell": shell})) == noted


def test_every_note_stands_at_its_own_place_and_once(tmp_path: Path) -> None:
    task = """\
desc: d
steps:
- block:
  - run: |
      true
      for i in a b; do
        rm {{ x }} {{ x }}
      done
      a | sh -c {{ x }} | b
  rescue:
  - run: "rm {{ x }}"
- run: 'true'
  onlyif: rm {{ x }}
  unless: eval {{ x }} | cat
rollback:
- run: rm {{ x }}
handlers:
  h:
  - run: rm {{ x }}
"""
    assert [(at, what.split()[-1]) for at, what in lint_notes(tmp_path, task)] == [
        ("7:12", "it"),
        ("7:20", "it"),
        ("9:9", "pipefail"),
        ("9:17", "code"),
        ("11:14", "it"),
        ("13:14", "it"),
        ("14:16", "code"),
        ("16:11", "it"),
        ("19:13", "it"),
    ]


def test_a_task_without_desc_is_noted(tmp_path: Path) -> None:
    assert lint_notes(tmp_path, "steps: [{run: id}]\n") == [("1:1", "task 't' has no `desc`")]


def test_a_command_that_is_handed_on_is_not_told(tmp_path: Path) -> None:
    """Each value in it was quoted where it was written."""
    task = """\
desc: d
params: {c: {type: command}, l: {type: list, elements: command}, t: {}, n: {type: list}}
steps:
- run: "{{ c | raw }}"
- {run: "{{ item | raw }}", loop: l}
- {run: "{{ item | raw }}", loop: l + n}
- {run: "{{ c | raw }} {{ t | raw }}"}
- {run: "{{ item | raw }}", loop: [a]}
"""
    assert [position for position, _ in lint_notes(tmp_path, task)] == ["6:10", "7:24", "8:10"]


@pytest.mark.parametrize("sign", ["+", "-", "=", "?"])
def test_what_stands_in_for_a_variable_is_no_number(tmp_path: Path, sign: str) -> None:
    check_notes(tmp_path, "x={{ v }}; echo ${y:" + sign + " $x}", "")
