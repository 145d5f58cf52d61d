"""Where an app's lock is on a host."""

from __future__ import annotations

import posixpath

from orchestrator.errors import DefinitionError, Problem
from orchestrator.model.value import HomePath
from orchestrator.plan.options import home_path
from orchestrator.plan.scope import HostScope
from orchestrator.templating import Waits

PATH = "lock_path"
"""The variable that says where it is, if not beside the releases."""

_DEPLOY_TO = "deploy_to"
_BESIDE = ".orch-lock"


def lock_path(scope: HostScope, app: str, project: str) -> str:
    """Return the path: in ``deploy_to``, so that all who deploy to one folder meet it, whoever
    they log in as; of an app without one, in the home folder, by ``project`` and app.

    ``scope`` is the host's, before any task. Raises DefinitionError where it cannot be told yet.
    """
    for name, inside in ((PATH, ""), (_DEPLOY_TO, _BESIDE)):
        text = _text(scope, name)
        if text.strip():
            return home_path(posixpath.join(text, inside) if inside else text)
    return HomePath(f"~/.orch/locks/{project}/{app}")


def _text(scope: HostScope, name: str) -> str:
    written = scope.written(name)
    if written is None:
        return ""
    try:
        value = scope.resolve(name)
    except Waits as waits:
        what = f"'{name}' says where the app's lock is, and needs {', '.join(sorted(waits.names))}"
        hint = f"set {PATH} to a path that is known before the run"
        raise DefinitionError(Problem(what, written.mark, hint)) from None
    return "" if value is None else str(value)
