"""The verb that looks at hosts: doctor."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from orchestrator.cli import options
from orchestrator.model.secret_masking import Masks


@click.command("doctor", short_help="See whether hosts can be reached and are fit for steps.")
@options.stage
@options.limit
@click.option(
    *("-f", "--forks"),
    type=click.IntRange(1, 2000),
    default=100,
    show_default=True,
    metavar="N",
    help="Look at no more than N hosts at a time.",
)
@options.ssh_config
@options.json
def doctor_verb(forks: int, ssh_config: str | None, as_json: bool, **given: Any) -> int:
    """Look at every host of a stage, or those that --limit selects.

    Can its name be resolved, its port be reached, its key be trusted, can one log in, and
    does a shell answer? Is there sudo for the users that tasks become, space where steps write,
    the right time, and each command that the tasks' modules need? What ssh_config says in vain
    is told, too. Nothing is changed on any host, nor in known_hosts.

    \b
      orch -s prod doctor
      orch -s prod doctor -l web --json

    Exit codes: 1 where steps will fail, 4 where hosts are unreachable; warnings are 0.
    """
    from orchestrator.cli.tty_prompt import Terminal
    from orchestrator.commands.context import Where, go
    from orchestrator.commands.doctor import doctor
    from orchestrator.commands.run_plan import Person
    from orchestrator.errors import Exit
    from orchestrator.output.console import open_out
    from orchestrator.output.doctor_report import doctor_json, doctor_lines
    from orchestrator.output.terminal_lock import Turns

    where = Where(given["directory"], given["stages"], given["limit"])
    there = go(where, os.environ, "doctor", click.get_current_context().find_object(Masks))
    if there.chosen.defaulted:
        click.echo(f"Defaulting to {there.chosen.name}", err=True)
    terminal = Terminal(Turns())
    person = Person(terminal.asker(), lambda _: terminal.restore())
    report = doctor(there, forks=forks, environ=os.environ, person=person, ssh_config=ssh_config)
    mask = there.secrets.masks.text
    out = open_out(sys.stdout, os.environ)
    if as_json:
        out.lines(doctor_json(checkup, mask) for checkup in report.checkups)
    else:
        out.lines(doctor_lines(report.checkups, out, mask))
    if report.blind:
        click.echo("what the tasks need was not looked at: see `orch lint`", err=True)
    if report.code is Exit.INTERRUPTED:
        click.echo("interrupted", err=True)
    return report.code


VERBS: tuple[click.Command, ...] = (doctor_verb,)
