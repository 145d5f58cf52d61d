"""What is odd about tasks without being wrong: the notes of ``orch lint``.

The guarantee of shell templates is about parsing, not about meaning: these are the places
where a value, parsed as the one word that it is, may still mean more than was meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from orchestrator.errors import Mark
from orchestrator.tasks.model import Run, Task

_PARTS = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|&&|\|\||[;&|\n()]|[^\s;&|()]+", re.S)
_ENDS = frozenset({"&&", "||", ";", "&", "|", "\n", "(", ")"})
_CODE = frozenset({"eval", "awk", "gawk", "mawk", "sed", "perl", "python3", "ssh", "xargs"})
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "su", "runuser"})
_PLAIN = frozenset({"echo", "printf", "cd", "test", "[", "export", "for", "case", "exit", "return"})
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


def notes_of(tasks: Iterable[Task]) -> list[tuple[str, Mark]]:
    """The notes of all these tasks, in the order of the files."""
    return [note for task in tasks for note in _task(task)]


def _task(task: Task) -> Iterator[tuple[str, Mark]]:
    if not task.desc:
        yield f"task '{task.name}' has no `desc`", task.mark
    yield from _inside(task)


def _inside(task: Task) -> Iterator[tuple[str, Mark]]:
    for step in task.all_steps():
        if isinstance(step.does, Run):
            yield from _run(step.does)


def _run(run: Run) -> Iterator[tuple[str, Mark]]:
    for template in (run.text, run.unless, run.onlyif):
        if template is None:
            continue
        for use in template.raw_uses:
            yield (
                f"`{use.filter}` takes text apart or as it is: be sure of where it is from",
                use.mark,
            )
        for words in _commands(template.source):
            if note := _meaning(words):
                yield note, template.mark
    if run.text is not None and run.shell == "sh" and _pipes(run.text.source):
        yield (
            "a failure left of a pipe goes unseen in sh; `shell: bash` adds pipefail",
            run.text.mark,
        )


def _commands(source: str) -> Iterator[list[str]]:
    """The words of each simple command, roughly: enough to point at, not to rely on."""
    words: list[str] = []
    for part in _PARTS.findall(source):
        if part in _ENDS:
            yield words
            words = []
        elif not part.startswith("{%"):
            words.append(part)
    yield words


def _meaning(words: list[str]) -> str:
    while words and _ASSIGNMENT.match(words[0]):
        words = words[1:]
    if not words or not any("{{" in word for word in words[1:]):
        return ""
    name = words[0].rpartition("/")[2]
    if name in _CODE or (name in _SHELLS and "-c" in words):
        return f"`{name}` reads what it is given as code of its own: a value there can be code"
    if name in _PLAIN or name.startswith("{"):
        return ""
    for word in words[1:]:
        if word == "--":
            return ""
        if word.startswith("{{"):
            return f"a value given to `{name}` may read as an option: write `--` before it"
    return ""


def _pipes(source: str) -> bool:
    return re.search(r"[^|\n]\|[^|]", source) is not None
