"""Missing identity files are reported with their position before any host is connected."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.projects import OrchProject
from tests.sshd import SshdServer
from tests.support.module_files import WITHOUT_POWERS

STAGE = """\
connect:
  port: {port}
  known_hosts: /dev/null
  identities_only: {only}
  identity: {identity}
"""


@pytest.fixture
def listening_port() -> Iterator[socket.socket]:
    """Open a port that must not receive a connection."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.setblocking(False)
        yield server


def write_stage(
    project: OrchProject, server: socket.socket, identity: str, only: str
) -> OrchProject:
    text = STAGE.format(port=server.getsockname()[1], identity=identity, only=only)
    hosts = "".join(f"web{n}: {{address: 127.0.0.{n}}}\n" for n in range(1, 4))
    return project.write({"inventories/real/stage.yml": text, "inventories/real/hosts.yml": hosts})


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        ("~/.ssh/none-such", "the key file ~/.ssh/none-such does not exist: web[1-3]"),
        (
            "[/nowhere/a, /nowhere/b]",
            "the key files /nowhere/a and /nowhere/b do not exist: web[1-3]",
        ),
    ],
)
@pytest.mark.parametrize("words", [("exec", "--", "id"), ("run", "uname", "--check")])
def test_where_no_other_key_counts_it_is_an_error_at_its_line(
    project: OrchProject,
    listening_port: socket.socket,
    identity: str,
    message: str,
    words: tuple[str, ...],
) -> None:
    project.write({"tasks/uname.yml": "steps: [{run: uname}]\n"})
    done = write_stage(project, listening_port, identity, "true").orch("-s", "real", *words)
    assert done.code == 3
    assert f"error: {message}\n  --> inventories/real/stage.yml:5:" in done.err
    with pytest.raises(BlockingIOError):
        listening_port.accept()


def test_a_key_that_cannot_be_read_is_refused_before_contact(
    project: OrchProject, listening_port: socket.socket
) -> None:
    key = project.root / "key"
    key.write_text("secret")
    key.chmod(0)
    write_stage(project, listening_port, str(key), "true")
    done = subprocess.run(
        [*WITHOUT_POWERS, *project.command("-s", "real", "exec", "--", "id")],
        cwd=project.root,
        env=project.environ({}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert f"error: the key file {key} cannot be read: web[1-3]\n  --> inv" in done.stderr
    with pytest.raises(BlockingIOError):
        listening_port.accept()


def test_a_role_s_line_is_named_and_hosts_that_take_no_part_do_not_count(
    project: OrchProject, listening_port: socket.socket
) -> None:
    write_stage(project, listening_port, "/dev/null", "true").write(
        {
            "inventories/real/roles/db.yml": "hosts: [web3]\nconnect: {identity: /nowhere/db}\n",
            "tasks/t.yml": "roles: [db]\nsteps: [{run: id}]\n",
        }
    )
    done = project.orch("-s", "real", "run", "t")
    assert (done.code, "inventories/real/roles/db.yml:2:" in done.err) == (3, True)
    assert "/nowhere/db does not exist: web3" in done.err
    listening_port.close()
    done = project.orch("-s", "real", "exec", "-l", "web1", "--", "id")
    assert "does not exist" not in done.err + done.out


def test_where_an_agent_may_have_it_it_is_a_warning(project: OrchProject, sshd: SshdServer) -> None:
    """No warning is printed if one of several files, or its public part, exists."""
    nowhere = project.root / "nowhere"
    connect = {"identity": f"[{nowhere}]", "port": sshd.port, "known_hosts": str(sshd.known_hosts)}

    def output() -> str:
        lines = "".join(f"  {name}: {value}\n" for name, value in connect.items())
        files = {"stage.yml": f"connect:\n{lines}", "hosts.yml": "a: {address: 127.0.0.1}\n"}
        project.write({f"inventories/real/{name}": text for name, text in files.items()})
        done = project.orch("-s", "real", "exec", "--", "true")
        return done.err + done.out

    assert (
        f"warning: the key file {nowhere} does not exist: a (inventories/real/stage.yml:2:"
        in output()
    )
    connect["identity"] = f"[{nowhere}, {sshd.key}]"
    assert "warning:" not in output()
    connect["identity"] = str(nowhere)
    (project.root / "nowhere.pub").write_text("ssh-ed25519 AAAA\n")
    assert "warning:" not in output()
