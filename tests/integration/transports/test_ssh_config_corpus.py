"""ssh_config files of all kinds: every setting is the one that the real `ssh -G` prints."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.transports.ssh_config.config_tree import SshConfigError
from tests.support.ssh_settings import settings_by_orch, settings_by_ssh, without_differences

HOSTS = ("web1", "Web1", "db", "a.example.net", "10.0.0.1", "::1")
CORPUS = [
    "",
    "# only a comment\n\n   \n\t# another\n",
    "Host web1\n HostName 10.0.0.9\n User u\n Port 2222\n",
    "Host web*\n User first\nHost *\n User last\n Port 99\n",
    "Host * !web1\n User other\nHost web1\n User mine\n",
    "Host !web1 *\n User other\n",
    "Host web?  db\n User q\n",
    "Host *.example.net\n HostName %h\n User u\nHost db\n HostName %h.example.net\n",
    "HostName %%h\n",
    "HostName MiXed.Example\n",
    "HostName 010.0.0.1\n",
    "HostName FE80::0001\n",
    "Host=web1\nUser=eq\nPort = 7\n",
    "=User strange\nPort=  8\n",
    "User==a\n",
    'Host "web1"\n User "a b"\n IdentityFile "~/.ssh/a key"\n',
    "Host 'web1' db\n User 'x\"y'\n",
    '"User" quoted\n',
    'User a\\\\b\nSetEnv "A=b \\"c\\"" D=\\x\n',
    "User a#b\nPort 9 # why\n",
    "uSER shout\nPORT 12\r\n",
    "\tUser tab\f\n",
    "IdentityFile ~/one\nIdentityFile ~/two\nIdentityFile ~/one\nHost web1\n IdentityFile ~/%h-%r-%p\n",
    "IdentityFile none\n",
    "IdentityFile %d/%u/%i/%n/%%\nIdentityFile ${WORD}/x\nCertificateFile ~/a\nCertificateFile b\n",
    "IdentitiesOnly yes\nIdentityAgent none\n",
    "IdentityAgent ~/agent/%h\n",
    "IdentityAgent ${WORD}/%k\nHostKeyAlias other\n",
    "ProxyJump bastion,u@b2:2200\n",
    "ProxyJump ssh://u@b2:2200/,ssh://b3\n",
    "ProxyJump [::1]:22\nProxyCommand nc\n",
    "HostName b\nProxyJump a,b\n",
    "User u\nPort 9\nProxyJump u@web1:9\n",
    "ProxyJump WEB1,db:23\n",
    "ProxyJump none\nProxyJump later\n",
    "ProxyJump none\nProxyCommand nc %h %p\n",
    "ProxyCommand none\nProxyJump later\n",
    "ProxyCommand nc -X 5 %h %p # stays\nProxyJump later\n",
    "ProxyCommand = nc %n '%r'\n",
    "ProxyJump %h.b\n",
    "Host web1\n ProxyJump a # comment\nHost *\n ProxyJump b\n",
    "Match host web1,db\n User m\nMatch all\n Port 10\n",
    "Match host !web1,*\n User m\n",
    "Match originalhost web1 !host other\n User o\nHost web1\n HostName other\n",
    "Host web1\n HostName other.example\nMatch host *.example\n User later\n",
    "Match user root,x host WEB1\n Port 11\nMatch localuser nobody\n Port 12\n",
    "User me\nMatch user me\n Port 13\n",
    "Match exec true\n Port 13\nMatch exec false\n Port 14\n",
    'Match !exec false\n User n\nMatch exec "test %h = db"\n Port 2\n',
    'Match host=db exec="test %n-%p-%r = db-22-root"\n Port 5\n',
    "Match !host web1 # comment\n User n\n",
    "Match all\n User a\n",
    "Match !all\n User a\nMatch host web1 all\n Port 3\n",
    "Match final\n User f\nMatch canonical\n Port 3\n",
    "Match final final\n User f\nForwardAgent yes\nForwardAgent /a\nForwardAgent /b\n",
    "ForwardAgent no\nForwardAgent /a\n",
    "Match final !final all\n User f\n",
    "Match !final\n User f\nMatch final all\n Port 3\n",
    "HostName bar\nHost bar\n Port 3\nMatch final\n User a\n",
    "Host web1\n HostName BAR\nMatch final host bar\n User a\nHost web1\n Port 4\n",
    "ConnectTimeout 7\nServerAliveInterval 1m30s\nServerAliveCountMax 2\n",
    "ConnectTimeout 1h\nServerAliveInterval 0\n",
    "StrictHostKeyChecking accept-new\nHashKnownHosts yes\nHostKeyAlias Alias\n",
    "StrictHostKeyChecking off\n",
    "StrictHostKeyChecking ASK\n",
    "Host web1\n StrictHostKeyChecking yes\nHost *\n StrictHostKeyChecking no\n",
    "UserKnownHostsFile ~/k1 %d/k2 ${WORD}\nGlobalKnownHostsFile /etc/k \"/etc/k 2\"\n",
    "UserKnownHostsFile none\nGlobalKnownHostsFile NONE\n",
    "AddressFamily inet\nBindAddress 127.0.0.1\nForwardAgent yes\n",
    "AddressFamily INET6\nForwardAgent no\n",
    "ForwardAgent ~/sock\n",
    "ForwardAgent ${WORD}\n",
    "SetEnv A=1 \"B=2 3\" A=4\nSetEnv C=1\n",
    "Ciphers aes128-ctr\nMACs +hmac-md5\nKexAlgorithms ^diffie-hellman-group1-sha1\n",
    "Ciphers -*cbc,aes*-ctr\nMACs -umac*\nHostKeyAlgorithms +ssh-rsa\n",
    "HostKeyAlgorithms ssh-ed25519,ecdsa*\nKexAlgorithms -*nistp*\nCiphers ^aes256-ctr,aes128-ctr\n",
    "Include extra/*.conf\nHost web1\n Port 20\n",
    "Host web1\n Include extra/a.conf extra/b.conf\nHost *\n User rest\n",
    "Host none\n Include extra/*\nHost *\n Port 3\n",
    "Include ~/.ssh/extra/[ab].conf\nInclude nothing*\n",
    "Match host db\n Include extra/b.conf\n Port 6\n",
    "Include extra/final.conf\n",
    "IgnoreUnknown Foo*,bar\nFoot a\nBar b\nUser c\n",
    "UseRoaming yes\nProtocol 2\nGSSAPIAuthentication yes\nSendEnv LANG\nUser c\n",
    "Host web1\n User one two\n",
    "User\n",
    "User \"a\nPort x\n",
    "Port 99999\n",
    "Host none\n Port 0\n",
    "Nonsense yes\n",
    "Host a \"\" b\n",
    "Match\n",
    "Match host\n",
    "Match foo x\n",
    "Match all host x\n",
    "Match final final all\n",
    "Match final host x all\n",
    "Match canonical all\n User a\n",
    "ForwardAgent yes\nForwardAgent /run/a\nForwardAgent /run/b\n",
    "Match host x all\n User a\n",
    "Match host x extra\n",
    "ConnectTimeout 1x\n",
    "ServerAliveCountMax 0x3\n",
    "StrictHostKeyChecking maybe\n",
    "UserKnownHostsFile a none\n",
    "UserKnownHostsFile \"\"\n",
    "IdentityAgent ${NOPE}\n",
    "UserKnownHostsFile ${NOPE}\n",
    "HostName %n\n",
    "SetEnv A\n",
    "ProxyJump a,\n",
    "ProxyJump a:0\n",
    "Include config\n",
    "Include extra/open\n",
    "Ciphers +\n",
]  # fmt: skip
EXTRA = {
    "a.conf": "User inc\nHost web1\n Port 21\n IdentityFile ~/inc\n",
    "b.conf": "Host db\n User second\nMatch all\n ConnectTimeout 3\n",
    "final.conf": "Match final host db\n User final\n",
    "open": "User anyone\n",
}


def make_home(folder: Path) -> Path:
    extra = folder / ".ssh" / "extra"
    extra.mkdir(parents=True, exist_ok=True)
    for name, text in EXTRA.items():
        (extra / name).write_text(text)
        (extra / name).chmod(0o666 if name == "open" else 0o600)
    return folder


def compare_settings(home: Path, text: str, hosts: tuple[str, ...]) -> None:
    file = home / ".ssh" / "config"
    file.write_bytes(text.encode())
    file.chmod(0o600)
    for host in hosts:
        ssh = settings_by_ssh(home, file, host)
        if ssh is None:
            with pytest.raises(SshConfigError):
                settings_by_orch(home, file, host)
        else:
            assert without_differences(
                settings_by_orch(home, file, host), home
            ) == without_differences(ssh, home), host


@pytest.mark.parametrize("text", CORPUS)
def test_every_setting_is_what_ssh_says(tmp_path: Path, text: str) -> None:
    compare_settings(make_home(tmp_path), text, HOSTS)


NAMES = st.sampled_from(["web1", "db", "web*", "*", "d?", "!web1", "!d*", "a.*", "other"])
WORDS = st.sampled_from(
    ["a", "b c", "%h", "x%%y", "none", "NONE", "~/f", "#", "a#b", "'", "\\", ""]
)


def quoted_words(words: list[str]) -> str:
    return " ".join(f'"{word}"' if " " in word or not word else word for word in words)


CRITERION = st.one_of(
    st.builds(
        lambda no, kind, names: f"{no}{kind} {','.join(names)}",
        st.sampled_from(["", "!"]),
        st.sampled_from(["host", "originalhost", "user", "localuser", "Host"]),
        st.lists(NAMES | st.just("root"), min_size=1, max_size=3),
    ),
    st.sampled_from(["all", "!all", "final", "!final", "canonical", "exec true", "exec false"]),
)
LINE = st.one_of(
    st.builds(lambda names: f"Host {' '.join(names)}", st.lists(NAMES, min_size=1, max_size=3)),
    st.builds(lambda found: f"Match {' '.join(found)}", st.lists(CRITERION, min_size=1, max_size=3)),
    st.builds(
        lambda name, gap, words: f"{name}{gap}{quoted_words(words)}",
        st.sampled_from(
            "User HostName HostKeyAlias IdentityFile CertificateFile BindAddress IdentityAgent "
            "UserKnownHostsFile GlobalKnownHostsFile SetEnv".split()
        ),
        st.sampled_from([" ", "=", " = ", "\t"]),
        st.lists(WORDS, min_size=1, max_size=2),
    ),
    st.builds(
        lambda name, value: f"  {name} {value}",
        st.sampled_from(
            "Port ConnectTimeout ServerAliveInterval ServerAliveCountMax IdentitiesOnly ForwardAgent "
            "StrictHostKeyChecking HashKnownHosts AddressFamily".split()
        ),
        st.sampled_from("0 1 22 1m 2h3 yes no true ask accept-new any inet6 none -1 65536".split()),
    ),
    st.sampled_from(
        ["ProxyJump none", "ProxyJump a,b:1", "ProxyCommand nc", "ProxyCommand none", "# hm", "",
         "Include extra/a.conf", "Include extra/final.conf", "Include nope"]
    ),
)  # fmt: skip


@settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(st.lists(LINE, max_size=9), st.sampled_from(["web1", "db", "a.b"]))
def test_any_file_means_what_ssh_takes_it_to_mean(lines: list[str], host: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        compare_settings(make_home(Path(folder)), "\n".join(lines), (host,))
