"""Unusual servers as found in practice: clocks, refusals, algorithms, prompts and timeouts.

A compact run over both transports works, or reports in one line why the login fails.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from orchestrator.errors import ExitCode
from tests import projects
from tests.integration.matrix.account_hosts import TRANSPORTS
from tests.integration.matrix.compact_run import CompactResult, check_conforms
from tests.integration.matrix.matrix_ground import MatrixGround, OneAnswerUser
from tests.integration.matrix.refusal_messages import NO_ANSWERS
from tests.integration.matrix.server_cases import (
    ACCOUNTS,
    HOURS,
    PORTS,
    REFUSED,
    WORKS,
    make_servers,
)
from tests.support.help_lines import without_section

TRIED = "tried {key} (ssh-ed25519 {print})"
TAKES = "the server accepts publickey, gssapi-keyex, gssapi-with-mic"
RIGHT = "is the user right, and the key in its ~/.ssh/authorized_keys?"
DENIED = "Permission denied (publickey,gssapi-keyex,gssapi-with-mic)."
ENOUGH = "keyboard-interactive, where the server asks for more than the password"
CHANGE = (
    "does the host require a new password, or a second one? Log in with `ssh HOST` to answer;"
    " orch sends each password once"
)
# the reason and the hint of who does not get in
LINES = {
    **{
        (name, "ssh"): (
            f"auth: {{at}}: permission denied for {name}: {TRIED}; {TAKES}",
            RIGHT,
        )
        for name in ("denied", "from-there")
    },
    **{
        (name, "openssh"): (f"auth: {{at}}: {name}@127.0.0.1: {DENIED}; tried {{key}}", NO_ANSWERS)
        for name in ("denied", "from-there")
    },
    ("kerberos", "ssh"): (
        f"auth: {{at}}: permission denied for kerberos: {TRIED}; the server accepts"
        " gssapi-with-mic",
        "orch supports keys and passwords only; the system's ssh may support another method:"
        " `connect: {transport: openssh}`",
    ),
    ("kerberos", "openssh"): (
        "auth: {at}: kerberos@127.0.0.1: Permission denied (gssapi-with-mic).; tried no key",
        "the host accepts Kerberos only: does `klist` show a ticket, and ssh_config allow it?",
    ),
    ("closed", "ssh"): (
        "auth: {at}: the server hung up; it sent: 'closed for maintenance until Monday' (tried {key}"
        " (ssh-ed25519 {print}))",
        "",
    ),
    ("closed", "openssh"): (
        "auth: {at}: closed for maintenance until Monday / Connection closed by 127.0.0.1 port"
        " {port}; tried {key}",
        NO_ANSWERS,
    ),
    ("two", "ssh"): (
        f"auth: {{at}}: permission denied for two: {TRIED}, then {ENOUGH} ('STRESS"
        " Password:'); the server accepts keyboard-interactive",
        CHANGE,
    ),
    ("change", "ssh"): (
        f"auth: {{at}}: permission denied for change: {TRIED}, then {ENOUGH} ('You are"
        " required to change your password immediately (administrator enforced). Changing password"
        " for change. Current password:'); the server accepts keyboard-interactive",
        CHANGE,
    ),
    **{
        (name, "openssh"): (
            f"auth: {{at}}: {name}@127.0.0.1: Permission denied (keyboard-interactive).; tried no"
            " key",
            NO_ANSWERS,
        )
        for name in ("two", "words", "change")
    },
}
DEPLOY = [
    {"directory": {"path": "~/app/releases/1"}},
    {"copy": {"path": "~/app/releases/1/config", "content": "a = 1\n"}},
    {"link": {"path": "~/app/current", "to": "releases/1"}},
]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MatrixGround]:
    with make_servers(tmp_path_factory.mktemp("matrix") / "place") as prepared:
        yield prepared


def run_case(ground: MatrixGround, name: str, transport: str) -> CompactResult:
    user = OneAnswerUser(ground.answer)
    (done,) = ground.project.run_steps(transport, name, environ=ground.environ, ask=user)
    return done


def test_who_does_not_get_in_has_a_line() -> None:
    assert {*LINES} == REFUSED


@pytest.mark.parametrize(("name", "transport"), WORKS)
def test_everything_works(ground: MatrixGround, name: str, transport: str) -> None:
    check_conforms(
        lambda: run_case(ground, name, transport),
        ground.machine.outside_path(ACCOUNTS[name].home_folder),
    )


@pytest.mark.parametrize(("name", "transport"), LINES)
def test_whom_a_host_does_not_let_in_is_told_why(
    ground: MatrixGround, name: str, transport: str
) -> None:
    done = run_case(ground, name, transport)
    assert (done.code, done.steps) == (ExitCode.UNREACHABLE, [])
    key, port = ground.machine.key, PORTS.get(name, 22)
    known = {
        "at": f"{name}@127.0.0.1:{port}",
        "port": port,
        "key": key,
        "print": ground.machine.key_fingerprint(key),
    }
    reason, hint = LINES[name, transport]
    shown = (done.row.reason, without_section(done.row.hint))
    assert shown == (reason.format_map(known), hint)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_silent_step_outlasts_a_server_that_ends_what_does_not_answer(
    ground: MatrixGround, transport: str
) -> None:
    """The server checks each second, and disconnects after two seconds without an answer."""
    (done,) = ground.project.run_steps(transport, "idle", steps=[{"run": "sleep 3; echo on"}])
    assert done.step_ends == [("changed", 0, b"on\n", b"")]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", HOURS)
def test_a_clock_that_is_hours_off_changes_no_step_s_outcome(
    ground: MatrixGround, name: str, transport: str
) -> None:
    ground.machine.run_as_root(f"rm -rf /home/{name}/app")
    look = {"run": "date +%s", "readonly": True}
    (first,) = ground.project.run_steps(transport, name, steps=[look, *DEPLOY])
    (again,) = ground.project.run_steps(transport, name, steps=[look, *DEPLOY])
    off = int(again.first_stdout) - time.time()
    assert abs(off - HOURS[name] * 3600) < 600, "it has no clock of its own"
    assert [status for status, *_ in first.step_ends] == ["ok", *["changed"] * 3]
    assert [status for status, *_ in again.step_ends] == ["ok"] * 4


def test_doctor_tells_whose_clock_is_off(ground: MatrixGround) -> None:
    project = projects.OrchProject(ground.project.root)
    for transport in TRANSPORTS:
        done = project.orch("-s", transport, "doctor", "--json", "--limit", "ahead,behind,idle")
        message = {
            one["host"]: [each["what"] for each in one["troubles"] if each["check"] == "clock"]
            for one in done.events
        }
        assert message["idle"] == []
        for name, location in (("ahead", "ahead of"), ("behind", "behind")):
            assert message[name], done.out
            (what,) = message[name]
            found = re.fullmatch(rf"its clock is (\d+) s {location} this machine's", what)
            assert found, what
            assert abs(int(found[1]) - 5 * 3600) < 60
