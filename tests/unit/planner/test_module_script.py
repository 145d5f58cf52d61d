"""The script that a host gets of a module, and the state that it wants."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import DefinitionError
from orchestrator.model.command import DesiredState, StepCommand
from orchestrator.model.secret import Secret, SecretResolver
from orchestrator.planner.project_files import MAX_INLINE_BYTES
from tests.unit.planner.plan_project import (
    PlanProject,
    command_of,
    output,
    resume_step,
    resumed_command,
)

KEY = """
    params:
      key: {type: str, required: true}
      path: {type: path, default: ~/key}
      loud: {type: bool, default: false}
    probe: |
      state key "$(cat -- {{ path }})"
    want: {key: "{{ key }}", mode: "{{ '0600' if loud else none }}"}
    fix: |
      printf %s {{ key }} > {{ path }}
"""
"""A module of the project with a desired state."""


@pytest.fixture
def module(plans: PlanProject) -> PlanProject:
    """Write the module ``key``."""
    return plans.write_task(KEY, "key")


def state_of(command: StepCommand) -> DesiredState:
    assert command.desired_state is not None
    return command.desired_state


def test_the_script_has_probe_fix_and_state_with_quoted_values(module: PlanProject) -> None:
    command = module.command('- key: {key: "it\'s $x", path: /a b}')
    assert "cat -- '/a b'" in command.text
    assert "printf %s 'it'\"'\"'s $x' > '/a b'" in command.text
    assert "o_want='key=it'\"'\"'s $x'\"$o_nl\"" in command.text
    assert command.text.index("probe()") < command.text.index("fix_1()")
    assert command.text.endswith("o_module")


def test_the_desired_state_has_only_the_keys_with_a_value(module: PlanProject) -> None:
    assert state_of(module.command("- key: {key: a}")).states == {"key": "a"}
    with_mode = module.command("- key: {key: a, loud: true}")
    assert state_of(with_mode).states == {"key": "a", "mode": "0600"}


def test_percent_signs_and_line_breaks_of_a_state_are_encoded(module: PlanProject) -> None:
    command = module.command('- key: {key: "a%\\nb"}')
    assert 'o_want=key=a%25%0Ab"$o_nl"' in command.text
    assert state_of(command).states == {"key": "a%\nb"}


def test_a_home_path_is_expanded_by_the_host(module: PlanProject) -> None:
    module.write_task(KEY.replace('{key: "{{ key }}"', '{at: "{{ path }}"'), "key")
    command = module.command("- key: {key: a, path: ~/x y}")
    assert 'o_want=at="$HOME"\'/x y\'"$o_nl"' in command.text
    assert "cat -- \"$HOME\"/'x y'" in command.text


def test_the_same_script_is_planned_for_hosts_with_the_same_values(module: PlanProject) -> None:
    module.write_task("steps: [key: {key: same}]\n")
    (planned,) = module.planned_tasks("t", limit="web")
    texts = {command_of(host.steps[0]).text for host in planned.hosts}
    assert len(texts) == 1
    module.write_task("steps: [key: {key: '{{ host.name }}'}]\n")
    (planned,) = module.planned_tasks("t", limit="web")
    texts = {command_of(host.steps[0]).text for host in planned.hosts}
    assert len(texts) == 3


def test_several_fixes_are_called_with_their_keys_in_order(plans: PlanProject) -> None:
    plans.write_task(
        """
        probe: state a "$(x)"
        want: {a: 1, b: 2}
        fix: {"a, b": fix both, b: fix b}
        """,
        "two",
    )
    text = plans.command("- two: {}").text
    assert "apply_fixes() {\nfix fix_1 a b\nfix fix_2 b\n}" in text
    assert "fix_1() (\nset -e\nfix both\n\n)" in text


def test_a_module_without_a_fix_changes_nothing_and_waits(plans: PlanProject) -> None:
    plans.write_task(
        """
        params: {seconds: {default: 90s}}
        probe: state up "$(x)"
        want: {up: 1}
        within: "{{ seconds }}"
        """,
        "up",
    )
    step = plans.step("- up: {}")
    assert step.readonly
    assert "o_within=900 o_fixes= o_returns=\n" in command_of(step).text
    assert "o_within=25 o_fixes= o_returns=\n" in plans.command("- up: {seconds: 2.5}").text
    problem = plans.refused_steps("- up: {seconds: soon}")
    assert "within" in problem.message


def test_a_wanted_value_without_text_is_an_error_at_the_call(module: PlanProject) -> None:
    module.write_task(KEY.replace("type: str", "type: any"), "key")
    problem = module.refused_steps("- key: {key: [a]}")
    assert problem.message == "'key' under `want` must be text, found ['a']"


@pytest.mark.parametrize(
    ("arguments", "title", "shown"),
    [
        ("{key: a}", "key a", "key key=a 'path=~/key'"),
        ("{key: a b, path: /x}", "key a b", "key 'key=a b' path=/x"),
        ("{key: a, loud: true}", "key a", "key key=a 'path=~/key' loud=true"),
        ('{key: "a\\nb"}', "key a", "key 'key=a\nb' 'path=~/key'"),
    ],
)
def test_a_call_is_shown_as_on_the_command_line(
    module: PlanProject, arguments: str, title: str, shown: str
) -> None:
    step = module.step(f"- key: {arguments}")
    assert (step.name, step.display_text) == (title, shown)


def test_a_waiting_call_is_shown_as_written(module: PlanProject) -> None:
    steps = module.steps("""
        - {run: x, register: r}
        - key: {key: "{{ r.stdout }}", path: /x}
    """)
    assert steps[1].display_text == "key key={{ r.stdout }} path=/x"
    assert steps[1].awaited_names == ("r",)
    assert state_of(resumed_command(steps[1], r="$(id)")).states == {"key": "$(id)"}


def test_arguments_of_a_skipped_call_may_be_invalid(module: PlanProject) -> None:
    step = module.step("- {touch: {path: /x, mode: '{{ what }}'}, when: false}", extra=("what=rw",))
    assert step.skip == "when: false"
    problem = module.refused_steps("- touch: {path: /x, mode: '{{ what }}'}", extra=("what=rw",))
    assert "mode" in problem.message


def test_conditions_on_the_result_replace_those_of_the_module(module: PlanProject) -> None:
    plain = module.command("- key: {key: a}")
    assert (plain.failed_condition, plain.changed_condition) == (None, None)
    judged = module.command("- {key: {key: a}, changed_when: false, failed_when: false}")
    assert judged.changed_condition is not None
    assert judged.failed_condition is not None


@pytest.mark.parametrize(
    ("options", "check_mode", "show_diff"),
    [({}, False, False), ({"check_mode": True}, True, False), ({"show_diff": True}, False, True)],
)
def test_a_module_is_sent_in_check_mode_to_report_only(
    module: PlanProject, options: dict[str, Any], check_mode: bool, show_diff: bool
) -> None:
    command = module.command("- key: {key: a}", **options)
    assert (command.check_mode, command.show_diff) == (check_mode, show_diff)
    assert (command.effects is not None) == check_mode


def test_short_contents_are_inside_the_script_and_long_ones_are_uploaded(
    plans: PlanProject,
) -> None:
    short = plans.command('- copy: {path: /x, content: "it\'s"}')
    assert state_of(short).new_content == b"it's"
    assert state_of(short).payload is None
    assert "payload() { printf %s 'it'\"'\"'s'; }" in short.text
    (plans.root / "big").write_bytes(b"x" * (MAX_INLINE_BYTES + 1))
    long = state_of(plans.command("- copy: {path: /x, src: big}"))
    assert long.new_content is None
    assert long.payload is not None
    assert long.payload.size == MAX_INLINE_BYTES + 1
    assert long.payload.path == plans.root / "big"


def test_bytes_that_are_not_text_survive_in_the_script(plans: PlanProject) -> None:
    (plans.root / "bytes").write_bytes(b"\\a\0b\xff")
    command = plans.command("- copy: {path: /x, src: bytes}")
    assert state_of(command).new_content == b"\\a\0b\xff"
    assert "payload() { printf %b " in command.text
    assert "\\\\a\\0000b" in command.text


def test_a_template_is_rendered_with_the_names_of_its_caller(plans: PlanProject) -> None:
    plans.write(
        {
            "tasks/conf.j2": "{{ host.name }} {{ x }}\n",
            "tasks/t.yml": """
                params: {x: {default: given}}
                steps: [template: {src: conf.j2, path: /x}]
            """,
        }
    )
    (planned,) = plans.planned_tasks("t", limit="web2")
    assert state_of(command_of(planned.hosts[0].steps[0])).new_content == b"web2 given\n"


def test_an_undefined_name_in_a_template_file_is_an_error_in_that_file(plans: PlanProject) -> None:
    plans.write({"tasks/conf.j2": "a\nb {{ colur }}\n"})
    problem = plans.refused_steps("- template: {src: conf.j2, path: /x}")
    assert problem.message == "'colur' is undefined"
    assert str(problem.mark).startswith("tasks/conf.j2:2:")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{path: /x}", "task 'copy' needs"),
        ("{path: /x, src: a, content: b}", "needs one of src, content and remote_src, found 2"),
        ("{path: /x, src: missing}", "cannot read"),
    ],
)
def test_a_module_needs_exactly_one_payload_that_exists(
    plans: PlanProject, arguments: str, message: str
) -> None:
    (plans.root / "a").touch()
    problem = plans.refused_steps(f"- copy: {arguments}")
    assert message in problem.message
    assert str(problem.mark).startswith("tasks/t.yml:2:")


@pytest.mark.parametrize(
    "step",
    [
        'copy: {src: "{{ r.stdout }}", path: /x}',
        'template: {src: "{{ r.stdout }}", path: /x}',
        'upload: {src: "{{ r.stdout }}", path: /x}',
        'upload: {src: "{{ name }}", path: /x}',
    ],
)
def test_text_from_a_host_names_no_file_of_this_machine(plans: PlanProject, step: str) -> None:
    plans.variables('name: "{{ r.stdout }}"')
    problem = plans.refused_steps(f"- {{run: x, register: r}}\n- {step}")
    assert "text from a host" in problem.message
    assert "file of this machine" in problem.message
    assert str(problem.mark).startswith("tasks/t.yml:3:")


def test_a_host_may_choose_between_files_that_the_task_names(plans: PlanProject) -> None:
    plans.write({"tasks/a": "a\n", "tasks/b": "b\n"})
    steps = plans.steps("""
        - {run: x, register: r}
        - copy: {src: "{{ 'a' if r.changed else 'b' }}", path: /x}
    """)
    assert steps[1].awaited_names == ("r",)
    for changed, content in ((True, b"a\n"), (False, b"b\n")):
        command = resumed_command(steps[1], r=output(changed=changed))
        assert state_of(command).new_content == content


def with_secret(value: str = "hunter22") -> SecretResolver:
    def fetch(secret: Secret) -> str:
        return value

    return SecretResolver(fetch_secret=fetch)


def test_a_script_with_a_secret_makes_private_files(plans: PlanProject) -> None:
    plans.variables("password: !secret {env: P}")
    steps = '- copy: {path: /x, content: "{{ password }}"}'
    assert plans.command(steps, secrets=with_secret()).text.startswith("o_private=1\n")
    public = plans.command("- copy: {path: /x, content: hunter}", secrets=with_secret())
    assert "o_private" not in public.text


@pytest.mark.parametrize(
    ("step", "param"),
    [
        ('copy: {path: "/{{ password }}", content: x}', "path"),
        ('line: {path: /x, line: a, owner: "{{ password }}"}', "owner"),
        ('line: {path: /x, line: a, owner: "{{ made }}"}', "owner"),
    ],
)
def test_a_secret_in_the_arguments_of_a_process_is_an_error(
    plans: PlanProject, step: str, param: str
) -> None:
    plans.variables('password: !secret {env: P}\nmade: "x{{ password }}"')
    problem = plans.refused_steps(f"- {step}", secrets=with_secret())
    module = step.partition(":")[0]
    assert problem.message == (f"the secret 'password' would be visible in `{param}` of `{module}`")
    assert str(problem.mark).startswith("tasks/t.yml:2:")


def test_a_secret_that_is_shown_as_its_name_is_not_fetched(plans: PlanProject) -> None:
    plans.variables("password: !secret {env: P}")
    stand_ins = SecretResolver(stand_in=lambda secret: secret.display_label)
    command = plans.command("- run: login {{ password }}", secrets=stand_ins)
    assert command.text == "login '‹password›'"
    with pytest.raises(DefinitionError):
        plans.plan("t", secrets=with_secret("abc"))  # too short to be masked


def test_an_unpacked_tree_is_read_once_for_all_hosts(plans: PlanProject) -> None:
    plans.write({"tasks/tree/a": "a\n", "tasks/tree/sub/b": "b\n", "tasks/tree/c~": "x"})
    plans.write_task("steps: [upload: {src: tree, path: /x, exclude: ['*~']}]\n")
    (planned,) = plans.planned_tasks("t", limit="web")
    states = [state_of(command_of(host.steps[0])) for host in planned.hosts]
    assert states[0].manifest is not None
    assert b"c~" not in states[0].manifest
    assert states[0].manifest_lines == states[0].manifest.count(b"\n") > 0
    assert len({state.manifest for state in states}) == 1


def test_a_result_cannot_be_rendered_whole(plans: PlanProject) -> None:
    step = plans.step("- {run: x, register: r}\n- run: echo {{ r }}")
    with pytest.raises(DefinitionError, match="a result has no text"):
        resume_step(step, r=output("a"))
