"""What a module changed, or would: its states side by side, and contents as a unified diff."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from orchestrator.model.sanitize import visible
from orchestrator.model.step_result import Change, Outcome


def change_lines(outcome: Outcome) -> list[str]:
    """All of it, clean: ``  mode: 0600 → 0644``; of longer texts only what differs."""
    lines: list[str] = []
    for change in outcome.changes:
        if change.key == "contents" and outcome.diff:
            continue
        lines += [f"  {line}" for line in _lines(change)]
    return lines + [f"  {visible(line)}".rstrip() for line in _rows(outcome.diff)]


def in_short(outcome: Outcome) -> str:
    """The same in one line, without contents."""
    return "; ".join(_short(change) for change in outcome.changes)


def _lines(change: Change) -> Iterator[str]:
    if "\n" not in (change.before or "") + change.after:
        yield _short(change)
        return
    yield f"{change.key}:"
    old, new = _rows(change.before or ""), _rows(change.after)
    for line in difflib.unified_diff(old, new, "before", "after", lineterm=""):
        yield visible(line)


def _short(change: Change) -> str:
    before = "(nothing)" if change.before is None else _said(change.before)
    return f"{change.key}: {before} → {_said(change.after)}"


def _rows(text: str) -> list[str]:
    """The lines that newlines end: no other character begins one that looks like orch's."""
    return text.removesuffix("\n").split("\n") if text else []


def _said(value: str) -> str:
    text = visible(value).replace("\n", "↵")
    return (text if len(text) <= 120 else text[:119] + "…") or "''"
