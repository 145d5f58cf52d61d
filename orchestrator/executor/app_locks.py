"""A lane's locks: one per host, taken before anything is changed, kept to the end."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from msgspec import Struct, field

from orchestrator.errors import ConnectError
from orchestrator.executor.cancel import Cancel
from orchestrator.executor.connection_pool import Emit, Fleet
from orchestrator.executor.parallel import caught, each
from orchestrator.executor.remote_query import Answer, ask
from orchestrator.model.sanitize import one_line, quote
from orchestrator.model.shell_quoting import shell_quote
from orchestrator.modules import FOLDER
from orchestrator.planner.plan import Lane
from orchestrator.remote_shell import Lost, NotReady, Session

TAKEN = 75
"""What the script ends with where somebody else has the lock (EX_TEMPFAIL of sysexits.h)."""

_DENIED = 77  # where its user may not make one there (EX_NOPERM)
_DENIED_HINT = (
    "make that folder writable for a group that all who deploy are in, deploy as its owner "
    "(`become`), or set `lock_path`"
)
_ENTERED = "entered"  # what it prints where a run has the lock that this one is a part of

_PAUSE = 2.0  # seconds between tries


class Refusal(Struct, frozen=True):
    """A lock that is somebody else's, or that cannot be had: ``held`` tells these apart.
    ``error``: the host could not be asked, or did not answer."""

    host: str
    why: str
    held: bool
    error: ConnectError | Lost | None = None


class Holder(Struct, frozen=True):
    """Whose locks they are: a run for an app, the runs that started it (outermost first), and what
    is told of it to whoever wants one (owner, since, message)."""

    run: str
    app: str = ""
    within: tuple[str, ...] = ()
    told: Mapping[str, str] = field(default_factory=dict)


class Locks(Struct):
    """The locks of one lane. ``paths`` are shell words, by host in the order in which locks are
    taken by everyone; ``users``: as whom to try on each host, until one may; ``wait`` is how
    many seconds to try, and ``tell`` is told for whom.
    """

    fleet: Fleet
    app: str | None
    paths: Mapping[str, str]
    users: Mapping[str, Sequence[str]]
    holder: Holder
    pool: ThreadPoolExecutor
    wait: float
    tell: Callable[[str], None]
    emit: Emit
    _by: dict[str, tuple[str, Session]] = field(default_factory=dict)

    def take(self, hosts: Collection[str], cancel: Cancel) -> Refusal | None:
        """Take those of all these hosts, or none of them.

        The first host decides between two who want the same; where only later ones are shared,
        whoever is refused there goes once more, one host after another, so that one gets through.
        A lock that a run has which this one is a part of stays that run's.
        """
        until = time.monotonic() + self.wait
        ordered = [name for name in self.paths if name in hosts]
        told = ""
        while True:
            refusal = self._all(ordered)
            left = until - time.monotonic()
            if refusal is None or not refusal.held or cancel.stopping or left <= 0:
                return refusal
            if refusal.why != told:
                told = refusal.why
                self.tell(f"waiting for at most {max(1, round(left))} s: {told}")
            cancel.sleep(min(_PAUSE, left))

    def _all(self, ordered: Sequence[str]) -> Refusal | None:
        refusal = self._some(ordered[:1]) or self._some(ordered[1:], together=True)
        if refusal is not None and refusal.held and refusal.host != ordered[0]:
            self.free()
            refusal = self._some(ordered)
        if refusal is not None:
            self.free()
        return refusal

    def _some(self, names: Iterable[str], *, together: bool = False) -> Refusal | None:
        refused: list[Refusal] = []

        def one(name: str) -> None:
            if not refused and (why := self._take(name)):
                refused.append(why)

        if together:
            each(self.pool, one, names)
        else:
            for name in names:
                one(name)
        return refused[0] if refused else None

    def _take(self, name: str) -> Refusal | None:
        first: Refusal | None = None
        for user in self.users.get(name, ("",)):
            refusal, denied = self._take_as(name, user)
            if first and refusal and getattr(refusal.error, "phase", "") == "become":
                continue  # whom nobody lets us become need not be tried
            if not denied:
                return refusal
            first = first or refusal
        return first

    def _take_as(self, name: str, user: str) -> tuple[Refusal | None, bool]:
        """Why the user did not get it, if so; and whether another one may."""
        try:
            session = self.fleet.session(name, self.app, user)
        except ConnectError as error:
            return Refusal(name, str(error), held=False, error=error), False
        except Exception as error:
            return Refusal(name, self._bug(name, error), held=False), False
        try:
            answer = ask(session, self._script(name, "take"))
        except (ConnectError, Lost) as error:
            if isinstance(error, Lost) or (isinstance(error, NotReady) and error.sent):
                self._by[name] = user, session  # it may be taken, and is to be freed
            return Refusal(name, str(error), held=False, error=error), False
        except Exception as error:
            session.close()
            self._by[name] = user, session
            return Refusal(name, self._bug(name, error), held=False), False
        if answer.exit_status == 0:
            if answer.stdout != _ENTERED:
                self._by[name] = user, session
            return None, False
        denied = answer.exit_status == _DENIED
        return Refusal(name, self._why(name, answer), held=answer.exit_status == TAKEN), denied

    def _why(self, name: str, answer: Answer) -> str:
        what = f"'{self.app}' on {name}"
        if answer.exit_status == TAKEN:
            return f"{what} is locked {describe(answer.stdout, self.holder.app)}"
        advice = f"; the lock is to be {self.paths[name]}: {_DENIED_HINT}"
        denied = answer.exit_status == _DENIED
        return f"{what} cannot be locked: {_said(answer)}{advice if denied else ''}"

    def renew(self, name: str) -> None:
        """Have the lock be that of the lane's session, where that was opened anew. Raises Lost
        and ConnectError."""
        if name in self._by:
            user, before = self._by[name]
            session = self.fleet.session(name, self.app, user)
            if session is not before:
                ask(session, self._script(name, "renew"))
                self._by[name] = user, session

    def free(self) -> dict[str, str]:
        """Let go of all; the hosts where that could not be done, with why. It can be tried
        again."""
        left: dict[str, str] = {}

        def one(name: str) -> None:
            try:
                answer = self._free(name)
            except (ConnectError, Lost) as error:
                left[name] = str(error)
            except Exception as error:
                left[name] = self._bug(name, error)
            else:
                if answer.exit_status != 0:
                    left[name] = _said(answer)

        each(self.pool, one, list(self._by))
        self._by = {name: taken for name, taken in self._by.items() if name in left}
        return left

    def _bug(self, name: str, error: Exception) -> str:
        return caught(error, self.app, "lock", name, self.emit)

    def _free(self, name: str) -> Answer:
        """Once more where the session broke off: nothing is freed but what is ours."""
        text, (user, _) = self._script(name, "free"), self._by[name]
        try:
            return ask(self.fleet.session(name, self.app, user), text)
        except (NotReady, Lost):
            return ask(self.fleet.session(name, self.app, user), text)

    def _script(self, name: str, act: str) -> str:
        return script(self.paths[name], act, self.holder)


def users_of(lane: Lane) -> dict[str, list[str]]:
    """As whom to make the lock on each host: the login's user ('') where any step is theirs, then
    whoever else has steps there. In a home folder only the first: others have another."""
    found: dict[str, list[str]] = {name: [] for name in lane.locks}
    for host in (host for wave in lane.waves for host in wave.hosts if host.host in found):
        used = found[host.host]
        used += dict.fromkeys(s.user for s in host.steps if not s.on and s.user not in used)
    for name, used in found.items():
        found[name] = ["", *used] if "" in used else [*used, ""]
        found[name] = list(dict.fromkeys(found[name]))
        if lane.locks[name].startswith("~"):
            del found[name][1:]
    return found


def script(path: str, act: str, holder: Holder) -> str:
    """The shell text for one act on a lock; ``path`` is a shell word."""
    lines = {"run": holder.run, "app": holder.app, **holder.told}
    told = "\n".join(f"{key}={' '.join(value.split())}" for key, value in lines.items())
    given = f"lock={path} run={shell_quote(holder.run)} app={shell_quote(holder.app)}"
    given += f" holder={shell_quote(told)}"
    given += f" within={shell_quote(' '.join(holder.within))} token={secrets.token_hex(8)}"
    return f"set +e\n{given}\n{_functions()}\n{act}"


def describe(said: str, app: str) -> str:
    """``by anna@laptop since 10:03:12 (run …): message``, and what to do if its owner is gone.
    ``app`` is whose lock it is to be; whose it is stands there where that is another."""
    told = dict(one_line(line).split("=", 1) for line in said.split("\n") if "=" in line)
    if told.get("state") == "odd" or not told.get("owner"):
        return "by nobody that it names: see `orch lock release`"
    text = f"by {told['owner']} since {told.get('since', '?')} (run {told.get('run', '?')}"
    text += f" for '{told['app']}')" if told.get("app", app) != app else ")"
    if told.get("message"):
        text += f": {quote(told['message'])}"
    if told.get("state") == "stale":
        text += "; it is stale: its owner is gone, see `orch lock release`"
    if told.get("state") == "away":
        text += f"; it was taken on {told.get('machine')}, which shares the folder"
    return text


def _said(answer: Answer) -> str:
    """Why a script on a host failed, as the host told it."""
    return quote(answer.stderr) if answer.stderr else "its shell did not answer"


@cache
def _functions() -> str:
    return (FOLDER / "lock.sh").read_text("utf-8")
