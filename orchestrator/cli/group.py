"""A command group whose options can be written before or after the command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from orchestrator.errors import suggest_nearest


class CommandGroup(click.Group):
    """Moves options before the command behind it, so that only the command parses them.

    An unknown command is moved as well: it is the mistake, rather than an option that it lacks.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse ``-s dev run uname`` as ``run -s dev uname``."""
        return super().parse_args(ctx, self._command_first(args))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command; fail with a suggestion if it is unknown."""
        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing:
            ctx.fail(f"no such command '{name}'; {self.unknown_command_hint(ctx, name)}")
        return super().resolve_command(ctx, args)

    def unknown_command_hint(self, ctx: click.Context, name: str) -> str:
        """Return what to type instead of an unknown command."""
        hint = suggest_nearest(name, self.list_commands(ctx))
        return hint or f"to run a task, write `orch -s STAGE run {name}`"

    def _command_first(self, args: Sequence[str]) -> list[str]:
        takes_value = self._options_with_values()
        before: list[str] = []
        rest = list(args)
        while rest and rest[0].startswith("-") and rest[0] != "--":
            option = rest.pop(0)
            before.append(option)
            name = option if option.startswith("--") else option[:2]
            has_value = "=" in option if option.startswith("--") else len(option) > 2
            forms = takes_value.get(name, frozenset())
            # an option of one command may be a flag of another
            is_flag = False in forms and bool(rest) and rest[0] in self.commands
            if True in forms and not is_flag and not has_value and rest:
                before.append(rest.pop(0))
        if not rest or rest[0] == "--":
            return [*before, *rest]
        return [rest[0], *before, *rest[1:]]

    def _options_with_values(self) -> dict[str, frozenset[bool]]:
        """Return for each option whether it takes a value: True, False, or both."""
        options: dict[str, frozenset[bool]] = {}
        for command in (self, *self.commands.values()):
            inner = {}
            if isinstance(command, CommandGroup) and command is not self:
                inner = command._options_with_values()
            for param in command.params:
                if isinstance(param, click.Option):
                    valued = frozenset((not (param.is_flag or param.count),))
                    inner |= dict.fromkeys(param.opts, valued)
            for name, forms in inner.items():
                options[name] = options.get(name, frozenset()) | forms
        return options


class DashDashCommand(click.Command):
    """A command whose arguments must follow ``--``, so that they are never taken for options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Fail unless all arguments follow ``--``."""
        before = args[: args.index("--")] if "--" in args else args
        given, rest, _ = self.make_parser(ctx).parse_args(args=list(before))
        words = given.get("command")
        rest = [*rest, *(words if isinstance(words, tuple | list) else ())]
        wants_help = ctx.resilient_parsing or any(a in ctx.help_option_names for a in before)
        has_script = any(word.partition("=")[0] == "--script" for word in before)
        if not wants_help and (rest or not ("--" in args or has_script)):
            what = "arguments of the script" if has_script else "command"
            usage = "--script FILE -- ARGUMENT…" if has_script else "-- COMMAND"
            ctx.fail(f"write `--` before the {what}: orch exec [OPTIONS] {usage}")
        return super().parse_args(ctx, args)


class HostAndCommand(click.Command):
    """A command with a host, and the words after ``--``, which are never taken for options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Fail unless one host precedes ``--``, and all other words follow it."""
        before = args[: args.index("--")] if "--" in args else args
        given, rest, _ = self.make_parser(ctx).parse_args(args=list(before))
        wants_help = ctx.resilient_parsing or any(a in ctx.help_option_names for a in before)
        words = given.get("command")
        extra = [*rest, *(words if isinstance(words, tuple | list) else ())]
        usage = f"{ctx.command_path} HOST [-- COMMAND]"
        if not wants_help and extra:
            ctx.fail(f"write `--` before the command: {usage}")
        if not wants_help and not isinstance(given.get("host"), str):
            ctx.fail(f"name the host: {usage}")
        return super().parse_args(ctx, args)


def reject_repeated(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Fail if an option is given more than once; click would silently use the last value."""
    if isinstance(value, tuple) and len(value) > 1:
        listed = " and ".join(str(v) for v in value)
        raise click.UsageError(f"{param.opts[-1]} is given more than once: {listed}", ctx)
    return value[0] if value else None


class NestedGroup(CommandGroup):
    """The commands of a command, as in `orch vault edit`."""

    def unknown_command_hint(self, ctx: click.Context, _name: str) -> str:
        """Return the commands."""
        return f"the commands are: {', '.join(self.list_commands(ctx))}"
