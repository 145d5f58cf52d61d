"""Taking apart what the shell says, however it comes in pieces."""

from __future__ import annotations

import itertools
import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.remote_shell.decoder import (
    OutputChunk,
    ProtocolError,
    ProtocolEvent,
    ProtocolMarker,
    StreamDecoder,
)

NONCE = "ab" * 8
PIECES = (b"", b"x\n", b"ab", b"abab" * 3, NONCE[:-1].encode(), b"\xff\0\r", b" E 1 done 0 0 1\n")

noise = st.lists(st.sampled_from(PIECES) | st.binary(max_size=9), max_size=4).map(b"".join)


def _marker_bytes(marker: str) -> bytes:
    return f"{NONCE} {marker}\n".encode()


def _without_nonce(data: bytes) -> bytes:
    """Output that does not happen to hold the nonce, also not with the marker behind it."""
    return re.sub(rb"(ab)+$", b"", data.replace(NONCE.encode(), b"?"))


@st.composite
def drawn_sessions(draw: st.DrawFn) -> tuple[list[tuple[int, bytes, bytes]], bytes, bytes]:
    """Return the output of each step on both streams, and both streams (step 0: between)."""
    parts = [(0, _without_nonce(draw(noise)), _without_nonce(draw(noise)))]
    stdout, stderr = parts[0][1] + _marker_bytes("R"), parts[0][2] + _marker_bytes("R")
    for step in range(1, draw(st.integers(1, 4)) + 1):
        out, err = _without_nonce(draw(noise)), _without_nonce(draw(noise))
        parts.append((step, out, err))
        ends = _marker_bytes(f"E {step} done 0 0 1")
        stdout += _marker_bytes(f"B {step}") + out + ends
        stderr += err + ends
    return parts, stdout + _marker_bytes("S"), stderr


def _split_at(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(drawn_sessions(), st.lists(st.integers(0, 500), max_size=30), st.data())
def test_pieces_and_their_order_change_nothing(
    session: tuple[list[tuple[int, bytes, bytes]], bytes, bytes],
    cuts: list[int],
    data: st.DataObject,
) -> None:
    parts, stdout, stderr = session
    waiting = {"stdout": _split_at(stdout, cuts), "stderr": _split_at(stderr, cuts)}
    streams, recording = StreamDecoder(NONCE), list[ProtocolEvent]()
    while any(waiting.values()):
        name = data.draw(st.sampled_from([n for n, left in waiting.items() if left]))
        piece = {"stdout": b"", "stderr": b""} | {name: waiting[name].pop(0)}
        recording += streams.feed(piece["stdout"], piece["stderr"])
    recording += streams.rest()
    words = [(m.kind, *m.words[:1]) for m in recording if isinstance(m, ProtocolMarker)]
    steps = [(kind, str(step)) for step, *_ in parts[1:] for kind in ("B", "E")]
    assert words == [("R",), *steps, ("S",)]
    for step, out, err in parts:
        for stream, expected in (("stdout", out), ("stderr", err)):
            mine = [
                h
                for h in recording
                if isinstance(h, OutputChunk) and (h.step, h.stream) == (step, stream)
            ]
            assert b"".join(h.data for h in mine) == expected
    for step, *_ in parts[1:]:
        begin = recording.index(ProtocolMarker("B", (str(step),)))
        end = recording.index(ProtocolMarker("E", (str(step), "done", "0", "0", "1")))
        locations = [
            n for n, h in enumerate(recording) if isinstance(h, OutputChunk) and h.step == step
        ]
        assert all(begin < location < end for location in locations)


def test_output_is_not_held_back_until_its_line_ends() -> None:
    streams = StreamDecoder(NONCE)
    list(streams.feed(_marker_bytes("R") + _marker_bytes("B 1"), _marker_bytes("R")))
    assert list(streams.feed(b"50 %", b"")) == [OutputChunk(1, "stdout", b"50 %")]
    assert list(streams.feed(b"", b"50 %")) == [OutputChunk(1, "stderr", b"50 %")]


def test_errors_wait_for_the_step_that_they_are_of() -> None:
    streams = StreamDecoder(NONCE)
    end = _marker_bytes("E 1 done 0 0 1")
    list(streams.feed(_marker_bytes("R") + _marker_bytes("B 1") + end, _marker_bytes("R") + end))
    assert list(streams.feed(b"", b"oops")) == []
    began = list(streams.feed(_marker_bytes("B 2"), b""))
    assert began == [ProtocolMarker("B", ("2",)), OutputChunk(2, "stderr", b"oops")]


@pytest.mark.parametrize(
    "message",
    ["X 1", "E 1 done", "B", "B x", "", "S S", "E 1 done 0 0 1 2", "B 1 " + "x" * 500],
)
def test_markers_that_are_none_are_refused(message: str) -> None:
    with pytest.raises(ProtocolError):
        list(StreamDecoder(NONCE).feed(_marker_bytes(message) * 2, b""))


def test_marker_that_never_ends_is_refused() -> None:
    streams = StreamDecoder(NONCE)
    with pytest.raises(ProtocolError):
        for _ in range(1000):
            list(streams.feed(NONCE.encode() if _ == 0 else b" E " * 5, b""))


def test_ends_that_differ_are_refused() -> None:
    with pytest.raises(ProtocolError):
        list(
            StreamDecoder(NONCE).feed(
                _marker_bytes("E 1 done 0 0 1"), _marker_bytes("E 2 done 0 0 1")
            )
        )


def test_end_on_one_stream_alone_does_not_fill_the_memory() -> None:
    streams = StreamDecoder(NONCE)
    list(streams.feed(_marker_bytes("R"), _marker_bytes("R")))
    list(streams.feed(_marker_bytes("E 1 done 0 0 1"), b""))
    with pytest.raises(ProtocolError):
        for _ in range(1000):
            assert not list(streams.feed(b"x" * 100_000, b""))


def test_markers_behind_an_end_on_one_stream_do_not_fill_the_memory() -> None:
    streams = StreamDecoder(NONCE)
    list(streams.feed(_marker_bytes("R"), _marker_bytes("R")))
    list(streams.feed(_marker_bytes("E 1 done 0 0 1"), b""))
    with pytest.raises(ProtocolError):
        for _ in range(100):
            list(streams.feed(_marker_bytes("B 2") * 1000, b""))


@given(st.lists(st.tuples(st.binary(max_size=60), st.binary(max_size=60)), max_size=8), st.data())
def test_whatever_comes_is_taken_apart_or_refused(
    chunks: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    streams = StreamDecoder(NONCE)
    with suppress(ProtocolError):
        for pair in chunks:
            nonces = [data.draw(st.integers(0, len(piece))) for piece in pair]
            stdout, stderr = (
                piece[:at] + NONCE.encode() + piece[at:]
                for piece, at in zip(pair, nonces, strict=True)
            )
            list(streams.feed(stdout, stderr))
    list(streams.rest())
