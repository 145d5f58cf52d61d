"""`orch doctor`: one table of all hosts, with a hint for every problem."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.projects import OrchProject, OrchResult
from tests.sshd import SshdServer, generate_key, serve_sshd, wait_until

_TOOLS = (
    *("cat", "chmod", "chown", "cmp", "cp", "cut", "date", "df", "find", "grep", "head", "id"),
    *("ln", "ls", "mkdir", "mv", "readlink", "rm", "sed", "sh", "sleep", "tail", "tr", "wc"),
    *("sha256sum", "kill"),
)
# the faults of each host, by the address at which it is reached
_WRAPPER = """#!/bin/sh
set -- $SSH_CONNECTION
run='eval "$SSH_ORIGINAL_COMMAND"'
case $3 in
127.0.0.11) PATH={few};;
127.0.0.12) PATH={clock}:$PATH;;
127.0.0.13) TMPDIR={disk}; export TMPDIR
  exec unshare --mount sh -c 'mount -t tmpfs -o ro tmpfs {disk} && '"$run";;
127.0.0.14) TMPDIR={disk}; export TMPDIR
  exec unshare --mount sh -c 'mount -t tmpfs -o size=64k tmpfs {disk}
    head -c 1000000 /dev/zero >{disk}/x 2>/dev/null; '"$run";;
127.0.0.15) HOME={disk}/gone; export HOME;;
127.0.0.20) HOME={disk}/gone TMPDIR={disk}/none; export HOME TMPDIR;;
127.0.0.16) echo 'This account is currently not available.'; exit 1;;
127.0.0.17|127.0.0.19) exec setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/tmp sh -c "$run";;
127.0.0.18) PATH={box};;
esac
eval "$run"
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshdServer]:
    """Start a server whose addresses are hosts with one fault each; 127.0.0.1 to .9 have none."""
    folder = tmp_path_factory.mktemp("doctor")
    folder.chmod(0o755)
    few, clock, disk, box = (folder / name for name in ("few", "clock", "disk", "box"))
    for one in (few, clock, disk, box):
        one.mkdir()
    subprocess.run(["busybox", "--install", "-s", str(box)], check=True)
    for tool in _TOOLS:
        if tool != "cmp":
            (few / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
    (clock / "date").write_text(
        '#!/bin/sh\n[ "$1" = +%s ] || exit\necho $(($(/bin/date +%s)-100))\n'
    )
    (clock / "date").chmod(0o755)
    locations = {"few": few, "clock": clock, "disk": disk, "box": box}
    wrapper = _WRAPPER
    for name, path in locations.items():
        wrapper = wrapper.replace(f"{{{name}}}", str(path))
    with serve_sshd(folder / "sshd", wrapper=wrapper) as sshd:
        yield sshd


def run_doctor(
    project: OrchProject, *args: str, **env: str
) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the exit code, and the JSON of each host."""
    done = project.orch("-s", "real", "doctor", "--json", *args, **env)
    assert not done.err, done.err
    return done.code, {one["host"]: one for one in map(json.loads, done.out.splitlines())}


def only_finding(found: dict[str, Any], check: str) -> dict[str, Any]:
    """Return the only finding of this check."""
    (one,) = [each for each in found["troubles"] if each["check"] == check]
    assert isinstance(one, dict)
    return one


def table_rows(done: OrchResult) -> list[list[str]]:
    return [line.split() for line in done.out.split("\n\n")[0].splitlines()]


def test_hosts_without_a_trouble_are_one_row_within_80_columns(
    project: OrchProject, fleet: SshdServer
) -> None:
    project.add_sshd_stage(fleet, {f"web{n:02}": f"127.0.0.{n}" for n in range(1, 6)})
    done = project.orch("-s", "real", "doctor", COLUMNS="80")
    assert (done.code, done.err) == (0, "")
    head, row = table_rows(done)
    assert head[:7] == ["HOST", "DNS", "REACH", "KEY", "AUTH", "SHELL", "DISK"]
    assert row[:5] == ["web[01-05]", "ok", "ok", "ok", "ok"]
    assert done.out.splitlines()[-1] == "5 hosts: 5 fine"
    assert max(map(len, done.out.splitlines())) <= 80


def test_the_sandbox_and_this_machine_are_looked_at_like_other_hosts(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write(
        {"inventories/dev/hosts/me.yml": "connect: {transport: local}\n"}
    )
    done = project.orch("-s", "dev", "doctor", "--json")
    found = {one["host"]: one for one in map(json.loads, done.out.splitlines())}
    assert done.code == 0, done.out
    assert [found[host]["state"] for host in ("a1", "me")] == ["fine", "fine"]
    assert found["a1"]["checks"]["auth"] == "ok"
    assert found["me"]["checks"]["auth"] is None
    assert found["me"]["checks"]["shell"] == "ok"


def test_each_host_tells_its_own_trouble_and_hides_no_other(
    project: OrchProject, fleet: SshdServer
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        shut = free.getsockname()[1]
    other = generate_key(project.root.parent / "other")
    hosts = {
        "fine": {},
        "shut": {"connect": {"port": shut}},
        "nowhere": {"address": "host.invalid"},
        "stranger": {"connect": {"known_hosts": "/dev/null"}},
        "locked": {"connect": {"identity": str(other)}},
        "closed": {"address": "127.0.0.16"},
        "bare": {"address": "127.0.0.11"},
        "slow": {"address": "127.0.0.12"},
        "readonly": {"address": "127.0.0.13"},
        "full": {"address": "127.0.0.14"},
        "homeless": {"address": "127.0.0.15"},
        "nothing": {"address": "127.0.0.20"},
    }
    project.add_sshd_stage(fleet, {}).write(
        {
            "inventories/real/hosts.yml": json.dumps(
                {
                    name: {"address": f"127.0.0.{n}"} | output
                    for n, (name, output) in enumerate(hosts.items(), 1)
                }
            ),
            "tasks/t.yml": dedent("""\
                desc: t
                steps:
                - copy: {content: a, path: ~/a}
                - git: {repo: /r, path: ~/g}
                """),
        }
    )
    code, found = run_doctor(project)
    assert code == 1
    assert found["fine"]["state"] == "fine"
    for host, check, what, hint in (
        ("shut", "reach", "connect: ", ""),
        ("nowhere", "resolve", "resolve: ", ""),
        ("stranger", "key", "host key: ", "accept-new"),
        ("locked", "auth", "auth: ", ""),
        ("closed", "shell", "This account is currently not available.", "exec sh"),
    ):
        assert found[host]["state"] == "unreachable"
        message = only_finding(found[host], check)
        assert what in message["what"], message
        assert hint in message["hint"], message
        assert message["fails"]
    assert found["closed"]["checks"]["auth"] == "ok"
    for host, state, check, what in (
        ("bare", "fails", "tools", "missing cmp, which modules need"),
        ("readonly", "warned", "disk", "is read-only"),
        ("full", "fails", "disk", "no space is left"),
        ("homeless", "warned", "disk", "does not exist"),
        ("nothing", "fails", "disk", "the home folder"),
    ):
        assert found[host]["state"] == state, found[host]
        message = [one for one in found[host]["troubles"] if one["check"] == check]
        assert what in message[0]["what"], message
        assert message[0]["fails"] == (state == "fails")
        assert message[0]["hint"]
    bare = " ".join(each["what"] for each in found["bare"]["troubles"])
    assert "missing git, which the tasks' module `git` needs" in bare
    assert "without setsid or perl" in bare
    assert found["slow"]["state"] == "warned"
    assert "s behind this machine's" in only_finding(found["slow"], "clock")["what"]
    assert -102 <= found["slow"]["clock_skew"] <= -98


def test_hosts_with_the_same_trouble_are_named_in_one(project: OrchProject) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        shut = free.getsockname()[1]
    hosts = "".join(
        f"web{i}: {{address: 127.0.0.{i}, connect: {{user: u, port: {shut}}}}}\n" for i in (1, 2, 3)
    )
    done = project.write({"inventories/dev/hosts.yml": hosts}).orch("-s", "dev", "doctor")
    assert done.code == 4
    assert done.out.count("unreachable: ") == 1
    assert f"web[1-3]: connect: u@127.0.0.[1-3]:{shut}: connection refused" in done.out
    assert done.out.count("help:") == 1


def test_what_no_task_needs_is_not_missed(project: OrchProject, fleet: SshdServer) -> None:
    project.add_sshd_stage(fleet, {"bare": "127.0.0.11", "db": "127.0.0.2"}).write(
        {
            "tasks/t.yml": dedent("""\
            desc: t
            roles: [db]
            steps: [{copy: {content: a, path: ~/a}}]
            """)
        }
    )
    project.write({"inventories/real/roles/db.yml": "[db]\n"})
    code, found = run_doctor(project)
    assert code == 0
    assert [each["what"][:13] for each in found["bare"]["troubles"]] == ["without setsi"]
    assert found["bare"]["checks"]["tools"] == "warn"


def test_exit_code_4_where_hosts_are_unreachable_and_none_fails(
    project: OrchProject, fleet: SshdServer
) -> None:
    project.add_sshd_stage(fleet, {"a": "127.0.0.1", "closed": "127.0.0.16"})
    done = project.orch("-s", "real", "doctor", COLUMNS="80")
    assert done.code == 4
    assert table_rows(done)[2][:6] == ["closed", "ok", "ok", "ok", "ok", "fail"]
    assert "unreachable: closed: shell: " in done.out
    assert "\n  help: " in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_sudo_is_tried_only_for_users_that_a_task_of_the_host_becomes(
    project: OrchProject, fleet: SshdServer
) -> None:
    project.add_sshd_stage(
        fleet, {"web": "127.0.0.1", "asks": "127.0.0.17", "db": "127.0.0.19"}
    ).write(
        {
            "inventories/real/roles/web.yml": "[web, asks]\n",
            "tasks/t.yml": dedent("""\
                desc: t
                roles: [web]
                steps:
                - {run: id, become: daemon}
                - {run: id, become: '{{ nobody_knows }}'}
                """),
        }
    )
    code, found = run_doctor(project)
    assert code == 0
    assert [found[host]["checks"]["become"] for host in ("web", "asks", "db")] == [
        "ok",
        "warn",
        None,
    ]
    message = only_finding(found["asks"], "become")
    assert message["what"] == "sudo requires a password to become daemon"
    assert "ORCH_BECOME_PASSWORD_FILE" in message["hint"]
    project.write({"tasks/t.yml": "desc: t\nsteps: [{run: id, become: nosuchuser}]\n"})
    code, found = run_doctor(project, "-l", "web")
    assert code == 1
    assert "does the host have a user nosuchuser?" in only_finding(found["web"], "become")["hint"]


def test_what_ssh_config_says_in_vain_is_told_where_it_matters(
    project: OrchProject, fleet: SshdServer
) -> None:
    config = project.root.parent / "config"
    config.write_text("Host *\n  VerifyHostKeyDNS yes\n  GSSAPIAuthentication yes\n")
    project.add_sshd_stage(fleet, {"a1": "127.0.0.1", "a2": "127.0.0.2", "closed": "127.0.0.16"})
    done = project.orch("-s", "real", "doctor", "-F", str(config))
    assert done.code == 4
    assert "warning: a[1-2],closed: verifyhostkeydns yes" in done.out.lower()
    assert f"set at {config}:2" in done.out
    assert "warning: closed: gssapiauthentication yes" in done.out.lower()


def test_a_jump_host_is_shown_and_the_way_ends_at_one_that_lets_nobody_through(
    project: OrchProject, fleet: SshdServer
) -> None:
    hosts: dict[str, Any] = {
        "gate": {"address": "127.0.0.1"},
        "odd": {"address": "127.0.0.5", "connect": {"known_hosts": "/dev/null"}},
        "a": {"address": "127.0.0.2", "connect": {"jump": "gate"}},
        "b": {"address": "127.0.0.3", "connect": {"jump": "odd"}},
        "c": {"address": "127.0.0.4", "connect": {"jump": "gate", "transport": "openssh"}},
    }
    project.add_sshd_stage(fleet, {}).write({"inventories/real/hosts.yml": json.dumps(hosts)})
    code, found = run_doctor(project)
    assert code == 4
    assert (found["a"]["state"], found["a"]["via"]) == ("fine", ["gate"])
    assert (found["c"]["state"], found["c"]["via"]) == ("fine", ["gate"])
    assert (found["b"]["state"], found["b"]["via"]) == ("unreachable", ["odd"])
    assert "jump host odd" in only_finding(found["b"], "reach")["what"]
    assert (found["b"]["checks"]["reach"], found["b"]["checks"]["key"]) == ("fail", None)
    assert found["odd"]["checks"]["key"] == "fail"


def test_busybox_answers_every_question(project: OrchProject, fleet: SshdServer) -> None:
    project.add_sshd_stage(fleet, {"small": "127.0.0.18"})
    code, found = run_doctor(project)
    assert (code, found["small"]["state"]) == (0, "fine")
    assert found["small"]["shell"] == "busybox"
    assert found["small"]["home_free"] > 0


def test_nothing_is_changed_on_a_host_nor_in_known_hosts(
    project: OrchProject, fleet: SshdServer
) -> None:
    known = project.root.parent / "known_hosts"
    known.touch()
    project.add_sshd_stage(fleet, {}).write(
        {
            "inventories/real/hosts.yml": json.dumps(
                {
                    name: {
                        "address": address,
                        "connect": {
                            "known_hosts": str(known),
                            "host_keys": "accept-new",
                            "transport": name,
                        },
                    }
                    for name, address in (("ssh", "127.0.0.1"), ("openssh", "127.0.0.2"))
                }
            ),
            "inventories/real/stage.yml": json.dumps(
                {
                    "protected": True,
                    "connect": {"port": fleet.port, "identity": str(fleet.key), "user": fleet.user},
                }
            ),
        }
    )
    before = _write_files(fleet.home)
    code, found = run_doctor(project)
    assert (code, [one["state"] for one in found.values()]) == (0, ["fine", "fine"]), found
    assert known.read_text() == ""
    assert _write_files(fleet.home) == before
    assert not (project.root / ".orch").exists()


def test_tasks_in_error_do_not_keep_it_from_looking(
    project: OrchProject, fleet: SshdServer
) -> None:
    project.add_sshd_stage(fleet, {"a": "127.0.0.1"}).write({"tasks/t.yml": "steps: [{rum: id}]\n"})
    done = project.orch("-s", "real", "doctor")
    assert done.code == 0
    assert "1 host: 1 fine" in done.out
    assert "orch lint" in done.err


def test_ctrl_c_shows_what_is_known_and_ends_with_130(project: OrchProject, tmp_path: Path) -> None:
    """The server belongs to this test, so that no other connection ends here."""
    with (
        serve_sshd(tmp_path / "sshd", ("LogLevel VERBOSE",)) as server,
        closing(socket.create_server(("127.0.0.1", 0))) as silent,
    ):
        mute = {"port": silent.getsockname()[1], "timeout": 60}
        hosts = {"a": {"address": "127.0.0.1"}, "b": {"address": "127.0.0.1", "connect": mute}}
        project.add_sshd_stage(server, {}).write({"inventories/real/hosts.yml": json.dumps(hosts)})
        with project.start_orch("-s", "real", "doctor") as process:
            silent.settimeout(30)
            held = silent.accept()[0]
            wait_until(
                lambda: "Disconnected from user" in server.log(), "the other host to be done"
            )
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        held.close()
    assert process.returncode == 130
    assert "2 hosts: 1 fine, 1 not checked" in out
    assert "interrupted" in err


def _write_files(folder: Path) -> dict[str, tuple[int, int, int]]:
    found = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        found[str(path)] = (stat.S_IFMT(status.st_mode), status.st_mtime_ns, status.st_ctime_ns)
    return found


def test_commands_that_a_module_of_the_project_requires_are_looked_for(
    project: OrchProject,
) -> None:
    project.add_sandbox_stage("web1").write(
        {
            "tasks/mine.yml": dedent("""\
                requires: [[no-such-a, no-such-b], no-such-c, [sh, no-such-d]]
                probe: state x 1
                want: {x: '1'}
                """),
            "tasks/t.yml": "steps: [{mine: {}}]\n",
        }
    )
    done = project.orch("-s", "dev", "doctor", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    missing = [each["what"] for each in found["troubles"] if each["check"] == "tools"]
    assert missing == [
        "missing no-such-a or no-such-b, which the tasks' module `mine` needs",
        "missing no-such-c, which the tasks' module `mine` needs",
    ]


@pytest.mark.parametrize("name", ["a b", "-x", "a/b", "$(x)"])
def test_what_is_no_commands_name_is_refused(project: OrchProject, name: str) -> None:
    project.add_sandbox_stage("web1").write(
        {"tasks/mine.yml": f"requires: ['{name}']\nprobe: state x 1\nwant: {{x: '1'}}\n"}
    )
    done = project.orch("lint")
    assert done.code == 3
    assert "is not the name of a command" in done.err + done.out
