import json
import time
from pathlib import Path

from orchestrator.journal.run_dirs import make_run_folder, prune_runs, run_parents
from orchestrator.journal.run_lock import mark_running
from tests.support.journal_events import RUN


def keep_run(runs: Path, run: str, **states: str) -> None:
    folder = runs / run
    folder.mkdir(parents=True)
    record: dict[str, object] = {"run": run, "stage": "dev"}
    if states:
        record["rows"] = [{"host": host, "status": status} for host, status in states.items()]
    (folder / "run.json").write_text(json.dumps(record))


def test_a_run_has_a_private_folder_in_the_project_which_git_ignores(tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path, RUN, {})
    assert folder == tmp_path / ".orch" / "runs" / RUN
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / ".orch" / ".gitignore").read_text() == "*\n"


def test_a_gitignore_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / ".orch").mkdir()
    (tmp_path / ".orch" / ".gitignore").write_text("mine\n")
    make_run_folder(tmp_path, RUN, {})
    assert (tmp_path / ".orch" / ".gitignore").read_text() == "mine\n"


def test_a_project_that_cannot_be_written_has_its_runs_in_the_users_state(tmp_path: Path) -> None:
    root = tmp_path / "shop"
    root.mkdir()
    (root / ".orch").write_text("in the way, for root too")
    folder = make_run_folder(root, RUN, {"XDG_STATE_HOME": str(tmp_path / "state")})
    assert folder.parents[2] == tmp_path / "state" / "orch"
    assert folder.parents[1].name.startswith("shop-")
    assert folder.is_dir()


def test_the_state_folder_follows_the_xdg_rules(tmp_path: Path) -> None:
    def second(environ: dict[str, str]) -> str:
        return str(run_parents(tmp_path, environ)[1])

    assert second({"XDG_STATE_HOME": "/s", "HOME": "/h"}).startswith("/s/orch/")
    assert second({"XDG_STATE_HOME": "relative", "HOME": "/h"}).startswith("/h/.local/state/orch/")
    assert len(run_parents(tmp_path, {})) == 1


def test_two_projects_of_one_name_do_not_share_their_state(tmp_path: Path) -> None:
    found = {run_parents(tmp_path / d / "shop", {"HOME": "/h"})[1] for d in ("one", "two")}
    assert len(found) == 2


def test_the_newest_runs_are_kept_and_what_is_no_run_is_left_alone(tmp_path: Path) -> None:
    for day in range(1, 8):
        keep_run(tmp_path, f"2020010{day}000000-aaaa", a="ok")
    (tmp_path / "notes").mkdir()
    prune_runs(tmp_path, 3)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [*(f"2020010{day}000000-aaaa" for day in (5, 6, 7)), "notes"]


def test_a_run_that_may_still_be_going_on_is_not_removed(tmp_path: Path) -> None:
    now = time.strftime("%Y%m%d%H%M%S", time.gmtime())
    keep_run(tmp_path, f"{now}-aaaa")
    keep_run(tmp_path, f"{now}-bbbb", a="ok")
    keep_run(tmp_path, "20200101000000-aaaa")
    keep_run(tmp_path, f"{now}-cccc", a="ok")
    prune_runs(tmp_path, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{now}-aaaa", f"{now}-cccc"]


def test_a_run_in_progress_is_kept_however_old_it_is(tmp_path: Path) -> None:
    old, resumed, newest = (f"2020010{day}000000-aaaa" for day in (1, 2, 3))
    keep_run(tmp_path, old)
    keep_run(tmp_path, resumed, a="failed")
    keep_run(tmp_path, newest, a="ok")
    with (
        (tmp_path / old / "events.jsonl").open("w") as one,
        (tmp_path / resumed / "events.jsonl").open("w") as other,
    ):
        mark_running(one.fileno())
        mark_running(other.fileno())
        prune_runs(tmp_path, 1)
        assert sorted(path.name for path in tmp_path.iterdir()) == [old, resumed, newest]
    prune_runs(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == [newest]


def test_the_run_that_removes_others_is_kept(tmp_path: Path) -> None:
    for day in (1, 2, 3):
        keep_run(tmp_path, f"2020010{day}000000-aaaa", a="ok")
    own = tmp_path / "20200101000000-aaaa"
    prune_runs(tmp_path, 1, own)
    assert sorted(path.name for path in tmp_path.iterdir()) == [own.name, "20200103000000-aaaa"]


def test_of_runs_of_one_second_those_that_began_last_are_kept(tmp_path: Path) -> None:
    for started, end in enumerate("cadb"):
        folder = tmp_path / f"20200101000000-{end}"
        folder.mkdir()
        record = {"started": started, "rows": []}
        (folder / "run.json").write_text(json.dumps(record))
    keep_run(tmp_path, "20200101000001-a", a="ok")
    prune_runs(tmp_path, 3)
    assert sorted(path.name[13:] for path in tmp_path.iterdir()) == ["0-b", "0-d", "1-a"]
