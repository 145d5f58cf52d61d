"""From a step as written to what one host is sent: now, or once a result is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from orchestrator.errors import DefinitionError, Mark, Problem, nearest
from orchestrator.model.command import Command
from orchestrator.model.condition import Always, Condition
from orchestrator.model.result import Result
from orchestrator.plan import text
from orchestrator.plan.conditions import (
    FINAL,
    NOTHING,
    Conditions,
    Standing,
    WithResult,
    hold,
    source_of,
)
from orchestrator.plan.frame import Frame
from orchestrator.plan.model import Again, PlannedStep, Program, Results, Ruling, Verdict
from orchestrator.plan.options import folder, number_of_seconds, option, variables
from orchestrator.plan.rulings import rule
from orchestrator.plan.walk import Flat, Seen
from orchestrator.tasks.model import Control, Judgement, Run
from orchestrator.templating import Expression, Waits


class StepPlanner:
    """Plans one step of one host.

    ``outer`` is the host's environment; ``unfold`` makes the program of a loop, once its items
    are known.
    """

    def __init__(
        self,
        flat: Flat,
        standing: Standing,
        outer: Mapping[str, Seen],
        unfold: Callable[[Flat, Results], Program],
    ) -> None:
        self.flat, self.standing, self.outer, self.unfold = flat, standing, outer, unfold
        self.frame, self.step = flat.frame, flat.step
        self.run = self.step.does if isinstance(self.step.does, Run) else None
        elsewhere = flat.around.delegate is not None or self.run is None
        self.conditions = Conditions(flat, standing, elsewhere=elsewhere)

    def plan(self) -> PlannedStep:
        """The step: final, waiting, or skipped. Raises DefinitionError."""
        self.standing.take(NOTHING)
        base = self._base()
        if base.skip:
            return base
        try:
            made = self._make()
        except Waits as waits:
            self._check_names()
            names = tuple(sorted((waits.names | self._awaited()) & self.frame.host.known()))
            return replace(base, waits=names, later=self._later)
        if isinstance(made, str):
            return replace(base, skip=made)
        if isinstance(made, Ruling):
            return replace(base, ruling=made)
        return replace(base, shown=made.text, command=made)

    def _base(self) -> PlannedStep:
        judged = self._judged()
        around, step = self.flat.around, self.step
        heard = step.register != "" or bool(around.notify)
        return PlannedStep(
            number=self.flat.number,
            name=self._name(),
            mark=step.mark,
            shown=self._source(),
            when=" and ".join(source_of(j) for j, _ in around.when if j is not True),
            skip=around.excluded,
            register=step.register,
            readonly=self.run.readonly if self.run else not self.flat.loops,
            stops="failed_when" in judged or ("changed_when" in judged and heard),
            judge=self._judge if judged else None,
            again=self._again(),
            notify=tuple(map(str, around.notify)),
            handler=self.flat.handler,
            on=self._delegate(),
        )

    def _delegate(self) -> str:
        """The host that runs it instead, if any; it must be one of the stage's."""
        seen = self.flat.around.delegate
        if seen is None:
            return ""
        name = option(seen.what, seen.frame, "delegate_to") or ""
        known = self.frame.host.objects["hosts"]
        if isinstance(known, Mapping) and name not in known:
            what = f"no host '{name}' in this stage, to delegate to"
            raise DefinitionError(Problem(what, seen.what.mark, nearest(name, known)))
        return name

    def _later(self, results: Results) -> Command | Ruling | Program | str:
        self.standing.take(results)
        if self.flat.loops:
            return self.unfold(self.flat, results)
        return self._make()

    def _make(self) -> Command | Ruling | str:
        if self.flat.loops:
            raise Waits(self._awaited())
        when = self.conditions.when()
        if isinstance(when, str):
            return when
        if isinstance(self.step.does, Control):
            return rule(self.step.does, self.frame) if when == Always(True) else "when"
        if self.run is None:
            raise TypeError("a walk gives commands, controls and loops")
        return "when" if when == Always(False) else self._command(self.run, when)

    def _command(self, run: Run, when: Condition) -> Command:
        around = self.flat.around
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
            when=when,
            fails=self._own(self.step.failed_when, None),
            changes=self._own(self.step.changed_when, Always(not run.readonly)) or Always(False),
            ignore=hold((self.step.ignore_errors,), self.frame),
        )

    def _own(
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

    def _judged(self) -> frozenset[str]:
        """Which of its judgements only this side can make, once its output is here."""
        found = set()
        for what, judgements in self._judgements():
            if self.conditions.own(judgements) is None:
                found.add(what)
                self._check(judgements)
        return frozenset(found)

    def _check(self, judgements: Iterable[Judgement]) -> None:
        for judgement in judgements:
            if isinstance(judgement, Expression):
                self.frame.check(judgement.names - {"result"}, judgement.mark)

    def _judge(self, results: Results, result: Result) -> Verdict:
        self.standing.take({**results, FINAL: True})
        scope = WithResult(self.frame, result)
        verdict = {what: hold(judgements, scope) for what, judgements in self._judgements()}
        return Verdict(verdict.get("failed_when"), verdict.get("changed_when"))

    def _again(self) -> Again | None:
        again = self.step.again
        if again is None:
            return None
        self._check(again.until)

        def holds(results: Results, result: Result) -> bool:
            self.standing.take({**results, FINAL: True})
            if not again.until:
                return not result.failed
            return hold(again.until, WithResult(self.frame, result))

        said = " and ".join(map(source_of, again.until)) or "not result.failed"
        return Again(holds, said, again.retries, again.delay)

    def _name(self) -> str:
        own = ""
        if self.step.name:
            try:
                own = self.step.name.render(self.frame)
            except Waits:
                own = self.step.name.source
        first = self._source().strip().split("\n", 1)[0]
        shown = own or (first if len(first) <= 60 else first[:59] + "…")
        handler = (f"handler {self.flat.handler}",) if self.flat.handler else ()
        label = f" ({self.flat.label})" if self.flat.label else ""
        return " › ".join((*handler, *self.flat.around.path, shown)) + label

    def _source(self) -> str:
        if self.run is not None:
            return self.run.text.source if self.run.text else self.run.literal
        if isinstance(self.step.does, Control):
            return self.step.does.kind
        return getattr(self.step.does, "task", "block")

    def _templates(self) -> Iterable[tuple[frozenset[str], Frame, Mark]]:
        around = self.flat.around
        if self.run is not None:
            run = self.run
            for own in (run.text, run.stdin, run.creates, run.removes, run.unless, run.onlyif):
                if own is not None:
                    yield own.names, self.frame, own.mark
        if isinstance(self.step.does, Control):
            value = self.step.does.value
            yield value.names, self.frame, value.mark
            for that in self.step.does.that:
                if isinstance(that, Expression):
                    yield that.names, self.frame, that.mark
        if self.step.loop is not None and self.flat.loops:
            yield self.step.loop.over.names, self.frame, self.step.loop.over.mark
        for seen in (around.chdir, around.timeout, *(s for _, s in around.environment)):
            if seen is not None:
                yield seen.what.names, seen.frame, seen.what.mark
        for judgement, frame in around.when:
            if isinstance(judgement, Expression):
                yield judgement.names, frame, judgement.mark

    def _check_names(self) -> None:
        for names, frame, mark in self._templates():
            frame.check(names - {"item"} if self.flat.loops else names, mark)

    def _awaited(self) -> set[str]:
        named = {name for names, _, _ in self._templates() for name in names}
        standing = self.standing
        return {n for n in named if n in standing.registered and n not in standing.settled}
