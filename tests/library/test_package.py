"""``package``: what it finds, what it makes of it, with apt and tiny packages of our own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.library.machine import ODD, Machine, told
from tests.library.private import there

# A private copy of this machine has no network: its apt knows this folder and nothing else.
REPOSITORY = r"""
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d /var/lib/apt/lists
mkdir -p /etc/apt/sources.list.d /var/lib/apt/lists/partial /srv/debs
echo 'deb [trusted=yes] file:/srv/debs ./' >/etc/apt/sources.list.d/orchtest.list
deb() {
  rm -rf /srv/made; mkdir -p /srv/made/DEBIAN /srv/made/etc; shift 2
  echo it >"/srv/made/etc/$name"; echo "/etc/$name" >/srv/made/DEBIAN/conffiles
  printf '%s\n' "Package: $name" "Version: $version" "Architecture: all" \
    "Maintainer: nobody <nobody@example.com>" "Description: a test" "$@" >/srv/made/DEBIAN/control
  file=/srv/debs/${name}_$version.deb
  dpkg-deb -b /srv/made "$file" >/dev/null
  { dpkg-deb -f "$file"; echo "Filename: ./${file##*/}"; echo "Size: $(wc -c <"$file")"
    echo "SHA256: $(sha256sum "$file" | cut -d' ' -f1)"; echo; } >>/srv/debs/Packages
}
offer() { name=$1 version=$2; deb "$@"; }
"""


def offered(machine: Machine, *packages: str, update: bool = True) -> None:
    """Let apt have packages: NAME VERSION and quoted lines for the control file."""
    lines = "\n".join(f"offer {package}" for package in packages)
    there(machine, REPOSITORY.split("\n", 4)[4] + lines)
    if update:
        there(machine, "apt-get -qq update")


@pytest.fixture
def host(private: Machine) -> Machine:
    there(private, REPOSITORY)
    offered(private, "orch-test-a 1.0", "orch-test-b 1.0 'Recommends: orch-test-c'")
    offered(private, "orch-test-c 1.0", "orch-test-g++ 1:2.0-3~x")
    return private


def package(*names: str, **given: Any) -> dict[str, Any]:
    return {"package": {"name": list(names), **given}}


def installed(machine: Machine) -> str:
    shown = there(
        machine, "dpkg-query -W -f '${Package}=${Version}=${Status}\n' 'orch-test-*' || :"
    )
    ending = "=install ok installed"
    found = (line.removesuffix(ending) for line in shown.split("\n") if line.endswith(ending))
    return " ".join(name.removeprefix("orch-test-") for name in found)


def test_packages_are_installed_and_removed(host: Machine) -> None:
    outcome = host.sees(package("orch-test-a"), "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [
        ("missing", "orch-test-a", "none")
    ]
    outcome = host.sees(package("orch-test-a", "orch-test-g++", "orch-test-b"), "changed")
    assert outcome.changes[0].before == "orch-test-g++, orch-test-b"
    assert "a=1.0 b=1.0" in installed(host)
    outcome = host.sees(package("orch-test-none", "orch-test-g++", state="absent"), "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [
        ("installed", "orch-test-g++ 1:2.0-3~x", "none")
    ]
    assert "g++" not in installed(host)
    host.sees({"package": {"name": "orch-test-a", "state": "absent"}}, "changed")
    assert "a=" not in installed(host)


@pytest.mark.parametrize(("recommends", "found"), [(True, "b=1.0 c=1.0"), (False, "b=1.0")])
def test_what_is_recommended_comes_if_asked_for(
    host: Machine, recommends: bool, found: str
) -> None:
    host.sees(package("orch-test-b", recommends=recommends), "changed")
    assert installed(host) == found


def test_only_latest_brings_what_is_newer(host: Machine) -> None:
    host.sees(package("orch-test-a", "orch-test-c"), "changed")
    host.sees(package("orch-test-a", state="latest"), "ok")
    offered(host, "orch-test-a 1.1")
    host.sees(package("orch-test-a", "orch-test-b"), "changed")
    assert installed(host) == "a=1.0 b=1.0 c=1.0"
    names = ("orch-test-a", "orch-test-c", "orch-test-g++")
    outcome = host.sees(package(*names, state="latest"), "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [
        ("missing", "orch-test-g++", "none"),
        ("outdated", "orch-test-a 1.0 (there is 1.1)", "none"),
    ]
    assert installed(host).startswith("a=1.1 ")


def test_a_version_can_be_asked_for(host: Machine) -> None:
    offered(host, "orch-test-a 1.1", "orch-test-a 1.2")
    host.sees(package("orch-test-a=1.1"), "changed")
    assert installed(host) == "a=1.1"
    host.sees(package("orch-test-a"), "ok")
    host.sees(package("orch-test-a=1.2"), "changed")
    host.sees(package("orch-test-a=1.1", state="absent"), "ok")
    assert installed(host) == "a=1.2"


def test_old_lists_are_renewed_before_something_is_installed(host: Machine) -> None:
    offered(host, "orch-test-new 1.0", update=False)
    there(host, "touch -d '2 hours ago' /var/lib/apt/lists")
    assert "orch-test-new" in host.one(package("orch-test-new")).stderr.text
    host.sees(package("orch-test-new", update_cache=True, cache_valid=10000), "failed")
    host.sees(package("orch-test-new", update_cache=True), "changed")
    offered(host, "orch-test-new 1.1", update=False)
    there(host, "touch -d '2 hours ago' /var/lib/apt/lists")
    host.sees(package("orch-test-new", update_cache=True), "ok")
    outcome = host.sees(package("orch-test-new", update_cache=True, state="latest"), "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [("lists", "old", "fresh")]
    assert installed(host) == "new=1.1"


def test_what_was_removed_but_for_its_settings_is_absent(host: Machine) -> None:
    host.sees(package("orch-test-a"), "changed")
    host.sees(package("orch-test-a", state="absent"), "changed")
    assert "config-files" in there(host, "dpkg-query -W -f '${Status}' orch-test-a")
    host.sees(package("orch-test-a"), "changed")


def fails(host: Machine, said: str, step: dict[str, Any]) -> None:
    """A check says so as well."""
    for check in (True, False):
        outcome = host.one(step, check=check)
        assert outcome.status == "failed", told(outcome)
        assert said in outcome.stderr.text, told(outcome)


def test_what_is_not_to_be_had_is_found_by_a_check(host: Machine) -> None:
    there(host, "touch -d '2 hours ago' /var/lib/apt/lists")
    step = package("orch-test-a", "orch-test-none", "orch-test-g++=7")
    fails(host, "apt knows no package orch-test-none: `update_cache: true`", step)
    fails(host, "apt knows no package orch-test-g++=7", step)
    assert installed(host) == ""
    # new lists could have it
    new = package("orch-test-none", update_cache=True)
    assert host.one(new, check=True).status == "would_change"
    assert "orch-test-none" in host.sees(new, "failed").stderr.text
    fails(host, "apt knows no package orch-test-none", new)  # they have not


def test_what_another_package_provides_is_installed(host: Machine) -> None:
    offered(host, "orch-test-d 1.0 'Provides: orch-test-v, orch-test-one (= 3)'")
    offered(host, "orch-test-e 1.0 'Provides: orch-test-v, orch-test-a'")
    fails(host, "orch-test-d orch-test-e", package("orch-test-v"))
    host.sees(package("orch-test-one"), "changed")
    assert installed(host) == "d=1.0"
    host.sees(package("orch-test-v", "orch-test-one"), "ok")
    outcome = host.sees(package("orch-test-v", "orch-test-b", recommends=False), "changed")
    assert outcome.changes[0].before == "orch-test-b"
    host.sees(package("orch-test-v", state="absent"), "ok")
    offered(host, "orch-test-d 1.1 'Provides: orch-test-v, orch-test-one (= 3)'")
    outcome = host.sees(package("orch-test-v", "orch-test-one", state="latest"), "changed")
    assert "orch-test-d 1.0 (there is 1.1)" in str(outcome.changes[0].before)
    # what is a package itself is wanted itself
    host.sees(package("orch-test-e"), "changed")
    host.sees(package("orch-test-a"), "changed")
    assert installed(host) == "a=1.0 b=1.0 d=1.1 e=1.0"


def test_what_is_held_is_changed_only_if_allowed(host: Machine) -> None:
    host.sees(package("orch-test-a"), "changed")
    offered(host, "orch-test-a 1.1", "orch-test-a 1.2")
    there(host, "apt-mark hold orch-test-a >&2")
    host.sees(package("orch-test-a"), "ok")
    said = "orch-test-a is held: `allow_held: true`"
    fails(host, said, package("orch-test-b", "orch-test-a", state="latest"))
    fails(host, said, package("orch-test-a=1.1"))
    fails(host, said, package("orch-test-a", state="absent"))
    assert there(host, "dpkg-query -W -f '${Version}' orch-test-a") == "1.0"
    host.sees(package("orch-test-a=1.1", allow_held=True), "changed")
    host.sees(package("orch-test-a", allow_held=True, state="latest"), "changed")
    host.sees(package("orch-test-a", state="latest"), "ok")
    host.sees(package("orch-test-a", allow_held=True, state="absent"), "changed")


REFUSED = [name for name in ODD if name not in ("plain", "a=b")]


def test_what_is_no_name_is_refused(machine: Machine) -> None:
    for name in [*REFUSED, "", "orch-test-a-", "a*", "a,b", "a/b", "./a", "a "]:
        outcome = machine.sees(package(name), "failed")
        assert "no package's name" in outcome.stderr.text, told(outcome)


def test_a_host_without_any_manager_says_so(private: Machine) -> None:
    there(private, "rm $(command -v apt-get)")
    assert "no apt" in private.sees(package("a"), "failed").stderr.text
