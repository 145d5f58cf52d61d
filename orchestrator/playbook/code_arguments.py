"""What a value may mean to the command that it is given to, beyond the word that it is.

Read from the command's text before the value, as far as the common commands' manuals go.
What is not known here is taken for a command whose options begin with ``-``.

What a module's scripts run as code: text of the module itself, and params of type ``command``.

Any other value may hold what nobody quoted. On its way through the shell's variables a value is
followed as far as one of them is assigned to another. The commands that read code of their own
(``sh -c``, ``awk``, ``ssh``) are what `lint` notes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from orchestrator.errors import Mark, Problems
from orchestrator.model.lazy_regex import regex
from orchestrator.modules import RUNS
from orchestrator.playbook.model import Module, Param
from orchestrator.templating import ShellTemplate
from orchestrator.templating.shell.command_prefix import VALUE, masked, named, split
from orchestrator.templating.template_parser import Source

_PYTHON = regex(r"python[0-9.]*")

_PLAIN = frozenset(
    "echo printf cd test [ [[ export local readonly for select case function exit return state"
    " : true false".split()
)


class _Reads(Struct, frozen=True):
    """How a command reads code. ``takes``: its option letters that have an argument; for those
    in ``code`` that is code. ``at``: the number of the operand that is code, if an option in
    ``needs`` was given (or none is needed) and no other gave the code; ``on``: those after it
    are code as well. ``program``: what follows the code is for the program that it is.
    ``mixed``: options may follow operands.
    """

    takes: str = ""
    code: str = ""
    at: int | None = None
    needs: str = ""
    on: bool = False
    program: bool = False
    mixed: bool = False


_SHELL = _Reads("oO", at=0, needs="c", program=True)
_AWK = _Reads("Fvf", "e", 0)
_SQL = _Reads("ehuPD", "e", mixed=True)
_USER = _Reads("cgGsw", "c", mixed=True)
_ALL = _Reads(at=0, on=True)
_READS = {
    **dict.fromkeys(("sh", "bash", "dash", "ash", "zsh", "ksh"), _SHELL),
    **dict.fromkeys(("awk", "gawk", "mawk"), _AWK),
    **dict.fromkeys(("eval", "xargs", "trap", "parallel"), _ALL),
    **dict.fromkeys(("su", "runuser"), _USER),
    **dict.fromkeys(("mysql", "mariadb"), _SQL),
    "python": _Reads("cmWX", "c", program=True),
    "perl": _Reads("eE", "eE", program=True),
    "ruby": _Reads("eIr", "e", program=True),
    "node": _Reads("epr", "ep", program=True),
    "php": _Reads("rdf", "r", program=True),
    "psql": _Reads("cdfhopUv", "c", mixed=True),
    "sed": _Reads("efl", "e", 0, mixed=True),
    "sqlite3": _Reads(at=1, on=True),
    "ssh": _Reads("BbcDEeFIiJLlmOoPpQRSWw", at=1, on=True),
    "watch": _Reads("nq", at=0, on=True),
}
_THROUGH = {
    **dict.fromkeys(("nohup", "command", "builtin", "setsid", "busybox", "chroot", "!"), ""),
    **{"sudo": "ACDghpRrTtUu", "doas": "Cu", "env": "uCS", "nice": "n", "ionice": "cnp"},
    **{"timeout": "ks", "time": "fo", "exec": "a", "stdbuf": "ioe"},
}
_OPERANDS = {"timeout": 1, "chroot": 1}


def receiver(command: str) -> tuple[str, int] | None:
    """The command whose argument a value is that follows this (masked) beginning of one, and the
    argument's number, from 0; None where it is none's."""
    words, _ = split(command) or ([], "")
    words = named(words)
    while words and words[0] in ("!", "if", "then", "else", "elif", "while", "until", "do", "{"):
        words = named(words[1:])
    while words and words[0] in ("command", "builtin") and len(words) > 1:
        words = words[1:]
    return (words[0], len(words) - 1) if words else None


def meaning(command: str) -> str:
    """What to note of a value that follows this (masked) beginning of a command, or ''."""
    beginning = split(command)
    if beginning is None:
        return ""
    words, begun = beginning
    while words := named(words):
        name = words[0].rpartition("/")[2]
        if name not in _THROUGH:
            return _given(name, words[1:], begun)
        given, operands, waits = _options(words[1:], _THROUGH[name])
        if waits:
            return _code(name) if (name, waits) == ("env", "S") else ""
        words = named(operands)[_OPERANDS.get(name, 0) :]
        if not words:
            return "" if "-" in given or begun or operands else _option(name)
    return ""


def _code(name: str) -> str:
    return f"`{name}` reads what it is given as code of its own: a value there can be code"


def _option(name: str) -> str:
    return f"a value given to `{name}` may read as an option: write `--` before it"


def _given(name: str, args: list[str], begun: str) -> str:
    if name in _PLAIN or VALUE in name:
        return ""
    code, program = _reading(name, args, begun)
    if code:
        return _code(name)
    for i, word in enumerate(args):
        inner = word.rpartition("/")[2]
        if not program and _known(inner) and _reading(inner, args[i + 1 :], begun)[0]:
            return _code(inner)  # `find -exec sh -c`, `docker exec NAME sh -c`
    predicate = name == "find" and any(word.startswith("-") for word in args)
    return "" if program or begun or predicate or "--" in args else _option(name)


def _known(name: str) -> _Reads | None:
    return _READS.get("python" if _PYTHON.fullmatch(name) else name)


def _reading(name: str, args: list[str], begun: str) -> tuple[bool, bool]:
    """Whether the command reads the word begun as code, and whether it is not its own at all:
    an option's argument, or an argument of a program that it runs."""
    reads = _known(name)
    if reads is None:
        return False, False
    given, operands, waits = _options(args, reads.takes, mixed=reads.mixed)
    attached = begun.startswith("-") and "-" not in given
    if attached and (reads.mixed or not operands):
        waits = next((letter for letter in begun[1:] if letter in reads.takes), waits)
    if waits:
        return waits in reads.code, True
    own = set(reads.code + "f") & given  # the code, or the file that it is in
    if reads.at is not None and not own and not attached and set(reads.needs) <= given:
        at = len(operands)
        if at == reads.at or (at > reads.at and reads.on):
            return True, False
    return False, reads.program and bool(operands or own)


def _options(
    args: Sequence[str], takes: str, *, mixed: bool = False
) -> tuple[set[str], list[str], str]:
    """The option letters given (``-`` for ``--``), the operands, and the option whose argument
    comes next, by XBD 12.2 of POSIX.1-2017; ``mixed``: options after operands count, too."""
    given: set[str] = set()
    operands: list[str] = []
    waits = ""
    for i, word in enumerate(args):
        if waits:
            waits = ""
        elif word == "--":
            return given | {"-"}, [*operands, *args[i + 1 :]], ""
        elif word.startswith("--"):
            continue
        elif word.startswith("-") and word != "-":
            letters = word[1:]
            end = next((n for n, c in enumerate(letters) if c in takes), len(letters))
            given |= set(letters[: end + 1])
            waits = letters[end] if end == len(letters) - 1 else ""
        elif mixed:
            operands.append(word)
        else:
            return given, [*operands, *args[i:]], ""
    return given, operands, waits


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
