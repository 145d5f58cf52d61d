"""Problems of many hosts, told once."""

from __future__ import annotations

from msgspec.structs import replace

from orchestrator.errors import DefinitionError, Diagnostic, DiagnosticCollector, SourcePosition
from orchestrator.model.host_folding import fold_hostnames, fold_messages, message_frame


class HostDiagnostics(DiagnosticCollector):
    """Problems of many hosts. Those that differ only in the host that they name are one, which
    says on which hosts it was found."""

    def __init__(self, host_count: int) -> None:
        super().__init__()
        self.host_count = host_count
        self.diagnostics_by_frame: dict[tuple[object, ...], list[tuple[str, Diagnostic]]] = {}

    def add_for_host(self, host: str, error: DefinitionError, mark: SourcePosition) -> None:
        """Note what is wrong for one host; ``mark`` is for what knows no place of its own."""
        for diagnostic in error.diagnostics:
            if diagnostic.mark is None:
                diagnostic = replace(diagnostic, mark=mark)  # noqa: PLW2901
            frames = (message_frame(text, host) for text in (diagnostic.message, diagnostic.hint))
            found = self.diagnostics_by_frame.setdefault((diagnostic.mark, *frames), [])
            if (host, diagnostic) not in found[-1:]:  # several of its steps may have it
                found.append((host, diagnostic))

    def raise_any(self) -> None:
        """Raise DefinitionError with everything that was found, or return."""
        for found in self.diagnostics_by_frame.values():
            host_note = (
                "" if self.host_count == 1 else f" (on {fold_hostnames(host for host, _ in found)})"
            )
            message = fold_messages((host, diagnostic.message) for host, diagnostic in found)
            hint = fold_messages((host, problem.hint) for host, problem in found)
            self.add(message + host_note, found[0][1].mark, hint)
        super().raise_any()
