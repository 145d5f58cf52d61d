"""Trust checks: secrets in process arguments, and text from hosts in sensitive options.

All users of a host can see the arguments of its processes. A module lists the params that are
passed in arguments under ``exposes``; all others are passed in ways that only their own user can
read: shell variables, stdin, files, the environment of a process.

Text from a host must not determine local files, users or other hosts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from orchestrator.errors import DefinitionError, Diagnostic
from orchestrator.planner.task_scope import TaskScope
from orchestrator.playbook.model import ModuleSpec

if TYPE_CHECKING:
    from orchestrator.templating import ValueTemplate


def check_exposed_secrets(module: ModuleSpec, task_scope: TaskScope) -> None:
    """Raise DefinitionError if a param that the module exposes contains a secret.

    Also raises ResultPending.
    """
    if not _has_secrets(task_scope):
        return
    for param, template in module.exposes.items():
        secret_names = frozenset(task_scope.secrets_behind((param,)))
        if not secret_names:
            continue
        found = sorted(secret_names & _secrets_shown_in(template.render(task_scope), task_scope))
        if found:
            task, written = task_scope.task, task_scope.written_args.get(param)
            message = f"the secret '{found[0]}' would be visible in `{param}` of `{task.name}`"
            mark = written.mark if written else task.params[param].mark
            raise DefinitionError(Diagnostic(message, mark, _EXPOSED_HINT))


_EXPOSED_HINT = "all users of the host can see process arguments: use a value that is not a secret"


def secret_params(task_scope: TaskScope) -> tuple[str, ...]:
    """Return the params of the task whose values are derived from secrets."""
    if not _has_secrets(task_scope):
        return ()
    return tuple(name for name in task_scope.task.params if any(task_scope.secrets_behind((name,))))


def shows_secret(text: str, task_scope: TaskScope) -> bool:
    """Return True if the text contains a secret, or the stand-in of one that is not fetched."""
    if not _has_secrets(task_scope):
        return False
    known = task_scope.secrets
    return bool(known.masker.secrets_shown_in(text)) or (known.fetch_secret is None and "‹" in text)


def _has_secrets(task_scope: TaskScope) -> bool:
    """Return True if there are any secrets so far; rendering fetches the ones it uses."""
    return bool(task_scope.secrets.masker or task_scope.secrets.stand_in_reads)


def _secrets_shown_in(value: object, task_scope: TaskScope) -> frozenset[str]:
    """Return the names of the secrets that a value contains, also as stand-ins."""
    texts = list(_nested_texts(value))
    masks = task_scope.secrets.masker
    shown = {name for text in texts for name in masks.secrets_shown_in(text).values()}
    return frozenset(shown | {part.partition("›")[0] for t in texts for part in t.split("‹")[1:]})


def _nested_texts(value: object) -> Iterator[str]:
    if isinstance(value, Iterable) and not isinstance(value, str):
        for each in value:
            yield from _nested_texts(each)
    elif value is not None:
        yield str(value)


def refuse_host_text(
    template: ValueTemplate,
    task_scope: TaskScope,
    option_name: str,
    consequence: str,
    hint: str = "",
) -> None:
    """Raise DefinitionError if a value can contain text from a host, according to its names.

    This works before any result is known. ``option_name`` is the option, ``consequence`` the text
    that says what the host would determine with it.
    """
    for name in sorted(template.sources):
        if task_scope.from_host(name):
            raise _untrusted_error(template, option_name, consequence, hint, f" (`{name}`)")


def render_trusted(
    template: ValueTemplate,
    task_scope: TaskScope,
    option_name: str,
    consequence: str,
    hint: str = "",
) -> Any:
    """Return a value that does not depend on the output of any host.

    Raises DefinitionError like ``refuse_host_text``, and also if an attribute (``host.vars.x``)
    leads to such text; and ResultPending.
    """
    refuse_host_text(template, task_scope, option_name, consequence, hint)
    position = task_scope.host.position
    reads_before = position.host_text_reads
    value = template.render(task_scope)
    if position.host_text_reads != reads_before:
        raise _untrusted_error(template, option_name, consequence, hint, "")
    return value


def _untrusted_error(
    template: ValueTemplate, option_name: str, consequence: str, hint: str, source: str
) -> DefinitionError:
    message = f"`{option_name}` is made of text from a host{source}, which {consequence}"
    return DefinitionError(Diagnostic(message, template.mark, hint))
