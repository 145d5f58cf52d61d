"""TCP connections: name resolution and connecting."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from typing import Any, TypeAlias

from orchestrator.errors import ConnectError
from orchestrator.transports.deadline import Deadline

POLL_INTERVAL = 0.2  # seconds between checks for cancellation
SocketAddress: TypeAlias = tuple[int, tuple[Any, ...]]

ERROR_CAUSES = {
    errno.ECONNREFUSED: ("connection refused", "is sshd running there, on this port?"),
    errno.EHOSTUNREACH: ("no route to host", "is the address right, and the host up?"),
    errno.ENETUNREACH: ("network unreachable", "is this machine online, or its VPN up?"),
    errno.ETIMEDOUT: ("timed out", "is the address right, and the host up?"),
    errno.EMFILE: ("this process has too many open files", "raise the limit: ulimit -n 65536"),
    errno.ENFILE: ("this machine has too many open files", ""),
    errno.EADDRNOTAVAIL: ("no local port is free", ""),
}


FAMILIES = {"any": socket.AF_UNSPEC, "inet": socket.AF_INET, "inet6": socket.AF_INET6}


def connect_tcp(
    address: str, port: int, deadline: Deadline, *, family: str = "any", source_address: str = ""
) -> socket.socket:
    """Connect to the first address that answers; each gets its share of the time.

    ``family`` is any, inet or inet6; ``source_address`` is the local address to connect from.
    Raises ConnectError (phase resolve or connect).
    """
    targets = _resolve(address, port, deadline, FAMILIES[family])
    failed: dict[str, ConnectError] = {}
    for number, (kind, socket_address) in enumerate(targets):
        share = deadline.remaining() / (len(targets) - number)
        try:
            return _connect_within(kind, socket_address, share, deadline, source_address)
        except OSError as error:
            failed[str(socket_address[0])] = _connect_error(error, str(socket_address[0]), port)
    first = next(iter(failed.values()))
    if len({error.reason for error in failed.values()}) > 1:
        reasons = "; ".join(error.reason for error in failed.values())
        return _raise_error(ConnectError("connect", reasons, first.hint))
    return _raise_error(first)


def _raise_error(error: ConnectError) -> socket.socket:
    raise error


def _resolve(address: str, port: int, deadline: Deadline, family: int) -> list[SocketAddress]:
    """Return the socket addresses of a name or address.

    Names are looked up in a thread, which is left running after the deadline because getaddrinfo
    cannot be interrupted.
    """
    try:
        return _socket_addresses(address, port, family, socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        pass  # not a numeric address, then: a name
    answer: list[list[SocketAddress] | Exception] = []
    done = threading.Event()

    def look_up() -> None:
        try:
            answer.append(_socket_addresses(address, port, family, 0))
        except (OSError, UnicodeError) as error:
            answer.append(error)
        done.set()

    threading.Thread(target=look_up, name="orch-resolve", daemon=True).start()
    while not done.wait(min(POLL_INTERVAL, deadline.remaining())):
        if not deadline.remaining():
            raise deadline.timeout_error("resolve", f"looking up {address!r}")
    if isinstance(answer[0], Exception):
        if family != socket.AF_UNSPEC:
            kind = "IPv6" if family == socket.AF_INET6 else "IPv4"
            why = f"{address!r} has no {kind} address, and AddressFamily allows no other"
            raise ConnectError("resolve", why)
        raise _resolve_error(address, answer[0])
    return answer[0]


def _socket_addresses(address: str, port: int, family: int, flags: int) -> list[SocketAddress]:
    found = socket.getaddrinfo(address, port, family, socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys((one[0], one[4]) for one in found))


def _resolve_error(address: str, error: Exception) -> ConnectError:
    number = error.errno if isinstance(error, socket.gaierror) else None
    if number == socket.EAI_AGAIN:
        return ConnectError(
            "resolve",
            f"no name server answers for {address!r}",
            "is this machine online?",
            transient=True,
        )
    if isinstance(error, socket.gaierror) and number not in (
        socket.EAI_NONAME,
        getattr(socket, "EAI_NODATA", None),
    ):
        return ConnectError("resolve", f"can't look up {address!r}: {error.strerror}")
    return ConnectError(
        "resolve",
        f"name not known: {address!r}",
        "is the name spelled right? `address:` sets another",
    )


def _connect_within(
    family: int,
    socket_address: tuple[Any, ...],
    timeout: float,
    deadline: Deadline,
    source_address: str,
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if source_address:
            _bind_source(sock, family, source_address)
        sock.setblocking(False)
        number = sock.connect_ex(socket_address)
        if number == errno.EINPROGRESS:
            _wait_connected(sock, timeout, deadline)
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_source(sock: socket.socket, family: int, source_address: str) -> None:
    """Bind the socket to a local address.

    Raises OSError without a number if that fails, because ``ERROR_CAUSES`` would not apply.
    """
    try:
        sock.bind(socket.getaddrinfo(source_address, 0, family, socket.SOCK_STREAM)[0][4])
    except (OSError, UnicodeError) as error:
        raise OSError(f"can't connect from {source_address}, the BindAddress: {error}") from None


def _wait_connected(sock: socket.socket, timeout: float, deadline: Deadline) -> None:
    poller = select.poll()
    poller.register(sock, select.POLLOUT)
    end = time.monotonic() + timeout
    while not poller.poll(min(POLL_INTERVAL, timeout) * 1000):
        deadline.remaining()
        if time.monotonic() >= end:
            raise OSError(errno.ETIMEDOUT, f"no answer within {timeout:.3g} s")


def _connect_error(error: OSError, address: str, port: int) -> ConnectError:
    why, hint = ERROR_CAUSES.get(error.errno or 0, (error.strerror or str(error), ""))
    if error.errno == errno.ETIMEDOUT and error.strerror:
        why = f"{why}, {error.strerror}"
    return ConnectError(
        "connect",
        f"{why} ({address} port {port})",
        hint,
        transient=error.errno in (errno.ECONNRESET, errno.ECONNABORTED),
    )
