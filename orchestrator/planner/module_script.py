"""From a module as written to the script that one host is sent."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from orchestrator.errors import DefinitionError, Mark, OrchError, Problem, Problems
from orchestrator.model.command import UNKNOWN, Bytes, Wanted
from orchestrator.model.marked_value import HomePath, Value
from orchestrator.model.shell_quoting import shell_quote
from orchestrator.model.text_encoding import decode, quote_text
from orchestrator.planner.file_tree import Tree
from orchestrator.planner.project_files import INLINE, carried
from orchestrator.planner.step_options import encoded, plain_text
from orchestrator.planner.task_scope import Frame
from orchestrator.planner.trust_checks import (
    refuse_host_text,
    render_own,
    secret_params,
    shows_secret,
)
from orchestrator.playbook.model import Module, Payload
from orchestrator.templating import Waits
from orchestrator.yamlio.local_files import show
from orchestrator.yamlio.schema import Reader

if TYPE_CHECKING:
    from orchestrator.templating import TextTemplate, ValueTemplate

T = TypeVar("T")

_WHY = "could name any file of this machine"
_HINT = "name the files in the task, one step for each, and choose by `when`"

_SHORT = 8 * 1024
"""Archives of up to so many bytes travel in the script, where a NUL takes five characters."""


def wanted(module: Module, frame: Frame) -> Wanted:
    """The states that are wanted on this host, and the bytes that go with them. Raises Waits
    and DefinitionError."""
    states = {}
    for key, template in module.want.items():
        value = template.render(frame)
        if value is not None:
            text = plain_text(value, f"'{key}' under `want`", template.mark)
            states[str(key)] = HomePath(text) if isinstance(value, HomePath) else text
    if not module.payloads:
        return Wanted(states)
    brings = _brought(module, frame)
    if isinstance(brings, Tree):
        return _tree(states, brings)
    if isinstance(brings, Bytes):
        tries = module.tries.render(frame) if module.tries else None
        unsure = UNKNOWN in module.probe.source
        return Wanted(states, None, brings, bool(tries), unsure=unsure)
    return Wanted(states, brings)


def _tree(states: Mapping[str, str], tree: Tree) -> Wanted:
    """What is short travels in the script; a long manifest goes before the archive and in it."""
    entries = tree.manifest.count(b"\n")
    if len(tree.manifest) > INLINE:
        return Wanted(states, None, tree.packed(whole=True), asks=tree.listed, entries=entries)
    packed, manifest = tree.packed(whole=False), tree.manifest
    if packed.size > _SHORT:
        return Wanted(states, None, packed, manifest=manifest, entries=entries)
    try:
        brings = b"".join(tree.archive(whole=False))
        return Wanted(states, brings, manifest=manifest, entries=entries)
    except OrchError as error:
        raise DefinitionError(*error.problems) from None


def check_sources(module: Module, frame: Frame) -> None:
    """Raise DefinitionError where a host would say which of this side's files it is sent."""
    for payload in module.payloads:
        if payload.kind != "text":
            for template in (payload.what, payload.exclude):
                if template is not None:
                    _from_here(template, frame, refuse_host_text)


def _from_here(template: ValueTemplate, frame: Frame, check: Callable[..., T]) -> T:
    """What ``check`` returns; what it refuses is told of the argument that was written."""
    try:
        return check(template, frame, "payload", _WHY, _HINT)
    except DefinitionError:
        for name in sorted(template.names):
            if name in frame.written and isinstance(frame.caller, Frame):
                check(frame.written[name], frame.caller, name, _WHY, _HINT)
        raise


def script(module: Module, frame: Frame, wants: Wanted) -> str:
    """The module's own part of the script. Raises Waits and DefinitionError."""
    parts = [module.functions.render(frame)] if module.functions else []
    if module.functions and "$o_secrets" in module.functions.source:
        parts.insert(0, f"o_secrets={shell_quote(' '.join(('', *secret_params(frame), '')))}")
    # always called where it is by itself
    parts.append(f"probe() {{\nset -e\n{module.probe.render(frame)}\n\n}}")
    mends = []
    for number, fix in enumerate(module.fixes, 1):
        parts.append(_function(f"fix_{number}", fix.text.render(frame)))
        mends.append(" ".join(("fix", f"fix_{number}", *fix.keys)))
    if wants.brings is not None:
        parts.append(_payload(wants.brings))
    elif wants.sends is not None:
        parts.append('o_literal=1;payload() { cat -- "$o_staged"; }')
    if wants.manifest is not None:
        text = shell_quote(wants.manifest.decode("utf-8", "surrogateescape"))
        parts.append(f"manifest() {{ printf %s {text}; }}")
    elif wants.asks is not None:
        parts.append('manifest() { [ -z "$o_staged" ] || tar -xOf "$o_staged" m; }')
    if wants.entries:
        parts.append(f"o_entries={wants.entries}")
    parts.append("mend() {\n" + "\n".join(mends or [":"]) + "\n}")
    parts.append(f"o_want={_states(wants.states)}")
    tenths = round(10 * patience(module, frame))
    parts.append(f"o_within={tenths} o_fixes={'1' if mends else ''}\no_module")
    if _holds_secret("\n".join(parts), frame, wants):
        parts.insert(0, "o_private=1")
    return "\n".join(parts)


def _holds_secret(text: str, frame: Frame, wants: Wanted) -> bool:
    """Return whether the script or what is sent with it shows a secret: a file that it makes anew
    is its owner's alone then, if nothing else is wanted."""
    sent = wants.sends.data if isinstance(wants.sends, Bytes) else b""
    return shows_secret(text, frame) or shows_secret(decode(sent), frame)


def called(frame: Frame, *, left_out: bool = False) -> str:
    """The call with the values of its params, as the command line would have it; as it is written
    a value that waits for a result, and one that is wrong where it is ``left_out``."""
    words = [frame.task.name]
    for name, param in frame.task.params.items():
        written = frame.written.get(name)
        try:
            value = _now(frame, name, left_out)
        except Waits:
            words.append(f"{name}={written.source if written else '…'}")
            continue
        if written is None and value in (None, "", [], False):
            continue
        words.append(shlex.quote(f"{name}={_shown(value)}") if param.type != "file" else "")
        if param.type == "file":
            words[-1] = shlex.quote(f"{name}={Path(str(value)).name}")
    return " ".join(words)


def name(frame: Frame, *, left_out: bool = False) -> str:
    """The module and the first of its params' values, for a step's name: one line."""
    for param, spec in frame.task.params.items():
        try:
            value = _now(frame, param, left_out)
        except Waits:
            break
        if value not in (None, ""):
            shown = Path(str(value)).name if spec.type == "file" else _shown(value)
            return f"{frame.task.name} {shown}".split("\n", 1)[0]
    return frame.task.name


def _now(frame: Frame, param: str, left_out: bool) -> object:
    """A param's value. Raises Waits, also for one that is wrong in a call that is left out, and
    DefinitionError."""
    try:
        return frame.resolve(param)
    except DefinitionError:
        if not left_out:
            raise
        raise Waits({param}) from None


def template_of(module: Module, frame: Frame) -> TextTemplate | None:
    """The file template that it renders, where its name is known."""
    payload = next((each for each in module.payloads if each.kind == "template"), None)
    if payload is None:
        return None
    try:
        value = payload.what.render(frame)
    except Waits:
        return None
    if value is None:
        return None
    mark = _given_at(payload, frame)
    return frame.host.files.template(Path(plain_text(value, "payload", mark)), mark)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    text = str(value)
    return text if len(text) <= 200 else text[:199] + "…"


def _function(name: str, text: str) -> str:
    """A function that runs the text by itself; a backslash at its end joins nothing."""
    return f"{name}() (\nset -e\n{text}\n\n)"


def _states(states: Mapping[str, str]) -> str:
    words = []
    for key, value in states.items():
        line = value.replace("%", "%25").replace("\n", "%0A")
        if isinstance(value, HomePath):
            words.append(f'{key}="$HOME"{shell_quote(line[1:])}')
        else:
            words.append(shell_quote(f"{key}={line}"))
    return '"$o_nl"'.join(words) + '"$o_nl"' if words else ""


def _payload(data: bytes) -> str:
    if b"\0" not in data:
        text = data.decode("utf-8", "surrogateescape")
        return f"o_literal=1;payload() {{ printf %s {shell_quote(text)}; }}"
    escaped = data.replace(b"\\", b"\\\\").replace(b"\0", b"\\0000")
    text = escaped.decode("utf-8", "surrogateescape")
    return f"o_literal=1;payload() {{ printf %b {shell_quote(text)}; }}"


def _brought(module: Module, frame: Frame) -> bytes | Bytes | Tree:
    """The bytes of its payload; of several, of the one that has a value."""
    given = [(each, _payload_value(each, frame)) for each in module.payloads]
    if len(given) > 1:
        names = [", ".join(sorted(each.what.names)) for each, _ in given]
        given = [(each, value) for each, value in given if value is not None]
        if len(given) != 1:
            what = f"task '{frame.task.name}' needs one of {' and '.join(names)}"
            marks = [value.mark for value in frame.written.values()]
            found = f", found {len(given)}" if given else ""
            raise DefinitionError(Problem(what + found, marks[0] if marks else frame.task.mark))
    payload, value = given[0]
    return _bytes(payload, value, frame)


def _payload_value(payload: Payload, frame: Frame) -> object:
    if payload.kind == "text":
        return payload.what.render(frame)
    return _from_here(payload.what, frame, render_own)


def _given_at(payload: Payload, frame: Frame) -> Mark:
    """Where the payload's name is written."""
    written = (frame.origin(name) for name in sorted(payload.what.names))
    return next((value.mark for value in written if value is not None), payload.what.mark)


def _bytes(payload: Payload, value: object, frame: Frame) -> bytes | Bytes | Tree:
    files, mark = frame.host.files, _given_at(payload, frame)
    if value is None:
        return b""
    if payload.kind == "text":
        return carried(encoded(_text(value, payload), "payload", mark))
    path = Path(plain_text(value, "payload", mark))
    if payload.kind == "file":
        return files.contents(path, mark)
    if payload.kind == "tree":
        return files.tree(path, _patterns(payload, frame), mark)
    text = files.template(path, mark).render(frame.caller)
    return carried(encoded(text, show(path), mark))


def _patterns(payload: Payload, frame: Frame) -> tuple[str, ...]:
    value = _from_here(payload.exclude, frame, render_own) if payload.exclude else None
    if value is None:
        return ()
    if isinstance(value, list) and all(isinstance(each, str) and each for each in value):
        return tuple(value)
    mark = payload.exclude.mark if payload.exclude else payload.what.mark
    what = f"exclude must be a list of patterns, found {quote_text(value)}"
    raise DefinitionError(Problem(what, mark))


def _text(value: object, payload: Payload) -> str:
    if isinstance(value, (str, int, float, bool)):
        return str(value).lower() if isinstance(value, bool) else str(value)
    what = f"payload must be text, found {quote_text(value)}"
    raise DefinitionError(Problem(what, payload.what.mark, "see `| to_json` and `| join`"))


def patience(module: Module, frame: Frame) -> float:
    """For how many seconds what it wants is waited for. Raises Waits and DefinitionError."""
    within = module.within
    if within is None:
        return 0.0
    value, problems = within.render(frame), Problems()
    if value is None:
        return 0.0
    data = value if isinstance(value, (str, int, float)) else None
    seconds = Reader(problems).duration(Value(data, within.mark), "within")
    problems.raise_any()
    return seconds or 0.0
