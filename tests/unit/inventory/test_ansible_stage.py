"""A stage whose hosts are those of an inventory of Ansible."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from orchestrator.inventory.precedence import host_variables
from orchestrator.inventory.programs import InventoryAccess
from orchestrator.inventory.stage_loader import load_inventories
from orchestrator.model.host import Stage
from orchestrator.model.secret import Secret
from tests.compare import ansible_inventories
from tests.unit.inventory.inventory_project import (
    load_files,
    only_problem,
    stage_problems,
    write_inventory,
)


def variables(stage: Stage, host: str) -> dict[str, object]:
    """Return the variables of a host as written."""
    return {str(k): v.to_plain() for k, v in host_variables(stage.hosts[host]).items()}


@pytest.mark.parametrize("mark", ["group_vars/all.yml", "host_vars/web1", "hosts.ini"])
def test_a_folder_of_ansible_is_a_stage_by_itself(tmp_path: Path, mark: str) -> None:
    files = {"dev/hosts.ini": "", f"dev/{mark}": "", "dev/inventory": "[web]\nweb1\n"}
    found = load_files(tmp_path, files)
    assert found.is_ansible
    assert found.roles["web"].hosts == ("web1",)


def test_stage_yml_names_inventories_beside_its_own_settings(tmp_path: Path) -> None:
    (tmp_path / "ansible").mkdir()
    (tmp_path / "ansible" / "hosts").write_text("[web]\nweb1\n")
    found = load_files(
        tmp_path,
        {
            "dev/stage.yml": "ansible: [ansible/hosts, more.yml]\nvars: {x: 1, y: 1}\n"
            "connect: {user: deploy, port: 22}\nprotected: true\n",
            "dev/more.yml": "all: {vars: {y: 2}, hosts: {db1: {ansible_port: 2222}}}\n",
            "dev/apps/blog.yml": "roles: [web]\n",
        },
    )
    assert list(found.hosts) == ["web1", "db1"]
    assert variables(found, "web1") == {"x": 1, "y": 2}
    assert found.hosts["db1"].connect.port == 2222
    assert found.hosts["db1"].connect.user == "deploy"
    assert found.protected
    assert found.apps["blog"].lives_on(found.hosts["web1"])
    assert not found.apps["blog"].lives_on(found.hosts["db1"])


def test_an_inventory_that_does_not_exist_is_an_error_at_its_name(tmp_path: Path) -> None:
    found = only_problem(tmp_path, {"dev/stage.yml": "ansible: nothing/here\n"})
    assert "'nothing/here', which does not exist" in found.message
    assert str(found.mark).endswith("stage.yml:1:10")


def test_hosts_of_orch_beside_an_inventory_are_an_error(tmp_path: Path) -> None:
    files = {"dev/stage.yml": "ansible: inv\n", "dev/inv": "web1\n", "dev/hosts/web1.yml": ""}
    assert "hosts/ is not read" in only_problem(tmp_path, files).message


def test_precedence_is_that_of_ansible(tmp_path: Path) -> None:
    root = write_inventory(
        tmp_path,
        {
            "dev/hosts.ini": "[outer:children]\ninner\nbeta\n[inner]\nh a=host d=host\n[alpha]\nh\n"
            "[beta]\nh\n"
            "[all:vars]\na=all\nb=all\nc=all\nd=all\ne=all\nf=all\ng=all\n"
            "[outer:vars]\nb=outer\n[inner:vars]\nb=inner\n[beta:vars]\nb=beta\n"
            "[alpha:vars]\nansible_group_priority=10\nx=alpha\n[outer:vars]\nx=outer\n",
            "dev/group_vars/all/1.yml": "c: file1\ne: file1\nm: {a: 1, b: 1}\n",
            "dev/group_vars/all/2.yml": "e: file2\nm: {c: 1}\n",
            "dev/group_vars/all/notes.txt": "e: text",
            "dev/group_vars/outer": "f: outer\nc: outer\n",
            "dev/group_vars/inner.json": '{"f": "inner"}',
            "dev/host_vars/h.yaml": "d: file\n",
        },
    )
    (root / "group_vars").mkdir()
    (root / "group_vars" / "all.yml").write_text("g: project\nc: project\n")
    (root / "host_vars").mkdir()
    (root / "host_vars" / "h").write_text("n: project\n")
    found = variables(load_files(tmp_path, {}), "h")
    assert found == {
        "a": "host",  # a host's own
        "b": "inner",  # the later name of two groups of one depth
        "c": "outer",  # a file of a group over that of all, over sources
        "d": "file",  # host_vars/ over the host's line
        "e": "file2",  # the later file
        "f": "inner",  # the deeper group
        "g": "project",  # beside the project over beside the inventory
        "m": {"c": 1},  # a mapping replaces another
        "n": "project",
        "x": "alpha",  # the higher priority of one depth
    }


def test_a_value_keeps_its_file_and_line_and_what_it_replaced(tmp_path: Path) -> None:
    files = {
        "dev/hosts.ini": "[web]\nh\n[web:vars]\nx=1\n",
        "dev/group_vars/web.yml": "y: 1\nx: 2\n",
    }
    value = host_variables(load_files(tmp_path, files).hosts["h"])["x"]
    assert str(value.mark).endswith("group_vars/web.yml:2:4")
    assert value.overridden is not None
    assert str(value.overridden.mark).endswith("hosts.ini:4:3")


def test_yaml_has_the_types_of_ansible(tmp_path: Path) -> None:
    text = "all:\n  hosts:\n    h[1:2]:\n      a: yes\n      b: 0644\n      c: 1:30\n      d: 1e3\n"
    text += "      e: !unsafe '{{ x }}'\n      f: {8080: 1, on: 2}\n      a: no\n"
    found = load_files(tmp_path, {"dev/hosts.yml": text, "dev/group_vars/": ""})
    assert variables(found, "h2") == {
        "a": False,
        "b": 420,
        "c": 90,
        "d": "1e3",
        "e": "{{ x }}",
        "f": {"8080": 1, "true": 2},
    }
    assert host_variables(found.hosts["h1"])["e"].literal


def test_connection_variables_are_connect_settings(tmp_path: Path) -> None:
    line = (
        "h ansible_host=10.0.0.5 ansible_port=2222 ansible_user=deploy ansible_connection=smart"
        " ansible_ssh_private_key_file=~/.ssh/key ansible_become=yes ansible_become_user=app"
        " ansible_become_method=doas ansible_ssh_timeout=5"
        " ansible_ssh_common_args='-o ProxyCommand=\"ssh -W %h:%p -q gate\" -C'"
        " ansible_ssh_extra_args='-J gate -oControlMaster=auto'\n"
        "local ansible_connection=local\n"
    )
    found = load_files(tmp_path, {"dev/hosts.ini": line})
    connect = found.hosts["h"].connect
    assert (connect.address, connect.port, connect.user) == ("10.0.0.5", 2222, "deploy")
    assert connect.identity == ("~/.ssh/key",)
    assert (connect.become, connect.become_user, connect.become_method) == (True, "app", "doas")
    assert connect.timeout == 5
    assert connect.ssh_options == ("ProxyCommand=ssh -W %h:%p -q gate", "ProxyJump=gate")
    assert found.hosts["local"].connect.transport == "local"
    assert not found.connection_notes


def test_what_is_not_understood_is_a_note_and_no_error(tmp_path: Path) -> None:
    line = (
        "a ansible_connection=winrm ansible_winrm_transport=ntlm ansible_port=x\n"
        "b ansible_ssh_extra_args='-L 1:x:2' ansible_python_interpreter=/usr/bin/python3\n"
        "c my-var=1 env=prod\n"
    )
    found = load_files(tmp_path, {"dev/hosts.ini": line})
    notes = " / ".join(text for text, _ in found.notes)
    for part in ("'ansible_winrm_transport' has", "by 'winrm'", "found 'x'", "'-L'"):
        assert part in notes
    assert "ansible_python_interpreter" not in notes
    assert "vars['my-var']" in notes
    assert "vars['env']" in notes
    assert found.hosts["a"].connect.invalid is not None
    assert found.hosts["b"].connect.invalid is None
    assert len(found.connection_notes) == 5


def test_passwords_and_templates_wait_until_they_are_needed(tmp_path: Path) -> None:
    line = "h ansible_host='{{ ip }}' ansible_password=abc123 ip=10.0.0.5\n"
    host = load_files(tmp_path, {"dev/hosts.ini": line}).hosts["h"]
    assert host.connect.address == "h"
    assert host.connect.password is None
    assert set(host.written_connect) == {"address", "password"}


def test_a_program_prints_groups_and_variables(tmp_path: Path) -> None:
    output = {
        "web": {"hosts": ["w1"], "vars": {"x": 1}, "children": ["inner"]},
        "inner": ["w2"],
        "_meta": {"hostvars": {"w1": {"y": 2}}},
    }
    script = f"#!/bin/sh\n[ \"$1\" = --list ] || exit 9\necho '{json.dumps(output)}'\n"
    found = load_files(tmp_path, {"dev/inventory": script, "dev/group_vars/inner.yml": "z: 3\n"})
    assert variables(found, "w1") == {"x": 1, "y": 2}
    assert variables(found, "w2") == {"x": 1, "z": 3}
    assert found.roles["web"].hosts == ("w1", "w2")


def test_a_program_without_meta_is_asked_for_each_host(tmp_path: Path) -> None:
    script = '#!/bin/sh\n[ "$1" = --host ] && echo "{\\"name\\": \\"$2\\"}" || echo \'{"web": ["w1"]}\'\n'
    found = load_files(tmp_path, {"dev/inventory": script, "dev/group_vars/all.yml": ""})
    assert variables(found, "w1") == {"name": "w1"}


def test_a_program_that_fails_shows_its_message(tmp_path: Path) -> None:
    files = {
        "dev/inventory": "#!/bin/sh\necho no token >&2\nexit 3\n",
        "dev/group_vars/all.yml": "",
    }
    assert only_problem(tmp_path, files).message.endswith("exited with 3: no token")


def test_a_plugin_without_ansible_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    files = {"dev/aws_ec2.yml": "plugin: amazon.aws.aws_ec2\n", "dev/group_vars/all.yml": ""}
    found = only_problem(tmp_path, files)
    assert "'amazon.aws.aws_ec2'" in found.message
    assert "not installed" in found.message
    assert "ansible-core" in found.hint


def test_what_is_no_inventory_in_a_folder_is_skipped(tmp_path: Path) -> None:
    files = {
        "dev/hosts.ini": "web1\n",
        "dev/README.md": "[[",
        "dev/old.cfg": "[[",
        "dev/site.yml": "- hosts: all\n",
        "dev/sub/more": "[web]\nweb2\n",
        "dev/.hidden": "[[",
    }
    found = load_files(tmp_path, files)
    assert list(found.hosts) == ["web1", "web2"]
    assert ["site.yml" in str(mark) for _, mark in found.notes] == [True]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("all: [web1]\n", None),
        ("all:\n  hosts: [web1]\n", "'hosts' of group 'all' must be a mapping, found a list"),
        ("all:\n  hosts:\n    h: text\n", "the variables of host 'h' must be a mapping"),
        ("all:\n  hosts:\n    a b:\n", "the host 'a b' cannot be read"),
        ("a:\n  children:\n    a:\n", "the group 'a' would contain itself"),
        ("all:\n  hosts: {x\n", "not valid YAML"),
    ],
)
def test_errors_in_yaml(tmp_path: Path, text: str, problem: str | None) -> None:
    files = {"dev/hosts.yml": text, "dev/group_vars/": ""}
    if problem is None:
        assert "ignored" in load_files(tmp_path, files).notes[0][0]
    else:
        assert problem in only_problem(tmp_path, files).message


def test_json_of_a_program_marks_texts(tmp_path: Path) -> None:
    variables = {
        "raw": {"__ansible_unsafe": "{{ x }}"},
        "list": [{"__ansible_unsafe": "y"}],
        "secret": {"__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256\n00"},
    }
    output = json.dumps({"web": ["w1"], "_meta": {"hostvars": {"w1": variables}}})
    files = {"dev/inventory": f"#!/bin/sh\ncat <<'END'\n{output}\nEND\n", "dev/group_vars/all": ""}
    found = host_variables(load_files(tmp_path, files).hosts["w1"])
    assert (found["raw"].data, found["raw"].literal) == ("{{ x }}", True)
    assert found["list"].to_plain() == ["y"]
    assert isinstance(found["secret"].data, Secret)


@pytest.mark.long
def test_plugins_are_read_by_ansible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    files = {
        "dev/hosts.ini": "web1 os=debian\nweb2 os=alpine\n",
        "dev/made.yml": "plugin: ansible.builtin.generator\n"
        'hosts: {name: "{{ kind }}{{ number }}", parents: [{name: "{{ kind }}"}]}\n'
        "layers: {kind: [db], number: ['1', '2']}\n",
        "dev/zz.yml": "plugin: constructed\nkeyed_groups: [{key: os, prefix: os}]\n"
        "compose: {label: os ~ '-x'}\n",
        "dev/group_vars/os_alpine.yml": "small: true\n",
    }
    found = load_files(tmp_path, files)
    assert found.roles["db"].hosts == ("db1", "db2")
    assert found.roles["os_debian"].hosts == ("web1",)
    assert variables(found, "web2") == {"os": "alpine", "label": "alpine-x", "small": True}
    broken = {"dev/made.yml": "plugin: no.such.plugin\n"}
    assert all("exited with" in each.message for each in stage_problems(tmp_path, broken))


@pytest.mark.long
def test_hosts_groups_and_variables_are_those_of_ansible_inventory(tmp_path: Path) -> None:
    files = {
        "inv/hosts.ini": "lone x='a b'\n[web]\nweb[01:03]:22 y=0x1f z=[1,'b']\n[web:vars]\np=80\n"
        "[site:children]\nweb\ndb\n[db]\ndb-[a:c]\n[site:vars]\np=1\nansible_group_priority=5\n",
        "inv/more.yml": "all:\n  vars: {p: 0, m: {a: 1}}\n  children:\n    cache:\n      hosts:\n"
        '        c[1:2]: {t: yes, u: 0644, v: 1:30, w: 1e3, s: "{{ p }}"}\n',
        "inv/group_vars/all/a.yml": "m: {b: 2}\nq: all\n",
        "inv/group_vars/web.json": '{"q": "web", "deep": {"l": [1, null, true]}}',
        "inv/host_vars/web01": "q: host\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    program = str(Path(sys.executable).with_name("ansible-inventory"))
    ours = ansible_inventories.read_with_orch(tmp_path / "inv")
    theirs = ansible_inventories.read_with_ansible(tmp_path / "inv", program)
    assert isinstance(theirs, dict), theirs
    assert list(ansible_inventories.differences(ours, theirs)) == []


def test_an_inventory_of_the_command_line_has_what_all_stages_share(tmp_path: Path) -> None:
    root = write_inventory(
        tmp_path,
        {
            "common/stage.yml": "keep_runs: 500\nvars: {x: 1, y: 1}\nprotected: true\n",
            "common/apps/blog.yml": "roles: [web]\n",
            "common/apps/shop.yml": "roles: [shop]\n",
        },
    )
    (root / "hosts").write_text("[web]\nweb1 y=2\n")
    (root / "group_vars").mkdir()
    (root / "group_vars" / "web").write_text("z: 3\n")
    hosts = str(root / "hosts")
    found = load_inventories(root, (hosts, "c1,c2"), "hosts", root, InventoryAccess())
    assert (found.keep_runs, found.protected, list(found.apps)) == (500, True, ["blog"])
    assert variables(found, "web1") == {"x": 1, "y": 2, "z": 3}
    assert found.roles["ungrouped"].hosts == ("c1", "c2")
