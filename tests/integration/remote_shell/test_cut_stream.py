"""A stream that is cut, at every byte and on every side of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.model.command import StepCommand
from orchestrator.remote_shell import SessionLostError, ShellNotReadyError
from orchestrator.remote_shell.bootstrap import bootstrap_script
from orchestrator.remote_shell.encoder import encode_pipeline
from tests.integration.remote_shell.conftest import SessionOpener
from tests.support.session_recording import (
    PipelineThread,
    RecordingListener,
    make_shell_folder,
    processes_with,
    run_pipeline,
    wait_until,
)

NONCE = "0123456789abcdef" * 2


def _steps(home: Path, mark: str) -> list[StepCommand]:
    first = f"touch {home}/first; echo it\\'s '1'\nexec sleep {mark}\n"
    return [
        StepCommand(1, first, ignore_failure=True),
        StepCommand(2, f"touch {home}/second\necho 2"),
    ]


def test_segment_cut_at_any_byte_runs_nothing_of_it(
    shell: str, tmp_path: Path, home: Path, mark: str
) -> None:
    environment = {
        "PATH": f"{make_shell_folder(tmp_path / 'bin', shell)}:{os.environ['PATH']}",
        "HOME": str(home),
    }
    head, body = bootstrap_script(NONCE, 60), encode_pipeline(_steps(home, mark), {})
    assert body.count(b"\n") == 1
    cuts = [*range(0, len(head), 61), *(len(head) + n for n in range(len(body) + 1))]
    less, last = cuts[:-2], cuts[-2:]  # which run it: no others may be looked at meanwhile
    for batch in (*(less[first : first + 8] for first in range(0, len(less), 8)), last):
        shells = []
        for cut in batch:
            with (tmp_path / "input").open("wb") as file:
                file.write((head + body)[:cut])
            with (tmp_path / "input").open("rb") as file:
                process = subprocess.Popen(
                    ["sh"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    cwd=home,
                    env=environment,
                    start_new_session=True,
                )
                assert process.stdin
                process.stdin.write(file.read())
                process.stdin.close()
                process.stdin = None
            shells.append((cut, process))
        for cut, process in shells:
            output, _ = process.communicate(timeout=30)
            whole = cut >= len(head + body) - 1  # nothing but the newline may lack
            assert b" done " not in output
            assert b" B 2" not in output
            assert whole or b" B " not in output, f"cut at {cut - len(head)} of {len(body)}"
            assert whole or not (home / "first").exists()
    assert not (home / "second").exists()


@pytest.mark.parametrize("lacking", [2, 40, 100])
def test_session_over_a_cut_stream_is_lost(
    open_session: SessionOpener, home: Path, mark: str, lacking: int
) -> None:
    steps = _steps(home, mark)
    size = len(bootstrap_script(NONCE, 60) + encode_pipeline(steps, {}))
    session, _ = open_session(cut=size - lacking)
    recording = RecordingListener()
    with pytest.raises(SessionLostError) as lost:
        session.run(steps, recording)
    assert lost.value.step is None
    assert lost.value.shell_output  # the shell's own complaint
    assert recording.order == []
    assert not session.is_alive


def test_session_cut_right_behind_the_segment_is_lost_in_its_first_step(
    open_session: SessionOpener, home: Path, mark: str
) -> None:
    steps = _steps(home, mark)
    session, _ = open_session(cut=len(bootstrap_script(NONCE, 60) + encode_pipeline(steps, {})))
    recording = RecordingListener()
    with pytest.raises(SessionLostError):
        session.run(steps, recording)
    assert not recording.endings
    assert not (home / "second").exists()


def test_beginning_that_something_ate_runs_nothing(shell: str, tmp_path: Path, home: Path) -> None:
    # an rc file that reads its input; what it leaves begins anywhere, also inside a text
    environment = {
        "PATH": f"{make_shell_folder(tmp_path / 'bin', shell)}:{os.environ['PATH']}",
        "HOME": str(home),
    }
    text = f"touch {home}/ran\n" * 8 + f"echo 'it'\\''s\n'; touch {home}/ran"
    steps = [StepCommand(n, text, guard=text, stdin=text) for n in (1, 2)]
    head, body = bootstrap_script(NONCE, 60), encode_pipeline(steps, {})
    # a whole `segment` without all of the prelude: as far as anything is left of the nonce's line
    eaten = [*range(12, len(head), 29), *range(len(head), len(head + body), 5)]
    for first in range(0, len(eaten), 8):
        shells = []
        for start in eaten[first : first + 8]:
            process = subprocess.Popen(
                ["sh"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=home,
                env=environment,
                start_new_session=True,
            )
            assert process.stdin
            process.stdin.write((head + body)[start:])
            process.stdin.close()
            shells.append((start, process))
        for start, process in shells:
            process.wait(30)
            assert not (home / "ran").exists(), f"began at {start - len(head)}"


def test_dead_client_ends_its_steps(shell: str, tmp_path: Path, mark: str) -> None:
    path = f"{make_shell_folder(tmp_path / 'bin', shell)}:{os.environ['PATH']}"
    client = subprocess.Popen(
        [sys.executable, "-m", "tests.support.killed_client", mark],
        env={"PATH": path, "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
    )
    assert client.stdout
    shell_pid = int(client.stdout.readline())
    wait_until(lambda: processes_with(mark), "the step")
    client.send_signal(signal.SIGKILL)
    client.wait()
    client.stdout.close()
    wait_until(lambda: not processes_with(mark), "the step's end")
    wait_until(lambda: not _is_alive(shell_pid), "the shell's end")
    assert not (tmp_path / "second").exists()


def test_lease_that_is_not_renewed_ends_everything(open_session: SessionOpener, mark: str) -> None:
    session, _ = open_session(lease=0.4, renew=1000)
    recording = RecordingListener()
    with pytest.raises(SessionLostError) as lost:
        session.run(
            [StepCommand(1, f"sleep {mark}", ignore_failure=True), StepCommand(2, "echo no")],
            recording,
        )
    assert lost.value.step == 1
    assert recording.order == [("started", 1)]
    wait_until(lambda: not processes_with(mark), "their end")


def test_lease_that_is_renewed_lasts(open_session: SessionOpener) -> None:
    session, channel = open_session(lease=0.5, renew=0.1)
    text = "for i in 1 2 3 4 5 6 7 8; do sleep .2; done; echo done"
    recording = run_pipeline(session, StepCommand(1, text), StepCommand(2, text))
    assert (recording.stdout_of(1), recording.stdout_of(2)) == (b"done\n", b"done\n")
    beats = len(channel.written) - len(channel.written.rstrip(b"\n")) - 1
    assert beats > 5
    assert run_pipeline(session, StepCommand(3, "echo on")).stdout_of(3) == b"on\n"


def test_nothing_but_the_segment_goes_out_at_first(open_session: SessionOpener) -> None:
    session, channel = open_session()
    run_pipeline(session, StepCommand(1, "echo a"))
    size = len(channel.written)
    commands = [StepCommand(2, "echo b"), StepCommand(3, "echo c")]
    run_pipeline(session, *commands)
    assert channel.written[size:] == encode_pipeline(commands, {})


def test_cut_while_a_big_segment_is_on_its_way_runs_nothing(
    open_session: SessionOpener, home: Path
) -> None:
    session, channel = open_session()
    text = f"touch {home}/ran\n" + ": line\n" * 300_000
    running = PipelineThread(session, StepCommand(1, text))
    wait_until(lambda: len(channel.written) > 100_000, "half of the segment")
    session.cancel()
    recording = running.wait()
    if not recording.order:  # else all of it had arrived before
        assert not (home / "ran").exists()


def test_dead_shell_before_its_first_word_is_not_ready(open_session: SessionOpener) -> None:
    session, _ = open_session(cut=100)
    with pytest.raises(ShellNotReadyError):
        run_pipeline(session, StepCommand(1, "echo no"))


def _is_alive(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False
