"""Transfers: what does not hang on the shell or the transport, and hosts that are odd."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.remote_shell.transfer import (
    PIECE_BYTES,
    InputUse,
    TransferError,
    TransferFailure,
    receive,
    send,
    transfer_command,
    upload_stage_script,
)
from orchestrator.transports.local import LocalConnection
from tests.support.session_recording import SHELLS, WAIT_TIMEOUT, RecordingChannel

NONCE = "0123456789abcdef" * 2


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Callable[..., RecordingChannel]]:
    """Return a function that opens channels; ``command`` runs instead of `sh`."""
    opened: list[LocalConnection] = []

    def open_(command: str = "sh") -> RecordingChannel:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        opened.append(LocalConnection(command, environment))
        return RecordingChannel(opened[-1].open())

    yield open_
    for one in opened:
        one.close()


def never_stop() -> bool:
    return False


HostOpener = Callable[..., RecordingChannel]


def test_not_a_byte_goes_out_before_the_shell_is_ready(host: HostOpener, tmp_path: Path) -> None:
    channel = host("sh -c 'sleep .3; exec sh'")
    asked: list[bytes] = []

    def data() -> Iterator[bytes]:
        asked.append(channel.stdout)
        yield b"data"

    send(channel, f"exec cat >{tmp_path}/file", data(), timeout=WAIT_TIMEOUT, stopping=never_stop)
    assert len(asked[0].strip()) == 32, "the nonce was back"
    assert channel.written.endswith(b"\ndata")
    assert channel.written.count(b"\n") == 1


def test_noise_before_the_shell_is_ready_is_neither_data_nor_output(
    host: HostOpener, tmp_path: Path
) -> None:
    noisy = "sh -c 'yes Welcome | head -c 100000; printf half; echo oh >&2; exec sh'"
    file = tmp_path / "file"
    output = send(
        host(noisy), f"cat >{file}; echo ok", [b"x"], timeout=WAIT_TIMEOUT, stopping=never_stop
    )
    assert (output, file.read_bytes()) == ("ok\n", b"x")
    got: list[bytes] = []
    receive(host(noisy), f"cat {file}", got.append, timeout=WAIT_TIMEOUT, stopping=never_stop)
    assert b"".join(got) == b"x"


@pytest.mark.parametrize("path", SHELLS.values(), ids=SHELLS)
def test_line_whose_beginning_something_ate_is_no_line(path: str, tmp_path: Path) -> None:
    (tmp_path / "sh").symlink_to(path)
    line = transfer_command(NONCE, f"touch {tmp_path}/ran; echo 'it' \n", input_use=InputUse.NONE)
    for eaten in range(1, len(line), 3):
        output = subprocess.run(
            [tmp_path / "sh"], check=False, input=line[eaten:], capture_output=True, cwd=tmp_path
        )
        assert NONCE.encode() not in output.stdout, f"{eaten} bytes were eaten"
    assert not (tmp_path / "ran").exists()


def test_rc_file_that_reads_its_input_is_told(host: HostOpener, tmp_path: Path) -> None:
    with pytest.raises(TransferError) as caught:
        eats = "sh -c 'read -r line; exec sh'"
        send(
            host(eats),
            "cat",
            [f"touch {tmp_path}/ran\n".encode()],
            timeout=0.5,
            stopping=never_stop,
        )
    assert caught.value.failure is TransferFailure.NOT_READY
    assert not (tmp_path / "ran").exists()


def test_host_that_echoes_is_not_taken_for_one_that_is_ready(host: HostOpener) -> None:
    with pytest.raises(TransferError) as caught:
        send(host("cat"), "cat", [b"secret"], timeout=0.3, stopping=never_stop)
    assert caught.value.failure is TransferFailure.NOT_READY


def test_shell_that_ends_at_once_says_why(host: HostOpener) -> None:
    with pytest.raises(TransferError) as caught:
        send(
            host("sh -c 'echo closed >&2; exit 1'"),
            "cat",
            [],
            timeout=WAIT_TIMEOUT,
            stopping=never_stop,
        )
    assert caught.value.failure is TransferFailure.NOT_READY
    assert "closed" in str(caught.value)


def test_script_that_moves_nothing_runs_into_the_timeout(host: HostOpener) -> None:
    with pytest.raises(TransferError) as caught:
        send(host(), "cat >/dev/null <&0 & sleep 1", [b"x"], timeout=0.3, stopping=never_stop)
    assert caught.value.failure is TransferFailure.IDLE


def test_timeout_is_for_silence_and_not_for_all_of_it(host: HostOpener) -> None:
    script = "for i in 1 2 3 4 5 6; do sleep .5; echo $i; done; cat"
    assert send(host(), script, [], timeout=2, stopping=never_stop).startswith("1\n2\n")


def test_slow_source_is_not_the_host_s_silence(host: HostOpener) -> None:
    with closing(LocalConnection()) as local:
        quiet = local.open()

        def slow() -> Iterator[bytes]:
            yield b"ab"
            quiet.read(0.7)

        assert (
            send(host(), "n=$(wc -c); sleep .4; echo $n", slow(), timeout=0.6, stopping=never_stop)
            == "2\n"
        )


def test_stop_ends_it(host: HostOpener, tmp_path: Path) -> None:
    channel = host()
    stop: list[bool] = []

    def endless() -> Iterator[bytes]:
        for count in range(1_000_000):
            if count == 20:
                stop.append(True)
            yield bytes(PIECE_BYTES)

    with pytest.raises(TransferError) as caught:
        send(
            channel, "cat >/dev/null", endless(), timeout=WAIT_TIMEOUT, stopping=lambda: bool(stop)
        )
    assert caught.value.failure is TransferFailure.STOPPED
    assert len(channel.written) < 30 * PIECE_BYTES


def test_stop_before_it_begins_lets_nothing_begin(host: HostOpener, tmp_path: Path) -> None:
    with pytest.raises(TransferError) as caught:
        send(host(), f"touch {tmp_path}/ran", [], timeout=WAIT_TIMEOUT, stopping=lambda: True)
    assert caught.value.failure is TransferFailure.STOPPED
    assert not (tmp_path / "ran").exists()


def test_script_with_a_nul_is_refused(host: HostOpener) -> None:
    with pytest.raises(ValueError, match="NUL"):
        send(host(), "echo \0", [], timeout=WAIT_TIMEOUT, stopping=never_stop)


def test_twenty_megabytes_each_way_in_little_memory(tmp_path: Path) -> None:
    size, piece = 20_000_000, os.urandom(PIECE_BYTES)
    pieces = [piece[: min(PIECE_BYTES, size - at)] for at in range(0, size, PIECE_BYTES)]
    sent, got = hashlib.sha256(b"".join(pieces)), hashlib.sha256()
    script = upload_stage_script(f"{tmp_path}/file", size)
    with closing(LocalConnection()) as local:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        send(local.open(), script, iter(pieces), timeout=WAIT_TIMEOUT, stopping=never_stop)
        take = got.update
        receive(
            local.open(), f"cat {tmp_path}/file", take, timeout=WAIT_TIMEOUT, stopping=never_stop
        )
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert got.digest() == sent.digest()
    assert after - before < 8_000  # kilobytes
