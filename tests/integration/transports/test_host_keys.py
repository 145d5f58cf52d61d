"""Host keys: which are accepted, which are refused, and what is written to known_hosts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.errors import ConnectError
from orchestrator.model.host import ConnectionOptions
from orchestrator.transports import TransportRegistry
from tests.sshd import SshdServer, generate_key, serve_sshd
from tests.support.shell_talk import ask_shell

THREADS = 40
ROOT = Path(__file__).parents[3]


def refused_error(
    connector: TransportRegistry, sshd: SshdServer, connect: ConnectionOptions
) -> ConnectError:
    with pytest.raises(ConnectError) as caught:
        connector.connect(sshd.inventory_host(connect=connect))
    assert caught.value.phase == "host key"
    return caught.value


def write_lines(path: Path, *lines: str) -> tuple[str, ...]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return (str(path),)


def fingerprint(public: Path) -> str:
    output = subprocess.run(
        ["ssh-keygen", "-lf", public], check=True, capture_output=True, text=True
    )
    return output.stdout.split()[1]


def test_an_unknown_key_is_refused_with_its_fingerprint_and_what_to_do(
    sshd: SshdServer, connector: TransportRegistry, tmp_path: Path
) -> None:
    known = write_lines(tmp_path / "known")
    error = refused_error(connector, sshd, sshd.connect_options(known_hosts=known))
    assert f"[127.0.0.1]:{sshd.port} is not in {known[0]}" in error.reason
    assert f"ssh-ed25519 {fingerprint(sshd.folder / 'host_key.pub')}" in error.reason
    assert f"ssh-keyscan -p {sshd.port} 127.0.0.1 >> {known[0]}" in error.hint
    assert (tmp_path / "known").read_text() == ""


def test_the_usual_files_are_the_logins_own(
    sshd: SshdServer, connector: TransportRegistry, tmp_path: Path
) -> None:
    error = refused_error(connector, sshd, sshd.connect_options(known_hosts=()))
    assert f"{tmp_path}/home/.ssh/known_hosts, {tmp_path}/home/.ssh/known_hosts2" in error.reason


def test_a_changed_key_names_the_line_and_both_fingerprints(
    sshd: SshdServer, connector: TransportRegistry, tmp_path: Path
) -> None:
    old = generate_key(tmp_path / "old")
    kind, key = Path(f"{old}.pub").read_text().split()[:2]
    known = write_lines(
        tmp_path / "known", "# comment", "", f"[127.0.0.1]:{sshd.port} {kind} {key}"
    )
    for setting in ("strict", "accept-new"):
        error = refused_error(
            connector, sshd, sshd.connect_options(known_hosts=known, host_keys=setting)
        )
        assert f"{known[0]}:3 has {fingerprint(Path(f'{old}.pub'))}" in error.reason
        assert f"shows {fingerprint(sshd.folder / 'host_key.pub')}" in error.reason
        assert f"ssh-keygen -f {known[0]} -R '[127.0.0.1]:{sshd.port}'" in error.hint
    assert len((tmp_path / "known").read_text().splitlines()) == 3


def test_a_revoked_key_is_refused_though_it_is_known(
    sshd: SshdServer, connector: TransportRegistry, tmp_path: Path
) -> None:
    name = f"[127.0.0.1]:{sshd.port}"
    known = write_lines(tmp_path / "k", f"{name} {sshd.host_key}", f"@revoked * {sshd.host_key}")
    for setting in ("strict", "accept-new"):
        error = refused_error(
            connector, sshd, sshd.connect_options(known_hosts=known, host_keys=setting)
        )
        assert f"revoked at {known[0]}:2" in error.reason


def test_a_certificate_authority_whose_certificate_is_not_shown_is_noted(
    sshd: SshdServer, connector: TransportRegistry, tmp_path: Path
) -> None:
    known = write_lines(tmp_path / "known", f"@cert-authority *,* {sshd.host_key}")
    error = refused_error(connector, sshd, sshd.connect_options(known_hosts=known))
    noted = f"{known[0]}:1 is a @cert-authority, but the host shows no certificate"
    assert noted in error.reason


def test_hashed_names_are_found(
    sshd: SshdServer, connector: TransportRegistry, tmp_path: Path
) -> None:
    name = f"[127.0.0.1]:{sshd.port}"
    known = write_lines(tmp_path / "known", f"other {sshd.host_key}", f"{name} {sshd.host_key}")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", known[0]], check=True, capture_output=True)
    assert "127.0.0.1" not in (tmp_path / "known").read_text()
    assert (
        ask_shell(
            connector.connect(sshd.inventory_host(connect=sshd.connect_options(known_hosts=known))),
            "",
        ).status
        == 0
    )
    refused_error(connector, sshd, sshd.connect_options("127.0.0.2", known_hosts=known))


def test_a_changed_key_under_a_hashed_name_is_told_from_an_unknown_host(
    sshd: SshdServer, connector: TransportRegistry, tmp_path: Path
) -> None:
    kind, key = Path(f"{generate_key(tmp_path / 'old')}.pub").read_text().split()[:2]
    known = write_lines(tmp_path / "known", f"[127.0.0.1]:{sshd.port} {kind} {key}")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", known[0]], check=True, capture_output=True)
    connect = sshd.connect_options(known_hosts=known, host_keys="accept-new")
    assert "changed" in refused_error(connector, sshd, connect).reason


@pytest.mark.parametrize("hashed", [False, True])
def test_a_host_with_several_keys_shows_the_one_that_is_known(
    tmp_path: Path, connector: TransportRegistry, hashed: bool
) -> None:
    rsa = generate_key(tmp_path / "rsa", "rsa", bits=2048)
    with serve_sshd(tmp_path / "sshd", [f"HostKey {rsa}"]) as sshd:
        kind, key = Path(f"{rsa}.pub").read_text().split()[:2]
        known = write_lines(tmp_path / "known", f"[127.0.0.1]:{sshd.port} {kind} {key}")
        if hashed:
            command = ["ssh-keygen", "-q", "-H", "-f", known[0]]
            subprocess.run(command, check=True, capture_output=True)
        connect = sshd.connect_options(known_hosts=known, retries=0)
        assert ask_shell(connector.connect(sshd.inventory_host(connect=connect)), "").status == 0


def test_a_key_of_another_type_than_the_known_one_is_not_accepted_as_new(
    sshd: SshdServer, connector: TransportRegistry, tmp_path: Path
) -> None:
    rsa = Path(f"{generate_key(tmp_path / 'rsa', 'rsa', bits=2048)}.pub").read_text().split()[:2]
    known = write_lines(tmp_path / "known", f"[127.0.0.1]:{sshd.port} {' '.join(rsa)}")
    connect = sshd.connect_options(known_hosts=known, host_keys="accept-new")
    error = refused_error(connector, sshd, connect)
    assert f"{known[0]}:1 has ssh-rsa" in error.reason
    assert "shows ssh-ed25519" in error.reason


def test_a_key_known_for_the_host_without_its_port_is_believed(
    sshd: SshdServer, connector: TransportRegistry, tmp_path: Path
) -> None:
    known = write_lines(tmp_path / "known", f"127.0.0.1 {sshd.host_key}")
    connector.connect(sshd.inventory_host(connect=sshd.connect_options(known_hosts=known)))


def test_accept_new_writes_one_line_for_each_host_however_many_ask(
    sshd: SshdServer, connector: TransportRegistry, tmp_path: Path
) -> None:
    path = tmp_path / "ssh" / "known"
    addresses = [f"127.9.0.{n % 5 + 1}" for n in range(THREADS)]

    def connect(address: str) -> None:
        settings = sshd.connect_options(address, known_hosts=(str(path),), host_keys="accept-new")
        connector.connect(sshd.inventory_host(address, settings)).close()

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(connect, addresses))
    lines = path.read_text().splitlines()
    assert sorted(lines) == sorted(f"[{a}]:{sshd.port} {sshd.host_key}" for a in set(addresses))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_accept_new_hashes_the_name_where_ssh_config_wants_that(
    sshd: SshdServer, tmp_path: Path
) -> None:
    config, path = tmp_path / "config", tmp_path / "known"
    config.write_text("HashKnownHosts yes\n")
    settings = sshd.connect_options(known_hosts=(str(path),), host_keys="accept-new")
    for host_keys in ("accept-new", "strict"):
        with closing(
            TransportRegistry(home=tmp_path, environ={}, ssh_config=str(config))
        ) as connector:
            connector.connect(sshd.inventory_host(connect=replace(settings, host_keys=host_keys)))
    (line,) = path.read_text().splitlines()
    assert line.startswith("|1|")
    command = ["ssh-keygen", "-F", f"[127.0.0.1]:{sshd.port}", "-f", path]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert sshd.host_key in found


def test_accept_new_writes_one_line_for_each_host_in_several_processes(
    sshd: SshdServer, tmp_path: Path
) -> None:
    path = tmp_path / "known"
    addresses = [f"127.9.1.{n + 1}" for n in range(10)]
    command = [sys.executable, "-m", "tests.support.learning_hosts"]
    arguments = [str(sshd.port), str(sshd.key), str(path), *addresses]
    workers = [subprocess.Popen(command + arguments, cwd=ROOT) for _ in range(3)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    lines = path.read_text().splitlines()
    assert sorted(lines) == sorted(f"[{a}]:{sshd.port} {sshd.host_key}" for a in addresses)


def test_accept_new_does_not_glue_its_line_to_an_unfinished_one(
    sshd: SshdServer, connector: TransportRegistry, tmp_path: Path
) -> None:
    path = tmp_path / "known"
    path.write_text(f"other {sshd.host_key}")
    connect = sshd.connect_options(known_hosts=(str(path),), host_keys="accept-new")
    connector.connect(sshd.inventory_host(connect=connect))
    assert path.read_text() == (f"other {sshd.host_key}\n[127.0.0.1]:{sshd.port} {sshd.host_key}\n")


def test_without_record_nothing_is_written_and_the_key_counts_for_the_run(
    sshd: SshdServer, make_connector: Callable[..., TransportRegistry], tmp_path: Path
) -> None:
    path = tmp_path / "known"
    connector = make_connector(record=False)
    connect = sshd.connect_options(known_hosts=(str(path),), host_keys="accept-new")
    for _ in range(2):
        assert ask_shell(connector.connect(sshd.inventory_host(connect=connect)), "").status == 0
    assert not path.exists()


def test_a_known_hosts_file_that_cannot_be_read_or_written_says_so(
    sshd: SshdServer, connector: TransportRegistry, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    error = refused_error(
        connector, sshd, sshd.connect_options(known_hosts=(str(tmp_path / "folder"),))
    )
    assert f"can't read {tmp_path / 'folder'}" in error.reason
    (tmp_path / "file").write_text("")
    under = (str(tmp_path / "file" / "known"),)
    error = refused_error(
        connector, sshd, sshd.connect_options(known_hosts=under, host_keys="accept-new")
    )
    assert "can't" in error.reason
