"""Locks of one app: one per host, taken before the first change and held until the run ends."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Protocol

from msgspec import Struct, field

from orchestrator.errors import ConnectError
from orchestrator.executor.cancel import CancelToken
from orchestrator.executor.connection_pool import ConnectionPool, EmitFunction
from orchestrator.executor.parallel import (
    ConnectionFailure,
    connection_failure,
    report_failure,
    run_for_each,
)
from orchestrator.executor.remote_query import QueryResult, run_remote_query
from orchestrator.model.sanitize import quote_output, to_one_line
from orchestrator.model.shell_quoting import shell_quote
from orchestrator.modules import MODULES_FOLDER
from orchestrator.planner.plan import AppPlan
from orchestrator.remote_shell import SessionLostError, ShellNotReadyError, ShellSession

EXIT_LOCKED = 75
"""Exit status of the lock script if another run holds the lock (EX_TEMPFAIL of sysexits.h)."""

_EXIT_DENIED = 77  # exit status if the user may not create the lock (EX_NOPERM of sysexits.h)
_DENIED_HINT = (
    "make its folder writable for a group of all deployers, deploy as the folder's owner "
    "(`become`), or set `lock_path`"
)
_HELD_BY_OUTER_RUN = "entered"  # the script's output if an outer run of this run holds the lock

_RETRY_INTERVAL = 2.0  # seconds between attempts


class LockRefusal(Struct, frozen=True):
    """Why a lock could not be taken.

    ``is_held``: another run holds it. ``failure``: the host could not be reached, or did not
    reply. ``is_become_failure``: it could be reached, but not as the user.
    """

    host: str
    reason: str
    is_held: bool
    failure: ConnectionFailure | None = None
    is_become_failure: bool = False


def _failed_refusal(name: str, error: ConnectError | SessionLostError) -> LockRefusal:
    return LockRefusal(
        name,
        str(error),
        is_held=False,
        failure=connection_failure(error),
        is_become_failure=isinstance(error, ConnectError) and error.phase == "become",
    )


class LockOwner(Struct, frozen=True):
    """The owner of locks: a run for one app, with its outer runs and details.

    ``outer_runs`` are the runs that started this one, outermost first; ``details`` are shown to
    others who need the lock (owner, since, message).
    """

    run: str
    app: str = ""
    outer_runs: tuple[str, ...] = ()
    details: Mapping[str, str] = field(default_factory=dict)


class HostLocks(Struct):
    """The locks of one app run on the hosts that this process connects to.

    ``paths`` are shell words by host. ``users`` are the users to try on each host, until one may
    create the lock.
    """

    connections: ConnectionPool
    app: str | None
    paths: Mapping[str, str]
    users: Mapping[str, Sequence[str]]
    owner: LockOwner
    emit: EmitFunction
    _held: dict[str, tuple[str, ShellSession]] = field(default_factory=dict)

    def take(self, name: str) -> LockRefusal | None:
        """Take the host's lock, or return why that is not possible."""
        first: LockRefusal | None = None
        for user in self.users.get(name, ("",)):
            refusal, denied = self._take_as_user(name, user)
            if first and refusal and refusal.is_become_failure:
                continue  # become failed: keep the first refusal, and try the next user
            if not denied:
                return refusal
            first = first or refusal
        return first

    def _take_as_user(self, name: str, user: str) -> tuple[LockRefusal | None, bool]:
        """Return the refusal or None, and whether the lock was denied to this user only."""
        try:
            session = self.connections.session(name, self.app, user)
        except ConnectError as error:
            return _failed_refusal(name, error), False
        except Exception as error:
            return LockRefusal(name, self._report_bug(name, error), is_held=False), False
        try:
            answer = run_remote_query(session, self._lock_script(name, "take"))
        except (ConnectError, SessionLostError) as error:
            if isinstance(error, SessionLostError) or (
                isinstance(error, ShellNotReadyError) and error.sent
            ):
                self._held[name] = user, session  # may be taken: release it later
            return _failed_refusal(name, error), False
        except Exception as error:
            session.close()
            self._held[name] = user, session
            return LockRefusal(name, self._report_bug(name, error), is_held=False), False
        if answer.exit_status == 0:
            if answer.stdout != _HELD_BY_OUTER_RUN:
                self._held[name] = user, session
            return None, False
        if answer.exit_status is None:
            self._held[name] = user, session  # the script was killed: as above
        denied = answer.exit_status == _EXIT_DENIED
        return LockRefusal(
            name, self._refusal_reason(name, answer), is_held=answer.exit_status == EXIT_LOCKED
        ), denied

    def _refusal_reason(self, name: str, query_result: QueryResult) -> str:
        message = f"'{self.app}' on {name}"
        if query_result.exit_status == EXIT_LOCKED:
            return f"{message} is locked {describe_owner(query_result.stdout, self.owner.app)}"
        advice = f"; the lock file would be {self.paths[name]}: {_DENIED_HINT}"
        denied = query_result.exit_status == _EXIT_DENIED
        return f"{message} cannot be locked: {_query_error(query_result)}{advice if denied else ''}"

    def renew(self, name: str) -> None:
        """Bind the lock to the app's new session if the session was reopened.

        Raises SessionLostError and ConnectError.
        """
        if name in self._held:
            user, before = self._held[name]
            session = self.connections.session(name, self.app, user)
            if session is not before:
                run_remote_query(session, self._lock_script(name, "renew"))
                self._held[name] = user, session

    def release(self, name: str) -> str:
        """Release the host's lock if it is held; return why that failed, or ''.

        A lock that could not be released stays held here, so the method can be called again.
        """
        if name not in self._held:
            return ""
        try:
            answer = self._free(name)
        except (ConnectError, SessionLostError) as error:
            return str(error)
        except Exception as error:
            return self._report_bug(name, error)
        if answer.exit_status != 0:
            return _query_error(answer)
        del self._held[name]
        return ""

    def free(self, name: str) -> str:
        """Free the host's lock, which another process of this run took; return why not, or ''."""
        for user in self.users.get(name, ("",)):
            try:
                session = self.connections.session(name, self.app, user)
                answer = run_remote_query(session, self._lock_script(name, "free"))
            except (ConnectError, SessionLostError) as error:
                return str(error)
            except Exception as error:
                return self._report_bug(name, error)
            if answer.exit_status == 0:
                return ""
        return _query_error(answer)

    def _report_bug(self, name: str, error: Exception) -> str:
        return report_failure(error, self.app, "lock", name, self.emit)

    def _free(self, name: str) -> QueryResult:
        """Free the lock; retry once if the session is lost, as only our lock is freed."""
        text, (user, _) = self._lock_script(name, "free"), self._held[name]
        try:
            return run_remote_query(self.connections.session(name, self.app, user), text)
        except (ShellNotReadyError, SessionLostError):
            return run_remote_query(self.connections.session(name, self.app, user), text)

    def _lock_script(self, name: str, action: str) -> str:
        return lock_script(self.paths[name], action, self.owner)


class LockAccess(Protocol):
    """Takes and releases the lock of an app on single hosts."""

    def take_lock(self, name: str) -> LockRefusal | None:
        """Take the host's lock, or return why that is not possible."""

    def release_lock(self, name: str) -> str:
        """Release the host's lock if it is held; return why that failed, or ''."""


class AppLocks(Struct):
    """The locks of one app run on all its hosts: all of them, or none.

    ``names`` are the hosts in the order in which every run takes the locks. ``wait_seconds`` limits
    how long ``take`` retries, and ``notify`` is called with the reason for waiting.
    """

    access: LockAccess
    names: Sequence[str]
    pool: ThreadPoolExecutor
    wait_seconds: float
    notify: Callable[[str], None]
    _taken: set[str] = field(default_factory=set)

    def take(self, hosts: Collection[str], cancel: CancelToken) -> LockRefusal | None:
        """Take the locks of all these hosts, or none of them; return the refusal, or None.

        The first host decides between two runs that need the same locks. If only later hosts are
        shared, the refused run tries once more, one host after another, so that one of the runs
        gets all. A lock held by an outer run of this run counts as taken and stays the outer run's.
        """
        deadline = time.monotonic() + self.wait_seconds
        ordered = [name for name in self.names if name in hosts]
        last_reason = ""
        while True:
            refusal = self._take_all(ordered)
            seconds_left = deadline - time.monotonic()
            if refusal is None or not refusal.is_held or cancel.is_cancelled or seconds_left <= 0:
                return refusal
            if refusal.reason != last_reason:
                last_reason = refusal.reason
                self.notify(f"waiting for at most {max(1, round(seconds_left))} s: {last_reason}")
            cancel.sleep(min(_RETRY_INTERVAL, seconds_left))

    def _take_all(self, ordered: Sequence[str]) -> LockRefusal | None:
        refusal = self._take_some(ordered[:1]) or self._take_some(ordered[1:], in_parallel=True)
        if refusal is not None and refusal.is_held and refusal.host != ordered[0]:
            self.release_all()
            refusal = self._take_some(ordered)
        if refusal is not None:
            self.release_all()
        return refusal

    def _take_some(self, names: Iterable[str], *, in_parallel: bool = False) -> LockRefusal | None:
        refusals: list[LockRefusal] = []

        def take_one(name: str) -> None:
            if refusals:
                return
            self._taken.add(name)
            if reason := self.access.take_lock(name):
                refusals.append(reason)

        if in_parallel:
            run_for_each(self.pool, take_one, names)
        else:
            for name in names:
                take_one(name)
        return refusals[0] if refusals else None

    def release_all(self) -> dict[str, str]:
        """Release all locks; return the hosts where that failed, with the reason.

        Locks that could not be released are released again by the next call.
        """
        not_released: dict[str, str] = {}

        def release_one(name: str) -> None:
            if reason := self.access.release_lock(name):
                not_released[name] = reason

        run_for_each(self.pool, release_one, sorted(self._taken))
        self._taken = set(not_released)
        return not_released


def lock_users(app_plan: AppPlan) -> dict[str, list[str]]:
    """Return for each host the users who may create the lock, in the order to try.

    The login user ('') comes first if any step runs as that user, else last; the users of the other
    steps are in the order of the steps. A lock in a home folder has only the first user, because
    the others have another home.
    """
    users_by_host: dict[str, list[str]] = {name: [] for name in app_plan.lock_paths}
    for host in (
        host
        for planned_task in app_plan.planned_tasks
        for host in planned_task.hosts
        if host.host in users_by_host
    ):
        users = users_by_host[host.host]
        users += dict.fromkeys(
            s.user for s in host.steps if not s.delegate_to and s.user not in users
        )
    for name, users in users_by_host.items():
        users_by_host[name] = ["", *users] if "" in users else [*users, ""]
        users_by_host[name] = list(dict.fromkeys(users_by_host[name]))
        if app_plan.lock_paths[name].startswith("~"):
            del users_by_host[name][1:]
    return users_by_host


def lock_script(path: str, action: str, owner: LockOwner) -> str:
    """Return the shell script for one action on a lock; ``path`` is a shell word."""
    lines = {"run": owner.run, "app": owner.app, **owner.details}
    owner_text = "\n".join(f"{key}={' '.join(value.split())}" for key, value in lines.items())
    assignments = f"lock={path} run={shell_quote(owner.run)} app={shell_quote(owner.app)}"
    assignments += f" holder={shell_quote(owner_text)}"
    assignments += f" within={shell_quote(' '.join(owner.outer_runs))} token={secrets.token_hex(8)}"
    return f"set +e\n{assignments}\n{_lock_functions()}\n{action}"


def describe_owner(owner_text: str, app: str) -> str:
    """Return ``by anna@laptop since 10:03:12 (run …): message``, and a hint if the owner is gone.

    ``app`` is the app of the caller; the lock's app is included if it is another one.
    """
    fields = dict(to_one_line(line).split("=", 1) for line in owner_text.split("\n") if "=" in line)
    if fields.get("state") == "odd" or not fields.get("owner"):
        return "by an unknown owner: see `orch lock release`"
    text = f"by {fields['owner']} since {fields.get('since', '?')} (run {fields.get('run', '?')}"
    text += f" for '{fields['app']}')" if fields.get("app", app) != app else ")"
    if fields.get("message"):
        text += f": {quote_output(fields['message'])}"
    if fields.get("state") == "stale":
        text += "; it is stale: its owner is gone, see `orch lock release`"
    if fields.get("state") == "away":
        text += f"; it was taken on {fields.get('machine')}, which shares the folder"
    return text


def _query_error(query_result: QueryResult) -> str:
    """Return the script's stderr, or a fixed text if there is none."""
    return quote_output(query_result.stderr) if query_result.stderr else "its shell did not reply"


@cache
def _lock_functions() -> str:
    return (MODULES_FOLDER / "lock.sh").read_text("utf-8")
