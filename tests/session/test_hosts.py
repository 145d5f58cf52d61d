"""Hosts that lack something, and shells that say something before they are ready."""

from __future__ import annotations

from pathlib import Path

import pytest

import orchestrator.remote_shell.shell_session as session_module
from orchestrator.errors import ConnectError, Exit
from orchestrator.model.command import Command
from orchestrator.remote_shell import Ending, How, Lost, NotReady
from orchestrator.remote_shell.bootstrap import prelude
from tests.session.conftest import Opened
from tests.session.heard import Running, processes, run, until

BARE = ("cat", "touch", "ls", "sleep")
SLEEPS = "sleep {0} & sh -c 'sleep {0}; :' & (sleep {0}; :) & sleep {0}; :"


@pytest.mark.parametrize("tools", [BARE, (*BARE, "perl")], ids=["neither", "perl"])
def test_host_without_setsid_runs_steps(
    open_session: Opened, tools: tuple[str, ...], mark: str
) -> None:
    session, _ = open_session(tools=tools)
    heard = run(
        session,
        Command(1, "cat; echo b >&2", stdin="a", timeout=60),
        Command(2, "exit 3", ignore=True),
        Command(3, "echo c", guard="false"),
        Command(4, "echo d"),
    )
    assert (heard.out(1), heard.err(1), heard.out(4)) == (b"a\n", b"b\n", b"d\n")
    assert [heard.endings[n].how for n in (1, 2, 3)] == [How.DONE, How.DONE, How.SKIPPED]
    running = Running(session, Command(1, SLEEPS.format(mark), ignore=True), Command(2, "echo no"))
    until(lambda: len(processes(mark)) > 3, "the step's processes")
    session.cancel()
    assert running.over().endings == {1: Ending(How.ENDED, failed=True)}
    until(lambda: not processes(mark), "their end")


def test_perl_makes_groups_where_setsid_lacks(open_session: Opened, mark: str) -> None:
    session, _ = open_session(tools=(*BARE, "perl"))
    heard = run(
        session,
        Command(1, SLEEPS.format(mark), timeout=0.3, ignore=True),
        Command(2, "echo on"),
    )
    assert (heard.endings[1].how, heard.out(2)) == (How.TIMED_OUT, b"on\n")
    until(lambda: not processes(mark), "their end")
    assert run(session, Command(3, "echo further")).out(3) == b"further\n"


def test_timeout_takes_the_shell_along_where_there_are_no_groups(
    open_session: Opened, mark: str
) -> None:
    session, _ = open_session(tools=BARE)
    clean = "trap 'sleep .2; echo cleaned; exit' TERM; echo a; "
    heard = run(session, Command(1, clean + SLEEPS.format(mark), timeout=0.3), Command(2, ":"))
    assert heard.endings == {1: Ending(How.TIMED_OUT, failed=True)}
    assert heard.out(1) == b"a\ncleaned\n"
    until(lambda: not processes(mark), "their end")
    assert not session.alive
    with pytest.raises(Lost, match="setsid"):
        run(session, Command(3, "echo no"))


def test_steps_behind_such_a_timeout_have_not_begun(open_session: Opened, mark: str) -> None:
    session, _ = open_session(tools=BARE)
    text = f"trap '' TERM; sleep {mark}; sleep {mark}"
    heard = run(session, Command(1, text, timeout=0.3, ignore=True), Command(2, "echo no"))
    assert heard.order == [("started", 1), ("ended", 1)]
    assert not session.alive
    until(lambda: not processes(mark), "its end")


def test_sleep_that_knows_whole_seconds_only(
    open_session: Opened, tmp_path: Path, mark: str
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
    heard = run(session, Command(1, text, timeout=0.4, ignore=True), Command(2, "echo on"))
    assert (heard.endings[1].how, heard.out(1)) == (How.TIMED_OUT, b"cleaned\n")
    assert (heard.out(2), heard.err(2)) == (b"on\n", b"")


def test_host_without_fd_folder_gets_texts_another_way(
    open_session: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        session_module,
        "prelude",
        lambda nonce, lease, run: prelude(nonce, lease, run=run, fds="/nonexistent"),
    )
    session, _ = open_session()
    text = "cat; readlink /proc/$$/fd/0; ls /proc/self/fd | sort -n | tr '\\n' ' '; echo $# $0\n\n"
    heard = run(
        session,
        Command(1, text),
        Command(2, "cat; exit 3", stdin="é 'x'", ignore=True),
        Command(3, "(", ignore=True),
        Command(4, "false\necho no", shell="bash"),
    )
    assert heard.out(1) == b"/dev/null\n0 1 2 3 0 sh\n"
    assert (heard.out(2), heard.endings[2].exit_status) == ("é 'x'\n".encode(), 3)
    assert heard.endings[3].failed
    assert (heard.out(4), heard.endings[4].exit_status) == (b"", 1)


@pytest.mark.parametrize("shell", ["dash", "busybox"])
def test_bash_3_is_not_asked_to_read_a_text_from_a_pipe(open_session: Opened) -> None:
    # it would read nothing and be content; no such bash is at hand, so others claim to be one
    session, _ = open_session(BASH_VERSION="3.2.57(1)-release")
    heard = run(session, Command(1, "nosuchcommand || echo a"))
    assert heard.out(1) == b"a\n"
    assert b"/dev/fd" not in heard.err(1)
    session, _ = open_session(BASH_VERSION="4.0.0(1)-release")
    assert b"/dev/fd" in run(session, Command(1, "nosuchcommand || echo a")).err(1)


def test_exported_variables_reach_the_steps_as_they_were(open_session: Opened) -> None:
    session, _ = open_session(o_nonce="mine", t="1", n="2", G="3", LC_ALL="C")
    heard = run(session, Command(1, "env"))
    found = dict(line.split(b"=", 1) for line in heard.out(1).splitlines())
    assert (found[b"t"], found[b"n"], found[b"G"], found[b"LC_ALL"]) == (b"1", b"2", b"3", b"C")
    assert b"o_nonce" not in found


def test_bash_steps_read_no_rc_file_behind_sshd(open_session: Opened, home: Path) -> None:
    """bash does where it takes itself for sshd's own shell."""
    (home / ".bashrc").write_text("echo noise; exit 4\n")
    session, _ = open_session(SSH_CLIENT="127.0.0.1 1 22", SHLVL="0")
    heard = run(session, Command(1, "echo a", shell="bash"), Command(2, "bash -c 'echo b'"))
    assert (heard.out(1), heard.out(2)) == (b"a\n", b"b\n")


def _script(folder: Path, text: str) -> str:
    script = folder / "login"
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)
    return str(script)


def test_noise_before_the_shell_is_ready_is_step_0(open_session: Opened, tmp_path: Path) -> None:
    noisy = "echo Welcome; printf 'mail?' >&2; printf 'no newline \\377'; exec sh"
    session, _ = open_session(command=_script(tmp_path, noisy))
    heard = run(session, Command(1, "echo a"))
    assert heard.out(0) == b"Welcome\nno newline \xff"
    assert heard.err(0) == b"mail?"
    assert (heard.out(1), heard.err(1)) == (b"a\n", b"")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("echo 'This account is currently not available.'; exit 1", "not available. "),
        ("echo one; sleep .2; echo two; exit 1", "one / two"),
        ("exec cat", "mark R"),  # echoes what it is sent
        ("cat >/dev/null & read x; cat >/dev/null; echo ate it", "ate it"),
        ("exit 0", "said nothing"),
    ],
    ids=["nologin", "pieces", "echo", "eater", "silent"],
)
def test_what_is_no_shell_is_said_clearly(
    open_session: Opened, tmp_path: Path, text: str, told: str
) -> None:
    session, _ = open_session(command=_script(tmp_path, text), ready_timeout=1)
    with pytest.raises(NotReady) as error:
        run(session, Command(1, "echo no"))
    assert isinstance(error.value, ConnectError)
    assert error.value.phase == "shell"
    assert error.value.exit_code is Exit.UNREACHABLE
    if told != "ate it":  # it eats until the session gives up
        assert told.strip() in str(error.value)
    assert error.value.hint
    with pytest.raises(Lost):
        run(session, Command(1, "echo no"))


def test_rc_file_that_eats_one_line_is_not_ready(open_session: Opened, tmp_path: Path) -> None:
    eater = _script(tmp_path, "read -r line; exec sh")
    session, _ = open_session(command=eater, ready_timeout=1)
    ran = tmp_path / "ran"
    with pytest.raises(NotReady):
        run(session, Command(1, f"touch {ran}"))
    assert not ran.exists()


def test_without_commands_a_run_waits_for_the_shell(open_session: Opened) -> None:
    session, channel = open_session()
    assert run(session).order == []
    assert len(channel.stdout.splitlines()) == 2
    assert session.round_trips == 1
    assert run(session, Command(1, "echo a")).out(1) == b"a\n"


def test_traced_shell_works(open_session: Opened) -> None:
    session, _ = open_session(command="sh -x -v")
    heard = run(session, Command(1, "echo a; echo b >&2"))
    assert (heard.out(1), heard.err(1)) == (b"a\n", b"b\n")
