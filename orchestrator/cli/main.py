"""``orch`` as a process: what signals do from its first moment to its last."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from orchestrator.cli import stdio
from orchestrator.commands.signals import IdleSignalHandler
from orchestrator.errors import ExitCode


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run ``orch`` and end the process."""
    stdio.make_std_streams_safe()
    unattended = IdleSignalHandler()
    try:
        code = _exit_code(args)
        unattended.is_finished = True
    except KeyboardInterrupt:  # while loading, or while an error was told
        sys.stderr.write("interrupted\n")
        code = ExitCode.INTERRUPTED
    stdio.flush_std_streams()
    os._exit(int(code))  # taking the interpreter apart costs 15 ms, more after a large run


def _exit_code(args: Sequence[str] | None) -> int:
    from orchestrator.cli.root_command import (
        run_command_line,  # most of the time until something happens
    )

    return run_command_line(args)


if __name__ == "__main__":
    main()
