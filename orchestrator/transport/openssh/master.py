"""One ``ssh`` in the background that holds a connection (ControlMaster, ssh_config(5))."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator.errors import ConnectError
from orchestrator.transport.agent import Agent
from orchestrator.transport.deadline import Deadline
from orchestrator.transport.openssh.failure import asks_agent, doing, failure, phase_of
from orchestrator.transport.openssh.mux import Control

_LOOK = 0.2  # seconds between looks at whether the run was cancelled
_SAID = 20_000  # bytes of what it said that are read
_ENDING = 2.0  # seconds for a master to end when it is asked to


class Login:
    """An ``ssh`` on its way in. It goes to the background once it is there, and ends before that
    where it can't get in. It has a session of its own: Ctrl-C is not for it, and it has no
    terminal to ask anything on.
    """

    def __init__(self, words: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        """Raises ConnectError where it can't be run."""
        self._log, self._errors = log, log.with_suffix(".err")
        try:
            with self._errors.open("wb") as errors:
                self._process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env={**environ, "LC_ALL": "C", "SSH_ASKPASS_REQUIRE": "never"},
                    start_new_session=True,
                )
        except OSError as error:
            raise ConnectError("connect", f"can't run {words[0]}: {error.strerror}") from error

    def succeed(self, deadline: Deadline, agent: Agent | None = None) -> None:
        """Wait until it is in; ``agent`` is what it may ask. Raises ConnectError, and ends it
        then.
        """
        assert self._process.stdout
        try:
            # it lets go of its stdout as it goes to the background, or ends
            poller = select.poll()
            poller.register(self._process.stdout, select.POLLIN)
            while not poller.poll(min(_LOOK, deadline.left()) * 1000):
                if not deadline.left():
                    log = _text(self._log)
                    if agent is not None and asks_agent(log):
                        late = agent.fail(f"{agent} did not sign within {deadline.timeout:g} s")
                        raise ConnectError("auth", str(late), agent.remedy)
                    raise deadline.missed(phase_of(log), doing(phase_of(log)))
            status = self._process.wait(_ENDING)
        finally:
            self.kill()
            self._process.wait()
            self._process.stdout.close()
        deadline.left()
        if status:
            raise failure(_text(self._log), _text(self._errors))

    def kill(self) -> None:
        """End it and its proxy command, where it is not in yet. Safe from any thread."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for zombies
                os.killpg(self._process.pid, signal.SIGKILL)

    def forget(self) -> None:
        """Let go of what it said."""
        for file in (self._log, self._errors):
            file.unlink(missing_ok=True)


class Master:
    """A connection that is there. A client of it is kept all the time, so that the master stays;
    when this process dies, that one goes, and the master ends a little later.

    ``ours``: it is ended with ``close``; not so a master that the user has.
    """

    def __init__(self, path: Path, timeout: float, *, ours: bool) -> None:
        """Raises OSError where there is none."""
        self.path, self._ours = path, ours
        self._control: Control | None = Control(path, timeout)

    def alive(self) -> bool:
        """Whether it is still there."""
        return self._control is not None and not self._control.over(0)

    def hang_up(self) -> None:
        """Ask it to end, if it is ours."""
        if self._control is not None and self._ours:
            with suppress(OSError):
                self._control.terminate()

    def join(self) -> None:
        """It is gone, or left to its user. Safe to call twice."""
        control, self._control = self._control, None
        if control is None:
            return
        if self._ours and not control.over(_ENDING):
            with suppress(OSError):
                os.kill(control.pid, signal.SIGKILL)
        control.close()


def _text(file: Path) -> str:
    try:
        return file.read_bytes()[-_SAID:].decode("utf-8", "replace")
    except FileNotFoundError:
        return ""  # it did not come so far
