"""Values that bash took apart: in arrays, and in locales where it reads bytes in pairs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from orchestrator.errors import DefinitionError
from orchestrator.model.shell_quoting import (
    always_shell_quote,
    escape_in_single_quotes,
    shell_quote,
)
from orchestrator.remote_shell.quoting import printf_word
from orchestrator.templating import compile_shell
from tests.integration.templating.multibyte_locales import MULTI_BYTE
from tests.integration.templating.test_nested_commands import LOCALES, locale_environment
from tests.integration.templating.test_value_quoting import ATTACKS, SCRAPS
from tests.support.template_scope import HERE, PlainScope, run_shell

SHOW = "show() { printf '%s\\0' \"$@\"; }\n"
RUN = "touch CAUGHT"
BREAKOUTS = (
    f"'))&\n{RUN}\n",
    f"'\n{RUN}\n",
    f"'; {RUN}; '",
    "it's",
    "'",
    "''x''",
    "\\'",
    f"$({RUN})'",
)


def shown_value(template: str, folder: Path, locale: dict[str, str], **values: str) -> list[str]:
    """Return the arguments of `show` when bash runs the template."""
    text = compile_shell(template, HERE).render(PlainScope(**values))
    return printed_bytes(SHOW + text, folder, locale)


def printed_bytes(script: str, at: Path, locale: dict[str, str]) -> list[str]:
    folder = at / "folder"
    folder.mkdir(exist_ok=True)
    out, err = run_shell(("bash",), script, folder, locale)
    assert err == b""
    return out.decode("utf-8", "surrogateescape").split("\0")[:-1]


@pytest.mark.parametrize("value", BREAKOUTS)
@pytest.mark.parametrize(
    "element", ["{{ v }}", "'{{ v }}'", '"{{ v }}"', "b{{ v }}", "[0]={{ v }}"]
)
@pytest.mark.parametrize(
    "surrounding",
    [
        "show \"$(a=(ELEMENT); printf '%s.' \"${a[0]}\")\"",
        "x=$(a=(); a+=(ELEMENT); printf '%s.' \"${a[0]}\"); show \"$x\"",
        "f() { local a=(ELEMENT); printf '%s.' \"${a[0]}\"; }; x=$(f); show \"$x\"",
        "x=$(f() { local a=(ELEMENT); printf '%s.' \"${a[0]}\"; }; f); show \"$x\"",
        "x=$(declare -a a=(ELEMENT); printf '%s.' \"${a[0]}\"); show \"$x\"",
        "show \"$(cat < <(a=(ELEMENT); printf '%s.' \"${a[0]}\"))\"",
        "x=$(y=$(readonly a=(ELEMENT); printf '%s.' \"${a[0]}\"); echo \"$y\"); show \"$x\"",
    ],
)  # fmt: skip
def test_an_array_in_a_substitution_holds_the_value(
    surrounding: str, element: str, value: str, tmp_path: Path
) -> None:
    expected = ("b" if element[0] == "b" else "") + value + "."
    template = surrounding.replace("ELEMENT", element)
    assert shown_value(template, tmp_path, {"LC_ALL": "C"}, v=value) == [expected]


@pytest.mark.parametrize("element", ["{{ v }}", "'{{ v }}'", '"{{ v }}"', 'b"{{ v }}"'])
def test_an_array_keeps_the_characters_that_bash_marks_its_own_with(
    element: str, tmp_path: Path
) -> None:
    template = f'a=(x {element}); f() {{ local a+=({element}); show "${{a[@]}}"; }}; f'
    value = "\x01\x7f\x01'\x7f\\\x01"
    prefix = "b" if element[0] == "b" else ""
    assert shown_value(template, tmp_path, {"LC_ALL": "C"}, v=value) == [prefix + value]


BEGUN = (
    "Á",
    "É",
    "日",
    "日1",
    "é0",
    "ソ",
    "日㎡",
    "🎯",
    "é🎯1",
    "\udc81",
    "\udc8e\udca1",
    "\udce31",
)
ENDS = ("", f"$({RUN})", f"\\$({RUN})", f"`{RUN}`", f'"; {RUN} "', f"'; {RUN} '", "\\", "|}")
PAIRS = [(b + e, f"; {RUN}; {e}{b}") for b in BEGUN for e in ENDS]
TEMPLATE_PLACES = (
    'show "{{ v }}" "{{ w }}"',
    'show "a{{ v }}""{{ w }}"',
    "show {{ v }} {{ w }}",
    "show '{{ v }}' '{{ w }}'",
    'A="{{ v }}"; show "$A" {{ w }}',
    'show "$(cat <<E\n{{ v }}.\n{{ w }}\nE\n)"',
    "show \"$(printf '%s.' {{ v }} \"{{ w }}\" '{{ v }}')\"",
    "show x{{ v }}y{{ w }}z",
    "show '{{ v }}{{ w }}0' '{{ w }}'",
    '[[ -n "{{ v }}" && {{ w }} != b ]] && show {{ v }}',
    'for i in {{ [v, w] }}; do show "$i"; done',
)  # fmt: skip


@cache
def every_pair() -> str:
    """Every beginning of a character, with what could be its end, at every place."""
    created = []
    for location in TEMPLATE_PLACES:
        template = compile_shell(location, HERE)
        created += [template.render(PlainScope(v=v, w=w)) for v, w in PAIRS]
    return "\n".join(created)


@pytest.mark.parametrize("name", MULTI_BYTE)
def test_a_value_stays_in_its_place_in_a_locale_of_several_bytes_a_character(
    name: str, locpath: Path, tmp_path: Path
) -> None:
    expected = printed_bytes(SHOW + every_pair(), tmp_path, {"LC_ALL": "C"})
    assert len(expected) == len(PAIRS) * 17
    assert (
        printed_bytes(SHOW + every_pair(), tmp_path, locale_environment(f"x.{name}", locpath))
        == expected
    )


@pytest.mark.parametrize("name", MULTI_BYTE)
@pytest.mark.parametrize("value", ["", "0", "1'", "$x", "\\", "`", "é", "日", "1日0"])
def test_text_of_the_template_and_a_value_are_no_character_together(
    value: str, name: str, locpath: Path, tmp_path: Path
) -> None:
    template = (
        "show '日{{ v }}0' \"É{{ v }}\\\"\" 日{{ v }}1 '{{ v }}é1' \"$(cat <<E\n"
        'É{{ v }}\\$x {{ v }}`printf y`日{{ v }}{{ v }}\nE\n)"'
    )
    expected = shown_value(template, tmp_path, {"LC_ALL": "C"}, v=value)
    assert (
        shown_value(template, tmp_path, locale_environment(f"x.{name}", locpath), v=value)
        == expected
    )


@pytest.mark.parametrize("locale", LOCALES)
def test_a_quoted_word_is_itself_in_every_locale(
    locale: str, locpath: Path, tmp_path: Path
) -> None:
    texts = [*ATTACKS, *SCRAPS, *(a + b for a in ("日", "日1", "🎯", "É") for b in ATTACKS)]
    for write in (
        shell_quote,
        always_shell_quote,
        printf_word,
        lambda text: f"'{escape_in_single_quotes(text)}'",
    ):
        script = "".join(f"show {write(text)}\n" for text in texts)
        assert printed_bytes(SHOW + script, tmp_path, locale_environment(locale, locpath)) == texts


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("", "''"),
        ("a b", "'a b'"),
        ("it's", "'it'\"'\"'s'"),
        ("'a", "\"'\"'a'"),
        ("a''", "'a'\"''\""),
        ("Müller 7", "'Müller 7'"),
        ("日1", "'日''1'"),
        ("日本1", "'日本1'"),
        ("日1 x", "'日1 x'"),
        ("12 ㎡", "'12 ㎡'"),
        ("日㎡", "'日''㎡'"),
        ("🎯", "'\udcf0\udc9f\udc8e''\udcaf'"),
    ],
)
def test_quotes_are_no_more_than_needed(text: str, written: str) -> None:
    assert always_shell_quote(text) == written


@pytest.mark.parametrize("value", [f"($({RUN}))", f"(a $({RUN}) )"])
@pytest.mark.parametrize(
    "template",
    [
        "declare -a a={{ v }}",
        "declare -a a; declare a='{{ v }}'",
        "f() { local -a a; local a=\"{{ v }}\"; }; f",
        "typeset -A a={{ v }}",
        "readonly -a a={{ v }}",
        "export -a a={{ v }}",
        "builtin declare -a a={{ v }}",
        "command -p declare -a \"a={{ v }}\"",
        "\\declare -ar a={{ v }}",
    ],
)  # fmt: skip
def test_no_value_is_an_array_to_a_builtin_that_declares(template: str, value: str) -> None:
    with pytest.raises(DefinitionError, match="begins with `\\(`"):
        compile_shell(template, HERE).render(PlainScope(v=value))
    assert "\n" not in compile_shell(template, HERE).render(PlainScope(v="a (b)"))
