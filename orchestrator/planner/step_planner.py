"""What only this side does: set, fail, assert, wait.

From a step as written to what one host is sent: now, or once a result is there.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from msgspec.structs import replace

from orchestrator.errors import DefinitionError, Mark, Problem, Problems, nearest
from orchestrator.model.command import Command, Effects
from orchestrator.model.condition import Always, Condition
from orchestrator.model.marked_value import Value
from orchestrator.planner import download_script, module_script, shell_text, step_effects
from orchestrator.planner.host_scope import lone_name
from orchestrator.planner.plan import HERE, PlannedStep, Program, Results, Ruling
from orchestrator.planner.request import Ask
from orchestrator.planner.step_conditions import (
    NOTHING,
    Conditions,
    Judging,
    Standing,
    hold,
    source_of,
)
from orchestrator.planner.step_options import (
    folder,
    number_of_seconds,
    option,
    plain_text,
    variables,
)
from orchestrator.planner.task_expander import Flat, Seen
from orchestrator.planner.task_scope import Frame
from orchestrator.planner.template_deps import Needs
from orchestrator.planner.trust_checks import check_exposed, render_own
from orchestrator.playbook.keywords import BECOME_HINT
from orchestrator.playbook.model import Control, Download, Module, Run
from orchestrator.templating import Waits
from orchestrator.yamlio.schema import Reader

if TYPE_CHECKING:
    from orchestrator.templating import ValueTemplate


def rule(control: Control, frame: Frame) -> Ruling:
    """What it comes to on this host. Raises Waits and DefinitionError."""
    if control.kind == "assert":
        return _assert(control, frame)
    heard = frame.host.place.heard
    value = control.value.render(frame)
    mark = control.value.mark
    if control.kind == "set":
        if not isinstance(value, dict):
            raise DefinitionError(Problem("set needs a mapping", mark))
        return Ruling("set", values=value, own=frame.host.place.heard == heard)
    if control.kind == "fail":
        return Ruling("fail", ok=False, message=plain_text(value, "fail", mark))
    problems = Problems()
    data = value if isinstance(value, (str, int, float)) else None
    seconds = Reader(problems).duration(Value(data, mark), "wait")
    problems.raise_any()
    return Ruling("wait", seconds=seconds or 0.0)


def _assert(control: Control, frame: Frame) -> Ruling:
    for judgement in control.that:
        if not hold((judgement,), frame):
            message = plain_text(control.value.render(frame), "message", control.value.mark)
            return Ruling(
                "assert", ok=False, message=message or f"{source_of(judgement)} does not hold"
            )
    return Ruling("assert")


_USER = ("could be anybody", "name the users in the task, one step for each, and choose by `when`")
_HOST = ("could be any host", "name the hosts in the task or by a role: `roles.web[0]`")


class StepPlanner:
    """Plans one step of one host.

    ``outer`` is the host's environment; ``unfold`` makes the program of a loop, once its items
    are known. Under check what may change something is told, and only asks.
    """

    def __init__(
        self,
        flat: Flat,
        standing: Standing,
        outer: Mapping[str, Seen],
        ask: Ask,
        unfold: Callable[[Flat, Results], Program],
    ) -> None:
        self.flat, self.standing, self.outer, self.unfold = flat, standing, outer, unfold
        self.frame, self.step, self.ask = flat.frame, flat.step, ask
        self.run = self.step.does if isinstance(self.step.does, Run) else None
        self.module = self.step.does if isinstance(self.step.does, Module) else None
        self.download = self.step.does if isinstance(self.step.does, Download) else None
        does = self.run or self.module or self.download
        self.readonly = does.readonly if does else not flat.loops
        self.withheld = ask.check and not self.readonly
        elsewhere = flat.around.delegate is not None or flat.around.local or does is None
        self.conditions = Conditions(flat, standing, elsewhere=elsewhere)
        self.needs = Needs(flat, outer)
        self.judging = Judging(flat, standing, self.conditions, withheld=self.withheld)

    def plan(self) -> PlannedStep:
        """The step: final, waiting, or skipped. Raises DefinitionError."""
        self.standing.take(NOTHING)
        self.needs.check_judged()
        base = self._base(self._left_out())
        if base.skip:
            return base
        self._check_sources()
        try:
            made = self._make()
        except Waits as waits:
            self.needs.check()
            self.needs.check_known(self.standing)
            names = tuple(
                sorted((waits.names | self.needs.awaited(self.standing)) & self.frame.host.known())
            )
            return replace(base, waits=names, later=self._later)
        if isinstance(made, str):
            return replace(base, skip=made)
        if isinstance(made, Ruling):
            return replace(base, ruling=made)
        return replace(base, shown=base.shown if made.wanted else made.text, command=made)

    def _check_sources(self) -> None:
        """Raise DefinitionError where text from a host would choose a file of this side."""
        if self.download is not None and not self.flat.loops:
            download_script.check_place(self.download, self.frame)
        if self.module is not None and not self.flat.loops:
            module_script.check_sources(self.module, self.frame)

    def _left_out(self) -> str:
        """Why it will not run, as far as that is known: what it is given then need not be right."""
        if self.flat.loops:
            return self.flat.around.excluded
        try:
            when = self.conditions.when()
        except Waits:
            return ""
        return when if isinstance(when, str) else "when" if when == Always(False) else ""

    def _base(self, left_out: str) -> PlannedStep:
        judged = frozenset[str]() if self.withheld else self.judging.here()
        around, step = self.flat.around, self.step
        heard = step.register != "" or bool(around.notify)
        return PlannedStep(
            number=self.flat.number,
            name=self._name(left_out),
            mark=step.mark,
            shown=self._source(left_out),
            when=" and ".join(source_of(j) for j, _ in around.when if j is not True),
            skip=left_out,
            register=step.register,
            readonly=self.readonly,
            stops="failed_when" in judged or ("changed_when" in judged and heard),
            judge=self.judging.judge if judged else None,
            again=self.judging.again(),
            notify=tuple(map(str, around.notify)),
            handler=self.flat.handler,
            on=self._delegate(),
            user="" if left_out else self._user(),
            sets=step.does.names if isinstance(step.does, Control) else (),
            fetches=self.download is not None and not self.flat.loops,
            written=self._written(),
        )

    def _written(self) -> Mark | None:
        """Where its command stands, if it is that of a variable."""
        name = lone_name(self.run.text.source) if self.run and self.run.text else ""
        written = self.frame.origin(name) if name else None
        return written.mark if written else None

    def _user(self) -> str:
        """Whose shell runs it: `become: true` is root's. Raises DefinitionError if it is empty."""
        seen = self.flat.around.become
        if seen is None or self._of_items(seen):
            return ""
        value = self._early(seen, "become", _USER)
        if isinstance(value, bool):
            return "root" if value else ""
        name = plain_text(value, "become", seen.what.mark) if value is not None else ""
        if not name.strip():
            raise DefinitionError(Problem("`become` is empty", seen.what.mark, BECOME_HINT))
        return name

    def _of_items(self, seen: Seen) -> bool:
        """Whether each item of a loop that is not known yet has its own."""
        return self.flat.loops and "item" in seen.what.names | seen.what.optional

    def _early(self, seen: Seen, what: str, why: tuple[str, str]) -> object:
        """A value that no host has a part in, and that is known before the run begins."""
        try:
            return render_own(seen.what, seen.frame, what, *why)
        except Waits as waits:
            names = ", ".join(f"`{name}`" for name in sorted(waits.names))
            said = f"`{what}` waits for {names}, and has to be known before the run begins"
            raise DefinitionError(Problem(said, seen.what.mark, why[1])) from None

    def _workdir(self, chdir: str | None) -> step_effects.Workdir:
        return step_effects.Workdir(chdir, self._user())

    def _chdir(self) -> str | None:
        """The folder to change to; a local step is in the project's."""
        chdir = folder(self.flat.around.chdir)
        if not self.flat.around.local or (chdir and chdir.startswith("/")):
            return chdir
        return posixpath.join(self.ask.root, chdir or "")

    def _delegate(self) -> str:
        """The host that runs it instead, if any; it must be one of the stage's."""
        if self.flat.around.local:
            return HERE
        seen = self.flat.around.delegate
        if seen is None or self._of_items(seen):
            return ""
        name = plain_text(self._early(seen, "delegate_to", _HOST), "delegate_to", seen.what.mark)
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
            raise Waits(self.needs.awaited(self.standing) | self.needs.items())
        when = self.conditions.when()
        if isinstance(when, str):
            return when
        if isinstance(self.step.does, Control):
            return self._rule(self.step.does) if when == Always(True) else "when"
        if when == Always(False):
            return "when"
        if self.run is not None:
            return self._command(self.run, when)
        if self.download is not None:
            return self._fetching(self.download, when)
        if self.module is None:
            raise TypeError("a walk gives commands, modules, downloads, controls and loops")
        return self._asked(self.module, when)

    def _rule(self, control: Control) -> Ruling:
        made = rule(control, self.frame)
        return replace(made, seconds=0.0) if self.ask.check else made

    def _asked(self, module: Module, when: Condition) -> Command:
        """A module, as it compares and mends what it finds on the host."""
        around = self.flat.around
        check_exposed(module, self.frame)
        wants = module_script.wanted(module, self.frame)
        body = module_script.script(module, self.frame, wants)
        chdir, environment = self._chdir(), variables(self.outer, around.environment)
        return Command(
            step=self.flat.number,
            text=shell_text.script(body, chdir, environment),
            timeout=number_of_seconds(around.timeout),
            when=when,
            fails=None if self.withheld else self.judging.own(self.step.failed_when, None),
            changes=None if self.withheld else self.judging.own(self.step.changed_when, None),
            ignore=hold((self.step.ignore_errors,), self.frame),
            wanted=wants,
            check=self.ask.check,
            show=self.ask.diff,
            contained=hold((module.contained,), self.frame),
            effects=self._module_effects(module, chdir) if self.ask.check else None,
        )

    def _module_effects(self, module: Module, chdir: str | None) -> Effects:
        found = step_effects.of_module(module, self.frame, self._workdir(chdir))
        waits = self.readonly and module_script.patience(module, self.frame) > 0
        return replace(found, waits=waits)

    def _fetching(self, download: Download, when: Condition) -> Command:
        """What asks the host for its file; comparing and reading it is this side's."""
        around = self.flat.around
        chdir, environment = folder(around.chdir), variables(self.outer, around.environment)
        found = download_script.fetch(download, self.frame, self.ask.root)
        timeout = number_of_seconds(around.timeout)
        reading = download_script.reading(found.path, chdir, environment)
        return Command(
            step=self.flat.number,
            text=shell_text.script(download_script.asking(found.path), chdir, environment),
            timeout=download_script.PATIENCE if timeout is None else timeout,
            when=when,
            changes=None,
            ignore=hold((self.step.ignore_errors,), self.frame),
            wanted=download_script.wanted(),
            check=True,
            fetches=replace(found, script=reading, check=self.ask.check, timeout=timeout),
            effects=step_effects.of_download(self._workdir(chdir), found.path)
            if self.ask.check
            else None,
        )

    def _command(self, run: Run, when: Condition) -> Command:
        around = self.flat.around
        body = run.text.render(self.frame) if run.text else run.literal
        chdir, environment = self._chdir(), variables(self.outer, around.environment)
        creates = option(run.creates, self.frame, "creates", path=True)
        known = step_effects.of_command(self._workdir(chdir), creates, readonly=run.readonly)
        guard = shell_text.guard(
            creates,
            option(run.removes, self.frame, "removes", path=True),
            run.unless.render(self.frame) if run.unless else None,
            run.onlyif.render(self.frame) if run.onlyif else None,
        )
        return Command(
            step=self.flat.number,
            text=shell_text.script(body, chdir, environment),
            shell=run.shell,
            timeout=number_of_seconds(around.timeout),
            stdin=option(run.stdin, self.frame, "stdin"),
            guard=shell_text.script(guard, chdir, environment, bail=" || exit 2") if guard else "",
            when=when,
            fails=None if self.withheld else self.judging.own(self.step.failed_when, None),
            changes=self._changes(run),
            ignore=hold((self.step.ignore_errors,), self.frame),
            check=self.withheld,
            contained=run.readonly,
            effects=known if self.ask.check else None,
        )

    def _changes(self, run: Run) -> Condition:
        """Whether it changes something; what is withheld would, if nothing says the contrary."""
        written = self.step.changed_when
        if self.withheld:
            return Always(written != (False,))
        return self.judging.own(written, Always(not run.readonly)) or Always(False)

    def _name(self, left_out: str) -> str:
        own = ""
        if self.step.name:
            try:
                own = self.step.name.render(self.flat.caller)
            except Waits:
                own = self.step.name.source
        whole = self._source(left_out).strip()
        if self.module:
            whole = module_script.name(self.frame, left_out=left_out != "")
        first = whole.split("\n", 1)[0]
        shown = own or (first if len(first) <= 60 else first[:59] + "…")
        handler = (f"handler {self.flat.handler}",) if self.flat.handler else ()
        label = f" ({self.flat.label})" if self.flat.label else ""
        return " › ".join((*handler, *self.flat.around.path, shown)) + label

    def _source(self, left_out: str) -> str:
        if self.run is not None:
            return self.run.text.source if self.run.text else self.run.literal
        if self.module is not None:
            return module_script.called(self.frame, left_out=left_out != "")
        if self.download is not None:
            return f"download {_written(self.download.path, self.frame)}"
        if isinstance(self.step.does, Control):
            return self.step.does.kind
        return getattr(self.step.does, "task", "block")


def _written(template: ValueTemplate, frame: Frame) -> str:
    """Its text, or the template while that waits."""
    try:
        return option(template, frame, "path") or ""
    except Waits:
        return template.source
