"""The shells of other users on one connection, and what is known of getting them."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct, field

from orchestrator.errors import ConnectError
from orchestrator.session.channel import Channel
from orchestrator.transport.ask import BECOME_FILE, Answers
from orchestrator.transport.become import Become
from orchestrator.transport.becoming import Becoming, Desk


class Others(Struct, frozen=True):
    """``login`` is who the connection is logged in as. ``method``, ``shell`` and ``timeout`` are
    the host's, as in ``Connect``. Without ``answers`` no password is given. Threads may share it.
    """

    login: str
    method: str
    shell: str
    timeout: float
    answers: Answers | None
    _unasked: set[str] = field(default_factory=set)  # users whose shell came without a password
    _asked: set[str] = field(default_factory=set)
    _wrong: dict[str, ConnectError] = field(default_factory=dict)

    def open(self, user: str, run: Callable[[Become], Channel]) -> Channel:
        """``user``'s shell; ``run`` has a channel for it. Raises ConnectError.

        A password that the host refused is not sent to it again.
        """
        if error := self._wrong.get(user):
            raise ConnectError(error.phase, error.why, error.hint)
        become = Become(self.method, user, self.shell, asks=self._may_ask(user))
        if not become.asks or self.answers is None:
            return Becoming(run(become), become)

        def told(error: ConnectError | None) -> None:
            if error is not None:
                self._wrong[user] = error
            elif user not in self._asked:
                self._unasked.add(user)

        def asked() -> None:
            # sudo may do without one for some minutes from now on, and then no more
            self._asked.add(user)
            self._unasked.discard(user)

        desk = Desk(self.answers, self.login, self.timeout, told, asked)
        return Becoming(run(become), become, desk)

    def _may_ask(self, user: str) -> bool:
        """Where it can't, the session's text need not wait, which saves a round trip."""
        return (
            self.answers is not None
            and self.answers.may_have(BECOME_FILE)
            and self.login != "root"
            and user not in self._unasked
            and Become.can_ask(self.method)
        )
