"""The end of a run: what the hosts printed, a row for each of them, and the sum of it."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from orchestrator.model.event import Event, RunFinished, RunStarted, StepFinished
from orchestrator.model.host_folding import fold, fold_messages, frame_of
from orchestrator.model.sanitize import clean, one_line
from orchestrator.model.step_result import Row, Status, last_lines
from orchestrator.output.console import BOLD, DIM, RED, Out, said, style_of
from orchestrator.output.output_groups import Outputs
from orchestrator.output.tables import Column, blocks
from orchestrator.output.text_width import wrap

_STDERR = 5
_SEVERAL = 3  # rows that ended alike share their reason beneath them from here on
_COLUMNS = (
    Column("host"),
    Column("app"),
    Column("roles", drop=9),
    Column("status"),
    Column("ok", right=True, drop=5),
    Column("changed", right=True, drop=5),
    Column("unknown", right=True, drop=5),
    Column("failed", right=True, drop=5),
    Column("skipped", right=True, drop=5),
    Column("seconds", right=True, drop=8),
    Column("reason"),
)
_STATUS = 3


class Results:
    """A sink that prints on RunFinished: folded output (if ``outputs``), rows, summary."""

    def __init__(
        self, out: Out, *, outputs: bool = True, whole: bool = False, diff: bool = False
    ) -> None:
        self._out = out
        self._outputs = Outputs(whole=whole, diff=diff) if outputs else None
        self._order: dict[str, int] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._order = {host: i for i, host in enumerate(event.hosts)}
            case StepFinished() if self._outputs:
                self._outputs.add(event)
            case RunFinished():
                self._out.lines(self._lines(event))

    def close(self) -> None:
        """Nothing to let go of."""

    def _lines(self, event: RunFinished) -> Iterator[str]:
        if self._outputs:
            told = {(row.host, row.app): _last_words(row) for row in event.rows if row.status.bad}
            yield from self._outputs.lines(self._order, told, self._out)
        yield from results_table(event.rows, self._out)
        told_in_all = summary(event.rows, event.seconds)
        yield from wrap(told_in_all, self._out.width or len(told_in_all))
        if event.log:
            yield self._out.paint(f"log: {one_line(event.log)}", DIM)


def results_table(rows: Sequence[Row], out: Out) -> Iterator[str]:
    """A row per host and app, worst last; beneath those that failed, their last words.

    Neighbours that ended alike share these: they stand once, under the last of them. So does
    the reason where there are several.
    """
    if not rows:
        return
    ranked = sorted(rows, key=_rank)
    alike = Counter(_rank(row) for row in ranked)
    several = [row.status.bad and alike[_rank(row)] >= _SEVERAL for row in ranked]

    def paint(number: int, column: int, text: str) -> str:
        if number < 0:
            return out.paint(text, BOLD)
        status = ranked[number].status
        return out.paint(text, style_of(status)) if column == _STATUS or status.bad else text

    unknown = any(row.unknown for row in rows)
    texts = [
        _texts(row, "" if many else row.reason, unknown=unknown)
        for row, many in zip(ranked, several, strict=True)
    ]
    heading, *lines = blocks(_COLUMNS, texts, out.width, paint)
    yield from heading
    for _, pairs in groupby(zip(ranked, lines, strict=True), key=lambda pair: _rank(pair[0])):
        group = []
        for row, block in pairs:
            yield from block
            group.append(row)
        if group[0].status.bad:
            yield from _beneath(group, out)


def summary(rows: Sequence[Row], seconds: float) -> str:
    """``300 hosts: 296 ok, 2 unreachable, 2 failed in 2.3 s``, best first."""
    if not rows:
        return f"no hosts in {seconds:.1f} s"
    counts = Counter(row.status for row in rows)
    told = ", ".join(f"{counts[s]} {said(s)}" for s in reversed(Status) if counts[s])
    hosts = _many(len({row.host for row in rows}), "host")
    apps = {row.app for row in rows if row.app is not None}
    about = f"{hosts}, {_many(len(apps), 'app')}" if apps else hosts
    return f"{about}: {told} in {seconds:.1f} s"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _texts(row: Row, reason: str, *, unknown: bool) -> list[str]:
    counts = [str(n) for n in (row.ok, row.changed, row.unknown, row.failed, row.skipped)]
    if not unknown:  # as in any run that is no check
        counts[2] = ""
    roles = ",".join(row.roles)
    seconds = f"{row.seconds:.2f}"
    return [row.host, row.app or "", roles, said(row.status), *counts, seconds, reason]


def _rank(row: Row) -> tuple[int, tuple[tuple[str, ...], ...]]:
    """Best first; those that did not get there by how they ended."""
    how = (row.reason, row.hint, *_last_words(row)) if row.status.bad else ()
    return -row.status.rank, tuple(frame_of(text, row.host) for text in how)


def _last_words(row: Row) -> tuple[str, ...]:
    text = clean(row.stderr).rstrip()
    return tuple(last_lines(text, _STDERR))


def _beneath(group: Sequence[Row], out: Out) -> Iterator[str]:
    """The last lines on stderr and the hint of rows that ended alike."""
    words = [_shared(group, list(lines)) for lines in zip(*map(_last_words, group), strict=True)]
    reason = _shared(group, [row.reason for row in group]) if len(group) >= _SEVERAL else ""
    if len(group) > 1 and (words or reason):
        hosts = fold(row.host for row in group)
        yield from _indented(f"{hosts}: {reason}".rstrip(), out, "    ")
    for line in words:
        yield f"    {out.paint('!', RED)} {line}".rstrip()
    if group[0].hint:
        yield from _indented(_hint(group), out, "    help: ")


def _shared(group: Sequence[Row], texts: Sequence[str]) -> str:
    return fold_messages((row.host, text) for row, text in zip(group, texts, strict=True))


def _hint(group: Sequence[Row]) -> str:
    """Return what to do about rows that ended alike: one command for all of their hosts."""
    hosts = shlex.quote(fold(row.host for row in group))
    hints = [
        re.sub(
            rf" -l {re.escape(shlex.quote(row.host))}(?=\n|$)", lambda _: f" -l {hosts}", row.hint
        )
        for row in group
    ]
    return _shared(group, hints)


def _indented(text: str, out: Out, label: str) -> Iterator[str]:
    for i, line in enumerate(wrap(one_line(text), (out.width or 100) - 10)):
        yield f"{'          ' if i else label}{line}"
