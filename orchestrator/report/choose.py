"""Which sinks a run has, by what its output goes to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO

from orchestrator.model.event import Sink
from orchestrator.report.out import Out, lively, open_out
from orchestrator.report.tee import Tee
from orchestrator.report.turns import Turns


def sinks(
    *,
    json: bool,
    verbose: int,
    stdout: TextIO,
    stderr: TextIO,
    environ: Mapping[str, str],
    diff: bool = False,
    turns: Turns | None = None,
) -> Sink:
    """What shows a run: JSON lines; or a live view, then folded results; or plain lines, then rows.

    Events and the live view go to stderr, output and results to stdout. The sink raises
    OSError from the call in which a stream turned out to take nothing more, once per stream.
    ``verbose``: 0 as usual, 1 steps, 2 everything, -1 only what went wrong. ``diff``: what
    changed is shown, too, and not only what would. ``turns``: shared with who asks questions.
    """
    if json:
        from orchestrator.report.jsonl import JsonLines

        return JsonLines(Out(stdout))
    from orchestrator.report.results import Results

    out = open_out(stdout, environ)
    if lively(stderr, environ):
        from orchestrator.report.live import Live

        return Tee(
            (
                Live(stderr, environ, verbose, turns or Turns()),
                Results(out, whole=verbose > 0, diff=diff),
            )
        )
    from orchestrator.report.plain import Plain

    return Tee(
        (Plain(open_out(stderr, environ), out, verbose, diff=diff), Results(out, outputs=False))
    )
