"""Templates: command text that no value can break out of, values, file text, conditions.

Jinja is loaded when the first template is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from orchestrator.templating.scope import Scope, Waits

if TYPE_CHECKING:
    from orchestrator.templating.cache import Templates
    from orchestrator.templating.command_template import CommandTemplate
    from orchestrator.templating.compilers import command, expression, shell, text, value
    from orchestrator.templating.expressions import Expression
    from orchestrator.templating.partial_check import check_known, names_in_any_case
    from orchestrator.templating.remote_conditions import condition
    from orchestrator.templating.shell.shell_template import ShellTemplate, Use
    from orchestrator.templating.text_templates import TextTemplate, ValueTemplate

__all__ = [
    "CommandTemplate",
    "Expression",
    "Scope",
    "ShellTemplate",
    "Templates",
    "TextTemplate",
    "Use",
    "ValueTemplate",
    "Waits",
    "check_known",
    "command",
    "condition",
    "expression",
    "names_in_any_case",
    "shell",
    "text",
    "value",
]

_WHERE = {
    "CommandTemplate": "command_template",
    "Expression": "expressions",
    "ShellTemplate": "shell.shell_template",
    "TextTemplate": "text_templates",
    "Templates": "cache",
    "Use": "shell.shell_template",
    "ValueTemplate": "text_templates",
    "check_known": "partial_check",
    "condition": "remote_conditions",
    "names_in_any_case": "partial_check",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for. No module bears the name of a function, or it would hide it."""
    if name not in __all__:
        raise AttributeError(name)
    module = import_module(f"{__name__}.{_WHERE.get(name, 'compilers')}")
    return getattr(module, name)
