"""The script of an app's lock, in each shell: two users, two machines, first deploys, odd names."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.executor.app_locks import Holder, describe, script
from orchestrator.modules import FOLDER

FIRST, SECOND, THIRD = (f"2026010{day}000000-aaaa" for day in (1, 2, 3))
HELD, DENIED = 75, 77
ANNA, BEN = 60001, 60002  # users
DEPLOYERS = 60003  # a group


@dataclass(frozen=True, slots=True)
class Side:
    """Who takes and frees: a user of a shell, in groups."""

    shell: str
    path: str
    user: int | None = None
    group: int | None = None
    groups: tuple[int, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)

    def run(
        self, act: str, run: str = FIRST, within: Sequence[str] = (), app: str = "blog", **told: str
    ) -> subprocess.CompletedProcess[str]:
        told = {"owner": "anna@laptop", "since": "today", **told}
        holder = Holder(run, app, tuple(within), told)
        return self.sh(script(self.path, act, holder))

    def people(self, act: str, force: str = "") -> subprocess.CompletedProcess[str]:
        """What `orch lock` runs."""
        given = f"lock={self.path} force={force}"
        return self.sh(f"set +e\n{given}\n{(FOLDER / 'lock.sh').read_text()}\n{act}")

    def sh(self, text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.shell.split(), "-e", "-c", text.replace("sleep 1", ":")],
            cwd="/",
            env={"PATH": os.environ["PATH"], **self.environ},
            user=self.user,
            group=self.group,
            extra_groups=self.groups if self.user else None,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def takes(self, run: str = FIRST, **more: str) -> bool:
        done = self.run("take", run, **more)
        assert done.returncode in (0, HELD), done.stderr
        return done.returncode == 0

    def frees(self, run: str = FIRST) -> None:
        done = self.run("free", run)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(params=["dash", "bash", "busybox sh"])
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that other users can come to."""
    folder = Path(tempfile.mkdtemp(prefix="lock "))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def lock_of(folder: Path) -> str:
    return shlex.quote(f"{folder}/.orch-lock")


@pytest.mark.parametrize("name", ["app", "-n", "it's $(x) `y`", "a\nb", "*", "é"])
def test_it_is_a_file_that_says_whose_it_is_and_goes_with_its_run(
    shell: str, place: Path, name: str
) -> None:
    (place / name).mkdir()
    side = Side(shell, lock_of(place / name))
    assert side.people("tell").stdout == "free\n"
    assert side.takes(message="hot fix: a=b")
    (file,) = (place / name).iterdir()
    assert file.name == ".orch-lock"
    assert stat.S_ISREG(file.lstat().st_mode)
    refused = side.run("take", SECOND)
    assert refused.returncode == HELD
    who = f"by anna@laptop since today (run {FIRST}): 'hot fix: a=b'"
    assert describe(refused.stdout, "blog") == who
    told = f"held by anna@laptop since today, run {FIRST}: hot fix: a=b\n"
    assert side.people("tell").stdout == told
    side.frees(SECOND)  # it is not theirs
    assert list((place / name).iterdir()) == [file]
    side.frees()
    assert list((place / name).iterdir()) == []
    side.frees()


def test_the_folder_of_a_first_deploy_is_made_and_goes_again_if_nothing_came_of_it(
    shell: str, place: Path
) -> None:
    side = Side(shell, lock_of(place / "srv/www/blog"))
    assert side.takes()
    side.frees()
    assert list(place.iterdir()) == []
    assert side.takes()
    (place / "srv/www/blog/releases").mkdir()
    side.frees()
    assert [p.name for p in (place / "srv/www/blog").iterdir()] == ["releases"]
    assert side.takes()
    shutil.rmtree(place / "srv/www/blog/releases")
    side.frees()  # which did not make the folder
    assert (place / "srv/www/blog").is_dir()


def test_a_path_in_the_home_folder_and_one_without_any(shell: str, place: Path) -> None:
    home = Side(shell, "~/'.orch/locks/a b/blog'", environ={"HOME": str(place)})
    assert home.takes()
    assert (place / ".orch/locks/a b/blog").is_file()
    home.frees()
    assert list(place.iterdir()) == []
    bare = Side(shell, "lock", environ={"HOME": str(place)})
    done = bare.sh(f"cd {shlex.quote(str(place))}\n{script('lock', 'take', Holder(FIRST))}")
    assert (done.returncode, [p.name for p in place.iterdir()]) == (0, ["lock"])


def test_over_two_hosts_that_share_the_folder_a_run_meets_itself(shell: str, place: Path) -> None:
    one, other = (Side(shell, lock_of(place)) for _ in range(2))
    assert one.takes()
    assert other.takes()
    assert not other.takes(SECOND)
    other.frees()
    one.frees()
    assert list(place.iterdir()) == []


def test_another_app_of_the_run_does_not_enter(shell: str, place: Path) -> None:
    """Where lock_path is one for all of them: the first one through would take it along."""
    side = Side(shell, lock_of(place))
    assert side.takes()
    refused = side.run("take", app="shop")
    assert refused.returncode == HELD
    who = f"by anna@laptop since today (run {FIRST} for 'blog')"
    assert describe(refused.stdout, "shop") == who
    side.run("free", app="shop")
    assert (place / ".orch-lock").exists()


def test_what_a_run_starts_enters_and_leaves_its_lock(shell: str, place: Path) -> None:
    side = Side(shell, lock_of(place))
    assert side.takes()
    before = (place / ".orch-lock").read_bytes()
    for within in ((FIRST,), (FIRST, SECOND), (SECOND, FIRST)):
        done = side.run("take", THIRD, within)
        assert (done.returncode, done.stdout) == (0, "entered\n")
        side.run("free", THIRD, within)
        assert (place / ".orch-lock").read_bytes() == before
    for other in ((), (SECOND,), (FIRST[:-1],), ("*",), ("",)):
        assert side.run("take", THIRD, other).returncode == HELD, other


def test_who_takes_a_session_anew_signs_anew(shell: str, place: Path) -> None:
    side = Side(shell, lock_of(place / "new"))
    assert side.takes()
    shell_before = said(place / "new", "shell")
    again = side.sh(
        f"{shell} -c {shlex.quote(script(side.path, 'renew', Holder(FIRST, 'blog')))}; exit $?"
    )
    assert again.returncode == 0
    assert said(place / "new", "shell") != shell_before
    assert said(place / "new", "run") == FIRST
    assert side.run("renew", SECOND).returncode == HELD
    side.frees()
    assert list(place.iterdir()) == []  # what was made for it is known after that, too


def said(folder: Path, key: str) -> str:
    lines = (folder / ".orch-lock").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)[key]


@pytest.mark.parametrize(
    ("key", "value", "state"),
    [
        ("shell", "4194304.1", "stale"),
        ("shell", "", "stale"),
        ("shell", "1.1", "stale"),  # its number was given to another since
        ("boot", "before", "stale"),
        ("machine", "nfs2 id", "away"),
        ("space", "pid:[1]", "away"),  # another container
    ],
)
def test_whether_its_owner_is_alive_is_told_as_far_as_it_is_known(
    shell: str, place: Path, key: str, value: str, state: str
) -> None:
    side = Side(shell, lock_of(place))
    assert side.takes()
    file = place / ".orch-lock"
    lines = [line for line in file.read_text().splitlines() if not line.startswith(f"{key}=")]
    file.write_text("\n".join([*lines, f"{key}={value}", ""]))
    refused = side.run("take", SECOND)
    assert refused.returncode == HELD
    assert f"state={state}" in refused.stdout
    assert describe(refused.stdout, "blog").endswith(
        {
            "stale": "; it is stale: its owner is gone, see `orch lock release`",
            "away": f"; it was taken on {said(place, 'machine').split()[0]}, which shares the folder",
        }[state]
    )
    released = side.people("release")
    if state == "away":
        assert released.returncode == HELD
        assert "its owner may be alive" in released.stderr
        released = side.people("release", force="1")
    assert (released.returncode, released.stdout.split("\n")[-2]) == (0, "released")
    assert list(place.iterdir()) == []


def test_an_owner_whom_we_may_not_see_is_taken_to_be_alive(shell: str, place: Path) -> None:
    """As with the mount option hidepid, where /proc has only what is one's own."""
    (place / "proc").mkdir()
    hidden = Side(shell, lock_of(place), user=ANNA, group=ANNA)
    text = script(hidden.path, "look; echo $f_state", Holder(FIRST))
    text = text.replace("/proc/", f"'{place}'/proc/")  # there is nothing in it
    assert os.geteuid() == 0, "these tests are processes of other users, which root may have"
    assert Side(shell, lock_of(place)).takes()
    for key in ("boot", "space", "machine"):
        file = place / ".orch-lock"
        lines = [line for line in file.read_text().splitlines() if not line.startswith(key)]
        file.write_text("\n".join([*lines, ""]))
    (place / ".orch-lock").open("a").write(f"machine={os.uname().nodename} {machine_id()}\n")
    assert hidden.sh(text).stdout == "held\n"


def machine_id() -> str:
    path = Path("/etc/machine-id")
    return path.read_text().strip() if path.exists() else ""


@pytest.mark.parametrize("text", ["", "\0\xff\nowner=me\nrun="])
def test_a_file_that_names_nobody_is_odd_and_can_be_released(
    shell: str, place: Path, text: str
) -> None:
    (place / ".orch-lock").write_bytes(text.encode("latin-1"))
    side = Side(shell, lock_of(place))
    refused = side.run("take")
    assert refused.returncode == HELD
    assert describe(refused.stdout, "blog") == "by nobody that it names: see `orch lock release`"
    assert side.people("release").returncode == 0
    assert list(place.iterdir()) == []


def test_a_folder_in_its_place_is_odd_and_stays(shell: str, place: Path) -> None:
    (place / ".orch-lock").mkdir()
    (place / ".orch-lock/mine").touch()
    side = Side(shell, lock_of(place))
    assert not side.takes()
    done = side.people("release", force="1")
    assert (done.returncode, "is a folder and no lock" in done.stderr) == (1, True)
    assert (place / ".orch-lock/mine").exists()


def test_of_many_at_the_same_moment_one_gets_it(shell: str, place: Path) -> None:
    sides = [Side(shell, lock_of(place / "made by any")) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        runs = [f"2026010{n}000000-aaaa" for n in range(8)]
        got = list(pool.map(lambda pair: pair[0].takes(pair[1]), zip(sides, runs, strict=True)))
    assert sum(got) == 1
    assert said(place / "made by any", "run") == runs[got.index(True)]
    assert [p.name for p in (place / "made by any").iterdir()] == [".orch-lock"]


def test_a_file_system_without_links_has_locks_too(shell: str, place: Path) -> None:
    tools, folder = place / "bin", place / "app"
    tools.mkdir()
    folder.mkdir()
    (tools / "ln").write_text("#!/bin/sh\necho 'ln: Operation not permitted' >&2\nexit 1\n")
    (tools / "ln").chmod(0o755)
    side = Side(shell, lock_of(folder), environ={"PATH": f"{tools}:{os.environ['PATH']}"})
    if shell.startswith("busybox"):  # its own ln comes before those in PATH
        side = Side("dash", side.path, environ=side.environ)
    assert side.takes()
    assert not side.takes(SECOND)
    assert [p.name for p in folder.iterdir()] == [".orch-lock"]
    side.frees()
    assert list(folder.iterdir()) == []


def two_users(shell: str, folder: Path, mode: int) -> tuple[Side, Side]:
    """Two logins in a common group, to which the folder belongs; it is the first one's."""
    folder.mkdir()
    os.chown(folder, ANNA, DEPLOYERS)
    folder.chmod(mode)
    path = lock_of(folder)
    return Side(shell, path, ANNA, ANNA, (DEPLOYERS,)), Side(shell, path, BEN, BEN, (DEPLOYERS,))


def test_two_logins_that_may_write_there_meet_each_others_lock(shell: str, place: Path) -> None:
    anna, ben = two_users(shell, place / "app", 0o2775)
    assert anna.takes()
    assert not ben.takes(SECOND)
    assert ben.people("tell").stdout.startswith("held by anna@laptop")
    anna.frees()
    assert ben.takes(SECOND)
    assert not anna.takes()
    # and one lets go of what the other has left behind
    file = place / "app/.orch-lock"
    file.write_text(file.read_text().replace("shell=", "shell=4194304."))
    assert anna.people("release").stdout.endswith("released\n")
    assert list((place / "app").iterdir()) == []


def test_with_a_strict_umask_the_other_can_still_read_whose_it_is(shell: str, place: Path) -> None:
    anna, ben = two_users(shell, place / "app", 0o2775)
    text = script(anna.path, "take", Holder(FIRST, "blog", told={"owner": "anna@laptop"}))
    assert anna.sh(f"umask 077\n{text}").returncode == 0
    assert "owner=anna@laptop" in ben.run("take", SECOND).stdout


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        (0o755, "60002 may not write to {folder} (drwxr-xr-x, uid 60001, gid 60003)"),
        (0o700, "60002 may not write to {folder} (drwx------, uid 60001, gid 60003)"),
        (0o1775, ""),  # of what is there nobody removes what is another's
    ],
)
def test_where_one_login_may_not_it_is_told_so(
    shell: str, place: Path, mode: int, why: str
) -> None:
    anna, ben = two_users(shell, place / "app", mode)
    assert anna.takes()
    anna.frees()
    if why:
        done = ben.run("take", SECOND)
        assert done.returncode == DENIED
        assert done.stderr.strip() == why.format(folder=place / "app")
        assert list((place / "app").iterdir()) == []
    assert anna.takes()
    if mode & 0o001:
        assert ben.people("tell").stdout.startswith("held by anna@laptop")
        assert ben.run("take", SECOND).returncode == HELD
        done = ben.people("release", force="1")
        assert done.returncode == DENIED
        assert f"60002 may not remove it from {place / 'app'}" in done.stderr
    else:
        done = ben.people("tell")
        assert (done.returncode, done.stdout) == (DENIED, "")
        assert f"60002 may not look into {place / 'app'}" in done.stderr
    assert (place / "app/.orch-lock").exists()


def test_where_the_folder_cannot_be_made_it_is_told_so(shell: str, place: Path) -> None:
    (place / "srv").mkdir()
    anna = Side(shell, lock_of(place / "srv/www/blog"), ANNA, ANNA)
    done = anna.run("take")
    assert done.returncode == DENIED
    folder = place / "srv/www/blog"
    assert done.stderr.strip() == f"60001 cannot make the folder {folder} (Permission denied)"
    (place / "srv/www").write_text("a file")
    done = Side(shell, anna.path).run("take")
    assert done.returncode == DENIED
    assert "Not a directory" in done.stderr or "File exists" in done.stderr
