"""``package`` with apt, zypper and pacman, and small packages of our own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.host_tools import without_applets
from tests.support.machine import ODD_NAMES, ShellMachine, result_message
from tests.support.private_copy import give_own_tmp, run_in_copy

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


def offer_packages(machine: ShellMachine, *packages: str, update: bool = True) -> None:
    """Let apt have packages: NAME VERSION and quoted lines for the control file."""
    lines = "\n".join(f"offer {package}" for package in packages)
    run_in_copy(machine, REPOSITORY.split("\n", 4)[4] + lines)
    if update:
        run_in_copy(machine, "apt-get -qq update")


@pytest.fixture
def host(private: ShellMachine) -> ShellMachine:
    run_in_copy(private, REPOSITORY)
    offer_packages(private, "orch-test-a 1.0", "orch-test-b 1.0 'Recommends: orch-test-c'")
    offer_packages(private, "orch-test-c 1.0", "orch-test-g++ 1:2.0-3~x")
    return private


RELEASES = r"""
for release in old:1.0 new:2.0; do
  name=orch-test-r version=${release#*:} at=/srv/${release%:*}
  mkdir -p $at
  rm -rf /srv/made; mkdir -p /srv/made/DEBIAN
  printf '%s\n' "Package: $name" "Version: $version" "Architecture: all" \
    "Maintainer: nobody <nobody@example.com>" "Description: a test" >/srv/made/DEBIAN/control
  dpkg-deb -b /srv/made $at/it.deb >/dev/null
  { dpkg-deb -f $at/it.deb; echo "Filename: ./it.deb"; echo "Size: $(wc -c <$at/it.deb)"
    echo "SHA256: $(sha256sum $at/it.deb | cut -d' ' -f1)"; echo; } >$at/Packages
  printf '%s\n' "Suite: ${release%:*}" "Date: Thu, 01 Jan 2026 00:00:00 UTC" "SHA256:" \
    " $(sha256sum $at/Packages | cut -d' ' -f1) $(wc -c <$at/Packages) Packages" >$at/Release
  echo "deb [trusted=yes] file:$at ./" >>/etc/apt/sources.list.d/orchtest.list
done
echo 'APT::Default-Release "old";' >/etc/apt/apt.conf.d/99orch
apt-get -qq update
"""


@contextmanager
def serve_in_copy(machine: ShellMachine, folder: str) -> Iterator[str]:
    """Serve a folder of the private copy, whose network has only a loopback; yield the URL."""
    words = [*machine.wrapper, "/usr/bin/python3", "-c", SERVER, folder]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin and server.stdout
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        server.stdin.close()


SERVER = """
import fcntl, functools, http.server, socket, struct, sys, threading
with socket.socket() as s:  # ip link set lo up
    fcntl.ioctl(s, 0x8914, struct.pack("16sH14s", b"lo", 0x41, b""))
class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): pass
handler = functools.partial(Handler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
"""


def package_step(*names: str, **params: Any) -> dict[str, Any]:
    return {"package": {"name": list(names), **params}}


def installed_version(machine: ShellMachine) -> str:
    shown = run_in_copy(
        machine, "dpkg-query -W -f '${Package}=${Version}=${Status}\n' 'orch-test-*' || :"
    )
    ending = "=install ok installed"
    found = (line.removesuffix(ending) for line in shown.split("\n") if line.endswith(ending))
    return " ".join(name.removeprefix("orch-test-") for name in found)


def test_packages_are_installed_and_removed(host: ShellMachine) -> None:
    outcome = host.check_then_run(package_step("orch-test-a"), "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [
        ("missing", "orch-test-a", "none")
    ]
    outcome = host.check_then_run(
        package_step("orch-test-a", "orch-test-g++", "orch-test-b"), "changed"
    )
    assert outcome.changes[0].before == "orch-test-g++, orch-test-b"
    assert "a=1.0 b=1.0" in installed_version(host)
    outcome = host.check_then_run(
        package_step("orch-test-none", "orch-test-g++", state="absent"), "changed"
    )
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [
        ("installed", "orch-test-g++ 1:2.0-3~x", "none")
    ]
    assert "g++" not in installed_version(host)
    host.check_then_run({"package": {"name": "orch-test-a", "state": "absent"}}, "changed")
    assert "a=" not in installed_version(host)


@pytest.mark.parametrize(("recommends", "found"), [(True, "b=1.0 c=1.0"), (False, "b=1.0")])
def test_what_is_recommended_comes_if_asked_for(
    host: ShellMachine, recommends: bool, found: str
) -> None:
    host.check_then_run(package_step("orch-test-b", recommends=recommends), "changed")
    assert installed_version(host) == found


def test_only_latest_brings_what_is_newer(host: ShellMachine) -> None:
    host.check_then_run(package_step("orch-test-a", "orch-test-c"), "changed")
    host.check_then_run(package_step("orch-test-a", state="latest"), "ok")
    offer_packages(host, "orch-test-a 1.1")
    host.check_then_run(package_step("orch-test-a", "orch-test-b"), "changed")
    assert installed_version(host) == "a=1.0 b=1.0 c=1.0"
    names = ("orch-test-a", "orch-test-c", "orch-test-g++")
    outcome = host.check_then_run(package_step(*names, state="latest"), "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [
        ("missing", "orch-test-g++", "none"),
        ("outdated", "orch-test-a 1.0 (there is 1.1)", "none"),
    ]
    assert installed_version(host).startswith("a=1.1 ")


def test_a_version_can_be_asked_for(host: ShellMachine) -> None:
    offer_packages(host, "orch-test-a 1.1", "orch-test-a 1.2")
    host.check_then_run(package_step("orch-test-a=1.1"), "changed")
    assert installed_version(host) == "a=1.1"
    host.check_then_run(package_step("orch-test-a"), "ok")
    host.check_then_run(package_step("orch-test-a=1.2"), "changed")
    host.check_then_run(package_step("orch-test-a=1.1", state="absent"), "ok")
    assert installed_version(host) == "a=1.2"


def test_old_lists_are_renewed_before_something_is_installed(host: ShellMachine) -> None:
    offer_packages(host, "orch-test-new 1.0", update=False)
    run_in_copy(host, "touch -d '2 hours ago' /var/lib/apt/lists")
    assert "orch-test-new" in host.run_step(package_step("orch-test-new")).stderr.text
    host.check_then_run(
        package_step("orch-test-new", update_cache=True, cache_valid=10000), "failed"
    )
    host.check_then_run(package_step("orch-test-new", update_cache=True), "changed")
    offer_packages(host, "orch-test-new 1.1", update=False)
    run_in_copy(host, "touch -d '2 hours ago' /var/lib/apt/lists")
    host.check_then_run(package_step("orch-test-new", update_cache=True), "ok")
    outcome = host.check_then_run(
        package_step("orch-test-new", update_cache=True, state="latest"), "changed"
    )
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [("lists", "old", "fresh")]
    assert installed_version(host) == "new=1.1"


def test_what_was_removed_but_for_its_settings_is_absent(host: ShellMachine) -> None:
    host.check_then_run(package_step("orch-test-a"), "changed")
    host.check_then_run(package_step("orch-test-a", state="absent"), "changed")
    assert "config-files" in run_in_copy(host, "dpkg-query -W -f '${Status}' orch-test-a")
    host.check_then_run(package_step("orch-test-a"), "changed")


def check_fails(host: ShellMachine, message: str, step: dict[str, Any]) -> None:
    """Check the message in check mode and in a run."""
    for check in (True, False):
        outcome = host.run_step(step, check=check)
        assert outcome.status == "failed", result_message(outcome)
        assert message in outcome.stderr.text, result_message(outcome)


def test_what_is_not_to_be_had_is_found_by_a_check(host: ShellMachine) -> None:
    run_in_copy(host, "touch -d '2 hours ago' /var/lib/apt/lists")
    step = package_step("orch-test-a", "orch-test-none", "orch-test-g++=7")
    check_fails(host, "apt has no package orch-test-none: `update_cache: true`", step)
    check_fails(host, "apt has no package orch-test-g++=7", step)
    assert installed_version(host) == ""
    # new lists could have it
    new = package_step("orch-test-none", update_cache=True)
    assert host.run_step(new, check=True).status == "would_change"
    assert "orch-test-none" in host.check_then_run(new, "failed").stderr.text
    check_fails(host, "apt has no package orch-test-none", new)  # they have not


def test_what_another_package_provides_is_installed(host: ShellMachine) -> None:
    offer_packages(host, "orch-test-d 1.0 'Provides: orch-test-v, orch-test-one (= 3)'")
    offer_packages(host, "orch-test-e 1.0 'Provides: orch-test-v, orch-test-a'")
    check_fails(host, "orch-test-d orch-test-e", package_step("orch-test-v"))
    host.check_then_run(package_step("orch-test-one"), "changed")
    assert installed_version(host) == "d=1.0"
    host.check_then_run(package_step("orch-test-v", "orch-test-one"), "ok")
    outcome = host.check_then_run(
        package_step("orch-test-v", "orch-test-b", recommends=False), "changed"
    )
    assert outcome.changes[0].before == "orch-test-b"
    host.check_then_run(package_step("orch-test-v", state="absent"), "ok")
    offer_packages(host, "orch-test-d 1.1 'Provides: orch-test-v, orch-test-one (= 3)'")
    outcome = host.check_then_run(
        package_step("orch-test-v", "orch-test-one", state="latest"), "changed"
    )
    assert "orch-test-d 1.0 (there is 1.1)" in str(outcome.changes[0].before)
    # what is a package itself is wanted itself
    host.check_then_run(package_step("orch-test-e"), "changed")
    host.check_then_run(package_step("orch-test-a"), "changed")
    assert installed_version(host) == "a=1.0 b=1.0 d=1.1 e=1.0"


def test_what_is_held_is_changed_only_if_allowed(host: ShellMachine) -> None:
    host.check_then_run(package_step("orch-test-a"), "changed")
    offer_packages(host, "orch-test-a 1.1", "orch-test-a 1.2")
    run_in_copy(host, "apt-mark hold orch-test-a >&2")
    host.check_then_run(package_step("orch-test-a"), "ok")
    output = "orch-test-a is held: `allow_held: true`"
    check_fails(host, output, package_step("orch-test-b", "orch-test-a", state="latest"))
    check_fails(host, output, package_step("orch-test-a=1.1"))
    check_fails(host, output, package_step("orch-test-a", state="absent"))
    assert run_in_copy(host, "dpkg-query -W -f '${Version}' orch-test-a") == "1.0"
    host.check_then_run(package_step("orch-test-a=1.1", allow_held=True), "changed")
    host.check_then_run(package_step("orch-test-a", allow_held=True, state="latest"), "changed")
    host.check_then_run(package_step("orch-test-a", state="latest"), "ok")
    host.check_then_run(package_step("orch-test-a", allow_held=True, state="absent"), "changed")


def test_a_pattern_of_versions(host: ShellMachine) -> None:
    run_in_copy(host, f"touch '{host.home}/orch-test-a=1.nothing'")
    offer_packages(host, "orch-test-a 1.1", "orch-test-a 1.10", "orch-test-a 2.0")
    check_fails(host, "apt has no package orch-test-a=3.*", package_step("orch-test-a=3.*"))
    host.check_then_run(package_step("orch-test-a=1.*"), "changed")
    assert installed_version(host) == "a=1.10"
    host.check_then_run(package_step("orch-test-a=1*", "orch-test-a=*0"), "ok")
    host.check_then_run(package_step("orch-test-a=1.*", state="latest"), "ok")
    offer_packages(host, "orch-test-a 1.11")
    outcome = host.check_then_run(package_step("orch-test-a=1.*", state="latest"), "changed")
    assert outcome.changes[0].before == "orch-test-a=1.* 1.10 (there is 1.11)"
    older = package_step("orch-test-a=1.1")
    check_fails(host, "orch-test-a 1.11 is newer than 1.1: `allow_downgrade", older)
    host.check_then_run(package_step("orch-test-a=1.1", allow_downgrade=True), "changed")
    assert installed_version(host) == "a=1.1"
    host.check_then_run(package_step("orch-test-a=2*", state="absent"), "ok")
    host.check_then_run(package_step("orch-test-a=1*", state="absent"), "changed")
    assert installed_version(host) == ""


def test_the_lists_alone_are_updated(host: ShellMachine) -> None:
    step = {"package": {"update_cache": True, "cache_valid": 3600}}
    host.check_then_run(step, "ok")
    run_in_copy(host, "touch -d '2 hours ago' /var/lib/apt/lists")
    offer_packages(host, "orch-test-new 1.0", update=False)
    run_in_copy(host, "touch -d '2 hours ago' /var/lib/apt/lists")
    host.check_then_run(step, "changed")
    assert "orch-test-new" in run_in_copy(host, "apt-cache search orch-test-new")


def test_everything_is_upgraded(host: ShellMachine) -> None:
    host.check_then_run(package_step("orch-test-a", "orch-test-c", "orch-test-g++"), "changed")
    host.check_then_run({"package": {"upgrade": "safe"}}, "ok")
    offer_packages(host, "orch-test-a 1.1 'Depends: orch-test-b'", "orch-test-c 1.1")
    offer_packages(host, "orch-test-c 1.2 'Conflicts: orch-test-g++'")
    outcome = host.check_then_run({"package": {"upgrade": "safe", "recommends": False}}, "changed")
    assert "orch-test-a 1.0 (there is 1.1)" in str(outcome.changes[0].before)
    assert "orch-test-b 1.0 (new)" in str(outcome.changes[0].before)
    assert installed_version(host).startswith("a=1.1 b=1.0 c=1.0 g++=")
    run_in_copy(host, "apt-mark hold orch-test-a >&2")
    offer_packages(host, "orch-test-a 1.2")
    outcome = host.check_then_run({"package": {"upgrade": "full"}}, "changed")
    assert "orch-test-c 1.0 (there is 1.2)" in str(outcome.changes[0].before)
    assert "orch-test-g++ (to remove)" in str(outcome.changes[0].before)
    assert installed_version(host) == "b=1.0 c=1.2"  # and the held one, as it was
    wrong = {"package": {"name": "orch-test-a", "upgrade": "safe"}}
    check_fails(host, "for one, use `state: latest`", wrong)


def test_a_file_is_installed_from_the_host_and_from_the_web(host: ShellMachine) -> None:
    without_applets(host, "tar")  # dpkg needs that of GNU
    give_own_tmp(host)
    offer_packages(host, "orch-test-d 2.0 'Depends: orch-test-a'")
    step = {"package": {"deb": "/srv/debs/orch-test-d_2.0.deb"}}
    outcome = host.check_then_run(step, "changed")
    assert [(c.key, c.before) for c in outcome.changes] == [("missing", "orch-test-d 2.0")]
    assert installed_version(host) == "a=1.0 d=2.0"
    offer_packages(host, "orch-test-d 1.0")
    host.check_then_run({"package": {"deb": "/srv/debs/orch-test-d_1.0.deb"}}, "ok")
    old = {"package": {"deb": "/srv/debs/orch-test-d_1.0.deb", "allow_downgrade": True}}
    host.check_then_run(old, "changed")
    check_fails(host, "there is no file /srv/none.deb", {"package": {"deb": "/srv/none.deb"}})
    check_fails(host, "must be an absolute path", {"package": {"deb": "-o/x.deb"}})
    other = {"package": {"deb": "/srv/debs/orch-test-d_2.0.deb", "name": "orch-test-x"}}
    check_fails(host, "contains orch-test-d, not orch-test-x", other)
    with serve_in_copy(host, "/srv/debs") as url:
        step = {"package": {"deb": f"{url}/orch-test-d_2.0.deb"}}
        host.check_then_run(step, "changed")
        named = {"deb": f"{url}/none.deb", "name": "orch-test-d=2.*"}
        host.check_then_run({"package": named}, "ok")  # without the file
        check_fails(host, "404", {"package": {"deb": f"{url}/none.deb"}})
    assert run_in_copy(host, "ls -A /tmp | grep -v pytest || :") == ""


def test_settings_and_what_nothing_needs_are_removed(host: ShellMachine) -> None:
    offer_packages(host, "orch-test-d 1.0 'Depends: orch-test-a'")
    host.check_then_run(package_step("orch-test-d"), "changed")
    host.check_then_run(package_step("orch-test-d", state="absent"), "changed")
    outcome = host.check_then_run(
        package_step("orch-test-d", state="absent", purge=True), "changed"
    )
    assert [(c.key, c.before) for c in outcome.changes] == [("settings", "orch-test-d")]
    outcome = host.check_then_run({"package": {"autoremove": True, "purge": True}}, "changed")
    assert outcome.changes[0].before == "orch-test-a"
    assert run_in_copy(host, "dpkg-query -W 'orch-test-*' 2>/dev/null || :") == ""
    host.check_then_run(package_step("orch-test-d"), "changed")
    gone = package_step("orch-test-d", state="absent", purge=True, autoremove=True)
    host.run_step(gone)
    assert installed_version(host) == ""
    check_fails(host, "`purge` is for", package_step("orch-test-a", purge=True))


def test_packages_are_held_and_released(host: ShellMachine) -> None:
    held = package_step("orch-test-a=1.*", "orch-test-c", hold=True)
    outcome = host.check_then_run(held, "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [
        ("missing", "orch-test-a=1.*, orch-test-c", "none"),
        ("held", "none", "orch-test-a, orch-test-c"),
    ]
    assert run_in_copy(host, "apt-mark showhold") == "orch-test-a\norch-test-c\n"
    offer_packages(host, "orch-test-a 1.1")
    check_fails(host, "is held", package_step("orch-test-a", state="latest", hold=True))
    free = package_step("orch-test-a", "orch-test-c", state="latest", hold=False)
    host.check_then_run(free, "changed")
    assert installed_version(host) == "a=1.1 c=1.0"
    assert run_in_copy(host, "apt-mark showhold") == ""


def test_what_is_not_installed_can_be_held(host: ShellMachine) -> None:
    host.check_then_run(package_step("orch-test-c", hold=True, state="as_is"), "changed")
    assert (installed_version(host), run_in_copy(host, "apt-mark showhold")) == (
        "",
        "orch-test-c\n",
    )
    host.check_then_run(package_step("orch-test-c", hold=False, state="as_is"), "changed")
    assert run_in_copy(host, "apt-mark showhold") == ""
    check_fails(host, "`as_is` is for `hold`", package_step("orch-test-c", state="as_is"))


@pytest.mark.long
def test_a_package_comes_from_another_release(host: ShellMachine) -> None:
    run_in_copy(host, RELEASES)
    host.check_then_run(package_step("orch-test-r"), "changed")
    assert installed_version(host) == "r=1.0"
    step = package_step("orch-test-r", state="latest", default_release="new")
    host.check_then_run(step, "changed")
    assert installed_version(host) == "r=2.0"


@pytest.mark.long
def test_what_only_apt_has_is_refused_elsewhere(private: ShellMachine) -> None:
    step = package_step("orch-test-a", hold=True, manager="zypper")
    check_fails(private, "are for apt, and this host has zypper", step)
    for name in ("hold", "state"):
        wrong = {"package": {name: True if name == "hold" else "absent", "autoremove": True}}
        check_fails(private, "`name` is missing", wrong)
    check_fails(private, "give `name`, or one of", {"package": {}})


REFUSED = [name for name in ODD_NAMES if name not in ("plain", "a=b")]


def test_what_is_no_name_is_refused(machine: ShellMachine) -> None:
    for name in [*REFUSED, "", "orch-test-a-", "a*", "*=1", "a,b", "a/b", "./a", "a "]:
        outcome = machine.check_then_run(package_step(name), "failed")
        assert "is not a valid package name" in outcome.stderr.text, result_message(outcome)


def test_a_host_without_any_manager_says_so(private: ShellMachine) -> None:
    run_in_copy(private, 'for name in apt-get zypper pacman; do rm "$(command -v $name)"; done')
    assert "no apt" in private.check_then_run(package_step("a"), "failed").stderr.text


# Debian's rpm has its database in the home folder, and zypper wants a package glibc.
RPM_REPOSITORY = r"""
mkdir -p /etc/rpm /etc/zypp/repos.d /srv/rpms
echo '%_dbpath /var/lib/rpm' >/etc/rpm/macros
printf '%s\n' '[t]' 'name=t' 'baseurl=dir:/srv/rpms' 'type=plaindir' 'enabled=1' 'gpgcheck=0' \
  'autorefresh=0' >/etc/zypp/repos.d/t.repo
rpm() {
  printf '%s\n' "Name: $1" "Version: $2" 'Release: 1' 'Summary: x' 'License: x' 'BuildArch: noarch' \
    "${3:-Provides: $1-self}" '%description' x '%files' >/srv/rpms/$1.spec
  rpmbuild -bb --quiet --define '_rpmdir /srv/rpms' --define '_topdir /srv/build' /srv/rpms/$1.spec
}
rpm glibc 1.0
rpm orch-test-a 1.0
rpm orch-test-b 1.0 'Provides: orch-test-virtual'
zypper -q -n refresh
zypper -q -n install glibc
zypper -q --no-refresh -n search orch
"""

PACMAN_REPOSITORY = r"""
mkdir -p /srv/made /srv/pacman /var/lib/pacman/local
printf '%s\n' '[options]' 'Architecture = any' 'SigLevel = Never' '[t]' 'Server = file:///srv/pacman' \
  >/etc/pacman.conf
pack() {
  printf '%s\n' "pkgname = $1" "pkgver = $2-1" 'size = 2' 'arch = any' "provides = $3" >/srv/made/.PKGINFO
  file=$1-$2-1-any.pkg.tar.gz
  tar -C /srv/made -czf "/srv/pacman/$file" .PKGINFO
  mkdir -p "/srv/lists/$1-$2-1"
  printf '%%%s%%\n%s\n\n' FILENAME "$file" NAME "$1" VERSION "$2-1" ARCH any ISIZE 2 CSIZE "$(wc -c <"/srv/pacman/$file")" \
    SHA256SUM "$(sha256sum "/srv/pacman/$file" | cut -d' ' -f1)" PROVIDES "$3" >"/srv/lists/$1-$2-1/desc"
}
pack orch-test-a 1.0 orch-test-self
pack orch-test-b 1.0 orch-test-virtual
(cd /srv/lists; tar -czf /srv/pacman/t.db *)
pacman -Sy --noconfirm
"""


@pytest.mark.parametrize(
    ("manager", "repository"), [("zypper", RPM_REPOSITORY), ("pacman", PACMAN_REPOSITORY)]
)
def test_other_managers_install_find_and_remove(
    private: ShellMachine, manager: str, repository: str
) -> None:
    without_applets(private, "rpm", "tar")  # zypper and pacman need the full ones
    run_in_copy(private, f"exec 1>&2\n{repository}")
    # not /var: to read rpm's database touches its files
    private.watched_paths = tuple(path / "etc" for path in private.watched_paths)
    params = {"manager": manager}
    unknown = f"{manager} has no package orch-test-none: `update_cache: true`"
    check_fails(private, unknown, package_step("orch-test-a", "orch-test-none", **params))
    outcome = private.check_then_run(package_step("orch-test-a", **params), "changed")
    assert [(c.key, c.before, c.after) for c in outcome.changes] == [
        ("missing", "orch-test-a", "none")
    ]
    private.check_then_run(package_step("orch-test-a", state="latest", **params), "ok")
    private.check_then_run(package_step("orch-test-virtual", **params), "changed")
    private.check_then_run(package_step("orch-test-b", "orch-test-virtual", **params), "ok")
    gone = package_step("orch-test-a", "orch-test-b", state="absent", **params)
    outcome = private.check_then_run(gone, "changed")
    assert outcome.changes[0].before == "orch-test-a 1.0-1, orch-test-b 1.0-1"
    private.check_then_run(gone, "ok")


def test_a_repository_without_lists_may_have_any_package(private: ShellMachine) -> None:
    run_in_copy(private, f"exec 1>&2\n{RPM_REPOSITORY}")
    repository = "[u]\nname=u\nbaseurl=http://127.0.0.1:1/\nenabled=1\n"
    run_in_copy(private, f"echo '{repository}' >/etc/zypp/repos.d/u.repo")
    step = package_step("orch-test-none", manager="zypper")
    assert private.run_step(step, check=True).status == "would_change"
