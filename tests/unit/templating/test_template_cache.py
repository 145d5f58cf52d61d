from __future__ import annotations

import subprocess
import sys

from orchestrator.errors import SourcePosition
from orchestrator.model.marked_value import MarkedValue
from orchestrator.templating import TemplateCache
from tests.support.template_scope import HERE, PlainScope


def test_each_template_is_compiled_once_by_text_and_place() -> None:
    templates = TemplateCache()
    assert templates.shell("a {{ x }}", HERE) is templates.shell("a {{ x }}", HERE)
    assert templates.shell("a {{ x }}", HERE) is not templates.shell(
        "a {{ x }}", SourcePosition("b")
    )
    assert templates.text("a", HERE) is templates.text("a", HERE)
    assert templates.expression("a", HERE) is templates.expression("a", HERE)
    one, same = MarkedValue("a", HERE), MarkedValue("a", HERE)
    assert templates.value(one) is templates.value(one)
    assert templates.value(same).render(PlainScope()) == "a"


def test_jinja_is_loaded_with_the_first_template_only() -> None:
    code = (
        "import sys, orchestrator.templating as t; t.ResultPending; assert 'jinja2' not in sys.modules\n"
        "from orchestrator.templating import compile_shell, compile_text, compile_expression, compile_value, compile_condition, TemplateCache\n"
        "assert all(callable(f) for f in (compile_shell, compile_text, compile_expression, compile_value, compile_condition, TemplateCache))\n"
        "import orchestrator.templating.remote_conditions\n"
        "assert callable(t.compile_condition) and callable(t.compile_shell) and callable(t.compile_text)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
