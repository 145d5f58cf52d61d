"""The request for a plan: tag selection, the scopes of its hosts, and the paths of app locks."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.errors import DefinitionError, Diagnostic
from orchestrator.inventory.precedence import VariableMerger
from orchestrator.model.host import App, Host, Stage
from orchestrator.model.marked_value import HomePath, Values
from orchestrator.model.secret import SecretResolver
from orchestrator.planner.encrypted_layers import open_encrypted_layer
from orchestrator.planner.fact_sources import FactSources
from orchestrator.planner.host_scope import HostScope, hostvars_view
from orchestrator.planner.project_files import ProjectFiles
from orchestrator.planner.remote_project_files import RemoteProjectFiles
from orchestrator.planner.step_options import mark_home_path
from orchestrator.planner.template_objects import (
    LazyMapping,
    MergedNames,
    NamedView,
    RunView,
    app_view,
    host_view,
)
from orchestrator.playbook.model import CommonOptions, Task, TaskRequest
from orchestrator.playbook.own_facts import load_own_facts
from orchestrator.playbook.own_filters import load_own_filters
from orchestrator.templating import NO_FILTERS, ResultPending, TemplateCache
from orchestrator.yamlio.local_files import REMOTE_PROJECT

ALWAYS_TAG, NEVER_TAG = "always", "never"


class TagFilter(Struct, frozen=True):
    """Selection of steps by ``--tags`` and ``--skip-tags``.

    ``only``: if not empty, a step needs one of these tags, or the tag ``always``. ``skip``: steps
    with one of these tags are not run. Steps tagged ``never`` need one of their tags in ``only``.
    """

    only: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()

    def selects(self, tags: frozenset[str]) -> bool:
        """Return True if a step with these tags is to run."""
        if tags & self.skip:
            return False
        if NEVER_TAG in tags:
            return bool(tags & self.only)
        return not self.only or bool(tags & self.only) or ALWAYS_TAG in tags


class PlanRequest(Struct, frozen=True):
    """The input of the planner, with everything that templates can access.

    ``extra_variables`` are the values of ``-e``; ``environ`` is orch's own environment. Scheduled
    tasks before ``start_at`` are skipped, and of that task the steps before ``start_step``, a
    number or a name. ``handlers``: run only these handlers of every task. ``apps`` are the
    selected apps, each with its own app plan; empty for a run without apps. ``root`` is the
    project's folder; ``secrets`` resolves secrets to their values. ``check_mode``: nothing is
    changed; ``show_diff``: replaced contents are shown. ``project_identity`` returns a string that
    identifies the project independently of its checkout. ``options`` are the outermost options of
    every task.
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
    start_step: str = ""
    handlers: tuple[str, ...] = ()
    check_mode: bool = False
    show_diff: bool = False
    apps: tuple[App, ...] = ()
    root: str = ""
    secrets: SecretResolver = field(default_factory=SecretResolver)
    project_identity: Callable[[], str] = str
    options: CommonOptions = CommonOptions()


class ScopeFactory:
    """Creates the scopes of an app's hosts, with shared objects created once."""

    def __init__(self, request: PlanRequest, app: App | None = None) -> None:
        """Prepare what the scopes of all hosts share."""
        self._request, self._app = request, app
        hosts = request.stage.hosts.values()
        self._app_hosts = tuple(host.name for host in hosts if app and app.lives_on(host))
        self._variable_merger = VariableMerger(
            open_layer=partial(open_encrypted_layer, secrets=request.secrets)
        )
        root = Path(request.root)
        filters = load_own_filters(root) if request.root else NO_FILTERS
        self.templates = TemplateCache(filters)
        remote = REMOTE_PROJECT.get()
        self._files = ProjectFiles(request.root, filters)
        if remote is not None and remote.files is not None:
            self._files = RemoteProjectFiles(remote, remote.files, filters)
        self._facts = FactSources(load_own_facts(root) if request.root else {})
        self._shared_objects: dict[str, object] = {
            "stage": NamedView(request.stage.name, request.stage.desc),
            "run": replace(request.run, check=request.check_mode, folder=self._files.folder),
            "roles": {name: list(role.hosts) for name, role in request.stage.roles.items()},
            "env": request.environ,
        }
        roles = request.stage.roles.items()
        self._groups = {
            "groups": {
                **{name: list(role.hosts) for name, role in roles},
                "all": list(request.stage.hosts),
            },
            "playbook_dir": self._files.folder,
        }

    def scope_of(self, host: Host) -> HostScope:
        """Return a new scope of the host.

        Each scope has its own scopes of other hosts, so threads share none.
        """
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
            become=host.connect.become,
            become_user=host.connect.become_user,
            facts=self._facts,
        )
        others = self._request.stage.hosts
        names = MergedNames(scope.extra_vars, scope.vars)
        objects["host"] = host_view(host, LazyMapping(names, scope.resolve))
        objects["vars"] = LazyMapping(names, scope.resolve_from_vars)
        objects["hosts"] = LazyMapping(
            others,
            lambda name: hostvars_view(others[name], self.scope_of(others[name]), scope.position),
        )
        if self._request.stage.is_ansible:
            objects |= {**self._groups, **ansible_names(host), "hostvars": objects["hosts"]}
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
        """Return the app's lock path as it is before any task, whatever tasks register or set."""
        return app_lock_path(
            self.scope_of(host),
            self._app.name if self._app else "",
            self._request.project_identity(),
        )


def ansible_names(host: Host) -> dict[str, object]:
    """Return the names by which values in an inventory of Ansible may refer to their host."""
    return {
        "inventory_hostname": host.name,
        "inventory_hostname_short": host.name.partition(".")[0],
        "group_names": sorted(host.roles),
    }


ANSIBLE_NAMES = frozenset(
    (
        *("inventory_hostname", "inventory_hostname_short", "group_names", "groups"),
        *("hostvars", "playbook_dir"),
    )
)
"""The names that templates have in addition on a stage with an inventory of Ansible."""

LOCK_PATH_VARIABLE = "lock_path"
"""Variable with the path of the app's lock, if it is not in ``deploy_to``."""

_DEPLOY_TO = "deploy_to"
_LOCK_FILE = ".orch-lock"


def app_lock_path(scope: HostScope, app: str, project: str) -> str:
    """Return the path of an app's lock on a host.

    It is in ``deploy_to``, so that it applies to everyone who deploys to that folder, as any user.
    For an app without ``deploy_to`` it is in the home folder, named after the project and the app.
    ``scope`` is the host's scope before any task. Raises DefinitionError if the path is not known
    yet.
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
    except ResultPending as pending:
        names = ", ".join(sorted(pending.names))
        message = f"'{name}' determines the app's lock path, but depends on {names}"
        hint = f"set {LOCK_PATH_VARIABLE} to a path that is known before the run"
        raise DefinitionError(Diagnostic(message, written.mark, hint)) from None
    return "" if value is None else str(value)
