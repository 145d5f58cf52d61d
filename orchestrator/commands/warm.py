"""Connections that are kept between commands: making, listing and closing them."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.commands.context import ProjectContext
from orchestrator.commands.run_plan import UserInterface, make_transports, raise_fd_limit
from orchestrator.commands.signals import handle_interrupts
from orchestrator.errors import ConnectError, ExitCode
from orchestrator.model.host import ConnectionOverrides, Host
from orchestrator.transports.broker.broker_client import (
    BrokerUnavailableError,
    end_broker,
    query_status,
)
from orchestrator.transports.broker.messages import BrokerStatus

DEFAULT_PERSIST = 600.0
"""Seconds that ``orch warm up`` keeps a connection for if neither the inventory nor an option says
it."""

_NOT_KEPT = "its connection is not kept: that needs `transport: ssh` and no forwarded agent"


class WarmedHost(Struct, frozen=True):
    """A host that was connected to. ``error`` says why it could not be."""

    host: str
    seconds: float
    error: str = ""
    hint: str = ""


def warm_up(
    context: ProjectContext,
    forks: int,
    user_interface: UserInterface,
    warn: Callable[[str], object],
    connecting: ConnectionOverrides,
    show_progress: Callable[[int, int], object],
) -> tuple[list[WarmedHost], ExitCode]:
    """Connect to the hosts, ``forks`` at a time, and leave the connections with the broker.

    Nothing is run on them. ``show_progress`` is called, by one thread at a time, with how many
    hosts are done and how many there are. The first Ctrl-C cancels what is pending.
    """
    raise_fd_limit()
    context = replace(context, hosts=tuple(_persisting(host) for host in context.hosts))
    transports = make_transports(context, user_interface.prompt, warn, connecting)
    stop, lock, done = threading.Event(), threading.Lock(), itertools.count(1)

    def connect(host: Host) -> WarmedHost:
        began = time.monotonic()
        reason = hint = ""
        try:
            transports.connect(host).close()
        except ConnectError as error:
            reason, hint = error.reason, error.hint
        with lock:
            show_progress(next(done), len(context.hosts))
        return WarmedHost(host.name, time.monotonic() - began, reason, hint)

    def cancel() -> None:
        stop.set()
        transports.cancel()

    with handle_interrupts(cancel, lambda _: None, lambda: user_interface.on_abort({})):
        try:
            with ThreadPoolExecutor(forks) as pool:
                hosts = list(pool.map(connect, context.hosts))
        finally:
            transports.close()
    if stop.is_set():
        return hosts, ExitCode.INTERRUPTED
    status = kept_connections(context.root, os.environ)
    kept = {host.host for host in status.hosts} if status else set()
    hosts = [
        host if host.error or host.host in kept else replace(host, error=_NOT_KEPT)
        for host in hosts
    ]
    has_failed = any(host.error for host in hosts)
    return hosts, ExitCode.UNREACHABLE if has_failed else ExitCode.OK


def kept_connections(root: Path, environ: Mapping[str, str]) -> BrokerStatus | None:
    """Return what is kept for a project; None if nothing is. Raises BrokerUnavailableError."""
    return query_status(root, environ)


def close_kept(root: Path, environ: Mapping[str, str], hosts: list[str] | None = None) -> list[str]:
    """Close the kept connections of these hosts, or all; return the hosts' names."""
    return end_broker(root, environ, hosts) or []


def _persisting(host: Host) -> Host:
    persist = host.connect.persist or DEFAULT_PERSIST
    return replace(host, connect=replace(host.connect, persist=persist))


__all__ = [
    "BrokerUnavailableError",
    "WarmedHost",
    "close_kept",
    "kept_connections",
    "warm_up",
]
