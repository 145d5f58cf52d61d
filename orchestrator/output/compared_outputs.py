"""The outputs of the last command, grouped by equal output, for a comparison of hosts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from msgspec import Struct, field

from orchestrator.model.event import RunEvent, RunStarted, StepFinished
from orchestrator.model.sanitize import sanitize_output
from orchestrator.model.step_result import CapturedOutput
from orchestrator.output.host_diff import OutputGroup

_MAX_BYTES = 64 << 20
"""Limit of all outputs that are kept, of which equal ones count once."""


class _EqualOutputs(Struct):
    """The hosts with one output; the output is None if it exceeded the limit."""

    outputs: tuple[CapturedOutput, CapturedOutput] | None
    hosts: list[str] = field(default_factory=list)


class ComparedOutputs:
    """A sink that keeps what each host printed in the last run, each different output once."""

    def __init__(self) -> None:
        """Start without outputs."""
        self._order: Mapping[str, int] = {}
        self._equal: dict[bytes, _EqualOutputs] = {}
        self._size = 0

    def __call__(self, event: RunEvent) -> None:
        """Forget the outputs when a run starts; keep the output of each finished step."""
        match event:
            case RunStarted():
                self._order = {host: number for number, host in enumerate(event.hosts)}
                self._equal, self._size = {}, 0
            case StepFinished():
                self._add(event.host, event.outcome.stdout, event.outcome.stderr)

    def close(self) -> None:
        """Do nothing: the outputs are kept."""

    def _add(self, host: str, stdout: CapturedOutput, stderr: CapturedOutput) -> None:
        digest = hashlib.sha256(stdout.head + stdout.tail).digest()
        digest += hashlib.sha256(stderr.head + stderr.tail).digest()
        if digest not in self._equal:
            self._size += sum(len(s.head) + len(s.tail) for s in (stdout, stderr))
            fits = self._size <= _MAX_BYTES
            self._equal[digest] = _EqualOutputs((stdout, stderr) if fits else None)
        self._equal[digest].hosts.append(host)

    def groups(self) -> list[OutputGroup]:
        """Return the groups of hosts with equal output, in the order of the inventory.

        An output above the limit is a line that says so.
        """
        found = []
        for equal in self._equal.values():
            hosts = sorted(equal.hosts, key=lambda host: self._order.get(host, len(self._order)))
            if equal.outputs is None:
                lines = [(f"[the output of {hosts[0]} is not kept: it is too long]",), ()]
            else:
                lines = [_lines(output) for output in equal.outputs]
            found.append(OutputGroup(tuple(hosts), *lines))
        return sorted(found, key=lambda group: self._order.get(group.hosts[0], len(self._order)))


def _lines(captured: CapturedOutput) -> tuple[str, ...]:
    text = sanitize_output(captured.display_text).rstrip()
    return tuple(text.split("\n")) if text else ()
