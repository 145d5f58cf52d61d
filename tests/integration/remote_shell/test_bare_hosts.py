"""Hosts that lack something, and shells that say something before they are ready."""

from __future__ import annotations

from pathlib import Path

import pytest

import orchestrator.remote_shell.shell_session as session_module
from orchestrator.errors import ConnectError, ExitCode
from orchestrator.model.command import StepCommand
from orchestrator.remote_shell import CommandResult, EndReason, SessionLostError, ShellNotReadyError
from orchestrator.remote_shell.bootstrap import bootstrap_script
from tests.integration.remote_shell.conftest import SessionOpener
from tests.support.session_recording import PipelineThread, processes_with, run_pipeline, wait_until

BARE = ("cat", "touch", "ls", "sleep")
SLEEPS = "sleep {0} & sh -c 'sleep {0}; :' & (sleep {0}; :) & sleep {0}; :"


@pytest.mark.parametrize("tools", [BARE, (*BARE, "perl")], ids=["neither", "perl"])
def test_host_without_setsid_runs_steps(
    open_session: SessionOpener, tools: tuple[str, ...], mark: str
) -> None:
    session, _ = open_session(tools=tools)
    recording = run_pipeline(
        session,
        StepCommand(1, "cat; echo b >&2", stdin="a", timeout=60),
        StepCommand(2, "exit 3", ignore_failure=True),
        StepCommand(3, "echo c", guard="false"),
        StepCommand(4, "echo d"),
    )
    assert (recording.stdout_of(1), recording.stderr_of(1), recording.stdout_of(4)) == (
        b"a\n",
        b"b\n",
        b"d\n",
    )
    assert [recording.endings[n].end_reason for n in (1, 2, 3)] == [
        EndReason.DONE,
        EndReason.DONE,
        EndReason.SKIPPED,
    ]
    running = PipelineThread(
        session, StepCommand(1, SLEEPS.format(mark), ignore_failure=True), StepCommand(2, "echo no")
    )
    wait_until(lambda: len(processes_with(mark)) > 3, "the step's processes")
    session.cancel()
    assert running.wait().endings == {1: CommandResult(EndReason.TERMINATED, failed=True)}
    wait_until(lambda: not processes_with(mark), "their end")


def test_perl_makes_groups_where_setsid_lacks(open_session: SessionOpener, mark: str) -> None:
    session, _ = open_session(tools=(*BARE, "perl"))
    recording = run_pipeline(
        session,
        StepCommand(1, SLEEPS.format(mark), timeout=0.3, ignore_failure=True),
        StepCommand(2, "echo on"),
    )
    assert (recording.endings[1].end_reason, recording.stdout_of(2)) == (
        EndReason.TIMED_OUT,
        b"on\n",
    )
    wait_until(lambda: not processes_with(mark), "their end")
    assert run_pipeline(session, StepCommand(3, "echo further")).stdout_of(3) == b"further\n"


def test_timeout_takes_the_shell_along_where_there_are_no_groups(
    open_session: SessionOpener, mark: str
) -> None:
    session, _ = open_session(tools=BARE)
    clean = "trap 'sleep .2; echo cleaned; exit' TERM; echo a; "
    recording = run_pipeline(
        session, StepCommand(1, clean + SLEEPS.format(mark), timeout=0.3), StepCommand(2, ":")
    )
    assert recording.endings == {1: CommandResult(EndReason.TIMED_OUT, failed=True)}
    assert recording.stdout_of(1) == b"a\ncleaned\n"
    wait_until(lambda: not processes_with(mark), "their end")
    assert not session.is_alive
    with pytest.raises(SessionLostError, match="setsid"):
        run_pipeline(session, StepCommand(3, "echo no"))


def test_steps_behind_such_a_timeout_have_not_begun(open_session: SessionOpener, mark: str) -> None:
    session, _ = open_session(tools=BARE)
    text = f"trap '' TERM; sleep {mark}; sleep {mark}"
    recording = run_pipeline(
        session, StepCommand(1, text, timeout=0.3, ignore_failure=True), StepCommand(2, "echo no")
    )
    assert recording.order == [("started", 1), ("ended", 1)]
    assert not session.is_alive
    wait_until(lambda: not processes_with(mark), "its end")


def test_sleep_that_knows_whole_seconds_only(
    open_session: SessionOpener, tmp_path: Path, mark: str
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    sleep = tools / "sleep"
    sleep.write_text(
        "#!/bin/sh\ncase $1 in *[!0-9]*) echo invalid >&2; exit 1;; esac\nexec /usr/bin/sleep $1\n"
    )
    sleep.chmod(0o755)
    session, _ = open_session(PATH=f"{tools}:/usr/bin:/bin", lease=1.5, renew=0.5)
    clean = "i=0; while [ $i -lt 5000 ]; do i=$((i+1)); done; echo cleaned; exit"
    text = f"trap '{clean}' TERM; /usr/bin/sleep {mark} & wait"
    recording = run_pipeline(
        session, StepCommand(1, text, timeout=0.4, ignore_failure=True), StepCommand(2, "echo on")
    )
    assert (recording.endings[1].end_reason, recording.stdout_of(1)) == (
        EndReason.TIMED_OUT,
        b"cleaned\n",
    )
    assert (recording.stdout_of(2), recording.stderr_of(2)) == (b"on\n", b"")


def test_host_without_fd_folder_gets_texts_another_way(
    open_session: SessionOpener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        session_module,
        "bootstrap_script",
        lambda nonce, lease, **names: bootstrap_script(nonce, lease, **names, fds="/nonexistent"),
    )
    session, _ = open_session()
    text = "cat; readlink /proc/$$/fd/0; ls /proc/self/fd | sort -n | tr '\\n' ' '; echo $# $0\n\n"
    recording = run_pipeline(
        session,
        StepCommand(1, text),
        StepCommand(2, "cat; exit 3", stdin="é 'x'", ignore_failure=True),
        StepCommand(3, "(", ignore_failure=True),
        StepCommand(4, "false\necho no", shell="bash"),
    )
    assert recording.stdout_of(1) == b"/dev/null\n0 1 2 3 0 sh\n"
    assert (recording.stdout_of(2), recording.endings[2].exit_status) == ("é 'x'\n".encode(), 3)
    assert recording.endings[3].failed
    assert (recording.stdout_of(4), recording.endings[4].exit_status) == (b"", 1)


@pytest.mark.parametrize("shell", ["dash", "busybox"])
def test_bash_3_is_not_asked_to_read_a_text_from_a_pipe(open_session: SessionOpener) -> None:
    # it would read nothing and be content; no such bash is at hand, so others claim to be one
    session, _ = open_session(BASH_VERSION="3.2.57(1)-release")
    recording = run_pipeline(session, StepCommand(1, "nosuchcommand || echo a"))
    assert recording.stdout_of(1) == b"a\n"
    assert b"/dev/fd" not in recording.stderr_of(1)
    session, _ = open_session(BASH_VERSION="4.0.0(1)-release")
    assert b"/dev/fd" in run_pipeline(session, StepCommand(1, "nosuchcommand || echo a")).stderr_of(
        1
    )


def test_exported_variables_reach_the_steps_as_they_were(open_session: SessionOpener) -> None:
    session, _ = open_session(o_nonce="mine", t="1", n="2", G="3", LC_ALL="C")
    recording = run_pipeline(session, StepCommand(1, "env"))
    found = dict(line.split(b"=", 1) for line in recording.stdout_of(1).splitlines())
    assert (found[b"t"], found[b"n"], found[b"G"], found[b"LC_ALL"]) == (b"1", b"2", b"3", b"C")
    assert b"o_nonce" not in found


def test_bash_steps_read_no_rc_file_behind_sshd(open_session: SessionOpener, home: Path) -> None:
    """bash does where it takes itself for sshd's own shell."""
    (home / ".bashrc").write_text("echo noise; exit 4\n")
    session, _ = open_session(SSH_CLIENT="127.0.0.1 1 22", SHLVL="0")
    recording = run_pipeline(
        session, StepCommand(1, "echo a", shell="bash"), StepCommand(2, "bash -c 'echo b'")
    )
    assert (recording.stdout_of(1), recording.stdout_of(2)) == (b"a\n", b"b\n")


def _write_script(folder: Path, text: str) -> str:
    script = folder / "login"
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)
    return str(script)


def test_noise_before_the_shell_is_ready_is_step_0(
    open_session: SessionOpener, tmp_path: Path
) -> None:
    noisy = "echo Welcome; printf 'mail?' >&2; printf 'no newline \\377'; exec sh"
    session, _ = open_session(command=_write_script(tmp_path, noisy))
    recording = run_pipeline(session, StepCommand(1, "echo a"))
    assert recording.stdout_of(0) == b"Welcome\nno newline \xff"
    assert recording.stderr_of(0) == b"mail?"
    assert (recording.stdout_of(1), recording.stderr_of(1)) == (b"a\n", b"")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("echo 'This account is currently not available.'; exit 1", "not available. "),
        ("echo one; sleep .2; echo two; exit 1", "one / two"),
        ("exec cat", "mark R"),  # echoes what it is sent
        ("cat >/dev/null & read x; cat >/dev/null; echo ate it", "ate it"),
        ("exit 0", "sent nothing"),
    ],
    ids=["nologin", "pieces", "echo", "eater", "silent"],
)
def test_what_is_no_shell_is_said_clearly(
    open_session: SessionOpener, tmp_path: Path, text: str, message: str
) -> None:
    session, _ = open_session(command=_write_script(tmp_path, text), ready_timeout=1)
    with pytest.raises(ShellNotReadyError) as error:
        run_pipeline(session, StepCommand(1, "echo no"))
    assert isinstance(error.value, ConnectError)
    assert error.value.phase == "shell"
    assert error.value.exit_code is ExitCode.UNREACHABLE
    if message != "ate it":  # it eats until the session gives up
        assert message.strip() in str(error.value)
    assert error.value.hint
    with pytest.raises(SessionLostError):
        run_pipeline(session, StepCommand(1, "echo no"))


def test_rc_file_that_eats_one_line_is_not_ready(
    open_session: SessionOpener, tmp_path: Path
) -> None:
    eater = _write_script(tmp_path, "read -r line; exec sh")
    session, _ = open_session(command=eater, ready_timeout=1)
    ran = tmp_path / "ran"
    with pytest.raises(ShellNotReadyError):
        run_pipeline(session, StepCommand(1, f"touch {ran}"))
    assert not ran.exists()


def test_without_commands_a_run_waits_for_the_shell(open_session: SessionOpener) -> None:
    session, channel = open_session()
    assert run_pipeline(session).order == []
    assert len(channel.stdout.splitlines()) == 2
    assert session.round_trips == 1
    assert run_pipeline(session, StepCommand(1, "echo a")).stdout_of(1) == b"a\n"


def test_traced_shell_works(open_session: SessionOpener) -> None:
    session, _ = open_session(command="sh -x -v")
    recording = run_pipeline(session, StepCommand(1, "echo a; echo b >&2"))
    assert (recording.stdout_of(1), recording.stderr_of(1)) == (b"a\n", b"b\n")
