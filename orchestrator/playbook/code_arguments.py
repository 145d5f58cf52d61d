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

from orchestrator.errors import DiagnosticCollector, SourcePosition
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.modules import EVAL_FUNCTIONS
from orchestrator.playbook.model import ModuleSpec, TaskParam
from orchestrator.templating import ShellTemplate
from orchestrator.templating.shell.command_prefix import (
    VALUE_CHAR,
    command_words,
    mask_templates,
    split_prefix,
)
from orchestrator.templating.template_parser import TemplateSource

_PYTHON = lazy_regex(r"python[0-9.]*")

_PLAIN = frozenset(
    "echo printf cd test [ [[ export local readonly for select case function exit return state"
    " : true false".split()
)


class _CodeArgRule(Struct, frozen=True):
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


_SHELL = _CodeArgRule("oO", at=0, needs="c", program=True)
_AWK = _CodeArgRule("Fvf", "e", 0)
_SQL = _CodeArgRule("ehuPD", "e", mixed=True)
_USER = _CodeArgRule("cgGsw", "c", mixed=True)
_ALL = _CodeArgRule(at=0, on=True)
_READS = {
    **dict.fromkeys(("sh", "bash", "dash", "ash", "zsh", "ksh"), _SHELL),
    **dict.fromkeys(("awk", "gawk", "mawk"), _AWK),
    **dict.fromkeys(("eval", "xargs", "trap", "parallel"), _ALL),
    **dict.fromkeys(("su", "runuser"), _USER),
    **dict.fromkeys(("mysql", "mariadb"), _SQL),
    "python": _CodeArgRule("cmWX", "c", program=True),
    "perl": _CodeArgRule("eE", "eE", program=True),
    "ruby": _CodeArgRule("eIr", "e", program=True),
    "node": _CodeArgRule("epr", "ep", program=True),
    "php": _CodeArgRule("rdf", "r", program=True),
    "psql": _CodeArgRule("cdfhopUv", "c", mixed=True),
    "sed": _CodeArgRule("efl", "e", 0, mixed=True),
    "sqlite3": _CodeArgRule(at=1, on=True),
    "ssh": _CodeArgRule("BbcDEeFIiJLlmOoPpQRSWw", at=1, on=True),
    "watch": _CodeArgRule("nq", at=0, on=True),
}
_THROUGH = {
    **dict.fromkeys(("nohup", "command", "builtin", "setsid", "busybox", "chroot", "!"), ""),
    **{"sudo": "ACDghpRrTtUu", "doas": "Cu", "env": "uCS", "nice": "n", "ionice": "cnp"},
    **{"timeout": "ks", "time": "fo", "exec": "a", "stdbuf": "ioe"},
}
_OPERANDS = {"timeout": 1, "chroot": 1}


def receiving_command(command: str) -> tuple[str, int] | None:
    """The command whose argument a value is that follows this (masked) beginning of one, and the
    argument's number, from 0; None where it is none's."""
    words, _ = split_prefix(command) or ([], "")
    words = command_words(words)
    while words and words[0] in ("!", "if", "then", "else", "elif", "while", "until", "do", "{"):
        words = command_words(words[1:])
    while words and words[0] in ("command", "builtin") and len(words) > 1:
        words = words[1:]
    return (words[0], len(words) - 1) if words else None


def code_argument_note(command: str) -> str:
    """What to note of a value that follows this (masked) beginning of a command, or ''."""
    beginning = split_prefix(command)
    if beginning is None:
        return ""
    words, prefix = beginning
    while words := command_words(words):
        name = words[0].rpartition("/")[2]
        if name not in _THROUGH:
            return _argument_note(name, words[1:], prefix)
        options, operands, waits = _split_options(words[1:], _THROUGH[name])
        if waits:
            return _code_note(name) if (name, waits) == ("env", "S") else ""
        words = command_words(operands)[_OPERANDS.get(name, 0) :]
        if not words:
            return "" if "-" in options or prefix or operands else _option_note(name)
    return ""


def _code_note(name: str) -> str:
    return f"`{name}` reads what it is given as code of its own: a value there can be code"


def _option_note(name: str) -> str:
    return f"a value given to `{name}` may read as an option: write `--` before it"


def _argument_note(name: str, args: list[str], prefix: str) -> str:
    if name in _PLAIN or VALUE_CHAR in name:
        return ""
    code, program = _classify_argument(name, args, prefix)
    if code:
        return _code_note(name)
    for i, word in enumerate(args):
        inner = word.rpartition("/")[2]
        if (
            not program
            and _find_rule(inner)
            and _classify_argument(inner, args[i + 1 :], prefix)[0]
        ):
            return _code_note(inner)  # `find -exec sh -c`, `docker exec NAME sh -c`
    predicate = name == "find" and any(word.startswith("-") for word in args)
    return "" if program or prefix or predicate or "--" in args else _option_note(name)


def _find_rule(name: str) -> _CodeArgRule | None:
    return _READS.get("python" if _PYTHON.fullmatch(name) else name)


def _classify_argument(name: str, args: list[str], prefix: str) -> tuple[bool, bool]:
    """Whether the command reads the word begun as code, and whether it is not its own at all:
    an option's argument, or an argument of a program that it runs."""
    reads = _find_rule(name)
    if reads is None:
        return False, False
    options, operands, waits = _split_options(args, reads.takes, mixed=reads.mixed)
    attached = prefix.startswith("-") and "-" not in options
    if attached and (reads.mixed or not operands):
        waits = next((letter for letter in prefix[1:] if letter in reads.takes), waits)
    if waits:
        return waits in reads.code, True
    own = set(reads.code + "f") & options  # the code, or the file that it is in
    if reads.at is not None and not own and not attached and set(reads.needs) <= options:
        at = len(operands)
        if at == reads.at or (at > reads.at and reads.on):
            return True, False
    return False, reads.program and bool(operands or own)


def _split_options(
    args: Sequence[str], takes: str, *, mixed: bool = False
) -> tuple[set[str], list[str], str]:
    """The option letters given (``-`` for ``--``), the operands, and the option whose argument
    comes next, by XBD 12.2 of POSIX.1-2017; ``mixed``: options after operands count, too."""
    options: set[str] = set()
    operands: list[str] = []
    waits = ""
    for i, word in enumerate(args):
        if waits:
            waits = ""
        elif word == "--":
            return options | {"-"}, [*operands, *args[i + 1 :]], ""
        elif word.startswith("--"):
            continue
        elif word.startswith("-") and word != "-":
            letters = word[1:]
            end = next((n for n, c in enumerate(letters) if c in takes), len(letters))
            options |= set(letters[: end + 1])
            waits = letters[end] if end == len(letters) - 1 else ""
        elif mixed:
            operands.append(word)
        else:
            return options, [*operands, *args[i:]], ""
    return options, operands, waits


_COMMAND_START = r"(?:^|[\s;&|({!])"
_ASSIGNS_VALUE = lazy_regex(_COMMAND_START + r"""([A-Za-z_]\w*)=(?:"[^"]*|'[^']*|[^\s"';&|]*)$""")
_COPIES_VARIABLE = lazy_regex(_COMMAND_START + r"""([A-Za-z_]\w*)=("[^"]*"|[^\s"';&|]*)""")
_FUNCTION = lazy_regex(
    r"^([ \t]*)([A-Za-z_]\w*)\(\)[ \t]*(?:[{(][^\n]*[})][ \t]*$|[{(](?s:.*?)^\1[})])", re.M
)
_NAME = lazy_regex(r"(?<!\\)\$\{?#?([A-Za-z_]\w*|[0-9@*])")
_SINGLE_QUOTED = lazy_regex(r"'[^']*'")  # what it expands is expanded when it runs, as a value


class EvalChecker:
    """Looks through the scripts of one module. What is wrong goes to ``problems``."""

    def __init__(
        self, module: ModuleSpec, params: Mapping[str, TaskParam], problems: DiagnosticCollector
    ) -> None:
        fixes = (fix.text for fix in module.fixes)
        scripts = (module.functions, module.probe, *fixes)
        self.scripts: Sequence[ShellTemplate] = [text for text in scripts if text is not None]
        self.params, self.problems = params, problems
        self.commands = {name for name, param in params.items() if param.is_command}
        self.runs: dict[str, int | None] = {"eval": None, **EVAL_FUNCTIONS, **self._own_evals()}

    def check(self) -> None:
        """Tell where a value that is no command would be run as one."""
        held = self._tainted_variables()
        for script in self.scripts:
            for use in script.uses:
                sources = use.sources - self.commands
                receiving = receiving_command(mask_templates(use.command))
                if sources and receiving and self._is_eval_argument(*receiving):
                    self._report_eval(receiving[0], min(sources), use.mark)
            source = TemplateSource(script.source, script.mark)
            for offset, command, words in self._find_calls(mask_templates(script.source)):
                for name in sorted(held.keys() & _expanded_names(words)):
                    self._report_eval(command, held[name], source.mark_at(offset))

    def _is_eval_argument(self, command: str, number: int) -> bool:
        return command in self.runs and self.runs[command] in (None, number)

    def _own_evals(self) -> dict[str, None]:
        """The module's functions that run what they are given."""
        found: dict[str, None] = {}
        for script in self.scripts:
            for function in _FUNCTION.finditer(script.source):
                evals = re.findall(_COMMAND_START + r"eval\s+([^\n;]*)", function[0])
                if any(n[0] in "0123456789@*" for words in evals for n in _expanded_names(words)):
                    found[function[2]] = None
        return found

    def _tainted_variables(self) -> dict[str, str]:
        """The shell's variables that hold a value which is no command: whose value."""
        held = {
            found[1]: min(use.sources - self.commands)
            for script in self.scripts
            for use in script.uses
            if use.sources - self.commands and (found := _ASSIGNS_VALUE.search(use.command))
        }
        copies = [
            pair
            for s in self.scripts
            for pair in _COPIES_VARIABLE.findall(mask_templates(s.source))
        ]
        for _ in copies:
            for name, text in copies:
                for other in held.keys() & _expanded_names(text):
                    held.setdefault(name, held[other])
        return held

    def _find_calls(self, text: str) -> Iterator[tuple[int, str, str]]:
        """Each call of what runs its arguments: its offset, its name, its words."""
        names = "|".join(map(re.escape, self.runs))
        for found in re.finditer(rf"{_COMMAND_START}({names})(?=\s)([^\n;&|]*)", text):
            yield found.start(1), found[1], found[2]

    def _report_eval(self, command: str, name: str, mark: SourcePosition) -> None:
        what = f"`{command}` runs what it is given, and '{name}' is not a command"
        hint = "only a param of `type: command` may reach it"
        if name in self.params:
            hint = f"declare `{name}: {{type: command}}` under `params`"
        self.problems.add(what, mark, hint)


def _expanded_names(words: str) -> set[str]:
    """The variables and the arguments that are expanded in these words."""
    return set(_NAME.findall(_SINGLE_QUOTED.sub("", words)))


def check_evals(
    module: ModuleSpec, params: Mapping[str, TaskParam], problems: DiagnosticCollector
) -> None:
    """Tell where a script of the module would run a value that is no command."""
    evals = EvalChecker(module, params, problems)
    if any(name in script.source for name in evals.runs for script in evals.scripts):
        evals.check()
