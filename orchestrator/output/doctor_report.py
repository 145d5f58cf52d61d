"""What was found out about hosts: a table with equal rows as one, then each trouble."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from orchestrator.model.host_check import ASKED, WAY, Checkup, State, Trouble
from orchestrator.model.host_folding import fold, fold_messages, frame_of
from orchestrator.model.sanitize import one_line
from orchestrator.model.text_encoding import dump_json
from orchestrator.output.console import BOLD, CYAN, DIM, GREEN, RED, YELLOW, Out
from orchestrator.output.tables import Column, blocks
from orchestrator.output.text_width import wrap

_COLUMNS = (
    Column("HOST"), Column("VIA", drop=2), Column("DNS", drop=1), Column("REACH"),
    Column("KEY"), Column("AUTH"), Column("SHELL"), Column("SUDO"), Column("DISK"),
    Column("CLOCK"), Column("TOOLS"), Column("MS", right=True, drop=3),
)  # fmt: skip
_STYLES = {"ok": GREEN, "warn": YELLOW, "fail": RED}
_UNITS = ((1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K"))
_SAYS = {
    State.FINE: "fine",
    State.WARNED: "with warnings",
    State.FAILS: "where steps will fail",
    State.UNREACHABLE: "unreachable",
    State.INTERRUPTED: "not looked at",
}
Mask = Callable[[str], str]


def doctor_lines(checkups: Sequence[Checkup], out: Out, mask: Mask = str) -> Iterator[str]:
    """The table, the troubles and a line that counts. ``mask`` hides secrets."""
    looked = [checkup for checkup in checkups if checkup.state is not State.INTERRUPTED]
    groups: dict[tuple[str, ...], list[Checkup]] = {}
    for checkup in looked:
        groups.setdefault(_alike(checkup), []).append(checkup)
    rows = [_row(cells, group) for cells, group in groups.items()]

    def paint(row: int, column: int, text: str) -> str:
        if row < 0:
            return out.paint(text, DIM)
        if not column:
            return out.paint(text, BOLD)
        word = text.strip()
        return out.paint(text, _STYLES[word]) if word in _STYLES else text

    if rows:
        for block in blocks(_COLUMNS, rows, out.width, paint):
            yield from block
    troubles = list(_troubles(looked))
    if troubles:
        yield ""
    for label, what, hint in troubles:
        yield from _told(label, mask(what), mask(hint), out)
    yield ""
    yield _count(checkups)


def doctor_json(checkup: Checkup, mask: Mask = str) -> str:
    """One host as JSON: bytes and seconds; null where something is not known."""
    return dump_json(
        {
            "host": checkup.host,
            "state": checkup.state.value,
            "transport": checkup.transport,
            "place": checkup.place or None,
            "via": list(checkup.via),
            "checks": {check: checkup.verdict(check) or None for check in (*WAY, *ASKED)},
            "shell": checkup.shell or None,
            "home_free": checkup.free.get("home"),
            "tmp_free": checkup.free.get("tmp"),
            "clock_skew": None if checkup.skew is None else round(checkup.skew, 1),
            "latency": None if checkup.latency is None else round(checkup.latency, 4),
            "troubles": [
                {
                    "check": trouble.check,
                    "fails": trouble.fails,
                    "what": mask(trouble.what),
                    "hint": mask(trouble.hint),
                }
                for trouble in checkup.troubles
            ],
        }
    )


def _alike(checkup: Checkup) -> tuple[str, ...]:
    """What hosts on one row have in common: all cells but those with numbers that vary."""
    shell = checkup.verdict("shell")
    return (
        ",".join(checkup.via),
        *(checkup.verdict(check) for check in WAY[:4]),
        checkup.shell if shell == "ok" else shell,
        *(checkup.verdict(check) for check in ASKED),
    )


def _row(alike: tuple[str, ...], group: Sequence[Checkup]) -> list[str]:
    *before, disk, clock, tools = alike
    hosts = fold(checkup.host for checkup in group)
    return [hosts, *before, _disk(disk, group), clock, tools, _latency(group)]


def _disk(verdict: str, group: Sequence[Checkup]) -> str:
    """The least that is free where steps write; with + where that differs."""
    least = [min(checkup.free.values()) for checkup in group if checkup.free]
    if verdict != "ok" or not least:
        return verdict
    texts = [_size(size) for size in sorted(least)]
    return texts[0] + ("+" if texts[-1] != texts[0] else "")


def _size(size: int) -> str:
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.1f}{name}" if size < 10 * unit else f"{size // unit}{name}"
    return str(size)


def _latency(group: Sequence[Checkup]) -> str:
    found = sorted(checkup.latency * 1000 for checkup in group if checkup.latency is not None)
    if not found:
        return ""
    least, most = (f"{max(1, round(found[i]))}" for i in (0, -1))
    return least if least == most else f"{least}-{most}"


def _troubles(checkups: Iterable[Checkup]) -> Iterator[tuple[str, str, str]]:
    """Label, text with its hosts, and what to do: the worst first, equal ones as one."""
    found: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[tuple[Checkup, Trouble]]] = {}
    for checkup in checkups:
        for trouble in checkup.troubles:
            what, hint = (frame_of(text, checkup.host) for text in (trouble.what, trouble.hint))
            found.setdefault((_label(checkup, trouble), what, hint), []).append((checkup, trouble))
    order = ("unreachable", "error", "warning")
    for (label, *_), group in sorted(found.items(), key=lambda one: order.index(one[0][0])):
        text = fold_messages((checkup.host, trouble.what) for checkup, trouble in group)
        advice = fold_messages((checkup.host, trouble.hint) for checkup, trouble in group)
        yield label, f"{fold(checkup.host for checkup, _ in group)}: {text}", advice


def _label(checkup: Checkup, trouble: Trouble) -> str:
    if not trouble.fails:
        return "warning"
    return "unreachable" if checkup.state is State.UNREACHABLE else "error"


def _told(label: str, what: str, hint: str, out: Out) -> Iterator[str]:
    style = YELLOW if label == "warning" else RED
    yield from _wrapped(f"{label}:", style, one_line(what), out)
    if hint:
        yield from _wrapped("  help:", CYAN, one_line(hint), out)


def _wrapped(label: str, style: str, text: str, out: Out) -> Iterator[str]:
    """The text behind its label, within the width that there is."""
    rows = [text] if out.width is None else wrap(text, max(20, out.width - len(label) - 1))
    yield f"{out.paint(label, style)} {rows[0]}"
    for row in rows[1:]:
        yield f"{' ' * len(label)} {row}"


def _count(checkups: Sequence[Checkup]) -> str:
    states = [checkup.state for checkup in checkups]
    parts = [f"{states.count(state)} {_SAYS[state]}" for state in State if state in states]
    return f"{len(states)} host{'' if len(states) == 1 else 's'}: {', '.join(parts)}"
