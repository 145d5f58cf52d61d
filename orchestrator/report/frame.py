"""One picture of a run's progress, as lines of styled text that fit the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct

from orchestrator.model.clean import one_line
from orchestrator.report.cells import cells, cut, pad
from orchestrator.report.progress import Lane, Progress, Work

Segment: TypeAlias = tuple[str, str]
_SLOWEST = 5
_BAR = (6, 30)


def frame(
    progress: Progress, now: float, width: int, height: int, bar: str = "━─"
) -> list[list[Segment]]:
    """A line per lane (and for connecting), then the slowest hosts; styles are rich's.

    Takes at most half the height of a small terminal; ``bar`` is what is done and what is not.
    """
    room = max(height - 1, 1)
    tracks = _tracks(progress, now)
    kept = tracks if len(tracks) <= max(room - 1, 1) else tracks[: max(room - 2, 1)]
    shown = _lines(kept, width, bar)
    if len(kept) < len(tracks) and room > 1:
        shown.append([(cut(f"… and {len(tracks) - len(kept)} more", width), "dim")])
    count = max(0, min(_SLOWEST, height // 2, room - len(shown)))
    return shown + _hosts(progress.slowest(count), now, width)


def clock(seconds: float) -> str:
    """``12 s``, ``3:05`` or ``1:02:03``."""
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes = f"{rest // 60}:{rest % 60:02}"
    return f"{hours}:{minutes:0>5}" if hours else minutes


class _Track(Struct, frozen=True):
    """One line of progress. ``said`` holds ways to tell the counts, the longest first."""

    label: str
    done: int
    total: int
    failed: int
    said: tuple[str, ...]
    elapsed: str


def _tracks(progress: Progress, now: float) -> list[_Track]:
    found: list[_Track] = []
    if progress.connecting:
        bad, total = progress.unreachable, progress.hosts
        done = progress.connected + bad
        said = (f"{done}/{total}, {bad} failed" if bad else f"{done}/{total}",)
        found.append(
            _Track(
                "connecting",
                done,
                total=total,
                failed=bad,
                said=said,
                elapsed=clock(now - progress.since),
            )
        )
    for lane in progress.lanes.values():
        label, elapsed = one_line(lane.label), clock(now - lane.since)
        found.append(
            _Track(
                label,
                lane.done,
                total=lane.hosts,
                failed=lane.failed,
                said=_said(lane),
                elapsed=elapsed,
            )
        )
    return found


def _said(lane: Lane) -> tuple[str, ...]:
    failed = f", {lane.failed} failed" if lane.failed else ""
    done = f"{lane.done}/{lane.hosts}"
    return f"{done} done, {len(lane.running)} running{failed}", f"{done}{failed}"


def _lines(tracks: Sequence[_Track], width: int, bar: str) -> list[list[Segment]]:
    """The tracks in columns: label, bar (where there is room), counts, elapsed."""
    labels = min(_widest([track.label for track in tracks]), width // 2)
    times = _widest([track.elapsed for track in tracks])
    room = width - times - 4
    said: list[str] = []
    for form in range(2):
        said = [track.said[min(form, len(track.said) - 1)] for track in tracks]
        if labels + _widest(said) <= room:
            break
    counts = _widest(said)
    labels = max(min(labels, room - counts), 1)
    size = min(room - counts - labels - 2, _BAR[1])
    return [
        [
            (pad(cut(track.label, labels), labels) + "  ", "bold"),
            *(_bar(track, size, bar) if size >= _BAR[0] else []),
            (pad(text, counts) + "  ", "red" if track.failed else ""),
            (pad(track.elapsed, times, right=True), "dim"),
        ]
        for track, text in zip(tracks, said, strict=True)
    ]


def _bar(track: _Track, size: int, bar: str) -> list[Segment]:
    full = min(size * track.done // track.total, size) if track.total else 0
    style = "red" if track.failed else "green"
    return [(bar[0] * full, style), (bar[1] * (size - full) + "  ", "dim")]


def _widest(texts: Sequence[str]) -> int:
    return max(map(cells, texts), default=0)


def _hosts(works: Sequence[Work], now: float, width: int) -> list[list[Segment]]:
    """A line per host: its name, how long it has been at it, the last line it printed."""
    rows = [(one_line(work.who), clock(now - work.since), work.said) for work in works]
    names = min(_widest([row[0] for row in rows]), width * 2 // 5)
    times = _widest([row[1] for row in rows])
    room = width - names - times - 6
    return [
        [
            (f"  {pad(cut(name, names), names)}", ""),
            (f"  {pad(spent, times, right=True)}", "dim"),
            (f"  {cut(said, room)}" if room > 3 else "", "dim" if said.startswith("(") else ""),
        ]
        for name, spent, said in rows
    ]
