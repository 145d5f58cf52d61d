"""Looking up a host in the files, as ssh does before it connects."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import Mark, Problem
from orchestrator.transport.config.command import Commands
from orchestrator.transport.config.criteria import Subject, holds
from orchestrator.transport.config.finish import expand, finished, in_shell
from orchestrator.transport.config.jumps import NONE
from orchestrator.transport.config.reader import Reader
from orchestrator.transport.config.settings import Settings
from orchestrator.transport.config.tokens import connection_tokens, percent
from orchestrator.transport.config.tree import Block, ConfigError, File, Setting
from orchestrator.transport.login import login_name

SYSTEM = Path("/etc/ssh/ssh_config")
NO_FILE = "none"
T = TypeVar("T")


class _Read(Struct, frozen=True):
    files: tuple[File, ...]
    final: bool


class SshConfig:
    """What ssh_config says about hosts. The files are read when first asked, once.

    ``file``: the only one to read, as with ``ssh -F``; ``none`` is no file at all.
    Serves any number of threads.
    """

    def __init__(
        self,
        home: Path,
        environ: Mapping[str, str],
        stop: threading.Event,
        *,
        file: str | None = None,
        system: Path = SYSTEM,
    ) -> None:
        self._home, self._environ, self._file, self._system = home, environ, file, system
        self._commands = Commands(environ, stop)
        self._lock = threading.Lock()
        self._known: _Read | ConfigError | None = None
        self._local = login_name()

    def of(self, name: str, *, user: str | None = None, port: int | None = None) -> Settings:
        """The settings of the host of this name, where ``user`` and ``port`` are known from
        elsewhere and win. Raises ConfigError.
        """
        read = self._reading()
        lookup = _Lookup(self, name, user, port)
        lookup.walk(read.files)
        lookup.settle()
        if read.final:
            lookup.walk(read.files, final=True)
        return finished(
            name,
            lookup.chosen,
            lists=lookup.lists,
            tokens=lookup.tokens(),
            environ=self._environ,
            home=self._home,
        )

    def succeeds(self, command: str, mark: Mark) -> bool:
        """Whether a command of ``Match exec`` does."""
        return self._commands.succeeds(command, mark)

    @property
    def home(self) -> Path:
        """Whose files are read."""
        return self._home

    @property
    def local(self) -> str:
        """Who runs orch."""
        return self._local

    def _reading(self) -> _Read:
        with self._lock:
            if self._known is None:
                try:
                    self._known = self._read()
                except ConfigError as error:
                    self._known = error
        if isinstance(self._known, ConfigError):
            raise ConfigError(*self._known.found)
        return self._known

    def _read(self) -> _Read:
        reader = Reader(self._home, self._environ, self._system)
        files = tuple(self._files(reader))
        if reader.problems:
            raise ConfigError(*reader.problems)
        return _Read(files, reader.final)

    def _files(self, reader: Reader) -> Iterator[File]:
        if self._file == NO_FILE:
            return
        if self._file is not None:
            path = Path(self._file)
            try:
                yield reader.read(path, user=True, check=False)
            except OSError as error:
                what = f"can't read this ssh_config file: {error.strerror}"
                raise ConfigError(Problem(what, Mark(str(path)))) from None
            return
        for path, user in ((self._home / ".ssh" / "config", True), (self._system, False)):
            try:
                yield reader.read(path, user=user, check=user)
            except OSError:
                continue  # ssh does without it, too, be it absent or not ours to read


class _Lookup:
    """One host's way through the files. ``chosen`` maps fields to what was said first."""

    def __init__(self, config: SshConfig, name: str, user: str | None, port: int | None) -> None:
        self.chosen: dict[str, Setting] = {}
        self.lists: dict[str, list[Setting]] = {}
        self._config, self._name, self._host = config, name, name
        self._found: str | None = None  # the host's name after the first look
        for field, value in (("user", user), ("port", port)):
            if value is not None:
                self.chosen[field] = Setting(field, field, value, Mark("the inventory"), True)

    def walk(self, files: tuple[File, ...], *, final: bool = False) -> None:
        """Take what these files say, in their order. ``final``: for the second time."""
        for file in files:
            for block in _blocks(file, self._host):
                if not self._selects(block, final):
                    continue
                for item in block.items:
                    if isinstance(item, Setting):
                        self._take(item)
                    else:
                        self.walk(item, final=final)

    def settle(self) -> None:
        """The host's name is final, and what Host lines are about from now on: HostName counts,
        addresses take their plain form.
        """
        canonical = self.chosen.get("canonicalize")
        if canonical and canonical.value not in ("no", "false", "none"):
            raise ConfigError(
                Problem(
                    "canonicalizehostname: orch does not complete host names",
                    canonical.mark,
                    "write whole names; `Match final` asks for the second look alone",
                )
            )
        self._host = self._found = _plain(self._named())

    def tokens(self) -> dict[str, str]:
        """The tokens as far as the settings are known."""
        jump: tuple[str, ...] = self._said("jump", NONE)
        return connection_tokens(
            name=self._name,
            host=self._named(),
            port=self._said("port", 22),
            user=self._said("user", self._config.local),
            local=self._config.local,
            home=self._config.home,
            alias=self._said("host_key_alias", ""),
            jump=",".join(jump) if jump != NONE else "",
        )

    def _selects(self, block: Block, final: bool) -> bool:
        if block.hosts is not None:
            return block.hosts.match(self._host)
        if block.match is None:
            return True
        subject = Subject(
            self._named(),
            self._name,
            user=self._said("user", self._config.local),
            local=self._config.local,
            tag=self._said("tag", ""),
            final=final,
            run=self._runs,
        )
        return holds(block.match, subject)

    def _take(self, item: Setting) -> None:
        if item.many:
            said = self.lists.setdefault(item.field, [])
            if all((one.value, one.user) != (item.value, item.user) for one in said):
                said.append(item)
        elif item.field == "jump" and "proxy_command" in self.chosen:
            return
        elif item.field not in self.chosen:
            self.chosen[item.field] = item
            if item.field == "jump" and item.value != NONE:
                self.chosen["proxy_command"] = replace(item, value="none")

    def _named(self) -> str:
        """The host's name as far as it is known."""
        said = self.chosen.get("hostname")
        if self._found is not None or said is None:
            return self._found or self._name
        return expand(said, percent, str(said.value), {"h": self._name})

    def _runs(self, command: str, mark: Mark) -> bool:
        said = Setting("match", "", command, mark, True)
        return self._config.succeeds(expand(said, in_shell, command, self.tokens()), mark)

    def _said(self, field: str, default: T) -> T:
        said = self.chosen.get(field)
        return default if said is None else cast(T, said.value)


def _blocks(file: File, host: str) -> Iterator[Block]:
    """Those blocks that this host has to do with, in their order."""
    named = file.named.get(host)
    places = sorted({*named, *file.others}) if named else file.others
    return (file.blocks[place] for place in places)


def _plain(host: str) -> str:
    """A name in small letters; an address as the system writes it."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return socket.getnameinfo(found[0][4], socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
    except (OSError, UnicodeError):
        return host.lower()
