"""``become`` with a password from a file, for a whole run, and never shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.transports.test_become_password import (
    RIGHT,
    PrivateCopy,
    copy,
    run_in_machine,
)
from tests.projects import OrchProject
from tests.sshd import SSHD, generate_key

__all__ = ["copy"]

TASK = """
become: bob
steps:
  - {run: id -un, readonly: true}
  - run: echo PASSWORD; echo PASSWORD >&2
  - run: |
      cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | grep -ac 'corr[e]ct' || :
    become: true
  - copy: {content: text, path: ~/kept, mode: "0600", validate: 'test "$(stat -c %a:%U %s)" = 600:bob'}
  - {run: "stat -c %a:%U ~/kept", readonly: true}
"""


@pytest.fixture
def fleet(copy: PrivateCopy, project: OrchProject, tmp_path: Path) -> OrchProject:
    """Start two hosts with sshd for the user alice, whose sudo requires a password."""
    host_key, key = generate_key(tmp_path / "host_key"), generate_key(tmp_path / "key")
    run_in_machine(
        copy,
        f"mkdir -p /run/sshd; echo '{key.with_suffix('.pub').read_text().strip()}' >/etc/keys;"
        f"umask 077; echo '{host_key.read_text()}' >/etc/host_key",
    )
    words = "-o HostKey=/etc/host_key -o AuthorizedKeysFile=/etc/keys -o UsePAM=no"
    proxy = f"ProxyCommand {' '.join(copy.words)} {SSHD} -i {words}"
    (tmp_path / "config").write_text(f"Host *\n{proxy}\nStrictHostKeyChecking no\n")
    (tmp_path / "password").touch(mode=0o600)
    (tmp_path / "password").write_text(f"{RIGHT}\n")
    connect = {
        "user": "alice",
        "identity": str(key),
        "known_hosts": str(tmp_path / "known"),
        "host_keys": "accept-new",
    }
    return project.write(
        {
            "inventories/dev/stage.yml": json.dumps({"connect": connect}),
            "inventories/dev/hosts.yml": "web1: {}\nweb2: {}\n",
            "tasks/t.yml": TASK.replace("PASSWORD", RIGHT),
        }
    )


def kept_files(project: OrchProject) -> str:
    files = (project.root / ".orch").rglob("*")
    return "".join(path.read_text() for path in files if path.is_file())


def test_a_file_gives_it_and_nothing_that_a_run_leaves_shows_it(
    fleet: OrchProject, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    more = {"ORCH_BECOME_PASSWORD_FILE": str(password)}
    words = ["-s", "dev", "run", "t", "-F", str(tmp_path / "config")]
    done = fleet.orch(*words, "--json", **more)
    assert done.code == 0, done.out
    for host in ("web1", "web2"):
        who, output, observed, _, mode = done.host_steps(host)
        assert who["stdout"] == "bob"
        assert output["stdout"] == output["stderr"] == "‹become password›"
        assert observed["stdout"] == "0", "the process list and the environments are without it"
        assert mode["stdout"] == "600:bob"
    plain = fleet.orch(*words, **more)
    assert "‹become password›" in plain.out + plain.err
    for text in (done.out, done.err, plain.out, plain.err, kept_files(fleet)):
        assert RIGHT not in text


def test_a_file_that_others_may_read_is_refused_with_what_to_do(
    fleet: OrchProject, tmp_path: Path
) -> None:
    (tmp_path / "password").chmod(0o644)
    more = {"ORCH_BECOME_PASSWORD_FILE": str(tmp_path / "password")}
    done = fleet.orch("-s", "dev", "run", "t", "-F", str(tmp_path / "config"), "--json", **more)
    assert done.code == 1
    assert f"others may read {tmp_path}/password (chmod 600" in done.out


def test_the_console_gives_it_once_and_shows_it_nowhere(fleet: OrchProject, tmp_path: Path) -> None:
    lines = (
        f"id -un\n:become bob\nid -un; echo $PPID\necho {RIGHT}; echo $PPID\n:become off\nid -un\n"
    )
    more = {"ORCH_BECOME_PASSWORD_FILE": str(tmp_path / "password")}
    words = ["-s", "dev", "console", "-l", "web1", "-F", str(tmp_path / "config")]
    done = fleet.orch(*words, stdin=lines, **more)
    assert done.code == 0, done.out
    printed = [line for line in done.out.splitlines() if not line.startswith("1 host: ")]
    shell = printed[3]
    assert printed == [
        "web1: alice",
        *("── web1 ──", "  bob", shell),
        *("── web1 ──", "  ‹become password›", shell),
        "web1: alice",
    ]
    for text in (done.out, done.err, kept_files(fleet)):
        assert RIGHT not in text
