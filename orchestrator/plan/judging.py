"""Whether a step failed, changed something, and is to be tried again: on the host, or here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from orchestrator.model.condition import Always, Condition
from orchestrator.model.result import Result
from orchestrator.plan.conditions import FINAL, Conditions, Standing, WithResult, hold, source_of
from orchestrator.plan.model import Again, Results, Verdict
from orchestrator.plan.walk import Flat
from orchestrator.tasks.model import Judgement

if TYPE_CHECKING:
    pass


class Judging:
    """The judgements of one step. ``withheld``: a check does not run it."""

    def __init__(
        self,
        flat: Flat,
        standing: Standing,
        conditions: Conditions,
        *,
        withheld: bool,
    ) -> None:
        self.flat, self.step, self.standing, self.conditions = flat, flat.step, standing, conditions
        self.withheld = withheld

    def own(
        self, judgements: tuple[Judgement, ...] | None, without: Condition | None
    ) -> Condition | None:
        """A judgement that the host makes; where only this side can, the host says no."""
        if judgements is None:
            return without
        compiled = self.conditions.own(judgements)
        return Always(False) if compiled is None else compiled

    def _judgements(self) -> Iterable[tuple[str, tuple[Judgement, ...]]]:
        if self.step.failed_when is not None:
            yield "failed_when", self.step.failed_when
        if self.step.changed_when is not None:
            yield "changed_when", self.step.changed_when

    def here(self) -> frozenset[str]:
        """Which of its judgements only this side can make, once its output is here."""
        found = set()
        for what, judgements in self._judgements():
            if self.conditions.own(judgements) is None:
                found.add(what)
                self._known(judgements)
        return frozenset(found)

    def _known(self, judgements: Iterable[Judgement]) -> None:
        for judgement in judgements:
            if not isinstance(judgement, bool):
                self.flat.caller.check(judgement.names - {"result"}, judgement.mark)

    def judge(self, results: Results, result: Result) -> Verdict:
        """Make those judgements."""
        self.standing.take({**results, FINAL: True})
        scope = WithResult(self.flat.caller, result)
        verdict = {what: hold(judgements, scope) for what, judgements in self._judgements()}
        return Verdict(verdict.get("failed_when"), verdict.get("changed_when"))

    def again(self) -> Again | None:
        """How often it is tried, and until when."""
        again = self.step.again
        if again is None or self.withheld:
            return None
        self._known(again.until)

        def holds(results: Results, result: Result) -> bool:
            self.standing.take({**results, FINAL: True})
            if not again.until:
                return not result.failed
            return hold(again.until, WithResult(self.flat.caller, result))

        said = " and ".join(map(source_of, again.until)) or "not result.failed"
        return Again(holds, said, again.retries, again.delay)
