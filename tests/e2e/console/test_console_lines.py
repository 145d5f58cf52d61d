"""`orch console` with lines from stdin: hosts, folders, prefixes, its own commands, records."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.e2e.console.conftest import on_host, run_lines
from tests.projects import OrchProject
from tests.sshd import SshdServer, serve_sshd

LOSE_CONNECTION = "kill -9 $(ps -o ppid= -p $PPID)"


def test_lines_run_in_the_same_shells_and_each_is_a_run_of_its_own(
    stage: OrchProject, sshd: SshdServer
) -> None:
    logins = sshd.log().count("Accepted publickey")
    done = run_lines(stage, "echo $PPID", "echo $PPID $ORCH_RUN", "echo $ORCH_RUN")
    assert done.code == 0, done.err
    assert sshd.log().count("Accepted publickey") == logins + 3
    first, second, third = (part.splitlines()[:-1] for part in _results(done.out))
    assert len({line.split()[-1] for line in first}) == 3
    assert [line.split()[1] for line in second] == [line.split()[1] for line in first]
    (run,) = {line.split()[2] for line in second}
    assert third == [f"web[1-2],db1: {third[0].split()[1]}"]
    assert third[0].split()[1] != run
    records = sorted(path.name for path in (stage.root / ".orch/console").iterdir())
    assert {run, third[0].split()[1]} < set(records)
    assert len(records) == 3
    shown = stage.orch("show", run)
    assert "orch -s real console 'echo $PPID $ORCH_RUN'\n" in shown.out
    assert f"{first[0].split()[1]} {run}" in shown.out
    listed = stage.orch("history", "--console").out.splitlines()
    assert listed[0].split() == ["RUN", "STARTED", "USER", "STAGE", "COMMAND", "SECONDS", "HOSTS"]
    assert "  real   echo $PPID $ORCH_RUN  " in listed[2]
    assert stage.orch("history").out == "no recorded runs\n"
    assert f"{run} web1 exec, step 1" in stage.orch("search", run).out


def test_each_host_keeps_its_folder(stage: OrchProject, tmp_path: Path) -> None:
    (tmp_path / "it's one").mkdir()
    done = run_lines(
        stage,
        f'cd "{tmp_path}/it\'s one"',
        on_host("db1", "cd /usr"),
        "pwd",
        "cd .. && cd /no/such/folder",
        "pwd",
        "@web cd -",
        "exit 3; echo no",
    )
    _, _, third, fourth, fifth, sixth, last = _results(done.out)
    odd = f"{tmp_path}/it's one"
    assert third.splitlines()[:2] == [f"web[1-2]: {odd}", "db1: /usr"]
    assert fourth.splitlines()[-2:] == [
        "3 hosts: 3 failed in X s",
        f"  web[1-2],db1 failed: exit status {_status(fourth)}",
    ]
    assert fifth.splitlines()[:2] == [f"web[1-2]: {tmp_path}", "db1: /"]
    assert sixth.splitlines()[0] == f"web[1-2]: {odd}"
    assert last.splitlines() == [
        "3 hosts: 3 failed in X s",
        "  web[1-2],db1 failed: exit status 3",
    ]
    assert done.code == 1


def test_a_host_with_one_session_at_a_time_changes_users(
    project: OrchProject, tmp_path: Path
) -> None:
    with serve_sshd(tmp_path / "sshd", ["MaxSessions 1"]) as sshd:
        project.add_sshd_stage(sshd, {"web1": "127.0.0.41"})
        lines = ("id -un", ":become nobody", "id -un", "id -un", ":become off", "id -un")
        done = run_lines(project, *lines)
        assert [line for line in done.out.splitlines() if line.startswith("web1: ")] == [
            f"web1: {user}" for user in (sshd.user, "nobody", "nobody", sshd.user)
        ]
        assert sshd.log().count("Accepted publickey") == 1
    assert done.code == 0


def test_prefixes_narrow_one_command(stage: OrchProject) -> None:
    done = run_lines(
        stage,
        on_host("web2", "echo bad >&2; exit 4"),
        "@failed echo again",
        "@ok echo $((20+22))",
        "@db,web1 echo some; false",
        "@web[1-2]:!web1 echo \"it's\" '$HOME  two'",
    )
    first, second, third, fourth, last = _results(done.out)
    assert first.splitlines() == [
        "web2 ! bad",
        "3 hosts: 2 ok, 1 failed in X s",
        "  web2 failed: exit status 4",
    ]
    assert second.splitlines() == ["web2: again", "1 host: 1 ok in X s"]
    assert third.splitlines() == ["web2: 42", "1 host: 1 ok in X s"]
    assert fourth.splitlines()[:2] == ["web1,db1: some", "2 hosts: 2 failed in X s"]
    assert last.splitlines() == ["web2: it's $HOME  two", "1 host: 1 ok in X s"]
    assert done.code == 1


def test_limit_and_become_hold_until_they_are_lifted(stage: OrchProject) -> None:
    done = run_lines(
        stage,
        ":limit web",
        ":become nobody",
        "id -un",
        ":limit",
        ":become off",
        "id -un",
        ":become",
        "id -un",
        args=("-l", "all:!web2"),
    )
    assert done.code == 0, done.err
    first, second, third = _results(done.out)
    assert first.splitlines()[0] == "web1: nobody"
    assert second.splitlines()[0].startswith("web1,db1: ")
    assert third.splitlines()[0] == "web1,db1: root"


def test_the_outputs_of_the_last_command_are_compared(stage: OrchProject) -> None:
    done = run_lines(stage, "echo same; " + on_host("db1", "echo more"), ":diff", ":hosts", ":help")
    assert done.out.splitlines()[5:11] == [
        "web[1-2]: the most common output, of 2 hosts",
        "── db1 ──",
        "  --- stdout of web[1-2]",
        "  +++ stdout of db1",
        "  @@ -1 +1,2 @@",
        "   same",
    ]
    assert re.search(r"^web\[1-2\] +web +ok +~$", done.out, re.M)
    assert re.search(r"^:reconnect +Connect lost hosts again\.$", done.out, re.M)


def test_tasks_of_the_project_run_over_the_same_connections(
    stage: OrchProject, sshd: SshdServer, tmp_path: Path
) -> None:
    stage.write(
        {
            "tasks/t.yml": f"""
            params: {{name: {{required: true}}}}
            steps: [{{touch: {{path: '{tmp_path}/{{{{ name }}}}-{{{{ host.name }}}}'}}}}]
            """
        }
    )
    logins = sshd.log().count("Accepted publickey")
    done = run_lines(stage, "@web true", ":limit web", ":run --check t name=a", ":run t name=b")
    assert done.code == 0, done.err
    assert sshd.log().count("Accepted publickey") == logins + 2
    assert sorted(path.name for path in tmp_path.glob("?-*")) == ["b-web1", "b-web2"]
    assert "2 would change" in done.out
    assert len(list((stage.root / ".orch/runs").iterdir())) == 2


def test_a_host_that_is_lost_takes_no_part_until_it_is_connected_again(stage: OrchProject) -> None:
    done = run_lines(
        stage,
        "cd /usr",
        on_host("web2", LOSE_CONNECTION),
        "echo rest",
        ":hosts",
        ":reconnect",
        "pwd",
    )
    _, second, third, rest = _results(done.out)
    assert second.splitlines()[0] == "3 hosts: 2 ok, 1 lost in X s"
    assert re.fullmatch(r"  web2 lost: .* the session was lost.*", second.splitlines()[1])
    assert third.splitlines() == ["web1,db1: rest", "2 hosts: 2 ok in X s"]
    assert re.search(r"^web2 +web +lost +/usr +.*the session was lost", rest, re.M)
    assert "web2 connected again" in rest.splitlines()
    assert rest.splitlines()[-2:] == ["web[1-2],db1: /usr", "3 hosts: 3 ok in X s"]
    assert done.code == 1


def test_lines_for_no_host_but_lost_ones_end_the_console(stage: OrchProject) -> None:
    done = run_lines(stage, LOSE_CONNECTION, "echo no", "echo no", args=("-l", "web1"))
    assert "no host is connected: web1" in done.err
    assert "echo" not in done.out
    assert done.code == 4


def test_an_unreachable_host_does_not_stop_the_others(stage: OrchProject, sshd: SshdServer) -> None:
    hosts = json.loads((stage.root / "inventories/real/hosts.yml").read_text())
    hosts["web2"]["connect"] = {"port": 1}
    stage.write({"inventories/real/hosts.yml": json.dumps(hosts)})
    done = run_lines(stage, "echo here", "echo still")
    first, second = _results(done.out)
    assert "web1,db1: here\n3 hosts: 2 ok, 1 unreachable in X s\n" in first
    assert second.splitlines() == ["web1,db1: still", "2 hosts: 2 ok in X s"]
    assert done.code == 4


@pytest.mark.parametrize(
    ("line", "code", "message", "hint"),
    [
        (":limti web", 2, "no such command ':limti'", "did you mean ':limit'?"),
        ("@web3 true", 3, "'web3' in the limit is not a host or role", "did you mean 'web"),
        ("@failed true", 2, "@failed: no command ran yet", ""),
        ("@web1", 2, "the command is missing: @web1", "write @ok, @failed or @LIMIT"),
        (":run nosuch", 3, "nosuch", ""),
        (":run --chekc 't", 2, ":run: No closing quotation", ""),
        (":run --chekc t", 2, "No such option", "--check"),
    ],
)
def test_an_error_in_a_line_ends_the_console_before_the_next_one(
    stage: OrchProject, tmp_path: Path, line: str, code: int, message: str, hint: str
) -> None:
    done = run_lines(stage, line, f"touch {tmp_path}/ran")
    assert done.code == code
    assert message in done.err
    assert hint in done.err
    assert not (tmp_path / "ran").exists()


def test_comments_and_empty_lines_are_nothing_and_quit_ends(stage: OrchProject) -> None:
    done = run_lines(stage, "", "# echo no", "  ", "@web1 echo one", "exit", "echo two")
    assert done.out.splitlines()[0] == "web1: one"
    assert "two" not in done.out
    assert done.code == 0


def test_long_output_is_cut_and_the_log_has_all(stage: OrchProject) -> None:
    done = run_lines(stage, "seq 10000")
    lines = done.out.splitlines()
    assert lines[0] == "── web[1-2],db1 ──"
    assert len(lines) < 70
    log = Path(lines[-1].removeprefix("log: ")) / "web1.log"
    assert "\n10000\n" in log.read_text()


def test_a_protected_stage_is_asked_for_once_and_not_by_a_script(stage: OrchProject) -> None:
    settings = json.loads((stage.root / "inventories/real/stage.yml").read_text())
    stage.write({"inventories/real/stage.yml": json.dumps({**settings, "protected": True})})
    refused = run_lines(stage, "echo no")
    assert refused.code == 2
    assert "'real' is protected. This would run the commands that you type" in refused.err
    assert refused.out == ""
    assert run_lines(stage, "echo yes", args=("--yes", "-l", "db1")).out.startswith("db1: yes\n")


def _results(out: str) -> list[str]:
    """Return the output of each command with its result, in which the time is X."""
    parts: list[str] = []
    begins = True
    for line in out.splitlines():
        is_result = re.match(r"[0-9]+ hosts?: .* in [0-9.]+ s$", line)
        if begins and not line.startswith("  "):
            parts.append("")
        parts[-1] += re.sub(" in [0-9.]+ s$", " in X s", line) + "\n" if is_result else f"{line}\n"
        begins = bool(is_result) or (begins and line.startswith("  "))
    return parts


def _status(result: str) -> str:
    return result.rstrip().rpartition(" ")[2]
