"""The command's side of the broker: connections and channels that the broker makes and keeps."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import select
import socket
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from msgspec.structs import replace

from orchestrator.errors import ConnectError, OrchError
from orchestrator.model.host import Host
from orchestrator.remote_shell.channel_protocol import (
    Channel,
    CommandChannel,
    Connection,
    PreparedShell,
    ReadChunk,
    Terminal,
    TerminalSize,
)
from orchestrator.transports.become import BecomeCommand, BecomeShells
from orchestrator.transports.broker.messages import (
    EXIT_STATUS,
    LOST,
    MESSAGE,
    OUTPUT_END,
    STDERR,
    STDIN,
    STDIN_END,
    STDOUT,
    Answer,
    AskUser,
    BecomeWay,
    BeginCommand,
    BrokerEnded,
    BrokerStatus,
    ChannelOpened,
    ChannelRefused,
    CommandBegun,
    EndBroker,
    FindPassword,
    FrameReader,
    InvalidFrameError,
    Message,
    NotePasswordless,
    NoteSecret,
    OpenChannel,
    QueryStatus,
    ResizeTerminal,
    ShowWarning,
    decode_message,
    encode_frame,
    encode_message,
    encode_value,
)
from orchestrator.transports.broker.socket_folder import (
    RUNTIME_VARIABLE,
    UnsafeFolderError,
    broker_socket_path,
    code_identity,
    peer_uid,
)
from orchestrator.transports.deadline import CancelledError
from orchestrator.transports.prompts import CredentialStore, PromptCallback, SecretCallback
from orchestrator.transports.ssh.route import Route
from orchestrator.transports.ssh_config.resolve import ResolvedConnection

BROKER_ENDED = "the broker that keeps connections has ended"
_DEFAULT_KEY_FILES = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
_READ_BYTES = 1 << 16
_MAX_WRITE_BYTES = 1 << 16
_BACKLOG = 1024
_ANSWER_TIMEOUT = 10.0  # seconds for the broker to answer a question that it need not think about
_BROKER_PROGRAM = ("-m", "orchestrator.transports.broker.broker_process")
_BROKER_ENVIRONMENT = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "PYTHONPATH", "TZ", "USER")
# Variables that differ between the terminals of a user, and lead nowhere else.
_PASSING_VARIABLES = (
    *("_", "COLUMNS", "LINES", "OLDPWD", "PWD", "SHLVL", "SSH_AUTH_SOCK", "SSH_CLIENT"),
    *("SSH_CONNECTION", "SSH_TTY", "TERM", "WINDOWID", "XDG_SESSION_ID"),
)


class BrokerUnavailableError(OSError):
    """There is no broker to talk to; its message says why."""


class BrokerSettings(msgspec.Struct, frozen=True):
    """What a command's broker depends on.

    ``project`` is the project's folder. The other fields are those of ``TransportRegistry``.
    """

    project: Path
    home: Path
    environ: Mapping[str, str]
    record_host_keys: bool
    prompt_user: PromptCallback | None
    on_secret: SecretCallback
    warn: Callable[[str], object]


class BrokerClient:
    """A command's link to the broker, which is started when there is none. Thread-safe.

    Setting ``stop`` cancels questions to the user.
    """

    def __init__(self, settings: BrokerSettings, stop: threading.Event) -> None:
        """Connect to nobody yet."""
        self._settings, self._stop = settings, stop
        self._token = secrets.token_hex(16)
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._path: Path | None = None
        self._unavailable: BrokerUnavailableError | None = None
        self._hosts: dict[str, Host] = {}
        self._opening: set[socket.socket] = set()
        self._connections: list[BrokerConnection] = []
        self._file_states: dict[str, object] = {}
        self._environment_digest = b""
        self._is_cancelled = False

    def connect(
        self,
        host: Host,
        route: Route,
        credential_store: CredentialStore,
        connect_directly: Callable[[], Connection],
    ) -> BrokerConnection:
        """Return a connection to a host, which the broker has or makes.

        ``connect_directly`` connects without the broker; it is called if the broker ends before
        anything was sent. Raises ConnectError, and BrokerUnavailableError.
        """
        self._begin()
        with self._lock:
            self._hosts[host.name] = host
        request = self._request(host, route)
        try:
            first = self.open_channel(request)
        except CancelledError:
            raise
        except ConnectError as error:
            raise error.with_endpoint(route.endpoint) from None
        become_shells = BecomeShells.of_host(
            route.connection.connect, route.login_user, credential_store
        )
        connection = BrokerConnection(self, request, first, become_shells, connect_directly)
        with self._lock:
            self._connections.append(connection)
        return connection

    def open_channel(self, request: OpenChannel) -> BrokerChannel:
        """Open a channel. Raises ConnectError, and BrokerUnavailableError."""
        if self._path is None:
            raise BrokerUnavailableError(BROKER_ENDED)
        try:
            sock = _connect_socket(self._path)
        except OSError as error:
            raise BrokerUnavailableError(f"{BROKER_ENDED} ({error})") from None
        with self._lock:
            self._opening.add(sock)
            is_cancelled = self._is_cancelled
        try:
            if is_cancelled:
                raise CancelledError
            frames = FrameReader()
            message = _exchange(sock, request, frames)
        except OSError as error:
            sock.close()
            if self._is_cancelled:
                raise CancelledError from None
            raise BrokerUnavailableError(f"{BROKER_ENDED} ({error})") from None
        except BaseException:
            sock.close()
            raise
        finally:
            with self._lock:
                self._opening.discard(sock)
        if isinstance(message, ChannelOpened):
            return BrokerChannel(sock, message, frames)
        sock.close()
        if isinstance(message, ChannelRefused):
            raise CancelledError if self._is_cancelled else message.error()
        raise BrokerUnavailableError("the broker gave no sensible answer")

    def tell(self, message: Message) -> None:
        """Tell the broker something, if it still runs."""
        with self._lock:
            if self._control is not None:
                with contextlib.suppress(OSError):
                    self._control.sendall(encode_message(message))

    def cancel(self) -> None:
        """Cancel channels that are being opened; keep open ones."""
        with self._lock:
            self._is_cancelled = True
            for sock in self._opening:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the link and all channels; the broker keeps the connections."""
        self.cancel()
        with self._lock:
            connections, self._connections = self._connections, []
        for connection in connections:
            connection.close()
        with self._lock:
            control, self._control = self._control, None
        if control is not None:
            with contextlib.suppress(OSError):
                control.shutdown(socket.SHUT_RDWR)
            control.close()

    # The beginning.

    def _begin(self) -> None:
        """Introduce the command to the broker. Raises BrokerUnavailableError."""
        with self._lock:
            if self._unavailable is not None:
                raise self._unavailable
            if self._control is not None:
                return
            try:
                self._path = broker_socket_path(self._settings.project, self._settings.environ)
                self._control = self._introduce(self._path)
            except (OSError, UnsafeFolderError, BrokerUnavailableError) as error:
                self._unavailable = BrokerUnavailableError(str(error))
                raise self._unavailable from None
            control = self._control
        threading.Thread(target=self._serve, args=(control,), daemon=True).start()

    def _introduce(self, path: Path) -> socket.socket:
        begin = BeginCommand(
            self._token,
            code_identity(),
            str(self._settings.home),
            dict(self._settings.environ),
            record_host_keys=self._settings.record_host_keys,
            can_prompt=self._settings.prompt_user is not None,
        )
        for _ in range(3):
            sock = connect_or_start(path, self._settings.environ)
            sock.settimeout(_ANSWER_TIMEOUT)
            try:
                if isinstance(_exchange(sock, begin, FrameReader()), CommandBegun):
                    sock.settimeout(None)
                    return sock
            except TimeoutError:
                raise BrokerUnavailableError(f"the broker at {path} does not answer") from None
            except OSError:
                pass  # it was about to end
            finally:
                if sock.gettimeout() is not None:
                    sock.close()
        raise BrokerUnavailableError(f"{BROKER_ENDED} again and again")

    def _request(self, host: Host, route: Route) -> OpenChannel:
        connect = host.connect
        route = _without_secrets(route)
        return OpenChannel(
            self._token,
            host.name,
            self._key(host, route),
            route,
            connect.persist,
            has_password=connect.password is not None,
        )

    def _key(self, host: Host, route: Route) -> bytes:
        """Return a digest of the route and of what decides where it leads, and as whom."""
        hops = (*(hop.connection for hop in route.jump_hosts), route.connection)
        files = [
            self._file_state(name)
            for hop in hops
            for name in (*(hop.connect.identity or _DEFAULT_KEY_FILES), *hop.settings.certificates)
        ]
        has_proxy = any(hop.settings.proxy_command for hop in hops)
        environment = self._environment() if has_proxy else b""
        data = encode_value((host.name, route, files, environment))
        return hashlib.blake2b(data, digest_size=24).digest()

    def _file_state(self, name: str) -> object:
        if name not in self._file_states:
            path = self._settings.home / name[2:] if name.startswith("~/") else Path(name)
            try:
                status = path.stat()
                self._file_states[name] = (status.st_mtime_ns, status.st_size, status.st_ino)
            except OSError:
                self._file_states[name] = None
        return self._file_states[name]

    def _environment(self) -> bytes:
        """Return a digest of the environment, which a ProxyCommand has, too."""
        if not self._environment_digest:
            lasting = sorted(
                (name, text)
                for name, text in self._settings.environ.items()
                if name not in _PASSING_VARIABLES
            )
            data = repr(lasting).encode("utf-8", "surrogateescape")
            self._environment_digest = hashlib.blake2b(data, digest_size=24).digest()
        return self._environment_digest

    # The broker's questions, in a thread of their own.

    def _serve(self, control: socket.socket) -> None:
        frames = FrameReader()
        with contextlib.suppress(OSError, InvalidFrameError):
            while data := control.recv(_READ_BYTES):
                for _, content in frames.feed(data):
                    answer = self._answer(decode_message(content))
                    if answer is not None:
                        control.sendall(encode_message(answer))

    def _answer(self, message: Message) -> Answer | None:
        settings = self._settings
        if isinstance(message, AskUser) and settings.prompt_user is not None:
            text = settings.prompt_user(message.text, message.echo, self._stop)
            return Answer(message.number, text)
        if isinstance(message, FindPassword):
            password = self._hosts[message.host].connect.password
            try:
                return Answer(message.number, password.find() if password is not None else None)
            except OrchError as error:
                return Answer(message.number, error=str(error))
        if isinstance(message, NoteSecret):
            settings.on_secret(message.kind, message.secret)
            return Answer(message.number)
        if isinstance(message, ShowWarning):
            settings.warn(message.text)
        return None


class BrokerConnection:
    """A connection that the broker has; satisfies ``Connection``.

    ``close`` ends the command's channels; the broker keeps the connection.
    """

    def __init__(
        self,
        client: BrokerClient,
        request: OpenChannel,
        first: BrokerChannel,
        become_shells: BecomeShells,
        connect_directly: Callable[[], Connection],
    ) -> None:
        """Hold the first channel, which leads to a shell, until it is asked for."""
        self.endpoint = request.route.endpoint
        self._client, self._request, self._user = client, request, become_shells.login_user
        self._become_shells, self._connect_directly = become_shells, connect_directly
        self._lock = threading.Lock()
        self._spare: BrokerChannel | None = first
        self._channels: set[BrokerChannel] = {first}
        self._direct: Connection | None = None
        self._keeps_become = request.route.connection.connect.persist_become

    def open(self, become: str = "") -> Channel:
        """Implement ``Connection.open``."""
        direct = self._direct
        if direct is not None:
            return direct.open(become)
        try:
            if become in ("", self._user):
                return self._take_spare() or self._open(self._request)
            return self._become_shells.open(become, self._open_become)
        except BrokerUnavailableError:
            return self._replace().open(become)

    def start_command(
        self, command: str, terminal: Terminal | None = None, become: str = ""
    ) -> CommandChannel:
        """Implement ``Connection.start_command``."""
        direct = self._direct
        if direct is not None:
            return direct.start_command(command, terminal, become)

        def start(command_line: str) -> CommandChannel:
            channel = self._open(
                replace(self._request, command=command_line, is_shell=False, terminal=terminal)
            )
            if (spare := self._take_spare()) is not None:
                spare.close()
            return channel

        try:
            if become in ("", self._user):
                return start(f"exec {command}" if command else "")
            return self._become_shells.start_command(
                become,
                command,
                lambda other: start(other.command_line),
                on_terminal=terminal is not None,
            )
        except BrokerUnavailableError:
            return self._replace().start_command(command, terminal, become)

    def close(self) -> None:
        """End all channels of this connection. Safe to call twice and from any thread."""
        with self._lock:
            channels, self._channels = list(self._channels), set()
            direct = self._direct
        if channels and self._keeps_become:
            self._note_passwordless()
        for channel in channels:
            channel.close()
        if direct is not None:
            direct.close()

    def _open_become(self, become: BecomeCommand) -> Channel:
        way = BecomeWay(become.method, become.user, become.shell) if self._keeps_become else None
        return self._open(replace(self._request, command=become.command_line, become=way))

    def _note_passwordless(self) -> None:
        shells = self._become_shells
        for user in shells.passwordless_users():
            way = BecomeWay(shells.method, user, shells.shell)
            self._client.tell(NotePasswordless(self._request.key, way))

    def _open(self, request: OpenChannel) -> BrokerChannel:
        channel = self._client.open_channel(request)
        with self._lock:
            self._channels = {each for each in self._channels if not each.is_closed} | {channel}
        return channel

    def _take_spare(self) -> BrokerChannel | None:
        with self._lock:
            spare, self._spare = self._spare, None
        return spare

    def _replace(self) -> Connection:
        """Connect without the broker, which has ended."""
        direct = self._connect_directly()
        with self._lock:
            self._direct = direct
        return direct


class BrokerChannel:
    """A channel through the broker; satisfies ``CommandChannel``."""

    def __init__(self, sock: socket.socket, opened: ChannelOpened, frames: FrameReader) -> None:
        """Use a socket on which the broker has opened the channel."""
        sock.setblocking(False)
        self.is_closed = False
        self._sock, self._frames, self._opened = sock, frames, opened
        self._woken, self._waker = _make_waker()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)
        self._unsent = memoryview(b"")
        self._is_full = self._polls_room = self._stdin_ended = self._is_broken = False
        self._out: list[bytes] = []
        self._err: list[bytes] = []
        self._status: int | None = None
        self._output_ended = False
        self._lost: str | None = None
        self._refused: ConnectError | None = None
        self._lock = threading.Lock()  # held while the file descriptors are in use
        self._wake_lock = threading.Lock()
        self._take_frames(b"")

    def write(self, data: bytes | memoryview) -> int:
        """Implement ``Channel.write``."""
        with self._lock:
            if self.is_closed or self._stdin_ended or self._lost is not None:
                raise BrokenPipeError("the channel is closed")
            self._is_full = not self._flush()
            if self._is_full:
                return 0
            part = memoryview(data)[:_MAX_WRITE_BYTES]
            self._unsent = memoryview(encode_frame(STDIN, bytes(part)))
            self._flush()
            self._is_full = len(part) < len(data)
            return len(part)

    def read(self, timeout: float | None) -> ReadChunk:
        """Implement ``Channel.read``. Raises ConnectError if the host refused the command late."""
        with self._lock:
            if self.is_closed:
                return ReadChunk(eof=True)
            if not (self._out or self._err or self._has_ended()):
                self._wait(timeout)
            if self.is_closed:
                return ReadChunk(eof=True)
            if self._refused is not None:
                raise self._refused
            stdout, self._out = b"".join(self._out), []
            stderr, self._err = b"".join(self._err), []
            return ReadChunk(stdout, stderr, not (stdout or stderr) and self._has_ended())

    def wake(self) -> None:
        """Implement ``Channel.wake``."""
        with self._wake_lock:
            if not self.is_closed:
                self._write_wake()

    def close_stdin(self) -> None:
        """Implement ``Channel.close_stdin``."""
        with self._lock:
            if self.is_closed or self._stdin_ended:
                return
            self._stdin_ended = True
            self._unsent = memoryview(bytes(self._unsent) + encode_frame(STDIN_END))
            self._flush()

    def resize(self, size: TerminalSize) -> None:
        """Implement ``CommandChannel.resize``."""
        with self._lock:
            if not self.is_closed:
                frame = encode_message(ResizeTerminal(size.columns, size.rows))
                self._unsent = memoryview(bytes(self._unsent) + frame)
                self._flush()

    def exit_status(self) -> int | None:
        """Implement ``Channel.exit_status``."""
        return self._status

    def cause(self) -> str:
        """Implement ``Channel.cause``."""
        return "" if self._output_ended else self._lost or ""

    def prepared_shell(self) -> PreparedShell | None:
        """Implement ``Channel.prepared_shell``."""
        opened = self._opened
        return PreparedShell(opened.nonce, opened.pid) if opened.nonce else None

    def close(self) -> None:
        """Close the channel. Safe to call twice and from any thread."""
        with self._wake_lock:
            if self.is_closed:
                return
            self.is_closed = True
            self._write_wake()
        with self._lock:
            self._sock.close()
            os.close(self._woken)
            if self._waker != self._woken:
                os.close(self._waker)

    def _has_ended(self) -> bool:
        is_over = self._output_ended and self._status is not None
        return self._lost is not None or is_over or self._refused is not None

    def _write_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._waker, b"\1\0\0\0\0\0\0\0")

    def _wait(self, timeout: float | None) -> None:
        """Wait until something has arrived, there is room to write, or ``wake`` is called."""
        wants_room = bool(self._unsent) or self._is_full
        if wants_room != self._polls_room:
            self._polls_room = wants_room
            self._poll.modify(self._sock, select.POLLIN | (select.POLLOUT if wants_room else 0))
        for fd, events in self._poll.poll(None if timeout is None else max(0.0, timeout) * 1000):
            if fd == self._woken:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 4096)
                continue
            if events & select.POLLOUT:
                self._flush()
                self._is_full = False
            if events & ~select.POLLOUT:
                self._receive()

    def _receive(self) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._take_frames(data)
        elif self._lost is None:
            self._lost = "" if self._output_ended else BROKER_ENDED

    def _take_frames(self, data: bytes) -> None:
        try:
            for kind, content in self._frames.feed(data):
                self._take_frame(kind, content)
        except InvalidFrameError as error:
            self._lost = f"the broker sent nonsense: {error}"

    def _take_frame(self, kind: bytes, content: bytes) -> None:
        if kind == STDOUT:
            self._out.append(content)
        elif kind == STDERR:
            self._err.append(content)
        elif kind == EXIT_STATUS:
            self._status = struct.unpack(">I", content)[0]
        elif kind == OUTPUT_END:
            self._output_ended = True
        elif kind == LOST:
            self._lost = content.decode("utf-8", "surrogateescape")
        elif kind == MESSAGE:
            message = decode_message(content)
            if isinstance(message, ChannelRefused):
                self._refused = message.error()

    def _flush(self) -> bool:
        """Send what is left of a frame. Return True if nothing is left."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self._sock.send(self._unsent) :]
        except BlockingIOError:
            return False
        except OSError:
            self._unsent = memoryview(b"")  # the next read reports the end
        return True


def query_status(project: Path, environ: Mapping[str, str]) -> BrokerStatus | None:
    """Return the status of the user's broker for a project; None if there is none.

    Raises BrokerUnavailableError if the folder of its socket is not safe.
    """
    found = _ask(project, environ, QueryStatus())
    return found if isinstance(found, BrokerStatus) else None


def end_broker(
    project: Path, environ: Mapping[str, str], hosts: list[str] | None = None
) -> list[str] | None:
    """Close the kept connections of these hosts, or all, and the broker with them.

    Return the names of the hosts, or None if there is no broker. Raises BrokerUnavailableError.
    """
    found = _ask(project, environ, EndBroker(hosts))
    return found.hosts if isinstance(found, BrokerEnded) else None


def _ask(project: Path, environ: Mapping[str, str], message: Message) -> Message | None:
    try:
        path = broker_socket_path(project, environ)
        sock = _connect_socket(path)
    except UnsafeFolderError as error:
        raise BrokerUnavailableError(str(error)) from None
    except OSError:
        return None
    with contextlib.closing(sock):
        sock.settimeout(_ANSWER_TIMEOUT)
        try:
            return _exchange(sock, message, FrameReader())
        except TimeoutError:
            raise BrokerUnavailableError(f"the broker at {path} does not answer") from None
        except OSError:
            return None


def connect_or_start(path: Path, environ: Mapping[str, str]) -> socket.socket:
    """Connect to the broker with this socket; start one if there is none.

    Raises BrokerUnavailableError, and OSError.
    """
    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
        return _connect_socket(path)
    with path.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            return _connect_socket(path)
        path.unlink(missing_ok=True)
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
            listener.bind(str(path))
            listener.listen(_BACKLOG)
            _start_broker(listener, path, environ)
    return _connect_socket(path)


def _start_broker(listener: socket.socket, path: Path, environ: Mapping[str, str]) -> None:
    """Start a broker on a socket, in a session of its own. Raises OSError.

    A shell in between leaves it to the system, so that it does not become a zombie of a command.
    """
    known = (*_BROKER_ENVIRONMENT, RUNTIME_VARIABLE)
    program = [sys.executable, *_BROKER_PROGRAM, str(path)]
    argv = ["sh", "-c", '"$@" <&3 3<&- &', "sh", *program]
    devnull = os.open(os.devnull, os.O_RDWR)
    log = os.open(path.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        shell = os.posix_spawn(
            "/bin/sh",
            argv,
            {name: environ[name] for name in known if name in environ},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, devnull, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
                (os.POSIX_SPAWN_DUP2, listener.fileno(), 3),  # last: one of those may be 3
            ],
            setsid=True,
        )
        os.waitpid(shell, 0)
    finally:
        os.close(devnull)
        os.close(log)


def _connect_socket(path: Path) -> socket.socket:
    """Connect to a broker of this user. Raises BrokerUnavailableError, and OSError."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(str(path))
        if peer_uid(sock) != os.getuid():
            raise BrokerUnavailableError(f"another user listens at {path}")
    except BaseException:
        sock.close()
        raise
    return sock


def _exchange(sock: socket.socket, message: Message, frames: FrameReader) -> Message:
    """Send a message and return the answer. Raises OSError, also if there is none."""
    sock.sendall(encode_message(message))
    while data := sock.recv(_READ_BYTES):
        for kind, content in frames.feed(data):
            if kind == MESSAGE:
                return decode_message(content)
    raise ConnectionResetError("it closed the connection")


def _make_waker() -> tuple[int, int]:
    """Return a file descriptor to poll, and one that wakes it; they may be the same."""
    if sys.platform == "linux":
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return fd, fd
    woken, waker = os.pipe()
    for each in (woken, waker):
        os.set_blocking(each, False)
    return woken, waker


def _without_secrets(route: Route) -> Route:
    """Return the route as it is sent: without passwords, and what only messages need."""
    hops = tuple(
        replace(hop, connection=_without_password(hop.connection)) for hop in route.jump_hosts
    )
    return Route(_without_password(route.connection), hops)


def _without_password(connection: ResolvedConnection) -> ResolvedConnection:
    connect = replace(
        connection.connect,
        password=None,
        become_password=None,
        invalid=None,
        set_fields=frozenset(),
        persist=0.0,
    )
    return replace(
        connection, connect=connect, settings=replace(connection.settings, unsupported=())
    )
