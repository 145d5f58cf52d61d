"""A lane's locks: one per host, taken before anything is changed, kept to the end."""

from __future__ import annotations

import shlex
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from msgspec import Struct, field

from orchestrator.errors import ConnectError
from orchestrator.execute.aside import Answer, ask
from orchestrator.execute.cancel import Cancel
from orchestrator.execute.fleet import Fleet
from orchestrator.execute.pool import each
from orchestrator.library import FOLDER
from orchestrator.model.clean import one_line, quote
from orchestrator.session import Lost, NotReady, Session

TAKEN = 75
"""What the script ends with where somebody else has the lock (EX_TEMPFAIL of sysexits.h)."""

_PAUSE = 2.0  # seconds between tries


class Refusal(Struct, frozen=True):
    """A lock that is somebody else's, or that cannot be had: ``held`` tells these apart.
    ``error``: the host could not be asked, or did not answer."""

    host: str
    why: str
    held: bool
    error: ConnectError | Lost | None = None


class Locks(Struct):
    """The locks of one lane. ``paths`` are shell words, by host in the order in which locks are
    taken by everyone; ``holder`` says whose they are; ``wait`` is how many seconds to try.
    """

    fleet: Fleet
    app: str | None
    paths: Mapping[str, str]
    run: str
    holder: Mapping[str, str]
    pool: ThreadPoolExecutor
    wait: float = 0.0
    _by: dict[str, Session] = field(default_factory=dict)

    def take(self, hosts: Collection[str], cancel: Cancel) -> Refusal | None:
        """Take those of all these hosts, or none of them.

        The first host decides between two who want the same; where only later ones are shared,
        whoever is refused there goes once more, one host after another, so that one gets through.
        """
        until = time.monotonic() + self.wait
        ordered = [name for name in self.paths if name in hosts]
        while True:
            refusal = self._all(ordered)
            left = until - time.monotonic()
            if refusal is None or not refusal.held or cancel.stopping or left <= 0:
                return refusal
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
        try:
            session = self.fleet.session(name, self.app)
        except ConnectError as error:
            return Refusal(name, str(error), held=False, error=error)
        try:
            answer = ask(session, self._script(name, "take"))
        except (ConnectError, Lost) as error:
            if isinstance(error, Lost) or (isinstance(error, NotReady) and error.sent):
                self._by[name] = session  # it may be taken, and is to be freed
            return Refusal(name, str(error), held=False, error=error)
        if answer.exit_status == 0:
            self._by[name] = session
            return None
        return Refusal(name, self._why(name, answer), held=answer.exit_status == TAKEN)

    def _why(self, name: str, answer: Answer) -> str:
        what = f"'{self.app}' on {name}"
        if answer.exit_status != TAKEN:
            return f"{what} cannot be locked: {_said(answer)}"
        return f"{what} is locked {describe(answer.stdout)}"

    def renew(self, name: str) -> None:
        """Have the lock be that of the lane's session, where that was opened anew. Raises Lost
        and ConnectError."""
        if name in self._by:
            session = self.fleet.session(name, self.app)
            if session is not self._by[name]:
                ask(session, self._script(name, "renew"))
                self._by[name] = session

    def free(self) -> dict[str, str]:
        """Let go of all; the hosts where that could not be done, with why. It can be tried
        again."""
        left: dict[str, str] = {}

        def one(name: str) -> None:
            try:
                answer = self._free(name)
            except (ConnectError, Lost) as error:
                left[name] = str(error)
            else:
                if answer.exit_status != 0:
                    left[name] = _said(answer)

        each(self.pool, one, list(self._by))
        self._by = {name: session for name, session in self._by.items() if name in left}
        return left

    def _free(self, name: str) -> Answer:
        """Once more where the session broke off: nothing is freed but what is ours."""
        text = self._script(name, "free")
        try:
            return ask(self.fleet.session(name, self.app), text)
        except (NotReady, Lost):
            return ask(self.fleet.session(name, self.app), text)

    def _script(self, name: str, act: str) -> str:
        return script(self.paths[name], act, run=self.run, holder=self.holder)


def script(path: str, act: str, *, run: str, holder: Mapping[str, str]) -> str:
    """The shell text for one act on a lock; ``path`` is a shell word."""
    lines = {"run": run, **holder}
    told = "\n".join(f"{key}={' '.join(value.split())}" for key, value in lines.items())
    given = f"lock={path} run={shlex.quote(run)} holder={shlex.quote(told)}"
    return f"{given}\n{_functions()}\nset +e\n{act}"


def describe(said: str) -> str:
    """``by anna@laptop since 10:03:12 (run …): message``, and what to do if its owner is gone."""
    told = dict(one_line(line).split("=", 1) for line in said.split("\n") if "=" in line)
    if told.get("state") == "odd" or "owner" not in told:
        return "by nobody that it names: see `orch lock release`"
    text = f"by {told['owner']} since {told.get('since', '?')} (run {told.get('run', '?')})"
    if told.get("message"):
        text += f": {quote(told['message'])}"
    if told.get("state") == "stale":
        text += "; it is stale: its owner is gone, see `orch lock release`"
    return text


def _said(answer: Answer) -> str:
    """Why a script on a host failed, as the host told it."""
    return quote(answer.stderr) if answer.stderr else "its shell did not answer"


@cache
def _functions() -> str:
    return (FOLDER / "lock.sh").read_text("utf-8")
