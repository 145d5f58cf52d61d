"""The keys of a prompt (prompt_toolkit), which ends if a signal arrives or its terminal is gone."""

from __future__ import annotations

import codecs
import errno
import os
import select
import signal
import termios
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import FrameType
from typing import Any, TextIO

from prompt_toolkit.input.posix_utils import PosixStdinReader
from prompt_toolkit.input.vt100 import Vt100Input
from prompt_toolkit.key_binding import KeyPress
from prompt_toolkit.keys import Keys

from orchestrator.commands.signals import SIGNALS
from orchestrator.errors import ExitCode

END_SECONDS = 5.0
"""Seconds from the request to end a prompt until the process exits, whatever it still does."""


def is_hangup(error: object) -> bool:
    """Return True if the error is that of a terminal that is gone (EIO)."""
    return isinstance(error, (OSError, termios.error)) and error.args[:1] == (errno.EIO,)


class _KeyReader(PosixStdinReader):
    """Reads what is typed; an error ends it, which prompt_toolkit takes for "no key" for ever."""

    def __init__(self, descriptor: int, encoding: str) -> None:
        super().__init__(descriptor, encoding=encoding)
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")

    def read(self, count: int = 1024) -> str:
        """Return what can be read without waiting."""
        try:
            if self.closed or not select.select([self.stdin_fd], [], [], 0)[0]:
                return ""
            data = os.read(self.stdin_fd, count)
        except BlockingIOError:
            return ""
        except OSError:
            data = b""
        self.closed = not data
        return self._decoder.decode(data)


class PromptInput(Vt100Input):
    """The keys that are typed at a terminal; ``closed`` once a signal or the terminal ends them.

    A signal handler must not raise an exception while asyncio's loop runs: it could come between
    the moment in which the loop takes a callback from its queue and the call. The task that waits
    for this callback would never end, and asyncio waits for all tasks before it returns. So the
    handlers here only wake the loop, which ends the prompt as if its input had ended.
    """

    def __init__(self, stdin: TextIO) -> None:
        """Read keys from this stream, which is a terminal."""
        super().__init__(stdin)
        self.stdin_reader = _KeyReader(stdin.fileno(), stdin.encoding)
        self._is_ended = self._is_interrupted = False
        self._wake: Callable[[], object] | None = None
        self._settings: list[Any] | None = None

    @property
    def closed(self) -> bool:
        """Return True if the prompt is to end, and with it the process."""
        return self._is_ended

    @contextmanager
    def handle_signals(self) -> Iterator[None]:
        """End the prompt on SIGTERM and SIGHUP, and interrupt it on SIGINT, while inside.

        Signals that were ignored stay ignored. Afterwards, KeyboardInterrupt is raised if SIGINT
        arrived. If the prompt is to end, later signals do nothing: the process is about to exit.
        """
        self._is_interrupted = False
        with suppress(termios.error):
            self._settings = termios.tcgetattr(self.fileno())
        before = {number: signal.getsignal(number) for number in SIGNALS}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self._note_signal)
        try:
            yield
        finally:
            if not self._is_ended:
                for number, handler in before.items():
                    signal.signal(number, handler)
        if self._is_interrupted and not self._is_ended:
            raise KeyboardInterrupt

    def end(self) -> None:
        """End the prompt. If the process still exists after ``END_SECONDS``, it exits with 130.

        Reentrant: a signal handler may call it at any time.
        """
        if self._is_ended:
            return
        self._is_ended = True
        signal.signal(signal.SIGALRM, self._quit)
        signal.setitimer(signal.ITIMER_REAL, END_SECONDS)
        self._wake_loop()

    def attach(self, input_ready_callback: Callable[[], None]) -> AbstractContextManager[None]:
        """Call the function in the running loop if there are keys, and if the input has ended."""
        return self._attached(input_ready_callback)

    def read_keys(self) -> list[KeyPress]:
        """Return the keys that can be read; a Ctrl-C for SIGINT."""
        interrupts = [KeyPress(Keys.SIGINT)] if self._is_interrupted else []
        self._is_interrupted = False
        if self._is_ended or interrupts:
            return interrupts
        keys = super().read_keys()
        if self.stdin_reader.closed:
            self.end()
        return keys

    @contextmanager
    def _attached(self, call: Callable[[], None]) -> Iterator[None]:
        with super().attach(call):
            loop = get_running_loop()
            show_error = loop.get_exception_handler()
            loop.set_exception_handler(
                lambda loop, context: self._handle_error(show_error, loop, context)
            )
            self._wake = lambda: loop.call_soon_threadsafe(call)
            if self._is_ended or self._is_interrupted:
                self._wake_loop()
            try:
                yield
            finally:
                self._wake = None

    def _handle_error(
        self,
        show_error: Callable[[AbstractEventLoop, dict[str, Any]], object] | None,
        loop: AbstractEventLoop,
        context: dict[str, Any],
    ) -> None:
        """End the prompt if the terminal of its output is gone; show any other error."""
        if is_hangup(context.get("exception")):
            self.end()
        elif show_error is not None:
            show_error(loop, context)
        else:
            loop.default_exception_handler(context)

    def _note_signal(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGINT:
            self.end()
        elif not self._is_ended:
            self._is_interrupted = True
            self._wake_loop()

    def _wake_loop(self) -> None:
        if self._wake is not None:
            self._wake()

    def _quit(self, _number: int, _frame: FrameType | None) -> None:
        """Exit with 130, with the terminal's settings as they were."""
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # of a process in the background
        if self._settings is not None:
            with suppress(termios.error):
                termios.tcsetattr(self.fileno(), termios.TCSANOW, self._settings)
        os._exit(int(ExitCode.INTERRUPTED))
