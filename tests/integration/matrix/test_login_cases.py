"""Accounts, keys, passwords, certificates and algorithms as found in practice.

A compact run over both transports works, or reports in one line why the login fails.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.errors import ExitCode
from tests.integration.matrix.compact_run import CompactResult, check_conforms
from tests.integration.matrix.login_cases import ACCOUNTS, PORTS, WORKS, make_logins
from tests.integration.matrix.matrix_ground import MatrixGround, OneAnswerUser
from tests.integration.matrix.refusal_messages import LINES, OTHER
from tests.support.help_lines import without_section
from tests.support.sshd_machine import SshdMachine


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MatrixGround]:
    with make_logins(tmp_path_factory.mktemp("matrix") / "place") as prepared:
        yield prepared


@pytest.fixture
def sshd_machine(ground: MatrixGround) -> SshdMachine:
    return ground.machine


def run_case(ground: MatrixGround, name: str, transport: str) -> CompactResult:
    user = OneAnswerUser(ground.answer)
    (done,) = ground.project.run_steps(transport, name, environ=ground.environ, ask=user)
    return done


@pytest.mark.parametrize(("name", "transport"), WORKS)
def test_everything_works(
    ground: MatrixGround, sshd_machine: SshdMachine, name: str, transport: str
) -> None:
    check_conforms(
        lambda: run_case(ground, name, transport),
        sshd_machine.outside_path(ACCOUNTS[name].home_folder),
    )


@pytest.mark.parametrize(("name", "transport"), LINES)
def test_whom_a_host_does_not_let_in_is_told_why(
    ground: MatrixGround, sshd_machine: SshdMachine, name: str, transport: str
) -> None:
    done = run_case(ground, name, transport)
    assert (done.code, done.steps) == (ExitCode.UNREACHABLE, [])
    port = PORTS.get(name, 22)
    known = {
        "at": f"{name}@127.0.0.1:{port}",
        "port": port,
        "folder": sshd_machine.folder,
        "key": sshd_machine.key,
        "print": sshd_machine.key_fingerprint(sshd_machine.key),
        "ca": sshd_machine.key_fingerprint(sshd_machine.folder / "ca"),
        "wrong": sshd_machine.key_fingerprint(sshd_machine.folder / "wrong"),
        "host_key": sshd_machine.key_fingerprint(sshd_machine.host_key),
    }
    reason, hint = LINES[name, transport]
    assert done.row.reason == reason.format_map(known)
    shown = without_section(done.row.hint)
    assert shown == (hint if hint == OTHER else hint.format_map(known))


def test_a_passphrase_is_asked_for_once_in_a_run(
    ground: MatrixGround, sshd_machine: SshdMachine
) -> None:
    user = OneAnswerUser(ground.answer)
    step = {"run": "echo $SSH_CONNECTION"}
    done = ground.project.run_steps("ssh", "encrypted", "another", steps=[step], ask=user)
    assert [host.code for host in done] == [ExitCode.OK, ExitCode.OK]
    assert user.prompts == [f"Passphrase of {sshd_machine.folder}/encrypted: "]


@pytest.mark.parametrize(
    ("name", "method"), [("both", "password"), ("prompted", "keyboard-interactive")]
)
def test_a_password_that_is_wrong_is_called_rejected(
    ground: MatrixGround, sshd_machine: SshdMachine, name: str, method: str
) -> None:
    wrong = sshd_machine.folder / f"wrong-{name}"
    wrong.write_text("wrong\n")
    wrong.chmod(0o600)
    environ = {"ORCH_SSH_PASSWORD_FILE": str(wrong)}
    (done,) = ground.project.run_steps("ssh", name, environ=environ)
    assert done.code == ExitCode.UNREACHABLE
    assert f"{method}: the password was rejected" in done.row.reason
    assert done.row.hint == (
        f"is it the password of {name} on this host? See `orch doc ssh-password`"
    )
