"""A new file with a secret is readable only by its owner; an existing one keeps its mode."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.projects import OrchProject

SECRET = "correct horse battery"


def file_mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def one(project: OrchProject) -> OrchProject:
    return project.add_sandbox_stage("a1").write(
        {
            "inventories/dev/stage.yml": "connect: {transport: sandbox}\n"
            "vars: {pw: !secret {env: PW}}\n",
            "tasks/f.j2": "password={{ pw }}\n",
        }
    )


STEPS = {
    "copy": "copy: {path: PATH, content: 'password={{ pw }}'}",
    "copy of a derived value": "copy: {path: PATH, content: '{{ pw | upper }}'}",
    "template": "template: {path: PATH, src: f.j2}",
    "line": "line: {path: PATH, line: 'password={{ pw }}', create: true}",
    "text_block": "text_block: {path: PATH, block: 'password={{ pw }}', create: true}",
}


@pytest.mark.parametrize("what", STEPS)
def test_a_new_file_with_a_secret_is_its_owners_alone(
    one: OrchProject, tmp_path: Path, what: str
) -> None:
    new, old, wide, plain = (tmp_path / name for name in ("new", "old", "wide", "plain"))
    old.write_text("x\n")
    old.chmod(0o644)
    arguments = STEPS[what].removesuffix("}") + ", mode: '0640'}"
    steps = [
        STEPS[what].replace("PATH", str(new)),
        STEPS[what].replace("PATH", str(old)),
        arguments.replace("PATH", str(wide)),
        f"copy: {{path: {plain}, content: nothing}}",
    ]
    one.write({"tasks/t.yml": "steps:\n" + "".join(f"- {step}\n" for step in steps)})
    done = one.orch("-s", "dev", "run", "t", PW=SECRET)
    assert done.code == 0, done.out + done.err
    assert [file_mode(path) for path in (new, old, wide, plain)] == [0o600, 0o644, 0o640, 0o644]
    assert "1 ok" in one.orch("-s", "dev", "run", "t", PW=SECRET).out
