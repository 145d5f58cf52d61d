"""The inner loops of orch by themselves: CPU microseconds of one go, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

from orchestrator.model.command import Command
from orchestrator.remote_shell.decoder import Streams
from orchestrator.remote_shell.encoder import segment
from orchestrator.templating import shell
from tests.templating.support import HERE, Names

GOES = 2000
NONCE = "ab" * 16
LINE = "install -m 0644 {{ source }} {{ base }}/releases/{{ release }}/{{ '%03d' % index }} # it's"


def loops(repeat: int) -> Iterator[str]:
    """A table of them."""
    yield "| inner loop | CPU µs |"
    yield "|---|---|"
    for name, go in _LOOPS.items():
        seconds = [_timed(go) for _ in range(repeat)]
        yield f"| {name} | {1e6 * statistics.median(seconds) / GOES:.1f} |"


def _timed(go: Callable[[], None]) -> float:
    began = time.process_time()
    go()
    return time.process_time() - began


def _render() -> None:
    template = shell(LINE, HERE)
    for index in range(GOES):
        template.render(Names(source="a b", base="/srv/x", release="r1", index=index))


def _compile() -> None:
    for index in range(GOES // 10):
        shell(f"{LINE} {index}", HERE)


def _segment() -> None:
    commands = [Command(n, f"echo 'step {n}' \\\n  and more of it") for n in range(1, 13)]
    for _ in range(GOES // 12):
        segment(commands, {})


def _codec() -> None:
    streams = Streams(NONCE)
    said = f"{NONCE} R\n".encode()
    list(streams.feed(said, said))
    for step in range(1, GOES + 1):
        begin = f"{NONCE} B {step}\n".encode()
        end = f"{NONCE} E {step} done 0 0 1\n".encode()
        list(streams.feed(begin, b""))
        list(streams.feed(b"a line of output\n" * 3 + end, end))


_LOOPS = {
    "a command rendered": _render,
    "a tenth of one compiled": _compile,
    "a step written as shell text": _segment,
    "a step's output taken apart": _codec,
}
