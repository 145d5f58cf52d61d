"""The root command of ``orch``, and the conversion of exceptions to messages and exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

import orchestrator
from orchestrator.cli import (
    cluster_commands,
    console_command,
    doctor_command,
    history_commands,
    init_command,
    new_command,
    options,
    resume_command,
    run_commands,
    show_commands,
    ssh_command,
    stdio,
    transfer_commands,
    vault_commands,
    warm_commands,
)
from orchestrator.cli.error_output import print_error
from orchestrator.cli.group import CommandGroup
from orchestrator.errors import ExitCode, OrchError
from orchestrator.model.secret_masking import SecretMasker

_VERBOSE = "orchestrator.verbose"
_LIBRARIES = (
    "click",
    "cryptography",
    "jinja2",
    "msgspec",
    "paramiko",
    "prompt_toolkit",
    "pyyaml",
    "rich",
)


def _show_version(ctx: click.Context) -> None:
    """Print the version and exit."""
    click.echo(f"orch {orchestrator.__version__}")
    if ctx.meta.get(_VERBOSE):
        from importlib.metadata import version  # costs 10 ms
        from platform import python_version

        click.echo(f"Python {python_version()} ({sys.executable})")
        click.echo(", ".join(f"{name} {version(name)}" for name in _LIBRARIES))
    ctx.exit()


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Options can be written before or after the command. Exit codes: 0 ok, 1 a step failed, "
    "2 usage, 3 invalid inventory or task, 4 hosts unreachable, 5 locked, 6 would change, "
    "130 interrupted; see `orch doc exit-codes`.",
)
@click.option(
    *("-v", "--verbose", "verbose"),
    count=True,
    hidden=True,
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, _, count: ctx.meta.setdefault(_VERBOSE, count),
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    callback=lambda ctx, _, is_given: _show_version(ctx) if is_given else None,
    help="Show the version; with -v also those of Python and of the main libraries.",
)
@options.stage_options
def orch(**_: object) -> None:
    """Run commands and deploy applications on fleets of servers over SSH."""


for _command in (
    *run_commands.RUN_COMMANDS,
    *transfer_commands.TRANSFER_COMMANDS,
    *console_command.CONSOLE_COMMANDS,
    ssh_command.ssh_command,
    resume_command.resume,
    *history_commands.HISTORY_COMMANDS,
    *doctor_command.DOCTOR_COMMANDS,
    *show_commands.SHOW_COMMANDS,
    *init_command.INIT_COMMANDS,
    *new_command.NEW_COMMANDS,
    *warm_commands.WARM_COMMANDS,
    *cluster_commands.CLUSTER_COMMANDS,
    *vault_commands.VAULT_COMMANDS,
):
    orch.add_command(_command)


def run_command_line(args: Sequence[str] | None) -> int:
    """Parse the arguments (None: the process's), run the command and return the exit code."""
    masks = SecretMasker()
    try:
        return (
            orch.main(args=args, prog_name="orch", standalone_mode=False, obj=masks) or ExitCode.OK
        )
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    except click.Abort:
        click.echo("interrupted", err=True)
        return ExitCode.INTERRUPTED
    except OrchError as error:
        print_error(error, masks)
        return error.exit_code
    except stdio.StdoutError:
        return ExitCode.FAILED
    except SystemExit as left:  # raised by click to exit
        return left.code if isinstance(left.code, int) else ExitCode.FAILED
    except Exception:
        return _print_bug(masks)


def _print_bug(masks: SecretMasker) -> int:
    import traceback

    from orchestrator.model.sanitize import show_controls

    click.echo(show_controls(masks.mask_text(traceback.format_exc())), err=True, nl=False)
    click.echo("This is a bug in orch. Please report it with the lines above.", err=True)
    return ExitCode.BUG
