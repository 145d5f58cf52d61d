"""The lines of a console: commands, the hosts that they are for, and the console's own commands."""

from __future__ import annotations

from msgspec import Struct

from orchestrator.errors import Diagnostic, UsageError, suggest_nearest
from orchestrator.model.lazy_regex import lazy_regex

DIRECTIVES: dict[str, tuple[str, str]] = {
    "hosts": ("", "List the selected hosts, with the status and folder of each."),
    "limit": ("[LIMIT]", "Select hosts from now on, as -l does; alone, all hosts again."),
    "become": ("[USER|off]", "Run commands as this user (default: root), or as the login user."),
    "run": ("[OPTIONS] TASK [KEY=VALUE]…", "Run tasks of the project; --check, --diff, …"),
    "diff": ("", "Show how outputs of the last command differ from the most common one."),
    "reconnect": ("", "Connect lost hosts again."),
    "help": ("", "Show these commands."),
    "quit": ("", "Close the connections and exit, as Ctrl-D does."),
}
"""The console's own commands, without their colon, with their argument and meaning."""

SELECTORS = {
    "@ok COMMAND": "Run a command on the hosts on which the last one succeeded.",
    "@failed COMMAND": "Run it on the hosts on which the last one failed.",
    "@LIMIT COMMAND": "Run it on these hosts or roles: @web, @web1,db[1-3], @all:!db1.",
}
"""What may precede a command."""

_SELECTED = lazy_regex(r"@(\S*)\s*((?s:.*))")
_DIRECTIVE = lazy_regex(r":([A-Za-z]\S*)\s*((?s:.*))")  # `:` alone is a command of the shell
_EXITS = frozenset({"exit", "quit", "logout"})


class ConsoleLine(Struct, frozen=True):
    """A line: a ``directive`` with its ``argument``, or a ``command`` for the hosts of a selector.

    The selector is empty for all selected hosts.
    """

    directive: str = ""
    argument: str = ""
    selector: str = ""
    command: str = ""


def parse_line(text: str) -> ConsoleLine | None:
    """Return the line, or None if it is empty or a comment.

    Raises UsageError for an unknown directive, a selector without a command, and a NUL.
    """
    stripped = text.strip()
    if not stripped or stripped.startswith("#"):
        return None
    if "\0" in stripped:
        raise UsageError(Diagnostic("a command cannot contain a NUL character"))
    if stripped in _EXITS:
        return ConsoleLine("quit")
    if match := _DIRECTIVE.fullmatch(stripped):
        return _parse_directive(match[1], match[2])
    if match := _SELECTED.fullmatch(stripped):
        if not match[1] or not match[2]:
            hint = "write @ok, @failed or @LIMIT, and then a command: @web1,db[1-3] uptime"
            what = "the command is missing" if match[1] else "the hosts are missing"
            raise UsageError(Diagnostic(f"{what}: {stripped}", None, hint))
        return ConsoleLine(selector=match[1], command=match[2])
    return ConsoleLine(command=stripped)


def _parse_directive(name: str, argument: str) -> ConsoleLine:
    if name not in DIRECTIVES:
        known = [f":{each}" for each in DIRECTIVES]
        hint = suggest_nearest(f":{name}", known) or "`:help` lists the commands of the console"
        raise UsageError(Diagnostic(f"no such command ':{name}'", None, hint))
    if argument and not DIRECTIVES[name][0]:
        raise UsageError(Diagnostic(f":{name} takes no argument: {argument}"))
    return ConsoleLine(name, argument)


def help_rows() -> list[tuple[str, str]]:
    """Return what can be typed, each with its meaning."""
    rows = [("COMMAND", "Run a shell command on all selected hosts, in the folder of each.")]
    rows += SELECTORS.items()
    rows += [
        (f":{name} {argument}".rstrip(), meaning)
        for name, (argument, meaning) in DIRECTIVES.items()
    ]
    return rows
