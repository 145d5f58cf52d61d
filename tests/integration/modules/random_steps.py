"""Strategies of steps of the shipped modules, for tests of what a check predicts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from hypothesis import strategies as st

from tests.integration.modules.test_alternatives_module import SETUP as PROGRAMS
from tests.integration.modules.test_locale_module import LOCALES
from tests.integration.modules.test_modprobe_module import KERNEL
from tests.integration.modules.test_nginx_site import CONF as NGINX
from tests.integration.modules.test_nginx_site import SITE
from tests.integration.modules.test_service_systemd import SYSTEMD
from tests.integration.modules.test_timezone_module import SETUP as ZONES
from tests.support.machine import ShellMachine
from tests.support.private_copy import give_own_tmp, run_in_copy, run_inside_copy

ModuleStep: TypeAlias = dict[str, dict[str, Any]]
"""A call of one module: its name, and its arguments."""

NAMES = st.sampled_from(["a", "b c", "é'", "-d"])
PATHS = st.one_of(NAMES, st.lists(NAMES, min_size=1, max_size=3).map("/".join))
MODES = st.sampled_from(["0644", "0600", "0755", "0700"])
TEXTS = st.sampled_from(["", "x\n", "x", "one\ntwo\n", "$(id)\n", "\\n%41\n"])
LINES = st.sampled_from(["x", "one", "a 'b' \"c\"", "$HOME", "ü"])
STATES = st.sampled_from(["present", "absent"])

PATH_PARAMS = {"cron": "file", "sysctl": "file", "mount": "fstab"}
"""The param that is the path, where it is not called so."""

SOURCES = "{sources}"
"""In an argument: the folder that ``make_sources`` fills."""


def module_step(module: str, **params: st.SearchStrategy[Any]) -> st.SearchStrategy[ModuleStep]:
    """Return a strategy for calls of a module with some of these params.

    Those whose names end with ``_`` may be left out. Every call has a path.
    """
    params = {PATH_PARAMS.get(module, "path"): PATHS, **params}
    return system_step(module, **params)


def system_step(module: str, **params: st.SearchStrategy[Any]) -> st.SearchStrategy[ModuleStep]:
    """Return a strategy like ``module_step``, without a path."""
    always = {k: v for k, v in params.items() if not k.endswith("_")}
    maybe = {k[:-1]: v for k, v in params.items() if k.endswith("_")}
    return st.fixed_dictionaries(always, optional=maybe).map(lambda args: {module: args})


KEYS = st.sampled_from([f"ssh-ed25519 AAAA{n} ann" for n in "ab"])
_TIMES = st.sampled_from(["2026-01-31T12:00:00Z", "1000", "preserve"])
_ARCHIVES = st.sampled_from([f"{SOURCES}/it.tar"])

FILE_STEPS: dict[str, list[st.SearchStrategy[ModuleStep]]] = {
    "file": [
        module_step("file", mode_=MODES),
        module_step("file", state=st.just("absent"), recurse_=st.booleans()),
        module_step("file", modification_time=_TIMES, attributes_=st.sampled_from(["+A", "=", "-A"])),
    ],
    "directory": [
        module_step("directory", mode_=MODES),
        module_step("directory", state=st.just("absent"), recurse_=st.booleans()),
        module_step("directory", recurse=st.just(True), mode_=MODES, file_mode_=st.just("g=u,o+X")),
    ],
    "link": [
        module_step("link", to=st.sampled_from(["x", "../y z", "/proc/none"]), force_=st.booleans()),
        module_step("link", to=st.sampled_from([".", "a", "/proc/version"]), hard=st.just(True)),
    ],
    "copy": [
        module_step("copy", content=TEXTS, mode_=MODES, backup_=st.booleans()),
        module_step("copy", remote_src=st.sampled_from(["/etc/passwd", "/no"]), force_=st.booleans()),
        module_step("copy", content=TEXTS, attributes=st.sampled_from(["+A", "A", "-A"])),
    ],
    "template": [
        module_step("template", src=st.just(f"{SOURCES}/it.j2"), mode_=MODES, force_=st.booleans(),
                    newline_=st.sampled_from(["lf", "crlf"])),
    ],
    "upload": [
        module_step("upload", src=st.sampled_from([f"{SOURCES}/tree", f"{SOURCES}/it.j2"]),
                    delete_=st.booleans(), exclude_=st.just(["b c"]), include_=st.just(["a", "-d"]),
                    follow_=st.just(True), keep_modes_=st.booleans(), times_=st.booleans()),
    ],
    "unarchive": [
        module_step("unarchive", src=_ARCHIVES, exclusive_=st.booleans(), strip_=st.just(1)),
        module_step("unarchive", remote_src=_ARCHIVES, include_=st.just(["a"]), mode_=st.just("u=rwX,go=")),
    ],
    "get_url": [
        module_step("get_url", url=st.just(f"file://{SOURCES}/it.j2"), force_=st.booleans(), mode_=MODES),
    ],
    "assemble": [
        module_step("assemble", remote_src=st.sampled_from([f"{SOURCES}/tree", "/no"]),
                    delimiter_=LINES, match_=st.just("a"), hidden_=st.booleans(), mode_=MODES),
        module_step("assemble", src=st.just(f"{SOURCES}/tree"), delimiter_=LINES, mode_=MODES),
    ],
    "line": [
        module_step("line", line=LINES, create_=st.booleans(), mode_=MODES),
        module_step("line", line=LINES, state=st.just("absent")),
        module_step("line", line=st.just(r"\1 \0"), match=st.just("^(o.*|x)$"), backrefs=st.just(True)),
    ],
    "replace": [
        module_step("replace", match=st.sampled_from(["o", "^.*$"]), text=st.sampled_from(["", "x"])),
    ],
    "ini_file": [
        module_step("ini_file", option=st.just("x"), value=LINES, section_=LINES, create_=st.booleans()),
        module_step("ini_file", option=st.just("x"), section_=LINES, state=st.just("absent")),
    ],
    "text_block": [module_step("text_block", block=TEXTS.filter(bool), create_=st.booleans())],
    "known_hosts": [
        module_step("known_hosts", name=st.just("x"), key=st.just("ssh-rsa AAAA"), hash_=st.booleans()),
        module_step("known_hosts", name=st.just("x"), state=st.just("absent")),
    ],
    "acl": [
        module_step("acl", entity=st.just("daemon"), permissions=st.sampled_from(["rx", ""]),
                    recurse_=st.booleans(), default_=st.booleans()),
        module_step("acl", entity=st.just("daemon"), state=st.just("absent")),
    ],
    "authorized_key": [
        module_step("authorized_key", user=st.just("root"), key=KEYS, exclusive_=st.booleans(), state_=STATES),
    ],
    "limits": [
        module_step("limits", domain=st.sampled_from(["ann", "@all"]), limit_type=st.just("soft"),
                    limit_item=st.just("nofile"), value=st.sampled_from(["1", "unlimited"]), state_=STATES),
    ],
    "cron": [
        module_step("cron", name=st.sampled_from(["x", "it's"]), job=LINES, user=st.just("root"),
                    hour_=st.just("4"), disabled_=st.booleans(), state_=STATES),
    ],
    "sysctl": [
        module_step("sysctl", name=st.just("vm.swappiness"), value=st.sampled_from(["1", "60"]),
                    apply=st.just(False), state_=STATES),
    ],
    "mount": [
        system_step("mount", fstab=PATHS, path=st.just("/srv/x"), src=st.sampled_from(["/dev/x", "tmpfs"]),
                    fstype=st.just("ext4"), state=st.just("present"), backup_=st.booleans()),
    ],
    "git": [
        module_step("git", repo=st.just(f"{SOURCES}/repo"), archive_=st.booleans(), force_=st.booleans(),
                    version_=st.sampled_from(["main", "first"])),
    ],
    "stat": [module_step("stat", follow_=st.booleans(), checksum_=st.just("sha256"))],
    "slurp": [module_step("slurp", max_size_=st.just(2))],
    "find": [module_step("find", recurse_=st.booleans(), hidden_=st.booleans(), contains_=st.just("o"))],
}  # fmt: skip
"""Steps on a path, by module."""

_UNIT = "[Service]\nExecStart=/bin/true\nNice=%s\n[Install]\nWantedBy=multi-user.target\n"
_PARAMETER = "net.ipv4.ip_local_port_range"

SYSTEM_STEPS: dict[str, list[st.SearchStrategy[ModuleStep]]] = {
    "group": [
        system_step("group", name=st.sampled_from(["orch-a", "orch-b"]),
                    gid_=st.sampled_from([7101, 7102]), state_=STATES),
    ],
    "user": [
        system_step("user", name=st.sampled_from(["orch-a", "orch-u"]), uid_=st.sampled_from([7201, 7202]),
                    groups_=st.sampled_from([[], ["daemon"], ["daemon", "bin"]]), append_=st.booleans(),
                    comment_=LINES, shell_=st.just("/bin/sh"), locked_=st.booleans(),
                    expires_=st.sampled_from(["2027-01-31", "never"])),
        system_step("user", name=st.sampled_from(["orch-a", "orch-u"]), state=st.just("absent"),
                    remove_=st.booleans()),
    ],
    "sudoers": [
        system_step("sudoers", name=st.sampled_from(["orch-a", "orch-b"]), user=st.just("daemon"),
                    commands=st.sampled_from([["/bin/ls"], ["ALL"]]), nopassword_=st.booleans()),
        system_step("sudoers", name=st.sampled_from(["orch-a", "orch-b"]), state=st.just("absent")),
        system_step("sudoers", name=st.just("orch-a"), content=st.sampled_from(["# x\n", "no rule\n"])),
    ],
    "cron": [
        system_step("cron", name=st.sampled_from(["x", "it's"]), job_=LINES, minute_=st.just("5"),
                    special_=st.just("daily"), state_=STATES),
    ],
    "authorized_key": [
        system_step("authorized_key", user=st.sampled_from(["root", "orch-keys", "orch-none"]), key=KEYS,
                    exclusive_=st.booleans(), state_=STATES),
    ],
    "sysctl": [
        system_step("sysctl", name=st.just(_PARAMETER), value=st.sampled_from(["2000 3000", "2001\t3001"]),
                    state_=STATES, apply_=st.booleans()),
    ],
    "dpkg_divert": [
        system_step("dpkg_divert", path=st.sampled_from(["/srv/own", "/srv/none"]),
                    to_=st.sampled_from(["/srv/else", "/srv/taken"]), rename_=st.booleans(),
                    delete_=st.booleans(), force_=st.booleans(), state_=STATES),
    ],
    "alternatives": [
        system_step("alternatives", name=st.just("orch-it"),
                    path=st.sampled_from(["/srv/bin/one", "/srv/bin/two", "/srv/bin/none"]),
                    link_=st.just("/usr/local/bin/orch-it"), priority_=st.sampled_from([5, 60]),
                    state_=st.sampled_from(["selected", "auto", "present", "absent"])),
    ],
    "hostname": [system_step("hostname", name=st.sampled_from(["web-1.example", "db", "a b"]))],
    "timezone": [system_step("timezone", name=st.sampled_from(["Orch/One", "Orch/Two", "Orch/No"]))],
    "locale": [
        system_step("locale", name=st.sampled_from([["orch_AA.UTF-8"], ["orch_CC.UTF-8", "orch_DD@euro"]]),
                    state_=STATES),
    ],
    "modprobe": [
        system_step("modprobe", name=st.sampled_from(["orch_old", "orch-new", "orch_built"]), state_=STATES,
                    persistent_=st.booleans(), params_=st.just("a=1")),
    ],
    "systemd_unit": [
        system_step("systemd_unit", name=st.sampled_from(["orch-x.service", "orch-y.service"]),
                    content=st.sampled_from([_UNIT % 1, _UNIT % 2]), drop_in_=st.just("more"), mode_=MODES),
        system_step("systemd_unit", name=st.sampled_from(["orch-x.service", "orch-y.service"]),
                    drop_in_=st.just("more"), state=st.just("absent")),
    ],
    "service": [
        system_step("service", name=st.sampled_from(["orch-s", "orch-none"]),
                    state_=st.sampled_from(["started", "stopped"]), enabled_=st.booleans(),
                    masked_=st.just(False)),
    ],
    "nginx_site": [
        system_step("nginx_site", name=st.sampled_from(["shop", "blog"]), root=st.just("/srv/nginx"),
                    content_=st.sampled_from([SITE % "a", SITE % "b", "server {\n"]), enabled_=st.booleans(),
                    state_=STATES),
    ],
    "apt_repository": [
        system_step("apt_repository", name=st.just("orch"), uris=st.just(["file:/srv/apt"]),
                    suites=st.sampled_from([["./"], ["stable"]]), components_=st.just(["main"]),
                    enabled_=st.booleans(), update=st.just(False)),
        system_step("apt_repository", name=st.just("orch"), state=st.just("absent"), update=st.just(False)),
    ],
    "yum_repository": [
        system_step("yum_repository", name=st.sampled_from(["x", "y"]), file_=st.just("x"),
                    description=LINES, baseurl=st.just("file:/srv/x"), enabled_=st.booleans(), state_=STATES),
    ],
    "mount": [
        system_step("mount", path=st.sampled_from(["/srv/m", "/srv/a b"]), src=st.just("tmpfs"),
                    fstype=st.just("tmpfs"), opts_=st.sampled_from(["size=1m", "ro"]),
                    state_=st.sampled_from(["mounted", "present", "unmounted", "absent", "ephemeral"])),
    ],
    "debconf": [
        system_step("debconf", name=st.just("orch"), question=st.sampled_from(["orch/a", "orch/b"]),
                    type=st.just("string"), value=LINES, seen_=st.booleans()),
    ],
    "logrotate": [
        system_step("logrotate", name=st.sampled_from(["orch-a", "orch-b"]), paths=st.just(["/srv/log/*.log"]),
                    frequency_=st.sampled_from(["daily", "weekly"]), rotate_=st.sampled_from([1, 2]),
                    missingok=st.just(True), state_=STATES),
        system_step("logrotate", name=st.just("orch-a"), content=st.just("/x {\n  no option\n")),
    ],
    "iptables": [
        system_step("iptables", chain=st.just("INPUT"), protocol=st.just("tcp"), jump=st.just("ACCEPT"),
                    destination_port=st.sampled_from([80, 8080]), action_=st.just("insert"), state_=STATES),
        system_step("iptables", chain=st.just("ORCH"), chain_management=st.just(True), state_=STATES),
    ],
    "firewall": [
        system_step("firewall", port=st.sampled_from(["443/tcp", "6000:6010/udp"]),
                    action_=st.sampled_from(["allow", "deny"]), state_=STATES),
    ],
}  # fmt: skip
"""Steps on a private copy of this machine, by module."""

_FAMILIES = {"user": "accounts", "group": "accounts", "authorized_key": "accounts",
             "systemd_unit": "systemd", "service": "systemd", "iptables": "firewall"}  # fmt: skip
"""Modules that change what others look at; every other one looks only at what is its own."""

_SYSTEM = f"""
{PROGRAMS}
{ZONES}
{LOCALES}
{KERNEL}
{SYSTEMD}
mkdir -p /srv/nginx/sites-available /srv/nginx/sites-enabled /etc/yum.repos.d /etc/sysctl.d
echo 'types {{ text/html html; }}' >/srv/nginx/mime.types
cat >/srv/nginx/nginx.conf <<'END'
{NGINX.format(folder="/srv/nginx", log="/run/nginx.log")}
END
# nginx creates folders below /var/lib when it reads its first server
echo '{SITE % "any"}' >/srv/nginx/sites-enabled/any
nginx -q -t -c /srv/nginx/nginx.conf
rm /srv/nginx/sites-enabled/any
printf '%s' '{_UNIT % 3}' >/etc/systemd/system/orch-s.service
touch /var/cache/debconf/*.dat  # debconf opens them to read and write, which an overlay copies
useradd -m orch-keys
crontab -r 2>/dev/null || :
echo own >/srv/own; echo taken >/srv/taken
exec >&2
update-alternatives --set iptables /usr/sbin/iptables-legacy
update-alternatives --set ip6tables /usr/sbin/ip6tables-legacy
ufw show added
"""


def family_of(step: ModuleStep) -> str:
    """Return a word that is the same for steps that may have to do with each other."""
    (module,) = step
    return _FAMILIES.get(module, module)


def steps_of(
    modules: dict[str, list[st.SearchStrategy[ModuleStep]]],
) -> st.SearchStrategy[ModuleStep]:
    """Return a strategy for steps, each module being as likely as any other."""
    return st.sampled_from(sorted(modules)).flatmap(lambda module: st.one_of(modules[module]))


@contextmanager
def system_machine(shell: str) -> Iterator[ShellMachine]:
    """Yield a private copy of this machine, prepared for SYSTEM_STEPS."""
    with TemporaryDirectory(prefix="orch-") as folder:
        root = Path(folder) / "root"
        root.mkdir()
        machine = ShellMachine(shell, root)
        with run_inside_copy(machine):
            run_in_copy(machine, _SYSTEM)
            give_own_tmp(machine)
            yield machine


def make_sources(folder: Path) -> None:
    """Create the sources of the file steps in a new folder: a tree, its archive, a template."""
    tree = folder / "tree"
    for name, text in {"a": "a\n", "b c/a": "", "-d/é'": "x\n", ".hidden": "h"}.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    (tree / "b c" / "a").chmod(0o755)
    (tree / "link").symlink_to("a")
    subprocess.run(["tar", "-cf", folder / "it.tar", "-C", folder, "tree"], check=True)
    (folder / "it.j2").write_text("{{ host.name }}\r\nit\n")
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@x", "-C", str(folder / "repo")]
    subprocess.run(["git", "init", "-qb", "main", folder / "repo"], check=True, env=environment)
    for text, words in (("1\n", ["tag", "first"]), ("2\n", ["gc", "-q"])):
        (folder / "repo" / "a").write_text(text)
        for command in (["add", "."], ["commit", "-qm", "it"], words):
            subprocess.run([*git, *command], check=True, env=environment)
