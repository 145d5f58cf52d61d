"""Warnings of ``orch lint``: constructs in tasks that are valid but suspicious.

Shell templates guarantee that a value is parsed as one word; they cannot guarantee its meaning.
These warnings point out values that may mean more than was intended.

In arithmetic contexts bash, ksh and zsh evaluate the content of a variable as an expression:
``a[$(cmd)]`` in it runs the command (bash manual, 6.5 Shell Arithmetic; tested with bash 5.2). The
same applies to variable names passed to some builtins. A value written directly in arithmetic is
checked to be a whole number; the warnings cover values that reach arithmetic through a variable.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from orchestrator.errors import SourcePosition
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.playbook.code_arguments import code_argument_note
from orchestrator.playbook.model import ModuleSpec, RunStep, Task
from orchestrator.templating import CommandTemplate, ShellTemplate
from orchestrator.templating.shell.command_prefix import mask_templates
from orchestrator.templating.shell.lexer import ShellLexer
from orchestrator.templating.shell.lexer_state import COMMAND_KINDS, UnsafeShellError, initial_state
from orchestrator.templating.shell.word_state import WordRole
from orchestrator.templating.template_parser import TemplateSource

_ASSIGNED = lazy_regex(r"(?<![\w$])([A-Za-z_]\w*)\+?=[\"']?\{\{")
_COMPARES = r"-(?:eq|ne|lt|le|gt|ge)\b"
_ANY_TEXT = r"[^\n;]*"

# Patterns of arithmetic contexts. V stands for the value or the variable that holds it.
_ARITHMETIC_CONTEXTS = {
    "((…))": r"\(\((?:(?!\)\)).)*?V",
    "let": rf"\blet\s{_ANY_TEXT}?V",
    "declare -i": rf"\b(?:declare|local|typeset)\s+(?:-\w+\s+)*-\w*i\w*\s{_ANY_TEXT}?V",
    "[[ … -gt … ]]": rf"\[\[(?:(?!\]\]).)*?(?:V[\"']?\s+{_COMPARES}|{_COMPARES}\s+[\"']?V)",
    "a[…]": r"\w\[[^\]\n]*?V",
    "${…:…}": r"\$\{\w+:(?![-+=?])[^}\n]*?V",
    "${!…}": r"\$\{!N\b",
    "printf -v": rf"\bprintf\s+-v\s*{_ANY_TEXT}?V",
    "test -v": rf"(?:\btest|\[\[?)\s+-v\s+{_ANY_TEXT}?V",
    "unset": rf"\bunset\s{_ANY_TEXT}?V",
    "read": r"\bread\s[^\n;<>]*?V",
}
# Contexts in which only a variable's content matters, not its name.
_BY_VALUE = ("printf -v", "test -v", "unset", "read")


def find_arithmetic_values(source: str) -> Iterator[tuple[int, str]]:
    """Yield the offset of each value that is evaluated as arithmetic or as a name, and the context.

    The context is a key of ``_ARITHMETIC_CONTEXTS``.
    """
    for found in _ASSIGNED.finditer(source):
        name, rest = found[1], source[found.end() :]
        for context in _ARITHMETIC_CONTEXTS:
            by_value = context in _BY_VALUE
            variable = rf"\$\{{?{name}\b" if by_value else rf"(?<![\w$])\$?\{{?{name}\b"
            if re.search(_context_pattern(context, variable, name), rest, re.S):
                yield found.end() - 2, context
                break
    for context in ("let", "declare -i", "[[ … -gt … ]]", *_BY_VALUE):
        value = r"(?:\w+\+?=)?[\"']?(\{\{[^}]*\}\})"
        for found in re.finditer(_context_pattern(context, value, "\0"), source):
            group = found.lastindex or 0
            yield found.start(group), context


def _context_pattern(context: str, value: str, name: str) -> str:
    return _ARITHMETIC_CONTEXTS[context].replace("V", value).replace("N", name)


LintWarning = tuple[str, SourcePosition]

_MAX_CHECKED = 200
"""Maximum number of values checked and of pipes reported per command."""
_MAX_ARITHMETIC_CHARS = 20_000
"""Maximum length in characters of a text that is searched for arithmetic values."""
_ARITHMETIC = (
    "`{place}` evaluates this value as an expression or a name, and bash runs `a[$(…)]` in it: "
    "write `$(({{{{ … }}}}))`, which accepts only a whole number"
)
_PIPE = "sh ignores a failure left of a pipe; `shell: bash` sets pipefail"


def lint_warnings(tasks: Iterable[Task]) -> list[LintWarning]:
    """Return the warnings of all these tasks without duplicates, in file order."""
    in_order = (sorted(_task_warnings(task), key=lambda warning: warning[1]) for task in tasks)
    return list(dict.fromkeys(note for notes in in_order for note in notes))


def _task_warnings(task: Task) -> Iterator[LintWarning]:
    if not task.desc:
        yield f"task '{task.name}' has no `desc`", task.mark
    commands = frozenset(name for name, param in task.params.items() if param.is_command)
    for step in task.all_steps():
        if isinstance(step.action, RunStep):
            over = step.loop.over if step.loop else None
            items = over is not None and over.names and over.names <= commands
            own = {step.loop.var} if step.loop and items else set()
            yield from _run_warnings(step.action, commands | own)
        elif isinstance(step.action, ModuleSpec):
            yield from _module_warnings(step.action, commands)
    for call in task.all_calls():
        for argument in call.args.values():
            if isinstance(argument, CommandTemplate):
                yield from _value_warnings(argument)


def _run_warnings(run: RunStep, commands: frozenset[str]) -> Iterator[LintWarning]:
    for template in (run.text, run.unless, run.onlyif):
        if template is not None:
            yield from _value_warnings(template, commands)
    if run.text is not None and PurePosixPath(run.shell).name != "bash":
        source = TemplateSource(run.text.source, run.text.mark)
        for offset in _find_pipes(run.text.source)[:_MAX_CHECKED]:
            yield _PIPE, source.mark_at(offset)


def _module_warnings(module: ModuleSpec, commands: frozenset[str]) -> Iterator[LintWarning]:
    for template in (module.functions, module.probe, *(fix.text for fix in module.fixes)):
        if template is not None:
            yield from _value_warnings(template, commands)


def _value_warnings(
    template: ShellTemplate | CommandTemplate, commands: frozenset[str] = frozenset()
) -> Iterator[LintWarning]:
    """Yield the warnings about the values of one template.

    ``commands`` are the params in which each value was quoted in the command's own text.
    """
    for number, use in enumerate(template.uses):
        if use.filter and use.sources and use.sources <= commands:
            continue
        if use.filter:
            what = (
                f"`{use.filter}` does not quote its text as one word: make sure that it is trusted"
            )
            yield what, use.mark
        elif number < _MAX_CHECKED and (note := code_argument_note(mask_templates(use.command))):
            yield note, use.mark
    if not isinstance(template, ShellTemplate) or len(template.source) > _MAX_ARITHMETIC_CHARS:
        return
    source = TemplateSource(template.source, template.mark)
    for offset, context in dict(find_arithmetic_values(template.source)).items():
        yield _ARITHMETIC.format(place=context), source.mark_at(offset)


def _find_pipes(source: str) -> list[int]:
    """Return the offset of the first pipe on each line; further ones would repeat the warning."""
    found: list[int] = []
    try:
        _PipeFinder(found).feed(mask_templates(source), 0)
    except UnsafeShellError:  # branches that open quotes cannot be lexed in sequence
        return []
    ends = [end.start() for end in re.finditer("\n", source)]
    lines = {bisect_left(ends, offset): offset for offset in reversed(found)}
    return sorted(lines.values())


class _PipeFinder(ShellLexer):
    """A lexer that collects in ``found`` the offset of every ``|`` that is a pipe."""

    def __init__(self, found: list[int]) -> None:
        super().__init__(initial_state(), [])
        self._found = found

    def _lex_next(self, i: int) -> int:
        top = self.state.top
        pattern = {alt.role for alt in top.alternatives} & {WordRole.PATTERN, WordRole.PATTERNS}
        begins = top.kind in COMMAND_KINDS and not pattern and self.text[i] == "|"
        j = super()._lex_next(i)
        if begins and self.text[i:j] != "||":
            self._found.append(i)
        return j
