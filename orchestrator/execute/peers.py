"""What the parts of a lane agree on, where each goes its way in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from msgspec import Struct

from orchestrator.model.event import Event, TaskFinished, TaskStarted
from orchestrator.model.outcome import Status


class Agreed(Struct, frozen=True):
    """What every part said, in their order. ``lost`` are the hosts of parts that are no more, and
    will say nothing."""

    values: tuple[Any, ...]
    lost: tuple[str, ...] = ()


class Peers(Protocol):
    """The parts of one lane. All of them call the same in the same order, so that what one does
    after that may hang on nothing but what all know."""

    @property
    def several(self) -> bool:
        """Whether there are others."""

    def agree(self, value: object) -> Agreed:
        """Wait until every part has said its own, and hear them all."""

    def tell(self, event: TaskStarted | TaskFinished) -> None:
        """Tell what is to be told once of all parts, when every part has come so far."""


class Alone(Struct):
    """The only part."""

    emit: Callable[[Event], None]
    several: bool = False

    def agree(self, value: object) -> Agreed:
        """As ``Peers.agree``: it agrees with itself."""
        return Agreed((value,))

    def tell(self, event: TaskStarted | TaskFinished) -> None:
        """As ``Peers.tell``: at once."""
        self.emit(event)


def states_of(agreed: Agreed) -> dict[str, str]:
    """The hosts that each part names, with their states; those of parts that are no more are
    lost."""
    found = {name: state for part in agreed.values for name, state in part.items()}
    return found | {name: str(Status.LOST) for name in agreed.lost if name not in found}


def one_event(events: Iterable[TaskStarted | TaskFinished], order: dict[str, int]) -> Event:
    """What several parts tell of the same task, as one: its hosts in the run's order."""
    told = list(events)
    first = told[0]
    if isinstance(first, TaskFinished):
        finished = [each for each in told if isinstance(each, TaskFinished)]
        return TaskFinished(
            max(each.time for each in finished),
            first.app,
            first.task,
            max(each.seconds for each in finished),
        )
    started = [each for each in told if isinstance(each, TaskStarted)]
    hosts = sorted((name for each in started for name in each.hosts), key=order.__getitem__)
    steps = max(each.steps for each in started)
    return TaskStarted(first.time, first.app, first.task, tuple(hosts), steps)
