"""Start a user's command in a prepared shell: folder, environment, and modes of the terminal.

The text that prepares it is not an argument of a process, because it may contain secrets: the shell
reads it from stdin, exactly as many bytes as it has, and leaves the rest to the command. On a
terminal it is sent only after the echo is off.
"""

from __future__ import annotations

import secrets
import time

from msgspec import Struct, field

from orchestrator.errors import ConnectError
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.model.sanitize import quote_output_end
from orchestrator.model.shell_quoting import always_shell_quote, shell_quote
from orchestrator.model.text_encoding import encode_text
from orchestrator.remote_shell.channel_protocol import Channel, ReadChunk

_MODES_LABEL = "orch-terminal:"
TERMINAL_SETUP = (
    f'o_modes=$(stty -g)&&stty raw -echo&&echo "{_MODES_LABEL}$o_modes"||exit;unset o_modes;'
)
"""Shell text that makes a terminal pass bytes unchanged, and prints the modes that it had."""

FIND_LOGIN_SHELL = """\
o_shell=$(getent passwd "$(id -un)" 2>/dev/null) || o_shell=$(grep "^$(id -un):" /etc/passwd) || :
o_shell=${o_shell##*:}
case ${o_shell:=$SHELL} in ''|*/nologin|*/false) o_shell=/bin/sh;; esac
export SHELL="$o_shell"
"""
"""Shell text that sets ``$SHELL`` to the user's login shell, or to sh if the user has none."""

_MODES = lazy_regex(_MODES_LABEL.encode() + rb"([0-9A-Za-z:=_-]{1,1000})\r?\n")
_HOME_FOLDER = '[ "$PWD" = "$HOME" ] || cd || cd /\nset -e\n'
_SIZE_OFFSET = 100_000_000  # so that all sizes have as many digits, and none a leading zero
# Not `read`: bash reads ahead if the terminal returns more than a line.
_READ_AND_RUN = (
    f"o_text=$(dd bs=1 count={len(str(_SIZE_OFFSET))} 2>/dev/null);"
    f'o_text=$(dd bs=1 count=$((o_text-{_SIZE_OFFSET})) 2>/dev/null);eval "$o_text"'
)
_MAX_OUTPUT_BYTES = 1 << 16  # bytes of output before the start that are searched


class StartedShell(Struct, frozen=True):
    """A shell that runs its text.

    ``pid`` is its process id; ``output`` is what it has printed since.
    """

    pid: int
    output: ReadChunk


class StartScript(Struct, frozen=True):
    """A text for a new sh that reads it from stdin.

    The text starts in the user's home folder and ends at its first command that fails.
    """

    text: str
    on_terminal: bool = False
    token: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def command(self) -> str:
        """The command that starts the shell, for ``Connection.start_command``.

        It contains nothing that a login shell other than sh would parse differently.
        """
        setup = TERMINAL_SETUP if self.on_terminal else ""
        return f"sh -c {always_shell_quote(f'{setup}echo {self.token} $$;{_READ_AND_RUN}')}"

    def send(self, channel: Channel, timeout: float) -> StartedShell:
        """Send the text when the shell has started, and return the shell.

        On a terminal, return when the terminal has its modes again. Raises ConnectError (phase
        shell) if the shell ends before that, or does not start within ``timeout`` seconds.
        """
        starting = _StartingShell(channel, timeout, merged=self.on_terminal)
        before = starting.read_until(self.token.encode() + b" ")
        pid = starting.read_until(b"\n")
        if not pid.isdigit():
            raise starting.error("the host did not report a process id")
        modes = _MODES.search(before)
        if self.on_terminal and modes is None:
            raise starting.error("the host did not report the modes of its terminal")
        starting.write(self._sent_bytes(modes[1].decode() if modes else ""))
        if self.on_terminal:
            starting.read_until(self._ready_token.encode())
        return StartedShell(int(pid), starting.rest())

    @property
    def _ready_token(self) -> str:
        return self.token[::-1]

    def _sent_bytes(self, modes: str) -> bytes:
        """Return the text, after the number of its bytes; it first gives the terminal its modes."""
        restore = f"stty {shell_quote(modes)}\nprintf %s {self._ready_token}\n"
        text = encode_text(
            f"unset o_text\n{restore if self.on_terminal else ''}{_HOME_FOLDER}{self.text}\n"
        )
        return f"{_SIZE_OFFSET + len(text)}".encode() + text


class _StartingShell:
    """The dialogue with a shell until its text has been sent.

    ``timeout``: how many seconds the host may take, not counting the time that the user takes to
    type a password. ``merged``: stdout and stderr are one, the terminal.
    """

    def __init__(self, channel: Channel, timeout: float, *, merged: bool) -> None:
        self._channel, self._timeout, self._merged = channel, timeout, merged
        self._deadline = time.monotonic() + timeout
        self._stdout = self._stderr = b""
        self._has_ended = False

    def read_until(self, token: bytes) -> bytes:
        """Return the output before the token. Raises ConnectError."""
        while token not in self._stdout:
            self._read()
        before, _, self._stdout = self._stdout.partition(token)
        return before

    def write(self, data: bytes) -> None:
        """Write all of the data. Raises ConnectError."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._channel.write(rest) :]
            except OSError:
                raise self.error("the shell ended before it read its text") from None
            if rest:
                self._read()

    def rest(self) -> ReadChunk:
        """Return the output that was not read."""
        return ReadChunk(self._stdout, self._stderr)

    def error(self, why: str) -> ConnectError:
        """Return the error for a shell that did not start, with the end of its output."""
        output = quote_output_end(self._stderr + self._stdout)
        return ConnectError("shell", f"{why}; output: {output or 'none'}")

    def _read(self) -> None:
        if self._has_ended:
            cause = self._channel.cause()
            raise self.error(
                f"the connection was lost before the shell started: {cause}"
                if cause
                else "the host ended the command before the shell started"
            )
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise self.error(f"no shell within {self._timeout:g} s")
        chunk = self._channel.read(remaining)
        self._deadline += chunk.waited
        merged_stderr, own_stderr = (chunk.stderr, b"") if self._merged else (b"", chunk.stderr)
        self._stdout = (self._stdout + merged_stderr + chunk.stdout)[-_MAX_OUTPUT_BYTES:]
        self._stderr = (self._stderr + own_stderr)[-_MAX_OUTPUT_BYTES:]
        self._has_ended = chunk.eof
