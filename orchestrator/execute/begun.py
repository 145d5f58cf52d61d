"""What a lane began and did not commit: what there is to undo."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.plan.model import Wave


class Begun:
    """The waves in the order in which they were begun, each with the hosts that are to undo it
    should the lane fail. Hosts are added to the last one by their workers."""

    def __init__(self) -> None:
        self.waves: list[tuple[Wave, set[str]]] = []

    def wave(self, wave: Wave) -> None:
        """This wave begins, so far on no host."""
        self.waves.append((wave, set()))

    def host(self, name: str) -> None:
        """This host began the wave."""
        self.waves[-1][1].add(name)

    def hosts(self) -> set[str]:
        """All that have something to undo."""
        return {name for _, names in self.waves for name in names}

    def commit(self, commit: Wave, before: Sequence[Wave]) -> None:
        """Nothing ``before`` is to be undone any more; in a batch, only what its hosts began and
        what ran for its sake is not. What ran once ran for the sake of every host."""
        if commit.commits is None:
            self.waves.clear()
            return
        here = {id(wave) for wave in before[commit.commits.first :]}
        for wave, names in self.waves:
            if wave.once or id(wave) in here:
                names.clear()
            names.difference_update(commit.commits.hosts)
