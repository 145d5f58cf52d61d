"""Secrets are fetched while planning and kept out of arguments; hosts choose no local file."""

from __future__ import annotations

import pytest

from orchestrator.errors import DefinitionError
from orchestrator.model.secret import Secret, SecretResolver
from tests.unit.planner.plan_project import PlanProject, output, resume_step, resumed_command


class Vault:
    """Fetches every secret as its own words, and remembers which."""

    def __init__(self) -> None:
        self.fetched: list[str] = []
        self.resolver = SecretResolver(fetch_secret=self.fetch)

    def fetch(self, secret: Secret) -> str:
        self.fetched += secret.words
        return f"value of {secret.words[0]}"


@pytest.fixture
def vault(plans: PlanProject) -> Vault:
    """Give the stage two secrets, and a variable that is made of one."""
    plans.variables("""
        one: !secret {env: ONE}
        two: !secret {env: TWO}
        made: "<{{ one }}>"
        nested: {deep: [!secret {env: THREE}]}
    """)
    return Vault()


def test_a_secret_is_fetched_only_if_a_selected_step_names_it(
    plans: PlanProject, vault: Vault
) -> None:
    steps = "- run: login {{ made }}\n- {run: 'echo {{ two }}', when: false}\n"
    assert plans.steps(steps, secrets=vault.resolver)[0].display_text == ("login '<value of ONE>'")
    assert vault.fetched == ["ONE"]


@pytest.mark.parametrize(
    ("step", "fetched"),
    [
        ("run: echo {{ r.stdout }} {{ one }}", ["ONE"]),
        ("run: echo {{ r.stdout }} {{ made }}", ["ONE"]),
        ("run: echo {{ r.stdout }} {{ nested.deep[0] }}", ["THREE"]),
        ("copy: {path: '{{ r.stdout }}', content: '{{ two }}'}", ["TWO"]),
        ("{run: 'echo {{ item }} {{ one }}', loop: r.stdout.split()}", ["ONE"]),
        ("use: {x: '{{ one }}', y: '{{ r.stdout }}'}", ["ONE"]),
        ("use: {y: '{{ r.stdout }}'}", ["TWO"]),
        ("given: {y: '{{ r.stdout }}'}", ["FOUR", "ONE"]),
        ("run: echo {{ r.stdout }}", []),
    ],
)
def test_a_waiting_step_has_its_secrets_before_the_run(
    plans: PlanProject, vault: Vault, step: str, fetched: list[str]
) -> None:
    plans.write_task(
        """
        params: {x: {default: "{{ two }}"}, y: {required: true}}
        steps: [run: "echo {{ x }} {{ y }}"]
        """,
        "use",
    )
    plans.write(
        {
            "tasks/given.yml": """
                params: {a: {}, b: {}, y: {required: true}}
                steps: [run: "echo {{ a }} {{ b }} {{ y }}"]
            """,
            "inventories/dev/roles.yml": """
                web:
                  hosts: [web1]
                  defaults: {given: {a: !secret {env: FOUR}, b: "{{ one }}"}}
            """,
        }
    )
    plans.step(f"- {{run: x, register: r}}\n- {step}", secrets=vault.resolver)
    assert sorted(vault.fetched) == fetched


OWNED = "line: {path: /x, line: a, owner: '{{ %s }}'}"


@pytest.mark.parametrize(
    ("task", "options"),
    [
        (f"steps: [{OWNED % 'nested.deep[0]'}]", {}),
        (f"params: {{p: {{default: '{{{{ one }}}}'}}}}\nsteps: [{OWNED % 'p'}]", {}),
        (f"params: {{made: {{}}}}\nsteps: [{OWNED % 'made'}]", {}),
        (f"params: {{p: {{secret: true}}}}\nsteps: [{OWNED % 'p'}]", {"args": {"p": "hunter2"}}),
        (f"vars: {{v: 'a{{{{ one }}}}'}}\nsteps: [{OWNED % 'v'}]", {}),
        (f"steps: [{{{OWNED % 'item'}, loop: ['{{{{ one }}}}']}}]", {}),
        ("tasks: [own: {o: '{{ one }}'}]", {}),
        ("steps: [own: {o: '{{ made }}'}]", {}),
    ],
)
def test_a_secret_is_followed_through_every_way_to_an_argument(
    plans: PlanProject, vault: Vault, task: str, options: dict[str, dict[str, str]]
) -> None:
    plans.write_task(f"params: {{o: {{}}}}\nsteps: [{OWNED % 'o'}]\n", "own")
    plans.write_task(task + "\n")
    found = plans.diagnostics("t", limit="web1", secrets=vault.resolver, **options)
    assert "would be visible in `owner` of `line`" in found[0].message


def test_a_default_of_the_inventory_is_followed_too(plans: PlanProject, vault: Vault) -> None:
    plans.write(
        {
            "inventories/dev/stage.yml": "vars: {one: !secret {env: ONE}}\n"
            "defaults: {line: {owner: '{{ one }}'}}\n"
        }
    )
    problem = plans.refused_steps("- line: {path: /x, line: a}", secrets=vault.resolver)
    assert "the secret 'one' would be visible in `owner` of `line`" in problem.message


def test_a_secret_param_of_the_wrong_type_is_not_shown(plans: PlanProject) -> None:
    plans.write_task(
        "params: {p: {type: int, secret: true}}\nsteps: [{run: cat, stdin: '{{ p }}'}]\n"
    )
    problem = plans.only_diagnostic("t", limit="web1", args={"p": "hunter2"})
    assert "hunter2" not in problem.message + problem.hint
    assert "is a secret whose value has the wrong type" in problem.message


def test_contents_and_stdin_may_be_secret(plans: PlanProject, vault: Vault) -> None:
    steps = plans.steps(
        """
        - copy: {path: /x, content: "{{ one }}"}
        - {run: cat, stdin: "{{ made }}", environment: {P: "{{ two }}"}}
        """,
        secrets=vault.resolver,
    )
    assert steps[1].command is not None
    assert steps[1].command.stdin == "<value of ONE>"
    assert "export P='value of TWO'" in steps[1].command.text


WITH_COMMAND = """
    params: {check: {type: command, default: "true"}, all: {type: list, elements: command}}
    steps: [run: "{{ check | raw }}"]
"""


def test_a_command_is_quoted_where_its_caller_writes_it(plans: PlanProject) -> None:
    plans.variables("name: a b")
    plans.write_task(WITH_COMMAND, "verify")
    command = plans.command("- verify: {check: 'test -d {{ name }}'}")
    assert command.text == "test -d 'a b'"
    (planned,) = plans.planned_tasks("verify", limit="web1", args={"check": "ls | wc"})
    assert planned.hosts[0].steps[0].display_text == "ls | wc"
    plans.variables("name: a b\ncheck: test -e {{ name }}")
    (planned,) = plans.planned_tasks("verify", limit="web1")
    assert planned.hosts[0].steps[0].display_text == "test -e 'a b'"


def test_text_from_a_host_is_never_a_command(plans: PlanProject) -> None:
    plans.variables("check: test -e x")
    plans.write_task(WITH_COMMAND, "verify")
    plans.write_task("steps: [{run: x, register: check}]\n", "ask")
    problem = plans.diagnostics("ask", "verify", limit="web1")[0]
    assert "text from a host must not be run" in problem.message


def test_a_param_of_type_file_takes_no_text_from_a_host(plans: PlanProject) -> None:
    plans.write_task(
        "params: {f: {type: file, required: true}}\nsteps: [{run: 'cat {{ f }}', local: true}]\n",
        "show",
    )
    step = plans.step("- {run: x, register: r}\n- show: {f: '{{ r.stdout }}'}\n")
    with pytest.raises(DefinitionError, match="could name any file of this machine"):
        resume_step(step, r=output("/etc/passwd"))


def test_what_is_set_from_a_result_is_text_from_a_host(plans: PlanProject) -> None:
    step = plans.step("""
        - {run: x, register: r}
        - set: {v: "{{ r.stdout }}"}
        - run: echo {{ v | raw }}
    """)
    with pytest.raises(DefinitionError, match="from a host"):
        resumed_command(step, v="a b")


def test_what_is_set_from_the_project_is_not_text_from_a_host(plans: PlanProject) -> None:
    plans.variables("flags: -a -b")
    command = plans.command("""
        - set: {v: "{{ flags }}"}
        - run: ls {{ v | words }}
    """)
    assert command.text == "ls -a -b"


def test_values_that_are_nested_too_deeply_are_an_error(plans: PlanProject) -> None:
    lines = [f'v{number}: "{{{{ v{number + 1} }}}}"' for number in range(60)]
    plans.variables("\n".join([*lines, "v60: end"]))
    problem = plans.refused_steps("- run: echo {{ v0 }}")
    assert problem.message == "values that are nested more than 40 levels deep"
    assert plans.command("- run: echo {{ v30 }}").text == "echo end"
