"""Compiled templates on disk: the same as compiled anew, and nobody else's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest

from orchestrator import templating
from orchestrator.errors import DefinitionError, SourcePosition
from orchestrator.model.marked_value import MarkedValue
from orchestrator.modules import MODULES_FOLDER
from orchestrator.playbook.task_loader import LoadedTasks, load_tasks
from orchestrator.templating import CompileCache, ShellTemplate, cache_folder
from orchestrator.templating.shell.placeholders import Placeholder
from tests.support.template_scope import PlainScope

MARK = SourcePosition("tasks/a.yml", 3, 5)
COMPILERS = (
    "orchestrator.templating.shell.shell_template.compile_tree",
    "orchestrator.templating.text_templates.compile_tree",
)
COMMANDS = [
    "echo plain",
    "echo {{ a }} \"{{ a }}\" '{{ a }}' x{{ a }}y {{ b }}",
    "cat <<E\n{{ a }}\nE\ncat <<'E'\n{{ a }}\nE\n",
    "{% for x in b %}echo {{ x }}é {{ loop.index }};{% endfor %}",
    '[ {{ n }} -eq 3 ] && declare -a v=("$(echo {{ a }})") && exec 3>&{{ n }}',
    "{% set x = a %}echo {{ x }} {{ c | default('none') }}",
    "echo {{ w | words }} {{ w | raw }}",
]
VALUES = {"a": "it's\na $x", "b": ["1 2", "3"], "n": 3, "w": "x y"}


def _cache(folder: Path) -> CompileCache:
    return CompileCache(folder)


def _in_two_runs(folder: Path, compile_: Callable[[CompileCache], object]) -> tuple[object, object]:
    """Return what is compiled, and what a later run makes of the file without compiling."""
    cache = _cache(folder)
    first = compile_(cache)
    cache.save()
    with (
        patch(COMPILERS[0], side_effect=AssertionError),
        patch(COMPILERS[1], side_effect=AssertionError),
    ):
        return first, compile_(_cache(folder))


@pytest.mark.parametrize("text", COMMANDS)
def test_kept_command_is_the_one_compiled(tmp_path: Path, text: str) -> None:
    first, kept = _in_two_runs(tmp_path, lambda cache: templating.compile_shell(text, MARK, cache))
    assert isinstance(first, ShellTemplate)
    assert isinstance(kept, ShellTemplate)
    scope = PlainScope(**VALUES)
    assert kept.render(scope) == first.render(scope)
    for name in ("source", "mark", "names", "optional", "sources", "uses", "raw_uses"):
        assert getattr(kept, name) == getattr(first, name), name
    assert [f.mark for f in kept.fields] == [f.mark for f in first.fields]
    old: list[Placeholder] = first._placeholders
    assert kept._placeholders == old


@pytest.mark.parametrize("text", ["{{ a.b }}", "x {{ a.b }} {{ n + 1 }}", "{{ b | length }}"])
def test_kept_values_and_texts_are_those_compiled(tmp_path: Path, text: str) -> None:
    scope = PlainScope(a={"b": "c"}, b=[1], n=3)
    value = MarkedValue([MarkedValue(text, MARK)], MARK)
    first, kept = _in_two_runs(tmp_path, lambda cache: templating.compile_value(value, cache))
    assert isinstance(first, templating.ValueTemplate)
    assert isinstance(kept, templating.ValueTemplate)
    assert kept.render(scope) == first.render(scope)
    assert (kept.names, kept.sources) == (first.names, first.sources)
    one, same = _in_two_runs(tmp_path, lambda cache: templating.compile_text(text, MARK, cache))
    assert isinstance(one, templating.TextTemplate)
    assert isinstance(same, templating.TextTemplate)
    assert same.render(scope) == one.render(scope)


@pytest.mark.parametrize("text", ["a.b", "n > 2 and a.b == 'c'", "b | length"])
def test_kept_expressions_are_those_compiled(tmp_path: Path, text: str) -> None:
    scope = PlainScope(a={"b": "c"}, b=[1], n=3)
    first, kept = _in_two_runs(
        tmp_path, lambda cache: templating.compile_expression(text, MARK, cache)
    )
    assert isinstance(first, templating.Expression)
    assert isinstance(kept, templating.Expression)
    assert kept.value(scope) == first.value(scope)
    assert kept.is_true(scope) == first.is_true(scope)
    assert (kept.names, kept.sources) == (first.names, first.sources)
    assert repr(kept.node) == repr(first.node)


def test_errors_of_kept_templates_have_their_positions(tmp_path: Path) -> None:
    text = "echo {{ a }}\necho {{ missing }}"
    templates = _in_two_runs(tmp_path, lambda cache: templating.compile_shell(text, MARK, cache))
    errors = []
    for template in templates:
        assert isinstance(template, ShellTemplate)
        with pytest.raises(DefinitionError) as error:
            template.render(PlainScope(a="1"))
        errors.append(error.value.diagnostics)
    assert errors[0] == errors[1]


def test_shipped_modules_are_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path
    names = [path.stem for path in MODULES_FOLDER.glob("*.yml")]
    first = load_tasks(tmp_path, names)
    with (
        patch(COMPILERS[0], side_effect=AssertionError),
        patch(COMPILERS[1], side_effect=AssertionError),
    ):
        kept = load_tasks(tmp_path, names)
    assert _facts_of(kept) == _facts_of(first)


def _facts_of(tasks: LoadedTasks) -> list[object]:
    found: list[object] = []
    for task in tasks.by_name.values():
        for step in task.all_steps():
            module = task.module
            scripts = [] if module is None else [module.probe, *(fix.text for fix in module.fixes)]
            found.append(
                [(s.source, s.names, s.optional, s.uses, s._placeholders) for s in scripts]
            )
            if module is not None:
                found.append([(key, v.names, v.optional) for key, v in module.want.items()])
            found.append((task.name, step.mark, step.register))
    return found


def test_errors_are_not_kept(tmp_path: Path) -> None:
    cache = _cache(tmp_path)
    for _ in range(2):
        with pytest.raises(DefinitionError):
            templating.compile_shell("echo ${{ a }}", MARK, cache)
    cache.save()
    assert not list(tmp_path.iterdir())


def test_only_the_same_text_of_the_same_file_is_found(tmp_path: Path) -> None:
    cache = _cache(tmp_path)
    templating.compile_shell("echo {{ a }}", MARK, cache)
    cache.save()
    later = _cache(tmp_path)
    assert later.find("shell", "echo {{ a }}", MARK)
    assert not later.find("shell", "echo {{ a }} ", MARK)
    assert not later.find("text", "echo {{ a }}", MARK)
    assert not later.find("shell", "echo {{ a }}", SourcePosition("tasks/b.yml", 1, 1))
    assert not _cache(tmp_path).find("shell", "echo {{ a }}", SourcePosition("<command line>"))


def _keep_one(folder: Path) -> Path:
    cache = _cache(folder)
    templating.compile_shell("echo {{ a }}", MARK, cache)
    cache.save()
    (file,) = (path for path in folder.rglob("*") if path.is_file())
    return file


def _is_found(folder: Path) -> bool:
    return _cache(folder).find("shell", "echo {{ a }}", MARK) is not None


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_what_others_can_write_to_is_not_read(tmp_path: Path, level: int, mode: int) -> None:
    path = _keep_one(tmp_path)
    assert _is_found(tmp_path)
    for _ in range(level):
        path = path.parent
    path.chmod(path.stat().st_mode | mode)
    assert not _is_found(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to give files away")
@pytest.mark.parametrize("level", range(4))
def test_what_belongs_to_others_is_not_read(tmp_path: Path, level: int) -> None:
    path = _keep_one(tmp_path)
    for _ in range(level):
        path = path.parent
    os.chown(path, 12345, -1)
    assert not _is_found(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to give files away")
@pytest.mark.parametrize("exists", [True, False])
def test_nothing_is_left_in_the_home_of_another(tmp_path: Path, exists: bool) -> None:
    home = tmp_path / "home"
    cache = home / ".cache"
    (cache if exists else home).mkdir(parents=True)
    os.chown(home, 12345, -1)
    if exists:
        os.chown(cache, 12345, -1)
    with pytest.raises(ValueError, match="not enough values"):
        _keep_one(cache)
    assert list(home.rglob("*")) == ([cache] if exists else [])


@pytest.mark.parametrize("level", range(4))
def test_links_are_not_followed(tmp_path: Path, level: int) -> None:
    path = _keep_one(tmp_path)
    for _ in range(level):
        path = path.parent
    moved = path.rename(tmp_path / "moved")
    path.symlink_to(moved)
    assert not _is_found(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"x", None])
def test_damaged_file_is_none_and_is_written_anew(tmp_path: Path, damage: bytes | None) -> None:
    file = _keep_one(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] if damage is None else damage)
    assert not _is_found(tmp_path)
    assert _keep_one(tmp_path).stat().st_mode & 0o777 == 0o600
    assert _is_found(tmp_path)


def test_no_folder_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (None, tmp_path / "file", tmp_path / "file" / "below"):
        cache = CompileCache(folder)
        template = templating.compile_shell("echo {{ a }}", MARK, cache)
        cache.save()
        assert template.render(PlainScope(a="1")) == "echo 1"


def test_file_keeps_what_was_used(tmp_path: Path) -> None:
    file = _keep_one(tmp_path)
    cache = _cache(tmp_path)
    templating.compile_shell("echo {{ b }}", MARK, cache)
    cache.save()
    assert not _is_found(tmp_path)
    assert _cache(tmp_path).find("shell", "echo {{ b }}", MARK)
    assert list(file.parent.iterdir()) == [file]
