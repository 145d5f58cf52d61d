"""Templates: command text that no value can break out of, values, file text and conditions.

Jinja is loaded when the first template is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from orchestrator.templating.scope import ResultPending, Scope

if TYPE_CHECKING:
    from orchestrator.templating.cache import TemplateCache
    from orchestrator.templating.command_template import CommandTemplate, compile_command
    from orchestrator.templating.compile_cache import CompileCache, cache_folder
    from orchestrator.templating.expressions import Expression, compile_expression
    from orchestrator.templating.filter_calls import NO_FILTERS, OwnFilters
    from orchestrator.templating.partial_check import check_known, names_in_any_case
    from orchestrator.templating.remote_conditions import compile_condition
    from orchestrator.templating.shell.shell_template import (
        ExpressionUse,
        ShellTemplate,
        compile_shell,
    )
    from orchestrator.templating.text_templates import (
        TextTemplate,
        ValueTemplate,
        compile_text,
        compile_value,
    )

__all__ = [
    "NO_FILTERS",
    "CommandTemplate",
    "CompileCache",
    "Expression",
    "ExpressionUse",
    "OwnFilters",
    "ResultPending",
    "Scope",
    "ShellTemplate",
    "TemplateCache",
    "TextTemplate",
    "ValueTemplate",
    "cache_folder",
    "check_known",
    "compile_command",
    "compile_condition",
    "compile_expression",
    "compile_shell",
    "compile_text",
    "compile_value",
    "names_in_any_case",
]

_MODULE_OF_NAME = {
    "CommandTemplate": "command_template",
    "CompileCache": "compile_cache",
    "Expression": "expressions",
    "NO_FILTERS": "filter_calls",
    "OwnFilters": "filter_calls",
    "ExpressionUse": "shell.shell_template",
    "ShellTemplate": "shell.shell_template",
    "TemplateCache": "cache",
    "TextTemplate": "text_templates",
    "ValueTemplate": "text_templates",
    "cache_folder": "compile_cache",
    "check_known": "partial_check",
    "compile_command": "command_template",
    "compile_condition": "remote_conditions",
    "compile_expression": "expressions",
    "compile_shell": "shell.shell_template",
    "compile_text": "text_templates",
    "compile_value": "text_templates",
    "names_in_any_case": "partial_check",
}


def __getattr__(name: str) -> Any:
    """Load a name on first use.

    No module may have the name of a function here, because the module would hide it.
    """
    if name not in _MODULE_OF_NAME:
        raise AttributeError(name)
    module = import_module(f"{__name__}.{_MODULE_OF_NAME[name]}")
    return getattr(module, name)
