"""What a command plans: task words, or a task from the command line.

A worker plans the same, so it is plain data that can be sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct

from orchestrator.commands.cli_args import parse_task_requests
from orchestrator.commands.context import PlanOptions, ProjectContext, plan_task, plan_tasks
from orchestrator.planner.plan import Plan
from orchestrator.playbook.adhoc import adhoc_script, adhoc_task, facts_task


class TaskWords(Struct, frozen=True):
    """Tasks, each with the params that follow it, as on the command line."""

    words: tuple[str, ...]

    def plan(
        self, context: ProjectContext, options: PlanOptions, environ: Mapping[str, str]
    ) -> Plan:
        """Return the plan. Raises DefinitionError with all errors."""
        return plan_tasks(context, parse_task_requests(self.words), options, environ)


class AdhocCommand(Struct, frozen=True):
    """A command; ``stdin`` is its standard input."""

    words: tuple[str, ...]
    readonly: bool = False
    stdin: str | None = None

    def plan(
        self, context: ProjectContext, options: PlanOptions, environ: Mapping[str, str]
    ) -> Plan:
        """Return the plan. Raises DefinitionError with all errors."""
        task = adhoc_task(self.words, readonly=self.readonly, stdin=self.stdin)
        return plan_task(context, task, options, environ)


class AdhocScript(Struct, frozen=True):
    """A local script with its arguments; ``title`` names its step."""

    title: str
    script: str
    arguments: tuple[str, ...] = ()
    readonly: bool = False

    def plan(
        self, context: ProjectContext, options: PlanOptions, environ: Mapping[str, str]
    ) -> Plan:
        """Return the plan. Raises DefinitionError with all errors."""
        task = adhoc_script(self.title, self.script, self.arguments, readonly=self.readonly)
        return plan_task(context, task, options, environ)


class AdhocFacts(Struct, frozen=True):
    """The facts of these names."""

    names: tuple[str, ...]
    as_json: bool = False

    def plan(
        self, context: ProjectContext, options: PlanOptions, environ: Mapping[str, str]
    ) -> Plan:
        """Return the plan. Raises DefinitionError with all errors."""
        task = facts_task(self.names, as_json=self.as_json)
        return plan_task(context, task, options, environ)


PlanSource: TypeAlias = TaskWords | AdhocCommand | AdhocScript | AdhocFacts
