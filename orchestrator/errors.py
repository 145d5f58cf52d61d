"""What can go wrong, and where: the only exceptions that reach a user.

Every error says what, where (file:line:column with an excerpt), why, and what to do.
One place (``cli``) turns them into an exit code; nothing here prints.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from enum import IntEnum
from functools import lru_cache
from itertools import islice
from pathlib import Path

from msgspec import Struct

_MAX_BUG_MESSAGE = 300  # characters of an exception's message that are shown


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


class SourcePosition(Struct, frozen=True, order=True):
    """A place in a file. Line and column count from 1; line 0 is the file as a whole.

    ``path`` is what is shown: relative to where the user stands, or ``<command line>``.
    """

    path: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}" if self.line else self.path

    def position_inside(self, line: int, column: int) -> SourcePosition:
        """The place of a character within the YAML scalar that starts here.

        ``line`` and ``column`` count from 1 in the scalar's text. The file is read
        again to see how the scalar is written, since only errors ask; where the text
        was folded or escaped the answer is the nearest line.
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
    """One thing that is wrong: what and why, where, and what to do about it."""

    message: str
    mark: SourcePosition | None = None
    hint: str = ""


class OrchError(Exception):
    """An error that is the user's to see. Carries every problem found, not the first."""

    exit_code = ExitCode.BUG

    def __init__(self, *diagnostics: Diagnostic | str) -> None:
        self.diagnostics = tuple(Diagnostic(p) if isinstance(p, str) else p for p in diagnostics)
        super().__init__("; ".join(p.message for p in self.diagnostics))


class UsageError(OrchError):
    """The command line asks for something that cannot be."""

    exit_code = ExitCode.USAGE


class DefinitionError(OrchError):
    """Inventory, task or template in error, or no host selected: nothing was contacted."""

    exit_code = ExitCode.DEFINITION


class MissingFileError(DefinitionError):
    """A file of the project that a step needs is not there, or not yet."""


class ConnectError(OrchError):
    """A host could not be reached, or would not let us in.

    ``phase`` is one of resolve, connect, banner, kex, host key, auth, channel, become, shell.
    ``transient`` says whether trying again may help (a reset before the banner does).
    """

    exit_code = ExitCode.UNREACHABLE

    def __init__(self, phase: str, reason: str, hint: str = "", *, transient: bool = False) -> None:
        super().__init__(Diagnostic(f"{phase}: {reason}", None, hint))
        self.phase, self.reason, self.hint, self.transient = phase, reason, hint, transient

    def with_endpoint(self, endpoint: str) -> ConnectError:
        """The same, with where it was; no more than before where ``endpoint`` is '', or said."""
        if not endpoint or self.reason.startswith(f"{endpoint}: "):
            return self
        return ConnectError(
            self.phase, f"{endpoint}: {self.reason}", self.hint, transient=self.transient
        )


class DiagnosticCollector:
    """Collects what is wrong, so that all of it is told at once."""

    max_diagnostics = 1000
    """With so many, no more are looked for: somebody gave a file that is none of orch's."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []
        self._known_diagnostics: set[Diagnostic] = set()

    def add(self, message: str, mark: SourcePosition | None = None, hint: str = "") -> None:
        """Note one problem; the same one is kept once. Raises ``DefinitionError`` with all that
        was found where there are too many."""
        diagnostic = Diagnostic(message, mark, hint)
        if len(self._known_diagnostics) != len(self.diagnostics):  # some were put there by hand
            self._known_diagnostics = set(self.diagnostics)
        if diagnostic in self._known_diagnostics:
            return
        self.diagnostics.append(diagnostic)
        self._known_diagnostics.add(diagnostic)
        if len(self.diagnostics) >= self.max_diagnostics:
            self.diagnostics.append(
                Diagnostic(f"more than {self.max_diagnostics} errors: the rest is not looked for")
            )
            self.raise_any()

    def raise_any(self) -> None:
        """Raise ``DefinitionError`` with all that was found, in the files' order, or return."""
        if self.diagnostics:
            raise DefinitionError(
                *sorted(self.diagnostics, key=lambda p: p.mark or SourcePosition(""))
            )


def describe_bug(error: BaseException) -> str:
    """Return what to call an exception that should not have been raised, and where it was."""
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
    """Return ``did you mean 'x'?`` for the known name most like this one, or ''.

    The name itself is never suggested.
    """
    import difflib  # 3 ms, for a process that fails

    folded = {k.lower(): k for k in sorted(candidates) if k != name}
    match = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    if not match and len(name) > 2:  # short for it, as `repo` is for `repository`
        match = sorted((k for k in folded if k.startswith(name.lower())), key=len)
    return f"did you mean '{folded[match[0]]}'?" if match else ""


def source_excerpt(mark: SourcePosition) -> str:
    """The marked line with a caret below the column, or '' where there is no such file."""
    lines = _source_lines(mark.path)
    if not 0 < mark.line <= len(lines):
        return ""
    line = lines[mark.line - 1].expandtabs(1)
    start = max(0, mark.column - 60)
    shown = line[start : start + 100]
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
    """The lines of a file that has not changed since: a thousand errors may stand in one."""
    return file.read_text("utf-8-sig", "replace").splitlines()
