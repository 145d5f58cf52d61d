"""Settings of the real `ssh -G` for a host, and orch's settings in the same format."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from orchestrator.model.host import ConnectionOptions
from orchestrator.transports.ssh.algorithms import merge_algorithms
from orchestrator.transports.ssh_config.lookup import SshConfig
from orchestrator.transports.ssh_config.resolve import resolve_connection
from orchestrator.transports.ssh_config.settings import SshSettings

SettingRows = dict[str, list[str]]
ME = pwd.getpwuid(os.getuid())
LISTS = {
    "kexalgorithms": ("kex", "kex"),
    "ciphers": ("ciphers", "cipher"),
    "macs": ("macs", "mac"),
    "hostkeyalgorithms": ("host_key_algorithms", "HostKeyAlgorithms"),
}
COMPARED = """hostname port user identityfile certificatefile identitiesonly identityagent
connecttimeout serveraliveinterval serveralivecountmax stricthostkeychecking userknownhostsfile
globalknownhostsfile hostkeyalias hashknownhosts addressfamily bindaddress forwardagent setenv
proxyjump proxycommand kexalgorithms ciphers macs hostkeyalgorithms""".split()
EXPANDED_LATER = ("identityfile", "certificatefile", "proxyjump", "proxycommand")


def isolated_environ(home: Path) -> dict[str, str]:
    """Return the environment for both."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "SHELL": "/bin/sh", "WORD": "word"}


def settings_by_ssh(home: Path, file: Path, host: str) -> SettingRows | None:
    """Return ssh's settings for the host, or None if it rejects the file.

    A ~ in the file is replaced by ``home``, because ssh uses the account's home, whatever HOME is.
    """
    done = subprocess.run(
        ["ssh", "-G", "-F", file, host],
        check=False,
        capture_output=True,
        text=True,
        env=isolated_environ(home),
    )
    if done.returncode:
        assert done.returncode == 255
        return None
    found: SettingRows = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        if key in COMPARED:
            found.setdefault(key, []).append(value.replace(f"{ME.pw_dir}/", f"{home}/"))
    known = {
        "%": "%", "h": found["hostname"][0], "n": host, "p": found["port"][0],
        "r": found["user"][0], "d": str(home), "u": ME.pw_name, "i": str(ME.pw_uid),
        "k": found.get("hostkeyalias", found["hostname"])[0],
    }  # fmt: skip
    for key in EXPANDED_LATER:
        found[key] = [_expand_late(text, known, home) for text in found.get(key, [])]
    # ssh prints all jump hosts but the last as written
    hops = [re.sub(r"ssh://([^,/]*)/?", r"\1", text) for text in found["proxyjump"]]
    found["proxyjump"] = hops
    return {key: values for key, values in found.items() if values}


def settings_by_orch(home: Path, file: Path, host: str) -> SettingRows:
    """Return orch's settings as ssh would print them."""
    config = SshConfig(home, isolated_environ(home), threading.Event(), config_file=str(file))
    return as_ssh_prints(
        resolve_connection(ConnectionOptions(host), config.settings_for(host)).settings
    )


def as_ssh_prints(s: SshSettings) -> SettingRows:
    """Return settings in the format of `ssh -G`."""
    default = ssh_defaults()
    output: SettingRows = {key: default[key] for key in default if key in COMPARED}
    output |= {"hostname": [s.address], "port": [str(s.port or 22)], "user": [s.user or ME.pw_name]}
    values: Mapping[str, object] = {
        "identitiesonly": s.identities_only,
        "identityagent": s.identity_agent,
        "connecttimeout": s.connect_timeout,
        "serveraliveinterval": s.alive_interval,
        "serveralivecountmax": s.alive_count,
        "userknownhostsfile": " ".join(s.known_hosts) or None,
        "globalknownhostsfile": " ".join(s.global_known_hosts) or None,
        "hostkeyalias": s.host_key_alias or None,
        "hashknownhosts": s.hash_known_hosts,
        "addressfamily": s.address_family,
        "bindaddress": s.bind_address or None,
        "forwardagent": s.forward_socket or s.forward_agent,
        "proxycommand": s.proxy_command or None,
        "proxyjump": ",".join(s.jump) or None,
    }
    output |= {key: [_ssh_word(value)] for key, value in values.items() if value is not None}
    if s.host_keys:
        output["stricthostkeychecking"] = [
            {"yes": "true", "no": "false"}.get(s.host_keys, s.host_keys)
        ]
    for key, many in (("identityfile", s.identity), ("certificatefile", s.certificates)):
        output |= {key: list(many)} if many else {}
    output |= {"setenv": [f"{name}={text}" for name, text in s.set_env]} if s.set_env else {}
    for key, (field, kind) in LISTS.items():
        usual = default[key][0].split(",")
        output[key] = [
            ",".join(merge_algorithms(getattr(s, field), usual, supported_algorithms(kind)))
        ]
    return output


@cache
def ssh_defaults() -> SettingRows:
    """Return ssh's settings without a configuration file."""
    home = Path("/nowhere")
    output = settings_by_ssh(home, Path("/dev/null"), "localhost")
    assert output is not None
    output["userknownhostsfile"] = ["DEFAULT"]
    output["identityfile"] = ["DEFAULT"]
    return output


@cache
def supported_algorithms(kind: str) -> tuple[str, ...]:
    """Return all algorithms of a kind that this ssh supports."""
    done = subprocess.run(["ssh", "-Q", kind], capture_output=True, text=True, check=True)
    return tuple(done.stdout.split())


def without_differences(message: SettingRows, home: Path) -> SettingRows:
    """Remove the defaults that differ: orch's own list of keys to try, and its home."""
    usual = [f"{home}/.ssh/known_hosts {home}/.ssh/known_hosts2"]
    plain = dict(message)
    if plain["userknownhostsfile"] in (usual, ["DEFAULT"]):
        plain["userknownhostsfile"] = ["DEFAULT"]
    if any(name.endswith("/id_xmss") for name in plain["identityfile"]):
        plain["identityfile"] = ["DEFAULT"]
    return plain


def _expand_late(text: str, known: Mapping[str, str], home: Path) -> str:
    text = re.sub(r"%(.)", lambda found: known[found[1]], text)
    text = text.replace("${WORD}", "word")
    return f"{home}/{text[2:]}" if text.startswith("~/") else text


def _ssh_word(value: object) -> str:
    return (
        {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
    )
