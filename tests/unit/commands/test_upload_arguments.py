"""Where ``orch upload`` puts what: DEST, or the name of SRC in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.commands.cli_args import upload_arguments
from orchestrator.errors import UsageError


@pytest.mark.parametrize(
    ("src", "dest", "path"),
    [
        ("site", "/srv", "/srv/site"),
        ("site", "/srv/", "/srv/site"),
        ("site", "/", "/site"),
        ("site", "~", "~/site"),
        ("site", "~/", "~/site"),
        ("./site", "srv", "srv/site"),
        ("to-site", "srv", "srv/to-site"),
        ("site/", "/srv", "/srv"),
        ("site//", "/srv", "/srv"),
        ("site/.", "/srv", "/srv"),
        (".", "/srv", "/srv"),
        ("site/..", "/srv", "/srv"),
        ("page", "/srv", "/srv"),
        ("page", "/srv/", "/srv/"),
        ("to-page", "/srv/", "/srv/"),
    ],
)
def test_a_folder_keeps_its_name_unless_it_ends_with_a_slash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, src: str, dest: str, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("site").mkdir()
    Path("page").write_text("")
    Path("to-site").symlink_to("site")
    Path("to-page").symlink_to("page")
    found = upload_arguments(src, dest)
    assert found["path"] == path
    assert Path(found["src"]).is_absolute()
    assert Path(found["src"]).samefile(src)


def test_an_empty_destination_is_refused() -> None:
    with pytest.raises(UsageError, match="DEST is empty"):
        upload_arguments("x", " ")
