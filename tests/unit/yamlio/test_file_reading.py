"""What reading a file says when it cannot, and that it leaves nothing open."""

import errno
import os
from pathlib import Path

import pytest

from orchestrator.yamlio.local_files import read_file


def open_descriptors() -> set[Path]:
    return set(Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("path", ["folder", "folder/x", "/proc/self/mem", "a\0b", "x" * 300])
def test_what_cannot_be_read_is_named_and_leaves_no_descriptor(path: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    before = open_descriptors()
    with pytest.raises(OSError, match=r".") as caught:
        read_file(tmp_path / path)
    assert caught.value.filename == str(tmp_path / path)
    assert open_descriptors() == before


def test_a_file_has_its_bound_and_a_pipe_without_a_writer_is_empty(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_file(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes") as caught:
        read_file(tmp_path / "file", 4)
    assert caught.value.errno == errno.EFBIG
    os.mkfifo(tmp_path / "pipe")
    assert read_file(tmp_path / "pipe") == b""


def test_a_pipe_is_read_to_its_end() -> None:
    read, write = os.pipe()
    os.write(write, b"text")
    os.close(write)
    assert read_file(Path(f"/dev/fd/{read}")) == b"text"
    os.close(read)
