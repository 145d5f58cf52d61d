"""Modules that are not needed are not imported, because imports dominate a short run's time."""

from __future__ import annotations

import subprocess
import sys

from tests.projects import OrchProject


def loaded_modules(project: OrchProject, *words: str) -> set[str]:
    """Return the modules that a process has loaded when orch exits."""
    script = (
        "import os, sys\n"
        "os._exit = lambda code: (print('LOADED', *sys.modules), sys.stdout.flush(), leave(code))\n"
        f"leave, sys.argv = sys.exit, ['orch', *{words!r}]\n"
        "from orchestrator.cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=project.root,
        capture_output=True,
        text=True,
        check=False,
    )
    *_, line = done.stdout.splitlines()
    assert line.startswith("LOADED"), done.stderr
    return set(line.split())


def test_a_command_without_templates_loads_no_template_language(project: OrchProject) -> None:
    project.write(
        {
            "inventories/dev/stage.yml": "connect: {transport: local}",
            "inventories/dev/hosts.yml": "a:",
        }
    )
    found = loaded_modules(project, "-s", "dev", "exec", "--", "true")
    assert "orchestrator.executor.run" in found
    assert not {"jinja2", "rich", "paramiko.transport", "tarfile", "sqlite3", "_sqlite3"} & found


def test_the_version_needs_no_inventory(project: OrchProject) -> None:
    found = loaded_modules(project, "--version")
    assert not {"yaml", "jinja2", "orchestrator.inventory", "orchestrator.planner"} & found
