"""Checks that replace the tests of tests/integration/conformance that cannot pass on a host.

Most of them check that an error says why in one line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing

import pytest

from orchestrator.errors import ConnectError
from orchestrator.model.command import StepCommand
from orchestrator.model.condition import ConstantCondition
from orchestrator.remote_shell import EndReason, SessionLostError, ShellSession
from orchestrator.remote_shell.channel_protocol import Connection
from tests.support.session_recording import WAIT_TIMEOUT, run_pipeline

Replacement = Callable[[Connection], None]


def check_one_session(connection: Connection) -> None:
    """MaxSessions is 1. A fixture of the test may have opened the session."""
    with pytest.raises(ConnectError) as caught, closing(connection.open()):
        connection.open()
    error = caught.value
    assert (error.phase, "MaxSessions in its sshd_config" in error.hint) == ("channel", True)
    assert error.reason in {
        "the host refused a session: 'open failed'",
        "the host refused a session: Session open refused by peer",
    }


def check_no_groups(connection: Connection) -> None:
    """With neither setsid nor perl, the shell ends with a step that is timed out."""
    with closing(ShellSession(connection.open(), ready_timeout=WAIT_TIMEOUT)) as session:
        recording = run_pipeline(
            session,
            StepCommand(1, "sleep 60", timeout=0.1, ignore_failure=True),
            StepCommand(2, "id"),
        )
        assert [each.end_reason for each in recording.endings.values()] == [EndReason.TIMED_OUT]
        with pytest.raises(SessionLostError) as lost:
            run_pipeline(session, StepCommand(3, "id"))
    assert lost.value.step is None
    assert str(lost.value) == "killing a step ended the shell: the host has neither setsid nor perl"


def check_no_sudo(connection: Connection) -> None:
    with (
        closing(ShellSession(connection.open("daemon"), ready_timeout=WAIT_TIMEOUT)) as session,
        pytest.raises(ConnectError) as caught,
    ):
        run_pipeline(session, StepCommand(1, "id"))
    error = caught.value
    assert error.phase == "become"
    assert error.reason.startswith("sudo to daemon failed: 'sh: ")
    assert error.reason.endswith(": sudo: not found'")
    assert error.hint == (
        "install sudo on the host, or use another method: `connect: {become_method: doas | su}`"
    )


def check_no_bash(connection: Connection) -> None:
    with closing(ShellSession(connection.open(), ready_timeout=WAIT_TIMEOUT)) as session:
        recording = run_pipeline(
            session,
            StepCommand(
                1,
                "id",
                shell="bash",
                failed_condition=ConstantCondition(False),
                ignore_failure=True,
            ),
        )
    ending = recording.endings[1]
    assert (ending.exit_status, ending.failed) == (127, True)
    assert ending.reason == "the host has no such shell"
    assert recording.stderr_of(1) == b"orch: there is no bash on this host\n"


def check_no_home(connection: Connection) -> None:
    """Check that steps start in the root folder."""
    with closing(ShellSession(connection.open(), ready_timeout=WAIT_TIMEOUT)) as session:
        assert run_pipeline(session, StepCommand(1, "pwd")).stdout_of(1) == b"/\n"


def check_faked_clock(connection: Connection) -> None:
    """libfaketime, which simulates a wrong clock, opens a file in every process."""
    look = "ls -l /proc/self/fd"
    with closing(ShellSession(connection.open(), ready_timeout=WAIT_TIMEOUT)) as session:
        recording = run_pipeline(session, StepCommand(1, look), StepCommand(2, look, stdin="x"))
    for number in (1, 2):
        links = re.findall(r" (\d+) -> (\S+)", recording.stdout_of(number).decode())
        assert {int(fd) for fd, _ in links} >= {0, 1, 2}
        others = [to for fd, to in links if int(fd) > 2]
        assert all(re.match(r"/dev/shm/faketime|/proc/\d+/fd$", to) for to in others), others


ONE = {
    "test_channels_of_a_connection_are_apart": check_one_session,
    "test_closing_the_connection_ends_its_channels": check_one_session,
    "test_users_of_a_connection_have_shells_of_their_own": check_one_session,
}
GROUPS = {
    "test_timeout_ends_everything_the_step_started": check_no_groups,
    "test_cancel_during_a_timeout_s_grace_lets_nothing_follow": check_no_groups,
    "test_conditions_see_earlier_steps": check_no_groups,
}
SUDO = {
    "test_steps_are_the_user_s_and_begin_in_their_home": check_no_sudo,
    "test_users_of_a_connection_have_shells_of_their_own": check_no_sudo,
    "test_cancel_ends_all_that_the_user_s_step_started": check_no_sudo,
    "test_timeout_ends_all_that_the_user_s_step_started": check_no_sudo,
    "test_end_of_the_connection_ends_the_user_s_step_and_shell": check_no_sudo,
    "test_files_that_are_sent_are_the_user_s": check_no_sudo,
}
BASH = {
    "test_bash_steps_see_failures_left_of_a_pipe": check_no_bash,
    "test_bash_steps_inherit_no_file_descriptors": check_no_bash,
}
HOME = {
    "test_it_runs_at_home": check_no_home,
    "test_steps_begin_at_home": check_no_home,
}
CLOCK = {
    "test_steps_inherit_no_file_descriptors": check_faked_clock,
    "test_bash_steps_inherit_no_file_descriptors": check_faked_clock,
}
EXCEPTIONS: dict[str, dict[str, Replacement]] = {
    "one": ONE,
    "few": {**GROUPS, **SUDO},
    "alone": {**GROUPS, **SUDO, **BASH},
    "busybox": {**SUDO, **BASH},
    "homeless": HOME,
    "ahead": CLOCK,
    "behind": CLOCK,
}
"""By host, for both transports, and by test."""
