"""Parsing of modules: probe, desired state and fixes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from orchestrator.errors import SourcePosition, suggest_nearest
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.marked_value import MarkedKey, MarkedValue
from orchestrator.playbook.keywords import PAYLOAD, PAYLOAD_OPTIONS
from orchestrator.playbook.model import (
    ANYTHING,
    ModuleFix,
    ModulePayload,
    ModuleSpec,
    PathExtent,
    TaskParam,
)
from orchestrator.playbook.template_compiler import TemplateCompiler
from orchestrator.yamlio.schema import SchemaReader

if TYPE_CHECKING:
    from orchestrator.templating import ValueTemplate

_KEY = lazy_regex(r"[A-Za-z][A-Za-z0-9_]*")
_COMMAND = lazy_regex(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


class ModuleParser:
    """A parser of the keys beside ``probe``; errors go to the compiler's problems."""

    def __init__(self, compiler: TemplateCompiler) -> None:
        self.compile = compiler
        self.problems = compiler.problems
        self.read = SchemaReader(compiler.problems)

    def parse_module(
        self,
        fields: dict[str, MarkedValue],
        mark: SourcePosition,
        what: str,
        returns: Mapping[str, TaskParam],
    ) -> ModuleSpec | None:
        """Return the module of a file's keys, or None if its probe is not text."""
        probe = self.compile.compile_script(fields["probe"], "probe")
        want = self._parse_want(fields, mark, what)
        fixes = self._parse_fixes(fields.get("fix"), want)
        readonly = self.read.boolean(fields.get("readonly"), "readonly")
        if readonly and fixes:
            readonly_mark = fields["readonly"].mark
            self.problems.add(
                f"{what} is readonly and has a `fix`", readonly_mark, "drop one of them"
            )
        within = fields.get("within")
        if within is not None and not want:
            self.problems.add("`within` requires `want`", within.mark, "drop it")
        elif within is not None and "{{" not in str(within.data):
            self.read.duration(within, "within")
        if probe is None:
            return None
        payloads, tries = self._parse_payloads(fields.get("payload"))
        contained = self.compile.compile_conditions(fields.get("contained"), "contained") or ()
        return ModuleSpec(
            probe=probe,
            want=want,
            fixes=fixes,
            payloads=payloads,
            validates=tries,
            within=self.compile.compile_optional(within),
            functions=self.compile.compile_script(fields.get("functions"), "functions"),
            contained=next(iter(contained), False),
            exposes=self._parse_exposes(fields.get("exposes"), fields.get("params")),
            makes=self._parse_extent(fields, "makes"),
            reads=self._parse_extent(fields, "reads"),
            unique=self.compile.compile_optional(fields.get("unique")),
            requires=tuple(self._requires(fields.get("requires"))),
            needs=self.read.string_list(fields.get("needs"), "needs") or (),
            returns=returns,
        )

    def _parse_extent(self, fields: dict[str, MarkedValue], key: str) -> PathExtent:
        """Return `makes` or `reads` as templates, ANYTHING, or None if the key is missing.

        An item is the name of a param, a path, or text that contains a template.
        """
        value, params = fields.get(key), fields.get("params")
        if value is None or value.data == ANYTHING:
            return None if value is None else ANYTHING
        known = params.data if params is not None and isinstance(params.data, dict) else {}
        found = []
        for text in self.read.string_list(value, key) or ():
            plain = "{{" in text or text.startswith(("/", "~"))
            if not plain and text not in known:
                hint = (
                    suggest_nearest(text, known)
                    or "use its params or absolute paths, or write `anything`"
                )
                self.problems.add(f"{key}: '{text}' is not a param", text.mark, hint)
            written = text if plain else f"{{{{ {text} }}}}"
            found.append(self.compile.compile_value(MarkedValue(str(written), text.mark)))
        return tuple(found)

    def _requires(self, value: MarkedValue | None) -> Iterator[tuple[str, ...]]:
        """Yield the required commands, each as a tuple of alternatives."""
        for item in self.read.items(value, "requires") or ():
            names = self.read.string_list(item, "an item of requires") or ()
            for name in names:
                if not _COMMAND.fullmatch(name):
                    what = f"requires: '{name}' is not the name of a command"
                    self.problems.add(
                        what, name.mark, "write names of commands found in PATH: `[git, tar]`"
                    )
            if names:
                yield tuple(map(str, names))

    def _parse_exposes(
        self, value: MarkedValue | None, params: MarkedValue | None
    ) -> dict[str, ValueTemplate]:
        """Return each exposed param with the part of it that is exposed.

        `exposes` is a list of params, or a mapping of params to parts.
        """
        known = params.data if params is not None and isinstance(params.data, dict) else {}
        if value is not None and isinstance(value.data, dict):
            parts: dict[str, MarkedValue | None] = {str(n): part for n, part in value.data.items()}
        else:
            parts = {str(n): None for n in self.read.string_list(value, "exposes") or ()}
        for name in parts:
            if name not in known and value is not None:
                hint = suggest_nearest(name, known) or "use its params"
                self.problems.add(f"exposes: '{name}' is not a param", value.mark, hint)
        return {
            name: self._exposed_part(name, part, value) for name, part in parts.items() if value
        }

    def _exposed_part(self, name: str, part: MarkedValue | None, of: MarkedValue) -> ValueTemplate:
        if part is None or part.data is None:
            part = MarkedValue(f"{{{{ {name} }}}}", of.mark)
        return self.compile.compile_value(part)

    def _parse_want(
        self, fields: dict[str, MarkedValue], mark: SourcePosition, what: str
    ) -> dict[MarkedKey, ValueTemplate]:
        written = fields.get("want")
        named = self.read.mapping(written, "want")
        if not named and (written is not None or "fix" in fields):
            want_mark = written.mark if written else mark
            self.problems.add(
                f"{what} has no states under `want`", want_mark, "write `want: {KEY: VALUE}`"
            )
        for key in named:
            if not _KEY.fullmatch(key):
                self.problems.add(
                    f"'{key}' is not a valid name of a state", key.mark, "use letters and _"
                )
        return {key: self.compile.compile_value(value) for key, value in named.items()}

    def _parse_fixes(
        self, value: MarkedValue | None, want: dict[MarkedKey, ValueTemplate]
    ) -> tuple[ModuleFix, ...]:
        if value is None:
            return ()
        if not isinstance(value.data, dict):
            text = self.compile.compile_script(value, "fix")
            return (ModuleFix((), text),) if text else ()
        fixes, fixed_keys = [], set()
        for written, script in value.data.items():
            keys = tuple(written.replace(",", " ").split())
            for key in keys:
                if key not in want:
                    hint = suggest_nearest(key, want) or f"states: {', '.join(want)}"
                    self.problems.add(
                        f"fix: '{key}' is not a state under `want`", written.mark, hint
                    )
            fixed_keys |= set(keys)
            text = self.compile.compile_script(script, f"fix of {written}")
            if text:
                fixes.append(ModuleFix(keys, text))
        for key in want:
            if key not in fixed_keys:
                self.problems.add(f"no script under `fix` sets '{key}'", key.mark, f"add `{key}:`")
        return tuple(fixes)

    def _parse_payloads(
        self, value: MarkedValue | None
    ) -> tuple[tuple[ModulePayload, ...], ValueTemplate | None]:
        if value is None:
            return (), None
        if not isinstance(value.data, dict):
            return (ModulePayload("text", self.compile.compile_value(value)),), None
        named = self.read.mapping(value, "payload", PAYLOAD)
        brings = {str(kind): what for kind, what in named.items()}
        tries = self.compile.compile_optional(brings.pop("tries", None))
        options = {
            kind: {
                key: self.compile.compile_value(brings.pop(key)) for key in keys if key in brings
            }
            for kind, keys in PAYLOAD_OPTIONS.items()
        }
        if not brings:
            self.read.report_mismatch(value, "payload", "`text`, `file`, `template` or `tree`")
        return tuple(
            ModulePayload(kind, self.compile.compile_value(what), options.get(kind, {}))
            for kind, what in brings.items()
        ), tries
