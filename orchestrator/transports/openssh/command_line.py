"""Command lines for ``ssh`` (ssh(1), ssh_config(5)): the inventory's settings above its own."""

from __future__ import annotations

import fnmatch
import math
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.errors import ConnectError
from orchestrator.model.host import Connect
from orchestrator.transports.ssh.agent_client import NONE, USUAL, Agent, Agents
from orchestrator.transports.ssh_config.resolve import Way
from orchestrator.transports.ssh_config.settings import Settings

STAYS = 5  # seconds that a master outlives us, were we killed
_ASKING = 20.0  # seconds that `Match exec` and the like may take
_NO = ("no", "off", "false")
_YES = ("yes", "on", "true")


class Tool(Struct, frozen=True):
    """The ``ssh`` to run. ``home`` is what ``~/`` in the inventory stands for, ``file`` what is
    read in place of the usual ssh_config where a host names none.
    """

    path: str
    home: Path
    environ: Mapping[str, str]
    file: str | None = None

    @classmethod
    def find(cls, home: Path, environ: Mapping[str, str], file: str | None) -> Tool:
        """The first on PATH. Raises ConnectError where there is none."""
        path = shutil.which("ssh", path=environ.get("PATH"))
        if path is None:
            raise ConnectError(
                "connect",
                "transport openssh needs the program `ssh`, and none is on PATH",
                "install OpenSSH's client, or leave out `transport`",
            )
        return cls(path, home, environ, file)

    def given(self, connect: Connect) -> list[str]:
        """The options for what the inventory says of a host, its jump hosts left out."""
        file = connect.ssh_config or self.file
        words = ["-F", self._path(file)] if file else []
        words += ["-p", str(connect.port)] if connect.port else []
        words += ["-l", connect.user] if connect.user else []
        for identity in connect.identity:
            words += ["-i", self._path(identity)]
        said = {}
        if connect.identities_only is not None:
            said["IdentitiesOnly"] = _yes(connect.identities_only)
        if connect.known_hosts:
            said["UserKnownHostsFile"] = self._files(connect.known_hosts)
            said["GlobalKnownHostsFile"] = "/dev/null"
        if connect.says("host_keys"):
            said["StrictHostKeyChecking"] = _checking(connect.host_keys)
        if connect.says("forward_agent"):
            said["ForwardAgent"] = _yes(connect.forward_agent)
        if connect.says("jump"):
            said["ProxyJump"] = connect.jump or "none"
        return words + _options(said)

    def effective(self, connect: Connect) -> Effective:
        """What ``ssh -G`` makes of it. Raises ConnectError (phase ssh_config)."""
        words = [self.path, "-G", *self.given(connect), "--", connect.address]
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={**self.environ, "LC_ALL": "C"},
                timeout=_ASKING,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            why = f"ssh -G does not tell the settings within {_ASKING:g} s"
            raise ConnectError(
                "ssh_config", why, "is a `Match exec` in ssh_config stuck?"
            ) from None
        except OSError as error:
            raise ConnectError("connect", f"can't run {self.path}: {error.strerror}") from error
        if done.returncode:
            said = " / ".join(done.stderr.decode("utf-8", "replace").splitlines()[-3:])
            raise ConnectError("ssh_config", f"ssh refuses its settings: {said}")
        rows: dict[str, list[str]] = {}
        for line in done.stdout.decode("utf-8", "surrogateescape").splitlines():
            name, _, text = line.partition(" ")
            rows.setdefault(name, []).append(text)
        return Effective(connect, rows)

    def master(
        self,
        effective: Effective,
        control: Path,
        log: Path,
        *,
        learn: Path | None,
        proxy: str,
        agents: Agents | None = None,
    ) -> list[str]:
        """The command of a master whose socket is ``control`` and which tells ``log`` how it
        gets on. ``learn``: where host keys are learnt, for they may not be where they belong.
        ``proxy``: the way through a jump host. Of ``agents`` those that failed are left out.
        """
        connect = effective.connect
        said = {
            "BatchMode": "yes",
            "ControlMaster": "yes",
            "ControlPath": str(control).replace("%", "%%"),
            "ControlPersist": str(STAYS),
            "ConnectTimeout": str(max(1, math.ceil(connect.timeout))),
            "ConnectionAttempts": "1",
            "ServerAliveInterval": str(math.ceil(connect.keepalive)),
            "StrictHostKeyChecking": _checking(connect.host_keys),
            "ClearAllForwardings": "yes",
            "ForwardX11": "no",
            "PermitLocalCommand": "no",
            "Tunnel": "no",
        }
        if learn is not None:
            known = tuple(shlex.split(effective.one("userknownhostsfile")))
            said["UserKnownHostsFile"] = self._files((str(learn), *known))
            said["UpdateHostKeys"] = "no"
        if proxy:
            said["ProxyCommand"] = proxy
        if agents is not None and _failed(agents.at(effective.agent(self.environ))):
            said["IdentityAgent"] = "none"
        if agents is not None and _failed(agents.at(effective.forwarded(self.environ))):
            said["ForwardAgent"] = "no"
        # -v: a proxy command's stderr would be lost with LogLevel
        words = [self.path, "-v", *_options(said), "-N", "-T", "-x", "-E", str(log)]
        return [*words, *self.given(connect), "--", connect.address]

    def through(self, control: Path, hop: str) -> str:
        """The ProxyCommand of a host behind the jump host whose master this is."""
        said = {"ControlMaster": "no", "LogLevel": "ERROR", "ProxyCommand": "false"}
        path = str(control).replace("%", "%%")
        words = [self.path, "-F", "/dev/null", *_options(said), "-S", path]
        return f"{shlex.join(words).replace('%', '%%')} -W '[%h]:%p' -- {shlex.quote(hop)}"

    def _files(self, names: Sequence[str]) -> str:
        return " ".join(f'"{self._path(name)}"' for name in names)

    def _path(self, name: str) -> str:
        return str(self.home / name[2:]) if name.startswith("~/") else name


class Effective:
    """What counts for one host in the end. ``connect`` leaves nothing open."""

    def __init__(self, connect: Connect, rows: Mapping[str, list[str]]) -> None:
        self._rows = rows
        self.connect = _filled(connect, self)
        # both may be called none, which stands for nothing in other settings
        self.hostname, self.user = (rows.get(name, [""])[0] for name in ("hostname", "user"))
        self.port = int(self.one("port") or 22)

    def one(self, name: str) -> str:
        """A setting; empty for ``none``."""
        text = self._rows.get(name, [""])[0]
        return "" if text == "none" else text

    @property
    def control_path(self) -> Path | None:
        """Where the user has a master for this host, if they have one."""
        text = self.one("controlpath")
        return Path(text) if text else None

    @property
    def forwards_agent(self) -> bool:
        """Whether our agent is to be there for the host."""
        return self.one("forwardagent") not in ("", *_NO)

    def agent(self, environ: Mapping[str, str]) -> str:
        """The socket of the agent that ssh asks for keys, '' for none."""
        text = self._rows.get("identityagent", [USUAL])[0]
        if text == USUAL:
            return environ.get(USUAL, "")
        return "" if text.lower() == NONE else _socket(text, environ)

    def forwarded(self, environ: Mapping[str, str]) -> str:
        """The socket of the agent that is there for the host, '' for none."""
        text = self.one("forwardagent")
        if not self.forwards_agent:
            return ""
        return self.agent(environ) if text in _YES else _socket(text, environ)

    @property
    def jump(self) -> tuple[str, ...]:
        """The hops before it, as USER@HOST:PORT: ssh puts every host in brackets that has a user
        or a port, which else are for IPv6.
        """
        text = re.sub(r"\[([^\]:]+)\]", r"\1", self.one("proxyjump"))
        return tuple(hop for hop in text.split(",") if hop)

    @property
    def place(self) -> str:
        """USER@ADDRESS:PORT."""
        address = f"[{self.hostname}]" if ":" in self.hostname else self.hostname
        return f"{self.user}@{address}:{self.port}"

    @property
    def where(self) -> str:
        """The same with the jump hosts on the way."""
        return f"{self.place} via {', '.join(self.jump)}" if self.jump else self.place

    @property
    def way(self) -> Way:
        """The same as the other transports have it."""
        connect = replace(self.connect, address=self.hostname, port=self.port, user=self.user)
        jump = self.jump
        proxy = self.one("proxycommand")
        said = Settings(self.connect.address, self.hostname, jump=jump, proxy_command=proxy)
        return Way(connect, said)

    def environment(self, ours: Mapping[str, str]) -> list[str]:
        """SetEnv's, and those of ours that SendEnv names, as NAME=TEXT."""
        sent = self._rows.get("sendenv", [])
        names = [n for n in ours if any(fnmatch.fnmatchcase(n, each) for each in sent)]
        return [*(f"{name}={ours[name]}" for name in names), *self._rows.get("setenv", [])]


def _filled(connect: Connect, said: Effective) -> Connect:
    if not connect.says("host_keys"):
        checking = said.one("stricthostkeychecking")
        # a changed key never passes, as with the other transports
        lax = checking == "accept-new" or checking in _NO
        connect = replace(connect, host_keys="accept-new" if lax else "strict")
    if not connect.says("timeout") and (seconds := said.one("connecttimeout")):
        connect = replace(connect, timeout=float(seconds))
    if not connect.says("keepalive") and said.one("serveraliveinterval") not in ("", "0"):
        connect = replace(connect, keepalive=float(said.one("serveraliveinterval")))
    return connect


def _socket(text: str, environ: Mapping[str, str]) -> str:
    return environ.get(text[1:], "") if text.startswith("$") else text


def _failed(agent: Agent | None) -> bool:
    return agent is not None and bool(agent.trouble)


def _checking(host_keys: str) -> str:
    return "accept-new" if host_keys == "accept-new" else "yes"


def _yes(so: bool) -> str:
    return "yes" if so else "no"


def _options(said: Mapping[str, str]) -> list[str]:
    return [word for name, text in said.items() for word in ("-o", f"{name}={text}")]
