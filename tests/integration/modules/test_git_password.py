"""``git`` with a name and a password in the URL: they reach the server, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.modules.test_git_module import commit_files, git_step, run_git
from tests.support.git_web_server import GitWebServer, serve_git
from tests.support.machine import ShellMachine, result_message

PASSWORD = "p:w %41'\"$(id)`é\\n@/x"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[GitWebServer]:
    """Repositories `repo`, with a submodule, and `inner`, whose urls need no more than names."""
    root = tmp_path / "served"
    for name in ("inner", "repo"):
        at = root / name
        at.mkdir(parents=True)
        run_git(at, "init", "-qb", "main")
        commit_files(at, x=f"{name}\n")
    (root / "repo" / ".gitmodules").write_text('[submodule "s"]\n\tpath = s\n\turl = ../inner\n')
    (root / "repo" / "s").mkdir()
    inner = run_git(root / "inner", "rev-parse", "HEAD")
    run_git(root / "repo", "update-index", "--add", "--cacheinfo", f"160000,{inner},s")
    commit_files(root / "repo")
    with serve_git(root, us=PASSWORD) as found:
        yield found


def stored_text(folder: Path) -> str:
    """Return the text of all files below a folder, except git objects."""
    files = (path for path in folder.rglob("*") if path.is_file() and "objects" not in path.parts)
    return "\n".join(path.read_bytes().decode("latin-1") for path in files)


@pytest.mark.parametrize("submodules", [True, False])
@pytest.mark.parametrize("mirror", [True, False])
@pytest.mark.parametrize("archive", [True, False])
def test_it_is_fetched_and_kept_nowhere(
    machine: ShellMachine, web: GitWebServer, archive: bool, mirror: bool, submodules: bool
) -> None:
    path, url = machine.root / "to", web.url("repo", "us", PASSWORD)
    params = {"archive": archive, "submodules": submodules, "version": "main"}
    if mirror:
        params["mirror"] = str(machine.root / "mirror")
    machine.check_then_run(git_step(url, path, **params), "changed")
    assert (path / "x").read_text() == "repo\n"
    assert (path / "s" / "x").exists() == submodules
    commit_files(web.root / "repo", x="new\n")
    machine.check_then_run(git_step(url, path, **params), "changed")
    assert (path / "x").read_text() == "new\n"
    if not archive:
        assert run_git(path, "config", "remote.origin.url") == web.url("repo")
    assert "p%3Aw" not in stored_text(machine.root)
    assert PASSWORD not in stored_text(machine.root)
    assert web.refused_requests == []


def test_the_users_own_helpers_are_neither_asked_nor_told(
    machine: ShellMachine, web: GitWebServer
) -> None:
    output = machine.root / "said"
    helper = (
        f'!f() {{ echo "$1" >>{output}; cat >>{output}; echo username=us; echo password=no; }}; f'
    )
    run_git(machine.home, "config", "-f", ".gitconfig", "credential.helper", helper)
    machine.check_then_run(
        git_step(web.url("repo", "us", PASSWORD), machine.root / "to", submodules=False), "changed"
    )
    assert not output.exists()
    outcome = machine.run_step(git_step(web.url("repo"), machine.root / "other", submodules=False))
    assert outcome.status == "failed"
    assert "get" in output.read_text()


def test_a_wrong_one_is_told(machine: ShellMachine, web: GitWebServer) -> None:
    outcome = machine.check_then_run(
        git_step(web.url("repo", "us", "wrong-one"), machine.root / "to"), "failed"
    )
    assert "denied access" in outcome.stderr.text, result_message(outcome)
    assert "wrong-one" not in result_message(outcome)
    assert len(web.refused_requests) == len(set(web.refused_requests)) * 2, (
        "once for a check, once for a run"
    )


def test_a_recorded_url_keeps_the_users_own_password(
    machine: ShellMachine, web: GitWebServer
) -> None:
    path, url = machine.root / "to", web.url("repo", "us", PASSWORD)
    machine.check_then_run(git_step(url, path, submodules=False), "changed")
    run_git(path, "config", "remote.origin.url", url)
    machine.check_then_run(git_step(url, path, submodules=False), "ok")
    commit_files(web.root / "repo", x="new\n")
    machine.check_then_run(git_step(url, path, submodules=False), "changed")
    assert run_git(path, "config", "remote.origin.url") == url
    old = web.url("repo", "us", "old-one")
    run_git(path, "config", "remote.origin.url", old)
    outcome = machine.check_then_run(git_step(url, path, submodules=False), "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [
        ("repo", f"{web.url('repo')} (with a password)", web.url("repo"))
    ]
    assert run_git(path, "config", "remote.origin.url") == web.url("repo")


def test_a_user_alone_is_no_password(machine: ShellMachine, web: GitWebServer) -> None:
    """Who it is may be looked up by the user's own helper."""
    run_git(machine.home, "config", "-f", ".gitconfig", "credential.helper", "store")
    (machine.home / ".git-credentials").write_text(web.url("", "us", PASSWORD).rstrip("/") + "\n")
    url = web.url("repo").replace("://", "://us@")
    machine.check_then_run(git_step(url, machine.root / "to", submodules=False), "changed")
    assert run_git(machine.root / "to", "config", "remote.origin.url") == url


@pytest.mark.parametrize(
    "url",
    [
        "ssh://git:hidden@127.0.0.1:1/r",
        "foo::http://a:hidden@127.0.0.1:1/r",
        "http://a:hid%0aden@h/r",
    ],
)
def test_what_would_show_it_is_refused(machine: ShellMachine, url: str) -> None:
    outcome = machine.check_then_run(git_step(url, machine.root / "to"), "failed")
    assert "url" in outcome.stderr.text
    assert "hid" not in result_message(outcome).replace(url, "")


def test_a_revision_is_found_with_one(machine: ShellMachine, web: GitWebServer) -> None:
    url = web.url("repo", "us", PASSWORD)
    outcome = machine.run_step({"git_revision": {"repo": url, "version": "main"}})
    assert outcome.stdout.text.strip() == run_git(web.root / "repo", "rev-parse", "main")
