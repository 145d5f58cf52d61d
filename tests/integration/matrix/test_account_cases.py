"""sshd settings, login shells and home folders as found in practice.

A compact run over both transports works, or reports in one line why it does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from orchestrator.errors import ExitCode
from tests.integration.matrix.account_cases import (
    ACCOUNTS,
    CONNECT,
    ELSEWHERE,
    WORKS,
    make_accounts,
)
from tests.integration.matrix.account_hosts import TRANSPORTS
from tests.integration.matrix.compact_run import ENDS, MatrixProject, check_conforms
from tests.integration.matrix.matrix_ground import MatrixGround
from tests.support.help_lines import without_section
from tests.support.sshd_machine import SshdMachine


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MatrixGround]:
    with make_accounts(tmp_path_factory.mktemp("matrix") / "place") as prepared:
        yield prepared


@pytest.fixture
def sshd_machine(ground: MatrixGround) -> SshdMachine:
    return ground.machine


@pytest.fixture
def project(ground: MatrixGround) -> MatrixProject:
    return ground.project


BROKE = "shell: {{at}}: the session was lost (exit status {status}); the host sent"
SILENT = "shell: {at}: no shell answered within 1 s; the host sent nothing; commands already sent may have run"
NO_SHELL = (
    "an rc file that reads its input, a forced command or a closed account does this: check"
    " with `ssh HOST 'exec sh'`"
)
# what keeps a host from giving us a shell: the reason that its row has
NO_SHELLS = {
    "echoes": f"{BROKE.format(status=0)}: 'this account is for backups'",
    "files": f"{BROKE.format(status=1)}: 'This service allows sftp connections only.'",
    "leaves": f"{BROKE.format(status=4)}: 'closed for today'",
    "reads": f"{BROKE.format(status=0)} nothing",
    "becomes": SILENT,
    "nologin": f"{BROKE.format(status=1)}: 'This account is currently not available.'",
    "false": f"{BROKE.format(status=1)} nothing",
}
NO_SHELLS_AT_ALL = {
    "ssh": (
        "auth: shell-less@127.0.0.1:22: permission denied for shell-less: tried {key} "
        "(ssh-ed25519 {print}); the server accepts publickey",
        "is the user right, and the key in its ~/.ssh/authorized_keys?",
    ),
    "openssh": (
        "auth: shell-less@127.0.0.1:22: shell-less@127.0.0.1: Permission denied (publickey).; "
        "tried {key}",
        "transport openssh cannot answer prompts: is the key in the agent, or `identity` right?",
    ),
}
# disks that take nothing: the third step's stderr, and what becomes of a payload of its own
NO_ROOM = {
    "full": (
        r"could not write the whole file: is the disk full\?\n",
        r"'cat: write error: No space left on device'",
    ),
    "sealed": (
        r"cannot create /home/sealed/\.orch-\w+: Read-only file system\n",
        r"\"mkdir: cannot create directory '/tmp/orch-\w+': Read-only file system / "
        r"mkdir: cannot create directory '/home/sealed/orch-\w+': Read-only file system\"",
    ),
}
COMPACT = [case for case in WORKS if case[0] not in NO_ROOM]


@pytest.mark.parametrize(("name", "transport"), COMPACT)
def test_everything_works(
    sshd_machine: SshdMachine, project: MatrixProject, name: str, transport: str
) -> None:
    folder = sshd_machine.outside_path(ELSEWHERE.get(name, ACCOUNTS[name].home_folder))
    check_conforms(lambda: project.run_steps(transport, name)[0], folder)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", NO_SHELLS)
def test_a_host_without_a_shell_for_us_says_what_it_said(
    project: MatrixProject, name: str, transport: str
) -> None:
    (done,) = project.run_steps(transport, name)
    # another shell that took commands already sent may have run some of it
    assert done.row.status == ("lost" if name == "becomes" else "unreachable")
    assert done.steps == []
    port = CONNECT.get(name, {}).get("port", 22)
    reason = NO_SHELLS[name].format(at=f"{name}@127.0.0.1:{port}")
    assert (done.row.reason, without_section(done.row.hint)) == (reason, NO_SHELL)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_login_shell_that_is_not_there_lets_nobody_in(
    sshd_machine: SshdMachine, project: MatrixProject, transport: str
) -> None:
    (done,) = project.run_steps(transport, "shell-less")
    assert done.code is ExitCode.UNREACHABLE
    reason, hint = NO_SHELLS_AT_ALL[transport]
    reason = reason.format(
        key=sshd_machine.key, print=sshd_machine.key_fingerprint(sshd_machine.key)
    )
    assert (done.row.reason, without_section(done.row.hint)) == (reason, hint)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", NO_ROOM)
def test_disks_that_take_nothing_fail_the_step_that_writes(
    project: MatrixProject, name: str, transport: str
) -> None:
    (done,) = project.run_steps(transport, name)
    assert done.code is ExitCode.FAILED
    assert done.step_ends[:2] == ENDS[:2]
    (last,) = done.step_ends[2:]
    assert re.search(NO_ROOM[name][0], last[3].decode())
    assert done.row.reason == f"its fix failed: exit status {last[1]}, in step 3 'copy ~/the small'"
    large = {"copy": {"path": "/var/tmp/none", "src": "large"}}
    (done,) = project.run_steps(transport, name, steps=[large])
    at = f"{name}@127.0.0.1:{CONNECT[name]['port']}"
    why = rf"the upload failed: {at}: failed with exit status 1: "
    location = ", in step 1 'copy /var/tmp/none'"
    assert re.fullmatch(why + NO_ROOM[name][1] + location, done.row.reason)


def test_what_is_staged_leaves_nothing_behind(project: MatrixProject) -> None:
    """Nothing is left in the home folder if /tmp is closed, nor where there was no space."""
    large = {"copy": {"path": "/var/tmp/larger", "src": "large"}}
    look = {"run": "ls -A /tmp ~", "readonly": True}
    (done,) = project.run_steps("ssh", "narrow", steps=[large, look])
    assert done.step_ends[1][2] == b"/home/narrow:\n\n/tmp:\n"
    large["copy"]["path"] = "/var/tmp/largest"
    (done,) = project.run_steps("ssh", "full", steps=[large])
    assert done.code is ExitCode.FAILED
    (done,) = project.run_steps("ssh", "full", steps=[look])
    assert done.first_stdout == b"/home/full:\nall\n\n/tmp:\nall\n"
