"""The record of releases decides which release a rollback goes to, and which are removed."""

from __future__ import annotations

from pathlib import Path

from tests.support.deploy_story import ReleaseStory, ask_histories, ask_history, run_recipe
from tests.support.host_tools import leave_only
from tests.support.machine import ShellMachine, result_message

NONE = "no good release before"

BACK_TO = {
    "deploy A, deploy B, back A, deploy C": "A",
    "deploy A, deploy B, deploy C": "B",
    "deploy A, deploy B, deploy C, back B": "A",
    "deploy A, deploy B, deploy C, back B, back A": NONE,
    "deploy v8, deploy v9, deploy v10": "v9",
    "deploy A, fail B, deploy C, fail D": "A",
    "deploy A, stay B, deploy C": "A",
    "deploy A, unwell B, deploy C": "A",
    "deploy A, deploy B, remove A, deploy A": "B",
    "deploy A, deploy B, back A, remove B, deploy B": "A",
    "deploy A, deploy B, deploy C, back A, deploy D": "A",
    "deploy A, deploy B, deploy C, back A": NONE,
    "deploy A, deploy B, back A, back B": "A",
    "deploy A, deploy B, back A, deploy C, back B": "A",
    "deploy A, deploy B, undo A": "A",
    "deploy A, deploy B, deploy C, undo B, back B": "A",
    "deploy A, deploy B, deploy C, ill B": "A",
    "deploy A, deploy B, deploy C, going B": "B",
    "deploy A, deploy B, going A, back A": NONE,
    "deploy A, deploy B, die C": "B",
    "deploy A, deploy B, die C, back B, deploy D": "B",
    "deploy A, deploy B, deploy C, remove B": "A",
    "adopt 7, deploy A": "7",
    "foreign 6, adopt 7, deploy A, deploy B, back A": "7",
    "adopt 7, fail A, deploy B": "7",
    "adopt 7, deploy A, back 7": NONE,
    "deploy A, foreign B, deploy C": "A",
    "deploy A": NONE,
    "half A": "no release is live here",
}


def make_stories(folder: Path, descriptions: list[str]) -> list[ReleaseStory]:
    return [
        ReleaseStory(folder / str(n)).apply_words(each.split(", "))
        for n, each in enumerate(descriptions)
    ]


def test_a_rollback_goes_to_the_good_release_that_was_live_before(machine: ShellMachine) -> None:
    made_stories = make_stories(machine.root, list(BACK_TO))
    found = ask_histories(machine, [(story, {"ask": "target"}) for story in made_stories])
    wrong = {
        told: got
        for (told, expected), got in zip(BACK_TO.items(), found, strict=True)
        if not (got == expected or (" " in expected and expected in got))
    }
    assert not wrong


def test_without_a_record_the_marks_in_the_folders_decide(machine: ShellMachine) -> None:
    """A host whose record is lost, and releases from before there was a record."""
    from_marks = [
        each
        for each in BACK_TO
        if not {"undo", "ill", "unwell", "going", "foreign", "adopt"} & set(each.split())
        and "back A, deploy D" not in each
    ]
    assert len(from_marks) > 12
    message = make_stories(machine.root, from_marks)
    for story in message:
        story.record.unlink(missing_ok=True)
    found = dict(
        zip(
            from_marks,
            ask_histories(machine, [(s, {"ask": "target"}) for s in message]),
            strict=True,
        )
    )
    wrong = {k: got for k, got in found.items() if got != BACK_TO[k] and BACK_TO[k] not in got}
    assert not wrong


def test_marks_that_say_no_run_count_by_their_names(machine: ShellMachine) -> None:
    (story,) = make_stories(machine.root, ["deploy 20250101000000, deploy 20250102000000"])
    for mark in story.folder.glob("releases/*/.orch-*"):
        mark.write_text("")
    story.record.unlink()
    assert ask_history(machine, story, ask="target") == "20250101000000"


def test_a_record_that_is_cut_off_anywhere_never_leads_to_a_bad_release(
    machine: ShellMachine,
) -> None:
    whole, *cut = make_stories(machine.root, ["deploy A, deploy B10, back A, deploy C"] * 36)
    text = whole.record.read_bytes()
    locations = sorted({*range(0, len(text), len(text) // 25), len(text) - 2, len(text) - 3})
    for story, location in zip(cut, locations, strict=False):
        story.record.write_bytes(text[:location])
    cut = cut[: len(locations)]
    (odd, *_), junk = cut[-1:], b"\x00\xff\n \n/\nbegun\n2026 live r B10\n" + text
    odd.record.write_bytes(junk)
    assert set(ask_histories(machine, [(story, {"ask": "target"}) for story in cut])) == {"A"}


def test_a_host_without_awk_fails_and_names_no_release(machine: ShellMachine) -> None:
    (story,) = make_stories(machine.root, ["deploy A, deploy B"])
    leave_only(machine)
    for question in ("target", "old", "live"):
        assert "awk" in ask_history(machine, story, ask=question)


def test_a_named_release_that_is_bad_needs_force(machine: ShellMachine) -> None:
    words = "deploy A, deploy B, back A, deploy C, stay D, half E, foreign F"
    cases = {
        "A": ("A", "A"),
        "B": ("release B is not good: rolled back 2026-01-01T00:03:00Z; use force=true", "B"),
        "C": ("C", "C"),
        "D": ("release D was never live here: failed 2026", "D"),
        "E": ("release E is incomplete", "release E is incomplete"),
        "F": ("release F was never live here: not made by orch; use force=true", "F"),
        "G": ("no release G on this host", "no release G on this host"),
        "../releases/A": ("invalid release name", "invalid release name"),
        ".": ("invalid release name", "invalid release name"),
    }
    (story,) = make_stories(machine.root, [words])
    for force in (False, True):
        asked = [{"ask": "target", "release": name, "force": force} for name in cases]
        found = ask_histories(machine, [(story, args) for args in asked])
        for (name, expected), got in zip(cases.items(), found, strict=True):
            assert expected[force] in got, name


OLD = {
    ("deploy A, deploy B, deploy C, deploy D, deploy E", 3): "A B",
    ("deploy v8, deploy v9, deploy v10, deploy v11", 2): "v8 v9",
    ("deploy A, deploy B, back A, deploy C, deploy D", 2): "A B",
    ("deploy A, deploy B, back A, deploy C, deploy D", 3): "",
    ("deploy A, deploy B, back A", 1): "",
    ("deploy A, deploy B, die C", 1): "A",
    ("deploy A, deploy B, die C", 0): "A",
    ("deploy A, stay B, half C, deploy D", 5): "B C",
    ("deploy A, deploy B, deploy C, back A", 1): "B",
    ("deploy A, deploy B, deploy C, back A, deploy D", 2): "B",
    ("deploy A, deploy B, ill A", 2): "A",
    ("foreign 5, foreign 6, adopt 7, deploy A, deploy B, foreign by-hand", 1): "A",
    ("half A, half B", 1): "A B",
}


def test_what_is_old_is_removed_and_the_last_good_release_never_is(machine: ShellMachine) -> None:
    message = make_stories(machine.root, [words for words, _ in OLD])
    asked = [{"ask": "old", "keep": keep} for _, keep in OLD]
    found = ask_histories(machine, list(zip(message, asked, strict=True)))
    assert dict(zip(OLD, (" ".join(each.split()) for each in found), strict=True)) == OLD


def test_the_list_says_what_happened_to_each_release(machine: ShellMachine) -> None:
    words = "foreign 6, adopt 7, deploy A, deploy B, back A, fail C, deploy D, deploy E, back D"
    (story,) = make_stories(machine.root, [words])
    assert ask_history(machine, story).splitlines() == [
        "6 rev1 by -: not made by orch",
        "7 rev2 by -: good, not made by orch, live 2026-01-01T00:02:00Z",
        "A abc3 by anna: good, live and healthy 2026-01-01T00:05:00Z",
        "B abc4 by anna: rolled back 2026-01-01T00:05:00Z",
        "C - by -: failed 2026-01-01T00:06:00Z, removed",
        "D abc7 by anna: good, live and healthy 2026-01-01T00:09:00Z (live)",
        "E abc8 by anna: rolled back 2026-01-01T00:09:00Z",
    ]
    assert ask_history(machine, story, ask="live") == "D abc7"


def test_a_link_that_is_relative_or_leads_around_is_understood(machine: ShellMachine) -> None:
    links = {
        "releases/7": "7 rev2",
        "./releases/7/": "7 rev2",
        "../2/releases/7": "7 rev2",
        "releases/../releases/7": "7 rev2",
        "releases/gone": "gone -",
        "../elsewhere/7": "../elsewhere/7 -",
        "../other/7": "7 rev2",
    }
    message = make_stories(machine.root, ["foreign 6, foreign 7"] * len(links))
    (machine.root / "elsewhere/7").mkdir(parents=True)
    (machine.root / "other").symlink_to("6/releases")
    for story, link in zip(message, links, strict=True):
        (story.folder / "current").symlink_to(link)
    asked = [(story, {"ask": "live"}) for story in message]
    assert ask_histories(machine, asked) == list(links.values())


def test_events_are_added_whole_and_mend_a_record_that_was_cut_off(machine: ShellMachine) -> None:
    (story,) = make_stories(machine.root, ["foreign 6, foreign 7, deploy A, half B"])
    story.switch_link("7")
    with story.record.open("a") as record:
        record.write("2026-01-01T00:00:00Z live r half-a-na")
    (story.folder / ".orch-releases.new").write_text("what a writer left that was killed")
    before = story.record.read_text().splitlines()[:-1]
    names = ["v10", "it's $(id) `id`", "back\\slash %s *", "ü"]
    steps = [{"deploy:record": {"release": name, "event": "switched"}} for name in names]
    at = str(story.folder)
    done = run_recipe(machine, steps, "run-1", at)
    assert done.statuses == ["changed"] * 4, [result_message(o) for o in done.outcomes]
    lines = story.record.read_text().splitlines()
    assert lines[: len(before)] == before
    assert [line.split(" ", 3)[1:] for line in lines[len(before) :]] == [
        word
        for name in names
        for word in (["adopted", "run-1", "7/"], ["switched", "run-1", f"{name}/"])
    ]
    assert not (story.folder / ".orch-releases.new").exists()
    story.record.write_text(story.record.read_text().rstrip("\n"))
    done = run_recipe(
        machine, [{"deploy:record": {"release": "A", "event": "back"}}] * 2, "run-2", at
    )
    assert done.statuses == ["changed", "ok"], [result_message(o) for o in done.outcomes]
    again = story.record.read_text().splitlines()
    assert again[:-1] == lines
    assert again[-1].split(" ", 1)[1] == "back run-2 A/"
    assert (story.release("A") / ".orch-published").read_text() == "run-2\n"


def test_a_release_is_begun_only_where_nothing_is(machine: ShellMachine) -> None:
    (story,) = make_stories(machine.root, ["deploy A, half B, foreign C"])
    (story.folder / "releases/link").symlink_to("gone")
    before = story.record.read_text()
    for name in ("A", "B", "C", "link", "", ".", "../A", "a\nb"):
        step = {"deploy:record": {"release": name, "event": "begun"}}
        (outcome,) = run_recipe(machine, [step], "run-1", str(story.folder)).outcomes
        assert outcome.status == "failed", (name, result_message(outcome))
        assert "already" in outcome.stderr.text or "invalid release name" in outcome.stderr.text, (
            name
        )
    assert story.record.read_text() == before
    assert {path.name for path in (story.folder / "releases").iterdir()} == {"A", "B", "C", "link"}
    step = {"deploy:record": {"release": "new one", "event": "begun"}}
    assert run_recipe(machine, [step], "run-1", str(story.folder)).statuses == ["changed"]
