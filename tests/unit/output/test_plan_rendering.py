import json

from orchestrator.errors import SourcePosition
from orchestrator.model.command import StepCommand
from orchestrator.output.plan_text import plan_json, plan_lines
from orchestrator.planner.plan import AppPlan, HostPlan, Plan, PlannedStep, PlannedTask, StepProgram
from tests.support.output_events import make_screen

MARK = SourcePosition("tasks/deploy.yml", 4, 5)


def planned_step(number: int, name: str, text: str, **more) -> PlannedStep:
    return PlannedStep(number, name, MARK, text, command=StepCommand(number, text), **more)


def host_steps(host: str, *steps: PlannedStep, **more) -> HostPlan:
    return HostPlan(host, StepProgram(steps, **more))


def make_plan(*hosts: HostPlan, app: str | None = None, **more) -> Plan:
    names = tuple(host.host for host in hosts)
    wave = PlannedTask("deploy:publish", "Point at it", hosts)
    return Plan("20261123140211-ab12", "prod", ("deploy",), names, (AppPlan(app, (wave,)),), **more)


def rendered_lines(of: Plan, mask=str) -> list[str]:
    return list(plan_lines(of, make_screen()[0], mask))


def test_equal_text_is_shown_once_with_its_hosts() -> None:
    hosts = [
        host_steps(f"web{i}", planned_step(1, "release", f"cd /srv/{i // 3}\nmake"))
        for i in (1, 2, 3)
    ]
    assert rendered_lines(make_plan(*hosts)) == [
        "plan 20261123140211-ab12: stage prod, deploy on 3 hosts",
        "",
        "1. deploy:publish on web[1-3]  Point at it",
        "   1  release  on web[1-2]",
        "      | cd /srv/0",
        "      | make",
        "   1  release  on web3",
        "      | cd /srv/1",
        "      | make",
    ]


def test_what_waits_is_its_template_and_what_it_waits_for() -> None:
    step = PlannedStep(2, "link", MARK, "ln -s {{ before.stdout }}", awaited_names=("before",))
    shown = rendered_lines(make_plan(host_steps("a", step)))
    assert shown[4:6] == ["      waits for `before`", "      | ln -s {{ before.stdout }}"]


def test_conditions_skips_registers_and_stdin_are_told() -> None:
    skipped = PlannedStep(1, "one", MARK, "x", skip="when is false: app.old")
    fed = PlannedStep(
        2, "two", MARK, "cat", "a.changed", register="b", readonly=True,
        command=StepCommand(2, "cat", shell="bash", timeout=90.0, stdin="in\n", guard="[ ! -e x ]"),
    )  # fmt: skip
    assert rendered_lines(make_plan(host_steps("a", skipped, fed)))[3:] == [
        "   1  one",
        "      skipped: when is false: app.old",
        "   2  two",
        "      when: a.changed",
        "      read-only, by bash, at most 90 s, its result is `b`",
        "      ? [ ! -e x ]",
        "      | cat",
        "      < in",
    ]


def test_text_is_never_wrapped_or_altered_but_for_control_characters() -> None:
    text = "printf  '" + "long " * 60 + "'\n\n\techo  [red] \x1b[31m\r x"
    shown = rendered_lines(make_plan(host_steps("a", planned_step(1, "n", text))))
    body = [line.removeprefix("      |").removeprefix(" ") for line in shown if "      |" in line]
    assert "\n".join(body) == text.replace("\x1b", "\\x1b").replace("\r", "\\x0d")


def test_apps_warnings_and_an_empty_plan_are_told() -> None:
    shown = rendered_lines(
        make_plan(host_steps("a", planned_step(1, "n", "x")), app="blog", warnings=("no db",))
    )
    assert shown[1:4] == ["warning: no db", "", "app blog"]
    assert rendered_lines(Plan("r", "dev", ("t",), (), ()))[-1] == "nothing to do"
    readonly = make_plan(host_steps("a", planned_step(1, "n", "x", readonly=True)))
    assert rendered_lines(readonly)[-1] == "no step changes a host"


def test_json_has_the_exact_text_per_host_and_step() -> None:
    hosts = [host_steps(h, planned_step(1, "n", f"echo {h} \x1b\n")) for h in ("a", "b")]
    found = json.loads(json.dumps(plan_json(make_plan(*hosts, app="blog"))))
    wave = found["lanes"][0]["waves"][0]
    assert (found["stage"], found["lanes"][0]["app"], wave["task"]) == (
        "prod",
        "blog",
        "deploy:publish",
    )
    assert [host["steps"][0]["text"] for host in wave["hosts"]] == [
        "echo a \x1b\n",
        "echo b \x1b\n",
    ]
    assert wave["hosts"][0]["steps"][0]["at"] == "tasks/deploy.yml:4:5"


def test_secrets_are_masked_wherever_text_stands() -> None:
    def mask(text: str) -> str:
        return text.replace("s3\ncret", "‹pw›").replace("s3cret", "‹pw›")

    step = PlannedStep(
        1, "login s3cret", MARK, "login s3\ncret", when="x == 's3cret'",
        command=StepCommand(1, "", stdin="s3cret"),
    )  # fmt: skip
    of = make_plan(host_steps("a", step))
    assert "cret" not in "".join(rendered_lines(of, mask))
    assert "cret" not in json.dumps(plan_json(of, mask))
    assert "\n".join(rendered_lines(of, mask)).count("‹pw›") == 4
