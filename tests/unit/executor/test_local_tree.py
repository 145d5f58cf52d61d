"""Local trees: no link is followed, and a place never has a part of a file."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.errors import OrchError
from orchestrator.executor.local_tree import LocalTree
from orchestrator.executor.remote_tree import RemoteEntry
from orchestrator.model.byte_size import format_size


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[LocalTree]:
    local = LocalTree(tmp_path / "tree")
    local.make_folder(())
    yield local
    local.close()


def file_entry(name: str, content: bytes = b"new", *, is_executable: bool = False) -> RemoteEntry:
    parts = tuple(name.encode().split(b"/"))
    digest = hashlib.sha256(content).hexdigest()
    return RemoteEntry("f", parts, is_executable, size=len(content), digest=digest)


def put(tree: LocalTree, name: str, *, is_executable: bool = False) -> None:
    file = tree.new_file(file_entry(name, is_executable=is_executable))
    file.write(b"new")
    file.commit()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("is_absolute", [True, False])
def test_a_link_on_the_way_is_not_followed(tree: LocalTree, is_absolute: bool) -> None:
    outside = tree.root.parent / "outside"
    outside.mkdir()
    (tree.root / "l").symlink_to(outside if is_absolute else "../outside")
    for attempt in (
        lambda: put(tree, "l/x"),
        lambda: tree.make_folder((b"l", b"d")),
        lambda: tree.make_link(RemoteEntry("l", (b"l", b"m"), target=b"x")),
        lambda: tree.difference(file_entry("l/x")),
        lambda: tree.set_mode(file_entry("l/x")),
    ):
        with pytest.raises(OrchError, match="a name on the way to it is not a folder"):
            attempt()
    with pytest.raises(OrchError, match="is not a folder, and a folder on the host"):
        tree.difference(RemoteEntry("d", (b"l",)))
    assert list(outside.iterdir()) == []


def test_a_link_at_the_place_of_a_file_is_replaced(tree: LocalTree) -> None:
    outside = tree.root.parent / "outside"
    outside.write_text("old")
    (tree.root / "f").symlink_to(outside)
    assert tree.difference(file_entry("f", b"old")) == "different"
    put(tree, "f")
    assert outside.read_text() == "old"
    assert not (tree.root / "f").is_symlink()
    assert (tree.root / "f").read_bytes() == b"new"
    with pytest.raises(OrchError):
        (tree.root / "g").symlink_to(outside)
        tree.set_mode(file_entry("g", is_executable=True))
    assert mode_of(outside) & 0o111 == 0


def test_a_file_that_is_not_complete_leaves_nothing(tree: LocalTree) -> None:
    (tree.root / "f").write_text("old")
    file = tree.new_file(file_entry("f"))
    file.write(b"ne")
    assert (tree.root / "f").read_text() == "old"
    file.discard()
    assert list(tree.root.iterdir()) == [tree.root / "f"]
    assert (tree.root / "f").read_text() == "old"


def test_a_mode_is_kept_except_for_execution(tree: LocalTree) -> None:
    put(tree, "new")
    put(tree, "run", is_executable=True)
    assert (mode_of(tree.root / "new"), mode_of(tree.root / "run")) == (0o600, 0o700)
    (tree.root / "new").chmod(0o4640)
    assert tree.difference(file_entry("new")) == ""
    entry = file_entry("new", is_executable=True)
    assert tree.difference(entry) == "of another mode"
    tree.set_mode(entry)
    assert tree.difference(entry) == ""
    assert mode_of(tree.root / "new") & 0o777 == 0o750
    put(tree, "new")
    assert mode_of(tree.root / "new") == 0o640


def test_kinds_that_cannot_replace_each_other_are_told(tree: LocalTree) -> None:
    (tree.root / "d").mkdir()
    (tree.root / "f").write_text("")
    link = RemoteEntry("l", (b"d",), target=b"x")
    for entry, kinds in (
        (file_entry("d"), "is a folder, and a file on the host"),
        (link, "is a folder, and a link on the host"),
        (RemoteEntry("d", (b"f",)), "is not a folder, and a folder on the host"),
    ):
        with pytest.raises(OrchError, match=kinds):
            tree.difference(entry)
    link = RemoteEntry("l", (b"f",), target=b"x")
    assert tree.difference(link) == "different"
    tree.make_link(link)
    assert tree.difference(link) == ""


def test_more_than_fits_is_refused(tree: LocalTree) -> None:
    with pytest.raises(OrchError, match=r"1\.0 EB|1000\.0 PB.* do not fit .*are free"):
        tree.check_room(10**18)
    tree.check_room(1)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.0 kB"), (68_000_000, "68.0 MB")],
)
def test_sizes_are_written_in_decimal_units(size: int, text: str) -> None:
    assert format_size(size) == text
