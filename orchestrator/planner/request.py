"""Which steps ``--tags`` and ``--skip-tags`` choose.

What a run is asked to do, and the scope that each of its hosts gives to templates.

Where an app's lock is on a host.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from functools import partial

from msgspec import Struct, field

from orchestrator.errors import DefinitionError, Problem
from orchestrator.inventory.precedence import Merger
from orchestrator.model.host import App, Host, Stage
from orchestrator.model.marked_value import HomePath, Values
from orchestrator.model.secret import Secrets
from orchestrator.planner.host_scope import HostScope, seen
from orchestrator.planner.project_files import Files
from orchestrator.planner.step_options import home_path
from orchestrator.planner.template_objects import Lazy, Named, RunView, app_view, host_view
from orchestrator.playbook.model import Request, Task
from orchestrator.templating import Templates, Waits

ALWAYS, NEVER = "always", "never"


class Tags(Struct, frozen=True):
    """``only``: if any are named, steps need one of them, or the tag ``always``. ``skip``: steps
    with one of these are left out. Steps tagged ``never`` need one of their tags in ``only``."""

    only: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()

    def chosen(self, tags: frozenset[str]) -> bool:
        """Whether a step with these tags is to run."""
        if tags & self.skip:
            return False
        if NEVER in tags:
            return bool(tags & self.only)
        return not self.only or bool(tags & self.only) or ALWAYS in tags


class Ask(Struct, frozen=True):
    """What a run is asked to do, with everything that templates may see.

    ``extra`` are the values of ``-e``; ``environ`` is orch's own environment. Scheduled tasks
    before ``start_at`` are left out. ``handlers``: of every task, only these handlers are run.
    ``apps`` are those that were chosen: each is a lane; none is a run without apps.
    ``root`` is the project's folder; ``secrets`` gives those that are named their values.
    ``check``: nothing is to be changed; ``diff``: contents that are replaced are shown.
    ``project`` gives what tells the project from others, wherever it is checked out.
    """

    stage: Stage
    hosts: tuple[Host, ...]
    requests: tuple[Request, ...]
    tasks: Mapping[str, Task]
    run: RunView
    extra: Values = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    tags: Tags = Tags()
    start_at: str = ""
    handlers: tuple[str, ...] = ()
    check: bool = False
    diff: bool = False
    apps: tuple[App, ...] = ()
    root: str = ""
    secrets: Secrets = field(default_factory=Secrets)
    project: Callable[[], str] = str


class Scopes:
    """Makes the scopes of a lane's hosts; what they share is made once."""

    def __init__(self, ask: Ask, app: App | None = None) -> None:
        self._ask, self._app = ask, app
        hosts = ask.stage.hosts.values()
        self._live = tuple(host.name for host in hosts if app and app.lives_on(host))
        self._variables = Merger()
        self.templates = Templates()
        self._files = Files(ask.root)
        self._shared: dict[str, object] = {
            "stage": Named(ask.stage.name, ask.stage.desc),
            "run": ask.run,
            "roles": {name: list(role.hosts) for name, role in ask.stage.roles.items()},
            "env": ask.environ,
        }

    def of(self, host: Host) -> HostScope:
        """A new scope of the host. Each has its own of any other, so threads share none."""
        objects = dict(self._shared)
        scope = HostScope(
            self._variables.of(host, self._app.at(host) if self._app else ()),
            self._ask.extra,
            objects,
            self.templates,
            files=self._files,
            secrets=self._ask.secrets,
            apps=() if self._app else tuple(self._ask.stage.apps.values()),
            app=self._app,
        )
        others = self._ask.stage.hosts
        objects["host"] = host_view(host, Lazy({**scope.vars, **scope.strong}, scope.resolve))
        objects["hosts"] = Lazy(
            others, lambda name: seen(others[name], self.of(others[name]), scope.place)
        )
        if self._app is not None:
            own = {
                name: value for layer in self._app.at(host) for name, value in layer.vars.items()
            }
            objects["app"] = app_view(
                self._app, self._live, Lazy(own, scope.resolve), partial(self._lock, host)
            )
        return scope

    def _lock(self, host: Host) -> str:
        """As it is before any task, whatever these register or set."""
        return lock_path(self.of(host), self._app.name if self._app else "", self._ask.project())


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
