"""``download``: files of hosts are compared first and then downloaded."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from textwrap import dedent

import pytest

from tests.projects import OrchProject, OrchResult
from tests.sshd import SshdServer

LOG = "steps:\n- download: {path: ~/log, to: 'logs/{{ host.name }}.log'}\n"


@pytest.fixture
def two(project: OrchProject) -> OrchProject:
    project.add_sandbox_stage("a1", "a2")
    project.orch("-s", "dev", "exec", "--", 'echo "of $HOME" >~/log')
    return project


def run_task(project: OrchProject, task: str, *args: str, stage: str = "dev") -> OrchResult:
    project.write({"tasks/t.yml": task})
    done = project.orch("-s", stage, "run", "t", *args, "--json")
    assert done.events, done.err
    return done


def step_statuses(done: OrchResult, host: str = "a1") -> list[str]:
    return [step["status"] for step in done.host_steps(host)]


def host_home(project: OrchProject, host: str) -> Path:
    return project.root / ".orch" / "sandbox" / "dev" / host


def project_tree(project: OrchProject) -> dict[str, tuple[int, int]]:
    """Return all files of the project except its tasks and the logs of runs."""
    found = {}
    for path in project.root.rglob("*"):
        if not {".orch", "tasks"} & set(path.relative_to(project.root).parts):
            at = path.stat()
            found[str(path)] = (at.st_mtime_ns, at.st_ino)
    return found


def test_each_host_gives_its_own_and_only_once(two: OrchProject) -> None:
    first = run_task(two, LOG)
    assert [step_statuses(first, host) for host in ("a1", "a2")] == [["changed"], ["changed"]]
    for host in ("a1", "a2"):
        path = two.root / "logs" / f"{host}.log"
        assert path.read_bytes() == (host_home(two, host) / "log").read_bytes()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = project_tree(two)
    again = run_task(two, LOG)
    assert (again.code, step_statuses(again)) == (0, ["ok"])
    assert project_tree(two) == before
    assert sorted(p.name for p in (two.root / "logs").iterdir()) == ["a1.log", "a2.log"]


def test_a_check_compares_and_leaves_this_side_as_it_is(two: OrchProject) -> None:
    two.write({"tasks/t.yml": LOG})
    before = project_tree(two)
    done = run_task(two, LOG, "--check", "--exit-code")
    (step,) = done.host_steps("a1")
    assert (done.code, step["status"]) == (6, "would_change")
    assert project_tree(two) == before
    (change,) = step["changes"]
    assert change["before"] is None
    assert "bytes, sha256" in change["after"]
    assert run_task(two, LOG).host_steps("a1")[0]["changes"] == step["changes"]
    assert step_statuses(run_task(two, LOG, "--check")) == ["ok"]


def test_what_an_earlier_step_would_make_is_not_missing_in_a_check(two: OrchProject) -> None:
    task = dedent("""\
        steps:
        - link: {path: ~/new, to: log}
        - download: {path: ~/new, to: new/}
        """)
    one = (task, "--limit", "a1")
    done = run_task(two, *one, "--check")
    assert step_statuses(done) == ["would_change", "unknown"]
    assert "it depends on 'link ~/new', which was not run" in done.host_steps("a1")[1]["reason"]
    assert step_statuses(run_task(two, *one)) == ["changed", "changed"]
    assert (two.root / "new" / "new").read_bytes() == (host_home(two, "a1") / "log").read_bytes()


@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
def test_bytes_of_any_kind_and_number_arrive(two: OrchProject, size: int) -> None:
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    (host_home(two, "a1") / "-it's a\n$(id)").write_bytes(data)
    task = """
        steps:
          - download: {path: "-it's a\\n$(id)", to: "{{ host.name }}/ü b"}
    """
    done = run_task(two, task, "--limit", "a1")
    assert done.code == 0, done.out
    assert (two.root / "a1" / "ü b").read_bytes() == data


def test_what_is_here_keeps_its_mode_and_its_link(two: OrchProject) -> None:
    two.write({"real": "old"})
    (two.root / "real").chmod(0o640)
    (two.root / "here").symlink_to("real")
    run_task(two, "steps:\n- download: {path: ~/log, to: here}\n", "--limit", "a1")
    assert (two.root / "here").is_symlink()
    assert (two.root / "real").read_bytes() == (host_home(two, "a1") / "log").read_bytes()
    assert stat.S_IMODE((two.root / "real").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("path", "why"),
    [("~/nothing", "is not there"), ("~/file/", "is not there"), ("~/pipe", "is not a file")],
)
def test_what_is_no_file_there_is_told(two: OrchProject, path: str, why: str) -> None:
    (host_home(two, "a1") / "file").write_text("")
    os.mkfifo(host_home(two, "a1") / "pipe")
    task = f"steps:\n- download: {{path: {path}, to: x/here}}\n- run: 'true'\n"
    for args in ((), ("--check",)):
        done = run_task(two, task, "--limit", "a1", *args)
        (step,) = done.host_steps("a1")
        assert (done.code, step["status"]) == (1, "failed")
        assert why in step["reason"]
        assert not (two.root / "x").exists()


def test_what_cannot_be_written_here_is_told(two: OrchProject) -> None:
    two.write({"file": "", "folder/x/y": ""})
    for to, why in (("file/x", "not a directory"), ("folder/log/x", "cannot write")):
        (two.root / "folder" / "log").write_text("") if "log" in to else None
        done = run_task(two, f"steps:\n- download: {{path: ~/log, to: {to}}}\n", "--limit", "a1")
        assert done.host_steps("a1")[0]["status"] == "failed"
        assert "not a directory" in done.host_steps("a1")[0]["reason"], why


def test_two_hosts_cannot_bring_one_file(two: OrchProject) -> None:
    two.write({"tasks/t.yml": "steps:\n- download: {path: ~/log, to: logs/all}\n"})
    done = two.orch("-s", "dev", "plan", "t")
    assert done.code == 3
    assert "'a1' and 'a2' both download to logs/all" in done.err
    folder = "steps:\n- download: {path: ~/log, to: logs/}\n"
    two.write({"tasks/t.yml": folder})
    assert "both download to logs/log" in two.orch("-s", "dev", "run", "t").err
    assert run_task(two, folder, "--limit", "a1").code == 0


def test_it_is_modified_as_other_steps_are(two: OrchProject) -> None:
    (host_home(two, "a1") / "more").write_text("more")
    done = run_task(
        two,
        """
        steps:
          - download: {path: "~/{{ item }}", to: "got/{{ item }}"}
            loop: [log, more]
            register: both
          - download: {path: ~/nothing, to: got/nothing}
            ignore_errors: true
            register: nothing
          - download: {path: ~/log, to: got/log}
            register: same
          - run: echo {{ both.changed }} {{ nothing.failed }} {{ same.changed }}
            name: told
          - run: echo no
            when: same.changed
          - run: echo yes
            when: nothing.failed
          - download: {path: ~/log, to: got/never}
            when: same.changed
          - download: {path: ~/more, to: got/again}
            notify: seen
          - download: {path: ~/more, to: got/again}
            notify: unseen
        handlers:
          seen: [{run: echo seen}]
          unseen: [{run: echo unseen}]
        """,
        "--limit",
        "a1",
    )
    assert done.code == 0, done.out
    assert step_statuses(done) == [
        *("changed", "changed", "failed", "ok", "changed", "skipped", "changed"),
        *("skipped", "changed", "ok", "changed", "skipped"),
    ]
    output = [step["stdout"].strip() for step in done.host_steps("a1") if step["stdout"]]
    assert output == ["true true false", "yes", "seen"]
    assert sorted(p.name for p in (two.root / "got").iterdir()) == ["again", "log", "more"]


def test_it_is_tried_again_and_delegated(two: OrchProject) -> None:
    late = "(sleep 1; echo late >~/late) >/dev/null 2>&1 &"
    task = f"""
        steps:
          - run: "{late}"
          - download: {{path: ~/late, to: late}}
            until: result.succeeded
            retries: 50
            delay: 0.1
          - download: {{path: ~/log, to: other}}
            delegate_to: a2
    """
    done = run_task(two, task, "--limit", "a1")
    assert step_statuses(done) == ["changed", "changed", "changed"], done.out
    assert (two.root / "late").read_text() == "late\n"
    assert (two.root / "other").read_bytes() == (host_home(two, "a2") / "log").read_bytes()


def test_a_timeout_ends_it_and_leaves_nothing_here(two: OrchProject) -> None:
    os.mkfifo(host_home(two, "a1") / "pipe")
    task = """
        steps:
          - download: {path: ~/log, to: got/log}
            timeout: 1
            environment: {PATH: "{{ host.vars.tools }}:/usr/bin:/bin"}
    """
    tools = two.root.parent / "tools"
    tools.mkdir()
    # reads its file for the digest, but blocks when it is to be sent
    (tools / "head").write_text(
        '#!/bin/sh\nif [ "$3" = -- ]; then printf x; exec sleep 600; fi\nexec /usr/bin/head "$@"\n'
    )
    (tools / "head").chmod(0o755)
    two.write({"inventories/dev/hosts/a1.yml": f"vars: {{tools: {tools}}}\n"})
    (step,) = run_task(two, task, "--limit", "a1").host_steps("a1")
    assert (step["status"], step["reason"]) == ("timed_out", "ended after its timeout of 1 s")
    assert list((two.root / "got").iterdir()) == []


def test_what_is_another_file_by_then_is_not_taken(two: OrchProject) -> None:
    tools = two.root.parent / "tools"
    tools.mkdir()
    (tools / "head").write_text(
        '#!/bin/sh\nif [ "$3" = -- ]; then echo other; exit; fi\nexec /usr/bin/head "$@"\n'
    )
    (tools / "head").chmod(0o755)
    two.write({"got": "old"})
    task = f"""
        steps:
          - download: {{path: ~/log, to: got}}
            environment: {{PATH: "{tools}:/usr/bin:/bin"}}
    """
    (step,) = run_task(two, task, "--limit", "a1").host_steps("a1")
    assert step["status"] == "failed"
    assert "changed on the host while it was read" in step["reason"]
    assert (two.root / "got").read_text() == "old"


@pytest.mark.parametrize(
    ("task", "why"),
    [
        ("- download: {path: ~/log}\n", "download needs `to`"),
        ("- download: ~/log\n", "download must be a mapping"),
        ("- download: {path: a, to: b, form: c}\n", "unknown key 'form'"),
        ("- download: {path: a, to: b}\n  failed_when: false\n", "`failed_when` is not allowed"),
        (
            "- {run: pwd, register: r}\n- download: {path: a, to: '{{ r.stdout }}/x'}\n",
            "text from a host (`r`)",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(two: OrchProject, task: str, why: str) -> None:
    two.write({"tasks/t.yml": f"steps:\n{task}"})
    done = two.orch("-s", "dev", "run", "t")
    assert done.code in (1, 3)
    assert why in done.err + done.out


def test_the_plan_shows_both_ends_and_that_no_host_changes(two: OrchProject) -> None:
    two.write({"tasks/t.yml": LOG})
    shown = two.orch("-s", "dev", "plan", "t").out
    for output in ("download ~/log", "to: logs/a1.log", "to: logs/a2.log", "no step changes"):
        assert output in shown
    assert "o_module" not in shown


def test_over_a_real_sshd(project: OrchProject, sshd: SshdServer, tmp_path: Path) -> None:
    project.add_sshd_stage(sshd, {"r1": "127.0.0.1", "r2": "127.0.0.2"})
    data = os.urandom(500_000)
    (tmp_path / "data").write_bytes(data)
    task = f"steps:\n- download: {{path: {tmp_path}/data, to: 'got/{{{{ host.name }}}}'}}\n"
    done = run_task(project, task, stage="real")
    assert done.code == 0, done.out
    assert [(project.root / "got" / host).read_bytes() == data for host in ("r1", "r2")] == [
        True
    ] * 2


@pytest.mark.long
def test_a_host_may_take_long_to_read_its_files(two: OrchProject, tmp_path: Path) -> None:
    """It is silent for longer than a transfer may be, for the list and for a file that grows."""
    (tmp_path / "tools").mkdir()
    for name, script in {
        "sha256sum": 'sleep 3; exec /usr/bin/sha256sum "$@"',
        "head": f'echo more >>{host_home(two, "a1")}/large; exec /usr/bin/head "$@"',
    }.items():
        (tmp_path / "tools" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "tools" / name).chmod(0o755)
    two.write({"inventories/dev/stage.yml": "connect: {transport: sandbox, timeout: 2}\n"})
    (host_home(two, "a1") / "large").write_bytes(b"x" * 300_000)
    path = f"environment: {{PATH: '{tmp_path}/tools:/usr/bin:/bin'}}"
    task = f"steps:\n- download: {{path: ~/., to: got}}\n  {path}\n"
    for status in ("changed", "changed"):  # another line in the second run
        done = run_task(two, task, "--limit", "a1")
        assert step_statuses(done) == [status], done.out
    assert (two.root / "got" / "large").read_bytes().startswith(b"x" * 300_000 + b"more\n")
