"""Rolling update of six web hosts behind a load balancer, with steps that run once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from textwrap import dedent

import pytest

from tests.e2e.executor.test_many_hosts import closed_port
from tests.projects import OrchProject, OrchResult

WEB = [f"w{n}" for n in range(1, 7)]
TASKS = ("drain", "update", "check", "enable")
AT_LB = ("drain", "enable")

Line = tuple[str, str, str]
"""Action, host and executing host: the lines of a log that all hosts write."""


def log_line(what: str, host: str) -> Line:
    return what, host, "lb" if what.removeprefix("un-") in AT_LB else host


def passing_lines(host: str) -> list[Line]:
    """Return the lines of all four tasks on one host."""
    return [log_line(task, host) for task in TASKS]


def failing_lines(host: str) -> list[Line]:
    """Return the lines of a host whose check fails: rolled back and put into service again."""
    return [log_line(task, host) for task in TASKS[:3]] + undone_lines(host, TASKS[:3])


def undone_lines(host: str, tasks: Iterable[str] = TASKS) -> list[Line]:
    return [log_line(f"un-{task}", host) for task in reversed(list(tasks))]


def lines_of_host(host: str, log: list[Line]) -> list[Line]:
    return [entry for entry in log if entry[1] == host]


class WebFarm:
    """The project, and the shared log of all hosts."""

    def __init__(self, project: OrchProject) -> None:
        self.project, self.file = project, project.root / "log"
        project.add_sandbox_stage("lb", *WEB)
        project.write({"inventories/dev/roles/web.yml": f"[{', '.join(WEB)}]\n"})
        for task in TASKS:
            self.write_task(task)

    def log_step(self, what: str) -> str:
        return f"echo {what} {{{{ host.name }}}} ${{PWD##*/}} >> {self.file}"

    def write_task(self, name: str, more: str = "", head: str = "") -> None:
        """Write a task with a step and a rollback, which write to the log."""
        at = "  delegate_to: lb\n" if name in AT_LB else ""
        self.project.write(
            {
                f"tasks/{name}.yml": f"roles: [web]\n{head}steps:\n- run: |\n"
                f"    {self.log_step(name)}\n    {more}\n{at}"
                f"rollback:\n- run: {self.log_step(f'un-{name}')}\n{at}"
            }
        )

    def make_fail(self, *hosts: str) -> None:
        """Let the check of these hosts fail from now on."""
        self.write_task("check", f"case {{{{ host.name }}}} in {'|'.join(hosts)}) exit 1;; esac")

    def run_rolling(
        self, batch: str, *tasks: str, more: str = "", args: Iterable[str] = ()
    ) -> OrchResult:
        """Run a playbook of one group."""
        names = ", ".join(tasks or (*TASKS, "commit"))
        item = f"{{name: roll, batch: {batch}, {more}tasks: [{names}]}}"
        self.project.write({"tasks/p.yml": f"tasks:\n- {item}\n"})
        return self.run(*args)

    def run(self, *args: str) -> OrchResult:
        return self.project.orch("-s", "dev", "run", "p", "--json", *args)

    @property
    def log(self) -> list[Line]:
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        return [tuple(entry.split()) for entry in lines]  # type: ignore[misc]


@pytest.fixture
def farm(project: OrchProject) -> WebFarm:
    return WebFarm(project)


def host_statuses(done: OrchResult) -> dict[str, str]:
    return {host: row["status"] for host, row in done.host_rows.items()}


def summary_counts(changed: str = "", failed: str = "", **more: str) -> dict[str, str]:
    """Return the hosts by status: ``summary_counts('12', '3', cancelled='4')``."""
    named = {"changed": changed, "failed": failed, **more}
    found = {f"w{n}": status for status, numbers in named.items() for n in numbers}
    return {host: found.get(host, "not_started") for host in WEB}


def task_batches(done: OrchResult, task: str) -> list[list[str]]:
    return [e["hosts"] for e in done.events if e["event"] == "task_started" and e["task"] == task]


def test_one_host_after_another_is_drained_updated_checked_and_enabled(farm: WebFarm) -> None:
    done = farm.run_rolling("1")
    assert done.code == 0, done.out
    assert farm.log == [entry for host in WEB for entry in passing_lines(host)]
    assert host_statuses(done) == summary_counts("123456")


def test_a_failed_check_undoes_its_batch_and_leaves_the_others_as_they_are(farm: WebFarm) -> None:
    farm.make_fail("w3")
    done = farm.run_rolling("1")
    assert done.code == 1
    assert farm.log == [*passing_lines("w1"), *passing_lines("w2"), *failing_lines("w3")]
    assert host_statuses(done) == summary_counts("12", "3")
    assert done.host_rows["w3"]["reason"].endswith(
        "'check' is rolled back; 'update' is rolled back; 'drain' is rolled back"
    )
    assert "was not started: w3 failed" in done.host_rows["w4"]["reason"]
    assert done.host_rows["w1"]["reason"] == ""


def test_without_commit_earlier_batches_are_undone_too_the_newest_first(farm: WebFarm) -> None:
    farm.make_fail("w3")
    done = farm.run_rolling("1", *TASKS)
    assert done.code == 1
    forth = [*passing_lines("w1"), *passing_lines("w2"), *failing_lines("w3")]
    assert farm.log == [*forth, *undone_lines("w2"), *undone_lines("w1")]
    assert host_statuses(done) == summary_counts("", "3", cancelled="12")
    assert "w3 failed" in done.host_rows["w1"]["reason"]
    assert "'enable' is rolled back" in done.host_rows["w1"]["reason"]


def test_a_commit_in_a_batch_is_for_that_batch_alone(farm: WebFarm) -> None:
    farm.write_task("before")
    farm.make_fail("w3")
    names = ", ".join((*TASKS, "commit"))
    item = f"{{name: roll, batch: 1, tasks: [{names}]}}"
    farm.project.write({"tasks/p.yml": f"tasks:\n- before\n- {item}\n- update\n"})
    done = farm.run()
    log = farm.log[len(WEB) :]
    forth = [*passing_lines("w1"), *passing_lines("w2")]
    assert log[: len(forth) + 6] == [*forth, *failing_lines("w3")]
    assert sorted(log[len(forth) + 6 :]) == [log_line("un-before", host) for host in WEB[2:]]
    assert host_statuses(done) == {
        **summary_counts("", "3", cancelled="456"),
        **dict.fromkeys(("w1", "w2"), "stopped"),  # before the task after the group
    }
    assert "rolled back" not in done.host_rows["w1"]["reason"]


def test_a_commit_behind_the_batches_is_for_all_hosts(farm: WebFarm) -> None:
    farm.make_fail("w3")
    item = "{name: roll, batch: 1, tasks: [drain]}"
    farm.project.write({"tasks/p.yml": f"tasks: [update, {item}, commit, check]\n"})
    farm.run()
    assert [entry for entry in farm.log if entry[0].startswith("un-")] != []
    assert {entry[0] for entry in farm.log if entry[0].startswith("un-")} == {"un-check"}


def test_a_commit_in_a_batch_is_for_what_ran_for_its_sake_too(farm: WebFarm) -> None:
    """A hook on a host outside of the batches, and a `once` step, ran for earlier batches, too."""
    hook = f"after: [update]\nsteps:\n- run: {farm.log_step('hook')}\n"
    hook += f"rollback:\n- run: {farm.log_step('un-hook')}\n"
    farm.project.write(
        {
            "inventories/dev/roles/balancer.yml": "[lb]\n",
            "tasks/hook.yml": f"roles: [balancer]\n{hook}",
        }
    )
    farm.write_task("migrate")
    farm.make_fail("w3")
    names = ", ".join(("update", "check", "commit"))
    item = f"{{name: roll, batch: 1, tasks: [{names}]}}"
    hosts = ", ".join(WEB)
    farm.project.write(
        {
            "inventories/dev/roles/web.yml": f"{{hosts: [{hosts}], primary: w5}}\n",
            "tasks/p.yml": f"tasks: [{{migrate: {{}}, once: true}}, {item}]\n",
        }
    )
    farm.run()
    output = [entry[0] for entry in farm.log]
    assert (output.count("migrate"), output.count("un-migrate")) == (1, 0)
    assert (output.count("hook"), output.count("un-hook")) == (3, 1)


def test_the_healthy_hosts_of_a_failed_batch_are_undone_with_it(farm: WebFarm) -> None:
    farm.make_fail("w3")
    done = farm.run_rolling("2")
    assert [lines_of_host(host, farm.log) for host in WEB] == [
        *(passing_lines("w1"), passing_lines("w2")),
        *(failing_lines("w3"), failing_lines("w4")),
        *([], []),
    ]
    assert host_statuses(done) == summary_counts("12", "3", cancelled="4")
    assert done.host_rows["w4"]["reason"].startswith("w3 failed; 'check' is rolled back")
    for task in TASKS[:3]:  # a task is rolled back on all hosts before the task before it
        entries = [n for n, entry in enumerate(farm.log) if entry[0] == f"un-{task}"]
        assert entries == [min(entries), min(entries) + 1]


@pytest.mark.parametrize(
    ("batch", "sizes"),
    [
        ("[1, 50%, 100%]", [1, 3, 2]),
        ("[2, 1]", [2, 1, 1, 1, 1]),
        ("4", [4, 2]),
        ("1%", [1] * 6),
        ("100%", [6]),
        ("34%", [2, 2, 2]),
    ],
)
def test_batches_are_numbers_or_parts_of_the_hosts_and_the_last_size_repeats(
    farm: WebFarm, batch: str, sizes: list[int]
) -> None:
    done = farm.run_rolling(batch)
    hosts = iter(WEB)
    assert task_batches(done, "update") == [[next(hosts) for _ in range(size)] for size in sizes]
    assert done.code == 0
    order = [(entry[0]) for entry in farm.log]
    rolled = [task for size in sizes for task in TASKS for _ in range(size)]
    assert order == rolled  # all items of the group run for one batch before the next batch starts


@pytest.mark.parametrize("most", ["2", "34%", "50%"])
def test_hosts_that_fail_within_max_failures_are_undone_alone(farm: WebFarm, most: str) -> None:
    farm.make_fail("w2", "w4")
    done = farm.run_rolling("2", more=f"max_failures: {most}, ")
    assert done.code == 1
    assert host_statuses(done) == summary_counts("1356", "24")
    for host in WEB:
        assert lines_of_host(host, farm.log) == (
            failing_lines(host) if host in ("w2", "w4") else passing_lines(host)
        )


@pytest.mark.parametrize("most", ["1", "33%"])
def test_max_failures_counts_over_all_batches_of_the_item(farm: WebFarm, most: str) -> None:
    farm.make_fail("w2", "w4")
    done = farm.run_rolling("2", more=f"max_failures: {most}, ")
    assert done.code == 1
    assert host_statuses(done) == summary_counts("1", "24", cancelled="3")
    assert lines_of_host("w1", farm.log) == passing_lines("w1")
    assert [lines_of_host(host, farm.log) for host in WEB[1:]] == [
        *(failing_lines(host) for host in ("w2", "w3", "w4")),
        *([], []),
    ]


CONTINUE = "on_batch_failure: continue, "


def test_after_a_failed_batch_the_next_ones_run_and_its_hosts_take_no_further_part(
    farm: WebFarm,
) -> None:
    farm.write_task("before")
    farm.write_task("last")
    farm.make_fail("w3")
    item = f"{{name: roll, batch: 2, {CONTINUE}tasks: [{', '.join((*TASKS, 'commit'))}]}}"
    farm.project.write({"tasks/p.yml": f"tasks:\n- before\n- {item}\n- last\n"})
    done = farm.run()
    assert done.code == 1
    assert host_statuses(done) == summary_counts("1256", "3", cancelled="4")
    for host in WEB:
        lines = [entry[0] for entry in lines_of_host(host, farm.log)]
        if host in ("w3", "w4"):
            undone = [f"un-{task}" for task in reversed(("before", *TASKS[:3]))]
            assert lines == ["before", *TASKS[:3], *undone]
        else:
            assert lines == ["before", *TASKS, "last"]
    assert done.host_rows["w4"]["reason"].startswith("w3 failed; 'check' is rolled back")
    warnings = [e["text"] for e in done.events if e["event"] == "warned"]
    assert warnings == ["batch 2/3 failed: w3 failed; the others go on"]


def test_if_all_batches_fail_the_run_ends_there(farm: WebFarm) -> None:
    farm.make_fail(*WEB)
    farm.write_task("last")
    item = f"{{name: roll, batch: 3, {CONTINUE}tasks: [update, check]}}"
    farm.project.write(
        {
            "tasks/p.yml": f"tasks:\n- {item}\n- last\n",
            "tasks/told.yml": f"failed: [p]\nsteps:\n- run: {farm.log_step('told')}\n",
        }
    )
    done = farm.run()
    assert done.code == 1
    assert host_statuses(done) == {**summary_counts("", "123456"), "lb": "changed"}
    log = [entry[0] for entry in lines_of_host("w6", farm.log)]
    assert log == ["update", "check", "un-check", "un-update", "told"]


@pytest.mark.long
def test_within_max_failures_a_batch_has_not_failed_and_its_other_hosts_go_on(
    farm: WebFarm,
) -> None:
    farm.make_fail("w1", "w3", "w5")
    done = farm.run_rolling("2", more=f"max_failures: 1, {CONTINUE}")
    assert (done.code, host_statuses(done)) == (1, summary_counts("2", "135", cancelled="46"))


@pytest.mark.long
def test_with_keep_going_the_healthy_hosts_of_a_failed_batch_go_on(farm: WebFarm) -> None:
    farm.make_fail("w3")
    done = farm.run_rolling("2", more=CONTINUE, args=["--keep-going"])
    assert (done.code, host_statuses(done)) == (1, summary_counts("12456", "3"))
    assert lines_of_host("w3", farm.log) == failing_lines("w3")


def test_what_ran_once_for_all_batches_stays_and_the_run_ends_if_it_did_not_run(
    once: WebFarm,
) -> None:
    once.make_fail("w1")
    hosts = ", ".join(WEB)
    once.project.write({"inventories/dev/roles/web.yml": f"{{hosts: [{hosts}], primary: w6}}\n"})
    done = once.run_rolling("2", MIGRATE, "check", more=CONTINUE)
    assert (done.code, host_statuses(done)) == (1, summary_counts("3456", "1", cancelled="2"))
    assert [entry[:2] for entry in once.log if "migrate" in entry[0]] == [("migrate", "w6")]
    once.file.unlink()
    done = once.run_rolling("2", "check", MIGRATE, more=CONTINUE)
    assert done.code == 1
    assert {entry[0] for entry in once.log} == {"check", "un-check"}
    assert {entry[1] for entry in once.log} == {"w1", "w2"}


def test_a_hook_that_fails_outside_of_the_batch_ends_the_run(farm: WebFarm) -> None:
    hook = f"roles: [balancer]\nafter: [update]\nsteps:\n- run: {farm.log_step('hook')}; false\n"
    farm.project.write({"inventories/dev/roles/balancer.yml": "[lb]\n", "tasks/hook.yml": hook})
    done = farm.run_rolling("2", "update", "check", more=CONTINUE)
    assert done.code == 1
    assert [entry[0] for entry in farm.log] == ["update"] * 2 + ["hook"] + ["un-update"] * 2


def test_a_later_once_item_whose_host_has_failed_ends_the_run(once: WebFarm) -> None:
    once.make_fail("w1")
    item = f"{{name: roll, batch: 2, {CONTINUE}tasks: [check]}}"
    once.project.write({"tasks/p.yml": f"tasks:\n- {item}\n- {MIGRATE}\n- update\n"})
    done = once.run()
    assert done.code == 1
    assert {entry[0] for entry in once.log} == {"check", "un-check"}
    reason = "w1, which was to run 'migrate' once, failed"
    assert done.host_rows["w3"]["reason"].startswith(reason)


def test_failures_tolerated_in_one_item_do_not_count_in_the_next(farm: WebFarm) -> None:
    farm.make_fail("w2")
    farm.write_task("again", "test {{ host.name }} != w5")
    farm.project.write(
        {
            "tasks/p.yml": dedent("""\
                tasks:
                - {name: a, max_failures: 1, tasks: [check]}
                - {name: b, max_failures: 1, tasks: [again]}
                - update
                """)
        }
    )
    done = farm.run()
    assert (done.code, host_statuses(done)) == (1, summary_counts("1346", "25"))
    assert ("un-again", "w5", "w5") in farm.log
    assert ("un-check", "w5", "w5") in farm.log


def planned_tasks(farm: WebFarm) -> list[tuple[str, set[str]]]:
    """Return what was done in order, with the hosts that it was done for."""
    found: list[tuple[str, set[str]]] = []
    for what, host, _ in farm.log:
        if not found or found[-1][0] != what:
            found.append((what, set()))
        found[-1][1].add(host)
    return found


@pytest.fixture
def hooked(farm: WebFarm) -> WebFarm:
    farm.write_task("first", head="before: [update]\n")
    farm.write_task("last", head="after: [roll]\n")
    farm.project.write({"tasks/roll.yml": "tasks: [update, check]\n"})
    return farm


def test_hooks_run_in_each_batch_on_its_hosts(hooked: WebFarm) -> None:
    done = hooked.run_rolling("4", "roll")
    names = ("first", "update", "check", "last")
    batches = ({"w1", "w2", "w3", "w4"}, {"w5", "w6"})
    assert planned_tasks(hooked) == [(name, hosts) for hosts in batches for name in names]
    assert (done.code, host_statuses(done)) == (0, summary_counts("123456"))


def test_a_before_that_fails_in_a_batch_keeps_its_task_from_it_and_the_later_ones(
    hooked: WebFarm,
) -> None:
    hooked.write_task("first", "test {{ host.name }} != w3", head="before: [update]\n")
    done = hooked.run_rolling("2", "roll", "commit")
    assert planned_tasks(hooked) == [
        *((name, {"w1", "w2"}) for name in ("first", "update", "check", "last")),
        *((name, {"w3", "w4"}) for name in ("first", "un-first")),
    ]
    assert (done.code, host_statuses(done)) == (1, summary_counts("12", "3", cancelled="4"))


def test_an_after_that_fails_in_a_batch_undoes_the_batch(hooked: WebFarm) -> None:
    hooked.write_task("last", "test {{ host.name }} != w3", head="after: [roll]\n")
    done = hooked.run_rolling("2", "roll", "commit")
    names = ("first", "update", "check", "last")
    assert planned_tasks(hooked)[4:] == [
        *((name, {"w3", "w4"}) for name in names),
        *((f"un-{name}", {"w3", "w4"}) for name in reversed(names)),
    ]
    assert (done.code, host_statuses(done)) == (1, summary_counts("12", "3", cancelled="4"))


SHOW = dedent("""\
        roles: [web]
        steps:
        - run: echo {{ own.stdout }}
        - run: echo {{ mine }}
        - run: echo {{ shared.stdout }}
        """)


@pytest.fixture
def once(farm: WebFarm) -> WebFarm:
    """Create tasks: `own` registers on each host, `migrate` once for all; `show` prints both."""
    farm.write_task("migrate", "echo from {{ host.name }} {{ own.stdout | default('-') }}")
    path = farm.project.root / "tasks/migrate.yml"
    path.write_text(path.read_text().replace("rollback:", "  register: shared\nrollback:"))
    farm.project.write(
        {
            "tasks/show.yml": SHOW,
            "tasks/own.yml": dedent("""\
                roles: [web]
                steps:
                - {run: 'echo {{ host.name }}', register: own}
                - set: {mine: 'of {{ host.name }}'}
                """),
        }
    )
    return farm


MIGRATE = "{migrate: {}, once: true}"
ANYWHERE = "{migrate: {}, once: true, on: any}"


def shown_outputs(done: OrchResult) -> dict[str, str]:
    output = {
        host: [e["stdout"].strip() for e in done.host_steps(host) if e["task"] == "show"]
        for host in WEB
    }
    return {host: " ".join(words) for host, words in output.items() if words}


@pytest.mark.parametrize("item", [MIGRATE, ANYWHERE])
def test_once_runs_once_however_many_batches_and_its_result_is_every_hosts(
    once: WebFarm, item: str
) -> None:
    done = once.run_rolling("2", "own", item, "show")
    assert done.code == 0, done.err
    assert once.log == [("migrate", "w1", "w1")]
    assert shown_outputs(done) == {host: f"{host} of {host} from w1 w1" for host in WEB}
    order = [e["task"] for e in done.events if e["event"] == "task_started"]
    assert order == ["own", "migrate", "show", "own", "show", "own", "show"]


def test_once_runs_on_the_primary_though_its_batch_is_not_on_yet(once: WebFarm) -> None:
    hosts = ", ".join(WEB)
    once.project.write({"inventories/dev/roles/web.yml": f"{{hosts: [{hosts}], primary: w5}}\n"})
    done = once.run_rolling("2", "update", MIGRATE, "commit")
    assert done.code == 0
    assert [entry[:2] for entry in once.log if entry[0] == "migrate"] == [("migrate", "w5")]
    assert [entry[0] for entry in once.log].index("migrate") == 2


def test_what_ran_once_is_undone_once(once: WebFarm) -> None:
    once.make_fail("w6")
    done = once.run_rolling("2", MIGRATE, "check")
    assert done.code == 1
    assert [entry for entry in once.log if "migrate" in entry[0]] == [
        ("migrate", "w1", "w1"),
        ("un-migrate", "w1", "w1"),
    ]


def test_a_primary_that_is_not_selected_is_an_error_before_anything_runs(once: WebFarm) -> None:
    once.project.write({"tasks/p.yml": f"tasks: [update, {MIGRATE}]\n"})
    done = once.project.orch("-s", "dev", "run", "p", "-l", "w2,w3")
    assert done.code == 3
    assert "'migrate' runs once, on 'w1', which is not selected" in done.err
    assert "tasks/p.yml:1:17" in done.err
    assert once.log == []


def test_on_any_takes_the_first_that_is_selected(once: WebFarm) -> None:
    done = once.run_rolling("1", "own", ANYWHERE, "show", args=("-l", "w2,w3"))
    assert once.log == [("migrate", "w2", "w2")]
    assert shown_outputs(done) == {host: f"{host} of {host} from w2 w2" for host in ("w2", "w3")}


def test_hosts_that_stood_by_are_skipped_and_not_left_over(once: WebFarm) -> None:
    once.project.write({"tasks/p.yml": f"tasks: [{ANYWHERE}]\n"})
    done = once.run()
    assert (done.code, host_statuses(done)) == (
        0,
        {"w1": "changed", **dict.fromkeys(WEB[1:], "skipped")},
    )


def make_unreachable(farm: WebFarm, host: str, port: int) -> None:
    connect = f"{{transport: ssh, port: {port}, retries: 0}}"
    text = f"address: 127.3.9.2\nconnect: {connect}\n"
    Path(farm.project.root / f"inventories/dev/hosts/{host}.yml").write_text(text)


@pytest.mark.parametrize("args", [(), ("--unreachable", "skip")])
def test_an_unreachable_primary_stops_the_run_before_anything_runs(
    once: WebFarm, args: tuple[str, ...]
) -> None:
    with closed_port("127.3.9.2") as nobody:
        make_unreachable(once, "w1", nobody)
        done = once.run_rolling("2", "update", MIGRATE, args=args)
    assert (done.code, once.log) == (4, [])
    assert host_statuses(done) == summary_counts(unreachable="1")
    if args:
        assert "w1, the primary, is unreachable" in done.host_rows["w2"]["reason"]


def test_on_any_takes_another_host_for_one_that_cannot_be_reached(once: WebFarm) -> None:
    with closed_port("127.3.9.2") as nobody:
        make_unreachable(once, "w1", nobody)
        done = once.run_rolling("3", "own", ANYWHERE, "show", args=("--unreachable", "skip"))
    assert done.code == 4
    assert once.log == [("migrate", "w2", "w2")]
    assert host_statuses(done) == summary_counts("23456", unreachable="1")
    assert shown_outputs(done) == {host: f"{host} of {host} from w2 w2" for host in WEB[1:]}


def test_where_none_that_could_run_it_can_be_reached_nothing_runs(once: WebFarm) -> None:
    once.project.write(
        {
            "inventories/dev/roles/db.yml": "[w1]\n",
            "tasks/migrate.yml": f"roles: [db]\nsteps: [{{run: '{once.log_step('migrate')}'}}]\n",
        }
    )
    with closed_port("127.3.9.2") as nobody:
        make_unreachable(once, "w1", nobody)
        done = once.run_rolling("3", "update", ANYWHERE, args=("--unreachable", "skip"))
    assert (done.code, once.log) == (4, [])
    assert (
        "all hosts that could run 'migrate' are unreachable: w1" in done.host_rows["w2"]["reason"]
    )


def test_a_delegate_that_cannot_be_reached_stops_the_run_before_anything_runs(
    farm: WebFarm,
) -> None:
    with closed_port("127.3.9.2") as nobody:
        make_unreachable(farm, "lb", nobody)
        done = farm.run_rolling("1", args=("--unreachable", "skip"))
    assert farm.log == []
    assert host_statuses(done) == summary_counts()
    assert "lb, which steps are delegated to, is unreachable" in done.host_rows["w1"]["reason"]
    assert done.code == 4


def test_what_is_set_where_it_ran_once_is_every_hosts_and_not_the_primarys(farm: WebFarm) -> None:
    farm.project.write(
        {
            "tasks/elect.yml": "roles: [web]\nsteps: [set: {leader: '{{ host.name }}'}]\n",
            "tasks/show.yml": "roles: [web]\nsteps: [{run: 'echo {{ leader }}'}]\n",
        }
    )
    with closed_port("127.3.9.2") as nobody:
        make_unreachable(farm, "w1", nobody)
        item = "{elect: {}, once: true, on: any}"
        done = farm.run_rolling("6", item, "show", args=("--unreachable", "skip"))
    assert shown_outputs(done) == dict.fromkeys(WEB[1:], "w2")
