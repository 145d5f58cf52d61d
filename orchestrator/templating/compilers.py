"""All kinds of templates by one name each."""

from orchestrator.templating.command_template import compile_command as command
from orchestrator.templating.expressions import compile_expression as expression
from orchestrator.templating.shell.shell_template import compile_shell as shell
from orchestrator.templating.text_templates import compile_text as text
from orchestrator.templating.text_templates import compile_value as value

__all__ = ["command", "expression", "shell", "text", "value"]
