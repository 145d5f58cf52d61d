"""All kinds of templates by one name each."""

from orchestrator.templating.commands import compile_command as command
from orchestrator.templating.expressions import compile_expression as expression
from orchestrator.templating.shelltext.template import compile_shell as shell
from orchestrator.templating.values import compile_text as text
from orchestrator.templating.values import compile_value as value

__all__ = ["command", "expression", "shell", "text", "value"]
