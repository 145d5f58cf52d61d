"""The report of `orch doctor`: a table in which equal rows are merged, then each finding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from orchestrator.model.host_check import (
    CONNECTION_CHECKS,
    HOST_CHECKS,
    HealthFinding,
    HostCheck,
    HostHealth,
)
from orchestrator.model.host_folding import fold_hints, fold_hostnames, fold_messages, message_frame
from orchestrator.model.sanitize import to_one_line
from orchestrator.model.text_encoding import dump_json
from orchestrator.output.console import BOLD, CYAN, DIM, GREEN, RED, YELLOW, TextConsole
from orchestrator.output.tables import TableColumn, table_blocks
from orchestrator.output.text_width import wrap_text

_COLUMNS = (
    TableColumn("HOST"),
    TableColumn("VIA", drop=2),
    TableColumn("DNS", drop=1),
    *(TableColumn(title) for title in ("REACH", "KEY", "AUTH", "SHELL", "SUDO", "DISK", "CLOCK")),
    TableColumn("TOOLS"),
    TableColumn("MS", right=True, drop=3),
)
_STYLES = {"ok": GREEN, "warn": YELLOW, "fail": RED}
_UNITS = ((1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K"))
_STATE_WORDS = {
    HostHealth.FINE: "fine",
    HostHealth.WARNED: "with warnings",
    HostHealth.FAILS: "with errors",
    HostHealth.UNREACHABLE: "unreachable",
    HostHealth.INTERRUPTED: "not checked",
}
MaskFunction = Callable[[str], str]


def doctor_lines(
    checkups: Sequence[HostCheck], out: TextConsole, mask: MaskFunction = str
) -> Iterator[str]:
    """Yield the table, the findings and a line of totals. ``mask`` hides secrets."""
    looked = [checkup for checkup in checkups if checkup.state is not HostHealth.INTERRUPTED]
    groups: dict[tuple[str, ...], list[HostCheck]] = {}
    for checkup in looked:
        groups.setdefault(_shared_cells(checkup), []).append(checkup)
    rows = [_table_row(cells, group) for cells, group in groups.items()]

    def paint(row: int, column: int, text: str) -> str:
        if row < 0:
            return out.paint(text, DIM)
        if not column:
            return out.paint(text, BOLD)
        word = text.strip()
        return out.paint(text, _STYLES[word]) if word in _STYLES else text

    if rows:
        for block in table_blocks(_COLUMNS, rows, out.width, paint):
            yield from block
    troubles = list(_findings(looked))
    if troubles:
        yield ""
    for label, what, hint in troubles:
        yield from _finding_lines(label, mask(what), mask(hint), out)
    yield ""
    yield _count_states(checkups)


def doctor_json(checkup: HostCheck, mask: MaskFunction = str) -> str:
    """Return one host as JSON, in bytes and seconds, with null for unknown values."""
    return dump_json(
        {
            "host": checkup.host,
            "state": checkup.state.value,
            "transport": checkup.transport,
            "place": checkup.endpoint or None,
            "via": list(checkup.jump_hosts),
            "checks": {
                check: checkup.check_status(check) or None
                for check in (*CONNECTION_CHECKS, *HOST_CHECKS)
            },
            "shell": checkup.shell_name or None,
            "home_free": checkup.free_bytes.get("home"),
            "tmp_free": checkup.free_bytes.get("tmp"),
            "clock_skew": None if checkup.clock_skew is None else round(checkup.clock_skew, 1),
            "latency": None if checkup.latency is None else round(checkup.latency, 4),
            "troubles": [
                {
                    "check": trouble.check,
                    "fails": trouble.fails,
                    "what": mask(trouble.message),
                    "hint": mask(trouble.hint),
                }
                for trouble in checkup.findings
            ],
        }
    )


def _shared_cells(checkup: HostCheck) -> tuple[str, ...]:
    """Return the cells that hosts in one row have in common: all except varying numbers."""
    shell = checkup.check_status("shell")
    return (
        ",".join(checkup.jump_hosts),
        *(checkup.check_status(check) for check in CONNECTION_CHECKS[:4]),
        checkup.shell_name if shell == "ok" else shell,
        *(checkup.check_status(check) for check in HOST_CHECKS),
    )


def _table_row(alike: tuple[str, ...], group: Sequence[HostCheck]) -> list[str]:
    *before, disk, clock, tools = alike
    hosts = fold_hostnames(checkup.host for checkup in group)
    return [hosts, *before, _disk_text(disk, group), clock, tools, _latency_text(group)]


def _disk_text(verdict: str, group: Sequence[HostCheck]) -> str:
    """Return the least free space on the paths that steps write to; + marks hosts with more."""
    least = [min(checkup.free_bytes.values()) for checkup in group if checkup.free_bytes]
    if verdict != "ok" or not least:
        return verdict
    texts = [_size_text(size) for size in sorted(least)]
    return texts[0] + ("+" if texts[-1] != texts[0] else "")


def _size_text(size: int) -> str:
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.1f}{name}" if size < 10 * unit else f"{size // unit}{name}"
    return str(size)


def _latency_text(group: Sequence[HostCheck]) -> str:
    found = sorted(checkup.latency * 1000 for checkup in group if checkup.latency is not None)
    if not found:
        return ""
    least, most = (f"{max(1, round(found[i]))}" for i in (0, -1))
    return least if least == most else f"{least}-{most}"


def _findings(checkups: Iterable[HostCheck]) -> Iterator[tuple[str, str, str]]:
    """Yield label, text with its hosts, and hint, worst first; equal findings are merged."""
    found: dict[
        tuple[str, tuple[str, ...], tuple[str, ...]], list[tuple[HostCheck, HealthFinding]]
    ] = {}
    for checkup in checkups:
        for trouble in checkup.findings:
            what, hint = (
                message_frame(text, checkup.host) for text in (trouble.message, trouble.hint)
            )
            found.setdefault((_finding_label(checkup, trouble), what, hint), []).append(
                (checkup, trouble)
            )
    order = ("unreachable", "error", "warning")
    for (label, *_), group in sorted(found.items(), key=lambda one: order.index(one[0][0])):
        text = fold_messages((checkup.host, trouble.message) for checkup, trouble in group)
        advice = fold_hints((checkup.host, trouble.hint) for checkup, trouble in group)
        yield label, f"{fold_hostnames(checkup.host for checkup, _ in group)}: {text}", advice


def _finding_label(checkup: HostCheck, finding: HealthFinding) -> str:
    if not finding.fails:
        return "warning"
    return "unreachable" if checkup.state is HostHealth.UNREACHABLE else "error"


def _finding_lines(label: str, what: str, hint: str, out: TextConsole) -> Iterator[str]:
    style = YELLOW if label == "warning" else RED
    yield from _wrapped_finding(f"{label}:", style, to_one_line(what), out)
    if hint:
        yield from _wrapped_finding("  help:", CYAN, to_one_line(hint), out)


def _wrapped_finding(label: str, style: str, text: str, out: TextConsole) -> Iterator[str]:
    """Yield the text after its label, wrapped to the console's width."""
    rows = [text] if out.width is None else wrap_text(text, max(20, out.width - len(label) - 1))
    yield f"{out.paint(label, style)} {rows[0]}"
    for row in rows[1:]:
        yield f"{' ' * len(label)} {row}"


def _count_states(checkups: Sequence[HostCheck]) -> str:
    states = [checkup.state for checkup in checkups]
    parts = [
        f"{states.count(state)} {_STATE_WORDS[state]}" for state in HostHealth if state in states
    ]
    return f"{len(states)} host{'' if len(states) == 1 else 's'}: {', '.join(parts)}"
