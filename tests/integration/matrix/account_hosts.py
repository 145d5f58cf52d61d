"""The accounts of the matrix, and the sshd settings of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.support.sshd_machine import LoginAccount, SshdMachine

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
    LoginAccount("one", match_lines=["MaxSessions 1"]),
    LoginAccount("notty", match_lines=["PermitTTY no"]),
    LoginAccount("echoes", match_lines=["ForceCommand echo this account is for backups"]),
    LoginAccount("files", match_lines=["ForceCommand internal-sftp"]),
    LoginAccount("wrapped", match_lines=['ForceCommand sh -c "$SSH_ORIGINAL_COMMAND"']),
    LoginAccount("banner", match_lines=["Banner /etc/ssh/matrix/banner"]),
    LoginAccount("u" * 32),
    LoginAccount("v6"),
    LoginAccount("port"),
]
SHELLS = [
    LoginAccount(
        "bash", "/bin/bash", files={".bashrc": _SH, ".profile": _SH, ".bash_profile": _SH}
    ),
    LoginAccount("dash", "/bin/dash", files={".profile": _SH}),
    LoginAccount("zsh", "/usr/bin/zsh", files={".zshenv": _SH, ".zshrc": _SH}),
    LoginAccount("fish", "/usr/bin/fish", files={".config/fish/config.fish": _SH}),
    LoginAccount("tcsh", "/usr/bin/tcsh", files={".cshrc": _CSH, ".login": _CSH}),
    LoginAccount("ash", "/opt/ash", files={".profile": _SH}),
    LoginAccount("leaves", "/bin/bash", files={".bashrc": "echo closed for today\nexit 4\n"}),
    LoginAccount("reads", "/bin/bash", files={".bashrc": "read answer\nexit\n"}),
    LoginAccount("becomes", "/bin/bash", files={".bashrc": "exec fish\n"}),
    LoginAccount("nologin", "/usr/sbin/nologin"),
    LoginAccount("false", "/bin/false"),
    LoginAccount("shell-less", "/opt/no-such-shell"),
]
HOMES = [
    LoginAccount("spaces", home='/home/it\'s a "home" of $HOME & `id`'),
    LoginAccount("homeless", home="/proc/no-such-home"),
    LoginAccount("few", match_lines=["SetEnv PATH=/opt/few"]),
    LoginAccount("busybox", match_lines=["SetEnv PATH=/opt/busybox"]),
    LoginAccount("alone", match_lines=["SetEnv PATH=/opt/alone"]),
    LoginAccount("narrow"),
    LoginAccount("full"),
    LoginAccount("sealed"),
]


def make_tool_folders(machine: SshdMachine) -> None:
    """Make folders to be used as the whole PATH.

    One has only a few tools, one busybox's, and one no tool that makes process groups; and a shell
    that is in no other folder.
    """
    machine.run_as_root(
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


def sshd_settings(accounts: list[LoginAccount]) -> list[str]:
    """Return the Match blocks of sshd_config."""
    return [
        "\n    ".join((f"Match User {a.name}", *a.match_lines)) for a in accounts if a.match_lines
    ]


def account_inventory(
    accounts: list[LoginAccount], more: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return an inventory with a host per account; ``more`` are connection options by host name."""
    return {
        a.name: {"address": "127.0.0.1", "connect": {"user": a.name, **more.get(a.name, {})}}
        for a in accounts
    }


def common_settings(machine: SshdMachine) -> dict[str, Any]:
    """Return the options of all hosts. ssh's default key exchange would take 66 ms of CPU."""
    config = machine.folder / "ssh_config"
    config.write_text("KexAlgorithms curve25519-sha256\n")
    return {
        "identity": str(machine.key),
        "identities_only": True,
        "known_hosts": str(machine.known_hosts),
        "ssh_config": str(config),
        "timeout": 20,
    }
