"""Modules as written: what is, what should be, and what mends the difference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.errors import Mark, nearest
from orchestrator.model.lazy_regex import regex
from orchestrator.model.marked_value import Key, Value
from orchestrator.playbook.model import ANYTHING, Extent, Fix, Module, Payload
from orchestrator.playbook.template_compiler import Compiler
from orchestrator.yamlio.schema import Reader

if TYPE_CHECKING:
    from orchestrator.templating import ValueTemplate

_KEY = regex(r"[A-Za-z][A-Za-z0-9_]*")
_COMMAND = regex(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


class ModuleReader:
    """Reads what stands beside ``probe``. Nothing is raised: what is wrong goes to the
    compiler's problems."""

    def __init__(self, compiler: Compiler) -> None:
        self.compile = compiler
        self.problems = compiler.problems
        self.read = Reader(compiler.problems)

    def module(self, fields: dict[str, Value], mark: Mark, what: str) -> Module | None:
        """A module out of the keys of its file; None where its probe is no text."""
        probe = self.compile.script(fields["probe"], "probe")
        want = self._want(fields, mark, what)
        fixes = self._fixes(fields.get("fix"), want)
        readonly = self.read.boolean(fields.get("readonly"), "readonly")
        if readonly and fixes:
            place = fields["readonly"].mark
            self.problems.add(f"{what} is readonly and has a `fix`", place, "drop one of them")
        within = fields.get("within")
        if within is not None and not want:
            self.problems.add("`within` requires `want`", within.mark, "drop it")
        elif within is not None and "{{" not in str(within.data):
            self.read.duration(within, "within")
        if probe is None:
            return None
        payloads, tries = self._payloads(fields.get("payload"))
        contained = self.compile.judgements(fields.get("contained"), "contained") or ()
        return Module(
            probe=probe,
            want=want,
            fixes=fixes,
            payloads=payloads,
            tries=tries,
            within=self.compile.optional(within),
            functions=self.compile.script(fields.get("functions"), "functions"),
            contained=next(iter(contained), False),
            exposes=self._exposes(fields.get("exposes"), fields.get("params")),
            makes=self._extent(fields, "makes"),
            reads=self._extent(fields, "reads"),
            unique=self.compile.optional(fields.get("unique")),
            requires=tuple(self._requires(fields.get("requires"))),
        )

    def _extent(self, fields: dict[str, Value], key: str) -> Extent:
        """A list of params, and of paths and texts with values in them; or `anything`."""
        value, params = fields.get(key), fields.get("params")
        if value is None or value.data == ANYTHING:
            return None if value is None else ANYTHING
        known = params.data if params is not None and isinstance(params.data, dict) else {}
        found = []
        for text in self.read.string_list(value, key) or ():
            plain = "{{" in text or text.startswith(("/", "~"))
            if not plain and text not in known:
                hint = (
                    nearest(text, known) or "name its params or a whole path, or write `anything`"
                )
                self.problems.add(f"{key}: '{text}' is not a param", text.mark, hint)
            written = text if plain else f"{{{{ {text} }}}}"
            found.append(self.compile.value(Value(str(written), text.mark)))
        return tuple(found)

    def _requires(self, value: Value | None) -> Iterator[tuple[str, ...]]:
        """The commands that it needs: names, and lists of those of which one is enough."""
        for item in self.read.items(value, "requires") or ():
            names = self.read.string_list(item, "an item of requires") or ()
            for name in names:
                if not _COMMAND.fullmatch(name):
                    what = f"requires: '{name}' is not the name of a command"
                    self.problems.add(what, name.mark, "write names as PATH has them: `[git, tar]`")
            if names:
                yield tuple(map(str, names))

    def _exposes(self, value: Value | None, params: Value | None) -> dict[str, ValueTemplate]:
        """A list of params, or a mapping of them to the part of each that is exposed."""
        known = params.data if params is not None and isinstance(params.data, dict) else {}
        if value is not None and isinstance(value.data, dict):
            parts: dict[str, Value | None] = {str(n): part for n, part in value.data.items()}
        else:
            parts = {str(n): None for n in self.read.string_list(value, "exposes") or ()}
        for name in parts:
            if name not in known and value is not None:
                hint = nearest(name, known) or "name its params"
                self.problems.add(f"exposes: '{name}' is not a param", value.mark, hint)
        return {name: self._exposed(name, part, value) for name, part in parts.items() if value}

    def _exposed(self, name: str, part: Value | None, of: Value) -> ValueTemplate:
        if part is None or part.data is None:
            part = Value(f"{{{{ {name} }}}}", of.mark)
        return self.compile.value(part)

    def _want(self, fields: dict[str, Value], mark: Mark, what: str) -> dict[Key, ValueTemplate]:
        written = fields.get("want")
        named = self.read.mapping(written, "want")
        if not named and (written is not None or "fix" in fields):
            place = written.mark if written else mark
            self.problems.add(f"{what} wants nothing", place, "write `want: {KEY: VALUE}`")
        for key in named:
            if not _KEY.fullmatch(key):
                self.problems.add(f"'{key}' cannot name a state", key.mark, "use letters and _")
        return {key: self.compile.value(value) for key, value in named.items()}

    def _fixes(self, value: Value | None, want: dict[Key, ValueTemplate]) -> tuple[Fix, ...]:
        if value is None:
            return ()
        if not isinstance(value.data, dict):
            text = self.compile.script(value, "fix")
            return (Fix((), text),) if text else ()
        fixes, mended = [], set()
        for written, script in value.data.items():
            keys = tuple(written.replace(",", " ").split())
            for key in keys:
                if key not in want:
                    hint = nearest(key, want) or f"it wants {', '.join(want)}"
                    self.problems.add(f"fix: '{key}' is not wanted", written.mark, hint)
            mended |= set(keys)
            text = self.compile.script(script, f"fix of {written}")
            if text:
                fixes.append(Fix(keys, text))
        for key in want:
            if key not in mended:
                self.problems.add(f"no script under `fix` sets '{key}'", key.mark, f"add `{key}:`")
        return tuple(fixes)

    def _payloads(self, value: Value | None) -> tuple[tuple[Payload, ...], ValueTemplate | None]:
        if value is None:
            return (), None
        if not isinstance(value.data, dict):
            return (Payload("text", self.compile.value(value)),), None
        options = {"tries", "exclude"}
        named = self.read.mapping(value, "payload", {"text", "file", "template", "tree"} | options)
        brings = {str(kind): what for kind, what in named.items()}
        tries = self.compile.optional(brings.pop("tries", None))
        exclude = self.compile.optional(brings.pop("exclude", None))
        if not brings:
            self.read.wrong(value, "payload", "`text`, `file`, `template` or `tree`")
        return tuple(
            Payload(kind, self.compile.value(what), exclude if kind == "tree" else None)
            for kind, what in brings.items()
        ), tries
