"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click
from msgspec import Struct

from orchestrator.cli import completion
from orchestrator.cli.group import reject_repeated
from orchestrator.output.display_options import OutputMode

if TYPE_CHECKING:
    from orchestrator.commands.resume import ResumeRequest
    from orchestrator.model.host import ConnectionOverrides

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")


class CommandOptions(Struct, frozen=True, kw_only=True):
    """The options that commands share, as given on the command line.

    An option that a command does not have keeps its default here. ``lock_wait`` is in seconds;
    ``verbose`` counts the ``-v``; ``resume`` is the run that is resumed, None for a new one.
    """

    directory: str | None = None
    stages: tuple[str, ...] = ()
    inventories: tuple[str, ...] = ()
    refresh: bool = False
    limit: str | None = None
    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()
    start_at: str = ""
    start_step: str = ""
    handlers: tuple[str, ...] = ()
    apps: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    forks: int = 100
    ssh_config: str | None = None
    persist: float | None = None
    yes: bool = False
    as_json: bool = False
    verbose: int = 0
    keep_going: bool = False
    unreachable: str = "stop"
    check: bool = False
    exit_code: bool = False
    diff: bool = False
    step: bool = False
    lock_wait: float = 0.0
    message: str | None = None
    user: str | None = None
    become: bool = False
    become_user: str | None = None
    timeout: str | None = None
    chdir: str | None = None
    environment: tuple[str, ...] = ()
    output: str | None = None
    diff_hosts: bool = False
    reports: tuple[str, ...] = ()
    engine: str | None = None
    resume: ResumeRequest | None = None

    @property
    def connecting(self) -> ConnectionOverrides:
        """What replaces the hosts' own connection settings."""
        from orchestrator.model.host import ConnectionOverrides

        return ConnectionOverrides(self.ssh_config, self.persist)


RESUME_KEY = "orchestrator.resume"
"""The key, in click's shared data, of the run that the command line resumes."""


def pass_options(function: Callable[Concatenate[CommandOptions, P], R]) -> Callable[..., R]:
    """Decorate a command's function: call it with its shared options as one ``CommandOptions``."""

    @wraps(function)
    def command(**values: Any) -> R:
        shared = {name: values.pop(name) for name in _SHARED_NAMES & values.keys()}
        shared["resume"] = click.get_current_context().meta.get(RESUME_KEY)
        return function(CommandOptions(**shared), **values)  # type: ignore[call-arg]

    return command


_SHARED_NAMES = frozenset(CommandOptions.__struct_fields__)


def stage_options(command: F) -> F:
    """Add the options that select the stage, or an inventory, and the project."""
    return _apply_decorators(
        command,
        (
            stage_option,
            inventory_option,
            click.option(
                "--refresh",
                is_flag=True,
                help="Run programs that print hosts again, instead of using what `inventory_cache` "
                "kept.",
            ),
            directory_option,
        ),
    )


def stage_option(command: F) -> F:
    """Add ``-s``: the stage."""
    return click.option(
        *("-s", "--stage", "stages"),
        multiple=True,
        metavar="STAGE",
        shell_complete=completion.complete_stages,
        help="The stage: a folder of inventories/. Default: $ORCH_STAGE, then the project's "
        "default_stage.",
    )(command)


def inventory_option(command: F) -> F:
    """Add ``-i``: inventories of Ansible."""
    return click.option(
        *("-i", "--inventory", "inventories"),
        multiple=True,
        metavar="PATH",
        shell_complete=completion.complete_files,
        help="An inventory of Ansible to use instead of a stage, also without a project: a file or "
        "folder, or hosts with commas between them. Repeatable.",
    )(command)


def project_options(command: F) -> F:
    """Add ``-C``; ``-s`` is accepted, as it can precede any command, but ignored."""
    return _apply_decorators(
        command,
        (
            directory_option,
            click.option("-s", "--stage", "stages", multiple=True, hidden=True, expose_value=False),
        ),
    )


def directory_option(command: F) -> F:
    """Add ``-C``: the project."""
    return click.option(
        *("-C", "--directory"),
        multiple=True,
        callback=reject_repeated,
        metavar="DIR",
        shell_complete=completion.complete_folders,
        help="The project's root. Default: the nearest folder upward with inventories/.",
    )(command)


def records_options(command: Callable[..., R]) -> Callable[..., R]:
    """Add ``-C`` and ``-i``: the project, or the inventory, whose runs were recorded.

    Both become the argument ``directory``.
    """

    @wraps(command)
    def with_directory(*args: Any, inventories: tuple[str, ...], **values: Any) -> R:
        import os

        from orchestrator.commands.project import optional_project_root, standalone_root

        directory = values["directory"]
        if inventories and optional_project_root(directory) is None:
            values["directory"] = str(standalone_root(inventories, os.environ))
        return command(*args, **values)

    return _apply_decorators(with_directory, (inventory_option, directory_option))


def limit_option(command: F) -> F:
    """Add ``-l``: the hosts of the stage."""
    return click.option(
        *("-l", "--limit"),
        multiple=True,
        callback=reject_repeated,
        metavar="HOSTS",
        shell_complete=completion.complete_host_patterns,
        help="Hosts to run on: hosts and roles joined by `:` or `,`; with & (and), ! (not), globs, "
        "web[01-20,25] (names), role[0:2] (its first three), @FILE, @failed. "
        "`web:&eu:!db3`: hosts of web that are also in eu, except db3.",
    )(command)


def tasks_argument(command: F) -> F:
    """Add the tasks, each with the params that follow it."""
    return click.argument(
        "words",
        metavar="TASK [KEY=VALUE]...",
        nargs=-1,
        required=True,
        shell_complete=completion.complete_task_words,
    )(command)


def selection_options(command: F) -> F:
    """Add the options that select parts of the tasks: tags, a start task, handlers."""
    return _apply_decorators(
        command,
        (
            click.option(
                *("-t", "--tags"),
                multiple=True,
                metavar="TAG,…",
                shell_complete=completion.complete_tags,
                help="Run only steps with one of these tags.",
            ),
            click.option(
                "--skip-tags",
                multiple=True,
                metavar="TAG,…",
                shell_complete=completion.complete_tags,
                help="Skip steps with one of these tags.",
            ),
            click.option(
                "--start-at",
                metavar="TASK",
                default="",
                shell_complete=completion.complete_scheduled_tasks,
                help="Skip the scheduled tasks before this one.",
            ),
            click.option(
                "--start-step",
                metavar="NUMBER|NAME",
                default="",
                shell_complete=completion.complete_steps,
                help="Skip the steps before this one, in the task of --start-at or the only task.",
            ),
            click.option(
                "--handler",
                "handlers",
                multiple=True,
                metavar="NAME",
                shell_complete=completion.complete_handlers,
                help="Run only these handlers of the tasks, as after a change.",
            ),
        ),
    )


def apps_option(command: F) -> F:
    """Add ``--app``."""
    return click.option(
        *("-a", "--app", "apps"),
        multiple=True,
        metavar="APP,…",
        shell_complete=completion.complete_apps,
        help="Apps to run for (or `all`); apps run in parallel, each on its own hosts.",
    )(command)


def _reject_nan(_: click.Context, __: click.Parameter, value: float) -> float:
    if math.isnan(value):
        raise click.BadParameter("must be a number of seconds")
    return value


def lock_options(command: F) -> F:
    """Add the options for an app's lock."""
    return _apply_decorators(
        command,
        (
            click.option(
                "--lock-wait",
                type=click.FloatRange(0, 31_622_400),
                callback=_reject_nan,
                default=0.0,
                metavar="SECONDS",
                help="Wait this long for an app's lock that another run holds.",
            ),
            click.option(
                *("-m", "--message"),
                metavar="TEXT",
                help="Purpose of the run, for the revision log and in the lock message.",
            ),
        ),
    )


def diff_option(command: F) -> F:
    """Add ``--diff``."""
    return click.option(
        "--diff", is_flag=True, help="Show changes; contents of files as unified diffs."
    )(command)


def check_option(command: F) -> F:
    """Add ``--check``."""
    return click.option(
        "--check", is_flag=True, help="Report what would change, without changing anything."
    )(command)


def json_option(command: F) -> F:
    """Add ``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print machine-readable JSON to stdout."
    )(command)


def extra_option(command: F) -> F:
    """Add ``-e``."""
    return click.option(
        *("-e", "--extra"),
        multiple=True,
        metavar="KEY=VALUE|@FILE",
        shell_complete=completion.complete_extra_variables,
        help="Set a variable; overrides the inventory. KEY=VALUE is literal text, and so is that "
        "in a JSON object ('{\"a\": 1}'); a file is YAML. Repeatable.",
    )(command)


def _read_duration(
    _context: click.Context, _parameter: click.Parameter, text: str | None
) -> float | None:
    if text is None:
        return None
    from orchestrator.yamlio.schema import DURATION_FORMAT, parse_duration

    seconds = parse_duration(text)
    if seconds is None:
        raise click.BadParameter(f"{text!r} is not a duration: {DURATION_FORMAT}")
    return seconds


def persist_option(command: F) -> F:
    """Add ``--persist``."""
    return click.option(
        "--persist",
        metavar="TIME",
        callback=_read_duration,
        envvar="ORCH_PERSIST",
        show_envvar=True,
        help="Keep the connections for later commands for this time after their last use (10m; 0: "
        "keep none), instead of `connect: {persist: …}`. See `orch warm`.",
    )(command)


def ssh_config_option(command: F) -> F:
    """Add ``-F``, like ssh."""
    return click.option(
        *("-F", "--ssh-config"),
        multiple=True,
        callback=reject_repeated,
        metavar="FILE",
        shell_complete=completion.complete_files,
        help="Read this ssh_config instead of ~/.ssh/config and /etc/ssh/ssh_config; `none`: "
        "no file.",
    )(command)


def forks_option(command: F) -> F:
    """Add ``-f``."""
    return click.option(
        *("-f", "--forks"),
        type=click.IntRange(1, 2000),
        default=100,
        show_default=True,
        metavar="N",
        help="Work on at most N hosts at a time.",
    )(command)


def keep_going_option(command: F) -> F:
    """Add ``--keep-going``."""
    return click.option(
        "--keep-going",
        is_flag=True,
        help="Continue with the other hosts after a host has failed.",
    )(command)


def output_options(command: F) -> F:
    """Add the options for the display of the hosts' output."""
    return _apply_decorators(
        command,
        (
            click.option(
                "--output",
                type=click.Choice([mode.value for mode in OutputMode]),
                envvar="ORCH_OUTPUT",
                show_envvar=True,
                help="How to show the output of hosts: live (the default on a terminal), lines "
                "(the default elsewhere), folded (at the end), quiet.",
            ),
            click.option(
                "--diff-hosts",
                is_flag=True,
                help="Show how the outputs of hosts differ from the most common one.",
            ),
        ),
    )


def yes_option(command: F) -> F:
    """Add ``-y``."""
    return click.option(
        "-y",
        "--yes",
        is_flag=True,
        help="Skip the confirmation for protected stages and for batches.",
    )(command)


def host_options(command: F) -> F:
    """Add the options of every command that contacts hosts."""
    return _apply_decorators(
        command,
        (
            stage_options,
            limit_option,
            forks_option,
            ssh_config_option,
            persist_option,
            yes_option,
            output_options,
            json_option,
            click.option("-v", "--verbose", count=True, help="Show more; -vv shows everything."),
        ),
    )


def run_options(command: F) -> F:
    """Add the options of commands that run steps."""
    return _apply_decorators(
        command,
        (
            host_options,
            keep_going_option,
            click.option(
                "--engine",
                multiple=True,
                callback=reject_repeated,
                metavar="ENGINE",
                envvar="ORCH_ENGINE",
                show_envvar=True,
                help="What drives the hosts: local (this process), dask=local:N (N processes of "
                "this machine), or dask=tls://HOST:PORT (the workers of a Dask scheduler). By "
                "default local, and from 1,000 hosts on dask=local:N if Dask is installed.",
            ),
            click.option(
                "--unreachable",
                type=click.Choice(["stop", "skip"]),
                default="stop",
                show_default=True,
                help="If a host cannot be reached: stop before anything is changed, or continue "
                "without it. (Read-only runs always continue.)",
            ),
            check_option,
            click.option(
                "--report",
                "reports",
                multiple=True,
                metavar="KIND=FILE,…",
                help="Write a report at the end: html=FILE, junit=FILE, markdown=FILE.",
            ),
            click.option(
                "--exit-code",
                is_flag=True,
                help="With --check: exit with 6 if something would change.",
            ),
        ),
    )


def step_options(command: F) -> F:
    """Add the options that set who runs the steps, and how, unless the tasks say otherwise."""
    return _apply_decorators(
        command,
        (
            login_options,
            timeout_option,
            chdir_option,
            environment_option,
        ),
    )


def login_options(command: F) -> F:
    """Add the options that set the login user and the become user."""
    return _apply_decorators(
        command,
        (
            click.option(
                *("-u", "--user"),
                metavar="USER",
                help="Log in to the hosts as this user, whatever the inventory says.",
            ),
            click.option("-b", "--become", is_flag=True, help="Run as root."),
            click.option("--become-user", metavar="USER", help="Run as this user."),
        ),
    )


def timeout_option(command: F) -> F:
    """Add ``--timeout``."""
    return click.option(
        "--timeout", metavar="DURATION", help="End each step after this time, like 90 or 5m."
    )(command)


def chdir_option(command: F) -> F:
    """Add ``--chdir``."""
    return click.option("--chdir", metavar="DIR", help="Run in this folder of the host.")(command)


def environment_option(command: F) -> F:
    """Add ``--env``."""
    return click.option(
        "--env",
        "environment",
        multiple=True,
        metavar="NAME=VALUE",
        help="Set an environment variable on the host. Repeatable.",
    )(command)


def _apply_decorators(command: F, decorators: Sequence[Callable[[F], F]]) -> F:
    for decorate in reversed(decorators):
        command = decorate(command)
    return command
