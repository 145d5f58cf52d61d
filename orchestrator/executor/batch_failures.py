"""Decides whether an app run goes on after a batch that failed (``on_batch_failure: continue``)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from orchestrator.planner.plan import BatchScope, PlannedTask


class BatchFailures:
    """The batches of one app run that have failed."""

    def __init__(self, planned_tasks: Sequence[PlannedTask]) -> None:
        """Start without failed batches."""
        self._planned_tasks = planned_tasks
        self._failed: set[tuple[int, int]] = set()

    def add(self, number: int, stopped: Collection[str]) -> BatchScope | None:
        """Record that planned task ``number`` failed, and return its batch if only this one ends.

        ``stopped`` are the hosts of the task that have stopped. Return None if the app run has to
        end: without ``on_batch_failure: continue``; if a host outside of the batch has stopped, or
        a ``once`` task failed or has not run, because the next batches need them; and if all
        batches have failed.
        """
        scope = self._planned_tasks[number].batch_scope
        if scope is None or set(stopped) - set(scope.hosts):
            return None
        rest = self._planned_tasks[number:]
        if any(task.once for task in rest if task.batch_scope == scope):
            return None
        self._failed.add((scope.item, scope.number))
        numbers = {
            task.batch_scope.number
            for task in self._planned_tasks
            if task.batch_scope and task.batch_scope.item == scope.item
        }
        has_other = any((scope.item, other) not in self._failed for other in numbers)
        return scope if has_other else None

    def has_failed(self, planned_task: PlannedTask) -> bool:
        """Return True if the task is part of a batch that has failed."""
        scope = planned_task.batch_scope
        return scope is not None and (scope.item, scope.number) in self._failed
