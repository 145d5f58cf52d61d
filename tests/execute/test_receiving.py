"""What brings bytes to a host leaves them there whole, or nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from orchestrator.execute.alone import receiving

SHELLS = [["dash"], ["bash"], ["busybox", "sh"]]


def left(shell: list[str], folder: Path, sent: bytes, *, deaf: bool) -> list[bytes]:
    """Run it where the other side sends so much and goes; ``deaf``: it took no answer either."""
    ours, theirs = os.pipe()
    if deaf:
        os.close(ours)
    folder.mkdir()
    try:
        subprocess.run(
            [*shell, "-c", receiving(4)],
            input=sent,
            stdout=theirs,
            stderr=theirs,
            env={"PATH": os.environ["PATH"], "TMPDIR": str(folder), "HOME": str(folder)},
            check=False,
        )
    finally:
        os.close(theirs)
        if not deaf:
            os.close(ours)
    return [path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))]


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_bytes_that_all_came_are_kept_and_a_cut_leaves_nothing(
    shell: list[str], tmp_path: Path
) -> None:
    assert left(shell, tmp_path / "whole", b"four", deaf=False) == [b"", b"four"]
    assert left(shell, tmp_path / "short", b"thr", deaf=False) == []
    assert left(shell, tmp_path / "cut", b"thr", deaf=True) == []
    assert left(shell, tmp_path / "unheard", b"four", deaf=True) == []
