"""`orch resume`: a run goes on at the step where it ended on each host."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.e2e.flow.test_killed_run import kill_orch, read_lines
from tests.projects import OrchProject
from tests.sshd import wait_until

SECRET_STAGE = "connect: {transport: sandbox}\nvars: {word: !secret {env: WORD}}\n"


@pytest.fixture
def site(project: OrchProject) -> OrchProject:
    """Create a stage of two hosts; a step fails on a host until its file `ok` exists."""
    return project.add_sandbox_stage("a1", "a2").write(
        {
            "tasks/site.yml": """
                steps:
                  - run: echo one >> ~/log; echo {{ run.release }}
                    register: told
                  - set: {word: "{{ told.stdout }}"}
                  - run: echo "two {{ word }}" >> ~/log
                    notify: h
                  - run: test -e ~/ok; echo three >> ~/log
                handlers:
                  h: [{run: echo handled >> ~/log}]
            """
        }
    )


def home(site: OrchProject, host: str) -> Path:
    return site.root / ".orch/sandbox/dev" / host


def log(site: OrchProject, host: str) -> list[str]:
    return (home(site, host) / "log").read_text().split()


def wait_until_both(site: OrchProject, name: str) -> None:
    """Wait until both hosts have a file of this name."""
    paths = [home(site, host) / name for host in ("a1", "a2")]
    wait_until(lambda: all(path.exists() for path in paths), f"{name} on both hosts")


def repair(site: OrchProject, *hosts: str) -> None:
    for host in hosts:
        home(site, host).mkdir(parents=True, exist_ok=True)
        (home(site, host) / "ok").touch()


def run_record(site: OrchProject) -> dict[str, object]:
    (path,) = site.root.glob(".orch/runs/*/run.json")
    found: dict[str, object] = json.loads(path.read_text())
    return found


def test_only_what_is_missing_is_done_and_only_where_it_is(site: OrchProject) -> None:
    repair(site, "a1")
    first = site.orch("-s", "dev", "run", "site")
    run = str(run_record(site)["run"])
    assert (first.code, first.out.splitlines()[-1]) == (1, f"to resume: orch resume {run}")
    repair(site, "a2")
    again = site.orch("resume")
    assert again.code == 0, again.err
    words = ["one", "two", run[:14], "three", "handled"]
    assert (log(site, "a1"), log(site, "a2")) == (words, words)
    (path,) = site.root.glob(".orch/runs/*/events.jsonl")
    events = [json.loads(line) for line in path.read_text().splitlines() if line]
    again = next(n for n, each in enumerate(events) if each.get("resumed"))
    second = events[again:]
    assert {each["host"] for each in second if "host" in each} == {"a2"}
    history = json.loads(site.orch("history", "--json").out)
    assert [(each["run"], each["state"]) for each in history] == [(run, "ok")]
    done = site.orch("resume")
    assert (done.code, "is complete: nothing is left to do" in done.err) == (0, True)


def test_what_has_changed_since_is_refused_and_shown_or_done_again(site: OrchProject) -> None:
    assert site.orch("-s", "dev", "run", "site").code == 1
    repair(site, "a1", "a2")
    path = site.root / "tasks/site.yml"
    path.write_text(path.read_text().replace("two {{ word }}", "TWO {{ word }}"))
    refused = site.orch("resume")
    assert refused.code == 3
    assert "step 3 'echo \"TWO {{ word }}\" >> ~/log' of site on a[1-2] has changed" in refused.err
    assert '-echo "two ' in refused.err and '+echo "TWO ' in refused.err
    assert "tasks/site.yml:6:" in refused.err and "--accept-changes" in refused.err
    assert len(log(site, "a1")) == 3
    assert site.orch("resume", "--accept-changes").code == 0
    assert [word for word in log(site, "a1") if not word.isdigit()] == [
        *("one", "two", "one", "TWO", "three", "handled")
    ]


def test_facts_are_collected_again_and_what_they_decided_stays(site: OrchProject) -> None:
    site.write(
        {
            "tasks/facts/count.sh": "echo x >>~/asked; echo n=$(wc -l <~/asked)\n",
            "tasks/site.yml": """
                steps:
                  - run: echo {{ facts.count.n }} {{ facts.os }} >> ~/log
                  - set: {system: "{{ facts.os }}"}
                  - run: test -e ~/ok; echo {{ system }} {{ facts.count.n }} >> ~/log
            """,
        }
    )
    assert site.orch("-s", "dev", "run", "site").code == 1
    assert log(site, "a1") == ["1", "linux"]
    repair(site, "a1", "a2")
    again = site.orch("resume")
    assert again.code == 0, again.err
    assert log(site, "a1") == ["1", "linux", "linux", "2"]
    assert len((home(site, "a1") / "asked").read_text().split()) == 2


def test_the_content_of_a_file_that_was_copied_counts(site: OrchProject) -> None:
    site.write(
        {
            "tasks/site.yml": "steps: [{copy: {path: ~/x, src: x}}, {run: test -e ~/ok}]\n",
            "tasks/x": "one\n",
        }
    )
    assert site.orch("-s", "dev", "run", "site").code == 1
    (site.root / "tasks/x").write_text("two\n")
    refused = site.orch("resume")
    assert (refused.code, "step 1 'copy ~/x' of site" in refused.err) == (3, True), refused.err
    (site.root / "tasks/x").write_text("one\n")
    repair(site, "a1", "a2")
    assert site.orch("resume").code == 0


def test_a_host_that_the_stage_no_longer_has_is_named(site: OrchProject) -> None:
    assert site.orch("-s", "dev", "run", "site").code == 1
    (site.root / "inventories/dev/hosts/a2.yml").unlink()
    refused = site.orch("resume")
    assert (refused.code, "these hosts any more: a2" in refused.err) == (3, True), refused.err


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("run", "site", "--check"), "was a check, which changes nothing"),
        (("facts", "a1"), "cannot be resumed"),
        (("exec", "--stdin", "--", "cat; false"), "cannot be resumed"),
    ],
)
def test_what_cannot_be_resumed_says_why(
    site: OrchProject, args: tuple[str, ...], reason: str
) -> None:
    done = site.orch("-s", "dev", *args)
    assert "to resume" not in done.out
    refused = site.orch("resume")
    assert (refused.code, reason in refused.err) == (2, True), refused.err


def test_a_later_run_on_the_same_hosts_is_asked_about(site: OrchProject) -> None:
    first = site.orch("-s", "dev", "run", "site")
    assert first.code == 1
    repair(site, "a1", "a2")
    run = first.out.split()[-1]
    assert site.orch("-s", "dev", "exec", "--readonly", "-l", "a2", "--", "true").code == 0
    assert site.orch("-s", "dev", "exec", "-l", "a2", "--", "true").code == 0
    refused = site.orch("resume", run)
    assert refused.code == 2
    assert refused.err.count(" ran on a2") == 1
    assert "pass --yes" in refused.err
    assert site.orch("resume", run, "--yes").code == 0


def test_an_output_with_a_secret_is_not_stored(site: OrchProject) -> None:
    steps = """
        steps:
          - run: echo {{ word }}; echo read >> ~/log
            register: shown
            readonly: true
          - run: echo {{ word }}
            register: made
          - run: test -e ~/ok
          - run: test {{ shown.stdout }} = {{ word }}; echo seen >> ~/log
          - run: test {{ made.stdout }} = {{ word }}
            when: word == 'other'
    """
    site.write({"tasks/site.yml": steps, "inventories/dev/stage.yml": SECRET_STAGE})
    assert site.orch("-s", "dev", "run", "site", "-l", "a1", WORD="tell-nobody").code == 1
    for path in site.root.glob(".orch/runs/*/*"):
        assert "tell-nobody" not in path.read_text()
    repair(site, "a1")
    again = site.orch("resume", WORD="tell-nobody")
    assert again.code == 0, again.err
    assert log(site, "a1") == ["read", "read", "seen"]


def test_a_needed_output_that_is_not_stored_is_an_error_that_says_so(site: OrchProject) -> None:
    steps = """
        steps:
          - run: echo {{ word }}
            register: made
          - run: test -e ~/ok
          - run: test {{ made.stdout }} = {{ word }}
    """
    site.write({"tasks/site.yml": steps, "inventories/dev/stage.yml": SECRET_STAGE})
    assert site.orch("-s", "dev", "run", "site", "-l", "a1", WORD="tell-nobody").code == 1
    repair(site, "a1")
    again = site.orch("resume", WORD="tell-nobody")
    assert again.code == 1
    assert "it was not stored, because it contains a secret" in again.out + again.err


def test_always_steps_that_followed_a_failure_run_again(site: OrchProject) -> None:
    site.write(
        {
            "tasks/site.yml": """
                steps:
                  - block:
                      - run: echo open >> ~/log
                      - run: test -e ~/ok; echo used >> ~/log
                    always:
                      - run: echo closed >> ~/log
            """
        }
    )
    assert site.orch("-s", "dev", "run", "site", "-l", "a1").code == 1
    repair(site, "a1")
    assert site.orch("resume").code == 0
    assert log(site, "a1") == ["open", "closed", "used", "closed"]


def test_a_rescued_failure_stays_rescued(site: OrchProject) -> None:
    site.write(
        {
            "tasks/site.yml": """
                steps:
                  - block: [{run: echo tried >> ~/log; exit 3, register: tried}]
                    rescue: [{run: echo rescued >> ~/log}]
                  - run: "false"
                    ignore_errors: true
                  - run: test -e ~/ok
                  - run: echo {{ tried.exit_status }} >> ~/log
                    when: tried.failed
            """
        }
    )
    assert site.orch("-s", "dev", "run", "site", "-l", "a1").code == 1
    repair(site, "a1")
    assert site.orch("resume").code == 0
    assert log(site, "a1") == ["tried", "rescued", "3"]


def test_a_task_that_was_rolled_back_is_not_done(site: OrchProject) -> None:
    site.write(
        {
            "tasks/up.yml": """
                steps: [{run: echo up >> ~/log}]
                rollback: [{run: echo down >> ~/log}]
            """,
            "tasks/then.yml": "steps: [{run: test -e ~/ok; echo then >> ~/log}]\n",
        }
    )
    assert site.orch("-s", "dev", "run", "up", "then").code == 1
    assert log(site, "a1") == ["up", "down"]
    repair(site, "a1", "a2")
    assert site.orch("resume").code == 0
    assert log(site, "a1") == ["up", "down", "up", "then"]


def test_a_rollback_after_the_resume_covers_what_was_begun_before(site: OrchProject) -> None:
    site.write(
        {
            "tasks/up.yml": """
                steps: [{run: echo up >> ~/log}]
                rollback: [{run: echo down >> ~/log}]
            """,
            "tasks/slow.yml": "steps:\n- run: test -e ~/ok || { touch ~/begun; sleep 600; }\n",
            "tasks/bad.yml": "steps: [{run: exit 3}]\n",
        }
    )
    with site.start_orch("-s", "dev", "run", "up", "slow", "bad", "--json") as process:
        wait_until_both(site, "begun")
        kill_orch(process)
    repair(site, "a1", "a2")
    assert site.orch("resume", "--lost", "rerun").code == 1
    assert log(site, "a1") == ["up", "down"]


def test_a_rollback_that_was_killed_leaves_its_task_undone(site: OrchProject) -> None:
    site.write(
        {
            "tasks/up.yml": """
                steps: [{run: echo up >> ~/log}]
                rollback:
                  - run: echo down >> ~/log
                  - run: test -e ~/ok || { touch ~/begun; sleep 600; }
            """,
            "tasks/bad.yml": "steps: [{run: test -e ~/ok}]\n",
        }
    )
    with site.start_orch("-s", "dev", "run", "up", "bad") as process:
        wait_until_both(site, "begun")
        kill_orch(process)
    repair(site, "a1", "a2")
    done = site.orch("resume")
    assert done.code == 0, done.err
    assert log(site, "a1") == ["up", "down", "up"]


def test_what_a_batch_left_is_done_before_the_next_one(site: OrchProject) -> None:
    site.write(
        {
            "tasks/site.yml": """
                tasks:
                  - each: {}
                    batch: 1
                    on_batch_failure: continue
            """,
            "tasks/each.yml": """
                steps: [{run: echo one >> ~/log}, {run: test -e ~/ok; echo two >> ~/log}]
            """,
        }
    )
    repair(site, "a2")
    assert site.orch("-s", "dev", "run", "site").code == 1
    repair(site, "a1")
    assert site.orch("resume").code == 0
    assert log(site, "a1") == log(site, "a2") == ["one", "two"]


def test_a_task_that_was_skipped_with_step_stays_skipped(site: OrchProject) -> None:
    site.write(
        {
            "tasks/one.yml": "steps: [{run: echo one >> ~/log}]\n",
            "tasks/two.yml": "steps: [{run: echo two >> ~/log; test -e ~/ok}]\n",
        }
    )
    assert site.orch("-s", "dev", "run", "one", "two", "--step", stdin="s\nr\n").code == 1
    repair(site, "a1", "a2")
    assert site.orch("resume", stdin="r\n").code == 0
    assert log(site, "a1") == ["two", "two"]


@pytest.fixture
def killed(site: OrchProject) -> OrchProject:
    """Kill a run while its second step sleeps, on both hosts."""
    site.write(
        {
            "tasks/site.yml": """
                steps:
                  - run: echo one >> ~/log
                  - run: test -e ~/ok || { touch ~/begun; sleep 600; }; echo two >> ~/log
                    notify: h
                    register: two
                  - run: echo three >> ~/log
                    when: two.changed
                handlers:
                  h: [{run: echo handled >> ~/log}]
            """
        }
    )
    with site.start_orch("-s", "dev", "run", "site", "--json") as process:
        wait_until_both(site, "begun")
        kill_orch(process)
    repair(site, "a1", "a2")
    return site


def test_a_lost_step_is_never_guessed(killed: OrchProject) -> None:
    before = run_record(killed)
    asked = killed.orch("resume")
    assert asked.code == 2
    assert "step 2 of site on a[1-2] was running when the run ended" in asked.err
    assert "| test -e ~/ok || { touch ~/begun; sleep 600; }; echo two >> ~/log" in asked.err
    assert "--lost rerun" in asked.err and "--lost skip" in asked.err
    assert run_record(killed) == before


def test_a_lost_step_runs_again(killed: OrchProject) -> None:
    done = killed.orch("resume", "--lost", "rerun")
    assert done.code == 0, done.err
    assert log(killed, "a1") == ["one", "two", "three", "handled"]


def test_a_lost_step_that_is_skipped_counts_as_changed(killed: OrchProject) -> None:
    done = killed.orch("resume", "--lost", "skip")
    assert done.code == 0, done.err
    assert log(killed, "a1") == ["one", "three", "handled"]
    shown = killed.orch("show")
    assert "it was running when the run ended, and is skipped" in shown.out


@pytest.mark.parametrize(
    ("typed", "left"),
    [("r\n", ["one", "two", "three", "handled"]), ("x\ns\n", ["one", "three", "handled"])],
)
def test_on_a_terminal_the_question_is_asked(
    killed: OrchProject, typed: str, left: list[str]
) -> None:
    done = killed.orch_on_terminal("resume", typed=typed)
    assert done.code == 0, done.err
    assert log(killed, "a2") == left


def test_quitting_leaves_the_run_as_it_was(killed: OrchProject) -> None:
    before = run_record(killed)
    done = killed.orch_on_terminal("resume", typed="q\n")
    assert (done.code, run_record(killed)) == (2, before)


def test_after_ctrl_c_the_last_line_resumes_the_run(site: OrchProject) -> None:
    site.write(
        {
            "tasks/site.yml": """
        steps:
          - run: echo one >> ~/log
          - run: test -e ~/ok || { touch ~/begun; sleep 600; }; echo two >> ~/log
          - run: echo three >> ~/log
    """
        }
    )
    with site.start_orch("-s", "dev", "run", "site") as process:
        wait_until_both(site, "begun")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.splitlines()[-1].startswith("to resume: orch resume 2")
    repair(site, "a1", "a2")
    assert site.orch("resume", "--lost", "rerun").code == 0
    assert log(site, "a1")[-3:] == ["one", "two", "three"]


def test_a_run_with_an_inventory_of_ansible_and_no_project(tmp_path: Path) -> None:
    folder = OrchProject(tmp_path / "work").write(
        {"hosts.ini": "x1 ansible_connection=local\nx2 ansible_connection=local\n"}
    )
    failed = folder.orch(
        "-i", "hosts.ini", "exec", "--", f"test -e {folder.root}/ok; echo $ORCH_RUN"
    )
    assert failed.code == 1
    run = failed.out.split()[-1]
    assert failed.out.splitlines()[-1] == f"to resume: orch -i hosts.ini resume {run}"
    (folder.root / "ok").touch()
    done = folder.orch("-i", "hosts.ini", "resume", run)
    assert (done.code, f"x1 | {run}" in done.out) == (0, True), done.err


def test_a_step_whose_template_fails_is_not_taken_for_done(site: OrchProject) -> None:
    site.write(
        {
            "tasks/site.yml": """
                steps:
                  - {run: echo 7, register: r}
                  - run: echo {{ 10 // (r.stdout | int - 7) }} >> ~/log
                  - run: echo after >> ~/log
            """
        }
    )
    assert site.orch("-s", "dev", "run", "site", "-l", "a1").code == 1
    assert site.orch("resume").code == 1


def test_the_items_of_a_loop_that_ended_are_not_done_again(site: OrchProject) -> None:
    site.write(
        {
            "tasks/site.yml": """
                steps:
                  - run: test {{ item }} != 2 -o -e ~/ok; echo {{ item }} >> ~/log
                    loop: [1, 2, 3]
                  - {run: echo x y z, register: words}
                  - run: test {{ item }} != y -o -e ~/later; echo {{ item }} >> ~/log
                    loop: "{{ words.stdout.split() }}"
            """
        }
    )
    assert site.orch("-s", "dev", "run", "site", "-l", "a1").code == 1
    repair(site, "a1")
    assert site.orch("resume").code == 1
    (home(site, "a1") / "later").touch()
    assert site.orch("resume").code == 0
    assert log(site, "a1") == ["1", "3", "2", "x", "z", "y"]


def test_a_complete_run_with_a_secret_output_is_left_alone(site: OrchProject) -> None:
    steps = """
        steps:
          - {run: "echo {{ word }}; echo read >> ~/log", register: shown, readonly: true}
          - run: test {{ shown.stdout }} = {{ word }}
    """
    site.write({"tasks/site.yml": steps, "inventories/dev/stage.yml": SECRET_STAGE})
    assert site.orch("-s", "dev", "run", "site", "-l", "a1", WORD="tell-nobody").code == 0
    done = site.orch("resume", WORD="tell-nobody")
    assert (done.code, "is complete" in done.err, log(site, "a1")) == (0, True, ["read"])


def test_the_last_run_of_tasks_is_resumed_and_only_on_its_stage(site: OrchProject) -> None:
    empty = site.orch("resume")
    assert (empty.code, "no run that can be resumed is recorded" in empty.err) == (2, True)
    assert site.orch("-s", "dev", "run", "site", "-l", "a1").code == 1
    repair(site, "a1")
    assert site.orch("-s", "dev", "facts", "a1").code == 0
    site.orch("-s", "dev", "run", "site", "-l", "a2", "--check")
    other = site.orch("-s", "prod", "resume")
    assert (other.code, "recorded on stage 'prod'" in other.err) == (2, True), other.err
    done = site.orch("-s", "dev", "resume")
    assert done.code == 0, done.err
    assert log(site, "a1")[-1] == "handled"


def test_a_record_without_its_events_is_refused(site: OrchProject) -> None:
    assert site.orch("-s", "dev", "run", "site", "-l", "a1").code == 1
    (events,) = site.root.glob(".orch/runs/*/events.jsonl")
    events.write_text("")
    refused = site.orch("resume")
    assert (refused.code, "is not recorded any more" in refused.err) == (2, True), refused.err
    assert log(site, "a1").count("one") == 1


def test_a_run_with_a_secret_on_its_command_line_offers_nothing(site: OrchProject) -> None:
    site.write(
        {
            "tasks/site.yml": """
                params: {pw: {secret: true}}
                steps: [{run: 'test {{ pw }} = no'}]
            """
        }
    )
    failed = site.orch("-s", "dev", "run", "site", "pw=topsecret1", "-l", "a1")
    assert (failed.code, "to resume" in failed.out) == (1, False)


def test_a_step_of_another_user_that_was_skipped_has_not_changed(site: OrchProject) -> None:
    site.write(
        {
            "tasks/site.yml": """
                steps:
                  - {run: "true", register: first, changed_when: false}
                  - {run: echo never, become: nobody, when: first.changed}
                  - {run: id -un, become: nobody}
                  - run: test -e ~/ok; echo done >> ~/log
            """
        }
    )
    assert site.orch("-s", "dev", "run", "site", "-l", "a1").code == 1
    repair(site, "a1")
    done = site.orch("resume")
    assert (done.code, log(site, "a1")) == (0, ["done"]), done.err


def test_a_complete_run_tells_which_one_failed(site: OrchProject) -> None:
    assert site.orch("-s", "dev", "run", "site", "-l", "a1").code == 1
    run = str(run_record(site)["run"])
    assert site.orch("-s", "dev", "exec", "-l", "a1", "--", "touch ok").code == 0
    done = site.orch("resume")
    assert done.code == 0
    assert f"the last run that did not end well is {run} (site)" in done.err


def test_a_run_in_progress_is_refused(site: OrchProject) -> None:
    site.write({"tasks/site.yml": "steps: [{run: sleep 600}]\n"})
    with site.start_orch("-s", "dev", "run", "site", "--json") as process:
        read_lines(process, lambda lines: sum("step_started" in line for line in lines) == 1)
        refused = site.orch("resume")
        assert (refused.code, "is in progress" in refused.err) == (2, True), refused.err


def test_values_that_modules_returned_are_known_again_on_every_host(project: OrchProject) -> None:
    project.add_sandbox_stage("a1", "a2").write(
        {
            "tasks/site.yml": """
                steps:
                  - copy: {path: ~/it, content: "100% {{ host }}\\n"}
                  - slurp: {path: ~/it}
                    register: it
                  - stat: {path: ~/it}
                    register: once
                    once: true
                  - run: test -e ~/ok
                  - copy: {path: ~/got, content: "{{ it.content }}{{ once.type }} {{ once.size }}"}
            """,
            "tasks/after.yml": """
                steps:
                  - run: test {{ hosts['a1'].it.size + 1 }} = 9
                    readonly: true
            """,
            "tasks/all.yml": "tasks: [site, after]\n",
        }
    )
    assert project.orch("-s", "dev", "run", "all").code == 1
    repair(project, "a1", "a2")
    again = project.orch("resume")
    assert again.code == 0, again.err
    assert "content=" not in again.out
    for host in ("a1", "a2"):
        assert (home(project, host) / "got").read_text() == f"100% {host}\nfile 8"
