"""Params of type `regex`: what POSIX's extended regular expressions do not have is refused."""

from __future__ import annotations

import subprocess

import pytest

from orchestrator.playbook.param_types import posix_regex_error
from tests.projects import OrchProject


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (r"^port \d+", r"no \d: write [0-9]"),
        (r"a\Db", r"no \D: write [^0-9]"),
        (r"(?i)x", "no (?i: write both letters"),
        (r"(?:a|b)", "no (?:: write ( alone"),
        (r"a(?!b)", "no (?!: lookahead is not supported"),
        (r"(?P<n>x)", "no (?P: write ("),
        (r"a.*?b", "no *?: leave out the ?"),
        (r"a{2,3}?", "no }?: leave out the ?"),
        (r"[0-9]++", "no ++: leave out the +"),
        (r"a\tb", r"no \t: write [[:blank:]]"),
        (r"\x41", r"no \x"),
        (r"[a\d]", r"no \d between brackets: write 0-9"),
        (r"[^]\s[:alpha:]]", r"no \s between brackets: write [:space:]"),
    ],
)
def test_what_only_perl_has_is_refused(text: str, message: str) -> None:
    assert message in posix_regex_error(text)


KNOWN = [
    r"^#?\s*Port\b",
    r"\(?x\)?",
    r"[(?:*+?]",
    r"[]*?]",
    r"[[:digit:]]+\.\*?",
    r"\\d\\",
    r"}?",
    r"(a|b)?",
    r"\<a\>",
    r"(a)\1",
    r"[\.]\+?\?",
    r"\-\/\"",
    "ü?\\ü",
    "EOF",
    "",
]


@pytest.mark.parametrize("text", KNOWN)
@pytest.mark.parametrize("grep", [["grep"], ["busybox", "grep"]])
def test_what_grep_knows_may_stand(text: str, grep: list[str]) -> None:
    assert not posix_regex_error(text)
    done = subprocess.run([*grep, "-E", "-e", text], check=False, input=b"x\n", capture_output=True)
    assert done.returncode in (0, 1), done.stderr


def test_what_grep_refuses_and_long_texts_are_its_matter() -> None:
    for text in ("[", "(", "\\", "[[:", "[a", "[[:" * 100_000, "(" * 100_000):
        assert not posix_regex_error(text)


@pytest.mark.parametrize(
    "step",
    [
        r"line: {path: /x, line: a, match: '^\d'}",
        r"line: {path: /x, line: a, after: '{{ pattern }}'}",
        r"text_block: {path: /x, before: '^\d'}",
        r"wait_for: {path: /x, line: '{{ pattern }}x'}",
    ],
)
def test_it_is_refused_before_anything_runs(project: OrchProject, step: str) -> None:
    project.add_sandbox_stage("a1").write(
        {"tasks/t.yml": f"vars: {{pattern: '\\d'}}\nsteps:\n  - {step}\n"}
    )
    done = project.orch("-s", "dev", "run", "t")
    assert done.code == 3
    assert r"has no \d: write [0-9]" in done.err
    assert "tasks/t.yml:" in done.err
    assert not (project.root / ".orch/runs").exists()


def test_one_that_a_host_says_is_refused_then(project: OrchProject) -> None:
    steps = "  - {run: printf %s '\\d', register: r, readonly: true}\n"
    steps += "  - line: {path: ~/x, line: a, create: true, match: '{{ r.stdout }}'}\n"
    project.add_sandbox_stage("a1").write({"tasks/t.yml": f"steps:\n{steps}"})
    done = project.orch("-s", "dev", "run", "t")
    assert done.code == 1
    assert r"has no \d: write [0-9]" in done.out + done.err
