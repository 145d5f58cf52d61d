"""A call of ``orch``: the verbs, and the one place where exceptions become exit codes."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

import click
from msgspec.structs import replace

import orchestrator
from orchestrator.cli import (
    doctor_command,
    init_command,
    options,
    run_commands,
    show_commands,
    stdio,
)
from orchestrator.cli.group import Verbs
from orchestrator.errors import Exit, OrchError
from orchestrator.model.secret_masking import Masks

# What a run makes lives until its end, in few cycles. Looking for those every 700 objects, as is
# usual, nearly doubles the CPU time of loading 10,000 hosts; in a short run it hardly matters.
_OBJECTS_A_LOOK = 50_000


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Options may stand before or after the verb. Exit codes: 0 ok, 1 a step failed, "
    "2 usage, 3 inventory or task in error, 4 hosts unreachable, 5 locked, 130 interrupted.",
)
@click.version_option(orchestrator.__version__, message="orch %(version)s")
@options.stage
def orch(**_: object) -> None:
    """Run commands and deploy applications on fleets of servers over SSH."""


for _verb in (
    *run_commands.VERBS,
    *doctor_command.VERBS,
    *show_commands.VERBS,
    *init_command.VERBS,
):
    orch.add_command(_verb)


def call(args: Sequence[str] | None) -> int:
    """Do what the words say (None: those of the process); the exit code that it comes to."""
    gc.set_threshold(_OBJECTS_A_LOOK)
    masks = Masks()
    try:
        return orch.main(args=args, prog_name="orch", standalone_mode=False, obj=masks) or Exit.OK
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return Exit.USAGE
    except click.Abort:
        click.echo("interrupted", err=True)
        return Exit.INTERRUPTED
    except OrchError as error:
        _tell(error, masks)
        return error.exit_code
    except stdio.OutputError:
        return Exit.FAILED
    except SystemExit as left:  # click's own way out
        return left.code if isinstance(left.code, int) else Exit.FAILED
    except Exception:
        return _bug(masks)


def _tell(error: OrchError, masks: Masks) -> None:
    from orchestrator.output.console import open_out
    from orchestrator.output.error_text import problems_text

    out = open_out(sys.stderr, os.environ)
    problems = [
        replace(problem, what=masks.text(problem.what), hint=masks.text(problem.hint))
        for problem in error.problems
    ]
    out.lines([masks.text(problems_text(problems, out))])  # the excerpt, too


def _bug(masks: Masks) -> int:
    import traceback

    from orchestrator.model.sanitize import visible

    click.echo(visible(masks.text(traceback.format_exc())), err=True, nl=False)
    click.echo("This is a bug in orch. Please report it with the lines above.", err=True)
    return Exit.BUG
