"""The local rsync, whose connection to the rsync on a host is a channel that orch has already.

rsync starts the program of its option ``-e`` in order to reach a host. Here this program only
connects rsync to two pipes; what connects the pipes to the host is up to the caller. rsync is
passed neutral names: the files are links in a private folder, and the host's paths are no business
of this rsync.

A host could make use of a fault in a program that reads its answers. So the local rsync must be one
without the known faults of this kind (CVE-2024-12084 and CVE-2024-12085, in versions before 3.4.0).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

from orchestrator.errors import Diagnostic, OrchError
from orchestrator.model.command import DeltaFile
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.sanitize import quote_output_end

SINGLE_FILE = b"file"
"""Name of a file whose tree has no other."""

_MIN_VERSION = (3, 4)
_VERSION = lazy_regex(rb"rsync +version v?([0-9]{1,4})\.([0-9]{1,4})")
_PIECE_BYTES = 1 << 16
_MAX_WAITING_PIECES = 16
_MAX_RECEIVED_BYTES = 256 << 20  # a file of 1 TB has 160 MB of checksums
_START_TIMEOUT = _EXIT_TIMEOUT = 10.0  # seconds

# The program that rsync starts needs stdin and stdout as they are. If orch is killed, rsync ends,
# and nobody else removes the folder.
_START = """\
exec 3<&0 4>&1 </dev/null >/dev/null
"$@"
status=$?
rm -rf -- "$0"
exit $status
"""
# It exits at once: rsync waits for it at the end, and neither of the other two would end before.
_CONNECT = """\
exec 5<&0
{ printf '%s\\n' "$*"; exec cat; } <&5 >&4 3<&- 4>&- 5<&- &
cat <&3 3<&- 4>&- 5<&- &
"""
# Files differ, and the newest is not the best; links are those to the files.
_OPTIONS = ("--recursive", "--copy-links", "--ignore-times", "--no-whole-file")


class LocalRsync:
    """A process of rsync that sends files. Its folder must be removed with ``close``.

    ``wake`` is called from another thread whenever there is a new piece to send.
    """

    def __init__(self, program: str, files: Sequence[DeltaFile], wake: Callable[[], None]) -> None:
        """Start the process. Raises OSError."""
        self._wake = wake
        self._pieces: Queue[bytes] = Queue(_MAX_WAITING_PIECES)
        self._unsent = b""
        self._received: Queue[bytes] = Queue()
        self._received_bytes = 0
        self._folder = Path(tempfile.mkdtemp(prefix="orch-rsync-"))
        try:
            source = _link_files(self._folder / "files", files)
            (self._folder / "connect").write_text(_CONNECT)
            self._errors = (self._folder / "errors").open("w+b")
            self._process = self._start(program, source)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self._threads = [Thread(target=each, daemon=True) for each in (self._read, self._write)]
        for thread in self._threads:
            thread.start()

    def _start(self, program: str, source: str) -> subprocess.Popen[bytes]:
        words = [program, *_OPTIONS, "-e", "sh connect", source, "host:target"]
        return subprocess.Popen(
            ["sh", "-c", _START, str(self._folder), *words],
            cwd=self._folder,
            # options of the user's own, in the environment or in ~/.popt, are not meant for this
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": str(self._folder),
                "LC_ALL": "C",
                "RSYNC_PROTECT_ARGS": "0",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # a Ctrl-C is not for it
        )

    def server_options(self) -> list[str]:
        """Return the options with which the rsync on the host must be started.

        Waits for the process. Raises OrchError if it does not tell.
        """
        while b"\n" not in self._unsent:
            try:
                piece = self._pieces.get(timeout=_START_TIMEOUT)
            except Empty:
                raise self._error("it does not start") from None
            if not piece:
                raise self._error("it ended at once")
            self._unsent += piece
        line, _, self._unsent = self._unsent.partition(b"\n")
        words = os.fsdecode(line).split()
        if words[:3] != ["host", "rsync", "--server"] or words[-2:] != [".", "target"]:
            raise self._error("it asks the host for something unknown")
        return words[2:-2]

    def pieces(self) -> Iterator[bytes | None]:
        """Yield what is to be sent to the host; None if there is nothing yet."""
        yield self._unsent
        while True:
            try:
                piece = self._pieces.get_nowait()
            except Empty:
                yield None
                continue
            if not piece:
                return
            yield piece

    def receive(self, data: bytes) -> None:
        """Pass on what the host sent. Raises OrchError if that is too much."""
        self._received_bytes += len(data)
        if self._received_bytes > _MAX_RECEIVED_BYTES:
            raise OrchError(Diagnostic(f"the host sent more than {_MAX_RECEIVED_BYTES >> 20} MiB"))
        if data:
            self._received.put(data)

    def check_end(self) -> None:
        """Wait for the end of the process. Raises OrchError if it failed."""
        try:
            status = self._process.wait(_EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise self._error("it did not end") from None
        if status:
            raise self._error(f"exit status {status}" if status > 0 else f"signal {-status}")

    def close(self) -> None:
        """End the process and remove its folder. Safe to call twice."""
        if self._process.returncode is None:  # so the process group is this one's
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._received.put(b"")
        for thread in self._threads:
            while thread.is_alive():
                with suppress(Empty):
                    self._pieces.get_nowait()
                thread.join(0.01)
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _read(self) -> None:
        """Read what rsync sends, until it ends."""
        assert self._process.stdout is not None
        while True:
            piece = os.read(self._process.stdout.fileno(), _PIECE_BYTES)
            self._pieces.put(piece)
            self._wake()
            if not piece:
                return

    def _write(self) -> None:
        """Write what the host sent, until there is no more of it."""
        assert self._process.stdin is not None
        with suppress(OSError):  # rsync has ended
            while piece := self._received.get():
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(self._process.stdin.fileno(), rest) :]

    def _error(self, why: str) -> OrchError:
        self._errors.seek(0)
        shown = quote_output_end(self._errors.read())
        message = f"rsync on this machine failed: {why}"
        return OrchError(Diagnostic(f"{message}: {shown}" if shown else message))


def find_rsync() -> str:
    """Return the path of rsync. Raises OrchError if it is missing or too old."""
    program = shutil.which("rsync")
    if program is None:
        raise OrchError(Diagnostic("this machine has no rsync"))
    try:
        run = subprocess.run(
            [program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except OSError as error:
        raise OrchError(Diagnostic(f"rsync on this machine cannot be run: {error}")) from None
    found = _VERSION.match(run.stdout)
    if not found or (int(found[1]), int(found[2])) < _MIN_VERSION:
        wanted = ".".join(map(str, _MIN_VERSION))
        raise OrchError(Diagnostic(f"rsync on this machine is older than {wanted}"))
    return program


def _link_files(folder: Path, files: Sequence[DeltaFile]) -> str:
    """Make links to the files under their names in the tree; return what rsync is to send."""
    folder.mkdir()
    if not files[0].name:
        (folder / os.fsdecode(SINGLE_FILE)).symlink_to(Path(files[0].path).absolute())
        return f"files/{os.fsdecode(SINGLE_FILE)}"
    for file in files:
        link = folder / os.fsdecode(file.name)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(file.path).absolute())
    return "files/"
