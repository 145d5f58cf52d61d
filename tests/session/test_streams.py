"""Taking apart what the shell says, however it comes in pieces."""

from __future__ import annotations

import itertools
import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.remote_shell.decoder import Garbled, Happening, Marker, Output, Streams

NONCE = "ab" * 8
PIECES = (b"", b"x\n", b"ab", b"abab" * 3, NONCE[:-1].encode(), b"\xff\0\r", b" E 1 done 0 0 1\n")

noise = st.lists(st.sampled_from(PIECES) | st.binary(max_size=9), max_size=4).map(b"".join)


def _said(marker: str) -> bytes:
    return f"{NONCE} {marker}\n".encode()


def _clean(data: bytes) -> bytes:
    """Output that does not happen to hold the nonce, also not with the marker behind it."""
    return re.sub(rb"(ab)+$", b"", data.replace(NONCE.encode(), b"?"))


@st.composite
def sessions(draw: st.DrawFn) -> tuple[list[tuple[int, bytes, bytes]], bytes, bytes]:
    """What each step wrote to either stream, and both streams as they come (step 0: between)."""
    parts = [(0, _clean(draw(noise)), _clean(draw(noise)))]
    stdout, stderr = parts[0][1] + _said("R"), parts[0][2] + _said("R")
    for step in range(1, draw(st.integers(1, 4)) + 1):
        out, err = _clean(draw(noise)), _clean(draw(noise))
        parts.append((step, out, err))
        ends = _said(f"E {step} done 0 0 1")
        stdout += _said(f"B {step}") + out + ends
        stderr += err + ends
    return parts, stdout + _said("S"), stderr


def _pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(sessions(), st.lists(st.integers(0, 500), max_size=30), st.data())
def test_pieces_and_their_order_change_nothing(
    session: tuple[list[tuple[int, bytes, bytes]], bytes, bytes],
    cuts: list[int],
    data: st.DataObject,
) -> None:
    parts, stdout, stderr = session
    waiting = {"stdout": _pieces(stdout, cuts), "stderr": _pieces(stderr, cuts)}
    streams, heard = Streams(NONCE), list[Happening]()
    while any(waiting.values()):
        name = data.draw(st.sampled_from([n for n, left in waiting.items() if left]))
        piece = {"stdout": b"", "stderr": b""} | {name: waiting[name].pop(0)}
        heard += streams.feed(piece["stdout"], piece["stderr"])
    heard += streams.rest()
    words = [(m.kind, *m.words[:1]) for m in heard if isinstance(m, Marker)]
    steps = [(kind, str(step)) for step, *_ in parts[1:] for kind in ("B", "E")]
    assert words == [("R",), *steps, ("S",)]
    for step, out, err in parts:
        for stream, wanted in (("stdout", out), ("stderr", err)):
            mine = [
                h for h in heard if isinstance(h, Output) and (h.step, h.stream) == (step, stream)
            ]
            assert b"".join(h.data for h in mine) == wanted
    for step, *_ in parts[1:]:
        begin = heard.index(Marker("B", (str(step),)))
        end = heard.index(Marker("E", (str(step), "done", "0", "0", "1")))
        places = [n for n, h in enumerate(heard) if isinstance(h, Output) and h.step == step]
        assert all(begin < place < end for place in places)


def test_output_is_not_held_back_until_its_line_ends() -> None:
    streams = Streams(NONCE)
    list(streams.feed(_said("R") + _said("B 1"), _said("R")))
    assert list(streams.feed(b"50 %", b"")) == [Output(1, "stdout", b"50 %")]
    assert list(streams.feed(b"", b"50 %")) == [Output(1, "stderr", b"50 %")]


def test_errors_wait_for_the_step_that_they_are_of() -> None:
    streams = Streams(NONCE)
    end = _said("E 1 done 0 0 1")
    list(streams.feed(_said("R") + _said("B 1") + end, _said("R") + end))
    assert list(streams.feed(b"", b"oops")) == []
    began = list(streams.feed(_said("B 2"), b""))
    assert began == [Marker("B", ("2",)), Output(2, "stderr", b"oops")]


@pytest.mark.parametrize(
    "said",
    ["X 1", "E 1 done", "B", "B x", "", "S S", "E 1 done 0 0 1 2", "B 1 " + "x" * 500],
)
def test_markers_that_are_none_are_refused(said: str) -> None:
    with pytest.raises(Garbled):
        list(Streams(NONCE).feed(_said(said) * 2, b""))


def test_marker_that_never_ends_is_refused() -> None:
    streams = Streams(NONCE)
    with pytest.raises(Garbled):
        for _ in range(1000):
            list(streams.feed(NONCE.encode() if _ == 0 else b" E " * 5, b""))


def test_ends_that_differ_are_refused() -> None:
    with pytest.raises(Garbled):
        list(Streams(NONCE).feed(_said("E 1 done 0 0 1"), _said("E 2 done 0 0 1")))


def test_end_on_one_stream_alone_does_not_fill_the_memory() -> None:
    streams = Streams(NONCE)
    list(streams.feed(_said("R"), _said("R")))
    list(streams.feed(_said("E 1 done 0 0 1"), b""))
    with pytest.raises(Garbled):
        for _ in range(1000):
            assert not list(streams.feed(b"x" * 100_000, b""))


def test_markers_behind_an_end_on_one_stream_do_not_fill_the_memory() -> None:
    streams = Streams(NONCE)
    list(streams.feed(_said("R"), _said("R")))
    list(streams.feed(_said("E 1 done 0 0 1"), b""))
    with pytest.raises(Garbled):
        for _ in range(100):
            list(streams.feed(_said("B 2") * 1000, b""))


@given(st.lists(st.tuples(st.binary(max_size=60), st.binary(max_size=60)), max_size=8), st.data())
def test_whatever_comes_is_taken_apart_or_refused(
    chunks: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    streams = Streams(NONCE)
    with suppress(Garbled):
        for pair in chunks:
            nonces = [data.draw(st.integers(0, len(piece))) for piece in pair]
            stdout, stderr = (
                piece[:at] + NONCE.encode() + piece[at:]
                for piece, at in zip(pair, nonces, strict=True)
            )
            list(streams.feed(stdout, stderr))
    list(streams.rest())
