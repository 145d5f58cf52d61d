"""A task on one host, with all that it calls, loops over and blocks unfolded into one row.

The row is a list of single steps with rising numbers. What blocks, loops and ignored errors
mean for the way through the row is said by regions over the numbers (``model.Region``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import DefinitionError, Mark, Problem
from orchestrator.model.host import Host
from orchestrator.model.marked_value import Key, Values
from orchestrator.model.text_encoding import quote_text
from orchestrator.planner.plan import Gather, Region, Results
from orchestrator.planner.task_scope import Frame
from orchestrator.playbook import MOST_STEPS
from orchestrator.playbook.model import Block, Call, Control, Judgement, Modifiers, Step, Task
from orchestrator.templating import Waits

if TYPE_CHECKING:
    from orchestrator.templating import ValueTemplate


class Seen(Struct, frozen=True):
    """Something written, with the frame it is seen from."""

    what: ValueTemplate
    frame: Frame


class Around(Struct, frozen=True):
    """What a step inherits from all that it stands in, outer first.

    ``excluded`` says why this host has no part in it. ``calls``: where the tasks are called in
    which it stands, outer first.
    """

    when: tuple[tuple[Judgement, Frame], ...] = ()
    environment: tuple[tuple[Key, Seen], ...] = ()
    chdir: Seen | None = None
    timeout: Seen | None = None
    tags: frozenset[str] = frozenset()
    notify: tuple[Key, ...] = ()
    delegate: Seen | None = None
    become: Seen | None = None
    local: bool = False
    path: tuple[str, ...] = ()
    excluded: str = ""
    calls: tuple[Mark, ...] = ()

    def around(self, step: Step, frame: Frame) -> Around:
        """What a step, and all in it, inherits from here and says itself."""
        inner = self.inside(step.mods, frame)
        delegate = Seen(step.delegate_to, frame) if step.delegate_to else self.delegate
        local = step.local or (self.local and not step.delegate_to)
        notify = self.notify + step.notify
        return replace(inner, notify=notify, delegate=None if local else delegate, local=local)

    def seen_from(self, frame: Frame, other: Frame) -> Around:
        """The same, but what was seen from ``frame`` is seen from ``other``."""

        def moved(seen: Seen | None) -> Seen | None:
            return replace(seen, frame=other) if seen and seen.frame is frame else seen

        return replace(
            self,
            when=tuple((j, other if f is frame else f) for j, f in self.when),
            environment=tuple((k, moved(s) or s) for k, s in self.environment),
            chdir=moved(self.chdir),
            timeout=moved(self.timeout),
            delegate=moved(self.delegate),
            become=moved(self.become),
        )

    def inside(self, mods: Modifiers, frame: Frame) -> Around:
        """What is inherited one step further in."""
        return replace(
            self,
            when=self.when + tuple((judgement, frame) for judgement in mods.when),
            environment=self.environment
            + tuple((k, Seen(v, frame)) for k, v in mods.environment.items()),
            chdir=Seen(mods.chdir, frame) if mods.chdir else self.chdir,
            timeout=Seen(mods.timeout, frame) if mods.timeout else self.timeout,
            tags=self.tags | set(mods.tags),
            become=Seen(mods.become, frame) if mods.become else self.become,
        )


class Flat(Struct, frozen=True):
    """One step in the row. ``loops``: it stands for a loop over items that a result will give.
    ``label`` is what a loop's item is called. ``notified_by``: it belongs to a handler, and
    runs if one of these steps changed something. ``frame`` is what its command or module sees,
    ``caller`` what is written beside that (of a module, those who call it see other names).
    """

    number: int
    step: Step
    frame: Frame
    around: Around
    label: str = ""
    loops: bool = False
    handler: str = ""
    notified_by: tuple[int, ...] = ()
    beside: Frame | None = None

    @property
    def caller(self) -> Frame:
        """What judgements and the step's name see."""
        return self.beside or self.frame


class Row(Struct):
    """Steps in order, the regions over them, and the names that several of them register."""

    steps: list[Flat]
    regions: list[Region]
    gathers: list[Gather]

    def add(self, other: Row) -> None:
        """Append another row."""
        self.steps += other.steps
        self.regions += other.regions
        self.gathers += other.gathers


class Walk:
    """Unfolds one task on one host; numbers count through all it calls, from ``first`` on.

    ``registered`` and ``settled`` are what steps before it register, and what is known of that;
    with them the items of a loop are known here, or are left to when the loop's turn comes.
    ``most``: of how many steps more than that is refused.
    """

    def __init__(
        self,
        host: Host,
        tasks: Mapping[str, Task],
        defaults: Mapping[str, Values],
        first: int = 1,
        *,
        registered: Mapping[str, tuple[int, ...]] | None = None,
        settled: Results | None = None,
        most: int | None = None,
    ) -> None:
        self.host, self.tasks, self.defaults = host, tasks, defaults
        self.next = first
        self.first, self.last = first, None if most is None else first + most
        self.registered: dict[str, tuple[int, ...]] = dict(registered or {})
        self.settled: Results = settled or {}
        self.handlers: list[tuple[str, tuple[Step, ...], Frame, Around]] = []
        self.rollbacks: list[tuple[tuple[Step, ...], Frame, Around]] = []

    def task(self, task: Task, frame: Frame, around: Around) -> Row:
        """Every step of the task; its handlers and rollback are kept for later."""
        self._keep(task, frame, around)
        return self.steps(task.steps or (), frame, around)

    def _keep(self, task: Task, frame: Frame, around: Around) -> None:
        if around.excluded:
            return
        known = {name for name, *_ in self.handlers}
        for name, steps in task.handlers.items():
            if name not in known:
                self.handlers.append((name, steps, frame, around))
        if task.rollback:
            self.rollbacks.append((task.rollback, frame, around))

    def steps(self, steps: Iterable[Step], frame: Frame, around: Around) -> Row:
        """The rows of all steps, one after another."""
        row = Row([], [], [])
        for step in steps:
            row.add(self.step(step, frame, around.around(step, frame)))
        return row

    def step(self, step: Step, frame: Frame, around: Around) -> Row:
        """The row of one step, for all its items."""
        first = self.next
        row = self._loop(step, frame, around) if step.loop else self._once(step, frame, around)
        names = step.does.names if isinstance(step.does, Control) else ()
        for name in (step.register, *names):
            if name:
                self.registered = {**self.registered, name: ()}
                self.settled = {k: v for k, v in self.settled.items() if k != name}
        whole = isinstance(step.does, Call | Block) or step.loop is not None
        if whole and step.ignore_errors is True and row.steps:
            row.regions.append(Region(first, self.next, self.next, self.next, forgives=True))
        return row

    def _once(self, step: Step, frame: Frame, around: Around, label: str = "") -> Row:
        if self.next - self.first > MOST_STEPS:
            what = f"the task comes to more than {MOST_STEPS} steps on one host here"
            hint = "does a loop go over more than is meant? a loop within one `run` is one step"
            raise DefinitionError(Problem(what, step.mark, hint))
        if isinstance(step.does, Call):
            return self._call(step, step.does, frame, around)
        if isinstance(step.does, Block):
            return self._block(step.does, frame, around)
        self.next += 1
        return Row([Flat(self.next - 1, step, frame, around, label)], [], [])

    def _block(self, block: Block, frame: Frame, around: Around) -> Row:
        start = self.next
        row = self.steps(block.steps, frame, around)
        body = self.next
        row.add(self.steps(block.rescue, frame, around))
        rescue = self.next
        row.add(self.steps(block.always, frame, around))
        row.regions.append(Region(start, body, rescue, self.next, forgives=bool(block.rescue)))
        return row

    def _call(self, step: Step, call: Call, frame: Frame, around: Around) -> Row:
        task = self.tasks[call.task]
        callee = Frame(
            task,
            frame.host,
            written=call.args,
            caller=frame,
            defaults=self.defaults.get(call.task, {}),
            called_at=call.mark,
        )
        inner = around.inside(task.mods, callee)
        shown = step.name.source if step.name else task.name
        inner = replace(inner, path=(*around.path, shown), calls=(*around.calls, call.mark))
        if task.roles is not None and not set(task.roles) & set(self.host.roles):
            inner = replace(inner, excluded=f"'{task.name}' is for {', '.join(task.roles)}")
        first = self.next
        if task.module is not None:
            self._keep(task, callee, inner)
            self.next += 1
            one = replace(step, does=task.module, ignore_errors=False)
            inner = replace(inner, path=around.path)
            return Row([Flat(first, one, callee, inner, beside=frame)], [], [])
        row = self.task(task, callee, inner)
        if step.register and step.loop is None and row.steps:
            row.gathers.append(Gather(step.register, ((None, first, self.next),)))
        return row

    def with_handlers(self, row: Row) -> Row:
        """The row with the handlers behind it that steps in it, or earlier handlers, notify."""
        for name, steps, frame, around in self.handlers:
            by = tuple(f.number for f in row.steps if name in f.around.notify)
            if not by:
                continue
            handler = self.steps(steps, frame, replace(around, notify=()))
            handler.steps = [replace(f, handler=name, notified_by=by) for f in handler.steps]
            row.add(handler)
        return row

    def rollback(self) -> Row:
        """What undoes the task, the calls made last first; with the handlers that it notifies."""
        row = Row([], [], [])
        for steps, frame, around in reversed(self.rollbacks):
            row.add(self.steps(steps, frame, replace(around, notify=())))
        return self.with_handlers(row)

    def _loop(self, step: Step, frame: Frame, around: Around) -> Row:
        frame.host.place.registered = self.registered
        frame.host.place.results, frame.host.place.own = self.settled, frozenset()
        try:
            items = loop_items(step, frame)
        except Waits:
            self.next += 1
            return Row([Flat(self.next - 1, step, frame, around, loops=True)], [], [])
        return self.items(step, items, frame, around)

    def items(
        self,
        step: Step,
        items: list[object],
        frame: Frame,
        around: Around,
        *,
        heard: bool = False,
    ) -> Row:
        """The row of a loop: when one item fails the others still run, and then it has failed.
        ``heard``: a host had a part in the items."""
        row = Row([], [], [])
        parts = []
        for item in items:
            bound = frame.bound({"item": item}, _sources(step), heard=heard)
            label = self._label(step, item, bound)
            start = self.next
            one = replace(step, loop=None, ignore_errors=False, register="")
            if not isinstance(step.does, Call | Block):
                one = replace(one, ignore_errors=step.ignore_errors)
            inside = around.seen_from(frame, bound)
            row.add(_labelled(self._once(one, bound, inside), label))
            if self.last is not None and self.next > self.last:
                what = f"a loop over the {len(items)} items that a result gave has too many steps"
                raise DefinitionError(Problem(what, step.mark, "loop over them on the host"))
            parts.append((item, start, self.next))
        # each item's region holds those of the items after it, so these come first
        row.regions += [Region(s, e, e, self.next) for _, s, e in reversed(parts[:-1])]
        if step.register:
            row.gathers.append(Gather(step.register, tuple(parts), loop=True))
        return row

    def _label(self, step: Step, item: object, bound: Frame) -> str:
        if step.loop is not None and step.loop.label is not None:
            return step.loop.label.render(bound)
        if isinstance(item, Mapping):
            item = item.get("name", item.get("key", next(iter(item.values()), "")))
        try:
            return str(item)
        except (TypeError, ValueError):
            return ""  # it has no text: its step is called as it is without items


def loop_items(step: Step, frame: Frame) -> list[object]:
    """What a loop runs over. Raises Waits, and DefinitionError where it is no list."""
    if step.loop is None:
        raise TypeError("a loop has a `loop`")
    from orchestrator.templating import Expression  # a run without templates does not load Jinja

    over = step.loop.over
    found = over.value(frame) if isinstance(over, Expression) else over.render(frame)
    if isinstance(found, Mapping):
        return [{"key": key, "value": value} for key, value in found.items()]
    if isinstance(found, (list, tuple, range)):
        return list(found)
    what = f"`loop` needs a list or a mapping, found {quote_text(found)}"
    hint = "write `.splitlines()` or `.split()` for the parts of a text"
    raise DefinitionError(Problem(what, over.mark, hint if isinstance(found, str) else ""))


def _sources(step: Step) -> frozenset[str]:
    over = step.loop.over if step.loop else None
    return over.sources if over is not None else frozenset()


def _labelled(row: Row, label: str) -> Row:
    row.steps = [replace(f, label=f"{label} · {f.label}" if f.label else label) for f in row.steps]
    return row
