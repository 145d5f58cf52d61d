"""Uploads leave the complete file on the host, or nothing."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from orchestrator.executor.payload_upload import upload_script
from tests.support.private_copy import make_copy

SHELLS = [["dash"], ["bash"], ["busybox", "sh"]]


def run_upload_script(
    shell: list[str], folder: Path, sent: bytes, *, refuses_input: bool
) -> list[bytes]:
    """Run the script with ``sent`` as its whole input; return what it leaves in its folder.

    ``refuses_input``: the reader of the output is gone.
    """
    ours, theirs = os.pipe()
    if refuses_input:
        os.close(ours)
    folder.mkdir()
    try:
        subprocess.run(
            [*shell, "-c", upload_script(4)],
            input=sent,
            stdout=theirs,
            stderr=theirs,
            env={"PATH": os.environ["PATH"], "TMPDIR": str(folder), "HOME": str(folder)},
            check=False,
        )
    finally:
        os.close(theirs)
        if not refuses_input:
            os.close(ours)
    return [path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))]


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_bytes_that_all_came_are_kept_and_a_cut_leaves_nothing(
    shell: list[str], tmp_path: Path
) -> None:
    assert run_upload_script(shell, tmp_path / "whole", b"four", refuses_input=False) == [
        b"",
        b"four",
    ]
    assert run_upload_script(shell, tmp_path / "short", b"thr", refuses_input=False) == []
    assert run_upload_script(shell, tmp_path / "cut", b"thr", refuses_input=True) == []
    assert run_upload_script(shell, tmp_path / "unheard", b"four", refuses_input=True) == []


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_what_a_cut_before_its_step_left_is_taken_away_some_days_later(
    shell: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "there"
    old = [f"orch-{n:016x}" for n in range(2)]
    stay = ["orch-of-somebody-else", f"orch-{9:015x}g", f"orch-{8:016x}", "deep"]
    for name in (*old, *stay, f"deep/{old[0]}"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "payload").touch()
        if name != stay[2]:
            days = time.time() - 3 * 86400
            os.utime(tmp_path / name, (days, days))
    (tmp_path / f"orch-{7:016x}").symlink_to(tmp_path / "deep")
    folder.mkdir()
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path), "HOME": str(folder)}
    done = subprocess.run(
        [*shell, "-c", upload_script(4)],
        input=b"four",
        capture_output=True,
        env=environment,
        check=True,
    )
    assert Path(done.stdout.decode().rstrip(), "payload").read_bytes() == b"four"
    assert [name for name in old if (tmp_path / name).exists()] == []
    assert [name for name in stay if not (tmp_path / name / "payload").exists()] == []
    assert (tmp_path / "deep" / old[0] / "payload").exists()


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_much_data_goes_where_there_is_room(shell: list[str], tmp_path: Path) -> None:
    data = bytes(20_000_000)
    shared = tmp_path / "shared"
    for name in ("small", "home"):
        (shared / name).mkdir(parents=True)
    with make_copy(tmp_path / "copy", shared) as copy:
        inside = (*copy.words, "--wdns=/")
        mount = "mount -t tmpfs -o size=10m x"
        subprocess.run([*inside, "sh", "-c", f"{mount} {shared}/small"], check=True)
        names = f"TMPDIR={shared}/small HOME={shared}/home"
        script = ["env", *names.split(), *shell, "-c", upload_script(len(data))]
        done = subprocess.run([*inside, *script], input=data, capture_output=True, check=True)
        assert done.stdout.startswith(f"{shared}/home/orch-".encode())
        (payload,) = (shared / "home").rglob("payload")
        assert payload.read_bytes() == data
        subprocess.run([*inside, "sh", "-c", f"{mount} {shared}/home"], check=True)
        failed = subprocess.run([*inside, *script], input=b"", capture_output=True, check=False)
        assert failed.returncode == 1
        message = f"there is no room for 20 MB in {shared}/small, or in the home folder"
        assert failed.stderr.decode() == f"{message}\n"
