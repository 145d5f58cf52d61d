"""Secrets that would stand in the arguments of a host's processes, where all its users see them.

A module names the params whose values get there, under ``exposes``; all others go by ways that
only their own user can read: a shell's variables, stdin, files, a process's environment.

What text from a host must not choose: files of this side, users, other hosts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from orchestrator.errors import DefinitionError, Problem
from orchestrator.planner.task_scope import Frame
from orchestrator.playbook.model import Module

if TYPE_CHECKING:
    from orchestrator.templating import ValueTemplate


def check_exposed(module: Module, frame: Frame) -> None:
    """Refuse a secret in what the module exposes. Raises DefinitionError and Waits."""
    if not _any_secret(frame):
        return
    for param, template in module.exposes.items():
        behind = frozenset(frame.hidden((param,)))
        if not behind:
            continue
        found = sorted(behind & _shown(template.render(frame), frame))
        if found:
            task, written = frame.task, frame.written.get(param)
            what = f"the secret '{found[0]}' would be seen in `{param}` of `{task.name}`"
            mark = written.mark if written else task.params[param].mark
            raise DefinitionError(Problem(what, mark, _HINT))


_HINT = (
    "all users of the host see the arguments of its processes: give it a value that is no secret"
)


def secret_params(frame: Frame) -> tuple[str, ...]:
    """The params of the frame's task whose values are made of secrets."""
    if not _any_secret(frame):
        return ()
    return tuple(name for name in frame.task.params if any(frame.hidden((name,))))


def shows_secret(text: str, frame: Frame) -> bool:
    """Return True if the text shows a secret, or what stands for one that is not fetched."""
    if not _any_secret(frame):
        return False
    known = frame.secrets
    return bool(known.masks.shown(text)) or (known.fetch is None and "‹" in text)


def _any_secret(frame: Frame) -> bool:
    """Whether there is any so far: what was rendered has had its secrets fetched."""
    return bool(frame.secrets.masks or frame.secrets.reads)


def _shown(value: object, frame: Frame) -> frozenset[str]:
    """The names of the secrets that a value shows, or of which it shows what stands for them."""
    texts = list(_texts(value))
    masks = frame.secrets.masks
    shown = {name for text in texts for name in masks.shown(text).values()}
    return frozenset(shown | {part.partition("›")[0] for t in texts for part in t.split("‹")[1:]})


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, Iterable) and not isinstance(value, str):
        for each in value:
            yield from _texts(each)
    elif value is not None:
        yield str(value)


def refuse_host_text(
    template: ValueTemplate, frame: Frame, what: str, why: str, hint: str = ""
) -> None:
    """Raise DefinitionError where a value is made of text from a host, as far as names tell: also
    before any of it is known. ``what``: the option; ``why``: what the host would choose by it."""
    for name in sorted(template.sources):
        if frame.from_host(name):
            raise _refusal(template, what, why, hint, f" (`{name}`)")


def render_own(template: ValueTemplate, frame: Frame, what: str, why: str, hint: str = "") -> Any:
    """Return a value that no host had a part in. Raises DefinitionError as ``refuse_host_text``
    does, and where a name leads to such text by way of an object (``host.vars.x``); Waits."""
    refuse_host_text(template, frame, what, why, hint)
    place = frame.host.place
    heard = place.heard
    value = template.render(frame)
    if place.heard != heard:
        raise _refusal(template, what, why, hint, "")
    return value


def _refusal(
    template: ValueTemplate, what: str, why: str, hint: str, which: str
) -> DefinitionError:
    said = f"`{what}` is made of text from a host{which}, which {why}"
    return DefinitionError(Problem(said, template.mark, hint))
