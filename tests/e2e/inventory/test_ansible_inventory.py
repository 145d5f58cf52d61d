"""Commands on stages with an inventory of Ansible, over a real sshd."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.yamlio.vault_format import encrypt_text
from tests.projects import OrchProject
from tests.sshd import SshdServer

PASSWORD = "open sesame"
SECRET = "correct-horse-battery"


def indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


@pytest.fixture
def ansible_project(project: OrchProject, sshd: SshdServer) -> OrchProject:
    """Write a project whose stage `prod` is an inventory of Ansible with encrypted values."""
    (project.root / "vault-password").write_text(f"{PASSWORD}\n")
    whole = encrypt_text(
        f"file_secret: {SECRET}-file\nansible_become_pass: x\n".encode(), PASSWORD.encode()
    )
    value = encrypt_text(f"{SECRET}-value".encode(), PASSWORD.encode(), "prod")
    folder = project.root / "inventories" / "prod"
    project.write(
        {
            "inventories/prod/hosts.ini": f"""\
                [web]
                web[1:2]
                web1 ansible_host=127.0.0.11
                web2 ansible_host=127.0.0.12
                [db]
                db1 ansible_host="{{{{ net }}}}.21" net=127.0.0
                [site:children]
                web
                db
                [all:vars]
                ansible_port={sshd.port}
                ansible_user={sshd.user}
                ansible_ssh_private_key_file={sshd.key}
                ansible_ssh_common_args='-o UserKnownHostsFile={sshd.known_hosts} -o IdentitiesOnly=yes'
                [web:vars]
                port=80
                """,
            "inventories/prod/apps/blog.yml": "roles: [web]\nvars: {deploy_to: ~/ansible-blog}\n",
            "tasks/ports.yml": """\
                roles: [web]
                steps:
                  - run: echo {{ inventory_hostname }} {{ port }} {{ groups['db'][0] }}
                    readonly: true
                """,
            "tasks/secrets.yml": """\
                steps:
                  - run: echo {{ file_secret }} {{ value_secret }}
                    readonly: true
                """,
            "tasks/deploy.yml": """\
                tasks:
                  - name: place
                    steps:
                      - directory: {path: "{{ deploy_to }}/{{ app }}"}
                  - commit
                """,
        }
    )
    (folder / "group_vars").mkdir()
    (folder / "group_vars" / "all").mkdir()
    (folder / "group_vars" / "all" / "vault.yml").write_text(whole)
    (folder / "group_vars" / "all" / "vars.yml").write_text(
        f"value_secret: !vault |\n{indented(value)}"
    )
    return project


def test_exec_and_limits_with_groups_need_no_password(ansible_project: OrchProject) -> None:
    done = ansible_project.orch("-s", "prod", "exec", "-l", "site:!web2", "--json", "--", "echo hi")
    assert done.code == 0, done.err
    assert {host: row["status"] for host, row in done.host_rows.items()} == {
        "web1": "changed",
        "db1": "changed",
    }


def test_values_of_ansible_are_those_of_the_tasks(ansible_project: OrchProject) -> None:
    env = {"ORCH_VAULT_PASSWORD_FILE": str(ansible_project.root / "vault-password")}
    done = ansible_project.orch("-s", "prod", "run", "ports", "--json", **env)
    assert done.code == 0, done.err
    (step,) = done.host_steps("web2")
    assert step["stdout"] == "web2 80 db1"


def test_secrets_of_vaults_are_used_and_masked(ansible_project: OrchProject) -> None:
    without = ansible_project.orch("-s", "prod", "run", "secrets")
    assert without.code == 2
    assert "cannot ask for the vault password" in without.err
    assert "ORCH_VAULT_PASSWORD_FILE" in without.err
    env = {"ORCH_VAULT_PASSWORD_FILE": str(ansible_project.root / "vault-password")}
    done = ansible_project.orch("-s", "prod", "run", "secrets", "-l", "db1", "--json", **env)
    assert done.code == 0, done.err
    (step,) = done.host_steps("db1")
    assert step["stdout"] == "‹file_secret› ‹value_secret›"
    assert SECRET not in done.out + done.err
    kept = "".join(path.read_text() for path in ansible_project.root.glob(".orch/runs/*/*"))
    assert SECRET not in kept
    shown = ansible_project.orch("-s", "prod", "vars", "web1", "--json", **env)
    names = ("file_secret", "value_secret", "port")
    assert [json.loads(shown.out)[name] for name in names] == [
        "‹file_secret›",
        "‹value_secret›",
        80,
    ]
    assert SECRET not in shown.out


def test_deploy_and_doctor(ansible_project: OrchProject, sshd: SshdServer) -> None:
    env = {"ORCH_VAULT_PASSWORD_FILE": str(ansible_project.root / "vault-password")}
    done = ansible_project.orch("-s", "prod", "run", "deploy", "--app", "blog", "-l", "web1", **env)
    assert done.code == 0, done.err + done.out
    assert (sshd.home / "ansible-blog" / "blog").is_dir()
    checked = ansible_project.orch("-s", "prod", "doctor", "-l", "web", **env)
    assert "web[1-2]" in checked.out, checked.err
    assert checked.code == 0, checked.out + checked.err


def test_an_inventory_without_a_project(ansible_project: OrchProject, tmp_path: Path) -> None:
    inventory = ansible_project.root / "inventories" / "prod"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    words = ("-i", str(inventory), "exec", "-l", "web1", "--json", "--", "echo hi")
    done = ansible_project.orch(*words, cwd=elsewhere, **state)
    assert done.code == 0, done.err
    assert done.host_rows.keys() == {"web1"}
    assert list(tmp_path.glob("state/orch/prod-*/.orch/runs/*/run.json"))
    assert not list(elsewhere.iterdir())
    after = ansible_project.orch(
        "exec", "-i", str(inventory), "-l", "web1", "--json", "--", "true", cwd=elsewhere, **state
    )
    assert after.code == 0, after.err


def test_lint_names_what_has_no_meaning(ansible_project: OrchProject) -> None:
    ansible_project.write(
        {"inventories/prod/host_vars/web1.yml": "ansible_winrm_transport: ntlm\nmy-var: 1\n"}
    )
    done = ansible_project.orch("-s", "prod", "lint")
    assert done.code == 0, done.err
    assert "web1.yml:1:1: note: 'ansible_winrm_transport' has no meaning for orch" in done.out
    assert "write vars['my-var']" in done.out
