"""Secrets of the inventory in a run: used on the hosts, but never displayed."""

from __future__ import annotations

import base64
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from orchestrator.model.sanitize import sanitize_output as shown_by_a_terminal
from tests.projects import OrchProject, OrchResult
from tests.sshd import wait_until

CANARY = "c4n4ry's $ecret/+x"
PARTS = ("c4n4ry", "C4N4RY", "ecret/+x", "YzRuNHJ5", base64.b64encode(CANARY.encode()).decode())
"""Texts that must not appear: parts of the secret, also in upper case and base64."""

KEY = "-----BEGIN-----\nl1neOfTheKey\nl2neOfTheKey\n-----END-----\n"

STAGE = """
    connect: {transport: sandbox}
    vars:
      db_password: !secret {env: DB_PASSWORD}
      tls_key: !secret {file: key.pem}
      unnamed: !secret {command: ["false"]}
      db: {user: deploy, password: "{{ db_password }}"}
      db_url: "postgres://u:{{ db_password }}@h/{{ stage.name }}"
"""


@pytest.fixture
def one(project: OrchProject) -> OrchProject:
    project.write({"inventories/dev/stage.yml": STAGE, "inventories/dev/hosts/a1.yml": ""})
    (project.root / "inventories/dev/key.pem").write_text(KEY)
    return project


def run_with_secret(project: OrchProject, *args: str, password: str = CANARY) -> OrchResult:
    return project.orch("-s", "dev", *args, DB_PASSWORD=password)


def run_task(project: OrchProject, task: str, *args: str) -> OrchResult:
    project.write({"tasks/t.yml": task})
    return run_with_secret(project, "run", "t", *args)


def step_outputs(done: OrchResult) -> list[str]:
    return [step["stdout"] for step in done.host_steps("a1")]


def is_clean(text: str) -> None:
    for part in (*PARTS, "l1neOf", "l2neOf"):
        assert part not in text


def journal_logs(project: OrchProject) -> str:
    files = [path for path in (project.root / ".orch" / "runs").rglob("*") if path.is_file()]
    assert len(files) >= 3
    return "".join(path.read_text() for path in files)


def host_home(project: OrchProject) -> Path:
    return next((project.root / ".orch" / "sandbox" / "dev").iterdir())


def test_a_host_gets_the_secret_and_the_screen_its_name(one: OrchProject) -> None:
    done = run_task(
        one, "steps: [{run: 'printf %s {{ db_password }} > f; cat f; echo {{ db.user }}'}]"
    )
    assert (host_home(one) / "f").read_text() == CANARY
    assert "a1 | ‹db_password›deploy" in done.out.replace("a1: ", "a1 | ")
    is_clean(done.out + done.err + journal_logs(one))


EVERYWHERE = """
    params: {word: {type: str, default: "{{ db_password | upper }}"}}
    steps:
      - name: with {{ db_password }}
        run: echo {{ db_password }} {{ word }} "{{ db_url }}" >&2; printf %s {{ db_password }} | base64
      - run: set -x; echo {{ db_url[12:] }} {{ '%s!' % db_password }}
        shell: bash
      - run: cat
        stdin: "{{ tls_key }}"
        register: read
      - run: printf %s {{ read.stdout | upper }} {{ read.stdout.replace('l1ne', 'LINE') }}
      - template: {src: app.env.j2, path: ~/app.env}
      - set: {mine: "{{ db_password | replace('c', 'k') }}"}
      - run: echo {{ mine }} {{ item.password | lower }} {{ item.user }}
        loop: "{{ [db] }}"
      - run: echo {{ db_password }}; exit 3
        environment: {PGPASSWORD: "{{ db_password }}"}
"""

TEMPLATE = (
    "PASSWORD={{ db_password }}\nURL={{ db_url | urlencode }}\nKEY={{ tls_key }}\nUSER=deploy\n"
)


def test_no_artefact_of_a_run_shows_a_secret(one: OrchProject) -> None:
    one.write({"tasks/app.env.j2": TEMPLATE})
    done = run_task(one, EVERYWHERE, "--json", "--diff")
    assert [step["status"] for step in done.host_steps("a1")][-1] == "failed", done.err
    assert len(done.host_steps("a1")) == 8
    assert CANARY in (host_home(one) / "app.env").read_text()
    message = done.out + done.err + json.dumps(done.events, ensure_ascii=False)
    for text in (message, journal_logs(one)):
        is_clean(text)
        assert "k4n4ry" not in text
        assert "K3Y" not in text
        assert "LINEOF" not in text.upper()
    assert step_outputs(done)[6].endswith(" ‹db_password› deploy")
    plain = run_with_secret(one, "run", "t", "--diff", "-v")
    is_clean(plain.out + plain.err)
    assert "failed" in plain.out
    for kind in ("--html", "--junit", "--markdown"):
        report = one.orch("report", kind, "-").out
        is_clean(report)
        assert "‹db_password›" in report


def test_a_check_tells_a_diff_without_the_secret(one: OrchProject) -> None:
    one.write({"tasks/app.env.j2": TEMPLATE})
    done = run_task(one, EVERYWHERE, "--check", "--diff")
    assert "USER=deploy" in done.out
    assert "PASSWORD=‹db_password›" in done.out
    is_clean(done.out + done.err + journal_logs(one))


def test_files_on_the_host_other_than_the_target_do_not_hold_it(one: OrchProject) -> None:
    one.write({"tasks/app.env.j2": TEMPLATE})
    run_task(one, EVERYWHERE)
    found = subprocess.run(
        ["grep", "-rlaF", CANARY, str(one.root / ".orch")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert found.stdout.split() == [str(host_home(one) / "app.env")]


def test_a_plan_shows_names_and_fetches_nothing(one: OrchProject) -> None:
    one.write({"tasks/app.env.j2": TEMPLATE, "tasks/t.yml": EVERYWHERE})
    for args in ((), ("--json",)):
        done = one.orch("-s", "dev", "plan", "t", *args)  # without the variable
        assert done.code == 0, done.err
        assert "‹db_password›" in (
            json.dumps(json.loads(done.out), ensure_ascii=False) if args else done.out
        )
    assert one.orch("-s", "dev", "run", "t", "--list-hosts").code == 0


def test_a_plan_that_hangs_on_a_secret_fetches_it_and_shows_its_name(one: OrchProject) -> None:
    task = dedent("""\
        steps:
        - run: echo {{ db_password }}
          when: db_password == "c4n4ry's $ecret/+x"
        """)
    one.write({"tasks/t.yml": task})
    done = run_with_secret(one, "plan", "t")
    assert "skipped" not in done.out
    assert "echo ‹db_password›" in done.out.replace("'", "")
    assert one.orch("-s", "dev", "plan", "t").code == 3
    assert "skipped" in run_with_secret(one, "plan", "t", password="another one").out


def test_a_plan_fetches_what_a_number_is_made_of(one: OrchProject) -> None:
    one.write({"tasks/t.yml": "steps: [{run: 'echo $(({{ db_password }} + 1))'}]"})
    assert (
        "echo $((‹db_password› + 1))" in run_with_secret(one, "plan", "t", password="48151623").out
    )


def test_reveal_shows_what_would_be_sent(one: OrchProject) -> None:
    one.write({"tasks/t.yml": "steps: [{run: 'echo {{ db_password }}'}]"})
    assert "echo 'c4n4ry'\"'\"'s $ecret/+x'" in run_with_secret(one, "plan", "t", "--reveal").out
    (wave,) = json.loads(run_with_secret(one, "plan", "t", "--reveal", "--json").out)["lanes"][0][
        "waves"
    ]
    assert "c4n4ry" in wave["hosts"][0]["steps"][0]["text"]


def test_only_a_secret_that_is_named_is_fetched(one: OrchProject) -> None:
    done = run_task(one, "steps: [{run: echo hi}]")
    assert done.code == 0, done.err
    done = run_task(one, "steps: [{run: echo hi}, {run: 'echo {{ unnamed }}'}]")
    assert done.code == 3
    assert "`false`, the source of 'unnamed', failed: exit status 1" in done.err
    assert "inventories/dev/stage.yml:6:" in done.err
    assert not (one.root / ".orch").exists() or "hi" not in done.out


def test_a_source_is_asked_once_for_all_hosts_and_steps(one: OrchProject) -> None:
    one.write(
        {
            "inventories/dev/roles/web.yml": (
                dedent("""\
                    hosts: [a1, a2, a3]
                    vars:
                      pw: !secret {command: [sh, -c, 'echo x >> asked; echo s3cret-word']}
                    """)
            ),
        }
    )
    done = run_task(one, "steps: [{run: 'echo {{ pw }}'}, {run: 'echo {{ pw | upper }} {{ pw }}'}]")
    assert done.code == 0, done.err
    assert (one.root / "inventories/dev/roles/asked").read_text() == "x\n"


def test_a_step_that_waits_has_its_secrets_fetched_before_anything_runs(one: OrchProject) -> None:
    task = """
        steps:
          - run: touch there; echo yes
            register: first
          - run: echo {{ first.stdout }} {{ both }}
    """
    one.write({"inventories/dev/hosts/a1.yml": "vars: {both: '{{ db_password }}{{ unnamed }}'}"})
    done = run_task(one, task)
    assert done.code == 3
    assert "the source of 'unnamed'" in done.err
    assert not (one.root / ".orch" / "sandbox").exists()


@pytest.mark.parametrize("location", ["{{ unnamed | default('x') }}", "x"])
def test_so_are_those_it_may_do_without_and_those_of_its_environment(
    one: OrchProject, location: str
) -> None:
    task = """
        steps:
          - run: touch there; echo yes
            register: first
          - run: echo {{ first.stdout }} WHERE
    """
    if location == "x":
        stage = "    environment: {PGPASSWORD: !secret {command: ['false']}}\n"
        one.write(
            {"inventories/dev/stage.yml": f"{STAGE}{stage}".replace("\n    env", "\n    env")}
        )
        task = task.replace("touch there; echo yes", "touch there")
    done = run_task(one, task.replace("WHERE", location))
    assert done.code == 3, done.out
    assert "failed: exit status 1" in done.err
    assert not (one.root / ".orch" / "sandbox").exists()


def test_what_cannot_be_fetched_stops_the_run_at_the_secret(one: OrchProject) -> None:
    one.write({"tasks/t.yml": "steps: [{run: 'echo {{ db_password }}'}]"})
    done = one.orch("-s", "dev", "run", "t")
    assert done.code == 3
    assert "environment variable DB_PASSWORD" in done.err
    assert "inventories/dev/stage.yml:4:16" in done.err.replace("4:18", "4:16")
    assert not (one.root / ".orch").exists()


def test_showing_the_project_fetches_nothing(one: OrchProject) -> None:
    one.write({"inventories/dev/hosts/a1.yml": "vars: {word: \"{{ db_password.split(':')[7] }}\"}"})
    for args in (("vars", "a1", "--origin"), ("vars", "a1"), ("lint",), ("hosts",)):
        done = one.orch("-s", "dev", *args)
        assert done.code == 0, done.err
        if args[0] == "vars":
            assert "‹secret: env DB_PASSWORD›" in done.out


def test_a_secret_may_come_from_an_extra_file(one: OrchProject) -> None:
    (one.root / "pw.txt").write_text("anoth3r-word\n")
    one.write(
        {
            "more.yml": "db_password: !secret {file: pw.txt}",
            "tasks/t.yml": "steps: [{run: 'echo {{ db_password }} > f'}]",
        }
    )
    done = one.orch("-s", "dev", "run", "t", "-e", "@more.yml")
    assert done.code == 0, done.err
    assert (host_home(one) / "f").read_text() == "anoth3r-word\n"


def test_a_task_cannot_say_where_a_secret_comes_from(one: OrchProject) -> None:
    done = run_task(one, "vars: {pw: !secret {env: X}}\nsteps: [{run: echo}]")
    assert done.code == 3
    assert "!secret is allowed only in variables of the inventory" in done.err


def test_a_params_value_may_be_secret(one: OrchProject) -> None:
    one.write(
        {
            "tasks/t.yml": """
                params:
                  pw: {required: true, secret: true}
                  n: {type: int, secret: true}
                  unused: {secret: true}
                steps:
                  - run: echo {{ pw }} {{ pw | upper }} {{ n }}
                    notify: late
                  - called: {word: "{{ pw }}"}
                  - run: exit 1
                handlers: {late: [{run: "true"}]}
            """,
            "tasks/called.yml": "params: {word: {}}\nsteps: [{run: 'echo {{ word }}'}]",
        }
    )
    args = ("pw=anoth3r-word", "n=123456", "unused=n0-one-names-it")
    done = one.orch("-s", "dev", "run", "t", *args, "--json")
    assert step_outputs(done)[:2] == ["‹pw› ‹pw› ‹n›", "‹pw›"]
    assert "pw=‹pw›" in done.host_rows["a1"]["hint"]
    assert "unused=‹unused›" in done.host_rows["a1"]["hint"]
    assert "n0-one" not in done.out + done.err + journal_logs(one)
    assert "oth3r" not in (done.out + done.err + journal_logs(one)).lower()
    done = one.orch("-s", "dev", "run", "t", "pw=anoth3r-word", "n=notanumber")
    assert done.code == 3
    assert "notanumber" not in done.err
    assert "default" not in one.orch("doc", "t").out
    assert "secret" in one.orch("doc", "t").out


@pytest.mark.parametrize("value", ["", "abc"])
def test_what_is_too_short_to_hide_is_refused(one: OrchProject, value: str) -> None:
    one.write({"tasks/t.yml": "steps: [{run: 'echo {{ db_password }}'}]"})
    done = run_with_secret(one, "run", "t", password=value)
    assert done.code == 3
    assert "cannot be masked" in done.err


def test_an_error_in_a_template_does_not_show_the_secret(one: OrchProject) -> None:
    for text in (
        "{{ [db_password] | sum }}",
        "$(({{ db_password }}))",
        "{{ db_password | raw }}",
        "{{ db_password.nothing }}",
    ):
        done = run_task(one, f"steps:\n- run: |\n    echo {text}\n")
        assert done.code == 3, text
        is_clean(done.out + done.err)


def test_no_process_has_the_secret_among_its_arguments(one: OrchProject) -> None:
    task = """
        steps:
          - run: |
              echo {{ db_password }} > started
              n=0; while [ ! -e go ] && [ $n -lt 300 ]; do n=$((n + 1)); sleep 0.1; done
            environment: {PGPASSWORD: "{{ db_password }}"}
            stdin: "{{ tls_key }}"
    """
    one.write({"tasks/t.yml": task})
    with one.start_orch("-s", "dev", "run", "t", DB_PASSWORD=CANARY) as process:
        deadline = time.monotonic() + 30
        while not list(one.root.glob(".orch/sandbox/dev/*/started")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        mine = {str(one.root), str(host_home(one))}
        observed = 0
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                words = (entry / "cmdline").read_bytes().decode("utf-8", "replace")
                location = str((entry / "cwd").readlink())
            except OSError:
                continue
            observed += location in mine
            is_clean(words)
        assert observed >= 2
        (host_home(one) / "go").touch()
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        is_clean(out + err)


def test_a_secret_written_bit_by_bit_is_hidden(one: OrchProject) -> None:
    task = """
        steps:
          - run: |
              w={{ db_password }}
              printf 'a'
              while [ -n "$w" ]; do
                rest=${w#?}; printf '%s' "${w%"$rest"}"; sleep 0.02; w=$rest
              done
              printf 'b\\n'
    """
    done = run_task(one, task, "--json")
    assert step_outputs(done) == ["a‹db_password›b"]
    is_clean(done.out + journal_logs(one))


def test_a_secret_across_what_was_not_kept_is_hidden(one: OrchProject) -> None:
    task = """
        steps:
          - run: |
              i=0; while [ $i -lt 12000 ]; do printf '%s' {{ db_password }}; i=$((i+1)); done >&2
              exit 1
    """
    done = run_task(one, task, "--json")
    assert "bytes not kept" in done.host_steps("a1")[0]["stderr"]
    is_clean(done.out + done.err + journal_logs(one))
    for part in range(4, len(CANARY)):
        assert CANARY[:part] not in done.out
        assert CANARY[-part:] not in done.out


TRICKS = {
    "colours": "printf '%s\\n' {{ db_password }} | grep --color=always 4ry",
    "lines": "printf '%s\\n' {{ db_password }} | fold -w 6",
    "overstruck": "printf '%s\\n' {{ db_password }} | sed 's/./&\\x08&/g'",
    "nothing seen": "printf '%s\\n' {{ db_password }} | sed 's/./&\\xe2\\x80\\x8b/g'",
    "controls": "printf '%s\\n' {{ db_password }} | sed 's/./&\\x02/g'",
    "links": "printf '%s\\n' {{ db_password }} | sed 's/./\\x1b]8;;x\\x1b\\x5c&/g'",
    "pieces": "printf '%s\\n' {{ db_password }} | sed 's/./&\\x1b[m/g' | dd bs=7 2>/dev/null",
    "stderr": "printf '%s\\n' {{ db_password }} | grep --color=always 4ry >&2; exit 3",
}


def visible_text(text: str) -> str:
    """Return the text as a reader sees it, without white space and escape sequences."""
    for _ in range(2):
        text = shown_by_a_terminal(text)
        text = re.sub(r"\\u([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), text)
        text = re.sub(r"\\x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), text)
        text = text.replace("\\n", "\n").replace("\\b", "\b")
    return re.sub("[^!-~]", "", text)


def test_a_secret_is_hidden_whatever_stands_in_it_that_nobody_sees(one: OrchProject) -> None:
    steps: list[dict[str, object]] = []
    for number, trick in enumerate(TRICKS.values()):
        steps.append({"run": trick, "register": f"r{number}", "ignore_errors": True})
        text = f"{{{{ r{number}.stdout ~ r{number}.stderr }}}}"
        steps.append({"run": "cat >&2; exit 3", "stdin": text, "ignore_errors": True})
        steps.append({"copy": {"path": f"f{number}", "content": text}})
        steps.append({"block": [{"fail": f"it said {text}"}], "rescue": [{"run": "exit 0"}]})
    done = run_task(
        one, json.dumps({"steps": [*steps, {"run": TRICKS["stderr"]}]}), "--json", "--diff"
    )
    assert done.code == 1, done.err
    assert sum(step.get("reason", "").startswith("it said ") for step in done.host_steps("a1")) == 8
    plain = run_with_secret(one, "run", "t", "--diff", "-v")
    code, live = run_on_terminal(one, {}, "-s", "dev", "run", "t", "--diff")
    assert (plain.code, code) == (1, 1)
    everything = "\n".join((done.out, plain.out, plain.err, live, journal_logs(one)))
    assert everything.count("‹db_password›") >= 8 * 8
    assert CANARY.replace(" ", "") not in visible_text(everything)
    is_clean(visible_text(plain.out + plain.err))


def run_on_terminal(project: OrchProject, answers: dict[str, str], *args: str) -> tuple[int, str]:
    """Run orch on its own terminal, and answer prompts that contain a given word."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(project.root)
        environ = {**project.environ({"TERM": "xterm", "DB_PASSWORD": CANARY})}
        os.execve(sys.executable, [sys.executable, "-m", "orchestrator", *args], environ)
    shown, deadline = b"", time.monotonic() + 60
    while True:
        assert time.monotonic() < deadline, shown
        if not select.select([terminal], [], [], 0.2)[0]:
            continue
        try:
            data = os.read(terminal, 65536)
        except OSError:
            break
        if not data:
            break
        shown += data
        for word, answer in list(answers.items()):
            if word.encode() in shown:
                os.write(terminal, f"{answer}\n".encode())
                del answers[word]
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode("utf-8", "replace")


def test_a_prompt_asks_once_at_the_terminal_and_the_live_view_hides_the_answer(
    one: OrchProject,
) -> None:
    one.write(
        {
            "inventories/dev/hosts/a2.yml": "",
            "inventories/common/stage.yml": "vars: {asked: !secret {prompt: The password?}}",
            "tasks/t.yml": dedent("""\
                steps:
                - run: echo {{ asked }} {{ db_password }}
                - run: 'printf %s {{ asked | upper }}; exit 1'
                """),
        }
    )
    code, shown = run_on_terminal(one, {"The password?": "typ3d-word"}, "-s", "dev", "run", "t")
    assert code == 1, shown
    assert shown.count("The password?") == 1
    assert "‹asked› ‹db_password›" in shown
    assert "typ3d" not in shown.lower()
    is_clean(shown + journal_logs(one))


def test_without_a_terminal_a_prompt_is_a_usage_error(one: OrchProject) -> None:
    one.write(
        {
            "inventories/common/stage.yml": "vars: {asked: !secret {prompt: The password?}}",
            "tasks/t.yml": "steps: [{run: 'echo {{ asked }}'}]",
        }
    )
    done: Any = subprocess.run(
        [sys.executable, "-m", "orchestrator", "-s", "dev", "run", "t"],
        cwd=one.root,
        env=one.environ({}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        check=False,
    )
    assert done.returncode == 2
    assert "cannot prompt for the secret 'asked'" in done.stderr
    assert "inventories/common/stage.yml:1:15" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "script",
    [
        "echo $$ >>pids; exec sleep 1000",
        "echo $$ >>pids; sleep 1000 & echo $! >>pids; wait",
        'trap "" TERM; echo $$ >>pids; sh -c "echo \\$\\$ >>pids; sleep 1000" & wait; sleep 1000',
    ],
    ids=["alone", "with a child", "deaf"],
)
def test_nothing_is_left_of_a_command_that_a_signal_ends(
    project: OrchProject, script: str, number: signal.Signals
) -> None:
    stage = {
        "connect": {"transport": "sandbox"},
        "vars": {"token": "TOKEN"},
    }
    text = json.dumps(stage).replace(
        '"TOKEN"', f"!secret {{command: {json.dumps(['sh', '-c', script])}}}"
    )
    project.write(
        {
            "inventories/dev/stage.yml": text,
            "inventories/dev/hosts/a1.yml": "",
            "tasks/t.yml": "steps: [{run: 'echo {{ token }}'}]\n",
        }
    )
    pids = project.root / "inventories/dev/pids"
    several = script.count("pids")
    with project.start_orch("-s", "dev", "run", "t") as process:
        wait_until(
            lambda: pids.exists() and len(pids.read_text().split()) == several, "the command"
        )
        process.send_signal(number)
        out = process.communicate(timeout=60)[0]
    assert (process.returncode, out) == (130, "")
    for pid in map(int, pids.read_text().split()):
        wait_until(lambda pid=pid: not is_alive(pid), "the command's end")


def is_alive(pid: int) -> bool:
    """Return True if the process is running."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, check=False)
    return done.stdout.strip()[:1] not in (b"", b"Z")


def test_a_byte_order_mark_is_no_part_of_a_file_s_secret(one: OrchProject) -> None:
    (one.root / "inventories/dev/key.pem").write_bytes(b"\xef\xbb\xbf" + KEY.encode())
    done = run_task(
        one, "steps: [{run: 'printf %s {{ tls_key }} | wc -c', readonly: true}]\n", "--json"
    )
    assert step_outputs(done) == [str(len(KEY) - 1)]


def test_a_value_from_the_command_line_that_replaces_a_secret_is_masked(
    project: OrchProject,
) -> None:
    project.add_sandbox_stage("a1").write(
        {
            "inventories/dev/roles/web.yml": "hosts: [a1]\nvars: {token: !secret {env: TOKEN}}\n",
            "tasks/t.yml": "steps: [{run: 'echo {{ token }} {{ other }}'}]\n",
        }
    )
    words = ("-s", "dev", "run", "t", "-e", "token=hunter2-hunter2", "-e", "other=visible-text")
    done = project.orch(*words)
    assert done.code == 0
    assert "hunter2" not in done.out + done.err
    assert "visible-text" in done.out
