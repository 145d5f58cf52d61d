"""Commands on stages with an inventory of Ansible, over a real sshd."""

from __future__ import annotations

import json
import shlex
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


def test_what_only_ansible_has_is_an_error_if_a_task_uses_it(ansible_project: OrchProject) -> None:
    ansible_project.write(
        {
            "inventories/prod/group_vars/web.yml": "bad: \"{{ 'x' | to_nice_yaml_of_theirs }}\"\n",
            "tasks/bad.yml": "roles: [web]\nsteps:\n  - run: echo {{ bad }}\n",
        }
    )
    env = {"ORCH_VAULT_PASSWORD_FILE": str(ansible_project.root / "vault-password")}
    assert ansible_project.orch("-s", "prod", "run", "ports", **env).code == 0
    done = ansible_project.orch("-s", "prod", "run", "bad", **env)
    assert done.code == 3
    assert "there is no filter 'to_nice_yaml_of_theirs'" in done.err
    assert "group_vars/web.yml:1:" in done.err
    linted = ansible_project.orch("-s", "prod", "lint")
    assert linted.code == 0, linted.err
    assert "note: a task that uses this value would fail: there is no filter" in linted.out


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
    history = ansible_project.orch("history", "-i", str(inventory), cwd=elsewhere, **state)
    assert history.out.count("exec") == 2
    words = ("-i", str(inventory), "exec", "-l", "web1", "--", f"test -e {tmp_path}/flag")
    stopped = ansible_project.orch(*words, cwd=elsewhere, **state)
    assert stopped.code == 1
    again = next(line for line in stopped.out.splitlines() if line.startswith("to resume: "))
    (tmp_path / "flag").touch()
    resumed = ansible_project.orch(*shlex.split(again)[3:], cwd=elsewhere, **state)
    assert resumed.code == 0, resumed.err
    failed = ansible_project.orch(
        "-i", str(inventory), "hosts", "-l", "@failed", cwd=elsewhere, **state
    )
    assert "every host completed in the last run of stage 'prod'" in failed.err


def test_lint_names_what_has_no_meaning(ansible_project: OrchProject) -> None:
    ansible_project.write(
        {"inventories/prod/host_vars/web1.yml": "ansible_winrm_transport: ntlm\nmy-var: 1\n"}
    )
    done = ansible_project.orch("-s", "prod", "lint")
    assert done.code == 0, done.err
    assert "web1.yml:1:1: note: 'ansible_winrm_transport' has no meaning for orch" in done.out
    assert "write vars['my-var']" in done.out


@pytest.mark.parametrize("transport", ["ssh", "openssh"])
def test_options_of_ssh_lead_through_a_jump_host(
    ansible_project: OrchProject, transport: str
) -> None:
    ansible_project.write(
        {
            "inventories/prod/group_vars/site.yml": f"ansible_connection: {transport}\n",
            "inventories/prod/host_vars/db1.yml": "ansible_ssh_extra_args: -o ProxyJump=web1\n",
            "inventories/prod/host_vars/web2.yml": f"""\
                ansible_ssh_extra_args: -o "ProxyCommand=bash {ansible_project.root}/proxy %h %p"
                """,
            "proxy": "exec 3<>/dev/tcp/$1/$2; echo $1 > used; cat <&3 & exec cat >&3\n",
        }
    )
    words = ("exec", "-l", "db1:web2", "--json", "--", "echo $SSH_CONNECTION")
    done = ansible_project.orch("-s", "prod", *words)
    assert done.code == 0, done.host_rows
    assert {row["status"] for row in done.host_rows.values()} == {"changed"}
    assert (ansible_project.root / "used").read_text() == "127.0.0.12\n"
    doctor = ansible_project.orch("-s", "prod", "doctor", "-l", "db1", "--json")
    assert '"via":["web1"]' in doctor.out.replace(" ", ""), doctor.out


def test_a_value_that_cannot_be_used_is_an_error_for_its_host_only(
    ansible_project: OrchProject,
) -> None:
    ansible_project.write({"inventories/prod/host_vars/db1.yml": "ansible_connection: winrm\n"})
    other = ansible_project.orch("-s", "prod", "exec", "-l", "web1", "--", "true")
    assert other.code == 0, other.err
    its_own = ansible_project.orch("-s", "prod", "exec", "-l", "db1", "--", "true")
    assert its_own.code == 3
    assert "db1.yml:1:21" in its_own.err
    assert "orch cannot connect by 'winrm'" in its_own.err
    doctor = ansible_project.orch("-s", "prod", "doctor", "-l", "web1")
    assert "note: 'ansible_connection' cannot be used: orch cannot connect by 'winrm'" in doctor.err


def test_become_of_the_inventory_is_that_of_every_step(ansible_project: OrchProject) -> None:
    ansible_project.write(
        {
            "inventories/prod/group_vars/web.yml": "ansible_become: true\nansible_become_user: app\n",
            "tasks/who.yml": """\
                roles: [web]
                steps:
                  - run: id -un
                  - run: id -un
                    become: false
                  - run: id -un
                    become: true
                  - run: id -un
                    become: other
                """,
        }
    )
    done = ansible_project.orch("-s", "prod", "plan", "who", "-l", "web1", "--json")
    assert done.code == 0, done.err
    steps = json.loads(done.out)["lanes"][0]["waves"][0]["hosts"][0]["steps"]
    assert [step["become"] for step in steps] == ["app", "", "app", "other"]


def test_connection_settings_in_an_encrypted_file_are_an_error(
    ansible_project: OrchProject,
) -> None:
    text = encrypt_text(b"ansible_user: root\n", PASSWORD.encode())
    (ansible_project.root / "inventories/prod/group_vars/web.yml").write_text(text)
    env = {"ORCH_VAULT_PASSWORD_FILE": str(ansible_project.root / "vault-password")}
    done = ansible_project.orch("-s", "prod", "run", "secrets", "-l", "web1", **env)
    assert done.code == 3
    assert "'ansible_user' is in an encrypted file" in done.err


def test_an_encrypted_inventory_is_read_with_the_password(ansible_project: OrchProject) -> None:
    text = encrypt_text(b"[cache]\nc1\n", PASSWORD.encode())
    (ansible_project.root / "inventories/prod/more").write_text(text)
    env = {"ORCH_VAULT_PASSWORD_FILE": str(ansible_project.root / "vault-password")}
    assert "c1" in ansible_project.orch("-s", "prod", "hosts", **env).out
    without = ansible_project.orch("-s", "prod", "hosts")
    assert without.code == 2
    assert "cannot ask for the vault password" in without.err


def test_a_stage_of_orch_has_encrypted_values_as_well(project: OrchProject) -> None:
    value = encrypt_text(SECRET.encode(), PASSWORD.encode())
    (project.root / "pw").write_text(PASSWORD)
    project.write({"tasks/t.yml": "steps:\n  - run: echo {{ key }}\n"})
    project.write({"inventories/dev/stage.yml": ""})
    folder = project.root / "inventories/dev"
    (folder / "stage.yml").write_text(
        f"connect: {{transport: local}}\nvars:\n  key: !vault |\n{indented(indented(value))}"
    )
    (folder / "hosts.yml").write_text("web1:\n")
    done = project.orch("-s", "dev", "run", "t", "--json", ORCH_VAULT_PASSWORD_FILE="pw")
    assert done.code == 0, done.err
    assert done.host_steps("web1")[0]["stdout"] == "‹key›"


def test_orch_does_not_write_into_an_inventory_of_ansible(ansible_project: OrchProject) -> None:
    done = ansible_project.orch("-s", "prod", "new", "host", "web3")
    assert done.code == 2
    assert "are those of an inventory of Ansible" in done.err
    assert not (ansible_project.root / "inventories/prod/hosts").exists()


def test_names_of_the_inventory_are_completed(ansible_project: OrchProject) -> None:
    inventory = str(ansible_project.root / "inventories" / "prod")
    for words in ("orch -s prod vars we", f"orch -i {inventory} vars we"):
        env = {"_ORCH_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "4"}
        done = ansible_project.orch(**env)
        assert [line.rpartition(",")[2] for line in done.out.splitlines()] == ["web1", "web2"]
