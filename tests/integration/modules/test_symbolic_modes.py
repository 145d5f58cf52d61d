"""Symbolic modes of the file modules, compared with what ``chmod`` makes of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from orchestrator.remote_shell.module_protocol import with_functions
from tests.support.machine import ShellMachine
from tests.support.module_files import file_mode, outcome_changes
from tests.support.template_scope import SHELLS

WORDS = ("u=rwX,go=rX", "g+w", "o-rwx", "ugo=", "u+x,go-x", "go=X", "ugo-w,u+w", "u=rw,go=r", "g-X",
         "u+s", "g=s", "ug-s", "ugo+t", "o-t", "u+t", "u=rwxs,g=rxs", "ugo=t", "g=u", "go=u", "o-g", "u+o",
         "u=g,g=o", "g=u,u+x,o=X", "ugo=rx", "u-s,g+s")  # fmt: skip
MODES = (0o644, 0o755, 0o700, 0o000, 0o711, 0o620, 0o4755, 0o2710, 0o1777, 0o7000, 0o6711)


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_symbolic_mode_means_what_chmod_says(shell: tuple[str, ...], tmp_path: Path) -> None:
    file, folder = tmp_path / "f", tmp_path / "d"
    file.touch()
    folder.mkdir()
    calls, expected = [], []
    for path, kind in ((file, "file"), (folder, "directory")):
        for mode in MODES:
            for words in WORDS:
                path.chmod(mode)
                subprocess.run(["chmod", words, str(path)], check=True)
                expected.append(f"{path.stat().st_mode & 0o7777:04o}")
                calls.append(f'symbolic_mode {words} {mode:04o} {kind}; echo "$f_applied"')
    folder.chmod(0o700)
    script = with_functions("\n".join(calls))
    done = subprocess.run([*shell, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected


def test_files_and_folders_take_symbolic_modes(machine: ShellMachine) -> None:
    for path, step in (
        (machine.home / "f", {"copy": {"path": "~/f", "content": "x"}}),
        (machine.home / "d", {"directory": {"path": "~/d"}}),
        (machine.home / "e", {"file": {"path": "~/e"}}),
    ):
        ((module, arguments),) = step.items()
        new = {module: {**arguments, "mode": "g+w,o="}}
        assert machine.run_step(new, check=True).status == "would_change"
        assert machine.run_step(new).status == "changed"
        assert file_mode(path) == ("0770" if module == "directory" else "0660")
        assert machine.run_step(new).status == "ok"
        path.chmod(0o600)
        private = {module: {**arguments, "mode": "u=rwX,go="}}
        assert machine.run_step(private, check=True).status == (
            "would_change" if module == "directory" else "ok"
        )
        done = machine.run_step({module: {**arguments, "mode": "a+r"}})
        assert outcome_changes(done)["mode"] == ("0600", "ugo+r")
        assert file_mode(path) == "0644"


def test_a_mode_of_other_words_is_refused(machine: ShellMachine) -> None:
    from orchestrator.errors import DefinitionError

    for words in ("u=rwq", "x", "u=gr", "u+t,g=r;", "rw", "", "u=rwug"):
        with pytest.raises(DefinitionError, match="must be a file mode"):
            machine.run_step({"copy": {"path": "~/f", "content": "x", "mode": words}})
