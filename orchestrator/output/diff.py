"""Changes made or planned by a module: its states, and contents as a unified diff."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from orchestrator.model.sanitize import show_controls
from orchestrator.model.step_result import StateChange, StepResult


def change_lines(outcome: StepResult) -> list[str]:
    """Return the changes as sanitized lines: `` mode: 0600 → 0644``, or a diff for long texts."""
    lines: list[str] = []
    for change in outcome.changes:
        if change.key == "contents" and outcome.diff:
            continue
        lines += [f"  {line}" for line in _change_lines(change)]
    return lines + [f"  {show_controls(line)}".rstrip() for line in _split_lines(outcome.diff)]


def one_line_change(outcome: StepResult) -> str:
    """Return the changed states in one line, without contents."""
    return "; ".join(short_change(change) for change in outcome.changes)


def _change_lines(change: StateChange) -> Iterator[str]:
    if "\n" not in (change.before or "") + change.after:
        yield short_change(change)
        return
    yield f"{change.key}:"
    old, new = _split_lines(change.before or ""), _split_lines(change.after)
    for line in difflib.unified_diff(old, new, "before", "after", lineterm=""):
        yield show_controls(line)


def short_change(change: StateChange) -> str:
    """Return a change as ``mode: 0600 → 0644``, with long values truncated."""
    before = "(nothing)" if change.before is None else _value_text(change.before)
    return f"{change.key}: {before} → {_value_text(change.after)}"


def _split_lines(text: str) -> list[str]:
    """Return the lines, split only at newlines: other separators must not start a new line."""
    return text.removesuffix("\n").split("\n") if text else []


def _value_text(value: str) -> str:
    text = show_controls(value).replace("\n", "↵")
    return (text if len(text) <= 120 else text[:119] + "…") or "''"
