"""``git`` with a name and a password in the URL: they reach the server, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.library.gitweb import GitWeb, serving
from tests.library.machine import Machine, told
from tests.library.test_git import commit, git, step

PASSWORD = "p:w %41'\"$(id)`é\\n@/x"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[GitWeb]:
    """Repositories `repo`, with a submodule, and `inner`, whose urls need no more than names."""
    root = tmp_path / "served"
    for name in ("inner", "repo"):
        at = root / name
        at.mkdir(parents=True)
        git(at, "init", "-qb", "main")
        commit(at, x=f"{name}\n")
    (root / "repo" / ".gitmodules").write_text('[submodule "s"]\n\tpath = s\n\turl = ../inner\n')
    (root / "repo" / "s").mkdir()
    inner = git(root / "inner", "rev-parse", "HEAD")
    git(root / "repo", "update-index", "--add", "--cacheinfo", f"160000,{inner},s")
    commit(root / "repo")
    with serving(root, us=PASSWORD) as found:
        yield found


def stored(folder: Path) -> str:
    """The text of all files below a folder, objects left out."""
    files = (path for path in folder.rglob("*") if path.is_file() and "objects" not in path.parts)
    return "\n".join(path.read_bytes().decode("latin-1") for path in files)


@pytest.mark.parametrize("submodules", [True, False])
@pytest.mark.parametrize("mirror", [True, False])
@pytest.mark.parametrize("archive", [True, False])
def test_it_is_fetched_and_kept_nowhere(
    machine: Machine, web: GitWeb, archive: bool, mirror: bool, submodules: bool
) -> None:
    path, url = machine.root / "to", web.url("repo", "us", PASSWORD)
    params = {"archive": archive, "submodules": submodules, "version": "main"}
    if mirror:
        params["mirror"] = str(machine.root / "mirror")
    machine.sees(step(url, path, **params), "changed")
    assert (path / "x").read_text() == "repo\n"
    assert (path / "s" / "x").exists() == submodules
    commit(web.root / "repo", x="new\n")
    machine.sees(step(url, path, **params), "changed")
    assert (path / "x").read_text() == "new\n"
    if not archive:
        assert git(path, "config", "remote.origin.url") == web.url("repo")
    assert "p%3Aw" not in stored(machine.root)
    assert PASSWORD not in stored(machine.root)
    assert web.refused == []


def test_the_users_own_helpers_are_neither_asked_nor_told(machine: Machine, web: GitWeb) -> None:
    said = machine.root / "said"
    helper = f'!f() {{ echo "$1" >>{said}; cat >>{said}; echo username=us; echo password=no; }}; f'
    git(machine.home, "config", "-f", ".gitconfig", "credential.helper", helper)
    machine.sees(
        step(web.url("repo", "us", PASSWORD), machine.root / "to", submodules=False), "changed"
    )
    assert not said.exists()
    outcome = machine.one(step(web.url("repo"), machine.root / "other", submodules=False))
    assert outcome.status == "failed"
    assert "get" in said.read_text()


def test_a_wrong_one_is_told(machine: Machine, web: GitWeb) -> None:
    outcome = machine.sees(step(web.url("repo", "us", "wrong-one"), machine.root / "to"), "failed")
    assert "does not let this host in" in outcome.stderr.text, told(outcome)
    assert "wrong-one" not in told(outcome)
    assert len(web.refused) == len(set(web.refused)) * 2, "once for a check, once for a run"


def test_a_recorded_url_keeps_the_users_own_password(machine: Machine, web: GitWeb) -> None:
    path, url = machine.root / "to", web.url("repo", "us", PASSWORD)
    machine.sees(step(url, path, submodules=False), "changed")
    git(path, "config", "remote.origin.url", url)
    machine.sees(step(url, path, submodules=False), "ok")
    commit(web.root / "repo", x="new\n")
    machine.sees(step(url, path, submodules=False), "changed")
    assert git(path, "config", "remote.origin.url") == url
    old = web.url("repo", "us", "old-one")
    git(path, "config", "remote.origin.url", old)
    outcome = machine.sees(step(url, path, submodules=False), "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [
        ("repo", f"{web.url('repo')} (with a password)", web.url("repo"))
    ]
    assert git(path, "config", "remote.origin.url") == web.url("repo")


def test_a_user_alone_is_no_password(machine: Machine, web: GitWeb) -> None:
    """Who it is may be looked up by the user's own helper."""
    git(machine.home, "config", "-f", ".gitconfig", "credential.helper", "store")
    (machine.home / ".git-credentials").write_text(web.url("", "us", PASSWORD).rstrip("/") + "\n")
    url = web.url("repo").replace("://", "://us@")
    machine.sees(step(url, machine.root / "to", submodules=False), "changed")
    assert git(machine.root / "to", "config", "remote.origin.url") == url


@pytest.mark.parametrize(
    "url",
    [
        "ssh://git:hidden@127.0.0.1:1/r",
        "foo::http://a:hidden@127.0.0.1:1/r",
        "http://a:hid%0aden@h/r",
    ],
)
def test_what_would_show_it_is_refused(machine: Machine, url: str) -> None:
    outcome = machine.sees(step(url, machine.root / "to"), "failed")
    assert "url" in outcome.stderr.text
    assert "hid" not in told(outcome).replace(url, "")


def test_a_revision_is_found_with_one(machine: Machine, web: GitWeb) -> None:
    url = web.url("repo", "us", PASSWORD)
    outcome = machine.one({"git_revision": {"repo": url, "version": "main"}})
    assert outcome.stdout.text.strip() == git(web.root / "repo", "rev-parse", "main")
