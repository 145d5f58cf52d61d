"""Values in commands that a shell calculates with, for ``orch lint``.

Where bash, ksh and zsh calculate, a variable's value is an expression of its own: ``a[$(cmd)]`` in
it runs the command (bash manual, 6.5 Shell Arithmetic; tried with bash 5.2). The same is so of
the names that some builtins are given. A value that stands there itself is held to be a whole
number; this finds the values that come there by way of a variable.

What is odd about tasks without being wrong: the notes of ``orch lint``.

The guarantee of shell templates is about parsing, not about meaning: these are the places
where a value, parsed as the one word that it is, may still mean more than was meant.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from orchestrator.errors import Mark
from orchestrator.model.lazy_regex import regex
from orchestrator.playbook.code_arguments import meaning
from orchestrator.playbook.model import Module, Run, Task
from orchestrator.templating import CommandTemplate, ShellTemplate
from orchestrator.templating.shell.command_prefix import masked
from orchestrator.templating.shell.lexer import Lexer
from orchestrator.templating.shell.lexer_state import COMMANDS, Refusal, begin
from orchestrator.templating.shell.word_state import Spot
from orchestrator.templating.template_parser import Source

_ASSIGNED = regex(r"(?<![\w$])([A-Za-z_]\w*)\+?=[\"']?\{\{")
_COMPARES = r"-(?:eq|ne|lt|le|gt|ge)\b"
_ANY = r"[^\n;]*"

# What follows a value, or a name with it, that is calculated with. V stands for either.
_PLACES = {
    "((…))": r"\(\((?:(?!\)\)).)*?V",
    "let": rf"\blet\s{_ANY}?V",
    "declare -i": rf"\b(?:declare|local|typeset)\s+(?:-\w+\s+)*-\w*i\w*\s{_ANY}?V",
    "[[ … -gt … ]]": rf"\[\[(?:(?!\]\]).)*?(?:V[\"']?\s+{_COMPARES}|{_COMPARES}\s+[\"']?V)",
    "a[…]": r"\w\[[^\]\n]*?V",
    "${…:…}": r"\$\{\w+:(?![-+=?])[^}\n]*?V",
    "${!…}": r"\$\{!N\b",
    "printf -v": rf"\bprintf\s+-v\s*{_ANY}?V",
    "test -v": rf"(?:\btest|\[\[?)\s+-v\s+{_ANY}?V",
    "unset": rf"\bunset\s{_ANY}?V",
    "read": r"\bread\s[^\n;<>]*?V",
}
_BY_VALUE = ("printf -v", "test -v", "unset", "read")  # of a name only what it holds counts


def calculated(source: str) -> Iterator[tuple[int, str]]:
    """Yield the offset of each value in a command that is calculated with as text, or that names a
    variable, with what does so."""
    for found in _ASSIGNED.finditer(source):
        name, rest = found[1], source[found.end() :]
        for place in _PLACES:
            by_value = place in _BY_VALUE
            variable = rf"\$\{{?{name}\b" if by_value else rf"(?<![\w$])\$?\{{?{name}\b"
            if re.search(_pattern(place, variable, name), rest, re.S):
                yield found.end() - 2, place
                break
    for place in ("let", "declare -i", "[[ … -gt … ]]", *_BY_VALUE):
        value = r"(?:\w+\+?=)?[\"']?(\{\{[^}]*\}\})"
        for found in re.finditer(_pattern(place, value, "\0"), source):
            group = found.lastindex or 0
            yield found.start(group), place


def _pattern(place: str, value: str, name: str) -> str:
    return _PLACES[place].replace("V", value).replace("N", name)


Note = tuple[str, Mark]

_LOOKED_AT = 200
"""So many values of one command are looked at, and so many of its pipes are told."""
_CALCULATED = 20_000
"""Characters of the longest text in which values that are calculated with are looked for."""
_ARITHMETIC = (
    "`{place}` takes what this value is for an expression or a name, in which bash runs `a[$(…)]`: "
    "write `$(({{{{ … }}}}))`, which takes a whole number only"
)
_PIPE = "a failure left of a pipe goes unseen in sh; `shell: bash` adds pipefail"


def notes_of(tasks: Iterable[Task]) -> list[Note]:
    """The notes of all these tasks, in the order of the files, each once."""
    in_order = (sorted(_task(task), key=lambda note: note[1]) for task in tasks)
    return list(dict.fromkeys(note for notes in in_order for note in notes))


def _task(task: Task) -> Iterator[Note]:
    if not task.desc:
        yield f"task '{task.name}' has no `desc`", task.mark
    commands = frozenset(name for name, param in task.params.items() if param.runs)
    for step in task.all_steps():
        if isinstance(step.does, Run):
            over = step.loop.over if step.loop else None
            items = over is not None and over.names and over.names <= commands
            yield from _run(step.does, commands | {"item"} if items else commands)
        elif isinstance(step.does, Module):
            yield from _module(step.does, commands)
    for call in task.calls():
        for argument in call.args.values():
            if isinstance(argument, CommandTemplate):
                yield from _values(argument)


def _run(run: Run, commands: frozenset[str]) -> Iterator[Note]:
    for template in (run.text, run.unless, run.onlyif):
        if template is not None:
            yield from _values(template, commands)
    if run.text is not None and PurePosixPath(run.shell).name != "bash":
        source = Source(run.text.source, run.text.mark)
        for offset in _pipes(run.text.source)[:_LOOKED_AT]:
            yield _PIPE, source.at(offset)


def _module(module: Module, commands: frozenset[str]) -> Iterator[Note]:
    for template in (module.functions, module.probe, *(fix.text for fix in module.fixes)):
        if template is not None:
            yield from _values(template, commands)


def _values(
    template: ShellTemplate | CommandTemplate, commands: frozenset[str] = frozenset()
) -> Iterator[Note]:
    """``commands``: params in which each value was quoted where it was written."""
    for number, use in enumerate(template.uses):
        if use.filter and use.sources and use.sources <= commands:
            continue
        if use.filter:
            what = f"`{use.filter}` takes text apart or as it is: be sure of where it is from"
            yield what, use.mark
        elif number < _LOOKED_AT and (note := meaning(masked(use.command))):
            yield note, use.mark
    if not isinstance(template, ShellTemplate) or len(template.source) > _CALCULATED:
        return
    source = Source(template.source, template.mark)
    for offset, place in dict(calculated(template.source)).items():
        yield _ARITHMETIC.format(place=place), source.at(offset)


def _pipes(source: str) -> list[int]:
    """The offset of the first pipe on each line: after one, the others say nothing new."""
    found: list[int] = []
    try:
        _Pipes(found).feed(masked(source), 0)
    except Refusal:  # branches that open quotes make no sense one after the other
        return []
    ends = [end.start() for end in re.finditer("\n", source)]
    lines = {bisect_left(ends, offset): offset for offset in reversed(found)}
    return sorted(lines.values())


class _Pipes(Lexer):
    """Puts the offset of every ``|`` that is one to the shell into ``found``."""

    def __init__(self, found: list[int]) -> None:
        super().__init__(begin(), [])
        self._found = found

    def _step(self, i: int) -> int:
        top = self.state.top
        pattern = {alt.spot for alt in top.alts} & {Spot.PATTERN, Spot.PATTERNS}
        begins = top.kind in COMMANDS and not pattern and self.text[i] == "|"
        j = super()._step(i)
        if begins and self.text[i:j] != "||":
            self._found.append(i)
        return j
