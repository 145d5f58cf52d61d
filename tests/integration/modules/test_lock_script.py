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

from orchestrator.executor.app_locks import LockOwner, describe_owner, lock_script
from orchestrator.modules import MODULES_FOLDER

FIRST, SECOND, THIRD = (f"2026010{day}000000-aaaa" for day in (1, 2, 3))
HELD, DENIED = 75, 77
ANNA, BEN = 60001, 60002  # users
DEPLOYERS = 60003  # a group


@dataclass(frozen=True, slots=True)
class LockUser:
    """Who takes and frees: a user of a shell, in groups."""

    shell: str
    path: str
    user: int | None = None
    group: int | None = None
    groups: tuple[int, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)

    def run_lock(
        self,
        act: str,
        run: str = FIRST,
        within: Sequence[str] = (),
        app: str = "blog",
        **description: str,
    ) -> subprocess.CompletedProcess[str]:
        description = {"owner": "anna@laptop", "since": "today", **description}
        holder = LockOwner(run, app, tuple(within), description)
        return self.run_shell(lock_script(self.path, act, holder))

    def lock_command(self, act: str, force: str = "") -> subprocess.CompletedProcess[str]:
        """Run the commands of `orch lock`."""
        arguments = f"lock={self.path} force={force}"
        return self.run_shell(
            f"set +e\n{arguments}\n{(MODULES_FOLDER / 'lock.sh').read_text()}\n{act}"
        )

    def run_shell(self, text: str) -> subprocess.CompletedProcess[str]:
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

    def take_lock(self, run: str = FIRST, **more: str) -> bool:
        done = self.run_lock("take", run, **more)
        assert done.returncode in (0, HELD), done.stderr
        return done.returncode == 0

    def release_lock(self, run: str = FIRST) -> None:
        done = self.run_lock("free", run)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(params=["dash", "bash", "busybox sh"])
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """Yield a folder that other users can access."""
    folder = Path(tempfile.mkdtemp(prefix="lock "))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def lock_file(folder: Path) -> str:
    return shlex.quote(f"{folder}/.orch-lock")


@pytest.mark.parametrize("name", ["app", "-n", "it's $(x) `y`", "a\nb", "*", "é"])
def test_it_is_a_file_that_says_whose_it_is_and_goes_with_its_run(
    shell: str, shared_folder: Path, name: str
) -> None:
    (shared_folder / name).mkdir()
    side = LockUser(shell, lock_file(shared_folder / name))
    assert side.lock_command("tell").stdout == "free\n"
    assert side.take_lock(message="hot fix: a=b")
    (file,) = (shared_folder / name).iterdir()
    assert file.name == ".orch-lock"
    assert stat.S_ISREG(file.lstat().st_mode)
    refused = side.run_lock("take", SECOND)
    assert refused.returncode == HELD
    who = f"by anna@laptop since today (run {FIRST}): 'hot fix: a=b'"
    assert describe_owner(refused.stdout, "blog") == who
    message = f"held by anna@laptop since today, run {FIRST}: hot fix: a=b\n"
    assert side.lock_command("tell").stdout == message
    side.release_lock(SECOND)  # it is not theirs
    assert list((shared_folder / name).iterdir()) == [file]
    side.release_lock()
    assert list((shared_folder / name).iterdir()) == []
    side.release_lock()


def test_the_folder_of_a_first_deploy_is_made_and_goes_again_if_nothing_came_of_it(
    shell: str, shared_folder: Path
) -> None:
    side = LockUser(shell, lock_file(shared_folder / "srv/www/blog"))
    assert side.take_lock()
    side.release_lock()
    assert list(shared_folder.iterdir()) == []
    assert side.take_lock()
    (shared_folder / "srv/www/blog/releases").mkdir()
    side.release_lock()
    assert [p.name for p in (shared_folder / "srv/www/blog").iterdir()] == ["releases"]
    assert side.take_lock()
    shutil.rmtree(shared_folder / "srv/www/blog/releases")
    side.release_lock()  # which did not make the folder
    assert (shared_folder / "srv/www/blog").is_dir()


def test_a_path_in_the_home_folder_and_one_without_any(shell: str, shared_folder: Path) -> None:
    home = LockUser(shell, "~/'.orch/locks/a b/blog'", environ={"HOME": str(shared_folder)})
    assert home.take_lock()
    assert (shared_folder / ".orch/locks/a b/blog").is_file()
    home.release_lock()
    assert list(shared_folder.iterdir()) == []
    bare = LockUser(shell, "lock", environ={"HOME": str(shared_folder)})
    done = bare.run_shell(
        f"cd {shlex.quote(str(shared_folder))}\n{lock_script('lock', 'take', LockOwner(FIRST))}"
    )
    assert (done.returncode, [p.name for p in shared_folder.iterdir()]) == (0, ["lock"])


def test_over_two_hosts_that_share_the_folder_a_run_meets_itself(
    shell: str, shared_folder: Path
) -> None:
    one, other = (LockUser(shell, lock_file(shared_folder)) for _ in range(2))
    assert one.take_lock()
    assert other.take_lock()
    assert not other.take_lock(SECOND)
    other.release_lock()
    one.release_lock()
    assert list(shared_folder.iterdir()) == []


def test_another_app_of_the_run_does_not_enter(shell: str, shared_folder: Path) -> None:
    """Where lock_path is one for all of them: the first one through would take it along."""
    side = LockUser(shell, lock_file(shared_folder))
    assert side.take_lock()
    refused = side.run_lock("take", app="shop")
    assert refused.returncode == HELD
    who = f"by anna@laptop since today (run {FIRST} for 'blog')"
    assert describe_owner(refused.stdout, "shop") == who
    side.run_lock("free", app="shop")
    assert (shared_folder / ".orch-lock").exists()


def test_what_a_run_starts_enters_and_leaves_its_lock(shell: str, shared_folder: Path) -> None:
    side = LockUser(shell, lock_file(shared_folder))
    assert side.take_lock()
    before = (shared_folder / ".orch-lock").read_bytes()
    for within in ((FIRST,), (FIRST, SECOND), (SECOND, FIRST)):
        done = side.run_lock("take", THIRD, within)
        assert (done.returncode, done.stdout) == (0, "entered\n")
        side.run_lock("free", THIRD, within)
        assert (shared_folder / ".orch-lock").read_bytes() == before
    for other in ((), (SECOND,), (FIRST[:-1],), ("*",), ("",)):
        assert side.run_lock("take", THIRD, other).returncode == HELD, other


def test_who_takes_a_session_anew_signs_anew(shell: str, shared_folder: Path) -> None:
    side = LockUser(shell, lock_file(shared_folder / "new"))
    assert side.take_lock()
    shell_before = lock_field(shared_folder / "new", "shell")
    again = side.run_shell(
        f"{shell} -c {shlex.quote(lock_script(side.path, 'renew', LockOwner(FIRST, 'blog')))}; exit $?"
    )
    assert again.returncode == 0
    assert lock_field(shared_folder / "new", "shell") != shell_before
    assert lock_field(shared_folder / "new", "run") == FIRST
    assert side.run_lock("renew", SECOND).returncode == HELD
    side.release_lock()
    assert list(shared_folder.iterdir()) == []  # what was made for it is known after that, too


def lock_field(folder: Path, key: str) -> str:
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
    shell: str, shared_folder: Path, key: str, value: str, state: str
) -> None:
    side = LockUser(shell, lock_file(shared_folder))
    assert side.take_lock()
    file = shared_folder / ".orch-lock"
    lines = [line for line in file.read_text().splitlines() if not line.startswith(f"{key}=")]
    file.write_text("\n".join([*lines, f"{key}={value}", ""]))
    refused = side.run_lock("take", SECOND)
    assert refused.returncode == HELD
    assert f"state={state}" in refused.stdout
    assert describe_owner(refused.stdout, "blog").endswith(
        {
            "stale": "; it is stale: its owner is gone, see `orch lock release`",
            "away": f"; it was taken on {lock_field(shared_folder, 'machine').split()[0]}, which shares the folder",
        }[state]
    )
    released = side.lock_command("release")
    if state == "away":
        assert released.returncode == HELD
        assert "its owner may still be running" in released.stderr
        released = side.lock_command("release", force="1")
    assert (released.returncode, released.stdout.split("\n")[-2]) == (0, "released")
    assert list(shared_folder.iterdir()) == []


def test_an_owner_whom_we_may_not_see_is_taken_to_be_alive(shell: str, shared_folder: Path) -> None:
    """As with the mount option hidepid, where /proc has only what is one's own."""
    (shared_folder / "proc").mkdir()
    hidden = LockUser(shell, lock_file(shared_folder), user=ANNA, group=ANNA)
    text = lock_script(hidden.path, "look; echo $f_state", LockOwner(FIRST))
    text = text.replace("/proc/", f"'{shared_folder}'/proc/")  # there is nothing in it
    assert os.geteuid() == 0, "these tests are processes of other users, which root may have"
    assert LockUser(shell, lock_file(shared_folder)).take_lock()
    for key in ("boot", "space", "machine"):
        file = shared_folder / ".orch-lock"
        lines = [line for line in file.read_text().splitlines() if not line.startswith(key)]
        file.write_text("\n".join([*lines, ""]))
    (shared_folder / ".orch-lock").open("a").write(
        f"machine={os.uname().nodename} {machine_id()}\n"
    )
    assert hidden.run_shell(text).stdout == "held\n"


def machine_id() -> str:
    path = Path("/etc/machine-id")
    return path.read_text().strip() if path.exists() else ""


@pytest.mark.parametrize("text", ["", "\0\xff\nowner=me\nrun="])
def test_a_file_that_names_nobody_is_odd_and_can_be_released(
    shell: str, shared_folder: Path, text: str
) -> None:
    (shared_folder / ".orch-lock").write_bytes(text.encode("latin-1"))
    side = LockUser(shell, lock_file(shared_folder))
    refused = side.run_lock("take")
    assert refused.returncode == HELD
    assert describe_owner(refused.stdout, "blog") == "by an unknown owner: see `orch lock release`"
    assert side.lock_command("release").returncode == 0
    assert list(shared_folder.iterdir()) == []


def test_a_folder_in_its_place_is_odd_and_stays(shell: str, shared_folder: Path) -> None:
    (shared_folder / ".orch-lock").mkdir()
    (shared_folder / ".orch-lock/mine").touch()
    side = LockUser(shell, lock_file(shared_folder))
    assert not side.take_lock()
    done = side.lock_command("release", force="1")
    assert (done.returncode, "is a folder, not a lock" in done.stderr) == (1, True)
    assert (shared_folder / ".orch-lock/mine").exists()


def test_of_many_at_the_same_moment_one_gets_it(shell: str, shared_folder: Path) -> None:
    sides = [LockUser(shell, lock_file(shared_folder / "made by any")) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        runs = [f"2026010{n}000000-aaaa" for n in range(8)]
        got = list(pool.map(lambda pair: pair[0].take_lock(pair[1]), zip(sides, runs, strict=True)))
    assert sum(got) == 1
    assert lock_field(shared_folder / "made by any", "run") == runs[got.index(True)]
    assert [p.name for p in (shared_folder / "made by any").iterdir()] == [".orch-lock"]


def test_a_file_system_without_links_has_locks_too(shell: str, shared_folder: Path) -> None:
    tools, folder = shared_folder / "bin", shared_folder / "app"
    tools.mkdir()
    folder.mkdir()
    (tools / "ln").write_text("#!/bin/sh\necho 'ln: Operation not permitted' >&2\nexit 1\n")
    (tools / "ln").chmod(0o755)
    side = LockUser(shell, lock_file(folder), environ={"PATH": f"{tools}:{os.environ['PATH']}"})
    if shell.startswith("busybox"):  # its own ln comes before those in PATH
        side = LockUser("dash", side.path, environ=side.environ)
    assert side.take_lock()
    assert not side.take_lock(SECOND)
    assert [p.name for p in folder.iterdir()] == [".orch-lock"]
    side.release_lock()
    assert list(folder.iterdir()) == []


def two_users(shell: str, folder: Path, mode: int) -> tuple[LockUser, LockUser]:
    """Two logins in a common group, to which the folder belongs; it is the first one's."""
    folder.mkdir()
    os.chown(folder, ANNA, DEPLOYERS)
    folder.chmod(mode)
    path = lock_file(folder)
    return LockUser(shell, path, ANNA, ANNA, (DEPLOYERS,)), LockUser(
        shell, path, BEN, BEN, (DEPLOYERS,)
    )


def test_two_logins_that_may_write_there_meet_each_others_lock(
    shell: str, shared_folder: Path
) -> None:
    anna, ben = two_users(shell, shared_folder / "app", 0o2775)
    assert anna.take_lock()
    assert not ben.take_lock(SECOND)
    assert ben.lock_command("tell").stdout.startswith("held by anna@laptop")
    anna.release_lock()
    assert ben.take_lock(SECOND)
    assert not anna.take_lock()
    # and one releases the lock that the other has left behind
    file = shared_folder / "app/.orch-lock"
    file.write_text(file.read_text().replace("shell=", "shell=4194304."))
    assert anna.lock_command("release").stdout.endswith("released\n")
    assert list((shared_folder / "app").iterdir()) == []


def test_with_a_strict_umask_the_other_can_still_read_whose_it_is(
    shell: str, shared_folder: Path
) -> None:
    anna, ben = two_users(shell, shared_folder / "app", 0o2775)
    text = lock_script(
        anna.path, "take", LockOwner(FIRST, "blog", details={"owner": "anna@laptop"})
    )
    assert anna.run_shell(f"umask 077\n{text}").returncode == 0
    assert "owner=anna@laptop" in ben.run_lock("take", SECOND).stdout


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        (0o755, "60002 may not write to {folder} (drwxr-xr-x, uid 60001, gid 60003)"),
        (0o700, "60002 may not write to {folder} (drwx------, uid 60001, gid 60003)"),
        (0o1775, ""),  # nobody can remove files of others there
    ],
)
def test_where_one_login_may_not_it_is_told_so(
    shell: str, shared_folder: Path, mode: int, why: str
) -> None:
    anna, ben = two_users(shell, shared_folder / "app", mode)
    assert anna.take_lock()
    anna.release_lock()
    if why:
        done = ben.run_lock("take", SECOND)
        assert done.returncode == DENIED
        assert done.stderr.strip() == why.format(folder=shared_folder / "app")
        assert list((shared_folder / "app").iterdir()) == []
    assert anna.take_lock()
    if mode & 0o001:
        assert ben.lock_command("tell").stdout.startswith("held by anna@laptop")
        assert ben.run_lock("take", SECOND).returncode == HELD
        done = ben.lock_command("release", force="1")
        assert done.returncode == DENIED
        assert f"60002 may not remove it from {shared_folder / 'app'}" in done.stderr
    else:
        done = ben.lock_command("tell")
        assert (done.returncode, done.stdout) == (DENIED, "")
        assert f"60002 may not look into {shared_folder / 'app'}" in done.stderr
    assert (shared_folder / "app/.orch-lock").exists()


def test_where_the_folder_cannot_be_made_it_is_told_so(shell: str, shared_folder: Path) -> None:
    (shared_folder / "srv").mkdir()
    anna = LockUser(shell, lock_file(shared_folder / "srv/www/blog"), ANNA, ANNA)
    done = anna.run_lock("take")
    assert done.returncode == DENIED
    folder = shared_folder / "srv/www/blog"
    assert done.stderr.strip() == f"60001 cannot make the folder {folder} (Permission denied)"
    (shared_folder / "srv/www").write_text("a file")
    done = LockUser(shell, anna.path).run_lock("take")
    assert done.returncode == DENIED
    assert "Not a directory" in done.stderr or "File exists" in done.stderr
