"""A shell on a host, over a master's connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.errors import ConnectError
from orchestrator.transport.openssh.mux import Control
from orchestrator.transport.pipes import PipedChannel, Three


class MuxChannel(PipedChannel):
    """``command`` on the host, with ``environment`` (NAME=TEXT) as far as the host takes it.
    Its ends of the pipes are the master's, which passes on what goes through them.
    """

    def __init__(
        self,
        master: Path,
        command: str,
        environment: Sequence[str],
        timeout: float,
        closed: Callable[[MuxChannel], object],
        *,
        agent: bool,
    ) -> None:
        """Raises ConnectError (phase channel), and RefusedError where the host may yet agree."""
        self._status: int | None = None
        self._over = False
        self._told_closed = closed

        def start(ends: Three) -> None:
            try:
                self._control = Control(master, timeout)
            except OSError as error:
                why = f"the connection to the host ended ({error.strerror or error})"
                raise ConnectError("channel", why) from error
            try:
                self._session = self._control.session(command, environment, ends, agent=agent)
            except TimeoutError as error:
                self._control.close()
                why = f"the host does not open a session within {timeout:g} s"
                hint = "`connect: {timeout: …}` allows more"
                raise ConnectError("channel", why, hint) from error
            except OSError as error:
                self._control.close()
                why = f"the connection ended before the session opened ({error})"
                raise ConnectError("channel", why) from error
            except ConnectError:
                self._control.close()
                raise

        super().__init__(start)

    def exit_status(self) -> int | None:
        """As ``Channel.exit_status``: not known where a signal ended the shell, or the
        connection was cut: the master does not tell these apart.
        """
        return self._status

    def cause(self) -> str:
        """As ``Channel.cause``: its master tells of an end, and not why it came."""
        return "ssh's connection to the host ended" if self._over and self._status is None else ""

    def _is_gone(self) -> bool:
        return self._over

    def _watched(self) -> tuple[int, ...]:
        return () if self._over else (self._control.fileno(),)

    def _notice(self, ready: set[int]) -> None:
        if not self._over and self._control.fileno() in ready:
            self._over, status = self._control.exit_status(self._session)
            if status is not None:
                self._status = status

    def _end(self) -> None:
        self._control.close()
        self._told_closed(self)
