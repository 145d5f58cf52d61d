"""``orch`` as a process: what signals do from its first moment to its last."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from orchestrator.cli import stdio
from orchestrator.commands.signals import Unattended
from orchestrator.errors import Exit


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run ``orch`` and end the process."""
    stdio.settle()
    unattended = Unattended()
    try:
        code = _code(args)
        unattended.over = True
    except KeyboardInterrupt:  # while loading, or while an error was told
        sys.stderr.write("interrupted\n")
        code = Exit.INTERRUPTED
    stdio.leave()
    os._exit(int(code))  # taking the interpreter apart costs 15 ms, more after a large run


def _code(args: Sequence[str] | None) -> int:
    from orchestrator.cli.root_command import call  # most of the time until something happens

    return call(args)


if __name__ == "__main__":
    main()
