"""From an address to a connected TCP socket."""

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

SLICE = 0.2  # seconds between looks at whether the run was cancelled
Target: TypeAlias = tuple[int, tuple[Any, ...]]

CAUSES = {
    errno.ECONNREFUSED: ("connection refused", "is sshd running there, on this port?"),
    errno.EHOSTUNREACH: ("no route to host", "is the address right, and the host up?"),
    errno.ENETUNREACH: ("network unreachable", "is this machine online, or its VPN up?"),
    errno.ETIMEDOUT: ("timed out", "is the address right, and the host up?"),
    errno.EMFILE: ("this process has no descriptor left", "raise the limit: ulimit -n 65536"),
    errno.ENFILE: ("this machine has no descriptor left", ""),
    errno.EADDRNOTAVAIL: ("no local port is free", ""),
}


FAMILIES = {"any": socket.AF_UNSPEC, "inet": socket.AF_INET, "inet6": socket.AF_INET6}


def dial(
    address: str, port: int, deadline: Deadline, *, family: str = "any", source: str = ""
) -> socket.socket:
    """Connect to the first of the address's targets that answers, each getting its share of the
    time. ``family``: only those of any, inet or inet6; ``source``: from this address of ours.
    Raises ConnectError (phase resolve or connect).
    """
    targets = _resolve(address, port, deadline, FAMILIES[family])
    failed: dict[str, ConnectError] = {}
    for number, (kind, place) in enumerate(targets):
        share = deadline.left() / (len(targets) - number)
        try:
            return _connect(kind, place, share, deadline, source)
        except OSError as error:
            failed[str(place[0])] = _because(error, str(place[0]), port)
    first = next(iter(failed.values()))
    if len({error.why for error in failed.values()}) > 1:
        both = "; ".join(error.why for error in failed.values())
        return _raise(ConnectError("connect", both, first.hint))
    return _raise(first)


def _raise(error: ConnectError) -> socket.socket:
    raise error


def _resolve(address: str, port: int, deadline: Deadline, family: int) -> list[Target]:
    """The address's targets. Names are looked up in a thread that is left behind at the
    deadline, since nothing can end getaddrinfo.
    """
    try:
        return _lookup(address, port, family, socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        pass  # not a numeric address, then: a name
    answer: list[list[Target] | Exception] = []
    done = threading.Event()

    def ask() -> None:
        try:
            answer.append(_lookup(address, port, family, 0))
        except (OSError, UnicodeError) as error:
            answer.append(error)
        done.set()

    threading.Thread(target=ask, name="orch-resolve", daemon=True).start()
    while not done.wait(min(SLICE, deadline.left())):
        if not deadline.left():
            raise deadline.missed("resolve", f"looking up {address!r}")
    if isinstance(answer[0], Exception):
        if family != socket.AF_UNSPEC:
            kind = "IPv6" if family == socket.AF_INET6 else "IPv4"
            why = f"{address!r} has no {kind} address, and AddressFamily allows no other"
            raise ConnectError("resolve", why)
        raise _unresolved(address, answer[0])
    return answer[0]


def _lookup(address: str, port: int, family: int, flags: int) -> list[Target]:
    found = socket.getaddrinfo(address, port, family, socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys((one[0], one[4]) for one in found))


def _unresolved(address: str, error: Exception) -> ConnectError:
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
        "resolve", f"name not known: {address!r}", "is it spelled right? `address:` gives another"
    )


def _connect(
    family: int, place: tuple[Any, ...], share: float, deadline: Deadline, source: str
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if source:
            _bind(sock, family, source)
        sock.setblocking(False)
        number = sock.connect_ex(place)
        if number == errno.EINPROGRESS:
            _await(sock, share, deadline)
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))
    except BaseException:
        sock.close()
        raise
    return sock


def _bind(sock: socket.socket, family: int, source: str) -> None:
    """Let it connect from ``source``. Raises OSError, without a number: it is for no other."""
    try:
        sock.bind(socket.getaddrinfo(source, 0, family, socket.SOCK_STREAM)[0][4])
    except (OSError, UnicodeError) as error:
        raise OSError(f"can't connect from {source}, the BindAddress: {error}") from None


def _await(sock: socket.socket, share: float, deadline: Deadline) -> None:
    poller = select.poll()
    poller.register(sock, select.POLLOUT)
    end = time.monotonic() + share
    while not poller.poll(min(SLICE, share) * 1000):
        deadline.left()
        if time.monotonic() >= end:
            raise OSError(errno.ETIMEDOUT, f"no answer within {share:.3g} s")


def _because(error: OSError, place: str, port: int) -> ConnectError:
    why, hint = CAUSES.get(error.errno or 0, (error.strerror or str(error), ""))
    if error.errno == errno.ETIMEDOUT and error.strerror:
        why = f"{why}, {error.strerror}"
    return ConnectError(
        "connect",
        f"{why} ({place} port {port})",
        hint,
        transient=error.errno in (errno.ECONNRESET, errno.ECONNABORTED),
    )
