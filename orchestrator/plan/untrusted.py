"""What text from a host must not choose: files of this side, users, other hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.errors import DefinitionError, Problem
from orchestrator.plan.frame import Frame

if TYPE_CHECKING:
    from orchestrator.templating import ValueTemplate


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
