"""Looking at every host of a stage: can it be reached, and is there all that steps need?"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.commands.context import There
from orchestrator.commands.doctor_checks import (
    DIGEST,
    GROUP,
    MODULE,
    STEP,
    Answers,
    Wanted,
    Wants,
    become,
    clock,
    disk,
    tools,
)
from orchestrator.commands.run_plan import Person, allow_files
from orchestrator.commands.signals import interrupts
from orchestrator.errors import ConnectError, Exit
from orchestrator.executor import Cancel
from orchestrator.journal import STATE, check_private
from orchestrator.model.command import Command
from orchestrator.model.condition import Always
from orchestrator.model.host import Host
from orchestrator.model.host_check import ASKED, WAY, Checkup, State, Trouble
from orchestrator.model.shell_quoting import shell_quote
from orchestrator.model.text_encoding import decode
from orchestrator.modules import FOLDER
from orchestrator.remote_shell import Ending, Lost, Session
from orchestrator.remote_shell.channel_protocol import Connection
from orchestrator.transports.connection_info import Teller, Told
from orchestrator.transports.registry import Connector

_PATIENCE = 20.0  # seconds for a host to answer; a network file system may not
_KEPT = 1 << 16  # bytes of an answer
_LAST = {  # by the phase of a ConnectError: the check that did not come out well
    "ssh_config": "resolve", "resolve": "resolve", "connect": "reach", "banner": "reach",
    "kex": "reach", "host key": "key", "auth": "auth",
}  # fmt: skip
_LOGINS = frozenset(
    "gssapiauthentication hostbasedauthentication pkcs11provider securitykeyprovider".split()
)
"""Ways to log in, which do not matter where another one did."""


class Report(Struct, frozen=True):
    """What was found out, in the order of the stage's hosts. ``blind``: the tasks could not be
    read, so that nobody knows what they need."""

    checkups: tuple[Checkup, ...]
    code: Exit
    blind: bool = False


def doctor(
    there: There, *, forks: int, environ: Mapping[str, str], person: Person, ssh_config: str | None
) -> Report:
    """Look at all hosts, ``forks`` at a time. Nothing is changed on any, nor in known_hosts. The
    first Ctrl-C ends it with what is known by then, a second one at once.
    """
    if any(host.connect.transport == "sandbox" for host in there.hosts):
        check_private(there.root, environ)
    allow_files()
    cancel, stop = Cancel(), threading.Event()
    connector = Connector(
        record=False,
        sandbox=there.root / STATE / "sandbox" / there.stage.name,
        environ=environ,
        hosts=there.stage.hosts,
        ask=person.ask,
        known=there.secrets.masks.add,
        ssh_config=ssh_config,
    )

    def first() -> None:
        stop.set()
        cancel.stop()
        connector.cancel()

    teller = Teller(environ, there.stage.hosts, stop, ssh_config)
    wanted = Wanted(there.root)

    def look(host: Host) -> Checkup:
        return _Look(host, wanted.of(host), connector, teller, cancel).checkup()

    with interrupts(first, lambda _: None, lambda: person.left({})):
        try:
            with ThreadPoolExecutor(forks) as pool:
                checkups = tuple(pool.map(look, there.hosts))
        finally:
            connector.close()
    return Report(checkups, _code(checkups, interrupted=cancel.stopping), wanted.broken)


def _code(checkups: tuple[Checkup, ...], *, interrupted: bool) -> Exit:
    states = {checkup.state for checkup in checkups}
    if interrupted:
        return Exit.INTERRUPTED
    if State.FAILS in states:
        return Exit.FAILED
    return Exit.UNREACHABLE if State.UNREACHABLE in states else Exit.OK


class _Look:
    """One look at one host."""

    def __init__(
        self, host: Host, wants: Wants, connector: Connector, teller: Teller, cancel: Cancel
    ) -> None:
        self._host, self._wants = host, wants
        self._connector, self._teller, self._cancel = connector, teller, cancel
        self._told = Told()

    def checkup(self) -> Checkup:
        """What is found out."""
        found = Checkup(self._host.name, State.INTERRUPTED, self._host.connect.transport)
        if self._cancel.stopping:
            return found
        try:
            self._told = self._teller.of(self._host)
            found = replace(found, place=self._told.place, via=self._told.via)
            with closing(self._connector.connect(self._host)) as connection:
                return self._asked(connection, found)
        except ConnectError as error:
            return found if self._cancel.stopping else self._away(error, found)
        except Lost as lost:
            if self._cancel.stopping:
                return found
            trouble = Trouble("shell", str(lost), "try again: it was reached before", fails=True)
            return replace(found, state=State.FAILS, troubles=(trouble,), passed=_before("shell"))

    def _away(self, error: ConnectError, found: Checkup) -> Checkup:
        check = _LAST.get(error.phase, "shell")
        before = _before(check)
        if ": jump host " in error.why:  # it was not this host that its way ended at
            check, before = "reach", frozenset()
        place = self._told.place
        via = f" via {', '.join(self._told.via)}" if self._told.via else ""
        at = f"{place}{via}: " if place and not error.why.startswith(place) else ""
        what = f"{error.phase}: {at}{error.why}"
        troubles = (Trouble(check, what, error.hint, fails=True), *self._ignored(well=False))
        return replace(found, state=State.UNREACHABLE, passed=before, troubles=troubles)

    def _ignored(self, *, well: bool) -> list[Trouble]:
        """What ssh_config says in vain. ``well``: it could be logged in all the same."""
        return [
            Trouble("ssh_config", f"{one} is not obeyed: {one.why}", f"it stands at {one.mark}")
            for one in self._told.unsupported
            if not well or one.keyword.lower() not in _LOGINS
        ]

    def _asked(self, connection: Connection, found: Checkup) -> Checkup:
        """What the host says. Raises ConnectError and Lost."""
        session = Session(connection.open(), ready_timeout=self._host.connect.timeout)
        unwatch = self._cancel.watch(session.cancel)
        try:
            heard, sent = _Heard(), time.time()
            session.run(
                [Command(1, self._script(), timeout=_PATIENCE, changes=Always(False))], heard
            )
            began = time.monotonic()
            if session.alive:
                session.run((), _Heard())
            latency = time.monotonic() - began
        finally:
            unwatch()
            session.close()
        if self._cancel.stopping:
            return found
        answers = Answers.read(heard.text)
        skew = answers.skew(sent, heard.first or time.time())
        troubles = [*self._agents(), *self._judged(answers, skew), *self._ignored(well=True)]
        way = WAY if self._told.place or found.transport == "sandbox" else ("shell",)
        passed = {*way, *ASKED} - (set() if self._asks_to_become else {"become"})
        return replace(
            found,
            state=_state(troubles),
            passed=frozenset(passed if answers.whole else way),
            troubles=tuple(troubles),
            shell=answers.shell,
            free=answers.free,
            skew=skew,
            latency=latency,
        )

    def _agents(self) -> list[Trouble]:
        """Those that are there and do not answer: one can log in without them, and waits."""
        agents = map(self._connector.agents.at, self._told.agents)
        return [
            Trouble("auth", agent.trouble, agent.remedy)
            for agent in agents
            if agent is not None and agent.trouble and not agent.away
        ]

    @property
    def _asks_to_become(self) -> bool:
        return bool(self._wants.users)

    def _judged(self, answers: Answers, skew: float | None) -> list[Trouble]:
        troubles = [
            *become(answers, self._host.connect.become_method, self._wants.users),
            *disk(answers),
            *clock(skew),
            *tools(answers, self._wants),
        ]
        if not answers.whole:
            what = f"it did not answer all that it was asked within {_PATIENCE:g} s"
            hint = "does `df` on the host hang at a network file system, or sudo at a directory?"
            troubles.insert(0, Trouble("shell", what, hint, fails=True))
        return troubles

    def _script(self) -> str:
        modules = self._wants.modules.values()
        more = {tool for choices in modules for choice in choices for tool in choice}
        given = {
            "tools": " ".join((*STEP, *MODULE, *DIGEST, *GROUP)),
            "more": " ".join(sorted(more)),
            "method": self._host.connect.become_method,
        }
        words = " ".join(f"{name}={shell_quote(text)}" for name, text in given.items())
        users = " ".join(map(shell_quote, self._wants.users))
        return f"{words}\nset -- {users}\n{(FOLDER / 'doctor.sh').read_text('utf-8')}"


def _before(check: str) -> frozenset[str]:
    return frozenset(WAY[: WAY.index(check)])


def _state(troubles: list[Trouble]) -> State:
    if any(trouble.fails for trouble in troubles):
        return State.FAILS
    return State.WARNED if troubles else State.FINE


class _Heard:
    """The session's listener. ``first`` is when the first of the answer came, in seconds since
    the epoch."""

    def __init__(self) -> None:
        self._said = bytearray()
        self.first: float | None = None

    @property
    def text(self) -> str:
        """The answer."""
        return decode(bytes(self._said))

    def started(self, step: int) -> None: ...

    def reported(self, step: int, kind: str, text: str) -> None: ...

    def output(self, step: int, stream: str, data: bytes) -> None:
        if step and stream == "stdout" and len(self._said) < _KEPT:
            self.first = self.first or time.time()
            self._said += data

    def ended(self, step: int, ending: Ending) -> None: ...
