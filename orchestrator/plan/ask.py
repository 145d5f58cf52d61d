"""What a run is asked to do, and the scope that each of its hosts gives to templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from msgspec import Struct, field

from orchestrator.inventory.values import Merger
from orchestrator.model.host import App, Host, Stage
from orchestrator.model.secret import Secrets
from orchestrator.model.value import Values
from orchestrator.plan.files import Files
from orchestrator.plan.lock import lock_path
from orchestrator.plan.others import seen
from orchestrator.plan.scope import HostScope
from orchestrator.plan.tags import Tags
from orchestrator.plan.views import Lazy, Named, RunView, app_view, host_view
from orchestrator.tasks.model import Request, Task
from orchestrator.templating import Templates


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
