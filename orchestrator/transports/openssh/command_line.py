"""Command lines for ``ssh`` (ssh(1)), in which the inventory overrides ssh_config(5)."""

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
from orchestrator.model.host import ConnectionOptions
from orchestrator.transports.ssh.agent_client import (
    AUTH_SOCK_VARIABLE,
    NONE,
    AgentClient,
    AgentRegistry,
)
from orchestrator.transports.ssh_config.resolve import ResolvedConnection
from orchestrator.transports.ssh_config.settings import SshSettings

PERSIST_SECONDS = 5  # seconds that a master runs on if orch is killed
_SETTINGS_TIMEOUT = 20.0  # seconds for `ssh -G`, which runs the commands of `Match exec`
_NO_VALUES = ("no", "off", "false")
_YES_VALUES = ("yes", "on", "true")


class SshBinary(Struct, frozen=True):
    """The ``ssh`` program to run.

    ``home`` replaces ``~`` in the inventory's paths. ``config_file`` is read instead of the usual
    ssh_config, unless a host has its own.
    """

    path: str
    home: Path
    environ: Mapping[str, str]
    config_file: str | None = None

    @classmethod
    def find(cls, home: Path, environ: Mapping[str, str], config_file: str | None) -> SshBinary:
        """Return the first ``ssh`` on PATH. Raises ConnectError if there is none."""
        path = shutil.which("ssh", path=environ.get("PATH"))
        if path is None:
            raise ConnectError(
                "connect",
                "transport openssh needs the program `ssh`, which is not on PATH",
                "install OpenSSH's client, or leave out `transport`",
            )
        return cls(path, home, environ, config_file)

    def inventory_options(self, connect: ConnectionOptions) -> list[str]:
        """Return the options for the inventory's settings of a host."""
        file = connect.ssh_config or self.config_file
        words = ["-F", self._expand_path(file)] if file else []
        words += ["-p", str(connect.port)] if connect.port else []
        words += ["-l", connect.user] if connect.user else []
        for identity in connect.identity:
            words += ["-i", self._expand_path(identity)]
        options = {}
        if connect.identities_only is not None:
            options["IdentitiesOnly"] = _yes_or_no(connect.identities_only)
        if connect.known_hosts:
            options["UserKnownHostsFile"] = self._quoted_paths(connect.known_hosts)
            options["GlobalKnownHostsFile"] = "/dev/null"
        if connect.is_set("host_keys"):
            options["StrictHostKeyChecking"] = _host_key_checking(connect.host_keys)
        if connect.is_set("forward_agent"):
            options["ForwardAgent"] = _yes_or_no(connect.forward_agent)
        if connect.is_set("jump"):
            options["ProxyJump"] = connect.jump or "none"
        words += _option_words(options)
        for option in connect.ssh_options:  # the first of two equal options counts
            words += ["-o", option]
        return words

    def effective_settings(self, connect: ConnectionOptions) -> EffectiveSettings:
        """Return the settings that ``ssh -G`` prints. Raises ConnectError (phase ssh_config)."""
        words = [self.path, "-G", *self.inventory_options(connect), "--", connect.address]
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={**self.environ, "LC_ALL": "C"},
                timeout=_SETTINGS_TIMEOUT,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            why = f"ssh -G did not finish within {_SETTINGS_TIMEOUT:g} s"
            raise ConnectError(
                "ssh_config", why, "is a `Match exec` in ssh_config stuck?"
            ) from None
        except OSError as error:
            raise ConnectError("connect", f"can't run {self.path}: {error.strerror}") from error
        if done.returncode:
            message = " / ".join(done.stderr.decode("utf-8", "replace").splitlines()[-3:])
            raise ConnectError("ssh_config", f"ssh refuses its settings: {message}")
        rows: dict[str, list[str]] = {}
        for line in done.stdout.decode("utf-8", "surrogateescape").splitlines():
            name, _, text = line.partition(" ")
            rows.setdefault(name, []).append(text)
        return EffectiveSettings(connect, rows)

    def master_command(
        self,
        settings: EffectiveSettings,
        control_path: Path,
        log: Path,
        *,
        learned_keys_file: Path | None,
        shared_keys_file: Path | None = None,
        proxy: str,
        agents: AgentRegistry | None = None,
    ) -> list[str]:
        """Return the command that starts a master with the socket ``control_path``.

        It writes its log to ``log``. ``learned_keys_file`` is where it records new host keys, or
        None for known_hosts; it reads ``shared_keys_file`` as well. ``proxy`` is the ProxyCommand
        for a jump host, or ''. Agents that have failed, according to ``agents``, are not used.
        """
        connect = settings.connect
        options = {
            "BatchMode": "yes",
            "ControlMaster": "yes",
            "ControlPath": str(control_path).replace("%", "%%"),
            "ControlPersist": str(PERSIST_SECONDS),
            "ConnectTimeout": str(max(1, math.ceil(connect.timeout))),
            "ConnectionAttempts": "1",
            "ServerAliveInterval": str(math.ceil(connect.keepalive)),
            "StrictHostKeyChecking": _host_key_checking(connect.host_keys),
            "ClearAllForwardings": "yes",
            "ForwardX11": "no",
            "PermitLocalCommand": "no",
            "Tunnel": "no",
        }
        if learned_keys_file is not None or shared_keys_file is not None:
            known = shlex.split(settings.value_of("userknownhostsfile"))
            known = [str(learned_keys_file), *known] if learned_keys_file is not None else known
            known += [str(shared_keys_file)] if shared_keys_file is not None else []
            options["UserKnownHostsFile"] = self._quoted_paths(known)
        if learned_keys_file is not None:
            options["UpdateHostKeys"] = "no"
        if proxy:
            options["ProxyCommand"] = proxy
        if agents is not None and _has_failed(agents.agent_at(settings.agent_socket(self.environ))):
            options["IdentityAgent"] = "none"
        if agents is not None and _has_failed(
            agents.agent_at(settings.forwarded_agent_socket(self.environ))
        ):
            options["ForwardAgent"] = "no"
        # -v, not LogLevel, which would also discard the proxy command's stderr
        words = [self.path, "-v", *_option_words(options), "-N", "-T", "-x", "-E", str(log)]
        return [*words, *self.inventory_options(connect), "--", connect.address]

    def proxy_command(self, control_path: Path, jump_host: str) -> str:
        """Return the ProxyCommand for a host behind a jump host with this control socket."""
        options = {"ControlMaster": "no", "LogLevel": "ERROR", "ProxyCommand": "false"}
        path = str(control_path).replace("%", "%%")
        words = [self.path, "-F", "/dev/null", *_option_words(options), "-S", path]
        return f"{shlex.join(words).replace('%', '%%')} -W '[%h]:%p' -- {shlex.quote(jump_host)}"

    def _quoted_paths(self, names: Sequence[str]) -> str:
        return " ".join(f'"{self._expand_path(name)}"' for name in names)

    def _expand_path(self, name: str) -> str:
        return str(self.home / name[2:]) if name.startswith("~/") else name


class EffectiveSettings:
    """The effective settings of one host. ``connect`` has no unset fields that ssh_config sets."""

    def __init__(self, connect: ConnectionOptions, rows: Mapping[str, list[str]]) -> None:
        self._rows = rows
        self.connect = _with_ssh_defaults(connect, self)
        # "none" may be a real host or user name; in other settings it means unset
        self.hostname, self.user = (rows.get(name, [""])[0] for name in ("hostname", "user"))
        self.port = int(self.value_of("port") or 22)

    def value_of(self, name: str) -> str:
        """Return a setting, or '' if it is unset or ``none``."""
        text = self._rows.get(name, [""])[0]
        return "" if text == "none" else text

    @property
    def known_hosts_files(self) -> tuple[str, ...]:
        """The paths of the user's known_hosts files and the system's."""
        names = ("userknownhostsfile", "globalknownhostsfile")
        return tuple(path for name in names for path in shlex.split(self.value_of(name)))

    @property
    def control_path(self) -> Path | None:
        """The path of the user's own control socket for this host, or None."""
        text = self.value_of("controlpath")
        return Path(text) if text else None

    @property
    def forwards_agent(self) -> bool:
        """Whether an agent is forwarded to the host."""
        return self.value_of("forwardagent") not in ("", *_NO_VALUES)

    def agent_socket(self, environ: Mapping[str, str]) -> str:
        """Return the socket path of the agent that ssh authenticates with, or ''."""
        text = self._rows.get("identityagent", [AUTH_SOCK_VARIABLE])[0]
        if text == AUTH_SOCK_VARIABLE:
            return environ.get(AUTH_SOCK_VARIABLE, "")
        return "" if text.lower() == NONE else _socket_path(text, environ)

    def forwarded_agent_socket(self, environ: Mapping[str, str]) -> str:
        """Return the socket path of the agent that is forwarded to the host, or ''."""
        text = self.value_of("forwardagent")
        if not self.forwards_agent:
            return ""
        return self.agent_socket(environ) if text in _YES_VALUES else _socket_path(text, environ)

    @property
    def jump_hosts(self) -> tuple[str, ...]:
        """The jump hosts, as USER@HOST:PORT.

        ssh prints a host that has a user or a port in brackets, which are removed here unless
        they surround an IPv6 address.
        """
        text = re.sub(r"\[([^\]:]+)\]", r"\1", self.value_of("proxyjump"))
        return tuple(hop for hop in text.split(",") if hop)

    @property
    def endpoint(self) -> str:
        """USER@ADDRESS:PORT."""
        address = f"[{self.hostname}]" if ":" in self.hostname else self.hostname
        return f"{self.user}@{address}:{self.port}"

    @property
    def endpoint_with_jumps(self) -> str:
        """The endpoint followed by the jump hosts, for messages."""
        return (
            f"{self.endpoint} via {', '.join(self.jump_hosts)}"
            if self.jump_hosts
            else self.endpoint
        )

    @property
    def resolved_connection(self) -> ResolvedConnection:
        """The settings in the form that the other transports use."""
        connect = replace(self.connect, address=self.hostname, port=self.port, user=self.user)
        jump = self.jump_hosts
        proxy = self.value_of("proxycommand")
        settings = SshSettings(self.connect.address, self.hostname, jump=jump, proxy_command=proxy)
        return ResolvedConnection(connect, settings)

    def environment(self, local_environ: Mapping[str, str]) -> list[str]:
        """Return the variables of SetEnv and SendEnv, as NAME=TEXT."""
        sent = self._rows.get("sendenv", [])
        names = [n for n in local_environ if any(fnmatch.fnmatchcase(n, each) for each in sent)]
        return [*(f"{name}={local_environ[name]}" for name in names), *self._rows.get("setenv", [])]


def _with_ssh_defaults(
    connect: ConnectionOptions, settings: EffectiveSettings
) -> ConnectionOptions:
    if not connect.is_set("host_keys"):
        checking = settings.value_of("stricthostkeychecking")
        # with "no" ssh would accept a changed key, which orch never does
        lax = checking == "accept-new" or checking in _NO_VALUES
        connect = replace(connect, host_keys="accept-new" if lax else "strict")
    if not connect.is_set("timeout") and (seconds := settings.value_of("connecttimeout")):
        connect = replace(connect, timeout=float(seconds))
    if not connect.is_set("keepalive") and settings.value_of("serveraliveinterval") not in (
        "",
        "0",
    ):
        connect = replace(connect, keepalive=float(settings.value_of("serveraliveinterval")))
    return connect


def _socket_path(text: str, environ: Mapping[str, str]) -> str:
    return environ.get(text[1:], "") if text.startswith("$") else text


def _has_failed(agent: AgentClient | None) -> bool:
    return agent is not None and bool(agent.error)


def _host_key_checking(host_keys: str) -> str:
    return "accept-new" if host_keys == "accept-new" else "yes"


def _yes_or_no(flag: bool) -> str:
    return "yes" if flag else "no"


def _option_words(options: Mapping[str, str]) -> list[str]:
    return [word for name, text in options.items() for word in ("-o", f"{name}={text}")]
