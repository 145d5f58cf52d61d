"""What a step's conditions come to on one host: known here, judged there, or still open.

Whether a step failed, changed something, and is to be tried again: on the host, or here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from orchestrator import templating
from orchestrator.model.condition import All, Always, Any, Condition, Is
from orchestrator.model.marked_value import Value
from orchestrator.model.registered_result import Result
from orchestrator.planner.host_scope import HOPS, OWN, Place
from orchestrator.planner.plan import Again, Results, Verdict
from orchestrator.planner.task_expander import Flat
from orchestrator.planner.task_scope import Frame
from orchestrator.playbook.model import Judgement
from orchestrator.templating import Scope, Waits
from orchestrator.templating.scope import heard_by, unhear

if TYPE_CHECKING:
    pass
    pass


class Standing(Struct, frozen=True):
    """Where a step stands on its host's way.

    ``registered`` is what steps before it register, with their numbers in this task;
    ``settled`` are results that are known already, of steps that will not run; ``lenient``
    are names whose results are none if they never came (in a rollback); ``made`` are those of the
    registered names that `set` gives their values; ``own`` are those of the settled ones whose
    values no host had a part in, ``clean`` those that will be such, as far as names tell.
    """

    place: Place
    registered: Mapping[str, tuple[int, ...]]
    settled: Results
    lenient: frozenset[str] = frozenset()
    made: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()
    clean: frozenset[str] = frozenset()

    def take(self, results: Results) -> None:
        """Have templates see the host from here, with these results."""
        self.place.results = {**self.settled, **results}
        self.place.registered = self.registered
        self.place.made = self.made
        self.place.clean = self.clean
        self.place.own = (self.own - results.keys()) | results.get(OWN, frozenset())
        self.place.final = FINAL in results
        self.place.lenient = self.lenient if FINAL in results else frozenset()


FINAL = "no more to come"
"""Under this name, which no template can have, results say that no step is on its way any more:
a name whose step was not come to means what it would without that step."""

NOTHING: Results = {}
"""The results at the time of planning: none is known, and none is missing either."""


class Conditions:
    """Compiles and judges the conditions of one step."""

    def __init__(self, flat: Flat, standing: Standing, *, elsewhere: bool = False) -> None:
        self.flat, self.standing = flat, standing
        self.elsewhere = elsewhere  # its host's shell does not know this host's steps

    def when(self) -> Condition | str:
        """The condition to run, or why it does not. Raises Waits and DefinitionError."""
        if self.flat.around.excluded:
            return self.flat.around.excluded
        found: list[Condition] = []
        if self.flat.notified_by:
            found.append(self._notified())
        for judgement, frame in self.flat.around.when:
            condition = self._one(judgement, frame)
            if condition == Always(False):
                return f"when: {source_of(judgement)}"
            found.append(condition)
        return all_of(found)

    def own(self, judgements: tuple[Judgement, ...]) -> Condition | None:
        """Judgements over the step's own end as the host can make them; None where it cannot."""
        found: list[Condition] = []
        frame = self.flat.caller
        for judgement in judgements:
            if isinstance(judgement, bool):
                found.append(Always(judgement))
                continue
            try:
                condition = templating.condition(
                    judgement, lambda name: self._number(name, frame, own=True), frame
                )
            except Waits:
                return None
            if condition is None:
                return None
            found.append(condition)
        return all_of(found)

    def _notified(self) -> Condition:
        if self.elsewhere:
            results = self.standing.place.results
            changed = results.get(NOTIFIED, frozenset())
            if NOTIFIED not in results:
                raise Waits({NOTIFIED})
            return Always(self.flat.handler in changed)
        return any_of([Is(number, "changed") for number in self.flat.notified_by])

    def _one(self, judgement: Judgement, frame: Frame) -> Condition:
        if isinstance(judgement, bool):
            return Always(judgement)
        compiled = templating.condition(judgement, lambda name: self._number(name, frame), frame)
        return Always(judgement.holds(frame)) if compiled is None else compiled

    def _number(self, name: str, frame: Frame, own: bool = False) -> int | None:
        """The step of this task that will register the name, while it is not known here."""
        if own and name == "result":
            return self.flat.number
        place = self.standing.place
        if self.elsewhere or name in frame.task.params or name in place.results:
            return None
        numbers = self.standing.registered.get(name, ())
        return numbers[0] if len(numbers) == 1 else None


NOTIFIED = "handlers notified"
"""Under this name, which no template can have, results hold the handlers notified so far."""


class WithResult:
    """A scope in which ``result`` is the step's own."""

    __slots__ = ("result", "scope")

    def __init__(self, scope: Scope, result: Result) -> None:
        self.scope, self.result = scope, result

    def resolve(self, name: str) -> object:
        """The step's own result, or what the scope knows."""
        return self.result if name == "result" else self.scope.resolve(name)

    def from_host(self, name: str) -> bool:
        """Whether text from a host can be reached by this name."""
        return name == "result" or self.scope.from_host(name)

    def names(self) -> Iterable[str]:
        """Every name that is known."""
        return {"result", *self.scope.names()}

    @property
    def heard(self) -> int:
        """How often a value was taken that a host had a part in."""
        return heard_by(self.scope)

    @heard.setter
    def heard(self, heard: int) -> None:
        unhear(self.scope, heard)

    def hint(self, name: str) -> str:
        """Return what to write in place of a name that does not exist, or ''."""
        return self.scope.hint(name)

    def origin(self, name: str, hops: int = HOPS) -> Value | None:
        """Return what the name stands for as it was written."""
        return None if name == "result" else self.scope.origin(name, hops)


def hold(judgements: Iterable[Judgement], scope: Scope) -> bool:
    """Whether all of them hold, here and now."""
    return all(j if isinstance(j, bool) else j.holds(scope) for j in judgements)


def source_of(judgement: Judgement) -> str:
    """A judgement as it was written."""
    return str(judgement).lower() if isinstance(judgement, bool) else judgement.source


def all_of(conditions: Iterable[Condition]) -> Condition:
    """Every one of them, in as few words as it takes."""
    needed = tuple(c for c in conditions if c != Always(True))
    if len(needed) == 1:
        return needed[0]
    return All(needed) if needed else Always(True)


def any_of(conditions: list[Condition]) -> Condition:
    """At least one of them."""
    return conditions[0] if len(conditions) == 1 else Any(tuple(conditions))


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
