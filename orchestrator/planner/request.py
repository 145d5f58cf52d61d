"""Which steps ``--tags`` and ``--skip-tags`` choose.

What a run is asked to do, and the scope that each of its hosts gives to templates.

Where an app's lock is on a host.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from functools import partial

from msgspec import Struct, field

from orchestrator.errors import DefinitionError, Diagnostic
from orchestrator.inventory.precedence import VariableMerger
from orchestrator.model.host import App, Host, Stage
from orchestrator.model.marked_value import HomePath, Values
from orchestrator.model.secret import SecretResolver
from orchestrator.planner.host_scope import HostScope, hostvars_view
from orchestrator.planner.project_files import ProjectFiles
from orchestrator.planner.step_options import mark_home_path
from orchestrator.planner.template_objects import (
    LazyMapping,
    NamedView,
    RunView,
    app_view,
    host_view,
)
from orchestrator.playbook.model import Task, TaskRequest
from orchestrator.templating import ResultPending, TemplateCache

ALWAYS_TAG, NEVER_TAG = "always", "never"


class TagFilter(Struct, frozen=True):
    """``only``: if any are named, steps need one of them, or the tag ``always``. ``skip``: steps
    with one of these are left out. Steps tagged ``never`` need one of their tags in ``only``."""

    only: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()

    def selects(self, tags: frozenset[str]) -> bool:
        """Whether a step with these tags is to run."""
        if tags & self.skip:
            return False
        if NEVER_TAG in tags:
            return bool(tags & self.only)
        return not self.only or bool(tags & self.only) or ALWAYS_TAG in tags


class PlanRequest(Struct, frozen=True):
    """What a run is asked to do, with everything that templates may see.

    ``extra_variables`` are the values of ``-e``; ``environ`` is orch's own environment. Scheduled tasks
    before ``start_at`` are left out. ``handlers``: of every task, only these handlers are run.
    ``apps`` are those that were chosen: each is a lane; none is a run without apps.
    ``root`` is the project's folder; ``secrets`` gives those that are named their values.
    ``check_mode``: nothing is to be changed; ``show_diff``: contents that are replaced are shown.
    ``project_identity`` gives what tells the project from others, wherever it is checked out.
    """

    stage: Stage
    hosts: tuple[Host, ...]
    requests: tuple[TaskRequest, ...]
    tasks: Mapping[str, Task]
    run: RunView
    extra_variables: Values = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    tags: TagFilter = TagFilter()
    start_at: str = ""
    handlers: tuple[str, ...] = ()
    check_mode: bool = False
    show_diff: bool = False
    apps: tuple[App, ...] = ()
    root: str = ""
    secrets: SecretResolver = field(default_factory=SecretResolver)
    project_identity: Callable[[], str] = str


class ScopeFactory:
    """Makes the scopes of a lane's hosts; what they share is made once."""

    def __init__(self, request: PlanRequest, app: App | None = None) -> None:
        self._request, self._app = request, app
        hosts = request.stage.hosts.values()
        self._app_hosts = tuple(host.name for host in hosts if app and app.lives_on(host))
        self._variable_merger = VariableMerger()
        self.templates = TemplateCache()
        self._files = ProjectFiles(request.root)
        self._shared_objects: dict[str, object] = {
            "stage": NamedView(request.stage.name, request.stage.desc),
            "run": request.run,
            "roles": {name: list(role.hosts) for name, role in request.stage.roles.items()},
            "env": request.environ,
        }

    def scope_of(self, host: Host) -> HostScope:
        """A new scope of the host. Each has its own of any other, so threads share none."""
        objects = dict(self._shared_objects)
        scope = HostScope(
            self._variable_merger.values_of(host, self._app.layers_on(host) if self._app else ()),
            self._request.extra_variables,
            objects,
            self.templates,
            project_files=self._files,
            secrets=self._request.secrets,
            apps=() if self._app else tuple(self._request.stage.apps.values()),
            app=self._app,
        )
        others = self._request.stage.hosts
        objects["host"] = host_view(
            host, LazyMapping({**scope.vars, **scope.extra_vars}, scope.resolve)
        )
        objects["hosts"] = LazyMapping(
            others,
            lambda name: hostvars_view(others[name], self.scope_of(others[name]), scope.position),
        )
        if self._app is not None:
            own = {
                name: value
                for layer in self._app.layers_on(host)
                for name, value in layer.vars.items()
            }
            objects["app"] = app_view(
                self._app,
                self._app_hosts,
                LazyMapping(own, scope.resolve),
                partial(self._lock_path, host),
            )
        return scope

    def _lock_path(self, host: Host) -> str:
        """As it is before any task, whatever these register or set."""
        return app_lock_path(
            self.scope_of(host),
            self._app.name if self._app else "",
            self._request.project_identity(),
        )


LOCK_PATH_VARIABLE = "lock_path"
"""The variable that says where it is, if not beside the releases."""

_DEPLOY_TO = "deploy_to"
_LOCK_FILE = ".orch-lock"


def app_lock_path(scope: HostScope, app: str, project: str) -> str:
    """Return the path: in ``deploy_to``, so that all who deploy to one folder meet it, whoever
    they log in as; of an app without one, in the home folder, by ``project_identity`` and app.

    ``scope`` is the host's, before any task. Raises DefinitionError where it cannot be told yet.
    """
    for name, inside in ((LOCK_PATH_VARIABLE, ""), (_DEPLOY_TO, _LOCK_FILE)):
        text = _path_variable(scope, name)
        if text.strip():
            return mark_home_path(posixpath.join(text, inside) if inside else text)
    return HomePath(f"~/.orch/locks/{project}/{app}")


def _path_variable(scope: HostScope, name: str) -> str:
    written = scope.written_value(name)
    if written is None:
        return ""
    try:
        value = scope.resolve(name)
    except ResultPending as waits:
        message = (
            f"'{name}' says where the app's lock is, and needs {', '.join(sorted(waits.names))}"
        )
        hint = f"set {LOCK_PATH_VARIABLE} to a path that is known before the run"
        raise DefinitionError(Diagnostic(message, written.mark, hint)) from None
    return "" if value is None else str(value)
