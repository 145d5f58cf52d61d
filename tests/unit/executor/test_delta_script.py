"""The script that makes files on a host of older ones: paths that the host has sent are checked."""

from __future__ import annotations

import pytest

from orchestrator.errors import OrchError
from orchestrator.executor.payload_upload import delta_script
from orchestrator.model.command import DeltaFile
from orchestrator.model.shell_quoting import shell_quote


def script_for(name: bytes, basis: str) -> str:
    file = DeltaFile("/src", name, size=5, digest="0" * 64, mode=0o644, mtime=-1)
    return delta_script([file], basis, ["--server", "-r"], rest_bytes=1024)


@pytest.mark.parametrize("basis", ["", "relative", "/a\0b", "/..", "/a/.", "/" + "x" * 5000])
def test_a_path_that_cannot_be_that_of_a_file_is_refused(basis: str) -> None:
    with pytest.raises(OrchError, match="unexpected reply from the host"):
        script_for(b"", basis)


def test_paths_are_words_of_their_own() -> None:
    script = script_for(b"it's $(id)", "/srv/a b'\n-c")
    option = shell_quote("--copy-dest=/srv/a b'\n-c")
    file = shell_quote("delta/it's $(id)")
    assert f" {option} . delta/\n" in script
    assert f"o_verify {file} " in script
