"""Uploads of a step's payload to a private folder on the host.

A tree's large files of which the host has older versions are made there of these and of what
differs, by the rsync of both sides, and put beside the archive that has the other files. What the
rsync of the host has made is compared by its checksum, like any upload.
"""

from __future__ import annotations

import posixpath
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing

from orchestrator.errors import ConnectError, Diagnostic, OrchError
from orchestrator.executor.local_rsync import LocalRsync, find_rsync
from orchestrator.executor.transfer_meter import TransferMeter
from orchestrator.model.command import DeltaFile, UploadPayload
from orchestrator.model.shell_quoting import shell_quote
from orchestrator.model.text_encoding import decode_bytes
from orchestrator.remote_shell.channel_protocol import Channel
from orchestrator.remote_shell.module_protocol import with_functions
from orchestrator.remote_shell.transfer import (
    PIECE_BYTES,
    TransferError,
    TransferFailure,
    exchange,
    send,
    upload_stage_script,
)

_STALE_DIR_PATTERN = f"orch-{'[0-9a-f]' * 16}"
_MUCH_BYTES = 16 << 20
"""Size of a payload from which the script looks for room."""
_EMPTY_ARCHIVE_BYTES = 1024
"""Size of a tar archive without members."""
_MIN_RSYNC_SILENCE = 60.0
"""Seconds for which two rsyncs may have nothing to say while they read a file."""
_MAX_PATH_BYTES = 1 << 12

# An available size that df does not tell, or tells in another place, counts as enough.
_CHOOSE_ROOM = """\
o_has_room() {{
o_kib=$(df -Pk "$1" 2>/dev/null </dev/null |
{{ read -r o_x; read -r o_x o_x o_x o_kib o_x; echo "$o_kib"; }})
case $o_kib in ''|*[!0-9]*) ;; *) [ "$o_kib" -gt {kib} ];; esac
}}
o_has_room "$o_in" || {{ o_other=$o_in o_in=~; o_has_room ~; }} ||
{{ echo "there is no room for {mb} MB in $o_other, or in the home folder" >&2; exit 1; }}
"""
# a dropped connection appears as SIGPIPE, which would kill this shell without its traps
_REMOVE_IF_FAILED = (
    "trap '[ $? = 0 ] || rm -rf -- \"$PWD\"' EXIT; trap 'exit 129' HUP INT PIPE TERM\n"
)
# Reading large files takes a while, during which the host has to be heard of.
_VERIFY = """\
o_verify() {{
if [ -f "$1" ] && [ "$(digest "$1")" = "$2" ]; then
chmod -- "$3" "$1" && {{ [ -z "$4" ] || tree_time "$4" "$1"; }} || o_bad=1
else echo "rsync made another file of ${{1#delta/}}" >&2; o_bad=1
fi
}}
(while sleep 5 >/dev/null 2>&1; do echo .; done) &
o_bad=
{calls}
kill $! 2>/dev/null || :
[ -z "$o_bad" ]
"""


class DifferencesError(OrchError):
    """Files cannot be sent by what differs, and have to be sent whole."""


class PayloadUpload:
    """An upload of a step's payload.

    ``open_channel`` returns a channel and its idle timeout in seconds. ``is_cancelled`` returns
    True if the upload must stop. ``meter`` counts the bytes that are sent. Used by one thread.
    """

    def __init__(
        self,
        open_channel: Callable[[], tuple[Channel, float]],
        is_cancelled: Callable[[], bool],
        meter: TransferMeter,
    ) -> None:
        """Prepare the upload."""
        self._open_channel, self._is_cancelled, self._meter = open_channel, is_cancelled, meter

    def send_whole(self, payload: UploadPayload) -> str:
        """Upload the payload to a new private folder on the host; return the path of the file.

        The folder is in the home folder if the temporary folder is not writable. Raises
        TransferError and ConnectError.
        """
        self._meter.total = payload.size
        folder = self._send(upload_script(payload.size), payload)
        return folder.removesuffix("\n") + "/payload"

    def send_differences(self, rest: UploadPayload, files: Sequence[DeltaFile], basis: str) -> str:
        """Upload ``rest`` like ``send_whole``, and make ``files`` on the host of its older ones.

        ``basis`` is the path of the tree's folder on the host, or of the tree's only file. The
        files are below the folder `delta` beside the payload, the names of those in the archive's
        format in `delta.names`. Raises DifferencesError if that is not possible, TransferError and
        ConnectError.
        """
        try:
            folder = self._send_deltas(rest, files, basis)
        except TransferError as error:
            if error.failure in (TransferFailure.CUT, TransferFailure.STOPPED):
                raise
            raise _differences_error(error) from None
        except ConnectError:
            raise
        except OrchError as error:
            raise _differences_error(error) from None
        except OSError as error:
            raise _differences_error(OrchError(Diagnostic(str(error)))) from None
        if rest.size > _EMPTY_ARCHIVE_BYTES:
            self._send(_rest_script(folder, rest.size), rest)
        return f"{folder}/payload"

    def _send(self, script: str, payload: UploadPayload) -> str:
        channel, timeout = self._open_channel()
        pieces = self._meter.count_pieces(payload_chunks(payload))
        return send(channel, script, pieces, timeout=timeout, stopping=self._is_cancelled)

    def _send_deltas(self, rest: UploadPayload, files: Sequence[DeltaFile], basis: str) -> str:
        """Make the files on the host; return the path of the new folder there."""
        program = find_rsync()
        channel, timeout = self._open_channel()
        with closing(channel), closing(LocalRsync(program, files, channel.wake)) as rsync:
            answer = _DeltaAnswer(rsync.receive)
            exchange(
                channel,
                delta_script(files, basis, rsync.server_options(), rest_bytes=rest.size),
                self._counted(rsync.pieces()),
                answer.add,
                timeout=max(timeout, _MIN_RSYNC_SILENCE),
                stopping=self._is_cancelled,
            )
            rsync.check_end()
        return decode_bytes(answer.folder)

    def _counted(self, pieces: Iterable[bytes | None]) -> Iterator[bytes | None]:
        for piece in pieces:
            yield piece
            self._meter.count(len(piece or b""))


class _DeltaAnswer:
    """The output of a delta script: the folder in the first line, then what is for rsync."""

    def __init__(self, on_data: Callable[[bytes], object]) -> None:
        self.folder = b""
        self._on_data = on_data
        self._has_folder = False

    def add(self, data: bytes) -> None:
        """Handle the next bytes."""
        if not self._has_folder:
            line, newline, data = data.partition(b"\n")
            self.folder += line
            self._has_folder = bool(newline)
            if len(self.folder) > _MAX_PATH_BYTES:
                raise _path_error()
            if self._has_folder:
                _check_path(decode_bytes(self.folder))
        if data:
            self._on_data(data)


def upload_script(size: int) -> str:
    """Return a script that reads ``size`` bytes into a new folder and prints the folder's path.

    The folder is in the temporary folder or, if that is not writable or has no room for much data,
    in the home folder. The script removes it if it fails. If the connection drops between the
    upload and the step that uses it, the folder remains; an upload by the same user a day or more
    later removes it.
    """
    return f"{_new_folder_script(size)}{upload_stage_script('payload', size)}"


def delta_script(
    files: Sequence[DeltaFile], basis: str, options: Sequence[str], *, rest_bytes: int
) -> str:
    """Return a script that makes files with rsync of older ones, in a new folder like an upload's.

    It prints the folder's path; what follows is the output of rsync, for which its input is, too.
    ``options`` are those of the rsync. Without other files, ``rest_bytes`` is the size of an empty
    archive, and the script makes the archive. Raises OrchError for a path that cannot be ``basis``.
    """
    folder, target = basis, "delta/"
    if not files[0].name:
        folder, name = posixpath.split(basis)
        target = f"delta/{name}"
    _check_path(basis)
    if target in ("delta/.", "delta/.."):
        raise _path_error()
    words = ["rsync", *options, f"--copy-dest={folder}", ".", target]
    names = [
        f"t/{decode_bytes(file.name)}" for file in files if file.name and b"\n" not in file.name
    ]
    verify = "\n".join(
        f"o_verify {shell_quote(f'delta/{decode_bytes(file.name)}' if file.name else target)} "
        f"{file.digest} {file.mode:04o} '{file.mtime if file.mtime >= 0 else ''}'"
        for file in files
    )
    lines = [
        _new_folder_script(sum(file.size for file in files) + rest_bytes) + "mkdir delta",
        " ".join(map(shell_quote, words)),
        *(f"printf '%s\\n' {shell_quote(name)} >>delta.names" for name in names),
    ]
    if rest_bytes == _EMPTY_ARCHIVE_BYTES:
        lines.append(f"dd if=/dev/zero of=payload bs={rest_bytes} count=1 2>/dev/null")
    lines.append(_VERIFY.format(calls=verify))
    return with_functions("\n".join(lines))


def _new_folder_script(size: int) -> str:
    """Return a script that makes a private folder for ``size`` bytes, and prints its path."""
    name = f"orch-{secrets.token_hex(8)}"
    usual, other = f'"$o_in"/{name}', f"~/{name}"
    choice = _CHOOSE_ROOM.format(kib=size // 1024, mb=size // 1_000_000)
    return (
        f"find \"${{TMPDIR:-/tmp}}/.\" ~/. ! -name . -prune -type d -name '{_STALE_DIR_PATTERN}' "
        '-user "$(id -u)" -mtime +1 -exec rm -rf {} + </dev/null >/dev/null 2>&1 || :\n'
        "set -e; umask 077\no_in=${TMPDIR:-/tmp}\n"
        f"{choice if size > _MUCH_BYTES else ''}"
        f"mkdir -- {usual} && cd -- {usual} || {{ mkdir {other}; cd {other}; }}\n"
        f"{_REMOVE_IF_FAILED}pwd\n"
    )


def _rest_script(folder: str, size: int) -> str:
    """Return a script that reads the archive of the other files into a delta script's folder."""
    return (
        f"set -e; cd -- {shell_quote(folder)}\n{_REMOVE_IF_FAILED}"
        f"{upload_stage_script('payload', size)}"
    )


def payload_chunks(payload: UploadPayload) -> Iterator[bytes]:
    """Yield the payload's bytes in pieces."""
    if payload.read_chunks is not None:
        yield from payload.read_chunks()
    elif payload.path is None:
        for at in range(0, len(payload.data), PIECE_BYTES):
            yield payload.data[at : at + PIECE_BYTES]
    else:
        with payload.path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece


def _check_path(path: str) -> None:
    """Raise OrchError unless a path that a host has sent is absolute and can be one."""
    if not path.startswith("/") or "\0" in path or len(path) > _MAX_PATH_BYTES:
        raise _path_error()


def _path_error() -> OrchError:
    return OrchError(Diagnostic("unexpected reply from the host (expected an absolute path)"))


def _differences_error(error: OrchError) -> DifferencesError:
    message = f"large files are sent whole: {error.diagnostics[0].message}"
    return DifferencesError(Diagnostic(message))
