"""Problems of many hosts, told once."""

from __future__ import annotations

from msgspec.structs import replace

from orchestrator.errors import DefinitionError, Mark, Problem, Problems


class HostProblems(Problems):
    """Problems of many hosts: the same one is told once, with the hosts it is found on."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.hosts: dict[Problem, list[str]] = {}

    def on(self, host: str, error: DefinitionError, mark: Mark) -> None:
        """Note what is wrong for one host; ``mark`` is for what knows no place of its own."""
        for problem in error.problems:
            if problem.mark is None:
                problem = replace(problem, mark=mark)  # noqa: PLW2901
            hosts = self.hosts.setdefault(problem, [])
            if host not in hosts[-1:]:  # several of its steps may have it
                hosts.append(host)

    def raise_any(self) -> None:
        """Raise DefinitionError with everything that was found, or return."""
        for problem, found in self.hosts.items():
            hosts = list(dict.fromkeys(found))  # once, however many lanes
            more = f" and {len(hosts) - 3} more" if len(hosts) > 3 else ""
            where = "" if self.count == 1 else f" (on {', '.join(hosts[:3])}{more})"
            self.add(problem.what + where, problem.mark, problem.hint)
        super().raise_any()
