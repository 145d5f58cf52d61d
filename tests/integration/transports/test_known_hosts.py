"""The index of known_hosts: which lines apply to which host, compared with ssh-keygen."""

from __future__ import annotations

import base64
import fcntl
import hmac
import subprocess
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import ConnectError
from orchestrator.model.host import ConnectionOptions
from orchestrator.transports.ssh.host_key_policy import KnownHostsStore
from orchestrator.transports.ssh.known_hosts import HostKeyStatus, KnownHosts, known_hosts_name
from orchestrator.transports.ssh.shared_known_hosts import OwnKnownHosts

ED = "ssh-ed25519"


def key_blob(text: str, kind: str = ED) -> bytes:
    """Return a public key's blob, derived from a name."""
    return len(kind).to_bytes(4, "big") + kind.encode() + text.encode()


def known_hosts_line(names: str, text: str = "a", kind: str = ED, marker: str = "") -> str:
    return (
        f"{marker} {names} {kind} {base64.b64encode(key_blob(text, kind)).decode()} me@here".strip()
    )


def make_index(path: Path, *lines: str) -> KnownHosts:
    path.write_text("".join(f"{row}\n" for row in lines))
    return KnownHosts((path,))


def host_key_status(known: KnownHosts, name: str, text: str = "a", kind: str = ED) -> HostKeyStatus:
    return known.check(name, kind, key_blob(text, kind)).status


@pytest.mark.parametrize(
    ("names", "name", "known"),
    [
        ("web1", "web1", True),
        ("web1,web2", "web2", True),
        ("Web1", "wEB1", True),
        ("web1", "web11", False),
        ("web1", "[web1]:2222", False),
        ("[web1]:2222", "[web1]:2222", True),
        ("[::1]:2222", "[::1]:2222", True),
        ("fe80::1", "fe80::1", True),
        ("web*", "web7", True),
        ("web?", "web7", True),
        ("web?", "web77", False),
        ("*.example.net", "a.b.example.net", True),
        ("*.example.net", "example.net", False),
        ("w.b1", "web1", False),
        ("*,!web1", "web1", False),
        ("*,!web1", "web2", True),
        ("!web1,*", "web1", False),
        ("!web1", "web2", False),
        ("[*]:22?2", "[x]:2222", True),
        ("web[12]", "web1", False),
    ],
)
def test_names_and_patterns(tmp_path: Path, names: str, name: str, known: bool) -> None:
    hosts = make_index(tmp_path / "k", known_hosts_line(names))
    assert (host_key_status(hosts, name) is HostKeyStatus.KNOWN) == known
    assert host_key_status(hosts, name, "other") is (
        HostKeyStatus.CHANGED if known else HostKeyStatus.UNKNOWN
    )


@pytest.mark.parametrize(
    "row",
    [
        "",
        "# web1 x y",
        "web1",
        "web1 ssh-ed25519",
        "@revoked web1 ssh-ed25519",
        "|1|x web1 y",
        "\0",
    ],
)
def test_lines_that_say_nothing_are_passed_over(tmp_path: Path, row: str) -> None:
    hosts = make_index(
        tmp_path / "k", row, known_hosts_line("web2"), "|1|!|! ssh-ed25519 AAAA", "\xff\xfe a b"
    )
    assert host_key_status(hosts, "web2") is HostKeyStatus.KNOWN
    assert host_key_status(hosts, "web1") is HostKeyStatus.UNKNOWN


def test_any_of_several_keys_will_do(tmp_path: Path) -> None:
    hosts = make_index(
        tmp_path / "k",
        known_hosts_line("w", "a"),
        known_hosts_line("w", "b"),
        known_hosts_line("w", "c", "ssh-rsa"),
    )
    assert host_key_status(hosts, "w", "b") is HostKeyStatus.KNOWN
    assert host_key_status(hosts, "w", "d") is HostKeyStatus.CHANGED
    assert host_key_status(hosts, "w", "d", "ecdsa-sha2-nistp256") is HostKeyStatus.OTHER_TYPE
    assert hosts.key_types("w") == (ED, "ssh-rsa")


def test_a_revocation_wins_wherever_it_stands(tmp_path: Path) -> None:
    hosts = make_index(
        tmp_path / "k",
        known_hosts_line("*.net", "a", marker="@revoked"),
        known_hosts_line("x.net"),
        known_hosts_line("y"),
    )
    assert host_key_status(hosts, "x.net") is HostKeyStatus.REVOKED
    assert host_key_status(hosts, "y") is HostKeyStatus.KNOWN


def test_an_authority_is_no_key(tmp_path: Path) -> None:
    hosts = make_index(tmp_path / "k", known_hosts_line("w", "a", marker="@cert-authority"))
    verdict = hosts.check("w", ED, key_blob("a"))
    assert verdict.status is HostKeyStatus.UNKNOWN
    assert verdict.authority is not None
    assert hosts.key_types("w") == ()


def test_the_line_is_told(tmp_path: Path) -> None:
    hosts = make_index(tmp_path / "k", "# one", known_hosts_line("v"), known_hosts_line("w"))
    entry = hosts.check("w", ED, key_blob("other")).entries[0]
    assert (entry.path, entry.line_number) == (str(tmp_path / "k"), 3)


@given(st.lists(st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True), min_size=1, unique=True))
def test_hashed_names_are_those_that_ssh_hashes(names: list[str]) -> None:
    rows = []
    for name in names[1:]:
        salt = name.encode().ljust(20, b"s")[:20]
        digest = hmac.digest(salt, name.encode(), "sha1")
        field = f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"
        rows.append(known_hosts_line(field, name))
    hosts = KnownHosts(())
    hosts._index_lines(Path("k"), "\n".join(rows).encode())
    for name in names[1:]:
        assert host_key_status(hosts, name, name) is HostKeyStatus.KNOWN
        assert host_key_status(hosts, name, names[0]) is HostKeyStatus.CHANGED
    assert host_key_status(hosts, names[0], names[0]) is HostKeyStatus.UNKNOWN


def test_what_ssh_keygen_hashes_is_found(tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    kind, text = Path(f"{key}.pub").read_text().split()[:2]
    path = tmp_path / "k"
    path.write_text(f"web1,[web1]:2222 {kind} {text}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], check=True, capture_output=True)
    hosts, public = KnownHosts((path,)), base64.b64decode(text)
    assert hosts.check("web1", kind, public).status is HostKeyStatus.KNOWN
    assert hosts.check("[web1]:2222", kind, public).status is HostKeyStatus.KNOWN
    assert hosts.check("web2", kind, public).status is HostKeyStatus.UNKNOWN


def test_known_hosts_cost_no_look_at_the_others(tmp_path: Path, monkeypatch) -> None:
    """300 hosts among 2,000 hashed lines: each is found with one hash, not with 2,000."""
    rows = []
    for number in range(2000):
        salt = number.to_bytes(20, "big")
        digest = hmac.digest(salt, f"h{number}".encode(), "sha1")
        field = f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"
        rows.append(known_hosts_line(field, f"key{number}"))
    hosts = make_index(tmp_path / "k", *rows)
    hashes = 0
    real = hmac.digest

    def counted(*args: object) -> bytes:
        nonlocal hashes
        hashes += 1
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(hmac, "digest", counted)
    for number in range(300):
        assert host_key_status(hosts, f"h{number}", f"key{number}") is HostKeyStatus.KNOWN
    assert hashes == 300


def test_what_another_process_wrote_meanwhile_counts(tmp_path: Path) -> None:
    mine = make_index(tmp_path / "k", known_hosts_line("v"))
    theirs = KnownHosts((tmp_path / "k",))
    assert theirs.add("w", ED, key_blob("theirs"), write_file=True).status is HostKeyStatus.KNOWN
    verdict = mine.add("w", ED, key_blob("mine"), write_file=True)
    assert verdict.status is HostKeyStatus.CHANGED
    assert verdict.entries[0].line_number == 2
    assert len((tmp_path / "k").read_text().splitlines()) == 2


def test_an_add_waits_for_another_process_and_sees_what_it_wrote(tmp_path: Path) -> None:
    path = tmp_path / "k"
    hosts = KnownHosts((path,))
    with path.open("w") as theirs, ThreadPoolExecutor(1) as pool:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        adding = pool.submit(hosts.add, "w", ED, key_blob("mine"), write_file=True)
        assert not wait([adding], 0.1).done
        theirs.write(known_hosts_line("w", "theirs") + "\n")
        theirs.flush()
        fcntl.flock(theirs, fcntl.LOCK_UN)
        assert adding.result(20).status is HostKeyStatus.CHANGED
    assert len(path.read_text().splitlines()) == 1


def test_indexes_that_add_at_the_same_moment_write_one_line(tmp_path: Path) -> None:
    """Each index stands for a process that shares only the file."""
    indexes = [KnownHosts((tmp_path / "k",)) for _ in range(12)]
    names = [f"h{number}" for number in range(40)]
    barrier = Barrier(len(indexes))

    def add(hosts: KnownHosts) -> None:
        for name in names:
            barrier.wait(20)
            assert (
                hosts.add(name, ED, key_blob(name), write_file=True).status is HostKeyStatus.KNOWN
            )

    with ThreadPoolExecutor(len(indexes)) as pool:
        list(pool.map(add, indexes))
    lines = (tmp_path / "k").read_text().splitlines()
    assert sorted(row.split()[0] for row in lines) == sorted(names)


def test_a_file_that_keeps_nothing_is_enough_for_this_run() -> None:
    hosts = KnownHosts((Path("/dev/null"),))
    assert hosts.add("w", ED, key_blob("a"), write_file=True).status is HostKeyStatus.KNOWN
    assert host_key_status(hosts, "w", "b") is HostKeyStatus.CHANGED


def test_names_with_ports() -> None:
    assert known_hosts_name("Web1", 22) == "web1"
    assert known_hosts_name("web1", 2222) == "[web1]:2222"
    assert known_hosts_name("::1", 22) == "::1"


@pytest.mark.parametrize(
    ("ours", "theirs", "refusal"),
    [
        ("", known_hosts_line("web"), ""),
        (known_hosts_line("web"), "", ""),
        (known_hosts_line("web"), known_hosts_line("w*"), ""),
        ("", known_hosts_line("web,web2", "b"), "the key of web changed: coordinator:"),
        (known_hosts_line("web"), known_hosts_line("web", "b"), "two keys are known for web"),
        (known_hosts_line("web", "b"), known_hosts_line("web"), "two keys are known for web"),
        (known_hosts_line("web"), known_hosts_line("web", "b", "ssh-rsa"), ""),
        (known_hosts_line("web"), known_hosts_line("web", marker="@revoked"), "is revoked"),
        (known_hosts_line("web", marker="@revoked"), known_hosts_line("web"), "is revoked"),
        ("", known_hosts_line("other"), "here or at the coordinator"),
    ],
)
def test_lines_of_another_machine_count_like_ones_own(
    tmp_path: Path, ours: str, theirs: str, refusal: str
) -> None:
    for home, line in (("here", ours), ("there", theirs)):
        (tmp_path / home / ".ssh").mkdir(parents=True)
        (tmp_path / home / ".ssh/known_hosts").write_text(f"\n{line}\n")
    store = KnownHostsStore(
        tmp_path / "here", record_host_keys=True, shared=OwnKnownHosts(tmp_path / "there")
    )
    verifier = store.verifier_for(ConnectionOptions("web"), 22)
    if not refusal:
        verifier.verify(key_blob("a"))
        return
    with pytest.raises(ConnectError, match=refusal) as refused:
        verifier.verify(key_blob("a"))
    if "two keys" in refusal or "changed" in refusal:
        assert f"coordinator:{tmp_path}/there/.ssh/known_hosts:2 has" in refused.value.reason


def test_accepted_keys_are_added_on_the_other_machine_and_the_first_one_counts(
    tmp_path: Path,
) -> None:
    shared = OwnKnownHosts(tmp_path / "there")
    first, second = (
        KnownHostsStore(tmp_path / name, record_host_keys=True, shared=shared).verifier_for(
            ConnectionOptions("web", host_keys="accept-new"), 22
        )
        for name in ("one", "two")
    )
    first.verify(key_blob("a"))
    first.verify(key_blob("a"))
    second.verify(key_blob("a"))
    third = KnownHostsStore(tmp_path / "three", record_host_keys=True, shared=shared)
    changed = third.verifier_for(ConnectionOptions("web", host_keys="accept-new"), 22)
    with pytest.raises(ConnectError, match="the key of web changed"):
        changed.verify(key_blob("b"))
    line = known_hosts_line("web").removesuffix(" me@here")
    assert (tmp_path / "there/.ssh/known_hosts").read_text() == f"{line}\n"
    assert not any((tmp_path / name).exists() for name in ("one", "two", "three"))
