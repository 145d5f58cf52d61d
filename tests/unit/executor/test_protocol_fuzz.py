"""Invalid shell protocol data from a host: its task ends, but orch does not."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import SourcePosition
from orchestrator.executor.host_state import HostState, HostTaskState
from orchestrator.executor.step_recorder import StepRecorder
from orchestrator.model.command import DesiredState, StepCommand
from orchestrator.model.event import RunEvent, StepFinished, StepStarted
from orchestrator.model.host import ConnectionOptions, Host
from orchestrator.planner.plan import PlannedStep
from orchestrator.remote_shell import SessionLostError, ShellNotReadyError, ShellSession
from orchestrator.remote_shell.channel_protocol import PreparedShell, ReadChunk

NUMBERS = ("1", "2", "3", "0", "-1", "", "٣", "²", "1_0", "+1", "9" * 39, "9" * 5000, "1.5", "x")
HOWS = ("done", "guard", "unsure", "missing", "when", "timeout", "gone", "done ", "perhaps", "")
KINDS = (
    "have",
    "after",
    "old",
    "new",
    "old#",
    "new#",
    "probe",
    "fix",
    "+have",
    "+old",
    "+",
    "#",
    "",
)
TEXTS = (
    "k=v",
    "k",
    "=",
    "",
    "cut",
    "long",
    "binary",
    "new",
    "1",
    "9" * 5000,
    "%0",
    "%0A%25",
    "\udcff",
)

numbers, words = st.sampled_from(NUMBERS), st.text(max_size=4).filter(lambda t: "\n" not in t)
ends = st.tuples(
    st.just("E"), numbers, st.sampled_from(HOWS), numbers | st.just("-"), numbers, numbers
)
markers = st.one_of(
    st.just(("R",)),
    st.just(("S",)),
    st.just(("D",)),
    st.tuples(st.just("B"), numbers),
    ends,
    st.tuples(st.just("T"), numbers, st.sampled_from(KINDS), st.sampled_from(TEXTS) | words),
    st.lists(words, max_size=4).map(tuple),
)
reports = st.tuples(
    st.just("T"), st.just("2"), st.sampled_from(KINDS), st.sampled_from(TEXTS) | words
)
streams = st.sampled_from(("both", "stdout", "stderr"))
anything = st.tuples(markers | st.binary(max_size=8), streams)


def marker_text(marker: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    return marker, "both" if marker[0] in "RE" else "stdout"


@st.composite
def conversations(draw: st.DrawFn) -> list[tuple[object, str]]:
    """Return a host's output for three steps, the second one a module, with mutations."""
    status = draw(st.sampled_from(("0", "1", "77", "79")))
    output: list[tuple[object, str]] = [marker_text(("R",))]
    for number in "123":
        output.append(marker_text(("B", number)))
        output += map(marker_text, draw(st.lists(reports, max_size=5)) if number == "2" else ())
        failed = "0" if status in ("0", "79") else "1"
        output.append(marker_text(("E", number, "done", status, failed, "1")))
    output.append(marker_text(("S",)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(output)))
        match draw(st.sampled_from(("insert", "replace", "remove", "repeat"))):
            case "insert":
                output.insert(at, draw(anything))
            case "replace":
                output[at : at + 1] = [draw(anything)]
            case "remove":
                del output[at : at + 1]
            case "repeat":
                output[at:at] = output[at : at + 2]
    return output


class FedChannel:
    """A channel with this output, delivered in pieces and followed by the end."""

    def __init__(self, stdout: bytes, stderr: bytes, size: int) -> None:
        self._left = {"stdout": stdout, "stderr": stderr}
        self._size = size

    def write(self, data: bytes | memoryview) -> int:
        return len(data)

    def read(self, timeout: float | None) -> ReadChunk:
        pieces = {name: data[: self._size] for name, data in self._left.items()}
        self._left = {name: data[self._size :] for name, data in self._left.items()}
        return ReadChunk(**pieces, eof=not any(pieces.values()))

    def wake(self) -> None: ...

    def close_stdin(self) -> None: ...

    def close(self) -> None: ...

    def exit_status(self) -> int | None:
        return None

    def cause(self) -> str:
        return ""

    def prepared_shell(self) -> PreparedShell | None:
        return None


def make_steps() -> list[tuple[PlannedStep, StepCommand]]:
    created = []
    for number in (1, 2, 3):
        step = PlannedStep(number, f"step {number}", SourcePosition("t.yml", number, 1), "true")
        expected = DesiredState({"k": "v"}, b"text\n") if number == 2 else None
        created.append(
            (
                step,
                StepCommand(
                    number, "true", desired_state=expected, show_diff=True, changed_condition=None
                ),
            )
        )
    return created


@given(message=conversations(), size=st.sampled_from((1, 7, 40, 1 << 16)))
@settings(max_examples=100)
def test_a_session_and_its_recorder_take_it(message: list[tuple[object, str]], size: int) -> None:
    data = {"stdout": b"", "stderr": b""}
    channel = FedChannel(b"", b"", size)
    session = ShellSession(channel, ready_timeout=5)
    nonce = session._nonce
    for what, location in message:
        piece = what
        if isinstance(what, tuple):
            piece = " ".join((nonce, *what)).encode("utf-8", "surrogateescape") + b"\n"
        assert isinstance(piece, bytes)
        for stream in ("stdout", "stderr") if location == "both" else (location,):
            data[stream] += piece
    channel._left = data
    events: list[RunEvent] = []
    host = Host("a", ConnectionOptions("a"), (), (), SourcePosition("a"))
    recorder = StepRecorder(HostTaskState(HostState(host, None), "t"), events.append)
    for step, command in make_steps():
        recorder.queue(step, command)
    commands = [command for _, command in recorder.drain_queue()]
    try:
        session.run(commands, recorder)
    except SessionLostError as lost:
        recorder.note_lost(lost.reason)
    except ShellNotReadyError:
        assert not events or not any(isinstance(event, StepFinished) for event in events)
    started = [event.step for event in events if isinstance(event, StepStarted)]
    ended = [event.step for event in events if isinstance(event, StepFinished)]
    assert started == ended
    assert len(set(ended)) == len(ended)
