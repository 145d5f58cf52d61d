"""Worker processes: the same rows and events as in one, whatever becomes of hosts and workers."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from orchestrator.execute.shard import divided
from orchestrator.execute.shard_questions import Questions
from orchestrator.execute.shard_trials import PROVEN, Trials
from orchestrator.transport.ask import Answers, Question
from tests.execute.test_fleet import dead
from tests.projects import Done, Project
from tests.report.terminal import Terminal
from tests.report.terminal import until as screen_until
from tests.sshd import Sshd, keygen, until

LONG = 10**8 + secrets.randbelow(10**8)
"""Seconds that nothing else on this machine sleeps."""

HOSTS = [f"a{n}" for n in range(1, 7)]


def run(text: str, **more: str) -> dict[str, str]:
    return {"run": text, **more}


def task(*steps: object, **more: object) -> str:
    return json.dumps({"steps": steps, **more})


VARYING = frozenset({"time", "seconds", "log", "run"})
PLANS: dict[str, tuple[list[str], dict[str, str], list[str]]] = {
    "all is well": (
        ["one", "two"],
        {
            "one": task(run("echo {{ host.name }}", register="x"), run("echo {{ x.stdout }}-2")),
            "two": task(run("echo err >&2")),
        },
        [],
    ),
    "one fails, and what was begun is undone": (
        ["one", "two", "three"],
        {
            "one": task(run("echo 1"), rollback=[run("echo undone")]),
            "two": task(run("test {{ host.name }} != a4"), rollback=[run("echo undone 2")]),
            "three": task(run("echo never")),
        },
        [],
    ),
    "keep going": (
        ["one", "two"],
        {"one": task(run("test {{ host.name }} != a4")), "two": task(run("echo 2"))},
        ["--keep-going"],
    ),
    "batches that bear a failure": (
        ["roll"],
        {
            "roll": "tasks:\n- {name: r, batch: [1, 2, 100%], max_failures: 1, tasks: [step]}\n"
            "- commit\n- after\n",
            "step": task(run("test {{ host.name }} != a2"), rollback=[run("echo undone")]),
            "after": task(run("echo after")),
        },
        [],
    ),
    "batches that bear no more": (
        ["roll"],
        {
            "roll": "tasks: [{name: r, batch: 2, max_failures: 1, tasks: [step]}]\n",
            "step": task(run("test {{ host.name }} = a1"), rollback=[run("echo undone")]),
        },
        [],
    ),
    "check": (
        ["one"],
        {"one": task({"file": {"path": "~/f"}}, run("echo {{ host.name }}"))},
        ["--check", "--exit-code"],
    ),
    "results of hosts in other processes": (
        ["one", "two"],
        {
            "one": task(run("echo of-{{ host.name }}", register="x")),
            "two": task(run("echo {{ hosts.a1.x.stdout }} {{ hosts.a2.x.stdout }}")),
        },
        [],
    ),
}


def sameness(done: Done) -> dict[str, Any]:
    """All that a run told, but for times and the order between hosts."""
    by_host, tasks = defaultdict[str, list[Any]](list), list[Any]()
    for event in done.events:
        told = {k: v for k, v in event.items() if k not in VARYING}
        if "host" in event:
            if event["event"] != "step_output":
                by_host[event["host"]].append(told)
        elif event["event"] == "run_finished":
            rows = [{k: v for k, v in row.items() if k not in VARYING} for row in event["rows"]]
            tasks.append({**told, "rows": rows})
        else:
            tasks.append(told)
    return {"code": done.code, "tasks": tasks, **by_host}


def project_of(project: Project, tasks: dict[str, str]) -> Project:
    project.sandbox(*HOSTS)
    files = {f"tasks/{name}.yml": text for name, text in tasks.items()}
    roles = {"inventories/dev/roles/all_of_them.yml": json.dumps(HOSTS)}
    return project.write({**roles, **files})


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The worker processes that a run has."""
    words = ["ps", "-o", "pid=,args=", "--ppid", str(process.pid)]
    found = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    return [int(line.split()[0]) for line in found.splitlines() if "orchestrator" in line]


def alive(pids: list[int]) -> bool:
    return any(Path(f"/proc/{pid}").exists() for pid in pids)


def running(command: str) -> bool:
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return any(line.strip() == command for line in found.stdout.splitlines())


@pytest.mark.parametrize("case", PLANS)
def test_two_processes_tell_and_come_to_the_same_as_one(project: Project, case: str) -> None:
    names, tasks, options = PLANS[case]
    project_of(project, tasks)
    words = ["-s", "dev", "run", *names, "--json", *options]
    one, two = (project.orch(*words, "--shards", n) for n in ("1", "2"))
    assert sameness(two) == sameness(one)
    assert len(two.rows) == len(HOSTS)


def test_a_host_that_is_away_stops_all_processes_before_anything_is_touched(
    project: Project, tmp_path: Path
) -> None:
    project_of(project, {"t": task(run(f"touch {tmp_path}/touched"))})
    with dead("127.3.9.2") as nobody:
        connect = {"transport": "ssh", "port": nobody}
        project.write(
            {
                "inventories/dev/hosts/a3.yml": json.dumps(
                    {"address": "127.3.9.2", "connect": connect}
                )
            }
        )
        words = ["-s", "dev", "run", "t", "--json", "-F", "none"]
        one, two = (project.orch(*words, "--shards", n) for n in ("1", "3"))
        assert not (tmp_path / "touched").exists()
        skip = project.orch(*words, "--shards", "3", "--unreachable", "skip")
    assert sameness(two) == sameness(one)
    assert two.code == 4
    assert Counter(row["status"] for row in skip.rows.values()) == {"changed": 5, "unreachable": 1}


def test_ctrl_c_ends_the_steps_in_every_process_and_rolls_back(
    project: Project, tmp_path: Path
) -> None:
    text = f"touch {tmp_path}/on-{{{{ host.name }}}}; sleep {LONG}"
    project_of(
        project,
        {"t": task(run(text), rollback=[run("echo undone")])},
    )
    with project.started("-s", "dev", "run", "t", "--json", "--shards", "2") as process:
        until(lambda: len(list(tmp_path.glob("on-*"))) == len(HOSTS), "all steps run")
        pids = workers(process)
        for pid in (process.pid, *pids):  # as a terminal does
            os.kill(pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert len(pids) == 2
    assert process.returncode == 130, err
    last = json.loads(out.splitlines()[-1])
    assert [row["status"] for row in last["rows"]] == ["cancelled"] * len(HOSTS)
    assert all("'t' is rolled back" in row["reason"] for row in last["rows"])
    assert not alive(pids)
    until(lambda: not running(f"sleep {LONG}"), "the steps' processes are gone")


@pytest.mark.parametrize("how", ["twice", "killed"])
def test_workers_end_with_the_first_process_however_that_ends(
    project: Project, tmp_path: Path, how: str
) -> None:
    text = f"trap '' TERM; touch {tmp_path}/on-{{{{ host.name }}}}; sleep {LONG}; sleep {LONG}"
    project_of(project, {"t": task(run(text))})
    with project.started("-s", "dev", "run", "t", "--shards", "2") as process:
        until(lambda: len(list(tmp_path.glob("on-*"))) == len(HOSTS), "all steps run")
        pids = workers(process)
        if how == "killed":
            process.send_signal(signal.SIGKILL)
        else:
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert len(pids) == 2
    if how == "twice":
        assert process.returncode == 130
        assert "a1 may still be busy with t: " in err
    until(lambda: not alive(pids), "the workers are gone")
    until(lambda: not running(f"sleep {LONG}"), "the steps' processes are gone")


def test_the_hosts_of_a_worker_that_is_killed_are_lost_and_the_others_stop_at_the_barrier(
    project: Project, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    text = f"touch {tmp_path}/on-{{{{ host.name }}}}; until test -e {go}; do sleep 0.05; done"
    project_of(
        project,
        {
            "one": task(run("echo before"), run(text), rollback=[run("echo undone")]),
            "two": task(run("echo never")),
        },
    )
    words = ["-s", "dev", "run", "one", "two", "--json", "--shards", "2"]
    with project.started(*words) as process:
        until(lambda: len(list(tmp_path.glob("on-*"))) == len(HOSTS), "all steps run")
        assert process.stdout is not None
        lines: list[str] = []
        while sum('"step_finished"' in line for line in lines) < len(HOSTS):
            lines.append(process.stdout.readline())  # what is told of the first step counts
        os.kill(workers(process)[0], signal.SIGKILL)
        while '"warned"' not in lines[-1]:
            lines.append(process.stdout.readline())
        go.touch()
        lines += process.stdout.readlines()
        assert process.wait(60) == 1
    events = [json.loads(line) for line in lines]
    rows = {row["host"]: row for row in events[-1]["rows"]}
    assert list(rows) == HOSTS
    lost = [name for name, row in rows.items() if row["status"] == "lost"]
    assert len(lost) == 3
    for name, row in rows.items():
        if name in lost:
            assert "was killed by SIGKILL: what ran here is not known" in row["reason"]
            assert row["changed"] == 1
        else:
            assert row["status"] == "cancelled"
            assert f"{lost[0]} lost; 'one' is rolled back" in row["reason"]
    assert "never" not in "".join(lines)
    for kind in ("connect", "step", "host"):  # what was begun is ended, also where nobody saw it
        begun = Counter(e["host"] for e in events if e["event"] == f"{kind}_started")
        ended = Counter(e["host"] for e in events if e["event"] == f"{kind}_finished")
        assert kind == "host" or begun == ended
        assert set(ended) == set(HOSTS)


def test_a_question_is_asked_once_for_all_processes_and_its_answer_hidden(
    tmp_path: Path, sshd: Sshd
) -> None:
    secret = "open sesame"
    key = keygen(tmp_path / "key", passphrase=secret)
    with (sshd.folder / "authorized_keys").open("a") as keys:
        keys.write(Path(f"{key}.pub").read_text())
    (tmp_path / "project" / "inventories").mkdir(parents=True)
    hosts = {f"a{n}": f"127.3.0.{n}" for n in range(1, 5)}
    project = Project(tmp_path / "project").over(sshd, hosts)
    settings = json.loads((project.root / "inventories/real/stage.yml").read_text())
    settings["connect"]["identity"] = str(key)
    project.write(
        {
            "inventories/real/stage.yml": json.dumps(settings),
            "tasks/t.yml": task(run(f"echo here {secret}")),
        }
    )
    orch = [sys.executable, "-m", "orchestrator", "-s", "real", "run", "t", "-F", "none"]
    own = ["-u", "SSH_AUTH_SOCK", f"HOME={tmp_path}"]
    command = ["env", *own, *orch, "-C", str(project.root), "--shards", "2"]
    terminal = Terminal(tmp_path / "s", 80, 24, command)
    try:
        for answer, seen in (("wrong", "Passphrase of"), (secret, "not open it")):
            screen_until(seen, lambda: any(seen in line for line in terminal.screen()))  # noqa: B023
            terminal.type(answer, "Enter")
        screen_until("the end", lambda: any("THE END" in line for line in terminal.screen()))
        screen = "\n".join(terminal.screen(history=True))
    finally:
        terminal.close()
    assert "THE END 0" in screen, screen
    assert screen.count("Passphrase of") == 2
    assert "a[1-4]: here ‹key passphrase›" in screen


def test_who_asks_again_is_given_another_answer_and_who_asks_late_the_same() -> None:
    asked: list[str] = []

    def ask(text: str, _seen: bool, _stop: threading.Event) -> str:
        asked.append(text)
        return f"answer {len(asked)}"

    questions = Questions(ask)
    given: dict[str, list[str | None]] = {"a": [], "b": []}
    for who in ("a", "b", "a", "b", "a"):
        before = len(given[who])
        questions.answer(who, "Password", False, given[who].append)
        until(lambda: len(given[who]) > before, "an answer")  # noqa: B023
    assert given == {"a": ["answer 1", "answer 2", "answer 3"], "b": ["answer 1", "answer 2"]}


def test_what_is_made_of_a_secret_in_a_worker_is_hidden(project: Project) -> None:
    project_of(
        project,
        {
            "t": task(
                run("echo", register="x"), run("echo {{ (x.stdout ~ token) | upper | reverse }}")
            )
        },
    )
    project.write({"inventories/dev/stage.yml": "connect: {transport: sandbox}\n"
                   "vars: {token: !secret {env: TOKEN}}\n"})  # fmt: skip
    words = ["-s", "dev", "run", "t", "--json", "--shards", "2"]
    done = project.orch(*words, TOKEN="hushhush1")
    assert done.code == 0
    assert "1HSUHHSUH" not in done.out + done.err
    assert [s["stdout"].strip() for s in done.steps("a1")] == ["", "‹token›"]


def test_hosts_behind_one_hop_stay_together_and_parts_are_about_as_large() -> None:
    behind = {f"b{n}": "bastion" for n in range(5)}
    names = [*behind, *HOSTS, "c1", "c2"]
    parts = divided(names, 3, lambda name: behind.get(name, name))
    assert sorted(map(len, parts)) == [4, 4, 5]
    assert frozenset(behind) in parts
    assert sorted(name for part in parts for name in part) == sorted(names)
    assert divided(behind, 2, lambda name: behind[name]) == [frozenset(behind)]


@pytest.mark.parametrize(
    ("steps", "options", "count"),
    [
        ("steps: [{run: echo}]", [], 2),
        ("steps: [{run: echo}]", ["-f", "1"], 0),
        ("steps: [{run: echo, delegate_to: a1}]", [], 0),
        ("steps: [{run: echo, local: true}]", [], 0),
        ("tasks: [{name: o, once: true, steps: [{run: echo}]}]", [], 0),
    ],
)
def test_only_hosts_that_have_nothing_to_do_with_each_other_are_divided(
    project: Project, tmp_path: Path, steps: str, options: list[str], count: int
) -> None:
    """Also, `--forks` holds for all processes together."""
    project_of(project, {"t": steps, "w": task(run(f"touch {tmp_path}/on; sleep {LONG}"))})
    words = ["-s", "dev", "run", "t", "w", "--shards", "2", *options]
    with project.started(*words) as process:
        until((tmp_path / "on").exists, "a step runs")
        found = workers(process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert len(found) == count
    until(lambda: not running(f"sleep {LONG}"), "the steps' processes are gone")


def test_a_wrong_answer_is_tried_no_more_often_by_several_processes_than_by_one() -> None:
    """One at a time over all of them; and once one host took it, everywhere at once."""

    class Line:
        """What a worker has of the first process."""

        def __init__(self, who: int) -> None:
            self.who = who

        def turn(self, question: str, _stop: threading.Event) -> int | None:
            with lock:
                trials.turn(self.who, question, granted[self.who].append)
            until(lambda: granted[self.who], "the turn")
            return granted[self.who].pop()

        def tried(self, question: str, how: str) -> None:
            with lock:
                trials.tried(self.who, question, how)

    def log_in(answers: Answers, host: int) -> None:
        while answers.wait(question, host) is not None:
            attempts.append(host)
            assert len(attempts) - attempts_over[0] == 1  # nobody else is at it
            attempts_over[0] += 1
            answers.refused(question)
        answers.leave(host)

    question, lock, trials = Question("Password of me"), threading.Lock(), Trials()
    granted: dict[int, list[int]] = {0: [], 1: []}
    attempts: list[int] = []
    attempts_over = [0]
    both = [Answers(lambda *_: "slip", {}, threading.Event(), trials=Line(n)) for n in (0, 1)]
    threads = [threading.Thread(target=log_in, args=(both[n % 2], n)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(attempts) == 3
    assert all("3 hosts refused it" in answers.trouble(question) for answers in both)
    trials.tried(0, "another", "accepted")
    trials.turn(1, "another", granted[1].append)
    assert granted[1] == [PROVEN]
