"""File trees: the archive has the announced size, and is the same for the same files."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from orchestrator.errors import OrchError
from orchestrator.planner.file_tree import FileTree, TreeOptions, read_tree


def read_archive(found: FileTree, *, whole: bool) -> bytes:
    return b"".join(found.archive(whole=whole))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name, size in {"a": 0, "b": 1, "sub/c": 512, "d": 513, "sub/é \n": 20_000}.items():
        (tmp_path / name).write_bytes(b"x" * size)
    (tmp_path / "to").symlink_to("sub/c")
    return tmp_path


@pytest.mark.parametrize("whole", [False, True])
def test_the_archive_has_files_and_links_and_is_as_long_as_said(folder: Path, whole: bool) -> None:
    found = read_tree(folder)
    data = read_archive(found, whole=whole)
    assert len(data) == found.payload(whole=whole).size
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = {member.name: member for member in archive}
        assert (members.pop("m", None) is not None) == whole
        sizes = {name: member.size for name, member in members.items() if member.isreg()}
        assert sizes == {"t/a": 0, "t/b": 1, "t/d": 513, "t/sub/c": 512, "t/sub/é \n": 20_000}
        links = {name: member.linkname for name, member in members.items() if member.issym()}
        assert links == {"t/to": "sub/c"}
        assert len(members) == len(sizes) + len(links)
    listed = (
        b"".join(found.manifest_archive.read_chunks())
        if found.manifest_archive.read_chunks
        else b""
    )
    assert len(listed) == found.manifest_archive.size
    with tarfile.open(fileobj=io.BytesIO(listed)) as archive:
        member = archive.extractfile("m")
        assert member is not None
        assert member.read() == found.manifest


def test_it_does_not_depend_on_times_owners_or_umask(folder: Path) -> None:
    before = read_tree(folder)
    data = read_archive(before, whole=True)
    os.utime(folder / "a", (1, 1))
    (folder / "b").chmod(0o664)
    assert read_tree(folder).manifest == before.manifest
    assert read_archive(read_tree(folder), whole=True) == data


@pytest.mark.parametrize("change", ["longer", "shorter", "other", "gone"])
def test_a_file_that_changes_under_way_is_told(folder: Path, change: str) -> None:
    found = read_tree(folder)
    path = folder / "d"
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(
            {"longer": b"x" * 512 + b"yy", "shorter": b"x", "other": b"y" * 513}[change]
        )
    with pytest.raises(OrchError, match=r"d changed during the run|cannot read"):
        read_archive(found, whole=False)


def test_what_is_no_file_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(OrchError, match="pipe is not a file, folder or link"):
        read_tree(folder)
    assert b"pipe" not in read_tree(folder, TreeOptions(exclude=("pi*",))).manifest
