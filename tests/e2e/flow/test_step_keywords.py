"""Keywords of steps, blocks and handlers: each with a check, a run and a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.projects import OrchProject, OrchResult
from tests.sshd import serve_sshd


@pytest.fixture
def one(project: OrchProject) -> OrchProject:
    return project.add_sandbox_stage("a1")


def run_task(project: OrchProject, task: str, *args: str) -> OrchResult:
    project.write({"tasks/t.yml": task})
    done = project.orch("-s", "dev", "run", "t", *args, "--json")
    assert done.events, done.err
    return done


def step_results(done: OrchResult, host: str = "a1") -> list[tuple[str, str]]:
    return [(s["status"], s["stdout"].strip()) for s in done.host_steps(host)]


def step_outputs(done: OrchResult) -> list[str]:
    return [out for _, out in step_results(done)]


def test_vars_and_loops_over_blocks(one: OrchProject) -> None:
    task = """
        steps:
        - block:
          - run: "echo {{ n }} {{ path }}; test {{ item }} != {{ bad | default('none') }}"
            vars: {path: "/srv/{{ item }}"}
          - run: echo after {{ item }}
          loop: [a, b]
          loop_control: {index: n, pause: 10ms}
        - run: echo end
    """
    done = run_task(one, task, "--check")
    assert (done.code, [status for status, _ in step_results(done)]) == (0, ["would_run"] * 5)
    texts = ["0 /srv/a", "after a", "1 /srv/b", "after b", "end"]
    done = run_task(one, task)
    assert (done.code, step_results(done)) == (0, [("changed", text) for text in texts])
    done = run_task(one, task, "-e", "bad=a")
    failed = [("failed", "0 /srv/a"), ("changed", "1 /srv/b"), ("changed", "after b")]
    assert (done.code, step_results(done)) == (1, failed)


HANDLERS = """
    steps:
    - {run: echo one, notify: news}
    - flush_handlers
    - {run: "echo two; test {{ bad | default('no') }} = no", notify: late}
    - {run: echo three, readonly: true, notify: news}
    handlers:
      first: {listen: news, steps: [{run: echo FIRST}]}
      second: {listen: [news, late], steps: [{run: echo SECOND, local: true}]}
"""


def test_listen_and_flush_handlers(one: OrchProject) -> None:
    done = run_task(one, HANDLERS, "--check")
    assert [status for status, _ in step_results(done)] == [
        *["would_run"] * 4,
        *["ok", "skipped", "would_run"],
    ]
    done = run_task(one, HANDLERS)
    assert (done.code, step_results(done)) == (
        0,
        [
            *[("changed", text) for text in ("one", "FIRST", "SECOND", "two")],
            *[("ok", "three"), ("skipped", ""), ("changed", "SECOND")],
        ],
    )
    done = run_task(one, HANDLERS, "-e", "bad=yes")
    assert (done.code, step_results(done)[3:]) == (1, [("failed", "two")])
    assert "pending" not in done.host_rows["a1"]["reason"]


def test_call_one_of_and_vars_of_files(one: OrchProject) -> None:
    one.write(
        {
            "tasks/vars.yml": "words: {apk: from a folder}\n",
            "tasks/is_apk.yml": "steps: [{run: 'echo {{ words.apk }}'}]\n",
            "tasks/is_apt.yml": "steps: [{run: echo apt}]\n",
        }
    )
    task = """
        steps:
        - {run: "echo {{ kind | default('apk') }}", readonly: true, register: kind_of}
        - call: {task: "is_{{ kind_of.stdout }}", one_of: [is_apk, is_apt]}
          register: called
        - run: echo {{ called.changed }}
    """
    done = run_task(one, task, "--check")
    statuses = ["ok", "ok", "would_run", "skipped", "would_run"]
    assert (done.code, [status for status, _ in step_results(done)]) == (0, statuses)
    done = run_task(one, task)
    outputs = [out for status, out in step_results(done) if status == "changed"]
    assert (done.code, outputs) == (0, ["from a folder", "true"])
    done = run_task(one, task, "-e", "kind=rpm")
    assert done.code == 1
    assert "'is_rpm' is not one of is_apk, is_apt" in done.host_rows["a1"]["reason"]


def test_contents_of_a_step_without_diff_are_not_shown(one: OrchProject) -> None:
    task = """
        steps:
        - copy: {path: ~/a, content: "shown\\n"}
        - copy: {path: ~/b, content: "not shown\\n"}
          diff: false
    """
    for args in (["--check", "--diff"], ["--diff"]):
        shown, hidden = run_task(one, task, *args).host_steps("a1")
        assert "+shown" in shown["diff"]
        assert "diff" not in hidden


SECRET = """
    steps:
    - run: "cat ~/token ~/more; cat ~/token >&2"
      readonly: true
      secret: true
      register: token
    - run: echo {{ token.stdout.splitlines()[0] }} {{ token.stderr | upper }}
    - copy: {path: ~/copy, content: "{{ token.stdout }}\\n"}
      secret: true
    - {run: "cat ~/copy; false", secret: true, loop: [1], register: each}
"""


def test_a_secret_step_shows_nothing_and_registers_a_secret(one: OrchProject) -> None:
    home = one.root / ".orch/sandbox/dev/a1"
    run_task(one, "steps: [{run: 'true'}]")
    (home / "token").write_text("tok-zebra")
    (home / "more").write_text("\nline-quagga")
    for args in (["--check", "--diff"], ["--diff"]):
        done = run_task(one, SECRET, *args)
        files = [path for path in (one.root / ".orch/runs").rglob("*") if path.is_file()]
        log = b"".join(path.read_bytes() for path in files)
        shown = (done.out + done.err).encode() + log
        assert not [text for text in (b"zebra", b"quagga") if text in shown]
    assert done.code == 1
    first, second, third, last = done.host_steps("a1")
    assert (first["stdout"], first["stderr"]) == ("‹token›", "‹token›")
    assert second["stdout"] == "‹token› ‹token›"
    assert third["status"] == "changed"
    assert (last["stdout"], last["reason"]) == ("‹each›", "exit status 1")
    assert (home / "copy").read_text() == "tok-zebra\nline-quagga\n"


THROTTLE = """
    vars: {one: "ROOT/one", two: "ROOT/two", then: "{{ host.name == bad | default('') }}"}
    steps:
    - run: mkdir {{ one }} && sleep 0.05 && rmdir {{ one }}
      throttle: 1
    - block:
      - run: mkdir {{ two }}
      - run: rmdir {{ two }}; test {{ then }} = false
      throttle: 1
"""


def test_throttle_lets_one_host_after_the_other_run_a_step_or_block(project: OrchProject) -> None:
    project.add_sandbox_stage("a1", "a2", "a3")
    task = THROTTLE.replace("ROOT", str(project.root))
    done = run_task(project, task, "--check")
    assert (done.code, done.host_steps("a2")[1]["status"]) == (0, "would_run")
    done = run_task(project, task)
    assert (done.code, [len(done.host_steps(h)) for h in ("a1", "a2", "a3")]) == (0, [3, 3, 3])
    done = run_task(project, task, "-e", "bad=a2")
    statuses = {host: row["status"] for host, row in done.host_rows.items()}
    assert statuses == {"a1": "changed", "a2": "failed", "a3": "changed"}


ANY_ERRORS = """
    vars: {flag: "ROOT/failed"}
    tasks:
    - steps:
      - run: until [ -e {{ flag }} ]; do sleep 0.02; done; sleep 0.3
        when: host.name == 'a1'
      - run: touch {{ flag }}; test {{ bad | default('no') }} = no
        when: host.name == 'a2'
      - run: echo late
      any_errors: stop
      name: part
"""


def test_any_errors_stop_ends_the_other_hosts_after_their_step(project: OrchProject) -> None:
    project.add_sandbox_stage("a1", "a2")
    task = ANY_ERRORS.replace("ROOT", str(project.root))
    done = run_task(project, task, "--check")
    assert (done.code, len(done.host_steps("a1"))) == (0, 3)
    done = run_task(project, task, "-e", "bad=yes")
    assert [s["name"] for s in done.host_steps("a1")][1:] == []
    assert done.host_rows["a1"]["status"] == "stopped"
    assert done.host_rows["a1"]["reason"] == "stopped in 'part', because a2 failed"
    assert done.host_rows["a2"]["status"] == "failed"
    assert len(run_task(project, task).host_steps("a1")) == 3


def test_environment_mappings_json_variables_and_ignored_asserts(one: OrchProject) -> None:
    task = """
        steps:
        - run: echo "$A $B"
          environment: "{{ envs }}"
          readonly: true
        - {assert: 1 > 2, ignore_errors: true, register: r}
        - {fail: no, when: r.succeeded}
    """
    envs = '{"envs": {"A": "{{ x }}", "B": 2}}'
    for args in ([], ["--check"]):
        done = run_task(one, task, "-e", envs, *args)
        assert (done.code, step_results(done)[0]) == (0, ("ok", "{{ x }} 2"))
    done = one.orch("-s", "dev", "run", "t", "-e", '{"envs": {"a-b": 1}}')
    assert (done.code, "'a-b' cannot name an environment variable" in done.err) == (3, True)


ONCE = """
    steps:
    - {run: "echo {{ host.name }}", notify: h, changed_when: host.name == 'a2'}
    - {run: "echo {{ host.name }}; {{ bad | default('true') | words }}", once: true, register: r}
    - pause: {prompt: "go on?"}
    - {run: "echo {{ r.stdout }}; {{ late | default('true') | words }}"}
    handlers: {h: [{run: echo HANDLER}]}
"""


def test_once_and_pause_and_a_handler_that_an_earlier_part_notified(project: OrchProject) -> None:
    project.add_sandbox_stage("a1", "a2")
    done = run_task(project, ONCE, "--check")
    statuses = {h: [s for s, _ in step_results(done, h)] for h in ("a1", "a2")}
    assert statuses["a1"] == ["would_run", "would_run", "unknown", "would_run"]
    assert statuses["a2"] == ["would_run", "unknown", "would_run"]
    done = run_task(project, ONCE, "--yes")
    assert step_results(done, "a1") == [
        *(("ok", "a1"), ("changed", "a1"), ("changed", "a1"), ("skipped", "")),
    ]
    expected = [("changed", "a2"), ("changed", "a1"), ("changed", "HANDLER")]
    assert step_results(done, "a2") == expected
    failed = run_task(project, ONCE, "--yes", "-e", "bad=false")
    assert (failed.code, step_results(failed, "a2")) == (1, [("changed", "a2")])
    assert "--handler h -l a2" in failed.host_rows["a2"]["hint"]
    failed = run_task(project, ONCE, "--yes", "-e", "late=false")
    run = failed.events[0]["run"]
    project.write({"tasks/t.yml": ONCE.replace("late |", "other |")})
    resumed = project.orch("resume", run, "--accept-changes")
    assert (resumed.code, "HANDLER" in resumed.out) == (0, True)
    refused = project.orch("-s", "dev", "run", "t")
    assert (refused.code, "needs an answer, and stdin is not a terminal" in refused.err) == (
        2,
        True,
    )
    stopped = project.orch_on_terminal("-s", "dev", "run", "t", typed="q\n")
    assert (stopped.code, "go on? (Enter goes on, q stops)" in stopped.err) == (2, True)
    assert project.orch_on_terminal("-s", "dev", "run", "t", typed="\n").code == 0


def test_handlers_of_a_playbook(one: OrchProject) -> None:
    one.write({"tasks/part.yml": "steps: [{run: echo part, notify: reload}]\n"})
    task = """
        tasks: [part, part, commit, steps: [{run: "echo {{ bad | default('ok') }} | grep ok"}], part]
        handlers: {reload: [{run: echo RELOAD}]}
    """
    done = run_task(one, task, "--check")
    assert (done.code, {status for status, _ in step_results(done)}) == (0, {"would_run"})
    done = run_task(one, task)
    outputs = ["part", "part", "RELOAD", "ok", "part", "RELOAD"]
    assert (done.code, step_outputs(done)) == (0, outputs)
    done = run_task(one, task, "-e", "bad=x")
    assert (done.code, step_outputs(done)[2:]) == (1, ["RELOAD", ""])
    assert "hint" not in done.host_rows["a1"] or not done.host_rows["a1"]["hint"]
    again = one.orch("-s", "dev", "run", "t", "--handler", "reload", "--json")
    assert step_outputs(again) == ["RELOAD"]


RECONNECT = """
    steps:
    - run: |
        p=$$
        until [ "$(cat /proc/$p/comm)" = sshd ]; do p=$(awk '{print $4}' /proc/$p/stat); done
        nohup sh -c "sleep 0.1; kill -9 $p" >/dev/null 2>&1 &
    - {run: "rm FOLDER/authorized_keys", local: true, when: gone is defined}
    - wait_for_connection: {delay: 400ms, timeout: 300ms}
    - run: echo back
"""


def test_wait_for_connection_connects_again(project: OrchProject, tmp_path: Path) -> None:
    with serve_sshd(tmp_path / "server") as sshd:
        project.add_sshd_stage(sshd, {"a1": "127.0.0.1"}, stage="dev")
        task = RECONNECT.replace("FOLDER", str(sshd.folder))
        done = run_task(project, task, "--check")
        assert (done.code, done.host_steps("a1")[2]["status"]) == (0, "ok")
        done = run_task(project, task)
        assert (done.code, step_outputs(done)[2:]) == (0, ["", "back"])
        assert sshd.log().count("Accepted publickey") == 3
        done = run_task(project, task, "-e", "gone=1")
    assert (done.code, [s["status"] for s in done.host_steps("a1")][2:]) == (1, ["failed"])
    assert "not reached within 0.3 s" in done.host_rows["a1"]["reason"]


REBOOT = """
    steps:
    - run: |
        p=$$
        until [ "$(cat /proc/$p/comm)" = sshd ]; do p=$(awk '{print $4}' /proc/$p/stat); done
        echo $p > FOLDER/connection
        echo one > FOLDER/boot
    - reboot:
        command: "kill -9 $(cat FOLDER/connection); sleep 0.5; echo {{ next | default('two') }} > FOLDER/boot"
        boot_id: cat FOLDER/boot
        test: echo tested >> FOLDER/tests
        delay: 0
        timeout: "{{ patience | default('1m') }}"
    - run: cat FOLDER/boot FOLDER/tests
"""


def test_a_host_is_restarted(project: OrchProject, tmp_path: Path) -> None:
    """The connection breaks, and only later the host reports another start."""
    with serve_sshd(tmp_path / "server") as sshd:
        project.add_sshd_stage(sshd, {"a1": "127.0.0.1"}, stage="dev")
        task = REBOOT.replace("FOLDER", str(sshd.folder))
        (sshd.folder / "boot").write_text("one\n")
        done = run_task(project, task, "--check")
        assert [s["status"] for s in done.host_steps("a1")] == [
            "would_run",
            "ok",
            "would_run",
            "ok",
            "would_run",
        ]
        assert not (sshd.folder / "connection").exists()
        done = run_task(project, task)
        assert (done.code, step_outputs(done)[-1]) == (0, "two\ntested")
        assert sshd.log().count("Accepted publickey") == 3
        done = run_task(project, task, "-e", "next=one", "-e", "patience=2s")
    assert done.code == 1
    reason = done.host_rows["a1"]["reason"]
    assert "not reached within 2 s: its `test` fails: the host has not restarted" in reason


NEEDS = """
    steps:
    - copy: {path: ~/server.conf, content: "x\\n"}
    - database: {}
    - {fail: no, when: bad is defined}
"""


def test_a_probe_that_needs_a_module_is_unknown_after_one_that_was_not_run(
    one: OrchProject,
) -> None:
    module = (
        "probe: test -e server.conf; [ ! -e made ] || state made yes\n"
        "want: {made: 'yes'}\nfix: touch made\nmakes: []\nreads: []\n"
    )
    one.write({"tasks/database.yml": module})
    done = run_task(one, NEEDS, "--check")
    assert [status for status, _ in step_results(done)] == ["would_change", "failed"]
    one.write({"tasks/database.yml": f"{module}needs: [copy]\n"})
    done = run_task(one, NEEDS, "--check")
    assert [s["status"] for s in done.host_steps("a1")[:2]] == ["would_change", "unknown"]
    assert "depends on 'copy ~/server.conf'" in done.host_steps("a1")[1]["reason"]
    assert run_task(one, NEEDS).code == 0
    assert run_task(one, NEEDS, "-e", "bad=1").code == 1


def test_templates_of_several_files(one: OrchProject) -> None:
    one.write(
        {
            "tasks/page.j2": """{% extends 'base.j2' %}{% from 'm.j2' import hi %}
                {% block main %}{{ hi(name) }} {% include 'late.j2' %}{% endblock %}""",
            "tasks/base.j2": "<{% block main %}{% endblock %}>\n",
            "tasks/m.j2": "{% macro hi(x) %}hi {{ x }}{% endmacro %}",
            "tasks/late.j2": "{{ r.stdout }}",
        }
    )
    task = """
        steps:
        - {run: echo result, register: r, readonly: true}
        - template: {src: page.j2, path: ~/page}
    """
    done = run_task(one, task, "--check", "--diff", "-e", "name=you")
    assert (done.code, "+<hi you result>" in done.host_steps("a1")[1]["diff"]) == (0, True)
    done = run_task(one, task, "-e", "name=you")
    page = one.root / ".orch/sandbox/dev/a1/page"
    assert (done.code, page.read_text()) == (0, "<hi you result>\n")
    done = one.orch("-s", "dev", "run", "t")
    assert (done.code, "tasks/page.j2:2" in done.err, "'name' is undefined" in done.err) == (
        3,
        True,
        True,
    )
