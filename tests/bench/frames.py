"""Count the files that one host, and one step's text, pass through in `orch -s dev run uname`.

`python -m tests.bench.frames` prints the files with a function that was called with the host (or
its name) among its arguments, and those with one that was given the step's text.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

HOST = "web-on-its-way"
TEXT = "uname -a; : on-its-way"
LIMITS = {"host": 45, "text": 30}  # files
_PACKAGE = str(Path(__file__).resolve().parents[2] / "orchestrator") + os.sep


def main() -> int:
    """Print the files, and return 1 if there are more than the limits."""
    found = count_files()
    for what, files in found.items():
        print(f"{what}: {len(files)} files (at most {LIMITS[what]})")
        print("".join(f"  {file}\n" for file in sorted(files)), end="")
    return int(any(len(files) > LIMITS[what] for what, files in found.items()))


def count_files() -> dict[str, set[str]]:
    """Run the command in this process and return the files by what passes through them."""
    found: dict[str, set[str]] = {"host": set(), "text": set()}

    def profile(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(_PACKAGE):
            return
        count = code.co_argcount + code.co_kwonlyargcount
        arguments = [frame.f_locals.get(name) for name in code.co_varnames[:count]]
        file = code.co_filename.removeprefix(_PACKAGE)
        if any(holds_host(value) for value in arguments):
            found["host"].add(file)
        if any(isinstance(value, str | bytes) and holds_text(value) for value in arguments):
            found["text"].add(file)

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        write_project(Path(folder))
        threading.setprofile(profile)
        sys.setprofile(profile)
        try:
            run_command(Path(folder))
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    return found


def holds_host(value: object) -> bool:
    """Return True if the value is the host or its name."""
    return value == HOST if isinstance(value, str) else type(value).__name__ == "Host"


def holds_text(value: str | bytes) -> bool:
    """Return True if the step's text is in the value."""
    return (TEXT in value) if isinstance(value, str) else (TEXT.encode() in value)


def write_project(folder: Path) -> None:
    """Write a project with one sandboxed host and one task."""
    files = {
        "inventories/dev/stage.yml": "connect: {transport: sandbox}\n",
        f"inventories/dev/hosts/{HOST}.yml": "",
        "tasks/uname.yml": f"steps:\n- run: '{TEXT}'\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def run_command(folder: Path) -> None:
    """Run `orch -s dev run uname` in the folder. Raises RuntimeError if it fails."""
    from orchestrator.cli.root_command import run_command_line

    code = run_command_line(["-C", str(folder), "-s", "dev", "run", "uname"])
    if code:
        raise RuntimeError(f"orch ended with {code}")


if __name__ == "__main__":
    sys.exit(main())
