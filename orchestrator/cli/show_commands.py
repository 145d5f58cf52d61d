"""Verbs that show what the project holds: stages, hosts, tasks, doc, vars, lint."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import completion, options
from orchestrator.errors import Exit

if TYPE_CHECKING:
    from orchestrator.commands.show_vars import Origin


@click.command("stages", short_help="List the stages.")
@options.unstaged
@options.json
def stages_verb(directory: str | None, as_json: bool) -> int:
    """List the stages of the project: the folders of inventories/."""
    from orchestrator.commands.listing import stages_of

    rows, refused = stages_of(directory)
    if as_json:
        _json([{"stage": r.name, "desc": r.desc, "hosts": r.hosts, "error": r.error} for r in rows])
        return Exit.OK
    _table(
        [("STAGE", False), ("HOSTS", True), ("", False)],
        [(r.name, str(r.hosts) if r.hosts is not None else "", r.error or r.desc) for r in rows],
    )
    _problems(refused)
    return Exit.OK


@click.command("hosts", short_help="List a stage's hosts.")
@options.stage
@options.limit
@options.json
def hosts_verb(as_json: bool, **given: Any) -> int:
    """List the hosts of a stage, or those that --limit selects, with address and roles."""
    from orchestrator.commands.context import Where, go

    there = go(Where(given["directory"], given["stages"], given["limit"]), os.environ, "hosts")
    if as_json:
        _json(
            [
                {
                    "host": h.name,
                    "address": h.connect.address,
                    "port": h.connect.port,
                    "user": h.connect.user,
                    "transport": h.connect.transport,
                    "roles": list(h.roles),
                }
                for h in there.hosts
            ]
        )
        return Exit.OK
    rows = []
    for host in there.hosts:
        to = host.connect
        port = f":{to.port}" if to.port else ""
        address = f"[{to.address}]" if port and ":" in to.address else to.address
        where = f"{to.user}@{address}{port}" if to.user else f"{address}{port}"
        rows.append((host.name, where, to.transport, ", ".join(host.roles)))
    _table([("HOST", False), ("ADDRESS", False), ("TRANSPORT", False), ("ROLES", False)], rows)
    return Exit.OK


@click.command("tasks", short_help="List the tasks.")
@options.unstaged
@options.json
@click.option("--tree", is_flag=True, help="What runs in which order, hooks and calls included.")
@click.argument("task", required=False, shell_complete=completion.tasks)
def tasks_verb(task: str | None, tree: bool, directory: str | None, as_json: bool) -> int:
    """List the tasks of the project, with what each is for.

    With --tree, show what happens in TASK (or in every task that no other runs) in the order
    in which it would: hooks at their place, playbooks and called tasks unfolded. What depends
    on a stage, like the hosts of a batch, is shown by `orch plan`.
    """
    if tree:
        from orchestrator.commands.task_tree import tree_of

        if as_json:
            raise click.UsageError("--tree is for reading; `orch plan --json` is for programs")
        _lines(tree_of(directory, task))
        return Exit.OK
    if task is not None:
        raise click.UsageError(f"write `orch tasks --tree {task}`, or `orch doc {task}`")
    from orchestrator.commands.listing import tasks_of

    rows, problems = tasks_of(directory)
    if as_json:
        _json([{"task": r.name, "desc": r.desc, "error": r.error} for r in rows])
    else:
        _table([("TASK", False), ("", False)], [(r.name, r.error or r.desc) for r in rows])
        _problems(problems)
    return Exit.OK


@click.command("doc", short_help="Explain a task or module; list the modules.")
@options.unstaged
@click.argument("task", required=False, shell_complete=completion.callables)
def doc_verb(task: str | None, directory: str | None) -> int:
    """Show what a task or module is for, its params, and what it does.

    Without a name, list the modules that come with orch.
    """
    from orchestrator.commands.listing import doc_of, modules

    if task is None:
        _table([("MODULE", False), ("", False)], modules())
        return Exit.OK
    _lines(doc_of(directory, task))
    return Exit.OK


@click.command("vars", short_help="Show a host's variables.")
@options.stage
@options.extra
@options.json
@click.option("--origin", is_flag=True, help="Where each value stands, and what it overrides.")
@click.option(
    *("-a", "--app"),
    metavar="APP",
    shell_complete=completion.apps,
    help="As a run for this app of the stage sees them.",
)
@click.argument("host", shell_complete=completion.only_hosts)
def vars_verb(
    host: str,
    extra: tuple[str, ...],
    origin: bool,
    app: str | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Show the variables of a host in a stage, as templates will see them."""
    from orchestrator.commands.context import Where, choose_apps, go
    from orchestrator.commands.show_vars import origins_of, values_of

    there = go(Where(given["directory"], given["stages"], None), os.environ, f"vars {host}")
    if app is not None and (app == "all" or "," in app):
        raise click.UsageError("`vars --app` takes the name of one app")
    chosen = choose_apps(there.stage, (app,))[0] if app is not None else None
    if origin:
        written = origins_of(there, host, extra, chosen)
        if as_json:
            _json({name: _origin_json(values) for name, values in written.items()})
        else:
            _lines(line for name, values in written.items() for line in _origin_lines(name, values))
        return Exit.OK
    found = values_of(there, host, extra, os.environ, chosen)
    if as_json:
        _json(found)
    else:
        _lines(f"{name}: {_text(value)}" for name, value in found.items())
    return Exit.OK


def _origin_json(values: Sequence[Origin]) -> dict[str, object]:
    first, *overridden = (value.plain() for value in values)
    return {**first, "overrides": overridden}


def _origin_lines(name: str, values: Sequence[Origin]) -> Iterator[str]:
    for number, origin in enumerate(values):
        yield f"{'  over' if number else f'{name}:'} {_text(origin.value)}  {origin.mark}"


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


@click.command("lint", short_help="Check the whole project.")
@options.stage
def lint_verb(stages: tuple[str, ...], directory: str | None) -> int:
    """Read every task and every stage (or the one named) and tell all that is wrong.

    Errors make the exit code 3; notes do not.
    """
    from orchestrator.commands.project_lint import lint

    errors, notes = lint(directory, stages)
    _lines(f"{mark}: note: {text}" for text, mark in notes)
    _problems(errors)
    if not errors:
        click.echo("no errors" + (f", {len(notes)} note{'s' * (len(notes) != 1)}" if notes else ""))
    return Exit.DEFINITION if errors else Exit.OK


@click.command("completion", short_help="Print the shell's completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_verb(shell: str) -> int:
    """Print a script that completes stages, hosts and tasks.

    \b
      bash:  orch completion bash > ~/.local/share/bash-completion/completions/orch
      zsh:   orch completion zsh > "${fpath[1]}/_orch"
      fish:  orch completion fish > ~/.config/fish/completions/orch.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    root = click.get_current_context().find_root().command
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    if shell == "bash":  # else `deploy:publish` would be three words to it
        click.echo("COMP_WORDBREAKS=${COMP_WORDBREAKS//:}")
    click.echo(kind(root, {}, "orch", "_ORCH_COMPLETE").source())
    return Exit.OK


def _table(columns: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]]) -> None:
    from orchestrator.output.console import open_out
    from orchestrator.output.tables import Column, table

    out = open_out(sys.stdout, os.environ)
    out.lines(table([Column(title, right) for title, right in columns], rows, out.width))


def _lines(lines: Iterable[str]) -> None:
    from orchestrator.model.sanitize import visible
    from orchestrator.output.console import open_out

    open_out(sys.stdout, os.environ).lines(visible(line) for line in lines)


def _json(data: object) -> None:
    from orchestrator.model.text_encoding import dump_json

    click.echo(dump_json(data))


def _problems(problems: Sequence[Any]) -> None:
    from orchestrator.output.console import open_out
    from orchestrator.output.error_text import problems_text

    if problems:
        out = open_out(sys.stderr, os.environ)
        out.lines([problems_text(problems, out)])


VERBS: tuple[click.Command, ...] = (
    stages_verb,
    hosts_verb,
    tasks_verb,
    doc_verb,
    vars_verb,
    lint_verb,
    completion_verb,
)
