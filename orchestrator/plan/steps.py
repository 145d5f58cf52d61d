"""From a step as written to what one host is sent: now, or once a result is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from orchestrator import templating
from orchestrator.model.command import Command
from orchestrator.model.condition import All, Always, Any, Condition, Is, Not
from orchestrator.model.result import Result
from orchestrator.plan import text
from orchestrator.plan.frame import Frame
from orchestrator.plan.model import PlannedStep, Results, Verdict
from orchestrator.plan.options import folder, number_of_seconds, option, variables
from orchestrator.plan.scope import Place
from orchestrator.plan.walk import Flat, Seen
from orchestrator.tasks.model import Judgement, Run
from orchestrator.templating import Expression, Scope, Waits


class StepPlanner:
    """Plans one step of one host.

    ``registered`` is what steps before it register; ``settled`` are the results that are
    known already, of steps that will not run; ``outer`` is the host's environment.
    """

    def __init__(
        self,
        flat: Flat,
        run: Run,
        place: Place,
        registered: Mapping[str, tuple[int, ...]],
        settled: Results,
        outer: Mapping[str, Seen],
    ) -> None:
        self.flat, self.run, self.place = flat, run, place
        self.registered, self.settled, self.outer = registered, settled, outer
        self.frame, self.step = flat.frame, flat.step

    def plan(self) -> PlannedStep:
        """The step: final, waiting, or skipped. Raises DefinitionError."""
        self._stand({})
        judged = self._judged()
        base = PlannedStep(
            number=self.flat.number,
            name=self._name(),
            mark=self.step.mark,
            shown=self.run.text.source if self.run.text else self.run.literal,
            when=" and ".join(_source(j) for j, _ in self.flat.around.when if j is not True),
            register=self.step.register,
            readonly=self.run.readonly,
            stops="failed_when" in judged
            or ("changed_when" in judged and self.step.register != ""),
            judge=self._judge if judged else None,
        )
        if self.flat.excluded:
            return replace(base, skip=self.flat.excluded)
        try:
            made = self._command(judged)
        except Waits as waits:
            self._check_names()
            names = tuple(sorted(waits.names | self._awaited()))
            return replace(base, waits=names, later=lambda results: self._later(results, judged))
        if isinstance(made, str):
            return replace(base, skip=made)
        return replace(base, shown=made.text, command=made)

    def _later(self, results: Results, judged: frozenset[str]) -> Command | str:
        self._stand(results)
        return self._command(judged)

    def _stand(self, results: Results) -> None:
        self.place.results = {**self.settled, **results}
        self.place.registered = self.registered

    def _command(self, judged: frozenset[str]) -> Command | str:
        run, around = self.run, self.flat.around
        conditions: list[Condition] = []
        for judgement, frame in around.when:
            condition = self._condition(judgement, frame)
            if condition == Always(False):
                return f"when: {_source(judgement)}"
            conditions.append(condition)
        if self.flat.mates:
            conditions.append(Not(Any(tuple(Is(mate, "failed") for mate in self.flat.mates))))
        body = run.text.render(self.frame) if run.text else run.literal
        chdir, environment = folder(around.chdir), variables(self.outer, around.environment)
        guard = text.guard(
            option(run.creates, self.frame, "creates", path=True),
            option(run.removes, self.frame, "removes", path=True),
            run.unless.render(self.frame) if run.unless else None,
            run.onlyif.render(self.frame) if run.onlyif else None,
        )
        return Command(
            step=self.flat.number,
            text=text.script(body, chdir, environment),
            shell=run.shell,
            timeout=number_of_seconds(around.timeout),
            stdin=option(run.stdin, self.frame, "stdin"),
            guard=text.script(guard, chdir, environment, bail=" || exit 2") if guard else "",
            when=_all(conditions),
            fails=self._own(self.step.failed_when, "failed_when" in judged),
            changes=self._changes("changed_when" in judged),
            ignore=self.flat.tolerated or self._ignores(),
        )

    def _condition(self, judgement: Judgement, frame: Frame) -> Condition:
        """A condition as the host can judge it, or as it is known here. May raise Waits."""
        if isinstance(judgement, bool):
            return Always(judgement)
        compiled = templating.condition(judgement, lambda name: self._number(name, frame), frame)
        return Always(judgement.holds(frame)) if compiled is None else compiled

    def _number(self, name: str, frame: Frame, own: bool = False) -> int | None:
        """The step of this task that will register the name, while it is not known here."""
        if own and name == "result":
            return self.flat.number
        if name in frame.task.params or name in self.place.results:
            return None
        numbers = self.registered.get(name, ())
        return numbers[0] if len(numbers) == 1 else None

    def _compiled(self, judgements: Iterable[Judgement]) -> list[Condition] | None:
        found: list[Condition] = []
        for judgement in judgements:
            if isinstance(judgement, bool):
                found.append(Always(judgement))
                continue
            try:
                condition = templating.condition(
                    judgement, lambda name: self._number(name, self.frame, own=True), self.frame
                )
            except Waits:
                return None
            if condition is None:
                return None
            found.append(condition)
        return found

    def _judged(self) -> frozenset[str]:
        """Which of its judgements only this side can make, once its output is here."""
        found = set()
        for what, judgements in self._judgements():
            if self._compiled(judgements) is None:
                found.add(what)
                for judgement in judgements:
                    if isinstance(judgement, Expression):
                        self.frame.check(judgement.names - {"result"}, judgement.mark)
        return frozenset(found)

    def _judgements(self) -> Iterable[tuple[str, tuple[Judgement, ...]]]:
        if self.step.failed_when is not None:
            yield "failed_when", self.step.failed_when
        if self.step.changed_when is not None:
            yield "changed_when", self.step.changed_when

    def _own(self, judgements: tuple[Judgement, ...] | None, here: bool) -> Condition | None:
        if judgements is None:
            return None
        return Always(False) if here else _all(self._compiled(judgements) or [])

    def _changes(self, here: bool) -> Condition:
        if self.step.changed_when is None:
            return Always(not self.run.readonly)
        return self._own(self.step.changed_when, here) or Always(False)

    def _ignores(self) -> bool:
        ignored = self.step.ignore_errors
        return ignored if isinstance(ignored, bool) else ignored.holds(self.frame)

    def _judge(self, results: Results, result: Result) -> Verdict:
        self._stand(results)
        scope = WithResult(self.frame, result)
        verdict = {what: all(_truth(j, scope) for j in js) for what, js in self._judgements()}
        return Verdict(verdict.get("failed_when"), verdict.get("changed_when"))

    def _name(self) -> str:
        own = ""
        if self.step.name:
            try:
                own = self.step.name.render(self.frame)
            except Waits:
                own = self.step.name.source
        source = self.run.text.source if self.run.text else self.run.literal
        first = source.strip().split("\n", 1)[0]
        shown = own or (first if len(first) <= 60 else first[:59] + "…")
        return " › ".join((*self.flat.path, shown))

    def _templates(self) -> Iterable[tuple[frozenset[str], Frame, templating.Marked]]:
        run, around = self.run, self.flat.around
        for own in (run.text, run.stdin, run.creates, run.removes, run.unless, run.onlyif):
            if own is not None:
                yield own.names, self.frame, own
        for seen in (around.chdir, around.timeout, *(s for _, s in around.environment)):
            if seen is not None:
                yield seen.what.names, seen.frame, seen.what
        for judgement, frame in around.when:
            if isinstance(judgement, Expression):
                yield judgement.names, frame, judgement

    def _check_names(self) -> None:
        for names, frame, template in self._templates():
            frame.check(names, template.mark)

    def _awaited(self) -> set[str]:
        named = {name for names, _, _ in self._templates() for name in names}
        return {name for name in named if name in self.registered and name not in self.settled}


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


def _truth(judgement: Judgement, scope: Scope) -> bool:
    return judgement if isinstance(judgement, bool) else judgement.holds(scope)


def _source(judgement: Judgement) -> str:
    return str(judgement).lower() if isinstance(judgement, bool) else judgement.source


def _all(conditions: list[Condition]) -> Condition:
    needed = tuple(c for c in conditions if c != Always(True))
    if len(needed) == 1:
        return needed[0]
    return All(needed) if needed else Always(True)
