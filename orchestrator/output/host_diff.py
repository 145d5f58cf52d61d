"""Differences between the outputs of hosts, as unified diffs against the most common output."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from msgspec import Struct

from orchestrator.model.host_folding import fold_hostnames
from orchestrator.model.sanitize import to_one_line
from orchestrator.output.console import BOLD, CYAN, DIM, GREEN, RED, TextConsole

_MAX_COMPARED_LINES = 2000
"""Lines of an output, without the head and tail that both outputs share, that are compared.

The time of difflib grows with the square of their number."""

_MAX_LINES = 60
_MAX_LINE_CHARS = 4000
_CONTEXT_LINES = 3


class OutputGroup(Struct, frozen=True):
    """Hosts with equal output. The lines are sanitized and have no newlines."""

    hosts: tuple[str, ...]
    stdout: tuple[str, ...] = ()
    stderr: tuple[str, ...] = ()


def most_common_group(groups: Sequence[OutputGroup]) -> OutputGroup:
    """Return the group with the most hosts; of several, the first."""
    return max(groups, key=lambda group: len(group.hosts))


def host_diff_lines(
    groups: Sequence[OutputGroup], out: TextConsole, *, whole: bool = False
) -> Iterator[str]:
    """Yield how each group's output differs from the most common one, which is only named.

    Groups are in the order of their size, then in the given order. A diff of more than 60 lines is
    cut, unless ``whole`` is True. Yield nothing without groups.
    """
    if not groups:
        return
    base = most_common_group(groups)
    others = sorted(
        (group for group in groups if group is not base), key=lambda group: -len(group.hosts)
    )
    names = _shown_hosts(base)
    if not others:
        yield f"{out.paint(names, BOLD)}: all outputs are equal"
        return
    count = len(base.hosts)
    most_common = f"the most common output, of {count} host{'' if count == 1 else 's'}"
    yield f"{out.paint(names, BOLD)}: {most_common}"
    for group in others:
        yield from group_diff_lines(base, group, out, whole=whole)


def group_diff_lines(
    base: OutputGroup, group: OutputGroup, out: TextConsole, *, whole: bool = False
) -> Iterator[str]:
    """Yield a heading with the group's hosts, and unified diffs of its stdout and stderr to base.

    Lines of hosts are indented, so that none looks like one of orch.
    """
    yield out.paint(f"── {_shown_hosts(group)} ──", BOLD)
    for stream, before, after in (
        ("stdout", base.stdout, group.stdout),
        ("stderr", base.stderr, group.stderr),
    ):
        if before != after:
            yield out.paint(f"  --- {stream} of {_shown_hosts(base)}", DIM)
            yield out.paint(f"  +++ {stream} of {_shown_hosts(group)}", DIM)
            yield from _cut_diff(_unified_diff(before, after), out, whole=whole)


def _shown_hosts(group: OutputGroup) -> str:
    return to_one_line(fold_hostnames(group.hosts))


def _cut_diff(lines: Iterator[str], out: TextConsole, *, whole: bool) -> Iterator[str]:
    omitted = 0
    for number, line in enumerate(lines):
        if number < _MAX_LINES or whole:
            shown = line if whole or len(line) <= _MAX_LINE_CHARS else f"{line[:_MAX_LINE_CHARS]}…"
            yield out.paint(f"  {shown}".rstrip(), _style_of_line(line))
        else:
            omitted += 1
    if omitted:
        yield out.paint(f"  [… {omitted} more lines of the diff]", DIM)


def _style_of_line(line: str) -> str:
    return {"+": GREEN, "-": RED, "@": CYAN}.get(line[:1], "")


def _unified_diff(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    """Yield the hunks of a unified diff; what is too long to compare is one hunk without context.

    The lines that both begin and end with are not compared.
    """
    head = _common_head(before, after)
    tail = _common_head(before[head:][::-1], after[head:][::-1])
    old_end, new_end = len(before) - tail, len(after) - tail
    if max(old_end, new_end) - head > _MAX_COMPARED_LINES:
        yield _hunk_heading(head, old_end, head, new_end)
        yield from (f"-{line}" for line in before[head:old_end])
        yield from (f"+{line}" for line in after[head:new_end])
        return
    matcher = difflib.SequenceMatcher(None, before[head:old_end], after[head:new_end])
    changed = [
        (tag, a1 + head, a2 + head, b1 + head, b2 + head)
        for tag, a1, a2, b1, b2 in matcher.get_opcodes()
    ]
    same_head = [("equal", 0, head, 0, head)] if head else []
    same_tail = [("equal", old_end, len(before), new_end, len(after))] if tail else []
    matcher.opcodes = [*same_head, *changed, *same_tail]  # type: ignore[attr-defined]
    for hunk in matcher.get_grouped_opcodes(_CONTEXT_LINES):
        yield _hunk_heading(hunk[0][1], hunk[-1][2], hunk[0][3], hunk[-1][4])
        for tag, old_start, old_stop, new_start, new_stop in hunk:
            if tag == "equal":
                yield from (f" {line}" for line in before[old_start:old_stop])
            else:
                yield from (f"-{line}" for line in before[old_start:old_stop])
                yield from (f"+{line}" for line in after[new_start:new_stop])


def _hunk_heading(old_start: int, old_end: int, new_start: int, new_end: int) -> str:
    def part(start: int, end: int) -> str:
        length = end - start
        first = start + (1 if length else 0)  # an empty range names the line before it
        return f"{first}" if length == 1 else f"{first},{length}"

    return f"@@ -{part(old_start, old_end)} +{part(new_start, new_end)} @@"


def _common_head(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many lines both begin with."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
