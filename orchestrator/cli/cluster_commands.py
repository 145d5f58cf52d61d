"""The commands for a cluster of workers on hosts of a stage: `orch cluster`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from orchestrator.cli import options
from orchestrator.cli.group import NestedGroup
from orchestrator.cli.options import CommandOptions
from orchestrator.cli.run_commands import load_command_context, plan_options, run_planned
from orchestrator.errors import Diagnostic, ExitCode, UsageError

if TYPE_CHECKING:
    from orchestrator.commands.cluster_check import ClusterFinding
    from orchestrator.commands.cluster_setup import ClusterRow, ClusterSetup


_force_option = click.option(
    "--force", is_flag=True, help="Restart or end workers even if runs use them."
)


@click.group(
    "cluster", cls=NestedGroup, short_help="Run workers on hosts of a stage, for --engine dask."
)
def cluster_command() -> None:
    """Start, list and end the scheduler and the workers of a stage, for `--engine dask`.

    `cluster` in stage.yml names their hosts: see `orch doc cluster`.

    \b
      orch -s prod cluster check
      orch -s prod cluster up
      orch -s prod run deploy --engine dask=tls://control.example.net:8786
      orch -s prod cluster down
    """


@click.command("up", short_help="Start the scheduler and the workers, or update them.")
@options.host_options
@options.check_option
@options.diff_option
@click.option(
    "--new-certificates",
    is_flag=True,
    help="Make all certificates anew: those of before are worthless then.",
)
@_force_option
@options.pass_options
def up_command(command_options: CommandOptions, new_certificates: bool, force: bool) -> int:
    """Start the scheduler and the workers of a stage, with certificates made for them.

    Each host gets orch and its libraries in the versions of this machine, its certificate, and a
    unit of systemd; without systemd for the user, a process in the background. What is as it should
    be stays: a second `up` changes nothing, and one with a new version of orch restarts.

    Certificates and keys are in .orch/cluster of the project. They let their holder run code on
    the workers.

    Exit codes: 1 if a step failed, 2 if a worker did not start, 4 if hosts are unreachable.
    """
    setup = _load_setup(command_options, "cluster up")
    if not force and not command_options.check:
        setup.check_idle()
    with setup.plan_up(plan_options(command_options), new_certificates=new_certificates) as plan:
        code = run_planned(setup.context, plan, command_options)
    if code or command_options.check:
        return code
    rows, missing = setup.await_workers()
    if missing:
        raise _missing_error(setup, missing)
    if not command_options.as_json:
        _print_rows(rows)
        click.echo(f"engine: dask={setup.cluster.address}")
    return ExitCode.OK


@click.command("status", short_help="List the scheduler and the workers.")
@options.stage_options
@options.limit_option
@options.json_option
@options.pass_options
def status_command(command_options: CommandOptions) -> int:
    """List the processes of a stage's cluster, as its scheduler knows them.

    Exit codes: 1 if a worker is missing or has other versions, 2 if the scheduler does not answer.
    """
    from orchestrator.model.text_encoding import dump_json

    setup = _load_setup(command_options, "cluster status", connects=False)
    rows = setup.rows()
    if command_options.as_json:
        for row in rows:
            click.echo(dump_json(_row_json(row)))
    else:
        _print_rows(rows)
    return ExitCode.FAILED if any(row.state for row in rows) else ExitCode.OK


@click.command("down", short_help="End the scheduler and the workers, and remove them.")
@options.host_options
@options.check_option
@click.option("--keep", is_flag=True, help="Keep what is installed, and the certificates.")
@_force_option
@options.pass_options
def down_command(command_options: CommandOptions, keep: bool, force: bool) -> int:
    """End the scheduler and the workers, and remove what `up` has made, here and on the hosts."""
    setup = _load_setup(command_options, "cluster down")
    if not force and not command_options.check:
        setup.check_idle()
    plan = setup.plan_down(plan_options(command_options), keep=keep)
    code = run_planned(setup.context, plan, command_options)
    if not code and not keep and not command_options.check:
        setup.forget()
    return code


@click.command("check", short_help="Say what is missing for runs on the workers.")
@options.stage_options
@options.limit_option
@options.forks_option
@options.ssh_config_option
@options.persist_option
@options.json_option
@options.pass_options
def check_command(command_options: CommandOptions) -> int:
    """Check the cluster of a stage, and say what to do about what is missing. Nothing is changed.

    Checks the certificates here; over SSH, each host's Python, versions, clock and process, and
    whether it reaches the scheduler and the hosts that its workers are for, and has the keys for
    them; then the scheduler, and that the workers can log in to all hosts of the stage.

    Exit codes: 1 if something is missing, 4 if a host of the cluster is unreachable.
    """
    from msgspec import structs

    from orchestrator.cli.run_commands import project_selector
    from orchestrator.cli.tty_prompt import TtyPrompter
    from orchestrator.commands.cluster_check import ClusterChecker, exit_code_of
    from orchestrator.commands.run_plan import UserInterface
    from orchestrator.model.text_encoding import dump_json
    from orchestrator.output.terminal_lock import TerminalLock

    setup = _load_setup(command_options, "cluster check")
    stages = () if command_options.inventories else (setup.context.stage.name,)
    selector = structs.replace(project_selector(command_options), stages=stages, limit=None)
    terminal = TtyPrompter(TerminalLock())
    checker = ClusterChecker(
        setup,
        selector,
        os.environ,
        forks=command_options.forks,
        user_interface=UserInterface(terminal.prompt_function(), lambda _: terminal.restore()),
        connecting=command_options.connecting,
    )
    mask = setup.context.secrets.masker.mask_text
    findings = []
    for finding in checker.check():
        findings.append(finding)
        if command_options.as_json:
            click.echo(dump_json(_finding_json(finding, mask)))
        else:
            _print_finding(finding, mask)
    if not command_options.as_json:
        wrong = sum(finding.state not in ("ok", "warn") for finding in findings)
        click.echo(f"{wrong} to do" if wrong else "nothing is missing")
    return exit_code_of(findings)


def _print_finding(finding: ClusterFinding, mask: Callable[[str], str]) -> None:
    from orchestrator.model.sanitize import to_one_line

    host = f"{finding.host}: " if finding.host else ""
    words = {"ok": "ok", "warn": "warning", "fail": "missing", "unreachable": "unreachable"}
    click.echo(
        f"{words[finding.state]:<12}{host}{finding.check}: {to_one_line(mask(finding.message))}"
    )
    if finding.hint:
        click.echo(f"{'':<12}{to_one_line(mask(finding.hint))}")


def _finding_json(finding: ClusterFinding, mask: Callable[[str], str]) -> dict[str, object]:
    return {
        "host": finding.host or None,
        "check": finding.check,
        "state": finding.state,
        "message": mask(finding.message),
        "hint": mask(finding.hint),
    }


def _load_setup(
    command_options: CommandOptions, example: str, *, connects: bool = True
) -> ClusterSetup:
    """Return the cluster of the stage. Raises UsageError and DefinitionError."""
    from orchestrator.commands.cluster_setup import ClusterSetup

    context = load_command_context(command_options, example, connects=connects)
    return ClusterSetup(context, os.environ)


def _missing_error(setup: ClusterSetup, missing: Sequence[str]) -> UsageError:
    """Return the error for workers that did not register."""
    from orchestrator.commands.cluster_plan import node_folder

    host = missing[0].rpartition("/")[0]
    node = next(node for node in setup.cluster.nodes if node.host.name == host)
    folder = node_folder(setup.context, setup.cluster, node)
    message = f"workers did not register with the scheduler: {', '.join(missing)}"
    hint = f"their logs are on their hosts, like {folder}/log/worker-1.log on {host}"
    return UsageError(Diagnostic(message, None, hint))


def _print_rows(rows: Sequence[ClusterRow]) -> None:
    from orchestrator.model.sanitize import to_one_line
    from orchestrator.output.console import open_console
    from orchestrator.output.tables import TableColumn, table_lines

    out = open_console(sys.stdout, os.environ)
    columns = (
        TableColumn("host"),
        TableColumn("process"),
        TableColumn("state"),
        TableColumn("regions", drop=3),
        TableColumn("busy", right=True, drop=2),
        TableColumn("orch", drop=4),
        TableColumn("certificate until", drop=1),
    )
    cells = [
        (
            row.host,
            to_one_line(row.process),
            row.state or "runs",
            to_one_line(", ".join(row.regions)),
            f"{row.busy} of {row.threads}" if row.threads else "",
            to_one_line(row.versions.get("orch", "")),
            row.expires.strftime("%Y-%m-%d") if row.expires else "",
        )
        for row in rows
    ]
    out.lines(table_lines(columns, cells, out.width))


def _row_json(row: ClusterRow) -> dict[str, object]:
    return {
        "host": row.host,
        "process": row.process,
        "state": row.state or "runs",
        "address": row.address,
        "regions": list(row.regions),
        "threads": row.threads,
        "busy": row.busy,
        "versions": dict(row.versions),
        "certificate_expires": row.expires.timestamp() if row.expires else None,
    }


for _command in (up_command, status_command, check_command, down_command):
    cluster_command.add_command(_command)

CLUSTER_COMMANDS: tuple[click.Command, ...] = (cluster_command,)
