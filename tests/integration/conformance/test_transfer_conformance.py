"""Bytes to and from a host: every transport with every shell."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.remote_shell.channel_protocol import Connection
from orchestrator.remote_shell.transfer import (
    PIECE_BYTES,
    InputUse,
    TransferError,
    TransferFailure,
    exchange,
    receive,
    send,
    transfer_command,
    upload_stage_script,
)
from tests.support.session_recording import WAIT_TIMEOUT, RecordingChannel

SOME = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
# what a shell might take for commands, or not survive
PIECES = st.one_of(
    st.binary(max_size=300),
    st.sampled_from([b"", b"exit 0\n", b"touch ran\n", b"\0", b"'", b"\n" * 9000, b"#" * 70_000]),
)
TEXTS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=60)


def never_stop() -> bool:
    return False


def send_pieces(connection: Connection, script: str, *pieces: bytes) -> str:
    return send(connection.open(), script, pieces, timeout=WAIT_TIMEOUT, stopping=never_stop)


def fetch_output(connection: Connection, script: str) -> bytes:
    got: list[bytes] = []
    receive(connection.open(), script, got.append, timeout=WAIT_TIMEOUT, stopping=never_stop)
    return b"".join(got)


def failed_transfer(connection: Connection, script: str, *pieces: bytes) -> TransferError:
    with pytest.raises(TransferError) as caught:
        send_pieces(connection, script, *pieces)
    return caught.value


def split_data(data: bytes) -> Iterator[bytes]:
    return (data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES))


@SOME
@given(pieces=st.lists(PIECES, max_size=5))
def test_any_bytes_arrive_as_they_are_and_come_back(
    connection: Connection, tmp_path: Path, pieces: list[bytes]
) -> None:
    file, data = tmp_path / "file", b"".join(pieces)
    assert send_pieces(connection, f"exec cat >{file}", *pieces) == ""
    assert file.read_bytes() == data
    assert fetch_output(connection, f"exec cat {file}") == data
    assert not list(tmp_path.rglob("ran"))


def test_data_may_depend_on_what_the_script_has_written(connection: Connection) -> None:
    received = bytearray()

    def data() -> Iterator[bytes | None]:
        yield b"one\n"
        while not received.endswith(b"got one\n"):
            yield None
        yield b"two\nthree\n"

    script = "for i in 1 2; do read -r line; echo got $line; done"
    exchange(
        connection.open(),
        script,
        data(),
        received.extend,
        timeout=WAIT_TIMEOUT,
        stopping=never_stop,
    )
    assert received == b"got one\ngot two\n"


@pytest.mark.parametrize("size", [0, 1, 1_000_000])
def test_staged_file_is_whole_and_nobody_else_s(
    connection: Connection, tmp_path: Path, size: int
) -> None:
    data, file = os.urandom(size), tmp_path / "it's a file"
    send_pieces(connection, upload_stage_script(str(file), size), *split_data(data))
    assert file.read_bytes() == data
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("off", [-1, 1])
def test_staged_file_of_another_size_is_none(
    connection: Connection, tmp_path: Path, off: int
) -> None:
    file = tmp_path / "file"
    error = failed_transfer(
        connection, upload_stage_script(str(file), 100_000 + off), bytes(100_000)
    )
    assert error.failure is TransferFailure.EXIT
    assert f"received 100000 bytes of {100_000 + off}" in str(error)
    assert not file.exists()


@pytest.mark.parametrize("sent", [0, 1, 70_000, 99_999])
def test_cut_is_never_taken_for_the_end(connection: Connection, tmp_path: Path, sent: int) -> None:
    file = tmp_path / "file"
    for script, how in (
        (f"exec cat >{file}", TransferFailure.CUT),  # as far as the host knows, all is well
        (upload_stage_script(str(file), 100_000), TransferFailure.EXIT),
    ):
        channel = RecordingChannel(
            connection.open(),
            len(transfer_command("n" * 32, script, input_use=InputUse.ALL)) + sent,
        )
        with pytest.raises(TransferError) as caught:
            send(
                channel,
                script,
                split_data(bytes(100_000)),
                timeout=WAIT_TIMEOUT,
                stopping=never_stop,
            )
        assert caught.value.failure is how
        if how is TransferFailure.CUT:
            assert file.stat().st_size == sent
    assert not file.exists()


def test_connection_s_end_in_the_middle_is_a_cut(connection: Connection, tmp_path: Path) -> None:
    def data() -> Iterator[bytes]:
        yield bytes(100_000)
        connection.close()
        yield bytes(100_000)

    channel = connection.open()
    with pytest.raises(TransferError) as caught:
        send(channel, f"cat >{tmp_path}/file", data(), timeout=WAIT_TIMEOUT, stopping=never_stop)
    assert caught.value.failure is TransferFailure.CUT


def test_cut_output_is_no_end_either(connection: Connection) -> None:
    def take(_: bytes) -> None:
        connection.close()

    with pytest.raises(TransferError):
        receive(
            connection.open(),
            "echo x; sleep 1; echo y",
            take,
            timeout=WAIT_TIMEOUT,
            stopping=never_stop,
        )


@SOME
@given(text=TEXTS)
def test_script_may_hold_any_text(connection: Connection, text: str) -> None:
    word = "'" + text.replace("'", "'\\''") + "'"
    assert fetch_output(connection, f"printf %s {word}") == text.encode()


def test_script_is_seen_in_no_process_list(connection: Connection) -> None:
    output = fetch_output(connection, "cat /proc/[0-9]*/cmdline; : not in 's33n'")
    assert output
    assert b"s33n" not in output


def test_long_script(connection: Connection) -> None:
    script = "".join(f"x={n}\n" for n in range(40_000))
    assert send_pieces(connection, script + "cat; echo $x", b"data ") == "data 39999\n"


def test_failure_tells_status_and_stderr_and_stops_the_data(connection: Connection) -> None:
    error = failed_transfer(connection, "echo no room >&2; exit 7", *[bytes(PIECE_BYTES)] * 160)
    assert (error.failure, error.exit_status) == (TransferFailure.EXIT, 7)
    assert "no room" in str(error)


@pytest.mark.parametrize("script", [":", "exit 0", "head -n 1 >/dev/null", "exec true"])
@pytest.mark.parametrize("size", [1, 300_000])
def test_data_that_is_not_read_is_never_run_and_is_a_failure(
    connection: Connection, tmp_path: Path, script: str, size: int
) -> None:
    ran = tmp_path / "ran"
    error = failed_transfer(
        connection, script, b"a\n", bytes(size), f"\ntouch {ran}\n".encode() * 9000
    )
    assert error.failure is TransferFailure.EXIT
    assert "not read" in str(error)
    assert not ran.exists()


@pytest.mark.parametrize(
    "script",
    [
        "return 3",
        ")",
        "'",
        "if",
        "set -n",
        "exec </dev/null",
        "exec no-such-command",
        "kill -9 $$",
        "trap '' EXIT; exit 3",
        "exit 3; }; :",
    ],
)
def test_no_script_makes_the_shell_run_the_data(
    connection: Connection, tmp_path: Path, script: str
) -> None:
    ran = tmp_path / "ran"
    failed_transfer(connection, script, f"\ntouch {ran}\n".encode() * 10_000)
    assert not ran.exists()


def test_output_never_keeps_the_data_from_going_out(connection: Connection) -> None:
    flood = "yes err | head -c 3000000 >&2; yes out | head -c 3000000; cat | wc -c"
    assert len(send_pieces(connection, f"{flood} >&2", *[bytes(PIECE_BYTES)] * 100)) == 1 << 16
    assert send_pieces(
        connection, "tee /dev/stderr | wc -c", *[bytes(PIECE_BYTES)] * 100
    ).split() == ["6553600"]


def test_receiving_nothing(connection: Connection) -> None:
    assert fetch_output(connection, ":") == b""
    assert fetch_output(connection, "cat") == b"", "it has no stdin"


def test_failing_after_output_is_a_failure(connection: Connection) -> None:
    got: list[bytes] = []
    with pytest.raises(TransferError) as caught:
        receive(
            connection.open(),
            "echo x; exit 4",
            got.append,
            timeout=WAIT_TIMEOUT,
            stopping=never_stop,
        )
    assert caught.value.exit_status == 4
    assert b"".join(got) == b"x\n"


def test_it_runs_at_home(connection: Connection) -> None:
    assert (
        send_pieces(connection, '[ "$(pwd -P)" = "$(cd && pwd -P)" ] && echo home; cat') == "home\n"
    )
