"""Problems of many hosts, told once."""

from __future__ import annotations

from msgspec.structs import replace

from orchestrator.errors import DefinitionError, Mark, Problem, Problems
from orchestrator.model.host_folding import fold, fold_messages, frame_of


class HostProblems(Problems):
    """Problems of many hosts. Those that differ only in the host that they name are one, which
    says on which hosts it was found."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.hosts: dict[tuple[object, ...], list[tuple[str, Problem]]] = {}

    def on(self, host: str, error: DefinitionError, mark: Mark) -> None:
        """Note what is wrong for one host; ``mark`` is for what knows no place of its own."""
        for problem in error.problems:
            if problem.mark is None:
                problem = replace(problem, mark=mark)  # noqa: PLW2901
            frames = (frame_of(text, host) for text in (problem.what, problem.hint))
            found = self.hosts.setdefault((problem.mark, *frames), [])
            if (host, problem) not in found[-1:]:  # several of its steps may have it
                found.append((host, problem))

    def raise_any(self) -> None:
        """Raise DefinitionError with everything that was found, or return."""
        for found in self.hosts.values():
            where = "" if self.count == 1 else f" (on {fold(host for host, _ in found)})"
            what = fold_messages((host, problem.what) for host, problem in found)
            hint = fold_messages((host, problem.hint) for host, problem in found)
            self.add(what + where, found[0][1].mark, hint)
        super().raise_any()
