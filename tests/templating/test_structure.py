"""However a command nests, a template means what it would mean with values in variables.

A random script is made twice: as a template with expressions, and as plain shell in which
the same values come from the environment, where no quoting of ours is needed. Both must
print the same in three shells.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from orchestrator.errors import DefinitionError
from orchestrator.templating import shell
from tests.templating.support import HERE, SHELLS, Names, run
from tests.templating.test_places import texts

Pair = tuple[str, str]  # the template and the script that it stands for
LITERALS = ("a", "b c", "x;y", "it", "#no", "(p)", "$$!", "E", "case", "esac", "}", "{a,b}", "do")


@dataclass
class Maker:
    """Draws a script. ``values`` are what its expressions insert, by name."""

    draw: st.DrawFn
    values: dict[str, str] = field(default_factory=dict)
    delimiters: int = 0

    def pick(self, *choices: str) -> str:
        return self.draw(st.sampled_from(choices))

    def name(self) -> str:
        name = f"v{len(self.values)}"
        self.values[name] = self.draw(texts)
        return name

    def commands(self, depth: int) -> Pair:
        pairs = [self.command(depth) for _ in range(self.draw(st.integers(1, 3)))]
        return "".join(p[0] for p in pairs), "".join(p[1] for p in pairs)

    def command(self, depth: int) -> Pair:
        kinds = ["show"] if depth <= 0 else ["show"] * 3 + [
            "if", "for", "case", "group", "here", "here", "jinja_if", "jinja_for", "pipe",
            "comment", "assign", "function", "continued", "two_here",
        ]  # fmt: skip
        made: Pair = getattr(self, self.pick(*kinds))(depth)
        return made

    def show(self, depth: int) -> Pair:
        words = [self.words(depth) for _ in range(self.draw(st.integers(0, 3)))]
        blank = self.pick(" ", "  ", "\t", " \\\n ")
        end = self.pick("\n", ";\n", ' # it\'s $( a "comment"\n', " >&1\n", "\n\n")
        return tuple(blank.join(["show", *(w[i] for w in words)]) + end for i in (0, 1))  # type: ignore[return-value]

    def words(self, depth: int) -> Pair:
        kind = self.pick("word", "word", "word", "list", "if", "for")
        word = self.word(depth)
        if kind == "if":
            is_so = self.draw(st.booleans())
            block = f"{{% if {'' if is_so else 'not '}yes %}}{word[0]}{{% endif %}} {word[0]}"
            return block, f"{word[1]} {word[1]}" if is_so else word[1]
        if kind == "for":
            times = self.draw(st.integers(0, 2))
            return f"{{% for i in range({times}) %}} {word[0]}{{% endfor %}}", f" {word[1]}" * times
        if kind == "list":
            names = [self.name() for _ in range(self.draw(st.integers(0, 3)))]
            return f"{{{{ [{', '.join(names)}] }}}}", " ".join(f'"${name}"' for name in names)
        return word

    def word(self, depth: int) -> Pair:
        parts = [self.part(depth) for _ in range(self.draw(st.integers(1, 3)))]
        return "".join(p[0] for p in parts), "".join(p[1] for p in parts)

    def part(self, depth: int) -> Pair:
        kind = self.pick(
            "hole", "plain", "single", "double", *["substitution"] * (depth > 0), "sum"
        )
        if kind == "hole":
            name = self.name()
            return f"{{{{ {name} }}}}", f'"${name}"'
        if kind == "plain":
            text = self.pick(
                "a", "b-c", "\\$", "\\'", '\\"', "\\\\", "$empty", "${empty:-d}", "$#", "x#y"
            )
            return text, text
        if kind == "single":
            return self.single()
        if kind == "double":
            inner = self.in_double(depth)
            return f'"{inner[0]}"', f'"{inner[1]}"'
        if kind == "sum":
            name, number = f"n{len(self.values)}", self.draw(st.integers(-9, 99))
            self.values[name] = str(number)
            return f"$((2*({{{{ {name} }}}}) - 1))", f"$((2*(${name}) - 1))"
        inner = self.substitution(depth)
        return f'"{inner[0]}"', f'"{inner[1]}"'

    def single(self) -> Pair:
        before, after = (
            self.pick("", 'a"b', "$(", "`", "\\", "#"),
            self.pick("", "z", "\n", ")", "\\"),
        )
        name = self.name()
        return f"'{before}{{{{ {name} }}}}{after}'", f"'{before}'\"${name}\"'{after}'"

    def in_double(self, depth: int) -> Pair:
        parts: list[Pair] = []
        for _ in range(self.draw(st.integers(0, 3))):
            kind = self.pick("hole", "text", *["substitution"] * (depth > 0))
            if kind == "hole":
                name = self.name()
                parts.append((f"{{{{ {name} }}}}", f"${{{name}}}"))
            elif kind == "text":
                text = self.pick(
                    "a", "'", '\\"', "\\$", "\\\\", "#", "$empty.", "${empty}", "\n", "(", ")", "$ "
                )
                parts.append((text, text))
            else:
                parts.append(self.substitution(depth))
        return "".join(p[0] for p in parts), "".join(p[1] for p in parts)

    def substitution(self, depth: int) -> Pair:
        inner = self.commands(depth - 1)
        end = self.pick("", " ", "# ) ' \"\n")
        return f"$( {inner[0]}{end})", f"$( {inner[1]}{end})"  # `$((` would be arithmetic

    def _around(self, before: str, depth: int, after: str) -> Pair:
        inner = self.commands(depth - 1)
        return before + inner[0] + after, before + inner[1] + after

    def group(self, depth: int) -> Pair:
        before, after = self.draw(
            st.sampled_from([("( ", ")\n"), ("{ ", "}\n"), ("( \n", ") # '\n")])
        )
        return self._around(before, depth, after)

    def function(self, depth: int) -> Pair:
        before, after = self.draw(st.sampled_from([("f() {\n", "}\n"), ("f () ( ", ")\n")]))
        return self._around(before, depth, after + "f\n")

    def pipe(self, depth: int) -> Pair:
        return self._around(
            "{ ", depth, self.pick("} | cat\n", "} |\ncat\n", "} && :\n", "} </dev/null\n")
        )

    def comment(self, depth: int) -> Pair:
        return self._around(self.pick("# it's a \" comment\n", ": #`\n", ":;# $(\n"), depth, "")

    def continued(self, depth: int) -> Pair:
        return self._around("show \\\n a\\\nb;", depth, "")

    def assign(self, depth: int) -> Pair:
        word, rest = self.word(depth - 1), self.command(depth - 1)
        if self.draw(st.booleans()):
            word = self.substitution(depth - 1)
        use = 'show "$A"\n'
        return f"A={word[0]}\n{use}{rest[0]}", f"A={word[1]}\n{use}{rest[1]}"

    def case(self, depth: int) -> Pair:
        word, inner, other = self.word(0), self.commands(depth - 1), self.commands(depth - 1)
        opening = self.pick("(", "")
        made = [
            f"case {word[i]} in\n {opening}zz|{word[i]}) {inner[i]};;\n*)\n{other[i]}\nesac\n"
            for i in (0, 1)
        ]
        return made[0], made[1]

    def if_(self, depth: int) -> Pair:
        name, inner, other = self.name(), self.commands(depth - 1), self.commands(depth - 1)
        tests = (f"[ a{{{{ {name} }}}} = a ]", f'[ a"${name}" = a ]')
        made = [f"if {tests[i]}; then {inner[i]}else {other[i]}fi\n" for i in (0, 1)]
        return made[0], made[1]

    def for_(self, depth: int) -> Pair:
        one, two, inner = self.word(0), self.name(), self.commands(depth - 1)
        made = [
            f'for i in {one[i]} {v}; do show "$i"; {inner[i]}done\n'
            for i, v in enumerate((f"{{{{ {two} }}}}", f'"${two}"'))
        ]
        return made[0], made[1]

    def here(self, depth: int) -> Pair:
        document = self.document(depth)
        return (
            f"read_all {document[0][0]}\n{document[1][0]}",
            f"read_all {document[0][1]}\n{document[1][1]}",
        )

    def two_here(self, depth: int) -> Pair:
        (one, body), (two, other) = self.document(depth), self.document(depth)
        made = [f"read_all {one[i]}; read_all {two[i]}\n{body[i]}{other[i]}" for i in (0, 1)]
        return made[0], made[1]

    def document(self, depth: int) -> tuple[Pair, Pair]:
        """The redirection and the body; with a quoted delimiter the script's is unquoted."""
        self.delimiters += 1
        word, quoted = f"EOF{self.delimiters}", self.draw(st.booleans())
        body, plain = "", ""
        for _ in range(self.draw(st.integers(0, 3))):
            line = self.quoted_line() if quoted else self.line(depth)
            body, plain = body + line[0] + "\n", plain + line[1] + "\n"
        opening = self.pick(f"<<'{word}'", f"<<\\{word}", f'<< "{word}"') if quoted else f"<<{word}"
        end = f"{word}\n"
        if self.draw(st.booleans()):
            opening, end = opening.replace("<<", "<<-"), f"\t\t{word}\n"
        return (opening, f"<<-{word}" if "-" in opening else f"<<{word}"), (body + end, plain + end)

    def quoted_line(self) -> Pair:
        name, text = self.name(), self.pick("", "a ", "$(id)", "`", "\\", "'", '"', "${x")
        meant = text.replace("\\", "\\\\").replace("$", "\\$").replace("`", "\\`")
        return f"{text}{{{{ {name} }}}}.", f"{meant}${{{name}}}."

    def line(self, depth: int) -> Pair:
        before = self.pick(
            "", "a ", "'", '"', "\\$", "\\\\", "#", "(", "\\\n", " EOF1 ", "\t\t", "$empty "
        )
        inner = self.in_double(depth)
        if '\\"' in inner[0]:  # a backslash stays before `"` in a here-document
            return before, before
        return before + inner[0], before + inner[1]

    def jinja_if(self, depth: int) -> Pair:
        inner, other, is_so = (
            self.commands(depth - 1),
            self.commands(depth - 1),
            self.draw(st.booleans()),
        )
        test = "yes" if is_so else "not yes"
        block = f"{{% if {test} %}}\n{inner[0]}{{% else %}}\n{other[0]}{{% endif %}}\n"
        return block, inner[1] if is_so else other[1]

    def jinja_for(self, depth: int) -> Pair:
        inner, times = self.commands(depth - 1), self.draw(st.integers(0, 2))
        block = f":\n{{% for i in range({times}) %}}\n{inner[0]}{{% endfor %}}\n"
        return block, ":\n" + inner[1] * times


setattr(Maker, "if", Maker.if_)
setattr(Maker, "for", Maker.for_)


@st.composite
def scripts(draw: st.DrawFn) -> tuple[str, str, dict[str, str]]:
    maker = Maker(draw)
    template, script = maker.commands(3)
    return template, script, maker.values


PRELUDE = """\
show() { printf '[%s]' "$#" "$@"; echo; }
read_all() { cat; echo .; }
"""


@pytest.mark.parametrize("which", SHELLS, ids=" ".join)
@given(made=scripts())
@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.filter_too_much,
        HealthCheck.too_slow,
    ],
)
def test_a_template_means_what_it_would_with_its_values_in_variables(
    which: tuple[str, ...], made: tuple[str, str, dict[str, str]], tmp_path: Path
) -> None:
    template, script, values = made
    compiled = shell(PRELUDE + template, HERE)
    try:
        text = compiled.render(Names(yes=True, **values))
    except DefinitionError as error:
        assume("here-document" not in str(error))
        raise
    folder = tmp_path / "folder"
    folder.mkdir(exist_ok=True)
    environment = {**values, "empty": ""}
    wanted = run(which, PRELUDE + script, folder, environment)
    assert run(which, text, folder, environment) == wanted
