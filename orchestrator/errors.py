"""Exceptions that reach the user, with diagnostics, positions and exit codes.

Every error states what happened, where (file:line:column with an excerpt), why, and what to do.
``cli`` turns an error into an exit code; nothing in this module prints.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from enum import IntEnum
from functools import lru_cache
from itertools import islice
from pathlib import Path

from msgspec import Struct

_MAX_BUG_MESSAGE = 300  # characters of an exception's message that are shown

TROUBLESHOOTING_SECTIONS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "ssh_config": (("", "ssh-config"),),
    "resolve": (("jump host loop", "jump-host"), ("", "name-lookup")),
    "connect": (
        ("from the jump host", "jump-host"),
        ("is prohibited", "jump-host"),
        ("connection refused", "connection-refused"),
        ("timed out", "connection-timeout"),
        ("no route", "connection-timeout"),
        ("unreachable", "connection-timeout"),
    ),
    "banner": (
        ("timed out", "connection-timeout"),
        ("closed the connection", "max-startups"),
        ("was cut", "max-startups"),
        ("earlier failures", "max-startups"),
    ),
    "kex": (("in common", "no-common-algorithm"), ("no matching", "no-common-algorithm")),
    "host key": (
        ("is not in ", "host-key-unknown"),
        (" changed: ", "host-key-changed"),
        ("another type", "host-key-changed"),
        ("revoked", "host-key-changed"),
    ),
    "auth": (
        ("maxauthtries", "too-many-keys"),
        ("too many authentication failures", "too-many-keys"),
        ("the agent at ", "ssh-agent"),
        ("is encrypted, and ", "key-passphrase"),
        ("password was rejected", "ssh-password"),
        ("answer was rejected", "ssh-password"),
        ("ssh_password_file", "ssh-password"),
        ("timed out", "connection-timeout"),
        ("", "authentication-failed"),
    ),
    "channel": (("", "max-sessions"),),
    "shell": (("", "shell-unusable"),),
    "become": (
        ("must have a tty", "become-no-tty"),
        ("not allowed to execute", "become-not-allowed"),
        ("not in the sudoers file", "become-not-allowed"),
        (" password of ", "become-password"),
        ("a password is required", "become-password"),
        ("", "become-failed"),
    ),
}
"""For each phase of a connection, texts of errors and the section of the troubleshooting page.

The first text that is in the reason, in any case, counts.
"""


class ExitCode(IntEnum):
    """The exit codes of ``orch``."""

    OK = 0
    FAILED = 1
    USAGE = 2
    DEFINITION = 3
    UNREACHABLE = 4
    LOCKED = 5
    WOULD_CHANGE = 6
    BUG = 70
    INTERRUPTED = 130
    NO_STATUS = 255


EXIT_CODE_HELP: Mapping[ExitCode, str] = {
    ExitCode.OK: "success",
    ExitCode.FAILED: "a step failed",
    ExitCode.USAGE: "invalid command line",
    ExitCode.DEFINITION: "invalid inventory, task or template, or no host selected",
    ExitCode.UNREACHABLE: "a host is unreachable",
    ExitCode.LOCKED: "another run holds the lock of an app",
    ExitCode.WOULD_CHANGE: "with --check --exit-code: something would change",
    ExitCode.BUG: "a bug in orch",
    ExitCode.INTERRUPTED: "interrupted by a signal",
    ExitCode.NO_STATUS: "`orch ssh`: the host could not be reached, or the connection was lost",
}
"""The meanings of the exit codes."""


class SourcePosition(Struct, frozen=True, order=True):
    """A position in a file.

    Line and column count from 1; line 0 means the whole file. ``path`` is the path to display:
    relative to the working directory, or ``<command line>``.
    """

    path: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        """Return ``path:line:column``, or only the path if the line is 0."""
        return f"{self.path}:{self.line}:{self.column}" if self.line else self.path

    @classmethod
    def parse(cls, text: str) -> SourcePosition:
        """Return the position of a text that ``str`` returned for it."""
        path, *place = text.rsplit(":", 2)
        if len(place) == 2 and all(each.isascii() and each.isdigit() for each in place):
            return cls(path, *map(int, place))
        return cls(text)

    def position_inside(self, line: int, column: int) -> SourcePosition:
        """Return the position of a character in the YAML scalar that starts here.

        ``line`` and ``column`` count from 1 in the scalar's text. The file is read again to see the
        scalar's style, because only error messages need it; if the text was folded or escaped, the
        result is the nearest line.
        """
        lines = _source_lines(self.path)
        if not 0 < self.line <= len(lines):
            return self
        opening = lines[self.line - 1][self.column - 1 :]
        if opening[:1] in "|>" and opening:
            body = islice(lines, self.line, None)
            indent = next((len(r) - len(r.lstrip(" ")) for r in body if r.strip()), 0)
            return SourcePosition(self.path, self.line + line, indent + column)
        if line == 1:
            quote = opening.startswith(('"', "'"))
            return SourcePosition(self.path, self.line, self.column + column - (not quote))
        return SourcePosition(self.path, min(self.line + line - 1, len(lines)), 1)


class Diagnostic(Struct, frozen=True):
    """One error: what happened and why, its position, and what to do about it."""

    message: str
    mark: SourcePosition | None = None
    hint: str = ""


class OrchError(Exception):
    """Base class of errors that are shown to the user; carries one or more diagnostics."""

    exit_code = ExitCode.BUG

    def __init__(self, *diagnostics: Diagnostic | str) -> None:
        """Store the diagnostics; a plain string becomes a ``Diagnostic`` without position."""
        self.diagnostics = tuple(Diagnostic(p) if isinstance(p, str) else p for p in diagnostics)
        super().__init__("; ".join(p.message for p in self.diagnostics))


class UsageError(OrchError):
    """Invalid command line."""

    exit_code = ExitCode.USAGE


class DefinitionError(OrchError):
    """Error in the inventory, a task or a template, or no host selected; no host was contacted."""

    exit_code = ExitCode.DEFINITION


class MissingFileError(DefinitionError):
    """A project file that a step requires does not exist, or does not exist yet."""


class ConnectError(OrchError):
    """A host could not be reached, or the login failed.

    ``phase`` is one of resolve, connect, banner, kex, host key, auth, channel, become, shell.
    ``transient`` is True if another attempt may succeed, for example after a reset before the
    banner. The diagnostic's hint names the section of the troubleshooting page, which ``hint``
    does not.
    """

    exit_code = ExitCode.UNREACHABLE

    def __init__(self, phase: str, reason: str, hint: str = "", *, transient: bool = False) -> None:
        """Store the phase and the reason, and build the diagnostic ``phase: reason``."""
        shown = _hint_with_section(hint, troubleshooting_section(phase, reason))
        super().__init__(Diagnostic(f"{phase}: {reason}", None, shown))
        self.phase, self.reason, self.hint, self.transient = phase, reason, hint, transient

    def with_endpoint(self, endpoint: str) -> ConnectError:
        """Return a copy of the error with the host endpoint prefixed.

        Return the error itself if ``endpoint`` is empty or already the prefix of the reason.
        """
        if not endpoint or self.reason.startswith(f"{endpoint}: "):
            return self
        return ConnectError(
            self.phase, f"{endpoint}: {self.reason}", self.hint, transient=self.transient
        )


class NoStatusError(OrchError):
    """A command on a host has no exit status: the host was not reached, or the connection lost."""

    exit_code = ExitCode.NO_STATUS


def troubleshooting_section(phase: str, reason: str) -> str:
    """Return the section that explains an error of a connection, or ''."""
    folded = reason.lower()
    sections = TROUBLESHOOTING_SECTIONS.get(phase, ())
    return next((section for text, section in sections if text in folded), "")


def _hint_with_section(hint: str, section: str) -> str:
    if not section:
        return hint
    reference = f"see `orch doc {section}`"
    if hint.endswith("?"):
        return f"{hint} S{reference[1:]}"
    return f"{hint}; {reference}" if hint else reference


class DiagnosticCollector:
    """Collects diagnostics so that all of them are reported at once."""

    max_diagnostics = 1000
    """Limit at which ``add`` raises; so many errors mean that the file is not a project file."""

    def __init__(self) -> None:
        """Create an empty collector."""
        self.diagnostics: list[Diagnostic] = []
        self._known_diagnostics: set[Diagnostic] = set()

    def add(self, message: str, mark: SourcePosition | None = None, hint: str = "") -> None:
        """Add one diagnostic, unless an equal one is already there.

        Raises ``DefinitionError`` with all diagnostics if ``max_diagnostics`` is reached.
        """
        diagnostic = Diagnostic(message, mark, hint)
        # another object appended to ``diagnostics``
        if len(self._known_diagnostics) != len(self.diagnostics):
            self._known_diagnostics = set(self.diagnostics)
        if diagnostic in self._known_diagnostics:
            return
        self.diagnostics.append(diagnostic)
        self._known_diagnostics.add(diagnostic)
        if len(self.diagnostics) >= self.max_diagnostics:
            self.diagnostics.append(
                Diagnostic(f"more than {self.max_diagnostics} errors; the rest is not reported")
            )
            self.raise_any()

    def raise_any(self) -> None:
        """Raise ``DefinitionError`` with all diagnostics in file order, if there are any."""
        if self.diagnostics:
            raise DefinitionError(
                *sorted(self.diagnostics, key=lambda p: p.mark or SourcePosition(""))
            )


def describe_bug(error: BaseException) -> str:
    """Return one line with the type, message and origin of an unexpected exception."""
    message = " ".join(str(error).split())
    description = (
        f"{type(error).__name__}: {message[:_MAX_BUG_MESSAGE]}" if message else type(error).__name__
    )
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return f"a bug in orch: {description}"
    path = Path(trace.tb_frame.f_code.co_filename)
    return f"a bug in orch: {description} ({path.parent.name}/{path.name}:{trace.tb_lineno})"


def suggest_nearest(name: str, candidates: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` with the candidate most similar to the name, or ''.

    The name itself is never suggested.
    """
    import difflib  # the import takes 3 ms; only a failing process needs it

    folded = {k.lower(): k for k in sorted(candidates) if k != name}
    match = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    if not match and len(name) > 2:  # an abbreviation, as `repo` for `repository`
        match = sorted((k for k in folded if k.startswith(name.lower())), key=len)
    return f"did you mean '{folded[match[0]]}'?" if match else ""


def source_excerpt(mark: SourcePosition) -> str:
    """Return the marked line with a caret below the column, or '' if there is no such line."""
    lines = _source_lines(mark.path)
    if not 0 < mark.line <= len(lines):
        return ""
    line = lines[mark.line - 1].expandtabs(1)
    start = max(0, mark.column - 60)
    shown = line[start : start + 100]
    if start:
        shown = f"…{shown[1:]}"
    if len(line) > start + 100:
        shown = f"{shown[:-1]}…"
    return f"{mark.line:>5} | {shown}\n      | {' ' * (mark.column - 1 - start)}^"


def _source_lines(path: str) -> list[str]:
    try:
        file = Path(path)
        file_stat = file.stat()
        if not stat.S_ISREG(file_stat.st_mode):
            return []
        return _read_lines(file, file_stat.st_ino, file_stat.st_mtime_ns, file_stat.st_size)
    except (OSError, ValueError):
        return []


@lru_cache(maxsize=8)
def _read_lines(file: Path, *_: int) -> list[str]:
    """Return the lines of a file, cached because one file may have a thousand errors.

    The other arguments are the file's inode, modification time and size: if they change, the file
    is read again.
    """
    return file.read_text("utf-8-sig", "replace").splitlines()
