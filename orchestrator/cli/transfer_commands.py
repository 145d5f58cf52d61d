"""Commands that copy files and folders: upload, download."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import click

from orchestrator.cli import options
from orchestrator.cli.options import CommandOptions
from orchestrator.cli.run_commands import (
    load_command_context,
    plan_options,
    rerun_command,
    run_planned,
)


@click.command("upload", short_help="Copy a file or folder to a stage's hosts.")
@options.run_options
@options.step_options
@options.diff_option
@options.apps_option
@options.lock_options
@click.option("--delete", is_flag=True, help="Remove paths in the folder that SRC does not have.")
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Neither copy nor remove names that match, or paths if it contains a slash. Repeatable.",
)
@click.option(
    "--include",
    multiple=True,
    metavar="PATTERN",
    help="Copy and remove only what matches, or is in a folder that does. Repeatable.",
)
@click.option("--follow", is_flag=True, help="Copy what links lead to, instead of the links.")
@click.option(
    "--times", is_flag=True, help="Give files the modification times that they have here."
)
@click.option(
    "--whole-file", is_flag=True, help="Send changed files whole, not only what differs in them."
)
@click.option("--owner", metavar="USER", help="The owner of everything, by name or number.")
@click.option("--group", metavar="GROUP", help="The group of everything, by name or number.")
@click.argument("src", type=click.Path(exists=True))
@click.argument("dest")
@options.pass_options
def upload_command(
    command_options: CommandOptions,
    src: str,
    dest: str,
    delete: bool,
    exclude: tuple[str, ...],
    include: tuple[str, ...],
    follow: bool,
    times: bool,
    whole_file: bool,
    owner: str | None,
    group: str | None,
) -> int:
    """Copy SRC, a local file or folder, to DEST on each host.

    SRC is relative to the current folder, DEST to the home folder of the user on the host. A folder
    is copied into DEST, as DEST/NAME; with a slash at its end, its contents are. A file becomes
    DEST/NAME if DEST is a folder or ends with a slash, else DEST. What is equal is not sent again.

    \b
      orch -s prod upload site /srv              to /srv/site
      orch -s prod upload site/ /srv/www         what is in site, to /srv/www
      orch -s prod upload nginx.conf /etc/nginx/ -b
    """
    from orchestrator.commands.cli_args import upload_arguments
    from orchestrator.commands.context import plan_tasks
    from orchestrator.playbook.model import TaskRequest
    from orchestrator.yamlio.local_files import is_directory

    arguments = upload_arguments(src, dest)
    if delete and not is_directory(Path(src)):
        raise click.UsageError("--delete requires a folder as SRC")
    arguments |= {"delete": "true"} if delete else {}
    arguments |= {"exclude": json.dumps(exclude)} if exclude else {}
    arguments |= {"include": json.dumps(include)} if include else {}
    arguments |= {"follow": "true"} if follow else {}
    arguments |= {"times": "true"} if times else {}
    arguments |= {"whole_file": "true"} if whole_file else {}
    for name, value in (("owner", owner), ("group", group)):
        arguments |= {} if value is None else {name: value}
    context = load_command_context(command_options, shlex.join(("upload", src, dest)))
    requests = (TaskRequest("upload", arguments),)
    plan = plan_tasks(context, requests, plan_options(command_options), os.environ)
    flags = [
        *(("--delete",) if delete else ()),
        *(word for pattern in exclude for word in ("--exclude", pattern)),
        *(word for pattern in include for word in ("--include", pattern)),
        *(("--follow",) if follow else ()),
        *(("--times",) if times else ()),
        *(("--whole-file",) if whole_file else ()),
        *(("--owner", owner) if owner is not None else ()),
        *(("--group", group) if group is not None else ()),
    ]
    again = rerun_command(context, command_options, ("upload", *flags), _arguments(src, dest))
    return run_planned(context, plan, command_options, again)


@click.command("download", short_help="Copy a file or folder from a stage's hosts.")
@options.run_options
@options.step_options
@options.diff_option
@options.apps_option
@options.lock_options
@click.argument("src")
@click.argument("dest", type=click.Path(file_okay=False))
@options.pass_options
def download_command(command_options: CommandOptions, src: str, dest: str) -> int:
    """Copy SRC, a file or folder on each host, to DEST/HOST on this machine.

    SRC is relative to the home folder of the user on the host, DEST to the current folder. Each
    host gets a folder of its name in DEST, and SRC its own name in there; of a folder with a slash
    at its end, the contents are copied. What is equal is not sent again. Nothing is removed, no
    link in DEST/HOST is followed, and links that lead out of SRC are not copied.

    \b
      orch -s prod download /etc/nginx configs        to configs/HOST/nginx
      orch -s prod download -b /var/log/syslog logs   to logs/HOST/syslog
    """
    from orchestrator.commands.context import plan_task
    from orchestrator.playbook.adhoc import download_task

    if not src.strip():
        raise click.UsageError("SRC is empty")
    context = load_command_context(command_options, shlex.join(("download", src, dest)))
    task = download_task(src, os.path.abspath(dest))  # noqa: PTH100 - links stay as written
    plan = plan_task(context, task, plan_options(command_options), os.environ)
    again = rerun_command(context, command_options, ("download",), _arguments(src, dest))
    return run_planned(context, plan, command_options, again)


def _arguments(src: str, dest: str) -> tuple[str, ...]:
    """Return the arguments, marked as such if one looks like an option."""
    is_odd = src.startswith("-") or dest.startswith("-")
    return ("--", src, dest) if is_odd else (src, dest)


TRANSFER_COMMANDS: tuple[click.Command, ...] = (upload_command, download_command)
