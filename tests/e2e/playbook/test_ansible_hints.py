"""Words of Ansible's in a project get a hint with orch's own."""

from __future__ import annotations

import re
from textwrap import dedent

import pytest
import yaml

from orchestrator.model import ansible
from orchestrator.model.facts import FACTS
from orchestrator.model.host import ConnectionOptions
from orchestrator.modules import MODULES_FOLDER
from orchestrator.playbook import keywords
from orchestrator.playbook.task_index import shipped_modules
from tests.projects import OrchProject


def refused_errors(project: OrchProject, text: str) -> str:
    project.add_sandbox_stage("a1").write({"tasks/t.yml": text})
    done = project.orch("-s", "dev", "run", "t")
    assert done.code == 3
    return done.err


@pytest.mark.parametrize("word", sorted(ansible.MODULE_HINTS))
def test_what_is_written_in_place_of_a_module_exists(word: str) -> None:
    ours = {
        *shipped_modules(),
        *keywords.RESERVED_NAMES,
        *keywords.STEP_KEYS,
        *keywords.RUN_KEYS,
        *keywords.PARAM_KEYS,
    }
    assert set(re.findall(r"`(\w+):", ansible.MODULE_HINTS[word])) <= ours
    assert word not in ours


@pytest.mark.parametrize("module", sorted(ansible.PARAM_NAMES))
def test_what_is_written_in_place_of_a_param_exists(module: str) -> None:
    params = yaml.safe_load((MODULES_FOLDER / f"{module}.yml").read_text())["params"]
    names = ansible.PARAM_NAMES[module]
    assert set(names.values()) <= set(params)
    assert not set(names) & set(params)
    values = {param: value for name, param, value in ansible.VALUE_HINTS if name == module}
    assert all(value not in params[param]["choices"] for param, value in values.items())


def test_a_param_or_a_value_of_ansible_has_a_hint_with_its_name_here(project: OrchProject) -> None:
    text = refused_errors(
        project,
        "steps:\n  - line: {path: /x, regexp: a, line: b}\n"
        "  - replace: {path: /x, match: a, replace: b}\n  - file: {path: /x, state: directory}\n",
    )
    assert "no param 'regexp'" in text and "help: write `match`\n" in text
    assert "help: write `text`\n" in text
    assert "help: write `directory: {path: …}`\n" in text


@pytest.mark.parametrize("word", sorted(ansible.KEYWORD_HINTS))
def test_what_is_written_in_place_of_a_key_exists(word: str) -> None:
    ours = {
        *keywords.TASK_KEYS,
        *keywords.ITEM_KEYS,
        *keywords.STEP_KEYS,
        *keywords.RUN_KEYS,
        *keywords.BLOCK_KEYS,
        *ConnectionOptions.__struct_fields__,
        *keywords.RESERVED_NAMES,
    }
    ours |= {
        *keywords.PARAM_KEYS,
        *keywords.LOOP_CONTROL,
        *shipped_modules(),
        "connect",
        "address",
        "defaults",
        "MODULE",
        "name",
        "state",
    }
    assert set(re.findall(r"`(\w+):", ansible.KEYWORD_HINTS[word])) <= ours
    assert word not in {*keywords.TASK_KEYS, *keywords.STEP_KEYS, *keywords.RUN_KEYS}


@pytest.mark.parametrize("word", sorted(ansible.VARIABLE_HINTS))
def test_what_is_written_in_place_of_a_variable_exists(word: str) -> None:
    assert set(re.findall(r"facts\.([a-z0-9_]+)", ansible.VARIABLE_HINTS[word])) <= FACTS.keys()
    named = set(re.findall(r"\{\{ (\w+)", ansible.VARIABLE_HINTS[word]))
    assert named <= {"host", "hosts", "roles", "run", "env", "facts", "x"}


@pytest.mark.parametrize(
    ("step", "hint"),
    [
        ("apt: {name: x}", "write `package: {name: …}`"),
        ("command: ls", "write `run: COMMAND`"),
        ("shell: ls", "write `run: COMMAND`"),
        ("systemd: {name: x}", "write `service: {name: …, state: …}`"),
        ("lineinfile: {path: /x}", "write `line: {path: …, line: …}`"),
        ("htpasswd: {path: x}", "there is no module for it"),
        ("ansible.builtin.copy: {path: /x}", "write `copy:`, without the collection's name"),
        ("ansible.builtin.apt: {name: x}", "write `package: {name: …}`"),
        ("copy: src=a dest=b", "write them as `copy: {NAME: VALUE}`"),
    ],
)
def test_a_module_of_ansibles_is_one_error_with_what_to_write(
    project: OrchProject, step: str, hint: str
) -> None:
    err = refused_errors(project, f"steps:\n- {step}\n")
    assert err.count("error:") == 1
    assert hint in err
    assert "tasks/t.yml:2:" in err


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("become_user: app", "`become: USER` names the user"),
        ("with_items: [1]", "write `loop: LIST`"),
        ("run_once: true", "write `once: true`, on the step"),
        ("no_log: true", "write `secret: true`"),
    ],
)
@pytest.mark.parametrize("call", ["run: ls", "copy: {path: /tmp/x, content: a}"])
def test_a_key_of_ansibles_is_one_error_with_what_to_write(
    project: OrchProject, key: str, hint: str, call: str
) -> None:
    err = refused_errors(project, f"steps:\n- {call}\n  {key}\n")
    assert err.count("error:") == 1
    assert f"unknown key '{key.partition(':')[0]}'" in err
    assert hint in err


def test_an_unknown_key_is_told_once(project: OrchProject) -> None:
    assert (
        refused_errors(
            project,
            dedent("""\
        steps:
        - name: x
          run: ls
          frob: 1
        """),
        ).count("'frob'")
        == 1
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ansible_hostname", "write {{ facts.hostname }}"),
        ("inventory_hostname", "write {{ host.name }}"),
        ("omit", "write {{ x | default(none) }}"),
        ("hostvars['x'].y", "write {{ hosts['NAME'].x }}"),
        ("lookup('env', 'X')", "write `env.X`"),
    ],
)
def test_a_variable_of_ansibles_is_told_what_to_write(
    project: OrchProject, name: str, hint: str
) -> None:
    assert hint in refused_errors(project, f"steps:\n- run: echo {{{{ {name} }}}}\n")


@pytest.mark.parametrize(
    "text",
    [
        dedent("""\
            - hosts: web
              become_user: x
              tasks:
              - name: a
                apt: name=x
            """),
        "- name: a\n  apt: {name: x}\n",
    ],
)
def test_a_pasted_playbook_is_told_how_to_write_it(project: OrchProject, text: str) -> None:
    err = refused_errors(project, text)
    assert err.count("error:") == 1
    assert "write the list of steps under `steps:`" in err
    assert "`roles:` in place of `hosts:`" in err


def test_a_task_of_the_users_may_have_the_name_of_a_module_or_key_of_ansibles(
    project: OrchProject,
) -> None:
    own = dict.fromkeys(("tasks/command.yml", "tasks/poll.yml"), "steps:\n- run: 'true'\n")
    project.add_sandbox_stage("a1").write(
        {
            **own,
            "tasks/t.yml": dedent("""\
            steps:
            - command: {}
            - poll: {}
            """),
        }
    )
    assert project.orch("-s", "dev", "run", "t").code == 0


@pytest.mark.parametrize("name", ["hosts.ini", "group_vars/all.yml"])
def test_files_of_ansibles_inventories_are_told_what_to_write(
    project: OrchProject, name: str
) -> None:
    project.add_sandbox_stage("a1").write(
        {f"inventories/dev/{name}": "", "tasks/t.yml": "steps: [{run: ls}]"}
    )
    done = project.orch("-s", "dev", "run", "t")
    assert done.code == 3
    assert "help: write " in done.err


@pytest.mark.parametrize("word", sorted(keywords.RESERVED_NAMES))
def test_words_of_task_files_are_explained_and_never_suggested_for_themselves(
    project: OrchProject, word: str
) -> None:
    project.add_sandbox_stage("a1").write({f"tasks/{word}.yml": "steps: [{run: ls}]"})
    shown = project.orch("doc", word)
    assert shown.code == 0
    assert f"{word}: " in shown.out or "`commit`" in shown.out
    done = project.orch("-s", "dev", "run", word)
    assert done.code == 3
    assert "did you mean" not in done.err
    assert f"see `orch doc {word}`" in done.err


def test_a_variable_of_an_app_is_told_to_need_the_app(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write(
        {
            "inventories/dev/apps/blog.yml": "vars: {deploy_to: ~/blog}\n",
            "inventories/dev/apps/shop.yml": "hosts: {a1: {vars: {deploy_to: ~/shop}}}\n",
            "tasks/t.yml": "steps:\n- run: ls {{ deploy_to }}\n",
            "tasks/u.yml": "steps:\n- copy: {path: /tmp/x, content: '{{ deploy_to }}'}\n",
        }
    )
    for task in ("t", "u"):
        done = project.orch("-s", "dev", "run", task)
        assert done.code == 3
        assert "give `--app blog` (or shop): it is a variable of that app" in done.err
    unknown = project.orch("-s", "dev", "run", "t", "--app", "blog", "-e", "x=1")
    assert unknown.code == 0 or "--app" not in unknown.err


def test_a_handler_that_nothing_notified_says_so(project: OrchProject) -> None:
    project.add_sandbox_stage("a1").write(
        {
            "tasks/t.yml": """
            steps:
            - run: 'true'
              changed_when: false
              notify: [here, there]
            handlers:
              here: [{run: ls}]
              there: [{run: ls, local: true}]
            """
        }
    )
    done = project.orch("-s", "dev", "run", "t", "--json")
    assert [step["reason"] for step in done.host_steps("a1")[1:]] == [
        "not notified",
        "not notified",
    ]
