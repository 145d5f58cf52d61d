"""Texts with bytes that are not UTF-8, in every field of every event, through every sink."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.commands.event_dispatch import EventDispatcher
from orchestrator.errors import Diagnostic
from orchestrator.journal import RunJournal
from orchestrator.model.event import (
    ConnectFinished,
    ConnectStarted,
    HostFinished,
    RunEvent,
    RunFinished,
    RunStarted,
    StepFinished,
    StepOutput,
    StepStarted,
    TaskFinished,
    TaskStarted,
    Warned,
)
from orchestrator.model.secret_masking import SecretMasker
from orchestrator.model.step_result import (
    CapturedOutput,
    HostSummary,
    StateChange,
    Status,
    StepResult,
)
from orchestrator.model.text_encoding import (
    decode_bytes,
    encode_text,
    escape_bytes,
    repr_text,
    trim_partial_characters,
)
from orchestrator.output.console import TextConsole
from orchestrator.output.display_options import DisplayOptions
from orchestrator.output.error_text import problems_text
from orchestrator.output.sinks import choose_sinks
from tests.support.output_events import NOW

DATA = b"caf\xe9 \xc3\xa9 \xe6\x97\xa5 \xff\x80 secret\xff "
ODD = decode_bytes(DATA)
SHOWN = "caf\\xe9 é 日 \\xff\\x80"
TASK = decode_bytes(b"t\xff\x80")
RUN = "20261123140211-ab12"


def events(status: Status) -> Iterator[RunEvent]:
    ended = StepResult(
        status,
        1,
        stdout=CapturedOutput(DATA + b"\n"),
        stderr=CapturedOutput(DATA, DATA, 7),
        seconds=0.1,
        reason=ODD,
        changes=(StateChange(ODD, ODD, ODD), StateChange("k", None, f"{ODD}\n{ODD}")),
        diff=f"--- before\n+++ after\n-{ODD}\n",
    )
    row = HostSummary("a1", None, status, ODD, hint=ODD, stderr=ODD)
    yield RunStarted(NOW, RUN, "dev", (TASK,), ("a1",))
    yield ConnectStarted(NOW, "a1")
    yield ConnectFinished(NOW, "a1", 0.1, ODD, ODD)
    yield TaskStarted(NOW, None, TASK, ("a1",), 1)
    yield Warned(NOW, ODD)
    yield StepStarted(NOW, None, task=TASK, step=1, name=ODD, host="a1")
    for stream in ("stdout", "stderr"):
        yield StepOutput(NOW, None, task=TASK, step=1, host="a1", stream=stream, data=DATA[:8])
        yield StepOutput(
            NOW, None, task=TASK, step=1, host="a1", stream=stream, data=DATA[8:] + b"\n"
        )
    yield StepFinished(NOW, None, task=TASK, step=1, name=ODD, host="a1", outcome=ended)
    yield HostFinished(NOW, None, TASK, "a1", ended)
    yield TaskFinished(NOW, None, TASK, 1.0)
    yield RunFinished(NOW + 1, 1.0, 1, (row,))


def masks() -> SecretMasker:
    hidden = SecretMasker()
    hidden.add_secret("pw", "secret\udcff")
    return hidden


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("status", [Status.OK, Status.FAILED, Status.WOULD_CHANGE])
@pytest.mark.parametrize("json_", [False, True])
@pytest.mark.parametrize("terminal", [{"TERM": "dumb"}, {"TERM": "xterm"}])
def test_no_sink_fails_and_every_byte_can_be_seen(
    tmp_path: Path, encoding: str, status: Status, json_: bool, terminal: dict[str, str]
) -> None:
    out, err = io.BytesIO(), io.BytesIO()
    stdout, stderr = (io.TextIOWrapper(raw, encoding=encoding) for raw in (out, err))
    if terminal["TERM"] == "xterm":
        stderr.isatty = lambda: True  # type: ignore[method-assign]
    sink = choose_sinks(
        DisplayOptions(json=json_, verbose=2, diff=True),
        stdout=stdout,
        stderr=stderr,
        environ=terminal,
    )
    journal = RunJournal(tmp_path, {}, pytest.fail)
    emit = EventDispatcher((journal, sink), str, pytest.fail, masks())
    for event in events(status):
        emit(event)
    emit.close()
    text = out.getvalue().decode(encoding)
    if json_:
        message = [json.loads(line) for line in text.splitlines()]
        text = json.dumps(message, ensure_ascii=False)
        assert message[-1]["rows"][0]["reason"] == f"{SHOWN} ‹pw› "
        text.encode("utf-8")
    assert "\\xff\\x80" in text.replace("\\\\", "\\")
    assert "secret" not in text
    assert "secret" not in err.getvalue().decode(encoding)


def test_the_log_is_text_that_any_program_reads(tmp_path: Path) -> None:
    journal = RunJournal(tmp_path, {}, pytest.fail)
    for event in events(Status.FAILED):
        journal(event)
    journal.close()
    assert journal.folder is not None
    kept = json.loads((journal.folder / "run.json").read_text("ascii"))
    assert kept["rows"][0]["stderr"].startswith(SHOWN)
    lines = (journal.folder / "events.jsonl").read_text("ascii").splitlines()
    assert json.loads(lines[4])["text"].startswith(SHOWN)
    for data in (kept, *map(json.loads, lines)):
        json.dumps(data, ensure_ascii=False).encode("utf-8")
    assert b"caf\\xe9" in (journal.folder / "a1.log").read_bytes()


def test_errors_show_them_too() -> None:
    stream = io.BytesIO()
    out = TextConsole(io.TextIOWrapper(stream, encoding="ascii"))
    out.lines([problems_text([Diagnostic(ODD, None, ODD)], out)])
    assert stream.getvalue().decode().count("caf\\xe9 ? ? \\xff\\x80") == 2


@pytest.mark.parametrize("data", [b"", b"a", bytes(range(256)), b"\xed\xa0\x80", b"\xc3", DATA])
def test_text_has_the_bytes_that_it_was_made_of(data: bytes) -> None:
    assert encode_text(decode_bytes(data)) == data
    escape_bytes(decode_bytes(data)).encode("utf-8")


def test_a_lone_surrogate_that_is_no_byte_is_refused_and_can_be_shown() -> None:
    with pytest.raises(ValueError, match="cannot be encoded"):
        encode_text("\ud800")
    assert escape_bytes("\ud800\udcff") == "\\ud800\\xff"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("\udcff\udcfe'", '"\\xff\\xfe\'"'),
        ("\\\udcff", "'\\\\\\xff'"),
        ("\\udcff", "'\\\\udcff'"),
        (["\udc80", 1], "['\\x80', 1]"),
        ([10**5000], "a number with too many digits"),
    ],
)
def test_quoted_in_a_message(value: object, message: str) -> None:
    assert repr_text(value) == message


@pytest.mark.parametrize("char", ["é", "€", "😀"])
def test_a_character_cut_at_the_edge_of_what_is_kept_is_left_out(char: str) -> None:
    data = char.encode()
    for at in range(1, len(data)):
        assert trim_partial_characters(b"x" + data[:at], end=True) == b"x"
        assert trim_partial_characters(data[at:] + b"x", start=True) == b"x"
    assert trim_partial_characters(data, start=True, end=True) == data
    assert (
        CapturedOutput(b"x" + data[:1], data[1:] + b"y\n", 5).display_text
        == "x\n[… 5 bytes not kept …]\ny"
    )
