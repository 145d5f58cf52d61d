"""Screens of a real terminal during and after runs, as texts in ``screens/``.

Durations are replaced by ``N s``. ``ORCH_WRITE_SCREENS=1 tests/run …`` writes the texts anew; look
at every difference before it is committed.
"""

import os
import re
import sys
import time
from pathlib import Path

import pytest

from tests.projects import OrchProject
from tests.support.tmux_terminal import TmuxTerminal, wait_until

SCREENS = Path(__file__).parent / "screens"


def normalized(lines: list[str]) -> str:
    text = re.sub(r"\b\d+(\.\d+)? s\b", "N s", "\n".join(lines).rstrip())
    text = re.sub(r"(?m)(?<= )\d+\.\d\d(?= |$)", "N.NN", text)
    text = re.sub(r"(?m)^log: \S*$(\n\S*runs\S*$)?", "log: FOLDER", text)
    text = re.sub(r"\b20\d{12}-[0-9a-f]{4}\b", "RUN", text)
    return re.sub(
        r"(?s)^(to resume: orch) -C \S.*? resume\s+RUN$", r"\1 resume RUN", text, flags=re.M
    )


def check_screen(terminal: TmuxTerminal, name: str, *, history: bool = False) -> None:
    """Wait until the screen is the one in the file; with the variable set, write the file."""
    path = SCREENS / f"{name}.txt"

    def shown() -> str:
        return normalized(terminal.screen(history=history))

    if os.environ.get("ORCH_WRITE_SCREENS"):
        time.sleep(2.5)
        path.parent.mkdir(exist_ok=True)
        path.write_text(shown() + "\n")
    expected = path.read_text().rstrip("\n")
    try:
        wait_until(f"the screen {name}", lambda: shown() == expected, 10)
    except AssertionError:
        assert shown() == expected  # shows the difference
        raise


def start(scene: str, hosts: int, folder: Path, width: int, height: int = 24) -> TmuxTerminal:
    command = [sys.executable, "-m", "tests.support.screen_scenarios", scene, str(hosts)]
    return TmuxTerminal(folder / "s", width, height, [*command, str(folder / "go")])


@pytest.mark.parametrize(
    ("hosts", "width"),
    [
        *((1, 40), (20, 80), (300, 120)),
        *(
            pytest.param(hosts, width, marks=pytest.mark.long)
            for hosts, width in [(1, 80), (1, 120), (20, 40), (20, 120), (300, 40), (300, 80)]
        ),
    ],
)
def test_the_screens_of_a_deploy(tmp_path: Path, hosts: int, width: int) -> None:
    terminal = start("deploy", hosts, tmp_path, width)
    try:
        check_screen(terminal, f"deploy-{hosts}-hosts-{width}-running")
        (tmp_path / "go").touch()
        check_screen(terminal, f"deploy-{hosts}-hosts-{width}-end", history=True)
    finally:
        terminal.close()


@pytest.mark.parametrize("scene", ["same", "flood"])
@pytest.mark.parametrize("hosts", [1, 20])
def test_output_is_shown_as_it_comes_from_one_host_and_folded_from_many(
    tmp_path: Path, scene: str, hosts: int
) -> None:
    terminal = start(scene, hosts, tmp_path, 80)
    try:
        check_screen(terminal, f"{scene}-{hosts}-hosts-running")
        (tmp_path / "go").touch()
        check_screen(terminal, f"{scene}-{hosts}-hosts-end")
    finally:
        terminal.close()


def test_a_terminal_that_gets_narrower_and_wider_keeps_its_lines(tmp_path: Path) -> None:
    terminal = start("deploy", 20, tmp_path, 120)
    try:
        check_screen(terminal, "deploy-20-hosts-120-running")
        terminal.resize(60, 24)
        check_screen(terminal, "deploy-20-hosts-120-narrowed-to-60")
        terminal.resize(120, 24)
        check_screen(terminal, "deploy-20-hosts-120-widened-again")
    finally:
        terminal.close()


def test_the_screen_after_an_interrupt(tmp_path: Path, project: OrchProject) -> None:
    project.add_sandbox_stage("web1")
    project.write(
        {"tasks/t.yml": "steps:\n- {name: prepare, run: mkdir x}\n- {name: wait, run: sleep 300}\n"}
    )
    environ = [f"{name}={value}" for name, value in project.environ({}).items()]
    command = ["env", *environ, *project.command("-C", str(project.root), "-s", "dev", "run", "t")]
    terminal = TmuxTerminal(tmp_path / "s", 80, 24, command)
    try:
        check_screen(terminal, "interrupted-running")
        terminal.type("", "C-c")
        check_screen(terminal, "interrupted-end")
    finally:
        terminal.close()
