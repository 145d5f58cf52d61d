"""Which tasks of Ansible count as having a counterpart, and why others do not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.compare.ansible_roles import TaskChecker, main, repository_tasks

COUNTS = """\
- command: ls /srv
- ansible.builtin.shell: {cmd: "ls | wc -l", executable: /bin/bash}
- shell: rm -f {{ x }} creates=/srv/y
- {apt: "name=nginx state=installed update_cache=yes", become: true, become_user: root}
- {package: {name: "{{ item }}", state: "{{ state }}"}, with_items: [a, b]}
- {file: {path: /srv, state: directory, mode: "0755"}}
- {file: {dest: /srv, state: absent}}
- {template: {src: a.j2, dest: /a, force: yes}, notify: reload, when: "x is version('1', '>=')"}
- {set_fact: {a: 1, b: "{{ lookup('file', 'x') }}"}}
- {debug: {var: ansible_facts.packages}}
- {debug: {msg: "{{ ansible_default_ipv4.address }} {{ ansible_fqdn.split('.')[0] }}"}}
- {debug: {msg: "{{ hostvars['a'].x }} {{ groups['web'] }}"}, loop: "{{ query('dict', x) }}"}
- {package_facts: }
- {include_role: {name: web}}
- {local_action: command ls}
- {raw: pkg_add x, check_mode: no}
- {script: files/x.sh --all, args: {chdir: /srv, creates: /x, executable: python3}}
- {include_tasks: {file: x.yml, apply: {become: yes, tags: [a]}}, when: x is success}
- {package_facts: , check_mode: no}
- {file: {path: /a, src: /b, state: link, mode: "0644"}}
- {file: {path: /a, src: "{{ b }}", state: "{{ x | ternary('link', 'absent') }}"}}
- {file: {path: /a, mode: "0755", state: "{{ x.state | d('directory') }}"}}
- {unarchive: {src: a, dest: /b, extra_opts: [--strip-components=1]}}
- {authorized_key: {user: a, key: k, key_options: no-pty, comment: c}}
- {apt_key: {url: "https://a/key", id: X, state: present}}
- {uri: {url: "http://a"}, check_mode: no}
- {script: x.sh, check_mode: no}
- {include_vars: "{{ item }}", with_first_found: [{files: ["{{ ansible_os_family }}.yml", a.yml], skip: true}]}
- {command: ls, delegate_to: a, delegate_facts: false}
- {pause: {prompt: Password, echo: no}, register: x}
- {debug: {msg: "{{ playbook_dir }} {{ ansible_version.full }} {{ ansible_facts.get('distribution', '') }}"}}
- {debug: {msg: "{{ ansible_virtualization_role }} {{ ansible_python_interpreter }}"}}
- {include_vars: "{{ ansible_os_family }}.yml"}
- {command: long, async: 600, poll: 5}
- {synchronize: {src: a/, dest: /b, delete: yes, rsync_opts: ["--exclude=*.map", --whole-file]}}
- {dpkg_divert: {path: /etc/x, divert: /etc/y, rename: yes}}
"""

DOES_NOT = {
    "{kube: {path: /x}}": "module kube",
    "{include_tasks: {file: x.yml, apply: {debugger: x}}}": "param include_tasks.apply.debugger",
    "{script: x.sh, args: {decrypt: no}}": "param script.decrypt",
    "{apt: {name: x, force: yes}}": "param apt.force",
    "{apt: {name: x, state: build-dep}}": "value of apt.state: build-dep",
    "{file: {path: /x, state: '{{ x }}'}}": "value of file.state",
    "{file: {path: /x, state: \"{{ x | ternary('file', 'touch') }}\"}}": "value of file.state",
    "{file: {path: /x, src: y, state: \"{{ x | d('directory') }}\"}}": "param file.src",
    "{file: {path: /x, src: y, state: link, owner: z}}": "param file.owner",
    "{shell: ls, debugger: always}": "keyword debugger",
    "{shell: ls, async: 10, poll: 0}": "keyword poll",
    "{include_vars: x.yml, when: y}": "keyword when of vars_files",
    "{uri: {url: x, method: POST}, check_mode: no}": "keyword check_mode of a module",
    "{shell: ls, delegate_to: a, delegate_facts: yes}": "value of delegate_facts",
    "{shell: 'ls {{ ansible_facts.get(x) }}'}": "fact get",
    "{unarchive: {src: a, dest: /b, extra_opts: [--wildcards]}}": "value of unarchive.extra_opts: --wildcards",
    "{unarchive: {src: a, dest: /b, extra_opts: '{{ x }}'}}": "value of unarchive.extra_opts: {{ x }}",
    "{synchronize: {src: a, dest: /b, rsync_opts: [--exclude=a/b]}}": "value of synchronize.rsync_opts: --exclude=a/b",
    "{synchronize: {src: a, dest: /b, rsync_opts: ['--include=*.c']}}": "value of synchronize.rsync_opts: --include=*.c",
    "{apt_key: {keyserver: a, id: X}}": "param apt_key.keyserver",
    "{apt_key: {url: a, state: absent}}": "value of apt_key.state",
    "{shell: 'ls {{ ansible_facts.get(\"bios_version\") }}'}": "fact bios_version",
    "{apt: {name: x}, check_mode: no}": "keyword check_mode of a module",
    "{shell: ls, with_filetree: x}": "keyword with_filetree",
    "{shell: ls, when: x | parse_kv}": "filter parse_kv",
    "{shell: ls, when: x is same_file(y)}": "test same_file",
    '{shell: \'ls {{ lookup("pipe", "x") }}\'}': "lookup pipe",
    "{shell: ls, when: ansible_bios_version}": "fact bios_version",
    "{shell: ls, when: ansible_default_ipv4.netmask}": "fact default_ipv4.netmask",
    "{shell: 'ls {{ now() }}'}": "function now",
    "{shell: 'ls {{ x'}": "an expression that Jinja does not parse",
    "{meta: end_play}": "value of meta: end_play",
}


def test_a_task_counts_if_all_it_uses_has_a_counterpart(tmp_path: Path) -> None:
    folder = tmp_path / "role" / "tasks"
    folder.mkdir(parents=True)
    (folder / "main.yml").write_text(COUNTS)
    checker = TaskChecker()
    found = [(task, list(checker.reasons(task))) for task in repository_tasks(tmp_path / "role")]
    assert len(found) == COUNTS.count("\n")
    assert [each for each in found if each[1]] == []


@pytest.mark.parametrize("task", DOES_NOT)
def test_a_task_does_not_count_for_a_reason(task: str) -> None:
    assert set(TaskChecker().reasons(yaml.safe_load(task))) == {DOES_NOT[task]}


def test_plays_blocks_and_handlers_are_read_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        "site.yml": "- hosts: all\n  tasks: [{block: [{kube: {path: a}}], rescue: [{command: x}]}]\n",
        "roles/a/handlers/main.yml": "- {service: {name: a, state: restarted}}\n",
        "roles/a/vars/main.yml": "a: [{kube: }]\n",
        "roles/a/tasks/vault.yml": "- {debug: {msg: !vault x}}\n- {debug: {msg: !unsafe '{{ x'}}\n",
        "roles/a/tasks/broken.yml": "- {a\n",
        "library/kube.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "3 of 5 tasks (60.0 %)" in out
    assert "without plugins of their own: 3 of 4 tasks (75.0 %)" in out
    assert "1 (1 alone)  module kube" in out


def test_the_names_are_those_of_orch() -> None:
    checker = TaskChecker()
    assert set(checker.unknown_names()) <= set()
    for name, entry in checker.names["modules"].items():
        for case in (entry, *entry.get("cases", {}).values()):
            params = checker.orch.params(case["module"]) if "module" in case else None
            for mapped in case.get("params", {}).values() if params is not None else ():
                target = mapped.get("param") if isinstance(mapped, dict) else mapped
                missing = {"daemon_reload", "masked", "scope", None}
                assert target in params or target in missing, (name, target)


PLUGIN = """\
{imports}
def mine(value): return value
class FilterModule(object):
    def filters(self): return {{'mine': mine}}
if __name__ == '__main__':
    import yaml
"""


@pytest.mark.parametrize(
    ("imports", "counted"),
    [("import re", 1), ("from ansible.errors import x", 0), ("import six", 0)],
)
def test_a_filter_of_the_repository_counts_if_orch_can_have_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], imports: str, counted: int
) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "main.yml").write_text("- {debug: {msg: '{{ x | mine }}'}}\n")
    (tmp_path / "filter_plugins").mkdir()
    (tmp_path / "filter_plugins" / "x.py").write_text(PLUGIN.format(imports=imports))
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"total: {counted} of 1 tasks" in out
    assert f"{counted} of them with filters of their own repository" in out
    assert f"without plugins of their own: {counted} of {counted} tasks" in out
