"""One step as a host receives it: all text is final."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.model.condition import Always, Condition


@dataclass(frozen=True, slots=True)
class Command:
    """A step ready to be sent. Conditions are judged on the host, in the order of the fields.

    ``step``: its number, unique and rising in a task on a host; conditions name steps by it.
    ``when``: where it does not hold, the step is skipped.
    ``guard``: shell text run before; where it exits with 1 the step is skipped, where with
    anything else but 0 it fails.
    ``text``: the whole script of the child shell (``SHELL -e``), byte for byte.
    ``stdin``: its standard input, given a final newline if it has none; None is /dev/null.
    ``timeout``: seconds from the start marker, guard included.
    ``fails``: whether it failed; None: where the exit status is not 0. Death by timeout or
    by the session's end is always a failure.
    ``changes``: whether it changed something, where it did not fail.
    ``ignore``: whether the steps after it run though it failed.
    """

    step: int
    text: str
    shell: str = "sh"
    timeout: float | None = None
    stdin: str | None = None
    guard: str = ""
    when: Condition = Always(True)
    fails: Condition | None = None
    changes: Condition = Always(True)
    ignore: bool = False
