"""What a check says of random steps over random files is what the run then does."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.machine import ShellMachine, result_message, tree_snapshot

NAMES = st.sampled_from(["a", "b c", "é'", "-d"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
MODES = st.sampled_from(["0644", "0600", "0755", "0700"])
TEXTS = st.sampled_from(["", "x\n", "x", "one\ntwo\n", "$(id)\n", "\\n%41\n"])
LINES = st.sampled_from(["x", "one", "a 'b' \"c\"", "$HOME", "ü"])
ENTRIES = st.one_of(
    st.just(("directory", "")),
    st.tuples(st.just("file"), TEXTS),
    st.tuples(st.just("link"), st.sampled_from(["nowhere", "../elsewhere/file", "../elsewhere"])),
)
TREES = st.dictionaries(PATHS, ENTRIES, max_size=5)


def module_step(module: str, **params: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for calls of a module with some of these params."""
    always = {"path": PATHS, **{k: v for k, v in params.items() if not k.endswith("_")}}
    maybe = {k[:-1]: v for k, v in params.items() if k.endswith("_")}
    return st.fixed_dictionaries(always, optional=maybe).map(lambda args: {module: args})


STEPS = st.one_of(
    module_step("file", mode_=MODES),
    module_step("file", state=st.just("absent"), recurse_=st.booleans()),
    module_step("directory", mode_=MODES),
    module_step("directory", state=st.just("absent"), recurse_=st.booleans()),
    module_step("link", to=st.sampled_from(["x", "../y z", "/proc/none"]), force_=st.booleans()),
    module_step("link", to=st.sampled_from([".", "a", "/proc/version"]), hard=st.just(True)),
    module_step("directory", recurse=st.just(True), mode_=MODES, file_mode_=st.just("g=u,o+X")),
    module_step("copy", content=TEXTS, mode_=MODES, backup_=st.booleans()),
    module_step("line", line=LINES, create_=st.booleans(), mode_=MODES),
    module_step("line", line=LINES, state=st.just("absent")),
    module_step("line", line=st.just(r"\1 \0"), match=st.just("^(o.*|x)$"), backrefs=st.just(True)),
    module_step("replace", match=st.sampled_from(["o", "^.*$"]), text=st.sampled_from(["", "x"])),
    module_step(
        "ini_file", option=st.just("x"), value=LINES, section_=LINES, create_=st.booleans()
    ),
    module_step("copy", remote_src=st.sampled_from(["/etc/passwd", "/no"]), force_=st.booleans()),
    module_step("text_block", block=TEXTS.filter(bool), create_=st.booleans()),
    module_step("known_hosts", name=st.just("x"), key=st.just("ssh-rsa AAAA"), hash_=st.booleans()),
    module_step("known_hosts", name=st.just("x"), state=st.just("absent")),
)
SEQUENCES = st.lists(STEPS, min_size=1, max_size=4)


def build_tree(root: Path, tree: dict[str, tuple[str, str]]) -> None:
    """Create a new tree in the folder, without entries that cannot be created."""
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


def step_name(step: dict[str, dict[str, Any]]) -> PurePosixPath:
    return PurePosixPath(next(iter(step.values()))["path"])


def are_apart(one: PurePosixPath, other: PurePosixPath) -> bool:
    """Whether neither path is the other, or leads to it."""
    return not (one.is_relative_to(other) or other.is_relative_to(one))


def sequence_steps(root: Path, sequence: list[dict[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    return [
        {module: {**args, "path": f"{root}/{args['path']}"}, "ignore_errors": True}
        for each in sequence
        for module, args in each.items()
    ]


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(TREES, SEQUENCES)
def test_a_check_predicts_the_run_and_changes_nothing(
    machine: ShellMachine,
    tree: dict[str, tuple[str, str]],
    sequence: list[dict[str, dict[str, Any]]],
) -> None:
    root = machine.root
    build_tree(root, tree)
    steps = sequence_steps(root, sequence)
    before = tree_snapshot(root), tree_snapshot(root.parent / "elsewhere")
    asked = machine.run_steps(steps, check=True)
    assert (tree_snapshot(root), tree_snapshot(root.parent / "elsewhere")) == before
    done = machine.run_steps(steps)
    paths = [step_name(each) for each in sequence]
    for number, path in enumerate(paths):
        if all(are_apart(path, earlier) for earlier in paths[:number]):
            foretold = asked.statuses[number].replace("would_change", "changed")
            assert foretold == done.statuses[number], (
                sequence[number],
                result_message(asked.outcomes[number]),
                result_message(done.outcomes[number]),
            )
    if all(are_apart(a, b) for i, a in enumerate(paths) for b in paths[:i]):
        again = machine.run_steps(steps).statuses
        assert again == [status.replace("changed", "ok") for status in done.statuses]
    assert not list(root.glob("*orch-*")), "something was left behind"


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
