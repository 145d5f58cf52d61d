"""``vars_files`` whose name has an expression: the host chooses between files of the project."""

from __future__ import annotations

import pytest

from orchestrator.errors import DefinitionError
from orchestrator.planner.plan import PlannedStep
from tests.unit.planner.plan_project import PlanProject, command_of, resumed_command

FILES = {
    "vars/debian.yml": "package: apache2\nuser: www-data\nfolder: /etc/{{ package }}\n",
    "vars/redhat.yml": "package: httpd\nfolder: /etc/{{ package }}\nextra: [a, b]\n",
}
TASK = "vars: {user: nobody}\nvars_files: ['vars/{{ facts.family }}.yml']\nsteps:\n"


def only_step(plans: PlanProject, task: str) -> PlannedStep:
    plans.write_task(task)
    (planned,) = plans.planned_tasks("t", limit="web1")
    (step,) = planned.hosts[0].program.steps
    return step


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("debian", "echo apache2 www-data /etc/apache2"),
        ("redhat", "echo httpd nobody /etc/httpd"),
    ],
)
def test_the_host_s_file_is_used_and_weaker_values_where_it_has_none(
    plans: PlanProject, family: str, expected: str
) -> None:
    plans.write(FILES)
    step = only_step(
        plans, f"{TASK}  - run: echo {{{{ package }}}} {{{{ user }}}} {{{{ folder }}}}\n"
    )
    assert step.awaited_names == ("facts.family",)
    assert resumed_command(step, facts={"family": family}).text == expected


def test_values_keep_their_types_and_the_inventory_is_stronger(plans: PlanProject) -> None:
    plans.write({**FILES, "inventories/dev/stage.yml": "vars: {package: mine}\n"})
    step = only_step(plans, f"{TASK}  - run: echo {{{{ extra | length }}}}\n")
    assert resumed_command(step, facts={"family": "redhat"}).text == "echo 2"
    assert (
        command_of(only_step(plans, f"{TASK}  - run: echo {{{{ package }}}}\n")).text == "echo mine"
    )


@pytest.mark.parametrize("family", ["Suse", "../vars/redhat", "debian.yml", ""])
def test_a_host_without_a_file_has_none_of_its_variables(plans: PlanProject, family: str) -> None:
    plans.write(FILES)
    step = only_step(plans, f"{TASK}  - run: echo {{{{ package }}}}\n")
    with pytest.raises(DefinitionError) as failed:
        resumed_command(step, facts={"family": family})
    assert f"vars/{family}.yml does not have 'package'" in str(failed.value)
    assert "as vars/debian.yml, vars/redhat.yml does" in str(failed.value)
    step = only_step(plans, f"{TASK}  - run: echo {{{{ user }}}}\n")
    assert resumed_command(step, facts={"family": family}).text == "echo nobody"


def test_a_variable_of_the_inventory_can_choose(plans: PlanProject) -> None:
    plans.write({**FILES, "inventories/dev/stage.yml": "vars: {kind: debian}\n"})
    task = TASK.replace("facts.family", "kind")
    assert (
        command_of(only_step(plans, f"{task}  - run: echo {{{{ user }}}}\n")).text
        == "echo www-data"
    )


CHOICES = """\
vars: {user: nobody}
vars_files:
  - - vars/{{ facts.distro }}-{{ facts.release.split('.')[0] }}.yml
    - vars/{{ facts.distro }}.yml
    - vars/{{ facts.family }}.yml
  - [vars/mine.yml, vars/of-all.yml]
steps:
"""


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"distro": "debian", "release": "12.5", "family": "debian"}, "echo apache3 nobody all"),
        ({"distro": "debian", "release": "11.1", "family": "debian"}, "echo apache2 www-data all"),
        ({"distro": "rocky", "release": "9", "family": "redhat"}, "echo httpd nobody all"),
    ],
)
def test_of_a_list_the_first_file_that_exists_is_taken(
    plans: PlanProject, facts: dict[str, str], expected: str
) -> None:
    plans.write(
        {**FILES, "vars/debian-12.yml": "package: apache3\n", "vars/of-all.yml": "word: all\n"}
    )
    step = only_step(
        plans, f"{CHOICES}  - run: echo {{{{ package }}}} {{{{ user }}}} {{{{ word }}}}\n"
    )
    assert resumed_command(step, facts=facts).text == expected


def test_a_file_without_variables_is_taken_like_any_other(plans: PlanProject) -> None:
    plans.write({**FILES, "vars/suse.yml": ""})
    step = only_step(
        plans, f"{CHOICES}  - run: echo {{{{ user }}}}\n".replace("- [vars/mine", "# [")
    )
    suse = {"distro": "suse", "release": "15", "family": "debian"}
    assert resumed_command(step, facts=suse).text == "echo nobody"


def test_an_error_names_the_file_that_is_taken_or_all_that_do_not_exist(plans: PlanProject) -> None:
    plans.write({**FILES, "vars/of-all.yml": "word: all\n"})
    step = only_step(plans, f"{CHOICES}  - run: echo {{{{ extra }}}}\n")
    with pytest.raises(DefinitionError) as failed:
        resumed_command(step, facts={"distro": "debian", "release": "12", "family": "debian"})
    assert "vars/debian.yml does not have 'extra', as vars/redhat.yml does" in str(failed.value)
    with pytest.raises(DefinitionError) as failed:
        resumed_command(step, facts={"distro": "a", "release": "1", "family": "../x"})
    assert "vars/a-1.yml or vars/a.yml or vars/../x.yml does not have 'extra'" in str(failed.value)
