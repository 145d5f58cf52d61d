"""ssh_config, compared with what the real ``ssh -G`` prints for the same files."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.errors import ConnectError
from orchestrator.transports.ssh_config.lookup import SshConfig
from tests.integration.transports.test_ssh_auth import ConnectorMaker, ask_shell
from tests.sshd import SshdServer

CORPUS = [
    "",
    "Host web\n  HostName 10.0.0.1\n  User deploy\n  Port 2222\n",
    "Host web*\n  User first\nHost *\n  User last\n  Port 99\n",
    "Host * !web1\n  User other\nHost web1\n  User mine\n",
    "Host *.example.net\n  HostName %h\n  User u\nHost db\n  HostName %h.example.net\n",
    "Host=web1\nUser=eq\nPort = 7\n",
    'Host "web1"\n  User "quoted"\n  IdentityFile "~/.ssh/a key"\n',
    "Host web1\n  IdentityFile ~/.ssh/one\n  IdentityFile ~/.ssh/two\nHost *\n  IdentityFile ~/.ssh/all\n",
    "Host web1\n  ProxyJump bastion,u@b2:2200\n",
    "Host web1\n  ProxyCommand nc -X 5 %h %p\n",
    "Host web1\n  ProxyJump none\n  ProxyCommand none\n",
    "Match host web1,db\n  User matched\nMatch all\n  Port 10\n",
    "Match originalhost web1 !host other\n  User orig\nHost web1\n  HostName other\n",
    "Match user root host web1\n  Port 11\nMatch localuser nobody\n  Port 12\n",
    "Match exec true\n  Port 13\nMatch exec false\n  Port 14\n",
    "Match !exec false\n  User negated\n",
    "Host web1\n  ConnectTimeout 7\n  ServerAliveInterval 9\n  ServerAliveCountMax 2\n",
    "Host web1\n  StrictHostKeyChecking accept-new\n  HashKnownHosts yes\n  HostKeyAlias other\n",
    "Host web1\n  UserKnownHostsFile ~/k1 ~/k2\n  GlobalKnownHostsFile /etc/k\n",
    "Host web1\n  AddressFamily inet\n  BindAddress 127.0.0.1\n  ForwardAgent yes\n",
    "Host web1\n  IdentitiesOnly yes\n  IdentityAgent none\n  CertificateFile ~/c-cert.pub\n",
    "# comment\n\n  Host web1 # no comment here\n\tUser tabbed\n",
    "User before\nHost web1\n  User after\n",
    "Include extra/*.conf\nHost web1\n  Port 20\n",
    "Host web1\n  Include extra/a.conf\nHost *\n  User rest\n",
    "Host web1\n  IdentityFile ~/.ssh/%h-%r-%p\n  Port 5\n",
    "Host web1\n  Ciphers aes128-ctr\n  MACs +hmac-sha1\n",
]
HOSTS = ["web1", "web2", "db", "a.example.net"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / ".ssh"
    (folder / "extra").mkdir(parents=True)
    (folder / "extra" / "a.conf").write_text("Host web1\n  User included\n  Port 21\n")
    (folder / "extra" / "b.conf").write_text("Host db\n  User second\n")
    return folder.parent


def settings_by_ssh(home: Path, host: str) -> dict[str, list[str]]:
    """Return ssh's settings of the host by keyword; its home is that of the password database."""
    config = home / ".ssh" / "config"
    text = config.read_text().replace("Include extra", f"Include {home}/.ssh/extra")
    (home / "given").write_text(text.replace("~/", f"{home}/"))
    done = subprocess.run(
        ["ssh", "-G", "-F", str(home / "given"), host], capture_output=True, text=True, check=True
    )
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        found.setdefault(key, []).append(value)
    tokens = {"%h": found["hostname"][0], "%p": found["port"][0], "%r": found["user"][0]}
    for token, meant in tokens.items():  # ssh -G leaves them as they are written
        found = {key: [v.replace(token, meant) for v in values] for key, values in found.items()}
    return found


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("text", CORPUS)
def test_a_host_is_what_ssh_says_it_is(home: Path, text: str, host: str) -> None:
    (home / ".ssh" / "config").write_text(text)
    ssh = settings_by_ssh(home, host)
    settings = SshConfig(
        home, os.environ, threading.Event(), system_config=home / "none"
    ).settings_for(host)
    me = ssh_user()
    assert settings.address == ssh["hostname"][0]
    assert str(settings.port or 22) == ssh["port"][0]
    assert (settings.user or me) == ssh["user"][0]
    if "IdentityFile" in text and settings.identity:
        assert list(settings.identity) == ssh["identityfile"]
    assert ",".join(settings.jump) == ssh.get("proxyjump", [""])[0]
    if not settings.jump:
        assert settings.proxy_command == ssh.get("proxycommand", [""])[0]
    assert settings.forward_agent == (ssh["forwardagent"][0] == "yes")
    assert (settings.connect_timeout or None) == as_number(ssh["connecttimeout"][0])
    assert (settings.alive_interval or 0) == int(ssh["serveraliveinterval"][0])
    assert bool(settings.identities_only) == (ssh["identitiesonly"][0] == "yes")
    assert settings.address_family == ssh["addressfamily"][0]
    assert settings.host_key_alias == ssh.get("hostkeyalias", [""])[0]
    assert settings.hash_known_hosts == (ssh["hashknownhosts"][0] == "yes")
    if settings.known_hosts:
        assert " ".join(settings.known_hosts) == ssh["userknownhostsfile"][0]


def as_number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def ssh_user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def test_an_alias_leads_to_the_host_that_it_means(
    sshd: SshdServer, make_connector: ConnectorMaker, tmp_path: Path
) -> None:
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    config = f"Host alias\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User {sshd.user}\n"
    config += f"  IdentityFile {sshd.key}\n  UserKnownHostsFile {sshd.known_hosts}\n"
    (tmp_path / "home" / ".ssh" / "config").write_text(config)
    connect = replace(
        sshd.connect_options(),
        address="alias",
        port=None,
        user=None,
        identity=(),
        identities_only=None,
        known_hosts=(),
    )
    connector = make_connector()
    assert (
        ask_shell(connector.connect(sshd.inventory_host(connect=connect)), "echo in").stdout
        == b"in\n"
    )


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("Match hots web1\n", "unknown criterion 'hots'", "did you mean 'host'? "),
        ("Match wormhole open\n", "unknown criterion 'wormhole'", ""),
        ("Host x\nMatch host y !wormhole z\n", "unknown criterion 'wormhole'", ""),
        ("Match localnetwork 10.0.0.0/8\n", "'Match localnetwork' is not supported", ""),
        ("Match sessiontype shell\n", "'Match sessiontype' is not supported", ""),
        ("Frobnicate yes\n", "unknown keyword 'frobnicate'", "IgnoreUnknown frobnicate; "),
        ("AddressFamily inet7\n", "addressfamily: ", ""),
        ("Host web1\n  ProxyCommand nc %Z\n", "%Z", ""),
    ],
)
def test_what_orch_does_not_know_points_to_the_system_s_ssh(
    home: Path, text: str, what: str, hint: str
) -> None:
    (home / ".ssh" / "config").write_text(text)
    with pytest.raises(ConnectError) as caught:
        SshConfig(home, os.environ, threading.Event(), system_config=home / "none").settings_for(
            "web1"
        )
    assert what in caught.value.reason
    assert f"{home}/.ssh/config:" in caught.value.reason
    assert hint in caught.value.hint
    assert "if `ssh` accepts it, use `connect: {transport: openssh}`" in caught.value.hint
