"""What a check makes of steps that hang on others which it did not run."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from orchestrator.errors import OrchError
from orchestrator.execute.progress import Progress
from orchestrator.execute.recorder import Recorder
from orchestrator.model.command import Command
from orchestrator.model.condition import All, Always, Any, Condition, Exit, Is, Not
from orchestrator.model.outcome import Outcome, Status
from orchestrator.plan.model import PlannedStep


class Checked:
    """One task's way over one host, as a check sees it; does nothing in any other run.

    Paths that a step would make are kept in the progress for the tasks after this one.
    """

    def __init__(self, recorder: Recorder, progress: Progress) -> None:
        self._recorder, self._progress = recorder, progress
        self._here: list[tuple[int, tuple[str, ...]]] = []

    def seen(self, step: PlannedStep, command: Command) -> Command | Outcome:
        """The command as it is to be sent, or what is known of it already."""
        unknown = self._recorder.unknown
        if unknown:
            asked = (command.when, command.fails, command.changes)
            for number in (n for condition in asked if condition for n in mentioned(condition)):
                if number in unknown:
                    what = f"it hangs on '{unknown[number]}', which is not known"
                    return Outcome(Status.UNKNOWN, reason=what)
        if not command.check:
            return command
        below = self._below(step)
        if step.paths and not step.fetches:
            self._here.append((step.number, step.paths))
        return replace(command, below=below) if command.wanted else command

    def _below(self, step: PlannedStep) -> Condition:
        """Whether a step before this one would make something at or above one of its paths."""
        if not step.paths:
            return Always(False)
        if any(_leads(paths, step.paths) for paths in self._progress.withheld):
            return Always(True)
        here = [Is(number, "changed") for number, paths in self._here if _leads(paths, step.paths)]
        return Any(tuple(here)) if here else Always(False)


def mentioned(condition: Condition) -> Iterator[int]:
    """The numbers of the steps that a condition is over."""
    match condition:
        case Is(step) | Exit(step):
            yield step
        case Not(of):
            yield from mentioned(of)
        case All(of) | Any(of):
            for each in of:
                yield from mentioned(each)


def reason_of(error: OrchError) -> str:
    """What an error says, with its place."""
    problem = error.problems[0]
    return f"{problem.mark}: {problem.what}" if problem.mark else problem.what


def _leads(above: Iterable[str], paths: Iterable[str]) -> bool:
    roots = [posixpath.normpath(path) for path in above]
    return any(
        path == root or path.startswith(root.rstrip("/") + "/")
        for path in map(posixpath.normpath, paths)
        for root in roots
    )
