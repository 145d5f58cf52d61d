"""No shell function of ours writes a variable that another one relies on, unless both say so."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from orchestrator import remote_shell
from orchestrator.modules import MODULES_FOLDER
from orchestrator.planner.download_script import probe_script
from orchestrator.playbook.task_index import shipped_modules
from tests.support.shell_events import without_templates
from tests.support.shell_sharing import SharedShell, ShellScript

SESSION = Path(remote_shell.__file__).parent
SETTING = frozenset("o_to o_check o_show o_staged o_digest o_size o_private".split())
MODULE = frozenset(
    "o_want o_within o_fixes o_returns o_literal o_off o_secrets o_entries o_large".split()
)
"""What the planner puts before and behind a module's script, and what was compared last."""


@cache
def core_scripts() -> ShellScript:
    text = (SESSION / "module_runtime.sh").read_text()
    return ShellScript("module_runtime.sh", text, "o_", SETTING | MODULE)


@cache
def function_scripts() -> ShellScript:
    return ShellScript("functions.sh", (MODULES_FOLDER / "functions.sh").read_text(), "f_")


def module_scripts(name: str) -> tuple[ShellScript, list[ShellScript]]:
    """Return the common part of a module's scripts, and each script."""
    fields = yaml.safe_load((MODULES_FOLDER / f"{name}.yml").read_text())
    fix = fields.get("fix") or {}
    fixes = fix if isinstance(fix, dict) else {"": fix}
    texts = {"probe": fields.get("probe", ""), **{f"fix {k}": v for k, v in fixes.items()}}
    shared = ShellScript(f"{name}: functions", without_templates(fields.get("functions", "")))
    each = (
        ShellScript(f"{name}: {k}", without_templates(v), is_last=True) for k, v in texts.items()
    )
    return shared, list(each)


@pytest.mark.parametrize("name", sorted(shipped_modules()))
def test_the_scripts_of_modules_share_what_they_declare(name: str) -> None:
    shared, each = module_scripts(name)
    for one in each:
        assert SharedShell(core_scripts(), function_scripts(), shared, one).find_violations() == []


def test_what_modules_begin_with_shares_what_it_declares() -> None:
    probe = probe_script("").partition("probe() (\n")[2].partition("\n)\napply_fixes()")[0]
    download = ShellScript("download", probe, "", frozenset({"path", "is_new"}), is_last=True)
    assert SharedShell(core_scripts(), function_scripts(), download).find_violations() == []


def test_the_session_shares_what_it_declares() -> None:
    text = (SESSION / "bootstrap.sh").read_text()
    for name, value in {"%FDS%": "/dev/fd", "%GRACE%": "10", "%LEASE%": "1 1"}.items():
        text = text.replace(name, value)
    prelude = ShellScript("bootstrap.sh", text, "o_", frozenset({"o_nonce", "o_session"}))
    assert SharedShell(prelude).find_violations() == []
    # a module that leaves nothing behind runs in the session's shell
    assert SharedShell(prelude, core_scripts(), function_scripts()).find_violations() == []


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("lock", "lock holder run app within token force"),
        ("doctor", "tools more method"),
    ],
)
def test_other_scripts_share_what_they_declare(name: str, params: str) -> None:
    text = (MODULES_FOLDER / f"{name}.sh").read_text()
    assert (
        SharedShell(
            ShellScript(f"{name}.sh", text, "f_", frozenset(params.split()))
        ).find_violations()
        == []
    )


FACTS = MODULES_FOLDER / "facts"


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in FACTS.glob("*.sh") if path.stem != "common")
)
def test_the_scripts_of_facts_share_what_they_declare(name: str) -> None:
    common, text = ((FACTS / f"{each}.sh").read_text() for each in ("common", name))
    script = ShellScript(f"{name}.sh", f"{common}{text}", "f_")
    assert SharedShell(script).find_violations() == []


KEEPS = """\
# keeps: the first word.
# Sets f_first.
keeps() { f_first=${1%% *}; }
# joined: it and all others.
# Sets f_first f_joined.
joined() { keeps "$1"; f_joined=$f_first$2; }
"""

BREAKS = {
    "a variable of nobody": ("adds() { f_x=1; }", "adds writes f_x and does not declare it"),
    "another's result": ("adds() { f_first=1; }", "adds writes f_first and does not declare it"),
    "another's own": ("adds() { f_other_x=; }\nother() { :; }", "a variable of other alone"),
    "another's own, read": ("adds() { echo $f_other_x; }\nother() { :; }", "of other alone"),
    "its own, not yet written": ("adds() { echo $f_adds_x; }", "f_adds_x, which nobody has"),
    "declared read, never read": (
        "# Reads f_y.\nadds() { :; }",
        "declares that it reads f_y, and never does",
    ),
    "declared set, never set": (
        "# Sets f_y.\nadds() { :; }",
        "declares that it sets f_y, and never does",
    ),
    "not handed over": ("adds() { echo $f_first; }", "reads f_first, which nobody has written"),
    "lost on the way": (
        "adds() { keeps a; hides; echo $f_first; }\nhides() { joined b; }",
        "adds reads f_first after hides, which may have written it",
    ),
    "lost in a loop": (
        "adds() { keeps a; while :; do echo $f_first; hides; done; }\nhides() { joined b; }",
        "adds reads f_first after hides, which may have written it",
    ),
    "lost by a callee's need": (
        "adds() { keeps a; hides; shows; }\nhides() { joined b; }\n"
        "# Reads f_first.\nshows() { echo $f_first; }",
        "adds calls shows, which reads f_first after hides",
    ),
    "in a loop's head": ("adds() { for f_first; do :; done; }", "writes f_first"),
    "by read": ("adds() { echo a | while read -r f_x f_first; do :; done; }", "writes f_first"),
    "by an expansion": ("adds() { : ${f_first:=1}; }", "writes f_first"),
    "in a trap": ("adds() { trap 'f_first=1' EXIT; }", "writes f_first"),
    "in quotes": ('adds() { echo "$(f_first=1; echo)"; }', "writes f_first"),
    "in arithmetic": ("adds() { echo $((f_x+1)); }", "reads f_x, which nobody has written"),
    "in a here-document": ("adds() {\ncat <<E\n$f_x\nE\n}", "reads f_x, which nobody has written"),
    "for a command that does nothing": ("adds() { f_first=1 :; }", "writes f_first"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_breaks_the_rule_is_seen(name: str) -> None:
    added, output = BREAKS[name]
    assert SharedShell(ShellScript("a", KEEPS, "f_")).find_violations() == []
    found = SharedShell(ShellScript("a", f"{KEEPS}{added}\n", "f_")).find_violations()
    assert any(output in problem for problem in found), found


def test_scripts_leave_the_functions_variables_alone() -> None:
    script = ShellScript("it", "f_first=1\n", is_last=True)
    (found,) = SharedShell(ShellScript("a", KEEPS, "f_"), script).find_violations()
    assert found == "it writes f_first, which only functions may"
    script = ShellScript("it", "keeps a; echo $f_first $f_joined\n", is_last=True)
    (found,) = SharedShell(ShellScript("a", KEEPS, "f_"), script).find_violations()
    assert found == "it reads f_joined, which nobody has written"


def test_functions_do_not_call_themselves() -> None:
    with pytest.raises(ValueError, match="calls itself"):
        SharedShell(ShellScript("a", "one() { two; }\ntwo() { one; }\n", "f_")).find_violations()


def test_each_of_a_functions_own_variables_is_needed_by_the_rule() -> None:
    """Renamed to one that its caller has, it is found: there is no blind spot in the file."""
    script = function_scripts()
    tried = script.text.replace("f_tried_text", "f_text")
    assert tried != script.text
    found = SharedShell(core_scripts(), ShellScript("functions.sh", tried, "f_")).find_violations()
    assert "functions.sh: tried writes f_text and does not declare it" in found


@pytest.mark.parametrize("path", sorted(MODULES_FOLDER.glob("*.*")), ids=lambda path: path.name)
def test_a_failure_is_not_lost_in_a_substitution_that_keeps_newlines(path: Path) -> None:
    """busybox's sh and bash go on after a failure in $(…): its status would be that of echo."""
    unsafe = re.compile(r"\$\((?!set -e; )(?:[^()]|\([^()]*\))*; echo \.\)")
    assert unsafe.findall(path.read_text()) == []
