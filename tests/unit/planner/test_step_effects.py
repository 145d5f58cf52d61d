"""What check mode knows of a step: what it may change, and what it depends on."""

from __future__ import annotations

import pytest

from orchestrator.model.command import StepEffects
from orchestrator.planner.step_effects import WorkingDirectory
from tests.unit.planner.plan_project import PlanProject


def effects(plans: PlanProject, step: str) -> StepEffects:
    """Return the effects of the last of these steps in check mode."""
    found = plans.command(step, check_mode=True).effects
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("chdir", "user", "text", "absolute"),
    [
        (None, "", "a", "~/a"),
        (None, "www", "a", "~www/a"),
        ("/srv", "", "a", "/srv/a"),
        ("/srv", "", "../a/./b", "/a/b"),
        ("/srv", "", "/x//y", "/x/y"),
        ("/srv", "", "~/x", "~/x"),
        ("/srv", "www", "~", "~www"),
        ("sub", "", "a", "~/sub/a"),
        ("~/sub", "www", "a", "~www/sub/a"),
    ],
)
def test_a_path_is_relative_to_the_folder_of_the_step(
    chdir: str | None, user: str, text: str, absolute: str
) -> None:
    assert WorkingDirectory(chdir, user).absolute_path(text) == absolute


@pytest.mark.parametrize(
    ("chdir", "user", "needed"),
    [
        (None, "", []),
        ("~", "", []),
        ("/srv", "", ["/srv"]),
        (None, "www", ["www"]),
        ("sub", "www", ["~www/sub", "www"]),
    ],
)
def test_a_step_depends_on_its_folder_and_its_user(
    chdir: str | None, user: str, needed: list[str]
) -> None:
    assert list(WorkingDirectory(chdir, user).needed_names()) == needed


def test_a_command_may_change_and_read_anything(plans: PlanProject) -> None:
    assert effects(plans, "- {run: make, creates: out, chdir: /src, become: www}") == StepEffects(
        created_names=("/src/out",),
        may_change_anything=True,
        needed_names=("/src", "www"),
        may_read_anything=True,
    )


def test_a_readonly_command_only_reads(plans: PlanProject) -> None:
    assert effects(plans, "- {run: ls, readonly: true}") == StepEffects(may_read_anything=True)


def test_a_download_needs_its_file_and_nothing_else(plans: PlanProject) -> None:
    assert effects(plans, "- download: {path: log, to: /tmp/}") == StepEffects(
        needed_names=("~/log",)
    )


def test_effects_are_known_only_in_check_mode(plans: PlanProject) -> None:
    assert plans.command("- run: x").effects is None
    assert plans.command("- directory: {path: /x}").effects is None


def module(plans: PlanProject, text: str) -> PlanProject:
    """Write a module with this text."""
    return plans.write_task(f"{text}\nprobe: state a b\nwant: {{a: b}}\n", "m")


FIX = "fix: x\n"
PARAMS = "params: {path: {type: path}, owner: {}, other: {type: path}}\n"


def test_a_module_with_a_path_changes_only_that_path(plans: PlanProject) -> None:
    module(plans, PARAMS + FIX)
    found = effects(plans, "- m: {path: /a, owner: www, other: ~/b}")
    assert found.created_names == ("/a",)
    assert not found.may_change_anything
    assert found.needed_names == ("/a", "www", "~/b")
    assert not found.may_read_anything


def test_a_module_without_a_path_may_change_and_read_anything(plans: PlanProject) -> None:
    module(plans, "params: {owner: {}}\n" + FIX)
    found = effects(plans, "- m: {owner: www}")
    assert (found.created_names, found.may_change_anything) == ((), True)
    assert (found.needed_names, found.may_read_anything) == (("www",), True)


@pytest.mark.parametrize(
    ("makes", "created", "anything"),
    [
        ("[owner]", ("www",), False),
        ("[/etc/x]", ("/etc/x",), False),
        ('["{{ path }}/x"]', ("/a/x",), False),
        ("[]", (), False),
        ("anything", (), True),
    ],
)
def test_what_a_module_makes_replaces_its_path(
    plans: PlanProject, makes: str, created: tuple[str, ...], anything: bool
) -> None:
    module(plans, PARAMS + FIX + f"makes: {makes}\n")
    found = effects(plans, "- m: {path: /a, owner: www}")
    assert set(found.created_names) == set(created)
    assert found.may_change_anything == anything


@pytest.mark.parametrize(
    ("reads", "needed", "anything"),
    [
        ("[path]", {"/a"}, False),
        ("[owner]", {"www"}, False),
        ("[]", set(), False),
        ("anything", set(), True),
    ],
)
def test_what_a_module_reads_replaces_its_params(
    plans: PlanProject, reads: str, needed: set[str], anything: bool
) -> None:
    module(plans, PARAMS + FIX + f"reads: {reads}\n")
    found = effects(plans, "- m: {path: /a, owner: www, other: /b}")
    assert set(found.needed_names) == needed
    assert found.may_read_anything == anything


def test_a_module_without_a_fix_changes_nothing_and_may_wait(plans: PlanProject) -> None:
    module(plans, PARAMS)
    found = effects(plans, "- m: {path: /a}")
    assert (found.created_names, found.may_change_anything) == ((), False)
    assert found.may_read_anything
    assert not found.waits_for_state
    module(plans, PARAMS + "within: 5s\n")
    assert effects(plans, "- m: {path: /a}").waits_for_state


def test_a_given_command_may_read_anything(plans: PlanProject) -> None:
    module(plans, "params: {path: {type: path}, check: {type: command}}\n" + FIX)
    assert not effects(plans, "- m: {path: /a}").may_read_anything
    assert effects(plans, "- m: {path: /a, check: test -e x}").may_read_anything


@pytest.mark.parametrize(
    ("value", "needed"),
    [
        ("www", {"www"}),
        ("a/b", {"~/a/b", "a/b"}),
        ("/a", {"/a"}),
        ("[a, /b]", {"a", "/b"}),
        ("12", {"12"}),
        ("true", set()),
        ('"a\\nb"', set()),
        ('""', set()),
    ],
)
def test_a_value_that_may_be_a_name_or_a_path_is_needed_as_both(
    plans: PlanProject, value: str, needed: set[str]
) -> None:
    module(plans, "params: {any: {type: any}}\n" + FIX)
    assert set(effects(plans, f"- m: {{any: {value}}}").needed_names) == needed


def test_a_path_in_the_home_folder_is_needed_in_that_of_the_become_user(
    plans: PlanProject,
) -> None:
    module(plans, "params: {any: {type: any}}\n" + FIX)
    found = effects(plans, "- {m: {any: ~/x}, become: www}")
    assert found.needed_names == ("~www/x", "www")
