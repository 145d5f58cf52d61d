"""Options that several verbs share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

from orchestrator.cli import completion
from orchestrator.cli.group import reject_repeated

F = TypeVar("F", bound=Callable[..., Any])


def stage_options(command: F) -> F:
    """``-s`` and ``-C``: which stage of which project."""
    return _apply_decorators(
        command,
        click.option(
            *("-s", "--stage", "stages"),
            multiple=True,
            metavar="STAGE",
            shell_complete=completion.complete_stages,
            help="The stage: a folder of inventories/. Default: $ORCH_STAGE, then the "
            "project's default_stage.",
        ),
        directory_option,
    )


def project_options(command: F) -> F:
    """``-C``; ``-s`` may stand there, as before any verb, and says nothing."""
    return _apply_decorators(
        command,
        directory_option,
        click.option("-s", "--stage", "stages", multiple=True, hidden=True, expose_value=False),
    )


def directory_option(command: F) -> F:
    """``-C``: which project."""
    return click.option(
        *("-C", "--directory"),
        multiple=True,
        callback=reject_repeated,
        metavar="DIR",
        help="The project's root. Default: the nearest folder upward with inventories/.",
    )(command)


def limit_option(command: F) -> F:
    """``-l``: which hosts of the stage."""
    return click.option(
        *("-l", "--limit"),
        multiple=True,
        callback=reject_repeated,
        metavar="HOSTS",
        shell_complete=completion.complete_host_patterns,
        help="Only these: hosts and roles joined by : or , with & (and), ! (not), globs, "
        "web[01-20,25] (names), role[0:2] (its first three), @FILE, @failed. "
        "`web:&eu:!db3` is web's hosts that are also in eu, less db3.",
    )(command)


def selection_options(command: F) -> F:
    """Which parts of the tasks: tags, a place to start at, handlers."""
    return _apply_decorators(
        command,
        click.option(
            *("-t", "--tags"), multiple=True, metavar="TAG,…", help="Only steps with one of these."
        ),
        click.option(
            "--skip-tags", multiple=True, metavar="TAG,…", help="No steps with one of these."
        ),
        click.option(
            "--start-at",
            metavar="TASK",
            default="",
            help="Leave out the scheduled tasks before this one.",
        ),
        click.option(
            "--handler",
            "handlers",
            multiple=True,
            metavar="NAME",
            help="Of the tasks named, run only these handlers, as after a change.",
        ),
    )


def apps_option(command: F) -> F:
    """``--app``."""
    return click.option(
        *("-a", "--app", "apps"),
        multiple=True,
        metavar="APP,…",
        shell_complete=completion.complete_apps,
        help="For these apps of the stage, or `all`: each goes its own way over its hosts.",
    )(command)


def _reject_nan(_: click.Context, __: click.Parameter, value: float) -> float:
    if math.isnan(value):
        raise click.BadParameter("it must be a number of seconds")
    return value


def lock_options(command: F) -> F:
    """How an app's lock is taken."""
    return _apply_decorators(
        command,
        click.option(
            "--lock-wait",
            type=click.FloatRange(0, 31_622_400),
            callback=_reject_nan,
            default=0.0,
            metavar="SECONDS",
            help="Wait so long for an app's lock that somebody else has.",
        ),
        click.option(
            *("-m", "--message"),
            metavar="TEXT",
            help="What the run is for: for the revision log, and for who waits for the lock.",
        ),
    )


def diff_option(command: F) -> F:
    """``--diff``."""
    return click.option(
        "--diff", is_flag=True, help="Show what changes, contents of files as unified diffs."
    )(command)


def json_option(command: F) -> F:
    """``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="JSON on stdout and nothing else there."
    )(command)


def extra_option(command: F) -> F:
    """``-e``."""
    return click.option(
        *("-e", "--extra"),
        multiple=True,
        metavar="KEY=VALUE|@FILE",
        help="Set a variable, over the inventory's. KEY=VALUE is text as it stands; a file is "
        "YAML. May be repeated.",
    )(command)


def ssh_config_option(command: F) -> F:
    """``-F``, as of ssh."""
    return click.option(
        *("-F", "--ssh-config"),
        multiple=True,
        callback=reject_repeated,
        metavar="FILE",
        help="Read this ssh_config in place of ~/.ssh/config and /etc/ssh/ssh_config; `none`: "
        "no file at all.",
    )(command)


def host_options(command: F) -> F:
    """The options of every verb that contacts hosts."""
    return _apply_decorators(
        command,
        stage_options,
        limit_option,
        click.option(
            *("-f", "--forks"),
            type=click.IntRange(1, 2000),
            default=100,
            show_default=True,
            metavar="N",
            help="Work on at most N hosts at a time.",
        ),
        ssh_config_option,
        click.option("-y", "--yes", is_flag=True, help="Do not ask before a protected stage."),
        json_option,
        click.option("-v", "--verbose", count=True, help="Show more; -vv shows everything."),
    )


def run_options(command: F) -> F:
    """The options of verbs that run steps."""
    return _apply_decorators(
        command,
        host_options,
        click.option(
            "--keep-going",
            is_flag=True,
            help="A failed host does not stop the others before the next task.",
        ),
        click.option(
            "--unreachable",
            type=click.Choice(["stop", "skip"]),
            default="stop",
            show_default=True,
            help="When a host cannot be reached: stop before anything is changed, or go on "
            "without it. (Read-only runs always go on.)",
        ),
        click.option(
            "--check",
            is_flag=True,
            help="Ask the hosts what would change, and change nothing.",
        ),
        click.option(
            "--exit-code",
            is_flag=True,
            help="With --check: exit with 6 when something would change.",
        ),
    )


def _apply_decorators(command: F, *decorators: Callable[[F], F]) -> F:
    for decorate in reversed(decorators):
        command = decorate(command)
    return command
