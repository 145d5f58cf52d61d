"""The entry point of ``orch``: standard streams, signals, and the process's exit."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from orchestrator.cli import stdio
from orchestrator.commands.signals import IdleSignalHandler
from orchestrator.errors import ExitCode

# The objects of a run live until its end and have few cycles. Collecting every 700 objects, the
# default, nearly doubles the CPU time of loading 10,000 hosts.
_GC_THRESHOLD = 50_000


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run ``orch`` and exit."""
    gc.disable()  # during the imports, which are most of a short run
    stdio.make_std_streams_safe()
    unattended = IdleSignalHandler()
    try:
        code = _exit_code(args)
        unattended.is_finished = True
    except KeyboardInterrupt:  # during the imports, or while an error was printed
        sys.stderr.write("interrupted\n")
        code = ExitCode.INTERRUPTED
    stdio.flush_std_streams()
    os._exit(int(code))  # shutting down the interpreter takes 15 ms, longer after a large run


def _exit_code(args: Sequence[str] | None) -> int:
    from orchestrator.cli.root_command import (
        run_command_line,  # this import takes most of the startup time
    )

    gc.freeze()  # what was imported stays
    gc.set_threshold(_GC_THRESHOLD)
    gc.enable()
    return run_command_line(args)


if __name__ == "__main__":
    main()
