"""The accounts of the matrix, and what sshd is told of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.matrix.place import Account, Place

TRANSPORTS = ("ssh", "openssh")
FEW = """
sh cat chmod chown cmp cp cut date dd grep head id kill ln ls mkdir mv od ps readlink rm rmdir sed
sha256sum sleep tail tr true uname wc
"""
# what tests' own steps use besides
THEIRS = "bash env sort tee yes"
# noise that ends like a marker of the session, without a newline
_SH = """\
printf 'welcome\\nto %s\\n0123456789abcdef0123456789abcdef R\\n' here
printf 'mind the gap' >&2
printf '0123456789abcdef0123456789abcdef S'
"""
_CSH = _SH.replace("printf 'mind the gap' >&2", "sh -c 'printf gap >&2'")

SETTINGS = [
    Account("one", match=["MaxSessions 1"]),
    Account("notty", match=["PermitTTY no"]),
    Account("echoes", match=["ForceCommand echo this account is for backups"]),
    Account("files", match=["ForceCommand internal-sftp"]),
    Account("wrapped", match=['ForceCommand sh -c "$SSH_ORIGINAL_COMMAND"']),
    Account("banner", match=["Banner /etc/ssh/matrix/banner"]),
    Account("u" * 32),
    Account("v6"),
    Account("port"),
]
SHELLS = [
    Account("bash", "/bin/bash", files={".bashrc": _SH, ".profile": _SH, ".bash_profile": _SH}),
    Account("dash", "/bin/dash", files={".profile": _SH}),
    Account("zsh", "/usr/bin/zsh", files={".zshenv": _SH, ".zshrc": _SH}),
    Account("fish", "/usr/bin/fish", files={".config/fish/config.fish": _SH}),
    Account("tcsh", "/usr/bin/tcsh", files={".cshrc": _CSH, ".login": _CSH}),
    Account("ash", "/opt/ash", files={".profile": _SH}),
    Account("leaves", "/bin/bash", files={".bashrc": "echo closed for today\nexit 4\n"}),
    Account("reads", "/bin/bash", files={".bashrc": "read answer\nexit\n"}),
    Account("becomes", "/bin/bash", files={".bashrc": "exec fish\n"}),
    Account("nologin", "/usr/sbin/nologin"),
    Account("false", "/bin/false"),
    Account("shell-less", "/opt/no-such-shell"),
]
HOMES = [
    Account("spaces", home='/home/it\'s a "home" of $HOME & `id`'),
    Account("homeless", home="/proc/no-such-home"),
    Account("few", match=["SetEnv PATH=/opt/few"]),
    Account("busybox", match=["SetEnv PATH=/opt/busybox"]),
    Account("alone", match=["SetEnv PATH=/opt/alone"]),
    Account("narrow"),
    Account("full"),
    Account("sealed"),
]


def tools(place: Place) -> None:
    """Folders to be all of PATH: a few tools, busybox's, and those without one that makes
    process groups; and a shell that is nowhere else."""
    place.sh(
        f"""
        mkdir -p /opt/few /opt/busybox /opt/alone
        for tool in {" ".join(FEW.split())} {THEIRS}; do
            ln -s "$(busybox which $tool)" /opt/few
        done
        ln -s "$(command -v busybox)" /opt/ash
        busybox --install -s /opt/busybox
        busybox --install -s /opt/alone
        rm -f /opt/alone/setsid
        """
    )


def settings(accounts: list[Account]) -> list[str]:
    """Match blocks."""
    return ["\n    ".join((f"Match User {a.name}", *a.match)) for a in accounts if a.match]


def hosts(accounts: list[Account], more: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """An inventory with a host for each account; ``more`` are connect settings by its name."""
    return {
        a.name: {"address": "127.0.0.1", "connect": {"user": a.name, **more.get(a.name, {})}}
        for a in accounts
    }


def common(place: Place) -> dict[str, Any]:
    """What all hosts have in common. ssh's own key exchange would cost 66 ms of CPU."""
    config = place.folder / "ssh_config"
    config.write_text("KexAlgorithms curve25519-sha256\n")
    return {
        "identity": str(place.key),
        "identities_only": True,
        "known_hosts": str(place.known_hosts),
        "ssh_config": str(config),
        "timeout": 20,
    }
