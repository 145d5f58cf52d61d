"""Every module is documented completely."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import playbook
from orchestrator.commands.listing import doc_lines
from orchestrator.playbook.task_index import shipped_modules
from orchestrator.yamlio.yaml_loader import parse_yaml


@pytest.mark.parametrize("name", sorted(shipped_modules()))
def test_every_module_explains_itself(name: str, tmp_path: Path) -> None:
    (tmp_path / "inventories").mkdir()
    module = playbook.load_tasks(tmp_path, [name]).by_name[name]
    assert module.desc
    assert all(param.help for param in module.params.values())
    assert module.example
    shown = "\n".join(doc_lines(str(tmp_path), name, 90))
    assert module.desc in shown
    for param in module.params.values():
        assert f"  {param.name} (" in shown
    assert module.example.rstrip().splitlines()[-1] in shown
    if module.module:
        assert all(f"  {key}: " in shown for key in module.module.want)
        assert ("changes nothing" in shown) == module.module.readonly


@pytest.mark.parametrize("name", sorted(shipped_modules()))
def test_every_example_is_a_task(name: str, tmp_path: Path) -> None:
    example = playbook.load_tasks(tmp_path, [name]).by_name[name].example
    steps = parse_yaml(example, "example").to_plain()
    assert isinstance(steps, list)
    assert any(name in step for step in steps)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "it.yml").write_text(
        "handlers: {reload nginx: [{run: nginx -s reload}]}\nsteps:\n"
        + "".join(f"  {line}\n" for line in example.splitlines())
    )
    playbook.load_tasks(tmp_path, ["it"])
