"""What a check says of random steps over random files is what the run then does."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.playbook.task_index import shipped_modules
from tests.integration.modules.random_steps import (
    FILE_STEPS,
    PATH_PARAMS,
    PATHS,
    SOURCES,
    SYSTEM_STEPS,
    TEXTS,
    ModuleStep,
    family_of,
    make_sources,
    steps_of,
    system_machine,
)
from tests.support.machine import MachineRun, ShellMachine, result_message, tree_snapshot

ENTRIES = st.one_of(
    st.just(("directory", "")),
    st.tuples(st.just("file"), TEXTS),
    st.tuples(st.just("link"), st.sampled_from(["nowhere", "../elsewhere/file", "../elsewhere"])),
)
TREES = st.dictionaries(PATHS, ENTRIES, max_size=5)


LEFT_OUT = {
    "debug": "it only prints",
    "touch": "it is `file`, and a command that always changes the times",
    "script": "a step of it is a command of the user, which no check runs; with `creates` it is below",
    "reboot": "it ends the machine; its own tests restart a machine made for that",
    "wait_for": "it is below: it waits for what a step before may make",
    "http": "it looks at a server, which its own tests start",
    "request": "what it does is a server's, which its own tests start",
    "git_log": "it only reads a repository",
    "git_revision": "it only reads a repository",
    "package": "each state takes packages that are built for it; its own tests do that",
    "pip": "an environment of Python takes seconds; its own tests make some",
    "npm": "node takes seconds for each call; its own tests run it",
    "swap": "swap files in use belong to the whole machine; its own tests take theirs away again",
    "selinux": "this kernel may have none; its own tests make up the files of it",
    "docker_image": "it needs an engine and a registry, which its own tests start",
    "docker_compose": "it needs an engine and images, which its own tests start",
    "docker_container": "it needs an engine and images, which its own tests start",
    "docker_login": "it needs an engine and a registry, which its own tests start",
    "docker_network": "it needs an engine, which its own tests start",
    "mysql_db": "it needs a server, on which its own tests run random steps",
    "mysql_user": "it needs a server, on which its own tests run steps",
    "mysql_query": "it needs a server, on which its own tests run steps",
    "postgres_privileges": "it needs a server, on which its own tests run steps",
    "postgres_db": "it needs a server, on which its own tests run steps",
    "postgres_query": "it needs a server, on which its own tests run steps",
    "postgres_user": "it needs a server, on which its own tests run steps",
}
"""Shipped modules of which there are no random steps, and why."""

STEPS = steps_of(FILE_STEPS)
SEQUENCES = st.lists(STEPS, min_size=1, max_size=4)


def build_tree(root: Path, tree: dict[str, tuple[str, str]]) -> None:
    """Create a new tree in the folder, without entries that cannot be created."""
    if not (root.parent / "sources").exists():
        make_sources(root.parent / "sources")
    for below in (root, root.parent / "elsewhere"):
        shutil.rmtree(below, ignore_errors=True)
        below.mkdir()
    (root.parent / "elsewhere" / "file").write_text("far\n")
    for name, (kind, text) in tree.items():
        path = root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink() or path.exists():
                continue
            if kind == "directory":
                path.mkdir()
            elif kind == "file":
                path.write_bytes(text.encode())
            else:
                path.symlink_to(text)
        except (FileExistsError, NotADirectoryError, FileNotFoundError):
            continue


def path_param(module: str) -> str:
    return PATH_PARAMS.get(module, "path")


def step_path(step: ModuleStep) -> PurePosixPath:
    ((module, args),) = step.items()
    return PurePosixPath(args[path_param(module)])


def are_apart(one: PurePosixPath, other: PurePosixPath) -> bool:
    """Whether neither path is the other, or leads to it."""
    return not (one.is_relative_to(other) or other.is_relative_to(one))


def sequence_steps(root: Path, sequence: list[ModuleStep]) -> list[dict[str, Any]]:
    """Return the steps with their paths below the root, and their sources beside it."""
    steps = []
    for each in sequence:
        for module, args in each.items():
            at, name = args[path_param(module)], path_param(module)
            given = {
                key: value.replace(SOURCES, str(root.parent / "sources"))
                if isinstance(value, str)
                else value
                for key, value in args.items()
            }
            steps.append({module: {**given, name: f"{root}/{at}"}, "ignore_errors": True})
    return steps


def is_foretold(asked: MachineRun, done: MachineRun, number: int) -> bool:
    """Whether the check said what the run did, or named a step before that it may depend on."""
    said = asked.statuses[number]
    if said == "unknown":
        return "was not run" in asked.outcomes[number].reason
    return said.replace("would_change", "changed") == done.statuses[number]


@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(TREES, SEQUENCES)
def test_a_check_predicts_the_run_and_changes_nothing(
    machine: ShellMachine,
    tree: dict[str, tuple[str, str]],
    sequence: list[ModuleStep],
) -> None:
    root = machine.root
    build_tree(root, tree)
    steps = sequence_steps(root, sequence)
    before = tree_snapshot(root), tree_snapshot(root.parent / "elsewhere")
    asked = machine.run_steps(steps, check=True)
    assert (tree_snapshot(root), tree_snapshot(root.parent / "elsewhere")) == before
    done = machine.run_steps(steps)
    paths = [step_path(each) for each in sequence]
    for number, path in enumerate(paths):
        if all(are_apart(path, earlier) for earlier in paths[:number]):
            assert is_foretold(asked, done, number), (
                sequence[number],
                result_message(asked.outcomes[number]),
                result_message(done.outcomes[number]),
            )
    if all(are_apart(a, b) for i, a in enumerate(paths) for b in paths[:i]):
        again = machine.run_steps(steps).statuses
        assert again == [status.replace("changed", "ok") for status in done.statuses]
    assert not list(root.glob("*orch-*")), "something was left behind"


SYSTEM = settings(
    max_examples=3,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
SYSTEM_SEQUENCES = st.lists(steps_of(SYSTEM_STEPS), min_size=3, max_size=6)


def check_system_steps(
    machine: ShellMachine, before: list[ModuleStep], sequence: list[ModuleStep]
) -> None:
    """Run the first steps, whatever they do; then check and run the others, twice."""
    machine.run_steps([{**step, "ignore_errors": True} for step in before])
    steps = [{**step, "ignore_errors": True} for step in sequence]
    observed = machine.observable_state()
    asked = machine.run_steps(steps, check=True)
    assert machine.observable_state() == observed, sequence
    done = machine.run_steps(steps)
    families = [family_of(step) for step in sequence]
    for number, family in enumerate(families):
        if family not in families[:number]:
            assert is_foretold(asked, done, number), (
                before,
                sequence[number],
                result_message(asked.outcomes[number]),
                result_message(done.outcomes[number]),
            )
    if len(set(families)) == len(families):
        again = machine.run_steps(steps).statuses
        assert again == [status.replace("changed", "ok") for status in done.statuses], sequence


@SYSTEM
@given(SYSTEM_SEQUENCES, SYSTEM_SEQUENCES)
def test_a_check_predicts_what_a_run_does_to_the_system(
    before: list[ModuleStep], sequence: list[ModuleStep]
) -> None:
    with system_machine("dash") as machine:
        check_system_steps(machine, before, sequence)


@pytest.mark.long
@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
@settings(SYSTEM, max_examples=150)
@given(SYSTEM_SEQUENCES, SYSTEM_SEQUENCES)
def test_many_checks_predict_what_a_run_does_to_the_system(
    shell: str, before: list[ModuleStep], sequence: list[ModuleStep]
) -> None:
    with system_machine(shell) as machine:
        check_system_steps(machine, before, sequence)


def test_every_shipped_module_has_random_steps_or_a_reason() -> None:
    tried = FILE_STEPS.keys() | SYSTEM_STEPS.keys()
    assert tried | LEFT_OUT.keys() == shipped_modules().keys()
    assert not tried & LEFT_OUT.keys()


def command_steps(step: dict[str, Any], *texts: str, **more: Any) -> st.SearchStrategy[Any]:
    """Commands on a path, with what stands beside them."""
    return st.tuples(st.sampled_from(texts), PATHS).map(
        lambda it: {**step, "run": f"{it[0]} {shlex.quote('./' + it[1])}", **more}
    )


FREE = st.one_of(
    STEPS,
    command_steps({}, "mkdir -p", "touch", "rm -rf", "echo x >"),
    command_steps({"readonly": True}, "cat", "ls", "test -d", "readlink"),
    PATHS.map(lambda path: {"run": "pwd", "readonly": True, "chdir": path}),
    PATHS.map(lambda path: {"run": "touch x", "creates": "x", "chdir": path}),
    PATHS.map(lambda path: {"wait_for": {"path": path, "within": "0s"}}),
)
FREE_SEQUENCES = st.lists(FREE, min_size=2, max_size=5)
WITHHELD = {"would_change", "would_run", "unknown"}


def in_folder(root: Path, step: dict[str, Any]) -> dict[str, Any]:
    """Return the step below the folder, with failures ignored."""
    if "run" in step:
        folder = f"{root}/{step['chdir']}" if "chdir" in step else str(root)
        return {**step, "chdir": folder, "ignore_errors": True}
    return sequence_steps(root, [step])[0]


def has_no_double_links(tree: dict[str, tuple[str, str]]) -> bool:
    """Whether no two names lead to one folder: of that nobody knows who only has the names."""
    return [text for _, text in tree.values()].count("../elsewhere") < 2


def check_is_honest(
    machine: ShellMachine, tree: dict[str, tuple[str, str]], sequence: list[dict[str, Any]]
) -> None:
    root = machine.root
    build_tree(root, tree)
    steps = [in_folder(root, each) for each in sequence]
    before = tree_snapshot(root), tree_snapshot(root.parent / "elsewhere")
    asked = machine.run_steps(steps, check=True)
    assert (tree_snapshot(root), tree_snapshot(root.parent / "elsewhere")) == before
    done = machine.run_steps(steps)
    for number, (output, came) in enumerate(zip(asked.statuses, done.statuses, strict=True)):
        why = (
            sequence[number],
            result_message(asked.outcomes[number]),
            result_message(done.outcomes[number]),
        )
        withheld = WITHHELD & set(asked.statuses[:number])
        assert output != "failed" or came == "failed", why
        assert output != "unknown" or (withheld and "was not run" in asked.outcomes[number].reason)
        if output in ("ok", "would_change", "skipped") and not withheld:
            assert came == output.replace("would_change", "changed"), why


SHORT = settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("machine", ["dash"], indirect=True)
@SHORT
@given(TREES.filter(has_no_double_links), FREE_SEQUENCES)
def test_a_check_of_steps_that_hang_on_withheld_ones_says_no_more_than_it_knows(
    machine: ShellMachine, tree: dict[str, tuple[str, str]], sequence: list[dict[str, Any]]
) -> None:
    check_is_honest(machine, tree, sequence)


@pytest.mark.long
@settings(SHORT, max_examples=1500)
@given(TREES.filter(has_no_double_links), FREE_SEQUENCES)
def test_a_check_of_many_steps_that_hang_on_withheld_ones_says_no_more_than_it_knows(
    machine: ShellMachine, tree: dict[str, tuple[str, str]], sequence: list[dict[str, Any]]
) -> None:
    check_is_honest(machine, tree, sequence)
