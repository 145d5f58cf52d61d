"""Measures the inner loops of orch separately: CPU microseconds per iteration, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

from orchestrator.model.command import StepCommand
from orchestrator.remote_shell.decoder import StreamDecoder
from orchestrator.remote_shell.encoder import encode_pipeline
from orchestrator.templating import compile_shell
from tests.support.template_scope import HERE, PlainScope

GOES = 2000
NONCE = "ab" * 16
LINE = "install -m 0644 {{ source }} {{ base }}/releases/{{ release }}/{{ '%03d' % index }} # it's"


def measure_loops(repeat: int) -> Iterator[str]:
    """Return a table of the loops."""
    yield "| inner loop | CPU µs |"
    yield "|---|---|"
    for name, go in _LOOPS.items():
        seconds = [_microseconds(go) for _ in range(repeat)]
        yield f"| {name} | {1e6 * statistics.median(seconds) / GOES:.1f} |"


def _microseconds(loop: Callable[[], None]) -> float:
    began = time.process_time()
    loop()
    return time.process_time() - began


def _render_loop() -> None:
    template = compile_shell(LINE, HERE)
    for index in range(GOES):
        template.render(PlainScope(source="a b", base="/srv/x", release="r1", index=index))


def _compile_loop() -> None:
    for index in range(GOES // 10):
        compile_shell(f"{LINE} {index}", HERE)


def _encode_loop() -> None:
    commands = [StepCommand(n, f"echo 'step {n}' \\\n  and more of it") for n in range(1, 13)]
    for _ in range(GOES // 12):
        encode_pipeline(commands, {})


def _decode_loop() -> None:
    streams = StreamDecoder(NONCE)
    output = f"{NONCE} R\n".encode()
    list(streams.feed(output, output))
    for step in range(1, GOES + 1):
        begin = f"{NONCE} B {step}\n".encode()
        end = f"{NONCE} E {step} done 0 0 1\n".encode()
        list(streams.feed(begin, b""))
        list(streams.feed(b"a line of output\n" * 3 + end, end))


_LOOPS = {
    "a command rendered": _render_loop,
    "a tenth of one compiled": _compile_loop,
    "a step written as shell text": _encode_loop,
    "a step's output taken apart": _decode_loop,
}
