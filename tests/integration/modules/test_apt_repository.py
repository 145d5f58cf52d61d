"""``apt_repository``: what apt reads, on a private copy that has only repositories of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.modules.test_package_module import REPOSITORY, package_step, serve_in_copy
from tests.support.machine import ShellMachine, result_message
from tests.support.module_files import outcome_changes
from tests.support.private_copy import give_own_tmp, run_in_copy

# A repository of one package, which is signed by a key of its own.
SIGNED = r"""
rm -f /etc/apt/sources.list.d/*
mkdir -p /srv/repo /srv/web
offer orch-test-s 1.0
mv /srv/debs/orch-test-s_1.0.deb /srv/repo/
cd /srv/repo
{ dpkg-deb -f orch-test-s_1.0.deb; echo "Filename: ./orch-test-s_1.0.deb"
  echo "Size: $(wc -c <orch-test-s_1.0.deb)"
  echo "SHA256: $(sha256sum orch-test-s_1.0.deb | cut -d' ' -f1)"; } >Packages
printf '%s\n' 'Suite: it' 'Date: Thu, 01 Jan 2026 00:00:00 UTC' 'SHA256:' \
  " $(sha256sum Packages | cut -d' ' -f1) $(wc -c <Packages) Packages" >Release
export GNUPGHOME="$KEYS"
gpg --batch --yes -q -u orch-test --clearsign -o InRelease Release
gpg --batch --yes -q --armor --export orch-test >/srv/web/key.asc
gpg --batch --yes -q --export orch-test >/srv/web/key
echo '<html>' >/srv/web/page
"""
FILE = "/etc/apt/sources.list.d/it.sources"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("keys")
    home.chmod(0o700)
    words = ["gpg", "--homedir", str(home), "--batch", "-q", "--passphrase", ""]
    subprocess.run([*words, "--quick-gen-key", "orch-test", "ed25519", "sign"], check=True)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
    return home


@pytest.fixture
def host(private: ShellMachine, keys: Path) -> ShellMachine:
    give_own_tmp(private)
    run_in_copy(private, "mkdir -p -m 700 /srv/keys")
    subprocess.run(
        f"tar -C {keys} --exclude=S.* -c . | {' '.join(private.wrapper)} tar -C /srv/keys -x",
        shell=True,
        check=True,
    )
    run_in_copy(private, f"KEYS=/srv/keys\n{REPOSITORY}\n{SIGNED}")
    return private


def repository_step(**params: Any) -> dict[str, Any]:
    return {"apt_repository": {"name": "it", "uris": "file:/srv/repo", "suites": "./", **params}}


def check_fails(host: ShellMachine, message: str, step: dict[str, Any]) -> None:
    """Check the message in check mode and in a run."""
    for check in (True, False):
        outcome = host.run_step(step, check=check)
        assert outcome.status == "failed", result_message(outcome)
        assert message in outcome.stderr.text, result_message(outcome)


def test_a_repository_with_the_text_of_its_key(host: ShellMachine) -> None:
    key = run_in_copy(host, "cat /srv/web/key.asc")
    outcome = host.check_then_run(repository_step(key=key), "changed")
    assert outcome_changes(outcome) == {
        "key": (None, "as given"),
        "contents": (None, "as given"),
    }
    assert run_in_copy(host, f"cat {FILE}") == (
        "Types: deb\nURIs: file:/srv/repo\nSuites: ./\nSigned-By: /etc/apt/keyrings/it.asc\n"
    )
    host.check_then_run(package_step("orch-test-s"), "changed")
    outcome = host.check_then_run(repository_step(key=key, enabled=False), "changed")
    assert "Enabled: no" in run_in_copy(host, f"cat {FILE}")
    run_in_copy(host, "echo it >/etc/apt/keyrings/it.asc")
    outcome = host.check_then_run(repository_step(key=key, enabled=False), "changed")
    assert outcome_changes(outcome) == {"key": ("different", "as given")}
    host.check_then_run(repository_step(state="absent"), "changed")
    assert run_in_copy(host, "ls /etc/apt/sources.list.d /etc/apt/keyrings | grep it || :") == ""


def test_what_apt_cannot_use_is_taken_back(host: ShellMachine) -> None:
    """The repository is signed by a key that is not known."""
    outcome = host.run_step(repository_step())
    assert outcome.status == "failed"
    assert f"{FILE} is as it was before" in outcome.stderr.text, result_message(outcome)
    assert run_in_copy(host, "ls /etc/apt/sources.list.d") == ""
    host.check_then_run(repository_step(update=False), "changed")
    before = run_in_copy(host, f"cat {FILE}")
    assert host.run_step(repository_step(components="main")).status == "failed"
    assert run_in_copy(host, f"cat {FILE}") == before


def test_a_key_of_the_web_in_both_formats(host: ShellMachine) -> None:
    with serve_in_copy(host, "/srv/web") as url:
        host.check_then_run(repository_step(key=f"{url}/key"), "changed")
        assert "Signed-By: /etc/apt/keyrings/it.gpg" in run_in_copy(host, f"cat {FILE}")
        host.check_then_run(repository_step(state="absent"), "changed")
        host.check_then_run(repository_step(key=f"{url}/key.asc"), "changed")
        assert "Signed-By: /etc/apt/keyrings/it.asc" in run_in_copy(host, f"cat {FILE}")
        host.check_then_run(repository_step(state="absent"), "changed")
        for page, message in (("page", "is not a public key"), ("none", "404")):
            outcome = host.run_step(repository_step(key=f"{url}/{page}"))
            assert outcome.status == "failed"
            assert message in outcome.stderr.text, result_message(outcome)
    assert (
        run_in_copy(host, "ls -A /etc/apt/sources.list.d /etc/apt/keyrings /tmp | grep it || :")
        == ""
    )


def test_a_repository_as_a_line(host: ShellMachine) -> None:
    key = "/srv/web/key.asc"
    step = {"apt_repository": {"repo": "deb  file:/srv/repo ./", "key": key}}
    host.check_then_run(step, "changed")
    line = f"deb [signed-by={key}] file:/srv/repo ./\n"
    assert run_in_copy(host, "cat /etc/apt/sources.list.d/file_srv_repo.list") == line
    # elsewhere it is as good
    run_in_copy(
        host,
        "cd /etc/apt; { echo '# it'; sed 's/ \\[/\\t[ /;s/\\]/ ]/' sources.list.d/*; } >sources.list"
        "; echo 'deb file:/srv/debs ./' >>sources.list; rm sources.list.d/*",
    )
    host.check_then_run(step, "ok")
    gone = {"apt_repository": {**step["apt_repository"], "state": "absent"}}
    host.check_then_run(gone, "changed")
    assert run_in_copy(host, "cat /etc/apt/sources.list") == "# it\ndeb file:/srv/debs ./\n"
    options = {"repo": "deb [arch=amd64] file:/srv/repo ./", "key": key, "name": "it"}
    host.check_then_run({"apt_repository": options}, "changed")
    assert "[signed-by=/srv/web/key.asc arch=amd64]" in run_in_copy(
        host, "cat /etc/apt/sources.list.d/it.list"
    )
    host.check_then_run({"apt_repository": {**options, "state": "absent"}}, "changed")
    assert run_in_copy(host, "ls /etc/apt/sources.list.d") == ""


@pytest.mark.long
def test_all_fields(host: ShellMachine) -> None:
    fields = {
        "uris": ["file:/srv/repo", "file:/srv/debs"],
        "suites": ["a", "b"],
        "components": ["main", "it's"],
        "types": ["deb", "deb-src"],
        "architectures": ["amd64"],
        "options": {"Trusted": "yes"},
        "update": False,
    }
    host.check_then_run(repository_step(**fields), "changed")
    assert run_in_copy(host, f"cat {FILE}") == (
        "Types: deb deb-src\nURIs: file:/srv/repo file:/srv/debs\nSuites: a b\n"
        "Components: main it's\nArchitectures: amd64\nTrusted: yes\n"
    )


def test_what_cannot_be_is_refused(host: ShellMachine) -> None:
    for params, message in (
        ({"name": "a b"}, "`name` may contain only"),
        ({"key": "it"}, "`key` must be the text of a public key"),
        ({"key": "/srv/none"}, "there is no keyring /srv/none"),
        ({"suites": "a b"}, "a value contains a blank"),
        ({"options": {"A": "b\nc"}}, "an option contains a newline"),
        ({"repo": "deb file:/x ./"}, "`repo` takes the place of"),
    ):
        check_fails(host, message, repository_step(**params))
    for repo in ("", "deb", "deb x", "rpm file:/x ./", "deb /x y", "$(id) a b", "-n"):
        check_fails(host, "`repo` must be like", {"apt_repository": {"repo": repo}})
    check_fails(host, "at Launchpad", {"apt_repository": {"repo": "ppa:a/b"}})
    check_fails(host, "`name` or `repo` is missing", {"apt_repository": {"uris": "a"}})
    check_fails(host, "`uris` and `suites` are", {"apt_repository": {"name": "a", "uris": "a"}})
