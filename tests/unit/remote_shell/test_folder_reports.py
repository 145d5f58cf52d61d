import pytest

from orchestrator.model.command import WorkingFolder
from orchestrator.remote_shell.decoder import ProtocolError
from orchestrator.remote_shell.folder_script import FolderReports


def reported(*reports: tuple[str, str]) -> WorkingFolder | None:
    folder = FolderReports()
    for kind, text in reports:
        folder.add_report(kind, text)
    return folder.folder()


def test_parts_are_joined_and_decoded() -> None:
    assert reported(("+folder", "/a%0A"), ("folder", "%25b"), ("previous", "/c")) == WorkingFolder(
        "/a\n%b", "/c"
    )
    assert reported(("folder", "/a"), ("home", "/a")) == WorkingFolder("/a", is_home=True)
    assert reported(("+folder", "/\udcc3"), ("folder", "\udca9")) == WorkingFolder("/é")


@pytest.mark.parametrize("path", ["", "relative", "/a\0b", "/" + "a" * 10_000, "-/x"])
def test_what_is_no_absolute_path_is_not_a_folder(path: str) -> None:
    assert reported(("folder", path)) is None
    assert reported(("folder", "/a"), ("previous", path)) == WorkingFolder("/a")


def test_a_host_cannot_fill_the_memory() -> None:
    with pytest.raises(ProtocolError, match="longer than 65536 characters"):
        reported(*([("+folder", "/" + "a" * 999)] * 100))
