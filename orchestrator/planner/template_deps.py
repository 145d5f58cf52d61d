"""The names that a step's templates need: whether they can be there, and what is waited for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from orchestrator import templating
from orchestrator.errors import DefinitionError
from orchestrator.planner import module_script
from orchestrator.planner.host_scope import HostScope
from orchestrator.planner.step_conditions import Standing
from orchestrator.planner.task_expander import Flat, Seen, loop_items
from orchestrator.planner.task_scope import Frame
from orchestrator.planner.template_objects import check_fields
from orchestrator.playbook.model import ArgumentTemplate, Control, Download, Module, Run
from orchestrator.templating import Scope, Waits
from orchestrator.templating.scope import Named

if TYPE_CHECKING:
    from orchestrator.templating import ShellTemplate, TextTemplate, ValueTemplate

    Template: TypeAlias = ShellTemplate | TextTemplate | ValueTemplate


class Needs:
    """All templates of one step, each with the frame that it is seen from."""

    def __init__(self, flat: Flat, outer: Mapping[str, Seen]) -> None:
        self.flat, self.outer = flat, outer
        self.frame, self.step = flat.frame, flat.step

    def _written(self) -> Iterable[tuple[Template, Frame]]:
        """Those that the project's author wrote where they are rendered."""
        does, around = self.step.does, self.flat.around
        if isinstance(does, Run):
            for own in (
                does.text,
                does.stdin,
                does.creates,
                does.removes,
                does.unless,
                does.onlyif,
            ):
                if own is not None:
                    yield own, self.frame
        if isinstance(does, Module):
            for value in self.frame.written.values():
                yield _template(value), self.flat.caller
            file = module_script.template_of(does, self.frame)
            if file is not None:
                yield file, self.flat.caller
        if isinstance(does, Control):
            yield does.value, self.frame
        for seen in (around.chdir, *(s for _, s in around.environment)):
            if seen is not None:
                yield seen.what, seen.frame

    def _templates(self) -> Iterable[tuple[Named, Frame]]:
        around = self.flat.around
        does = self.step.does
        if isinstance(does, Run):
            run = does
            for own in (run.text, run.stdin, run.creates, run.removes, run.unless, run.onlyif):
                if own is not None:
                    yield own, self.frame
        if isinstance(does, Module):
            yield from self._of_module(does)
        if isinstance(does, Download):
            for own in (does.path, does.to):
                yield own, self.frame
        if isinstance(does, Control):
            yield does.value, self.frame
            for that in does.that:
                if not isinstance(that, bool):
                    yield that, self.frame
        if self.step.loop is not None and self.flat.loops:
            yield self.step.loop.over, self.frame
        for seen in (
            around.chdir,
            around.timeout,
            around.become,
            *(s for _, s in around.environment),
        ):
            if seen is not None:
                yield seen.what, seen.frame
        for judgement, frame in around.when:
            if not isinstance(judgement, bool):
                yield judgement, frame

    def _of_module(self, module: Module) -> Iterable[tuple[Named, Frame]]:
        for script in (module.functions, module.probe, *(fix.text for fix in module.fixes)):
            if script is not None:
                yield script, self.frame
        payloads = (each for load in module.payloads for each in (load.what, load.exclude))
        for value in (*module.want.values(), *payloads, module.tries, module.within):
            if value is not None:
                yield value, self.frame
        for argument in self.frame.written.values():
            yield argument, self.flat.caller
        file = module_script.template_of(module, self.frame)
        if file is not None:
            yield file, self.flat.caller

    def check(self) -> None:
        """Raise DefinitionError where a name can never be resolved."""
        for template, frame in self._templates():
            names = template.names - {"item"} if self.flat.loops else template.names
            frame.check(names, template.mark)
            self._fields(template, frame)
            frame.ask(template.names | template.optional)
        for seen in self.outer.values():
            with suppress(Waits):
                seen.what.render(seen.frame)

    def check_known(self, standing: Standing) -> None:
        """Raise DefinitionError where something written can never be rendered, whatever the
        results are that the step waits for.

        What an open condition asks for is left alone: it may be what makes the rest right.
        """
        open_names = {"facts", "hosts", "item"} | (standing.registered.keys() - standing.settled)
        for judgement, _ in self.flat.around.when:
            if not isinstance(judgement, bool):
                open_names |= judgement.names | judgement.optional
        for template, scope in self._reached():
            names = template.names | template.optional
            unknown = frozenset(n for n in names if n in open_names or _waits(scope, n))
            with suppress(Waits):
                templating.check_known(template, scope, unknown)

    def _reached(self) -> Iterator[tuple[Template, Scope]]:
        """What is written, and what gives the names in it their values, as far as that waits."""
        found: list[tuple[Template, Scope]] = list(self._written())
        seen: set[tuple[int, str]] = set()
        for template, scope in found:  # it grows
            yield template, scope
            if not isinstance(scope, Frame | HostScope):
                continue
            for name in templating.names_in_any_case(template):
                if (id(scope), name) not in seen and _waits(scope, name):
                    seen.add((id(scope), name))
                    behind = scope.behind(name)
                    found += [(_template(behind[0]), behind[1])] if behind is not None else []

    def check_judged(self) -> None:
        """Raise DefinitionError where a condition on the step's own result names a field that no
        result has."""
        step = self.step
        until = step.again.until if step.again else ()
        judged = (*(step.changed_when or ()), *(step.failed_when or ()), *until)
        for judgement in judged:
            if not isinstance(judgement, bool):
                self._fields(judgement, self.flat.caller)

    def _fields(self, template: Named, frame: Frame) -> None:
        own = {*frame.task.params, *frame.extra}
        place = frame.host.place
        uses = [use for use in template.fields if use.name not in own]
        check_fields(uses, place.registered.keys() - place.made)

    def items(self) -> frozenset[str]:
        """What the items of a loop wait for, also of other hosts."""
        try:
            loop_items(self.step, self.frame)
        except Waits as waits:
            return waits.names
        return frozenset()

    def awaited(self, standing: Standing) -> set[str]:
        """The names that it needs and that are still to come."""
        named = {name for template, _ in self._templates() for name in template.names}
        waited = {n for n in named if n in standing.registered and n not in standing.settled}
        return waited | ({"facts"} & named)


def _waits(scope: Scope, name: str) -> bool:
    """Return whether a name leads to a result that is still to come."""
    try:
        scope.resolve(name)
    except Waits:
        return True
    except (DefinitionError, KeyError):
        return False  # rendering says what is wrong, if it comes to that
    return False


def _template(written: ArgumentTemplate) -> Template:
    """Return the template of a param's value; of a command, that of its text."""
    from orchestrator.templating import CommandTemplate

    return written.template if isinstance(written, CommandTemplate) else written
