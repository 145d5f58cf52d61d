"""However a command nests, a template means what it would mean with values in variables.

Random scripts are made twice: as templates with expressions, and as plain shell in which the
same values come from the environment, where no quoting of ours is needed. Both must print the
same in three shells, and in bash in the locales in which it reads some bytes in pairs; and no
value may run the `touch` in it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from orchestrator.errors import DefinitionError
from orchestrator.templating import compile_shell
from tests.integration.templating.multibyte_locales import MULTI_BYTE
from tests.integration.templating.script_grammar import BashMaker, ScriptMaker, SeededChoices
from tests.support.template_scope import HERE, SHELLS, PlainScope, run_shell

PRELUDE = """\
show() { printf '[%s]' "$#" "$@"; echo; }
read_all() { cat; echo .; }
"""
OF_BASH = PRELUDE + "shopt -s extglob; exec 3>&1\n"
LOCALES = ("C", "C.UTF-8", *(f"x.{name}" for name in MULTI_BYTE))
MAY_BE_REFUSED = (
    "here-document", "GB18030", "an array's words", "U+0001 or U+007F", "bash before 5.2",
    "a backslash in an array", "as a variable's name", "bash 4 joins it",
)  # fmt: skip
AFTER_COPROC = ("a `)` without a `(`", "where no command begins", "outside of `case`")
"""What is refused after ``coproc NAME``, whose body is taken for the arguments of NAME."""
SYNTAX_ERRORS = (b"syntax error", b"unexpected EOF")
TOGETHER = 12
"""Scripts that one shell runs one after the other: most of the time goes into starting it."""


class ScriptCase(NamedTuple):
    """What the seed makes: a template, the script that it stands for, and its own text."""

    seed: int
    template: str
    script: str
    text: str


@pytest.mark.parametrize("which", SHELLS, ids=" ".join)
def test_a_template_means_what_it_would_with_its_values_in_variables(
    which: tuple[str, ...], tmp_path: Path
) -> None:
    compare_scripts(which, ScriptMaker, range(96), {}, tmp_path)


@pytest.mark.parametrize("locale", LOCALES)
def test_so_it_does_in_all_that_bash_knows_and_in_any_locale(
    locale: str, locpath: Path, tmp_path: Path
) -> None:
    first = 1000 * LOCALES.index(locale)
    compare_scripts(
        ("bash",),
        BashMaker,
        range(first, first + 48),
        locale_environment(locale, locpath),
        tmp_path,
    )


@pytest.mark.long
@pytest.mark.parametrize("which", SHELLS, ids=" ".join)
def test_thousands_of_templates_mean_what_they_would(
    which: tuple[str, ...], tmp_path: Path
) -> None:
    first = random.SystemRandom().randrange(10**9)
    compare_scripts(which, ScriptMaker, range(first, first + 3000), {}, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("locale", LOCALES)
def test_so_do_thousands_in_all_that_bash_knows_and_in_any_locale(
    locale: str, locpath: Path, tmp_path: Path
) -> None:
    first = random.SystemRandom().randrange(10**9)
    compare_scripts(
        ("bash",),
        BashMaker,
        range(first, first + 3000),
        locale_environment(locale, locpath),
        tmp_path,
    )


def locale_environment(locale: str, locpath: Path) -> dict[str, str]:
    """Return the environment that sets bash's locale but keeps English messages."""
    if not locale.startswith("x."):
        return {"LC_ALL": locale}
    return {"LC_ALL": "", "LC_CTYPE": locale, "LOCPATH": str(locpath)}


def compare_scripts(
    which: tuple[str, ...],
    maker: type[ScriptMaker],
    seeds: range,
    locale: Mapping[str, str],
    folder: Path,
) -> None:
    """Run what each seed makes, many at a time; if that differs, one at a time.

    Of a script that is a syntax error by itself only what it prints is compared: bash 5.2 cannot
    read all of its own language inside ``$(…)`` and ``<(…)``, and its messages quote the script.
    """
    for i in range(0, len(seeds), TOGETHER):
        values: dict[str, str] = {}
        cases = list(draw_case(maker, seeds[i : i + TOGETHER], values))
        if not check_agreement(which, maker, cases=cases, values=values, locale=locale, at=folder):
            unreadable = 0
            for case in cases:
                plain, rendered = run_both(which, maker, [case], values, locale, folder)
                if any(sign in plain[1] for sign in SYNTAX_ERRORS):
                    unreadable += 1
                    assert plain[0] == rendered[0], (case, values)
                elif "LC_CTYPE" in locale and "case " in case.script and plain != rendered:
                    # In these locales bash does not always find a word of a variable equal to
                    # itself in `case`; orch's text has no variable there.
                    unreadable += 1
                else:
                    assert plain == rendered, (case, values)
            assert unreadable, f"together only: {cases} {values}"


def draw_case(
    maker: type[ScriptMaker], seeds: Iterable[int], values: dict[str, str]
) -> Iterator[ScriptCase]:
    for seed in seeds:
        chance = SeededChoices(seed)
        template, script = maker(chance, values).commands(chance.between(0, 2))
        try:
            text = compile_shell(template, HERE).render(PlainScope(yes=True, **values))
        except DefinitionError as error:
            known = (*MAY_BE_REFUSED, *(AFTER_COPROC if "coproc" in template else ()))
            assert any(why in str(error) for why in known), (seed, template)
        else:
            yield ScriptCase(seed, template, script, text)


def check_agreement(
    which: tuple[str, ...],
    maker: type[ScriptMaker],
    cases: list[ScriptCase],
    values: Mapping[str, str],
    locale: Mapping[str, str],
    at: Path,
) -> bool:
    plain, rendered = run_both(which, maker, cases, values, locale, at)
    return plain == rendered


def run_both(
    which: tuple[str, ...],
    maker: type[ScriptMaker],
    cases: list[ScriptCase],
    values: Mapping[str, str],
    locale: Mapping[str, str],
    at: Path,
) -> list[tuple[bytes, bytes]]:
    """Return stdout and stderr of the plain scripts and of the rendered ones."""
    prelude = OF_BASH if maker is BashMaker else PRELUDE
    folder = at / "folder"
    folder.mkdir(exist_ok=True)
    environment = {**values, "empty": "", **locale}
    outputs = []
    for texts in ([case.script for case in cases], [case.text for case in cases]):
        # by eval, so that a quote left open in one takes nothing of the next
        names = {f"script{number}": text for number, text in enumerate(texts)}
        script = "".join(f'eval "${name}"\nprintf "\\0"\n' for name in names)
        out, err = run_shell(which, prelude + script, folder, {**environment, **names})
        outputs.append((out, re.sub(rb"line [0-9]+", b"line", err)))
        assert not (folder / "CAUGHT").exists(), (cases, values)
    return outputs
