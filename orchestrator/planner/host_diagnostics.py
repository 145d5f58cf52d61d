"""Collects diagnostics of many hosts and merges equal ones."""

from __future__ import annotations

from msgspec.structs import replace

from orchestrator.errors import DefinitionError, Diagnostic, DiagnosticCollector, SourcePosition
from orchestrator.model.host_folding import fold_hints, fold_hostnames, fold_messages, message_frame


class HostDiagnostics(DiagnosticCollector):
    """Collects diagnostics of many hosts.

    Diagnostics that differ only in the host's name are merged into one that lists the hosts.
    """

    def __init__(self, host_count: int) -> None:
        """Create an empty collector for a plan with this many hosts."""
        super().__init__()
        self.host_count = host_count
        self.diagnostics_by_frame: dict[tuple[object, ...], list[tuple[str, Diagnostic]]] = {}

    def add_for_host(self, host: str, error: DefinitionError, mark: SourcePosition) -> None:
        """Add the errors of one host; ``mark`` is the position of errors that have none."""
        for diagnostic in error.diagnostics:
            if diagnostic.mark is None:
                diagnostic = replace(diagnostic, mark=mark)  # noqa: PLW2901
            frames = (message_frame(text, host) for text in (diagnostic.message, diagnostic.hint))
            found = self.diagnostics_by_frame.setdefault((diagnostic.mark, *frames), [])
            # several steps of the host may have the same error
            if (host, diagnostic) not in found[-1:]:
                found.append((host, diagnostic))

    def raise_any(self) -> None:
        """Raise DefinitionError with the merged diagnostics, or return if there are none."""
        for found in self.diagnostics_by_frame.values():
            host_note = (
                "" if self.host_count == 1 else f" (on {fold_hostnames(host for host, _ in found)})"
            )
            message = fold_messages((host, diagnostic.message) for host, diagnostic in found)
            hint = fold_hints((host, problem.hint) for host, problem in found)
            self.add(message + host_note, found[0][1].mark, hint)
        super().raise_any()
