"""Tasks of one step from the command line: a command, a script or a download."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from orchestrator import templating
from orchestrator.errors import SourcePosition
from orchestrator.model.marked_value import MarkedValue
from orchestrator.playbook.model import DownloadStep, RunStep, Step, Task

_COMMAND_LINE_MARK = SourcePosition("<command line>")

# The script is the command's standard input. It is started by the name of its interpreter, because
# the temporary folder may not allow execution.
_RUN_SCRIPT = """\
script=$(mktemp "${TMPDIR:-/tmp}/orch.XXXXXX")
trap 'rm -f "$script"' EXIT
trap 'exit 143' HUP INT TERM
cat >"$script"
%s "$script" %s </dev/null
"""


def command_text(words: Sequence[str]) -> str:
    """Return the command as shell text.

    Several words are quoted and joined with spaces. A single word is shell text, so that a quoted
    pipeline runs as a pipeline.
    """
    return words[0] if len(words) == 1 else shlex.join(words)


def adhoc_task(
    words: Sequence[str], *, readonly: bool, name: str = "exec", stdin: str | None = None
) -> Task:
    """Return a task that runs the command.

    The command is as in ``command_text``. ``name`` is the name of the task and, unless it is
    ``exec``, of the step. ``stdin`` is the command's standard input.
    """
    literal = command_text(words)
    return _task(literal, "" if name == "exec" else name, name, stdin, readonly=readonly)


def adhoc_script(title: str, script: str, arguments: Sequence[str], *, readonly: bool) -> Task:
    """Return a task that runs a script with these arguments and without standard input.

    Its interpreter is that of its first line (``#!``), else sh. ``title`` is the step's name.
    """
    first = script.partition("\n")[0].rstrip()
    interpreter = first[2:].split(None, 1) if first.startswith("#!") else []
    literal = _RUN_SCRIPT % (shlex.join(interpreter or ["sh"]), shlex.join(arguments))
    return _task(literal, title, "exec", script, readonly=readonly)


def facts_task(names: Sequence[str], *, as_json: bool) -> Task:
    """Return a task that prints the facts of these names, as YAML or JSON."""
    values = ", ".join(f"'{name}': facts.{name}" for name in names)
    form = "to_json" if as_json else "to_nice_yaml(indent=2, sort_keys=false) | trim"
    text = templating.compile_shell(
        f"printf '%s\\n' {{{{ {{{values}}} | {form} }}}}", _COMMAND_LINE_MARK
    )
    nothing = frozenset[str]()
    heading = templating.TextTemplate("facts", _COMMAND_LINE_MARK, nothing, nothing)
    step = Step(RunStep(text=text, readonly=True), _COMMAND_LINE_MARK, name=heading)
    return Task("facts", _COMMAND_LINE_MARK, "Facts from the command line", steps=(step,))


def download_task(path: str, folder: str) -> Task:
    """Return a task that downloads a host's path into a folder of the host's name in ``folder``."""
    source, target = (
        templating.compile_value(MarkedValue(text, _COMMAND_LINE_MARK, literal=True))
        for text in (path, folder)
    )
    download = DownloadStep(source, target, by_host=True)
    step = Step(download, _COMMAND_LINE_MARK)
    return Task("download", _COMMAND_LINE_MARK, "A download from the command line", steps=(step,))


def _task(literal: str, title: str, name: str, stdin: str | None, *, readonly: bool) -> Task:
    nothing, heading, input_text = frozenset[str](), None, None
    if stdin is not None:
        value = MarkedValue(stdin, _COMMAND_LINE_MARK, literal=True)
        input_text = templating.compile_value(value)
    if title:  # templates take time to load
        heading = templating.TextTemplate(title, _COMMAND_LINE_MARK, nothing, nothing)
    run = RunStep(text=None, literal=literal, readonly=readonly, stdin=input_text)
    return Task(
        name,
        _COMMAND_LINE_MARK,
        "A command from the command line",
        steps=(Step(run, _COMMAND_LINE_MARK, name=heading),),
    )
