"""What a module's scripts run as code: text of the module itself, and params of type ``command``.

Any other value may hold what nobody quoted. On its way through the shell's variables a value is
followed as far as one of them is assigned to another. The commands that read code of their own
(``sh -c``, ``awk``, ``ssh``) are what `lint` notes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from orchestrator.errors import Mark, Problems
from orchestrator.library import RUNS
from orchestrator.model.regex import regex
from orchestrator.tasks.meaning import receiver
from orchestrator.tasks.model import Module, Param
from orchestrator.templating import ShellTemplate
from orchestrator.templating.shelltext.beginning import masked
from orchestrator.templating.syntax import Source

_BEGIN = r"(?:^|[\s;&|({!])"
_HOLDS = regex(_BEGIN + r"""([A-Za-z_]\w*)=(?:"[^"]*|'[^']*|[^\s"';&|]*)$""")
_COPIES = regex(_BEGIN + r"""([A-Za-z_]\w*)=("[^"]*"|[^\s"';&|]*)""")
_FUNCTION = regex(
    r"^([ \t]*)([A-Za-z_]\w*)\(\)[ \t]*(?:[{(][^\n]*[})][ \t]*$|[{(](?s:.*?)^\1[})])", re.M
)
_NAME = regex(r"(?<!\\)\$\{?#?([A-Za-z_]\w*|[0-9@*])")
_LATER = regex(r"'[^']*'")  # what it expands is expanded when it runs, as a value


class Evals:
    """Looks through the scripts of one module. What is wrong goes to ``problems``."""

    def __init__(self, module: Module, params: Mapping[str, Param], problems: Problems) -> None:
        fixes = (fix.text for fix in module.fixes)
        scripts = (module.functions, module.probe, *fixes)
        self.scripts: Sequence[ShellTemplate] = [text for text in scripts if text is not None]
        self.params, self.problems = params, problems
        self.commands = {name for name, param in params.items() if param.runs}
        self.runs: dict[str, int | None] = {"eval": None, **RUNS, **self._own()}

    def check(self) -> None:
        """Tell where a value that is no command would be run as one."""
        held = self._held()
        for script in self.scripts:
            for use in script.uses:
                sources = use.sources - self.commands
                given = receiver(masked(use.command))
                if sources and given and self._runs(*given):
                    self._tell(given[0], min(sources), use.mark)
            source = Source(script.source, script.mark)
            for offset, command, words in self._calls(masked(script.source)):
                for name in sorted(held.keys() & _names(words)):
                    self._tell(command, held[name], source.at(offset))

    def _runs(self, command: str, number: int) -> bool:
        return command in self.runs and self.runs[command] in (None, number)

    def _own(self) -> dict[str, None]:
        """The module's functions that run what they are given."""
        found: dict[str, None] = {}
        for script in self.scripts:
            for function in _FUNCTION.finditer(script.source):
                evals = re.findall(_BEGIN + r"eval\s+([^\n;]*)", function[0])
                if any(n[0] in "0123456789@*" for words in evals for n in _names(words)):
                    found[function[2]] = None
        return found

    def _held(self) -> dict[str, str]:
        """The shell's variables that hold a value which is no command: whose value."""
        held = {
            found[1]: min(use.sources - self.commands)
            for script in self.scripts
            for use in script.uses
            if use.sources - self.commands and (found := _HOLDS.search(use.command))
        }
        copies = [pair for s in self.scripts for pair in _COPIES.findall(masked(s.source))]
        for _ in copies:
            for name, text in copies:
                for other in held.keys() & _names(text):
                    held.setdefault(name, held[other])
        return held

    def _calls(self, text: str) -> Iterator[tuple[int, str, str]]:
        """Each call of what runs its arguments: its offset, its name, its words."""
        names = "|".join(map(re.escape, self.runs))
        for found in re.finditer(rf"{_BEGIN}({names})(?=\s)([^\n;&|]*)", text):
            yield found.start(1), found[1], found[2]

    def _tell(self, command: str, name: str, mark: Mark) -> None:
        what = f"`{command}` runs what it is given, and '{name}' is not a command"
        hint = "only a param of `type: command` may reach it"
        if name in self.params:
            hint = f"declare `{name}: {{type: command}}` under `params`"
        self.problems.add(what, mark, hint)


def _names(words: str) -> set[str]:
    """The variables and the arguments that are expanded in these words."""
    return set(_NAME.findall(_LATER.sub("", words)))


def check_evals(module: Module, params: Mapping[str, Param], problems: Problems) -> None:
    """Tell where a script of the module would run a value that is no command."""
    evals = Evals(module, params, problems)
    if any(name in script.source for name in evals.runs for script in evals.scripts):
        evals.check()
