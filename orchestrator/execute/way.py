"""The way through a program: which step comes next, after a good end and after a failure."""

from __future__ import annotations

from orchestrator.plan.model import PlannedStep, Program, Region


class Way:
    """Walks one program. ``over`` is what the next step is called when there is none: None.

    A failure on the way is kept for as long as what always follows it runs, and then goes on
    outward: to a region that makes up for it, or to the end of the program (``failed``).
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.index = {step.number: n for n, step in enumerate(program.steps)}
        self.pending: list[Region] = []
        self.failed = False

    def begin(self) -> PlannedStep | None:
        """The first step."""
        return self.program.steps[0] if self.program.steps else None

    def after(self, step: PlannedStep) -> PlannedStep | None:
        """What follows a step that did not fail, or whose failure is ignored."""
        return self._at(step.number, step.number + 1)

    def rescue(self, step: PlannedStep) -> PlannedStep | None:
        """What follows a step that failed; the program has failed where nothing makes up."""
        return self._out(step.number, self.program.regions)

    def forgiven(self, step: PlannedStep) -> bool:
        """Whether something makes up for a failure of this step."""
        return any(r.forgives and r.start <= step.number < r.body for r in self.program.regions)

    def waits_at(self, number: int) -> bool:
        """Whether a failure is pending whose region ends right before this number."""
        return any(region.end == number for region in self.pending)

    def _at(self, came: int, number: int) -> PlannedStep | None:
        """The step at a place, after stepping over what runs only on failure."""
        moved = True
        while moved:
            moved = False
            for position, region in enumerate(self.program.regions):
                inside = region.start <= came < region.body
                if inside and number == region.body and region.rescue > number:
                    number, moved = region.rescue, True
                if number == region.end and region in self.pending:
                    self.pending.remove(region)
                    return self._out(region.start, self.program.regions[position + 1 :])
        return self._step(number)

    def _out(self, number: int, regions: tuple[Region, ...]) -> PlannedStep | None:
        """Go outward from a failed step, or region, to what takes care of it."""
        for position, region in enumerate(regions):
            if not region.start <= number < region.end or number >= region.rescue:
                continue
            if number < region.body and region.forgives:
                return (
                    self._at(region.body, region.body)
                    if region.rescue > region.body
                    else (self._at(region.rescue, region.rescue))
                )
            if region.rescue < region.end:
                self.pending.append(region)
                return self._step(region.rescue)
            return self._out(region.start, regions[position + 1 :])
        self.failed = True
        return None

    def _step(self, number: int) -> PlannedStep | None:
        at = self.index.get(number)
        return None if at is None else self.program.steps[at]
