"""Helpers for tests of sessions: a listener, a recording channel, and processes."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator.model.command import StepCommand
from orchestrator.remote_shell import CommandResult, ShellSession
from orchestrator.remote_shell.channel_protocol import Channel, PreparedShell, ReadChunk

SHELLS = {"dash": "/usr/bin/dash", "bash": "/usr/bin/bash", "busybox": "/usr/bin/busybox"}
WAIT_TIMEOUT = 30.0  # timeout in seconds of every wait


class RecordingListener:
    """A listener that records everything."""

    def __init__(self) -> None:
        self.order: list[tuple[str, int]] = []
        self.endings: dict[int, CommandResult] = {}
        self.data: dict[tuple[int, str], bytes] = defaultdict(bytes)
        self.began = threading.Event()

    def started(self, step: int) -> None:
        self.order.append(("started", step))
        self.began.set()

    def output(self, step: int, stream: str, data: bytes) -> None:
        self.data[step, stream] += data

    def ended(self, step: int, ending: CommandResult) -> None:
        self.order.append(("ended", step))
        self.endings[step] = ending

    def stdout_of(self, step: int) -> bytes:
        return self.data[step, "stdout"]

    def stderr_of(self, step: int) -> bytes:
        return self.data[step, "stderr"]


def run_pipeline(session: ShellSession, *commands: StepCommand) -> RecordingListener:
    """Run one pipeline and return what the listener recorded."""
    recording = RecordingListener()
    session.run(commands, recording)
    return recording


class PipelineThread:
    """A pipeline that runs in its own thread."""

    def __init__(self, session: ShellSession, *commands: StepCommand) -> None:
        self.recording = RecordingListener()
        self.error: BaseException | None = None
        self._session, self._commands = session, commands
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._session.run(self._commands, self.recording)
        except Exception as error:
            self.error = error

    def wait(self) -> RecordingListener:
        """Wait for the end; re-raise the thread's exception."""
        self._thread.join(WAIT_TIMEOUT)
        assert not self._thread.is_alive(), "the segment does not end"
        if self.error:
            raise self.error
        return self.recording


class RecordingChannel:
    """A channel that records its data, at most ``cut`` bytes, then reports EOF."""

    def __init__(self, channel: Channel, cut: int | None = None) -> None:
        self._channel, self._cut = channel, cut
        self.written, self.stdout, self.stderr = b"", b"", b""
        self.is_cut = False
        self.keeps = True

    def write(self, data: bytes | memoryview) -> int:
        if self.is_cut:
            raise BrokenPipeError("cut")
        room = len(data) if self._cut is None else self._cut - len(self.written)
        count = self._channel.write(data[:room]) if room else 0
        self.written += bytes(data[:count])
        if self._cut is not None and len(self.written) == self._cut:
            self.is_cut = True
            self._channel.close_stdin()
        return count

    def read(self, timeout: float | None) -> ReadChunk:
        chunk = self._channel.read(timeout)
        if self.keeps:
            self.stdout += chunk.stdout
            self.stderr += chunk.stderr
        return chunk

    def wake(self) -> None:
        self._channel.wake()

    def close_stdin(self) -> None:
        self._channel.close_stdin()

    def close(self) -> None:
        self._channel.close()

    def exit_status(self) -> int | None:
        return self._channel.exit_status()

    def cause(self) -> str:
        return self._channel.cause()

    def prepared_shell(self) -> PreparedShell | None:
        return self._channel.prepared_shell()


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Return as soon as the condition is true; fail after a timeout."""
    deadline = time.monotonic() + WAIT_TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, (
            f"waited {WAIT_TIMEOUT:g} s for {what}, which did not come"
        )
        time.sleep(0.01)


def processes_with(mark: str) -> list[int]:
    """Return the living processes with ``mark`` in their arguments."""
    return [pid for pid, words in process_arguments() if mark.encode() in words]


def process_arguments() -> list[tuple[int, bytes]]:
    return _read_proc("cmdline")


def process_environments() -> list[tuple[int, bytes]]:
    return _read_proc("environ")


def child_processes(pid: int) -> list[tuple[int, bytes]]:
    """Return the living children of a process, with their arguments."""
    found = []
    for child, words in process_arguments():
        try:
            stat = Path(f"/proc/{child}/stat").read_bytes()
        except OSError:
            continue  # the process has ended
        if words and int(stat.rpartition(b")")[2].split()[1]) == pid:
            found.append((child, words))
    return found


def _read_proc(name: str) -> list[tuple[int, bytes]]:
    found = []
    for folder in Path("/proc").iterdir():  # no glob pattern: it fails if a process ends meanwhile
        if folder.name.isdigit():
            with suppress(OSError):  # the process has ended
                found.append((int(folder.name), (folder / name).read_bytes()))
    return found


def make_shell_folder(folder: Path, shell: str) -> Path:
    """Create a folder whose `sh` is the shell with this name."""
    path = Path(SHELLS[shell])
    assert path.exists(), f"these tests need {path}: install it"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sh").symlink_to(path)
    return folder


def make_tool_folder(folder: Path, shell: str, tools: Sequence[str]) -> Path:
    """Create a folder to be used as the whole PATH: `sh` and these tools only."""
    make_shell_folder(folder, shell)
    for tool in tools:
        path = next(p for p in (Path("/usr/bin") / tool, Path("/bin") / tool) if p.exists())
        (folder / tool).symlink_to(path)
    return folder
