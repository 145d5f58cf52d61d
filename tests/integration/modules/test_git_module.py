"""``run_git``: what is wanted is asked of the repository; what is there is asked of the checkout."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.sshd import serve_sshd
from tests.support.machine import ODD_NAME_CASES, ShellMachine, result_message
from tests.support.module_files import check_refuses

WHO = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"]


def run_git(at: Path, *words: str) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}
    done = subprocess.run(
        ["git", *WHO, *words], cwd=at, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit_files(at: Path, **files: str) -> str:
    for name, text in files.items():
        (at / name).write_text(text)
    run_git(at, "add", "-A")
    run_git(at, "commit", "-qm", "some")
    return run_git(at, "rev-parse", "HEAD")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Two commits on main; the first is tagged, and branch `side` goes off from it."""
    at = tmp_path / "repo"
    at.mkdir()
    run_git(at, "init", "-qb", "main")
    commit_files(at, a="one\n")
    run_git(at, "tag", "-am", "first", "v1")
    run_git(at, "branch", "side")
    commit_files(at, a="two\n", b="b\n")
    return at


def git_step(repo: Path | str, path: Path, **params: Any) -> dict[str, Any]:
    return {"git": {"repo": str(repo), "path": str(path), **params}}


def file_names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


@pytest.mark.parametrize("how", ["path", "url"])
@pytest.mark.parametrize(
    ("version", "text"),
    [
        (None, "two\n"),
        ("main", "two\n"),
        ("side", "one\n"),
        ("v1", "one\n"),
        ("refs/tags/v1", "one\n"),
    ],
)
def test_what_is_wanted_is_checked_out(
    machine: ShellMachine, repo: Path, how: str, version: str | None, text: str
) -> None:
    path = machine.root / "to"
    params = {"version": version} if version else {}
    url = repo.as_uri() if how == "url" else repo
    outcome = machine.check_then_run(git_step(url, path, **params), "changed")
    assert (path / "a").read_text() == text
    assert ("commit", None, version or "HEAD") in [
        (c.key, c.before, c.after) for c in outcome.changes
    ]
    assert run_git(path, "status", "--porcelain") == ""
    assert file_names(machine.root) == ["to"]


@pytest.mark.parametrize("mirror", [True, False])
@pytest.mark.parametrize("archive", [True, False])
def test_it_moves_from_commit_to_commit(
    machine: ShellMachine, repo: Path, mirror: bool, archive: bool
) -> None:
    path = machine.root / "to"
    params: dict[str, Any] = {"mirror": str(machine.root / "m.git")} if mirror else {}
    params["archive"] = archive
    first = run_git(repo, "rev-parse", "v1^{commit}")
    machine.check_then_run(git_step(repo, path, version=first, **params), "changed")
    outcome = machine.check_then_run(git_step(repo, path, version="main", **params), "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [("commit", first, "main")]
    assert (path / "a").read_text() == "two\n"
    third = commit_files(repo, a="three\n")
    machine.check_then_run(git_step(repo, path, version="main", **params), "changed")
    assert (path / "a").read_text() == "three\n"
    machine.check_then_run(git_step(repo, path, version="v1", **params), "changed")
    assert sorted(set(file_names(path)) - {".git"}) == (["REVISION", "a"] if archive else ["a"])
    if archive:
        assert (path / "REVISION").read_text() == first + "\n"
    machine.check_then_run(git_step(repo, path, version=third, **params), "changed")
    assert file_names(machine.root) == (["m.git", "to"] if mirror else ["to"])


@pytest.mark.parametrize("archive", [True, False])
def test_with_equal_commits_nothing_is_fetched(
    machine: ShellMachine, repo: Path, archive: bool
) -> None:
    path = machine.root / "to"
    machine.check_then_run(git_step(repo, path, version="v1", archive=archive), "changed")
    wrapper = machine.root.parent / f"{machine.root.name}-tools" / "git"
    log = machine.root.parent / "log"
    wrapper.write_text(f'#!/bin/sh\necho "$1" >>{log}\nexec /usr/bin/git "$@"\n')
    wrapper.chmod(0o755)
    machine.check_then_run(git_step(repo, path, version="v1", archive=archive), "ok")
    assert "ls-remote" in log.read_text()
    assert "fetch" not in log.read_text()
    log.unlink()
    whole = run_git(repo, "rev-parse", "v1^{commit}")
    if archive:
        machine.check_then_run(git_step("/nowhere", path, version=whole, archive=True), "ok")
        assert "ls-remote" not in log.read_text()


@pytest.mark.parametrize("name", ODD_NAME_CASES)
def test_any_names_will_do(machine: ShellMachine, repo: Path, name: str) -> None:
    at = repo.parent / name
    repo.rename(at)
    path = machine.root / name
    machine.check_then_run(
        git_step(f"{at}", path, mirror=str(machine.root / f"{name}m")), "changed"
    )
    machine.check_then_run(git_step(f"{at}", machine.root / f"{name}x", archive=True), "changed")
    assert (path / "a").read_text() == (machine.root / f"{name}x" / "a").read_text() == "two\n"


@pytest.mark.parametrize("version", ["x", "*", "-x", "$(id)", "refs/heads/x", "a b", "mai?"])
def test_versions_that_are_none_are_told(machine: ShellMachine, repo: Path, version: str) -> None:
    outcome = machine.check_then_run(git_step(repo, machine.root / "to", version=version), "failed")
    assert f"there is no branch or tag {version} in" in outcome.stderr.text, result_message(outcome)
    outcome = machine.check_then_run(
        git_step(repo, machine.root / "to", version="0" * 40), "failed"
    )
    assert "its fix failed" in outcome.reason
    assert file_names(machine.root) == []


@pytest.mark.parametrize("url", ["-v", "--upload-pack=touch pwned", ""])
def test_repos_that_are_options_are_refused(machine: ShellMachine, url: str) -> None:
    outcome = machine.check_then_run(git_step(url, machine.root / "to"), "failed")
    assert "begin with -" in outcome.stderr.text


def test_a_repo_that_is_not_there_fails(machine: ShellMachine) -> None:
    outcome = machine.check_then_run(git_step(machine.root / "none", machine.root / "to"), "failed")
    assert "its probe failed" in outcome.reason
    assert "none" in outcome.stderr.text


def test_changed_files_are_only_discarded_by_force(machine: ShellMachine, repo: Path) -> None:
    path = machine.root / "to"
    machine.check_then_run(git_step(repo, path, version="v1"), "changed")
    (path / "a").write_text("mine\n")
    (path / "untracked").touch()
    for version in ("v1", "main"):
        outcome = machine.check_then_run(git_step(repo, path, version=version), "failed")
        assert "has local changes" in outcome.stderr.text
        assert (path / "a").read_text() == "mine\n"
    outcome = machine.check_then_run(git_step(repo, path, version="v1", force=True), "changed")
    assert [(c.key, c.before) for c in outcome.changes] == [("clean", "false")]
    assert (path / "a").read_text() == "one\n"
    assert (path / "untracked").exists()


@pytest.mark.parametrize("archive", [True, False])
def test_a_folder_with_other_things_is_left_alone(
    machine: ShellMachine, repo: Path, archive: bool
) -> None:
    path = machine.root / "to"
    path.mkdir()
    (path / "mine").touch()
    outcome = machine.check_then_run(git_step(repo, path, archive=archive), "failed")
    assert "is not empty" in outcome.stderr.text
    assert file_names(path) == ["mine"]


@pytest.mark.parametrize("archive", [True, False])
def test_an_empty_folder_keeps_its_mode(machine: ShellMachine, repo: Path, archive: bool) -> None:
    path = machine.root / "to"
    path.mkdir(mode=0o750)
    machine.check_then_run(git_step(repo, path, archive=archive), "changed")
    assert path.stat().st_mode & 0o7777 == 0o750


def test_a_checkout_around_it_is_not_taken_for_it(machine: ShellMachine, repo: Path) -> None:
    machine.check_then_run(git_step(repo, machine.root / "to", version="v1"), "changed")
    machine.check_then_run(git_step(repo, machine.root / "to" / "inner"), "changed")
    assert run_git(machine.root / "to", "rev-parse", "HEAD") == run_git(
        repo, "rev-parse", "v1^{commit}"
    )


def test_another_repo_is_noted(machine: ShellMachine, repo: Path) -> None:
    path = machine.root / "to"
    machine.check_then_run(git_step(repo, path), "changed")
    outcome = machine.check_then_run(git_step(repo.as_uri(), path), "changed")
    assert [(c.key, c.before) for c in outcome.changes] == [("repo", str(repo))]


def test_the_history_can_be_short(machine: ShellMachine, repo: Path) -> None:
    path = machine.root / "to"
    machine.check_then_run(git_step(repo.as_uri(), path, version="main", depth=1), "changed")
    assert run_git(path, "rev-list", "--count", "HEAD") == "1"
    outcome = machine.check_then_run(
        git_step(repo, path, depth=1, mirror=str(machine.root / "m")), "failed"
    )
    assert "`depth` exclude each other" in outcome.stderr.text


def add_submodule(machine: ShellMachine, repo: Path, *, name: str = "sub") -> Path:
    """Give the repository a submodule, which has one itself; where the former is."""
    innermost, inner = repo.parent / "innermost", repo.parent / "inner"
    for at, text in ((innermost, "deep\n"), (inner, "1\n")):
        at.mkdir()
        run_git(at, "init", "-qb", "main")
        commit_files(at, x=text)
    run_git(inner, "submodule", "--quiet", "add", "../innermost", "deep down")
    (inner / ".gitattributes").write_text("hidden export-ignore\n")
    commit_files(inner, hidden="")
    run_git(repo, "submodule", "--quiet", "add", str(inner), name)
    commit_files(repo)
    (machine.home / ".gitconfig").write_text('[protocol "file"]\nallow = always\n')
    return inner


@pytest.mark.parametrize("archive", [True, False])
def test_submodules_are_refused_unless_something_is_said_of_them(
    machine: ShellMachine, repo: Path, archive: bool
) -> None:
    path = machine.root / "to"
    machine.check_then_run(git_step(repo, path, version="v1", archive=archive), "changed")
    add_submodule(machine, repo)
    outcome = machine.run_step(git_step(repo, path, archive=archive))
    assert outcome.status == "failed", result_message(outcome)
    assert f"{repo} has submodules at HEAD: `submodules: true`" in outcome.stderr.text
    foretold = machine.run_step(git_step(repo, path, archive=archive), check=True)
    assert foretold.status == "failed"
    assert "has submodules at HEAD" in foretold.stderr.text
    assert (path / "a").read_text() == "one\n"
    machine.check_then_run(git_step(repo, path, archive=archive, submodules=False), "changed")
    assert file_names(path / "sub") == []
    run_git(repo, "rm", "-q", "--cached", ".gitmodules")
    run_git(repo, "commit", "-qm", "One that is not even named")
    assert "has submodules" in machine.run_step(git_step(repo, path, archive=archive)).stderr.text


@pytest.mark.parametrize(
    ("how", "name"),
    [
        *(("checkout", "it's a/sub"), ("export", "sub"), ("mirror", "it's a/sub")),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (("checkout", "sub"), ("export", "it's a/sub"), ("mirror", "sub"))
        ),
    ],
)
def test_submodules_are_there_and_follow(
    machine: ShellMachine, repo: Path, how: str, name: str
) -> None:
    inner = add_submodule(machine, repo, name=name)
    path = machine.root / "to"
    params: dict[str, Any] = {"archive": how != "checkout", "submodules": True}
    if how == "mirror":
        params["mirror"] = str(machine.root / "mirror of it")
    machine.check_then_run(git_step(repo, path, **params, version="v1"), "changed")
    outcome = machine.check_then_run(git_step(repo, path, **params), "changed")
    assert (path / name / "deep down/x").read_text() == "deep\n"
    assert (path / name / "hidden").exists() is (how == "checkout")
    commit_files(inner, x="2\n")
    run_git(repo / name, "pull", "-q", "origin", "main")
    commit_files(repo)
    machine.check_then_run(git_step(repo, path, **params), "changed")
    assert (path / name / "x").read_text() == "2\n"
    if how != "checkout":
        assert not list(path.rglob(".git"))
    elsewhere = inner.rename(inner.with_name("elsewhere"))
    commit_files(elsewhere, x="3\n")
    run_git(repo / name, "pull", "-q", str(elsewhere), "main")
    run_git(repo, "config", "-f", ".gitmodules", f"submodule.{name}.url", str(elsewhere))
    commit_files(repo)
    outcome = machine.check_then_run(git_step(repo, path, **params), "changed")
    assert (path / name / "x").read_text() == "3\n", result_message(outcome)


@pytest.mark.parametrize("archive", [True, False])
def test_submodules_that_were_left_out_are_added(
    machine: ShellMachine, repo: Path, archive: bool
) -> None:
    add_submodule(machine, repo)
    path = machine.root / "to"
    machine.check_then_run(git_step(repo, path, archive=archive, submodules=False), "changed")
    outcome = machine.check_then_run(
        git_step(repo, path, archive=archive, submodules=True), "changed"
    )
    assert "submodules" in [c.key for c in outcome.changes]
    assert (path / "sub/x").read_text() == "1\n"


def test_a_submodule_that_cannot_be_had_leaves_what_was_there(
    machine: ShellMachine, repo: Path
) -> None:
    inner = add_submodule(machine, repo)
    path, mirror = machine.root / "to", str(machine.root / "m")
    params: dict[str, Any] = {"archive": True, "submodules": True, "mirror": mirror}
    machine.check_then_run(git_step(repo, path, version="v1", **params), "changed")
    away = inner.rename(inner.with_name("away"))
    outcome = machine.run_step(git_step(repo, path, **params))
    assert outcome.status == "failed"
    assert f"could not get the submodules of {repo}" in outcome.stderr.text
    assert file_names(path) == ["REVISION", "a"]
    away.rename(inner)
    machine.check_then_run(git_step(repo, path, **params), "changed")
    (machine.root / "m/orch-parts/.git/index.lock").touch()  # as who was killed leaves it
    commit_files(repo, b="3\n")
    machine.check_then_run(git_step(repo, path, **params), "changed")
    assert (path / "sub/deep down/x").exists()


def test_ssh_is_told_the_key_and_never_to_ask(machine: ShellMachine, repo: Path) -> None:
    output = machine.root / "said"
    ssh = machine.root.parent / f"{machine.root.name}-tools" / "ssh"
    ssh.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{output}\nexit 1\n')
    ssh.chmod(0o755)
    key = "/keys/it's $(id) 100%"
    option = "SetEnv=X=it's $(id)"
    step = git_step("u@example.org:r.git", machine.root / "to", key=key, ssh_options=[option])
    outcome = machine.run_step(step)
    assert outcome.status == "failed"
    words = output.read_text().split("\n")
    assert words[words.index("-i") + 1] == key.replace("%", "%%")
    assert {"BatchMode=yes", "IdentitiesOnly=yes", option} <= set(words)
    assert "StrictHostKeyChecking=accept-new" not in words
    for bad in ("-v", "ProxyJump", "A=b\nc", ""):
        step["git"]["ssh_options"] = [bad]
        check_refuses(machine, step, "`ssh_options` must be like ProxyJump=bastion")


def test_the_key_of_a_new_server_is_taken_once_and_not_by_a_check(
    machine: ShellMachine, repo: Path, tmp_path: Path
) -> None:
    known = tmp_path / "known hosts"
    with serve_sshd(tmp_path / "sshd") as server:
        url = f"ssh://{server.user}@127.0.0.1:{server.port}{repo}"
        options = [f'UserKnownHostsFile="{known}"', "GlobalKnownHostsFile=/dev/null"]
        step = git_step(url, machine.root / "to", key=str(server.key), ssh_options=options)
        refused = machine.run_step(step)
        assert "or `accept_newhostkey: true`" in refused.stderr.text, result_message(refused)
        new = {"git": {**step["git"], "accept_newhostkey": True}}
        look = {"git_revision": {k: v for k, v in new["git"].items() if k != "path"}}
        assert machine.run_step(look).stdout.text.strip() == run_git(repo, "rev-parse", "HEAD")
        assert machine.run_step(new, check=True).status == "would_change"
        assert not known.exists()
        machine.check_then_run(new, "changed")
        assert server.host_key in known.read_text()
        machine.check_then_run(step, "ok")
        known.write_text(known.read_text().replace(server.host_key[-20:], "A" * 20))
        check_refuses(machine, new, "ost key verification failed")


def test_by_force_an_export_takes_the_place_of_what_is_there(
    machine: ShellMachine, repo: Path
) -> None:
    path = machine.root / "to"
    (path / "sub").mkdir(parents=True)
    (path / "mine").write_text("mine\n")
    machine.check_then_run(git_step(repo, path, archive=True, force=True), "changed")
    assert file_names(path) == ["REVISION", "a", "b"]
    assert file_names(machine.root) == ["to"]
    machine.check_then_run(git_step(repo, path, archive=True, force=True, version="v1"), "changed")
    assert (path / "a").read_text() == "one\n"


@pytest.mark.parametrize("archive", [True, False])
def test_what_is_there_can_be_left_as_it_is(
    machine: ShellMachine, repo: Path, archive: bool
) -> None:
    path = machine.root / "to"
    machine.check_then_run(git_step(repo, path, archive=archive, update=False), "changed")
    commit_files(repo, a="three\n")
    (path / "a").write_text("edited\n")
    gone = repo.rename(repo.parent / "gone")
    machine.check_then_run(git_step(repo, path, archive=archive, update=False), "ok")
    gone.rename(repo)
    machine.check_then_run(
        git_step(repo, path, archive=archive, update=True, force=True), "changed"
    )
    assert (path / "a").read_text() == "three\n"


def sign_with(folder: Path) -> list[str]:
    """Make an SSH key and return the options of git that sign with it."""
    key = folder / "signer"
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
    subprocess.run(words, check=True)
    (folder / "signers").write_text(f"t@example.org {Path(f'{key}.pub').read_text()}")
    return ["-c", "gpg.format=ssh", "-c", f"user.signingKey={key}"]


@pytest.mark.parametrize("mirror", [True, False])
def test_only_signed_commits_are_written(
    machine: ShellMachine, repo: Path, tmp_path: Path, mirror: bool
) -> None:
    signing = sign_with(tmp_path)
    config = tmp_path / "gitconfig"
    config.write_text(f"[gpg.ssh]\n  allowedSignersFile = {tmp_path}/signers\n")
    machine.environment["GIT_CONFIG_GLOBAL"] = str(config)
    run_git(repo, *signing, "tag", "-s", "-m", "signed", "v2", "side")
    more: dict[str, Any] = {"mirror": str(machine.root / "mirror")} if mirror else {}
    path = machine.root / "to"
    for archive in (True, False):
        more |= {"verify": True, "archive": archive}
        refused = machine.run_step(git_step(repo, path, **more, version="main"))
        assert refused.status == "failed"
        assert "has no valid signature of a known key" in refused.stderr.text
        assert not path.exists()
    machine.check_then_run(git_step(repo, path, **more, version="v2"), "changed")
    (repo / "a").write_text("signed\n")
    run_git(repo, *signing, "commit", "-qaS", "-m", "signed")
    machine.check_then_run(git_step(repo, path, **more, version="main"), "changed")
    assert (path / "a").read_text() == "signed\n"
    assert machine.run_step(git_step(repo, path, **more, version="v1")).status == "failed"
    assert (path / "a").read_text() == "signed\n"


def test_a_commit_without_a_branch_is_found_by_a_refspec(
    machine: ShellMachine, repo: Path, tmp_path: Path
) -> None:
    config = tmp_path / "gitconfig"
    config.write_text("[safe]\n  directory = *\n")
    machine.environment["GIT_CONFIG_GLOBAL"] = str(config)
    run_git(repo, "config", "uploadpack.allowAnySHA1InWant", "false")
    commit = commit_files(repo, a="change\n")
    run_git(repo, "update-ref", "refs/changes/1", commit)
    run_git(repo, "reset", "-q", "--hard", "HEAD^")
    path = machine.root / "to"
    step = git_step(repo.as_uri(), path, version=commit)
    step["git"]["refspec"] = "+refs/changes/*:refs/changes/*"
    machine.check_then_run(step, "changed")
    assert (path / "a").read_text() == "change\n"
