"""Verbs that plan, and those that contact hosts: run, exec, plan."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import completion, options
from orchestrator.cli.group import AfterDashes
from orchestrator.errors import Exit, Problem, UsageError
from orchestrator.model.secret_masking import Masks

if TYPE_CHECKING:
    from orchestrator.cli.tty_prompt import Lines
    from orchestrator.commands.context import Parts, There
    from orchestrator.executor import Cancel
    from orchestrator.output.terminal_lock import Turns
    from orchestrator.planner.plan import Plan, Wave


@click.command("run", short_help="Run tasks on a stage's hosts.")
@options.running
@options.diff
@options.apps
@options.locking
@options.extra
@options.choosing
@click.option("--step", is_flag=True, help="Ask before each task: run it, skip it, or stop.")
@click.option("--list-hosts", is_flag=True, help="Show which hosts each task is for, and end.")
@click.argument(
    "words", metavar="TASK [KEY=VALUE]...", nargs=-1, required=True, shell_complete=completion.tasks
)
def run_verb(words: tuple[str, ...], list_hosts: bool, **given: Any) -> int:
    """Run one task or several, in order, on the hosts of a stage.

    KEY=VALUE gives the task before it a value for one of its params; see `orch doc TASK`.

    \b
      orch -s dev run uname
      orch -s prod run deploy:publish release=42 -l web
      orch -s prod run uname -l @failed          again where the last run failed
    """
    from orchestrator.commands.cli_args import requests
    from orchestrator.commands.context import plan_shown, plan_tasks

    asked = requests(words)
    there = _go(given, f"run {shlex.join(words)}")
    if list_hosts:
        return _list_hosts(plan_shown(there, asked, _parts(given), os.environ))
    plan = plan_tasks(there, asked, _parts(given), os.environ)
    return _carry_out(there, plan, given)


@click.command(
    "exec",
    cls=AfterDashes,
    short_help="Run one command on a stage's hosts.",
    options_metavar="[OPTIONS] --",
)
@options.running
@click.option("--readonly", is_flag=True, help="It changes nothing: no prompt, no preflight.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_verb(command: tuple[str, ...], readonly: bool, **given: Any) -> int:
    """Run a command that stands in no task file.

    Several words are one command, each quoted as it stands. A single word is shell text, so
    a pipeline goes in quotes. Nothing in it is a template.

    \b
      orch -s dev exec -- uname -a
      orch -s dev exec --readonly -- 'df -h / | tail -n 1'
    """
    from orchestrator.commands.context import Parts, plan_task
    from orchestrator.playbook.adhoc import command as adhoc

    if not any(word.strip() for word in command):
        raise click.UsageError("the command is empty")
    there = _go(given, f"exec -- {shlex.join(command)}")
    task = adhoc(command, readonly=readonly)
    plan = plan_task(there, task, Parts(check=given["check"]), os.environ)
    return _carry_out(there, plan, given)


@click.command("plan", short_help="Show what a run would do, contacting nothing.")
@options.stage
@options.limit
@options.apps
@options.extra
@options.choosing
@options.json
@click.option("--reveal", is_flag=True, help="Fetch the secrets, and show them.")
@click.argument(
    "words", metavar="TASK [KEY=VALUE]...", nargs=-1, required=True, shell_complete=completion.tasks
)
def plan_verb(words: tuple[str, ...], as_json: bool, reveal: bool, **given: Any) -> int:
    """Show what `orch run` of the same tasks would do where, in which order.

    Each step is shown with the exact text that each host would be sent. A step that needs the
    result of an earlier one is shown as its template, with the result it waits for. No host
    is contacted.

    A secret is shown as its name. It is fetched only where what happens depends on it (a
    condition, a number), or to show it with --reveal.
    """
    from orchestrator.commands.cli_args import requests
    from orchestrator.commands.context import plan_shown, plan_tasks
    from orchestrator.model.text_encoding import dump_json
    from orchestrator.output.console import open_out
    from orchestrator.output.plan_text import plan_json, plan_lines

    asked = requests(words)
    there = _go(given, f"plan {shlex.join(words)}")
    planned = plan_tasks if reveal else plan_shown
    plan = planned(there, asked, _parts(given), os.environ)
    out = open_out(sys.stdout, os.environ)
    mask = str if reveal else there.secrets.masks.text
    out.lines([dump_json(plan_json(plan, mask))] if as_json else plan_lines(plan, out, mask))
    return Exit.OK


def _parts(given: Mapping[str, Any]) -> Parts:
    from orchestrator.commands.context import Parts
    from orchestrator.planner.request import Tags

    only = _names(given["tags"], "--tags needs the name of a tag")
    skip = _names(given["skip_tags"], "--skip-tags needs the name of a tag")
    tags = Tags(frozenset(only), frozenset(skip))
    check, diff = given.get("check", False), given.get("diff", False)
    apps = _names(given["apps"], _NO_APP)
    message = given.get("message") or ""
    return Parts(
        given["extra"],
        tags,
        start_at=given["start_at"],
        handlers=given["handlers"],
        check=check,
        diff=diff,
        apps=apps,
        message=message,
    )


_NO_APP = "--app needs the name of an app (`--app all` is every app)"


def _names(given: tuple[str, ...], missing: str) -> tuple[str, ...]:
    """Return the names given to an option, with commas or more than once. An empty one is never
    meant to be all or none: UsageError with the text ``missing``.
    """
    names = tuple(name.strip() for value in given for name in value.split(","))
    if not all(names):
        raise click.UsageError(missing)
    return names


def _list_hosts(plan: Plan) -> int:
    from orchestrator.model.host_folding import fold

    for lane in plan.lanes:
        for wave in lane.waves:
            if wave.hosts:
                batch = f" (batch {wave.batch})" if wave.batch else ""
                what = f"{lane.app} {wave.task}" if lane.app else wave.task
                click.echo(f"{what}{batch}: {fold(host.host for host in wave.hosts)}")
    return Exit.OK


def _ask_step(turns: Turns, lines: Lines, wave: Wave, cancel: Cancel) -> str:
    """Run, skip or stop, as the user says; stop where the run is interrupted meanwhile."""
    from orchestrator.model.host_folding import fold

    with lines.turn, turns.question():
        click.echo(f"{wave.task} on {fold(host.host for host in wave.hosts)}", err=True)
        while True:
            click.echo("run, skip or stop? [r/s/q] ", err=True, nl=False)
            line = lines.next(lambda: cancel.stopping)
            if line is None or line.strip() in ("q", "quit", "stop"):
                return "stop"
            answer = {"r": "run", "run": "run", "s": "skip", "skip": "skip"}.get(line.strip(), "")
            if answer:
                return answer


def _go(given: Mapping[str, Any], example: str) -> There:
    from orchestrator.commands.context import Where, go

    where = Where(given["directory"], given["stages"], given["limit"])
    there = go(where, os.environ, example, click.get_current_context().find_object(Masks))
    if there.chosen.defaulted:
        click.echo(f"Defaulting to {there.chosen.name}", err=True)
    return there


def _carry_out(there: There, plan: Plan, given: Mapping[str, Any]) -> int:
    from orchestrator.cli.tty_prompt import Lines, Terminal
    from orchestrator.commands.context import outer_runs
    from orchestrator.commands.run_plan import Person, carry_out
    from orchestrator.executor import Options
    from orchestrator.output.sinks import sinks
    from orchestrator.output.terminal_lock import Turns

    if given.get("exit_code") and not plan.check:
        raise click.UsageError("--exit-code requires --check")
    if there.stage.protected and plan.changes and not plan.check and not given["yes"]:
        _ask(there, plan)
    turns = Turns()
    terminal = Terminal(turns)
    sink = sinks(
        json=given["as_json"],
        verbose=given["verbose"],
        diff=given.get("diff", False),
        stdout=sys.stdout,
        stderr=sys.stderr,
        environ=os.environ,
        turns=turns,
    )
    wanted = Options(
        given["forks"],
        given.get("keep_going", False),
        skip_unreachable=given.get("unreachable") == "skip",
        ask=partial(_ask_step, turns, Lines()) if given.get("step") else None,
        would_exit=given.get("exit_code", False),
        given=_given(given),
        lock_wait=given.get("lock_wait", 0.0),
        holder=_holder(given),
        within=outer_runs(os.environ),
    )

    def left(steps: Mapping[str, str]) -> None:
        terminal.restore()
        _left(steps)

    return carry_out(
        plan,
        there,
        options=wanted,
        sink=sink,
        environ=os.environ,
        person=Person(terminal.asker(), left),
        ssh_config=given["ssh_config"],
    )


def _holder(given: Mapping[str, Any]) -> dict[str, str]:
    """What is told of us to whoever wants a lock that we have."""
    import socket
    import time

    from orchestrator.commands.context import user

    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    owner = f"{user()}@{socket.gethostname()}"
    return {"owner": owner, "since": since, "message": given.get("message") or ""}


def _given(given: Mapping[str, Any]) -> tuple[str, ...]:
    """The words that a part of this run needs as well, when it is run by itself."""
    extra = tuple(word for value in given.get("extra", ()) for word in ("-e", value))
    return ("-C", given["directory"], *extra) if given["directory"] else extra


def _ask(there: There, plan: Plan) -> None:
    """Return when the user typed the stage's name. Raises UsageError where they did not."""
    from orchestrator.model.host_folding import fold

    name = there.stage.name
    tasks = ", ".join(wave.task for lane in plan.lanes for wave in lane.waves)
    count = f"{len(plan.hosts)} host{'s' if len(plan.hosts) != 1 else ''}"
    click.echo(f"'{name}' is protected. This would run {tasks}", err=True)
    click.echo(f"on {count}: {fold(plan.hosts)}", err=True)
    hint = "see it in full with `orch plan`; go on without a question with --yes"
    if not sys.stdin.isatty():
        what = f"stage '{name}' is protected, and there is no terminal to ask at"
        raise UsageError(Problem(what, None, hint))
    click.echo("Type the stage's name to go on: ", err=True, nl=False)
    if sys.stdin.readline().strip() != name:
        raise UsageError(Problem("declined: nothing was contacted", None, hint))


def _left(steps: Mapping[str, str]) -> None:
    from orchestrator.model.host_folding import fold
    from orchestrator.model.sanitize import one_line

    click.echo(
        "\ninterrupted again: left at once; see `orch lock status` where apps have locks", err=True
    )
    busy: dict[str, list[str]] = {}
    for host, step in steps.items():
        busy.setdefault(step, []).append(host)
    for step, hosts in busy.items():
        click.echo(f"  {fold(hosts)} may still be busy with {one_line(step)}", err=True)


@click.command("lock", short_help="Show or release the locks of apps.")
@options.contacting
@options.apps
@click.option("--force", is_flag=True, help="Release also what somebody has who is alive.")
@click.option(
    "--become",
    metavar="USER",
    default="",
    help="Look at it as this user, where the login's may not, or has another home folder.",
)
@click.argument("act", metavar="status|release", type=click.Choice(["status", "release"]))
def lock_verb(act: str, apps: tuple[str, ...], force: bool, become: str, **given: Any) -> int:
    """Show who has an app's lock on each of its hosts, or release it.

    A run that changes something for an app has the app's lock on every host of it, so that no
    two do at once. A lock whose owner is gone is said to be stale, and is never taken silently.
    It is the file .orch-lock in the app's deploy_to; where an app has none,
    ~/.orch/locks/PROJECT/APP; where it has a variable lock_path, that.

    \b
      orch -s prod lock status --app blog
      orch -s prod lock release --app blog
    """
    from orchestrator.commands.context import plan_lock

    there = _go(given, f"lock {act}")
    names = _names(apps, _NO_APP) or ("all",)
    if not there.stage.apps:
        raise click.UsageError(f"stage '{there.stage.name}' has no apps, and so no locks")
    plan = plan_lock(there, act, names, os.environ, force=force, become=become)
    return _carry_out(there, plan, given)


VERBS: tuple[click.Command, ...] = (run_verb, exec_verb, plan_verb, lock_verb)
