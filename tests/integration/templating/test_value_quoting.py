"""A value comes out of every place as exactly itself, whatever it holds, in three shells."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import DefinitionError
from orchestrator.model.marked_value import HomePath
from orchestrator.templating import ShellTemplate, compile_shell
from tests.support.template_scope import HERE, SHELLS, PlainScope, run_shell

ATTACKS = (
    "'; id #", '"; id #', "$(id)", "`id`", "${IFS}", "$HOME", "$1", "\\", "\\\\", "a\\", "'",
    '"', "`", "$", "$(", "${", "))", "((", ")", "(", "\n", "a\nb", "\nE\n", "E", "\tE", "E)",
    "EX) ; id", "\\\n", "\\\nE\n", "a\\\nb", "\r", "a\r\n", "*", "?", "[a-z]*", "{a,b}",
    "{1..3}", "~", "~root", "~/x", "a=~", "A=b", "FOO=bar", "if", "then", "do", "done", "esac",
    "case", "{", "}", "!", "time", "[[", "]]", "in", "function", "#", "# a", "a #b", "-n", "-e",
    "--", "-", "--a=b", "2", "0", "1>f", ">f", "<f", ">>f", "&", "&&", "|", ";", ";;", "!!",
    "!x", "^a^b", "=ls", "%1", " ", "  a  ", "\t", "", "é", "日本語", "\x80", "\x81\x88", "ÿ",
    "\x01", "\x7f", "\x1b[0m", "ﬀ", "\u2028", "😀", "$'a'", "<<E", "<<<a", "<(id)", "@(a|b)",
    "a,b", "a}", "x`y", 'a\'b"c', "\\'", "\\n", "%s%n", "+", "a:b",
)  # fmt: skip
SCRAPS = (
    *ATTACKS, *ATTACKS, "É", "Á", "日", "日1", "日本1", "é0", "ソ", "㎡", "🎯", "\udcff", "\udc8e\udca1",
    "\udce3", "\udc81", "\udc81" "0", "0", "1", "\\", "'", '"', "`", "|", "}", "]", "\\$(touch CAUGHT)",
    "\\`touch CAUGHT`", "'; touch CAUGHT;'", '"; touch CAUGHT;"', "; touch CAUGHT; ", "))&\ntouch CAUGHT\n",
    "'))&\ntouch CAUGHT\n", ")\ntouch CAUGHT\n", "\ntouch CAUGHT\n", ">CAUGHT", "a[$(touch CAUGHT)]",
    "[$(touch CAUGHT)]=1", "($(touch CAUGHT))", "\x01\x01", "\x7f\x7f", "\x01'", "\\\x01",
)  # fmt: skip
texts = st.one_of(
    st.sampled_from(ATTACKS),
    st.lists(st.sampled_from(SCRAPS), max_size=4).map("".join),
    st.text(
        st.sampled_from("aE'\"\\`$(){}[]<>|&;#!~*?=-\n\t\r 0é\x81\x88\x01\x7f\x80ÿ,:%^@+"),
        max_size=8,
    ),
    st.lists(st.sampled_from(ATTACKS), max_size=4).map("".join),
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=6),
    st.binary(max_size=6).map(lambda data: os.fsdecode(data.replace(b"\0", b""))),
    st.lists(
        st.sampled_from((*ATTACKS, *map(os.fsdecode, (b"\xff", b"\xc3", b"\xe2\x82", b"\x81")))),
        max_size=4,
    ).map("".join),
)
locales = st.sampled_from(("C", "C.UTF-8"))

ExpectedValue = Callable[[str], list[str]]


def _same(value: str) -> list[str]:
    return [value]


def _no_final_newlines(value: str) -> list[str]:
    return [value.rstrip("\n")]


# What stands around the value, and which arguments `show` is to see.
TEMPLATE_PLACES: tuple[tuple[str, ExpectedValue], ...] = (
    ("show {{ x }}", _same),
    ("show {{ x }} >&1", _same),
    ("show {{ x }}>&1", _same),
    ("show {{ x }}; :", _same),
    ("show {{ x }}|cat", _same),
    ("(show {{ x }})", _same),
    ("show {{ x }}&wait", _same),
    ("show \\\n{{ x }}\\\n", _same),
    ("show a{{ x }}", lambda v: ["a" + v]),
    ("show {{ x }}b", lambda v: [v + "b"]),
    ("show {{ x }}#b", lambda v: [v + "#b"]),
    ("show {{ x }}{{ x }}", lambda v: [v + v]),
    ("show i{{ x }} d{{ x }}", lambda v: ["i" + v, "d" + v]),
    ("show /{{ x }}/ -o{{ x }}=", lambda v: [f"/{v}/", f"-o{v}="]),
    ("A={{ x }}; show \"$A\"", _same),
    ("A=a:{{ x }}:b; show \"$A\"", lambda v: [f"a:{v}:b"]),
    ("A={{ x }} B={{ x }} sh -c 'printf \"2\\0%s\\0%s\\0\" \"$A\" \"$B\"'", lambda v: [v, v]),
    ("export A={{ x }}; show \"$A\"", _same),
    ("show \"{{ x }}\"", _same),
    ("show \"a{{ x }}b\"", lambda v: [f"a{v}b"]),
    ("show \"{{ x }}{{ x }}\"", lambda v: [v + v]),
    ("show \"{{ x }}$\"", lambda v: [v + "$"]),
    ("show \"\\${{ x }}\"", lambda v: ["$" + v]),
    ("show \"\\\\{{ x }}\"", lambda v: ["\\" + v]),
    ("show '{{ x }}'", _same),
    ("show '$a{{ x }}\\'", lambda v: [f"$a{v}\\"]),
    ("show \"$(printf '%s' {{ x }})\"", _no_final_newlines),
    ("show \"$(printf '%s' \"{{ x }}\")\"", _no_final_newlines),
    ("show \"$(printf '%s' \"$(printf '%s' '{{ x }}')\")\"", _no_final_newlines),
    ("show \"$(case a in b) ;; (a) printf '%s' {{ x }};; esac # ) \"\n)\"", _no_final_newlines),
    ("for i in {{ x }}; do show \"$i\"; done", _same),
    ("case {{ x }} in {{ x }}) show {{ x }};; *) show no; esac", _same),
    ("case {{ x }}a in *) show {{ x }};; esac", _same),
    ("if [ a{{ x }} = a{{ x }} ]; then show {{ x }}; fi", _same),
    ("f() { show \"$@\"; }; f {{ x }}", _same),
    ("if :; then show {{ x }}; else show {{ x }}; fi", _same),
    ("! : || show {{ x }}", _same),
    ("show {a, {{ x }}", lambda v: ["{a,", v]),
    ("if(: a # it's )\n)then(show {{ x }})fi", _same),
    ("case a in(a)show {{ x }};;esac", _same),
    ("cat <<Z {{ x }}z </dev/null 2>/dev/null || show {{ x }}\nbody\nZ", _same),
    ("show {{ x }} <<Z\nbody {{ y }}\nZ", _same),
)  # fmt: skip
IN_BASH: tuple[tuple[str, ExpectedValue], ...] = (
    ("[[ {{ x }} == {{ x }} && -n a{{ x }} ]] && show {{ x }}", _same),
    ("[[ ! ( -z a ) && {{ x }} != 'z'{{ x }} ]] && show {{ x }}", _same),
    ("[[ a =~ ^(a|b)$ ]] && show {{ x }}", _same),
    ("a=(b {{ x }} # '\n c); show \"${a[@]}\"", lambda v: ["b", v, "c"]),
    ("a=({{ x }}); a+=({{ [x, x] }}); show \"${a[@]}\"", lambda v: [v, v, v]),
    ("declare -A m=([k]={{ x }}); show \"${m[k]}\"", _same),
    ("read_all <<< {{ x }}", lambda v: [v + "\n"]),
    ("read_all < <(printf '%s' {{ x }})", _same),
    ("show {{ x }} 2> >(cat >&2)", _same),
    ("function g { show \"$@\"; }; g {{ x }}", _same),
    ("function h() { case a in a) show {{ x }};; esac; }; h", _same),
    ("for ((i = 0; i < {{ 1 }}; i++)); do show {{ x }}; done", _same),
    ("((1 < {{ 2 }})) && show {{ x }}", _same),
    ("show $'\\t#\\\\'{{ x }}", lambda v: ["\t#\\" + v]),
    ("show {a,{{ x }}}", lambda v: ["a", v]),
    ("show {{ x }} &> >(cat); wait $!", _same),
    ("shopt -s extglob\ncase a in @(a|b)) show {{ x }} ;;& b) : ;& c) show no ;; esac", _same),
    ("show \"$(case a in @(a|(b))) printf %s {{ x }};; esac)\"", _no_final_newlines),
    ("show ${y:-\"a)}'\"} {{ x }}", lambda v: ["a)}'", v]),
)  # fmt: skip
DOCUMENTS: tuple[tuple[str, ExpectedValue], ...] = (
    ("read_all <<E\n{{ x }}\nE", lambda v: [v + "\n"]),
    ("read_all <<E\na {{ x }} \"b\" 'c\nE", lambda v: [f"a {v} \"b\" 'c\n"]),
    ("read_all <<'E'\n{{ x }}\nE", lambda v: [v + "\n"]),
    ("read_all <<\\E\na{{ x }}$b`\nE\n", lambda v: [f"a{v}$b`\n"]),
    ("read_all <<\"E\"\n{{ x }}{{ x }}\nE", lambda v: [v + v + "\n"]),
    ("read_all <<-E\n\ta{{ x }}b\n\tE", lambda v: [f"a{v}b\n"]),
    ("read_all <<-'E'\n\ta{{ x }}b\n\tE", lambda v: [f"a{v}b\n"]),
    ("show \"$(cat <<E\n{{ x }}.\nE\n)\"", lambda v: [v + "."]),
    ("show \"$(cat <<'E'\n{{ x }}.\nE\n)\"", lambda v: [v + "."]),
    ("read_all <<E\n$(printf '%s' {{ x }})\nE", lambda v: [v.rstrip("\n") + "\n"]),
    ("read_all <<E\n$(printf '%s' \"{{ x }}\")\nE", lambda v: [v.rstrip("\n") + "\n"]),
    ("read_all <<E\n$(printf '%s' '{{ x }}')\nE", lambda v: [v.rstrip("\n") + "\n"]),
    ("read_all <<E\n$(printf '%s' 'a\\{{ x }}\n.')\nE", lambda v: [f"a\\{v}\n.\n"]),
    ("{ cat >/dev/null <<F; read_all 3<&1; } <<E\n{{ x }}\nF\n{{ x }}\nE", lambda v: [v + "\n"]),
)  # fmt: skip

COMPILED: dict[str, ShellTemplate] = {}  # compiled once for all examples
PRELUDE = """\
show() { printf '%s\\0' "$#" "$@"; }
read_all() { printf '1\\0'; cat; printf '\\0'; }
"""


def expected_text(desired: list[str]) -> bytes:
    return b"".join(os.fsencode(part) + b"\0" for part in (str(len(desired)), *desired))


@pytest.mark.parametrize("which", SHELLS, ids=" ".join)
@given(values=st.lists(texts, min_size=1, max_size=6), locale=locales)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_value_is_exactly_itself_in_every_place(
    which: tuple[str, ...], values: list[str], locale: str, tmp_path: Path
) -> None:
    check_values(which, TEMPLATE_PLACES, values, tmp_path, locale)


@pytest.mark.parametrize("which", SHELLS, ids=" ".join)
@given(rests=st.lists(texts, min_size=1, max_size=4))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_path_in_the_home_is_expanded_on_the_host_and_the_rest_is_exactly_itself(
    which: tuple[str, ...], rests: list[str], tmp_path: Path
) -> None:
    script, desired = PRELUDE, b""
    for location, want in (
        *TEMPLATE_PLACES,
        *(d for d in DOCUMENTS if "<<E" in d[0] and "'E'" not in d[0]),
    ):
        template = COMPILED.setdefault(location, compile_shell(location, HERE))
        for rest in ("", *rests):
            try:
                script += template.render(PlainScope(x=HomePath(f"~/{rest}"), y="")) + "\n"
            except DefinitionError as error:
                assert can_end_document(rest), error
            else:
                desired += expected_text(want(f"{HOME}/{rest}"))
    folder = tmp_path / "folder"
    folder.mkdir(exist_ok=True)
    out, err = run_shell(which, script, folder, {"HOME": HOME})
    assert out == desired
    assert err == b""


HOME = "/h o'm\"e$a*"


@given(values=st.lists(texts, min_size=1, max_size=6))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_value_is_exactly_itself_in_what_only_bash_knows(
    values: list[str], tmp_path: Path
) -> None:
    check_values(("bash",), IN_BASH, values, tmp_path)


def check_values(
    which: tuple[str, ...],
    locations: tuple[tuple[str, ExpectedValue], ...],
    values: list[str],
    at: Path,
    locale: str = "C",
) -> None:
    script, desired = PRELUDE, b""
    for location, want in locations:
        template = COMPILED.setdefault(location, compile_shell(location, HERE))
        for value in values:
            script += template.render(PlainScope(x=value, y="")) + "\n"
            desired += expected_text(want(value))
    folder = at / "folder"
    folder.mkdir(exist_ok=True)
    out, err = run_shell(which, script, folder, {"LC_ALL": locale})
    assert out == desired
    assert err == b""


@pytest.mark.parametrize("which", SHELLS, ids=" ".join)
@given(values=st.lists(texts, min_size=1, max_size=6), locale=locales)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_value_is_exactly_itself_in_a_here_document_or_is_refused_for_its_end(
    which: tuple[str, ...], values: list[str], locale: str, tmp_path: Path
) -> None:
    script, desired = PRELUDE, b""
    for location, want in DOCUMENTS:
        template = COMPILED.setdefault(location, compile_shell(location, HERE))
        for value in values:
            try:
                script += template.render(PlainScope(x=value, y="")) + "\n"
            except DefinitionError as error:
                assert can_end_document(value), error
            else:
                desired += expected_text(want(value))
    folder = tmp_path / "folder"
    folder.mkdir(exist_ok=True)
    out, err = run_shell(which, script, folder, {"LC_ALL": locale})
    assert out == desired
    assert err == b""


def can_end_document(value: str) -> bool:
    """Whether a line begins with a delimiter or a tab, or bash would lose something."""
    lines = [*value.split("\n"), *value.replace("\\\n", "").split("\n")]
    return (
        "\x01" in value
        or "\\\n" in value
        or any(line[:1] in ("\t", "E", "F") for line in lines if line)
    )
