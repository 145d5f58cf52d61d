"""All kinds of templates by one name each."""

from orchestrator.templating.expressions import compile_expression as expression
from orchestrator.templating.shelltext.template import compile_shell as shell
from orchestrator.templating.values import compile_text as text
from orchestrator.templating.values import compile_value as value

__all__ = ["expression", "shell", "text", "value"]
