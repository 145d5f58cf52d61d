"""``!secret`` as it stands in a file: where a value comes from that no file may hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import Problems
from orchestrator.model.secret import Secret
from orchestrator.model.value import Value
from orchestrator.source.read import Reader

KINDS = ("env", "command", "file", "prompt")
_SECTIONS = ("vars", "environment", "defaults")
FORM = 'like !secret {env: DB_PASSWORD}, {command: [sops, -d, …]}, {file: …} or {prompt: "…"}'


def read_secret(value: Value, keys: Sequence[str], problems: Problems) -> Secret | None:
    """The secret that a mapping under the tag describes. ``keys`` lead to it in its file.

    None where it is no such mapping, which is told.
    """
    read = Reader(problems)
    if not isinstance(value.data, dict) or not value.data:
        what = "!secret must be a mapping that says where it comes from"
        problems.add(what, value.mark, FORM)  # what stands there may be the secret itself
        return None
    fields = read.mapping(value, "!secret", KINDS)
    if len(fields) != len(value.data):
        return None
    if len(fields) > 1:
        listed = " and ".join(fields)
        problems.add(f"!secret says both {listed}", value.mark, "one secret has one source")
        return None
    ((kind, source),) = fields.items()
    words = _words(kind, source, read)
    if not words:
        return None
    for word in words:
        if "{{" in word or "{%" in word:
            what = f"{kind} of !secret is a template, and it is taken as it stands"
            problems.add(what, source.mark, "write it out; stages may each say their own")
            return None
    folder = str(Path(value.mark.path).parent) if kind in ("command", "file") else ""
    return Secret(str(kind), words, folder, _name(keys), value.mark)


def _words(kind: str, source: Value, read: Reader) -> tuple[str, ...]:
    if kind == "command":
        if not isinstance(source.data, list) or not source.data:
            read.wrong(source, "command of !secret", "a list of words", "like [sops, -d, db.enc]")
            return ()
        texts = [read.text(item, "a word of command") for item in source.data]
        return tuple(text for text in texts if text is not None) if None not in texts else ()
    text = read.text(source, f"{kind} of !secret")
    if text is not None and not text.strip():
        read.wrong(source, f"{kind} of !secret", "a text that is not blank")
        return ()
    return () if text is None else (text,)


def _name(keys: Sequence[str]) -> str:
    """The variable's name: of what leads to it, all that is below the section it stands in."""
    for section in _SECTIONS:
        if section in keys[:-1]:
            keys = keys[keys.index(section) + 1 :]
            break
    return ".".join(keys) or "secret"
