"""Connection options with templates, secrets and passwords of an inventory of Ansible."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.commands.connections import check_connections, complete_connections
from orchestrator.errors import DefinitionError
from orchestrator.model.host import Stage
from orchestrator.model.secret import SecretResolver
from orchestrator.model.secret_masking import SecretMasker
from orchestrator.yamlio.secret_sources import secret_fetcher
from orchestrator.yamlio.vault_format import encrypt_text
from tests.unit.inventory.inventory_project import load_files

PASSWORD = "open sesame"


def complete(root: Path, files: dict[str, str], *, fetches: bool = True) -> tuple[Stage, list[str]]:
    """Return the stage with complete connections, and a log of the password's uses."""
    log = root / "log"
    log.write_text("")
    program = root / "password"
    program.write_text(f"#!/bin/sh\necho run >> {log}\necho {PASSWORD}\n")
    program.chmod(0o755)
    environ = {"ORCH_VAULT_PASSWORD_FILE": str(program), "PATH": "/usr/bin:/bin"}
    secrets = SecretResolver(SecretMasker(), secret_fetcher(environ) if fetches else None)
    stage = complete_connections(load_files(root, files), root, environ, secrets)
    return stage, log.read_text().split()


def vault_value(name: str, text: str) -> str:
    lines = encrypt_text(text.encode(), PASSWORD.encode()).splitlines()
    return f"{name}: !vault |\n" + "".join(f"  {line}\n" for line in lines)


def test_templates_are_rendered_for_each_host(tmp_path: Path) -> None:
    files = {
        "dev/hosts.ini": "web[1:2] ansible_port='{{ base + 22 }}'\n",
        "dev/group_vars/all.yml": "base: 2200\n"
        'ansible_host: "{{ inventory_hostname }}.example.net"\n'
        "ansible_ssh_common_args: \"-o ProxyJump={{ groups['all'][0] }}\"\n",
    }
    stage, _ = complete(tmp_path, files)
    connect = stage.hosts["web2"].connect
    assert (connect.address, connect.port) == ("web2.example.net", 2222)
    assert connect.ssh_options == ("ProxyJump=web1",)


def test_what_depends_on_a_secret_is_left_out_where_none_is_fetched(tmp_path: Path) -> None:
    files = {
        "dev/hosts.ini": "web1 ansible_user='{{ vault_user }}'\n",
        "dev/group_vars/all.yml": vault_value("vault_user", "deploy"),
    }
    stage, log = complete(tmp_path, files, fetches=False)
    assert stage.hosts["web1"].connect.user is None
    assert not log
    stage, log = complete(tmp_path, files)
    assert stage.hosts["web1"].connect.user == "deploy"
    assert log == ["run"]


@pytest.mark.parametrize("is_file", [True, False])
def test_passwords_are_decrypted_when_a_host_asks(tmp_path: Path, *, is_file: bool) -> None:
    whole = encrypt_text(b"ansible_become_pass: correct horse\n", PASSWORD.encode())
    value = vault_value("ansible_become_password", "correct horse")
    files = {"dev/hosts.ini": "web[1:2]\n", "dev/group_vars/all.yml": whole if is_file else value}
    stage, log = complete(tmp_path, files)
    assert not log
    password = stage.hosts["web1"].connect.become_password
    assert password is not None
    assert password.find() == "correct horse"
    assert (tmp_path / "log").read_text() == "run\n"
    login = stage.hosts["web1"].connect.password
    assert (login is None) is not is_file
    assert login is None or login.find() is None


def test_hosts_share_a_password_that_is_written_once(tmp_path: Path) -> None:
    files = {
        "dev/hosts.ini": "web[1:2]\nweb3 ansible_password=other\n",
        "dev/group_vars/all.yml": "ansible_password: correct horse\n",
    }
    stage, _ = complete(tmp_path, files)
    one, two, three = (host.connect.password for host in stage.hosts.values())
    assert one == two
    assert one is not None
    assert one.find() == "correct horse"
    assert one != three
    assert three is not None
    assert three.find() == "other"


def test_a_rendered_value_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    files = {"dev/hosts.ini": "web1 ansible_port='{{ p }}' p=http\n"}
    stage, _ = complete(tmp_path, files)
    with pytest.raises(DefinitionError, match="port of host 'web1' cannot be used"):
        check_connections(tuple(stage.hosts.values()))
    facts = {"dev/hosts.ini": "web1 ansible_port='{{ facts.os }}'\n"}
    with pytest.raises(DefinitionError, match=r"`port` depends on facts\.os"):
        complete(tmp_path, facts)
