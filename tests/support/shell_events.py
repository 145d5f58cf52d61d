"""Events of a POSIX sh script on variables and functions, in the order of its text.

This is a small parser of well-formed scripts (POSIX.1-2017, XCU 2), to check the scripts of the
package: it handles quotes, expansions, here-documents, `case`, loops, functions and the commands
that assign variables. Single-quoted text is parsed as well if it is the action of a trap.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

EventKind = Literal["get", "set", "call", "loop", "done"]
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.S)
_KEYWORD = re.compile(r"(?:[a-z]+|\})(?![A-Za-z0-9_.=()-])")
_CONTROL = frozenset("if then else elif fi while until do done { } ! time".split())
_ASSIGNS = frozenset("export readonly local".split())


@dataclass(frozen=True)
class ShellEvent:
    """One event of a script.

    It is a variable that is read (get) or written (set), the name of a command (call), or the start
    or end of a loop. ``line`` counts from 1; ``is_trapped``: in the action of a trap.
    """

    what: EventKind
    name: str
    line: int
    is_trapped: bool = False


@dataclass
class FunctionBody:
    """The events of a function, or of the code outside of all functions (named '').

    It has the comment lines directly above the function, and the functions defined in it.
    """

    name: str
    comment: tuple[str, ...] = ()
    events: list[ShellEvent] = field(default_factory=list)
    inner: list[FunctionBody] = field(default_factory=list)

    def all_bodies(self) -> Iterator[FunctionBody]:
        """Return this body and those of all functions in it."""
        yield self
        for body in self.inner:
            yield from body.all_bodies()


def without_templates(text: str) -> str:
    """Return a module's script with variables in place of expressions, and without `{% … %}`."""

    def plain(found: re.Match[str]) -> str:
        return ("${VALUE}" if found[0][1] == "{" else " ") + "\n" * found[0].count("\n")

    return _TEMPLATE.sub(plain, text)


def read_script(text: str) -> FunctionBody:
    """Return the script's events. Raises ValueError if the parser does not understand the text."""
    reader = _ShellReader(text)
    reader.commands()
    if reader.i < len(text):
        raise reader.unexpected("something is closed that is not open")
    return reader.body


class _ShellReader:
    def __init__(self, text: str, body: FunctionBody | None = None, line: int = 1) -> None:
        self.text, self.i, self.first = text, 0, line
        self.body = body or FunctionBody("")
        self.documents: list[tuple[str, bool]] = []
        self.trapped = False

    def unexpected(self, what: str) -> ValueError:
        return ValueError(f"line {self.line}: {what}: {self.text[self.i : self.i + 40]!r}")

    @property
    def line(self) -> int:
        return self.first + self.text.count("\n", 0, self.i)

    def add_event(self, what: EventKind, name: str) -> None:
        self.body.events.append(ShellEvent(what, name, self.line, self.trapped))

    def at(self, *characters: str) -> bool:
        return self.text.startswith(characters, self.i)

    def blanks(self, lines: bool = False) -> None:
        while self.i < len(self.text):
            if self.at(" ", "\t"):
                self.i += 1
            elif self.at("\\\n"):
                self.i += 2
            elif self.at("#"):
                end = self.text.find("\n", self.i)
                self.i = len(self.text) if end < 0 else end
            elif lines and self.at("\n"):
                self.newline()
            else:
                return

    def newline(self) -> None:
        self.i += 1
        documents, self.documents = self.documents, []
        for delimiter, quoted in documents:
            end = re.compile(rf"^\s*{re.escape(delimiter)}$", re.M).search(self.text, self.i)
            if end is None:
                raise self.unexpected("a here-document without an end")
            if not quoted:
                inner = _ShellReader(self.text[self.i : end.start()], self.body, self.line)
                inner.quoted("")
            self.i = end.end()

    def commands(self, *ends: str) -> None:
        """Read commands up to one of ``ends`` in command position, which is not consumed."""
        while True:
            self.blanks(lines=True)
            if self.i >= len(self.text) or self.at(")", ";;") or self.word_is(*ends):
                return
            if self.at("(", ";", "&", "|"):
                self.operator()
            else:
                self.command()

    def operator(self) -> None:
        if self.at("("):
            self.i += 1
            self.commands()
            if not self.at(")"):
                raise self.unexpected("`(` is not closed")
        self.i += 1

    def word_is(self, *words: str) -> bool:
        found = _KEYWORD.match(self.text, self.i)
        return found is not None and found[0] in words

    def command(self) -> None:
        plain = re.compile(r"[A-Za-z0-9_]+\(\)").match(self.text, self.i)
        if plain:
            self.function(plain[0][:-2])
            return
        word = ""
        while not self.separator():
            start = self.i
            assigned = NAME.match(self.text, self.i)
            if assigned and self.text.startswith("=", assigned.end()):
                self.i = assigned.end() + 1
                self.word()
                self.add_assignment(assigned[0])
                continue
            word = self.word()
            if self.i == start:
                raise self.unexpected("no command")
            if word in _CONTROL:
                if word in ("while", "until"):
                    self.add_event("loop", "")
                elif word == "done":
                    self.add_event("done", "")
                elif word == "{":
                    self.group()
                return
            break
        if word == "for":
            self.loop()
        elif word == "case":
            self.case()
        elif word:
            self.add_event("call", word)
            self.arguments(word)

    def add_assignment(self, name: str) -> None:
        """Add an assignment; before a command it applies only to the command."""
        offset = self.i
        self.blanks()
        before_command = not self.separator() and not (
            (match := NAME.match(self.text, self.i)) and self.text.startswith("=", match.end())
        )
        if name not in ("IFS", "LC_ALL") or not before_command:
            self.i, kept = offset, self.i
            self.add_event("set", name)
            self.i = kept

    def separator(self) -> bool:
        self.blanks()
        return self.i >= len(self.text) or self.at("\n", ";", "&", "|", "(", ")")

    def arguments(self, command: str) -> None:
        words = 0
        while not self.separator():
            start = self.i
            name = NAME.match(self.text, self.i)
            if command in _ASSIGNS and name and self.text.startswith("=", name.end()):
                self.i = name.end() + 1
                self.word()
                self.add_event("set", name[0])
            elif command == "trap" and words == 0 and self.at("'"):
                end = self.text.index("'", self.i + 1)
                inner = _ShellReader(self.text[self.i + 1 : end], self.body, self.line)
                inner.trapped = True
                inner.commands()
                self.i = end + 1
            else:
                word = self.word()
                if command in ("read", "unset", *_ASSIGNS) and NAME.fullmatch(word):
                    self.add_event("set" if command != "export" else "get", word)
            if self.i == start:
                raise self.unexpected("no argument")
            words += 1

    def function(self, name: str) -> None:
        above = self.text[: self.i].rstrip(" ").split("\n")[:-1]
        comment: list[str] = []
        while above and above[-1].lstrip().startswith("#"):
            comment.insert(0, above.pop().strip())
        outer, self.body = self.body, FunctionBody(name, tuple(comment))
        outer.inner.append(self.body)
        self.i += len(name) + 2
        self.blanks(lines=True)
        if self.at("("):
            self.operator()
        elif self.at("{"):
            self.i += 1
            self.group()
        else:
            raise self.unexpected("a function's body")
        self.body = outer

    def group(self) -> None:
        self.commands("}")
        if not self.at("}"):
            raise self.unexpected("`{` is not closed")
        self.i += 1

    def loop(self) -> None:
        self.blanks()
        name = self.word()
        self.blanks()
        if self.word_is("in"):
            self.i += 2
            while not self.separator():
                self.word()
        self.add_event("loop", "")
        self.add_event("set", name)

    def case(self) -> None:
        self.blanks()
        self.word()
        self.blanks(lines=True)
        if not self.word_is("in"):
            raise self.unexpected("`case` without `in`")
        self.i += 2
        while True:
            self.blanks(lines=True)
            if self.word_is("esac"):
                self.i += 4
                break
            self.i += self.at("(")
            while not self.at(")"):
                if self.at("|", " "):
                    self.i += 1
                    continue
                start = self.i
                self.word()
                if self.i == start:
                    raise self.unexpected("no pattern")
            self.i += 1
            self.commands("esac")
            while self.at(";;"):
                self.i += 2
        self.arguments("esac")

    def word(self) -> str:
        """Read a word, with redirections; return its text as far as it is literal."""
        found = ""
        if match := re.compile(r"[0-9]*(<<-?|[<>]&|>\||>>|<>|[<>])").match(self.text, self.i):
            self.i = match.end()
            self.blanks()
            if match[1].startswith("<<"):
                delimiter = re.compile(r"(['\"]?)(\w+)\1").match(self.text, self.i)
                if delimiter is None:
                    raise self.unexpected("a delimiter")
                self.documents.append((delimiter[2], bool(delimiter[1])))
                self.i = delimiter.end()
                return ""
            self.word()
            return ""
        while self.i < len(self.text) and not self.at(*" \t\n;&|<>()"):
            char = self.text[self.i]
            if char == "'":
                end = self.text.index("'", self.i + 1)
                found += self.text[self.i + 1 : end]
                self.i = end + 1
            elif char == '"':
                self.i += 1
                self.quoted('"')
                self.i += 1
                found += '"'
            elif char == "\\":
                found += self.text[self.i + 1 : self.i + 2]
                self.i += 2
            elif char == "$":
                self.dollar()
                found += "$"
            else:
                found += char
                self.i += 1
        return found

    def quoted(self, end: str) -> None:
        """Read to the unquoted ``end``, or to the end of the text if ``end`` is ''."""
        while self.i < len(self.text) and not (end and self.at(end)):
            if self.at("\\"):
                self.i += 2
            elif self.at("$"):
                self.dollar()
            else:
                self.i += 1

    def dollar(self) -> None:
        self.i += 1
        if self.at("(("):
            self.i += 2
            self.arithmetic()
        elif self.at("("):
            self.operator()
        elif self.at("{"):
            self.i += 1
            name = re.compile(r"#?([A-Za-z_][A-Za-z0-9_]*|[0-9#@*?$!-])").match(self.text, self.i)
            if name is None:
                raise self.unexpected("`${`")
            self.i = name.end()
            if NAME.fullmatch(name[1]):
                self.add_event("set" if self.at("=", ":=") else "get", name[1])
            self.expansion()
        elif name := NAME.match(self.text, self.i):
            self.i = name.end()
            self.add_event("get", name[0])
        elif self.at(*"0123456789#@*?$!-"):
            self.i += 1

    def expansion(self) -> None:
        while not self.at("}"):
            if self.i >= len(self.text):
                raise self.unexpected("`${` is not closed")
            if self.at("'"):
                self.i = self.text.index("'", self.i + 1) + 1
            elif self.at('"'):
                self.i += 1
                self.quoted('"')
                self.i += 1
            elif self.at("\\"):
                self.i += 2
            elif self.at("$"):
                self.dollar()
            else:
                self.i += 1
        self.i += 1

    def arithmetic(self) -> None:
        open_ = 0
        while open_ or not self.at("))"):
            if self.i >= len(self.text):
                raise self.unexpected("`$((` is not closed")
            if self.at("$"):
                self.dollar()
            elif name := NAME.match(self.text, self.i):
                self.i = name.end()
                self.add_event("get", name[0])
            else:
                open_ += self.at("(") - self.at(")")
                self.i += 1
        self.i += 2
