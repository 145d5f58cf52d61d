"""Files of the project that steps send, and files of hosts that steps download."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from orchestrator.errors import DefinitionError, MissingFileError, SourcePosition
from orchestrator.model.command import DownloadSpec, UploadPayload
from orchestrator.planner.download_script import probe_script
from orchestrator.planner.file_tree import TreeOptions
from orchestrator.planner.project_files import MAX_INLINE_BYTES, ProjectFiles, to_payload
from tests.unit.planner.plan_project import PlanProject, resumed_command

ON_COMMAND_LINE = SourcePosition("<command line>")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProjectFiles:
    """Create a project with a file in its folder, one beside the tasks, and one in both."""
    monkeypatch.chdir(tmp_path)
    for name in ("root_only", "both", "tasks/both", "tasks/beside_only"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    return ProjectFiles(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("root_only", "root_only"),
        ("both", "tasks/both"),
        ("beside_only", "tasks/beside_only"),
        ("missing", "tasks/missing"),
        ("../both", "tasks/../both"),
    ],
)
def test_a_file_is_next_to_the_file_that_names_it_else_in_the_project(
    files: ProjectFiles, tmp_path: Path, name: str, found: str
) -> None:
    assert files.find(name, SourcePosition("tasks/t.yml", 3, 4)) == str(tmp_path / found)


def test_a_file_of_the_command_line_is_in_the_working_directory(
    files: ProjectFiles, tmp_path: Path
) -> None:
    assert files.find("both", ON_COMMAND_LINE) == str(tmp_path / "both")
    assert files.find("/etc/x", ON_COMMAND_LINE) == "/etc/x"


def test_a_missing_file_is_an_error_with_both_paths_that_were_tried(
    files: ProjectFiles, tmp_path: Path
) -> None:
    mark = SourcePosition("tasks/t.yml", 3, 4)
    path = Path(files.find("missing", mark))
    with pytest.raises(MissingFileError) as caught:
        files.contents(path, mark)
    (found,) = caught.value.diagnostics
    assert found.message == (
        "cannot read tasks/missing: no such file or directory; also not found: missing"
    )
    assert found.mark == mark


@pytest.mark.parametrize("read", ["contents", "template"])
def test_a_folder_is_not_a_file(files: ProjectFiles, tmp_path: Path, read: str) -> None:
    with pytest.raises(DefinitionError, match="tasks"):
        getattr(files, read)(tmp_path / "tasks", ON_COMMAND_LINE)


def test_a_template_that_is_not_utf_8_is_an_error_at_the_byte(
    files: ProjectFiles, tmp_path: Path
) -> None:
    (tmp_path / "latin").write_bytes(b"ab\xe9")
    with pytest.raises(DefinitionError, match="template latin is not UTF-8, at byte 2"):
        files.template(tmp_path / "latin", ON_COMMAND_LINE)
    assert files.contents(tmp_path / "latin", ON_COMMAND_LINE) == b"ab\xe9"


@pytest.mark.parametrize("size", [0, 1, MAX_INLINE_BYTES, MAX_INLINE_BYTES + 1, 3_000_000])
def test_short_files_are_bytes_and_long_ones_have_size_and_checksum(
    files: ProjectFiles, tmp_path: Path, size: int
) -> None:
    data = b"x" * size
    path = tmp_path / "data"
    path.write_bytes(data)
    found, given = files.contents(path, ON_COMMAND_LINE), to_payload(data)
    if size <= MAX_INLINE_BYTES:
        assert found == given == data
        return
    digest = hashlib.sha256(data).hexdigest()
    assert found == UploadPayload(size, digest, path)
    assert given == UploadPayload(size, digest, data=data)


def test_a_file_is_read_once_in_a_run(files: ProjectFiles, tmp_path: Path) -> None:
    path = tmp_path / "both"
    first = files.contents(path, ON_COMMAND_LINE)
    template = files.template(path, ON_COMMAND_LINE)
    path.write_text("changed")
    assert files.contents(path, ON_COMMAND_LINE) == first == b"both"
    assert files.template(path, ON_COMMAND_LINE) is template


def test_a_tree_is_kept_by_its_patterns(files: ProjectFiles, tmp_path: Path) -> None:
    whole = files.tree(tmp_path / "tasks", TreeOptions(), ON_COMMAND_LINE)
    part = files.tree(tmp_path / "tasks", TreeOptions(exclude=("both",)), ON_COMMAND_LINE)
    assert files.tree(tmp_path / "tasks", TreeOptions(), ON_COMMAND_LINE) is whole
    assert b"both" in whole.manifest
    assert b"both" not in part.manifest


def download(plans: PlanProject, step: str, host: str = "web1") -> DownloadSpec:
    """Return the download of the last of these steps."""
    found = plans.command(step, host).download
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("path", "to", "target"),
    [
        ("/var/log/x.log", "logs/x", "logs/x"),
        ("/var/log/x.log", "logs/", "logs/x.log"),
        ("/var/log/x.log", "tasks", "tasks/x.log"),
        ("/var/log/x.log", "'logs/{{ host.name }}/'", "logs/web1/x.log"),
        ("~/x", "a/../b", "b"),
    ],
)
def test_a_download_goes_to_a_path_in_the_project(
    plans: PlanProject, path: str, to: str, target: str
) -> None:
    spec = download(plans, f"- download: {{path: {path}, to: {to}}}")
    assert spec.path == path
    assert spec.target == plans.root / target


@pytest.mark.parametrize("path", ["/", "..", "/a/..", "'~'"])
def test_a_download_into_a_folder_needs_a_file_name(plans: PlanProject, path: str) -> None:
    problem = plans.refused_steps(f"- download: {{path: {path}, to: logs/}}")
    assert "is not a file name" in problem.message
    assert str(problem.mark) == "tasks/t.yml:2:22"


def test_two_hosts_cannot_download_to_one_file(plans: PlanProject) -> None:
    plans.write_task("steps: [download: {path: /x, to: logs/}]\n")
    problems = plans.diagnostics("t", limit="web1,web2")
    assert problems[0].message == "'web1' and 'web2' both download to logs/x"
    assert "{{ host.name }}" in problems[0].hint
    assert plans.plan("t", limit="web1")
    plans.write_task("steps: [download: {path: /x, to: 'logs/{{ host.name }}/'}]\n")
    assert plans.plan("t")


def test_the_candidates_of_any_host_may_share_a_file(plans: PlanProject) -> None:
    plans.write_task("steps: [download: {path: /x, to: logs/}]\n", "get")
    plans.write_task("tasks: [{get: {}, once: true, on: any}]\n")
    assert plans.plan("t")


def test_later_tasks_may_replace_a_download(plans: PlanProject) -> None:
    plans.write_task("roles: [db]\nsteps: [download: {path: /x, to: logs/}]\n", "a")
    plans.write_task("roles: [web]\nsteps: [download: {path: /x, to: logs/}]\n", "b")
    assert plans.plan("a", "b", limit="web1,db1")


def test_text_from_a_host_chooses_no_target(plans: PlanProject) -> None:
    problem = plans.refused_steps("""
        - {run: hostname, register: r}
        - download: {path: /x, to: "logs/{{ r.stdout }}"}
    """)
    assert problem.message == "`to` is made of text from a host (`r`), which could be any path"
    assert str(problem.mark).startswith("tasks/t.yml:3:")


def test_text_from_a_host_chooses_no_target_by_other_names_either(plans: PlanProject) -> None:
    plans.variables('named: "{{ r.stdout }}"')
    step = plans.step("""
        - {run: hostname, register: r}
        - download: {path: /x, to: "logs/{{ host.vars.named }}"}
    """)
    with pytest.raises(DefinitionError, match="`to` is made of text from a host"):
        resumed_command(step, r="../../etc/passwd")


def test_text_from_a_host_may_name_its_own_file(plans: PlanProject) -> None:
    step = plans.step("""
        - {run: ls, register: r}
        - download: {path: "{{ r.stdout }}", to: logs/x}
    """)
    command = resumed_command(step, r="$(id) it's")
    assert command.download is not None
    assert command.download.path == "$(id) it's"
    assert "path='$(id) it'\"'\"'s'\n" in command.text


def test_the_scripts_of_a_download_quote_its_path(plans: PlanProject) -> None:
    step = "- {download: {path: 'a; b', to: x}, chdir: /a b, environment: {A: '1 2'}}"
    prologue = download(plans, step).prologue
    assert prologue.startswith("cd -- '/a b'\nexport A='1 2'\npath='a; b'\n")
    assert probe_script(prologue).startswith(prologue)


@pytest.mark.parametrize(
    ("path", "to", "target"),
    [
        ("/srv/site", "copies", "copies"),
        ("/srv/site", "tasks", "tasks"),  # a folder: the same with the first run and later
        ("/srv/site", "copies/", "copies/site"),
        ("/srv/site/", "copies/", "copies"),
        ("~/site", "'{{ host.name }}/'", "web1/site"),
        ("~/", "home/", "home"),
        ("~/.", "tasks", "tasks"),
    ],
)
def test_the_target_of_a_folder_does_not_depend_on_what_is_there(
    plans: PlanProject, path: str, to: str, target: str
) -> None:
    spec = download(plans, f"- download: {{path: {path}, to: {to}}}")
    assert spec.tree_target == plans.root / target


@pytest.mark.parametrize(
    ("timeout", "probe", "whole"), [("", 3600.0, None), (", timeout: 5s", 5.0, 5.0)]
)
def test_a_timeout_limits_probe_and_transfer(
    plans: PlanProject, timeout: str, probe: float, whole: float | None
) -> None:
    step = plans.step(f"- {{download: {{path: /x, to: y}}{timeout}}}")
    assert step.is_download
    assert step.readonly
    assert step.command is not None
    assert step.command.timeout == probe
    assert step.command.download is not None
    assert step.command.download.timeout == whole
