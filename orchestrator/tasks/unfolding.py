"""How much tasks are once their calls are unfolded: circles and what never ends are refused."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from orchestrator.errors import Mark, Problem, Problems
from orchestrator.tasks.model import Task

MOST_STEPS = 20_000
"""How many steps a task may have on one host, those of loops and called tasks included."""
MOST_LEVELS = 50
"""How deep tasks may call each other."""


def refuse_endless(by_name: Mapping[str, Task], problems: Problems) -> None:
    """Note tasks that call each other in a circle, too deeply or too often."""
    hooks: dict[str, list[Task]] = {}
    for task in by_name.values():
        for hooked in {*task.before, *task.after, *task.failed}:
            hooks.setdefault(hooked, []).append(task)
    unfolding = _Unfolding(by_name, hooks, problems)
    for name, task in by_name.items():
        size = unfolding.visit(name, (), task.mark)
        if size.levels > MOST_LEVELS:
            what = f"tasks call each other more than {MOST_LEVELS} levels deep below '{name}'"
            problems.found.append(Problem(what, task.mark))
            return
        if size.steps > MOST_STEPS:
            what = f"task '{name}' has more than {MOST_STEPS} steps, with those of what it calls"
            problems.found.append(Problem(what, task.mark))
            return


class _Size(Struct, frozen=True):
    steps: int = 0
    levels: int = 0


class _Unfolding(Struct):
    by_name: Mapping[str, Task]
    hooks: Mapping[str, list[Task]]
    problems: Problems
    sizes: dict[str, _Size] = field(default_factory=dict)

    def visit(self, name: str, path: tuple[str, ...], mark: Mark) -> _Size:
        """Return how much the task is with all below it, or what is known of that where it stands
        below itself."""
        if name in path:
            circle = " → ".join((*path[path.index(name) :], name))
            what = f"tasks that call each other in a circle: {circle}"
            self.problems.found.append(Problem(what, mark))
            return _Size()
        if len(path) > MOST_LEVELS:
            return _Size()
        if name not in self.sizes:
            task, inner = self.by_name[name], (*path, name)
            below = [self.visit(call.task, inner, call.mark) for call in task.calls()]
            below += [
                self.visit(hook.name, inner, hook.mark)
                for hook in self.hooks.get(name, ())
                if hook.name not in inner  # the planner tells of circles of hooks
            ]
            steps = sum(1 for _ in task.all_steps()) + sum(each.steps for each in below)
            levels = max((each.levels + 1 for each in below), default=0)
            self.sizes[name] = _Size(min(steps, MOST_STEPS + 1), levels)
        return self.sizes[name]
