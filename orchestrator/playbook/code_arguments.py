"""Detection of values that a command would interpret as code or as an option.

The detection reads the command's text before the value and knows the options of the common commands
from their manuals. An unknown command is assumed to take options that begin with ``-``.

A module's scripts may run as code only the module's own text and params of type ``command``; any
other value may contain unquoted text. A value is traced through shell variables as far as one
variable is assigned to another. `lint` warns about values passed to commands that interpret code
themselves (``sh -c``, ``awk``, ``ssh``).
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
    """How a command takes code in its arguments.

    ``takes`` are the option letters that have an argument; ``code`` are those whose argument is
    code. ``at`` is the number of the operand that is code if no option gave the code, provided that
    an option in ``needs`` was given (or ``needs`` is empty); ``on``: the operands after it are code
    as well. ``program``: the arguments after the code belong to the program that the code is.
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
    """Return the command that receives a value, and the value's argument number, counted from 0.

    ``command`` is the masked text before the value. Return None if the value is not an argument.
    """
    words, _ = split_prefix(command) or ([], "")
    words = command_words(words)
    while words and words[0] in ("!", "if", "then", "else", "elif", "while", "until", "do", "{"):
        words = command_words(words[1:])
    while words and words[0] in ("command", "builtin") and len(words) > 1:
        words = words[1:]
    return (words[0], len(words) - 1) if words else None


def code_argument_note(command: str) -> str:
    """Return a warning about a value that follows this masked text, or '' if there is none."""
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
    return f"`{name}` interprets this argument as code: a value in it can inject code"


def _option_note(name: str) -> str:
    return f"a value given to `{name}` may be taken for an option: write `--` before it"


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
    """Return whether the argument is read as code, and whether it is not the command's own.

    An argument is not the command's own if it is the argument of an option, or of a program that
    the command runs.
    """
    reads = _find_rule(name)
    if reads is None:
        return False, False
    options, operands, waits = _split_options(args, reads.takes, mixed=reads.mixed)
    attached = prefix.startswith("-") and "-" not in options
    if attached and (reads.mixed or not operands):
        waits = next((letter for letter in prefix[1:] if letter in reads.takes), waits)
    if waits:
        return waits in reads.code, True
    own = set(reads.code + "f") & options  # the code was given, or the file that contains it
    if reads.at is not None and not own and not attached and set(reads.needs) <= options:
        at = len(operands)
        if at == reads.at or (at > reads.at and reads.on):
            return True, False
    return False, reads.program and bool(operands or own)


def _split_options(
    args: Sequence[str], takes: str, *, mixed: bool = False
) -> tuple[set[str], list[str], str]:
    """Return the option letters given, the operands, and the option that expects the next argument.

    ``--`` is returned as the letter ``-``. Options are parsed by XBD 12.2 of POSIX.1-2017;
    ``mixed``: options after operands count as well.
    """
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
_SINGLE_QUOTED = lazy_regex(r"'[^']*'")  # expanded only when it is evaluated, as a value


class EvalChecker:
    """A check of one module's scripts for values that run as code; errors go to ``problems``."""

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
        """Report every value that would run as code although it is not of type ``command``."""
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
        """Return the module's own functions that pass their arguments to ``eval``."""
        found: dict[str, None] = {}
        for script in self.scripts:
            for function in _FUNCTION.finditer(script.source):
                evals = re.findall(_COMMAND_START + r"eval\s+([^\n;]*)", function[0])
                if any(n[0] in "0123456789@*" for words in evals for n in _expanded_names(words)):
                    found[function[2]] = None
        return found

    def _tainted_variables(self) -> dict[str, str]:
        """Map each shell variable that holds a value other than a command to the value's name."""
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
        """Yield the offset, name and arguments of each call of an entry in ``runs``."""
        names = "|".join(map(re.escape, self.runs))
        for found in re.finditer(rf"{_COMMAND_START}({names})(?=\s)([^\n;&|]*)", text):
            yield found.start(1), found[1], found[2]

    def _report_eval(self, command: str, name: str, mark: SourcePosition) -> None:
        what = f"`{command}` runs its arguments as code, and '{name}' is not a command"
        hint = "pass only params of `type: command` to it"
        if name in self.params:
            hint = f"declare `{name}: {{type: command}}` under `params`"
        self.problems.add(what, mark, hint)


def _expanded_names(words: str) -> set[str]:
    """Return the names of the variables and positional parameters expanded in these words."""
    return set(_NAME.findall(_SINGLE_QUOTED.sub("", words)))


def check_evals(
    module: ModuleSpec, params: Mapping[str, TaskParam], problems: DiagnosticCollector
) -> None:
    """Report every script of the module that would run a value as code without type ``command``."""
    evals = EvalChecker(module, params, problems)
    if any(name in script.source for name in evals.runs for script in evals.scripts):
        evals.check()
