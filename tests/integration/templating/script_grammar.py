"""Draws shell scripts in pairs: with expressions, and with the same values in variables.

``ScriptMaker`` knows the grammar of POSIX sh (POSIX.1-2017 XCU 2.10), ``BashMaker`` what bash adds to
it (bash(1), SHELL GRAMMAR), as far as expressions may stand in it or near.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tests.integration.templating.test_value_quoting import SCRAPS

ScriptPair = tuple[str, str]  # the template and the script that it stands for


T = TypeVar("T")


class SeededChoices:
    """Choices by a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def pick(self, choices: Sequence[T]) -> T:
        return self.random.choice(choices)

    def between(self, least: int, most: int) -> int:
        return self.random.randint(least, most)

    def coin(self) -> bool:
        return self.random.random() < 0.5

    def text(self) -> str:
        return "".join(self.pick(SCRAPS) for _ in range(self.between(0, 5)))


@dataclass
class ScriptMaker:
    """Draws a script. ``values`` are what its expressions insert, by name."""

    chance: SeededChoices
    values: dict[str, str] = field(default_factory=dict)
    delimiters: int = 0

    @property
    def kinds(self) -> list[str]:
        """The methods that draw a command, as often as they are to be drawn."""
        return ["show"] * 3 + [
            "if", "for", "case", "group", "here_document", "here_document", "jinja_if", "jinja_for", "pipe",
            "comment", "assign", "function", "continued", "two_here", "while", "chain",
        ]  # fmt: skip

    def pick(self, *choices: str) -> str:
        return self.chance.pick(choices)

    def name(self) -> str:
        name = f"v{len(self.values)}"
        self.values[name] = self.chance.text()
        return name

    def commands(self, depth: int) -> ScriptPair:
        pairs = [self.command(depth) for _ in range(self.chance.between(1, 3))]
        return "".join(p[0] for p in pairs), "".join(p[1] for p in pairs)

    def command(self, depth: int) -> ScriptPair:
        kinds = ["show"] if depth <= 0 else self.kinds
        created: ScriptPair = getattr(self, self.pick(*kinds))(depth)
        return created

    def show(self, depth: int) -> ScriptPair:
        words = [self.words(depth) for _ in range(self.chance.between(0, 3))]
        blank = self.pick(" ", "  ", "\t", " \\\n ")
        end = self.pick("\n", ";\n", ' # it\'s $( a "comment"\n', " >&1\n", "\n\n")
        return tuple(blank.join(["show", *(w[i] for w in words)]) + end for i in (0, 1))  # type: ignore[return-value]

    def words(self, depth: int) -> ScriptPair:
        kind = self.pick("word", "word", "word", "list", "if", "for")
        word = self.word(depth)
        if kind == "if":
            is_so = self.chance.coin()
            block = f"{{% if {'' if is_so else 'not '}yes %}}{word[0]}{{% endif %}} {word[0]}"
            return block, f"{word[1]} {word[1]}" if is_so else word[1]
        if kind == "for":
            times = self.chance.between(0, 2)
            return f"{{% for i in range({times}) %}} {word[0]}{{% endfor %}}", f" {word[1]}" * times
        if kind == "list":
            names = [self.name() for _ in range(self.chance.between(0, 3))]
            return f"{{{{ [{', '.join(names)}] }}}}", " ".join(f'"${name}"' for name in names)
        return word

    def word(self, depth: int) -> ScriptPair:
        parts = [self.part(depth) for _ in range(self.chance.between(1, 3))]
        return "".join(p[0] for p in parts), "".join(p[1] for p in parts)

    def part(self, depth: int) -> ScriptPair:
        kind = self.pick(
            "hole", "plain", "single", "double", *["substitution"] * (depth > 0), "sum"
        )
        if kind == "hole":
            name = self.name()
            return f"{{{{ {name} }}}}", f'"${name}"'
        if kind == "plain":
            text = self.pick(
                "a",
                "b-c",
                "\\$.",
                "\\'",
                '\\"',
                "\\\\",
                "$empty",
                "${empty:-d}",
                "$#",
                "x#y",
                "case",
                "esac",
                "done",
            )
            return text, text
        if kind == "single":
            return self.single()
        if kind == "double":
            inner = self.in_double(depth)
            return f'"{inner[0]}"', f'"{inner[1]}"'
        if kind == "sum":
            name, number = f"n{len(self.values)}", self.chance.between(-9, 99)
            self.values[name] = str(number)
            return f"$((2*({{{{ {name} }}}}) - 1))", f"$((2*(${name}) - 1))"
        inner = self.substitution(depth)
        return f'"{inner[0]}"', f'"{inner[1]}"'

    def single(self) -> ScriptPair:
        before, after = (
            self.pick("", 'a"b', "$(", "`", "\\", "#"),
            self.pick("", "z", "\n", ")", "\\"),
        )
        name = self.name()
        return f"'{before}{{{{ {name} }}}}{after}'", f"'{before}'\"${name}\"'{after}'"

    def in_double(self, depth: int) -> ScriptPair:
        parts: list[ScriptPair] = []
        for _ in range(self.chance.between(0, 3)):
            kind = self.pick("hole", "text", *["substitution"] * (depth > 0))
            if kind == "hole":
                name = self.name()
                parts.append((f"{{{{ {name} }}}}", f"${{{name}}}"))
            elif kind == "text":
                text = self.pick(
                    "a",
                    "'",
                    '\\"',
                    "\\$.",
                    "\\\\",
                    "#",
                    "$empty.",
                    "${empty}",
                    "\n",
                    "(",
                    ")",
                    "$ ",
                )
                parts.append((text, text))
            else:
                parts.append(self.substitution(depth))
        return "".join(p[0] for p in parts), "".join(p[1] for p in parts)

    def substitution(self, depth: int) -> ScriptPair:
        inner = self.commands(depth - 1)
        end = self.pick("", " ", "# ) ' \"\n")
        return f"$( {inner[0]}{end})", f"$( {inner[1]}{end})"  # `$((` would be arithmetic

    def _surround(self, before: str, depth: int, after: str) -> ScriptPair:
        inner = self.commands(depth - 1)
        return before + inner[0] + after, before + inner[1] + after

    def group(self, depth: int) -> ScriptPair:
        before, after = self.chance.pick([("( ", ")\n"), ("{ ", "}\n"), ("( \n", ") # '\n")])
        return self._surround(before, depth, after)

    def function(self, depth: int) -> ScriptPair:
        before, after = self.chance.pick([("f() {\n", "}\n"), ("f () ( ", ")\n")])
        return self._surround(before, depth, after + "f\n")

    def pipe(self, depth: int) -> ScriptPair:
        return self._surround(
            "{ ", depth, self.pick("} | cat\n", "} |\ncat\n", "} && :\n", "} </dev/null\n")
        )

    def comment(self, depth: int) -> ScriptPair:
        return self._surround(self.pick("# it's a \" comment\n", ": #`\n", ":;# $(\n"), depth, "")

    def continued(self, depth: int) -> ScriptPair:
        return self._surround("show \\\n a\\\nb;", depth, "")

    def assign(self, depth: int) -> ScriptPair:
        word, rest = self.word(depth - 1), self.command(depth - 1)
        if self.chance.coin():
            word = self.substitution(depth - 1)
        use = 'show "$A"\n'
        return f"A={word[0]}\n{use}{rest[0]}", f"A={word[1]}\n{use}{rest[1]}"

    def case(self, depth: int) -> ScriptPair:
        word, inner, other = self.word(0), self.commands(depth - 1), self.commands(depth - 1)
        opening = self.pick("(", "")
        created = [
            f"case {word[i]} in\n {opening}zz|{word[i]}) {inner[i]};;\n*)\n{other[i]}\nesac\n"
            for i in (0, 1)
        ]
        return created[0], created[1]

    def if_(self, depth: int) -> ScriptPair:
        name, inner, other = self.name(), self.commands(depth - 1), self.commands(depth - 1)
        tests = (f"[ a{{{{ {name} }}}} = a ]", f'[ a"${name}" = a ]')
        created = [f"if {tests[i]}; then {inner[i]}else {other[i]}fi\n" for i in (0, 1)]
        return created[0], created[1]

    def for_(self, depth: int) -> ScriptPair:
        one, two, inner = self.word(0), self.name(), self.commands(depth - 1)
        created = [
            f'for i in {one[i]} {v}; do show "$i"; {inner[i]}done\n'
            for i, v in enumerate((f"{{{{ {two} }}}}", f'"${two}"'))
        ]
        return created[0], created[1]

    def here_document(self, depth: int) -> ScriptPair:
        document = self.document(depth)
        return (
            f"read_all {document[0][0]}\n{document[1][0]}",
            f"read_all {document[0][1]}\n{document[1][1]}",
        )

    def two_here(self, depth: int) -> ScriptPair:
        (one, body), (two, other) = self.document(depth), self.document(depth)
        created = [f"read_all {one[i]}; read_all {two[i]}\n{body[i]}{other[i]}" for i in (0, 1)]
        return created[0], created[1]

    def document(self, depth: int) -> tuple[ScriptPair, ScriptPair]:
        """Return redirection and body; the script's own delimiter is never quoted."""
        self.delimiters += 1
        word, quoted = f"EOF{self.delimiters}", self.chance.coin()
        body, plain = "", ""
        for _ in range(self.chance.between(0, 3)):
            line = self.quoted_line() if quoted else self.line(depth)
            body, plain = body + line[0] + "\n", plain + line[1] + "\n"
        opening = self.pick(f"<<'{word}'", f"<<\\{word}", f'<< "{word}"') if quoted else f"<<{word}"
        end = f"{word}\n"
        if self.chance.coin():
            opening, end = opening.replace("<<", "<<-"), f"\t\t{word}\n"
        return (opening, f"<<-{word}" if "-" in opening else f"<<{word}"), (body + end, plain + end)

    def quoted_line(self) -> ScriptPair:
        name, text = self.name(), self.pick("", "a ", "$(id)", "`", "\\", "'", '"', "${x")
        meant = text.replace("\\", "\\\\").replace("$", "\\$").replace("`", "\\`")
        return f"{text}{{{{ {name} }}}}.", f"{meant}${{{name}}}."

    def line(self, depth: int) -> ScriptPair:
        before = self.pick(
            "", "a ", "'", '"', "\\$.", "\\\\", "#", "(", "\\\n", " EOF1 ", "\t\t", "$empty "
        )
        inner = self.in_double(depth)
        if '\\"' in inner[0]:  # a backslash stays before `"` in a here-document
            return before, before
        return before + inner[0], before + inner[1]

    def jinja_if(self, depth: int) -> ScriptPair:
        inner, other, is_so = (
            self.commands(depth - 1),
            self.commands(depth - 1),
            self.chance.coin(),
        )
        test = "yes" if is_so else "not yes"
        block = f"{{% if {test} %}}\n{inner[0]}{{% else %}}\n{other[0]}{{% endif %}}\n"
        return block, inner[1] if is_so else other[1]

    def jinja_for(self, depth: int) -> ScriptPair:
        inner, times = self.commands(depth - 1), self.chance.between(0, 2)
        block = f":\n{{% for i in range({times}) %}}\n{inner[0]}{{% endfor %}}\n"
        return block, ":\n" + inner[1] * times

    def while_(self, depth: int) -> ScriptPair:
        before = self.pick("while", "until !")
        word, inner = self.word(depth - 1), self.commands(depth - 1)
        return fill_pairs(f"{before} show @@; do @@break; done\n", word, inner)

    def chain(self, depth: int) -> ScriptPair:
        text = self.pick(
            "show @@ && show @@\n", "! show @@ || show @@\n", "show @@ |\ncat; show @@\n"
        )
        return fill_pairs(text, self.words(depth - 1), self.words(depth - 1))


setattr(ScriptMaker, "if", ScriptMaker.if_)
setattr(ScriptMaker, "for", ScriptMaker.for_)
setattr(ScriptMaker, "while", ScriptMaker.while_)


class BashMaker(ScriptMaker):
    """Draws a script for bash."""

    @property
    def kinds(self) -> list[str]:
        return [
            *super().kinds, "array", "array", "array", "local", "local", "declared", "mapping",
            "appended", "cond", "cond", "arithmetic", "loop", "here_string", "process", "process",
            "keyword_function", "fall_through", "coproc", "select", "both_streams", "nested_array",
        ]  # fmt: skip

    def part(self, depth: int) -> ScriptPair:
        kind = self.pick(*["posix"] * 6, "braces", "translated", "ansi", "process", "wide")
        if kind == "braces":
            return fill_pairs("{a,@@}", self.name_pair())
        if kind == "translated":
            return fill_pairs('$"@@"', self.in_double(depth))
        if kind == "ansi":
            return same_text("$'\\t#\\\\'")
        if kind == "wide":
            return same_text(self.pick("é", "日", "日1.", "'Ü'", '"日本1"', "ソ"))
        if kind == "process" and depth > 0:
            inner = self.commands(depth - 1)
            return fill_pairs(self.pick('"$(cat <( @@))"', '"$( cat < <( @@) )"'), inner)
        return super().part(depth)

    def in_double(self, depth: int) -> ScriptPair:
        inner = super().in_double(depth)
        odd = same_text(self.pick("", "", "", "é", "日", "日1 ", "Ü"))
        return (
            fill_pairs("@@@@", inner, odd) if self.chance.coin() else fill_pairs("@@@@", odd, inner)
        )

    def name_pair(self) -> ScriptPair:
        name = self.name()
        return f"{{{{ {name} }}}}", f'"${name}"'

    def number(self) -> ScriptPair:
        name, number = f"n{len(self.values)}", self.chance.between(-9, 99)
        self.values[name] = str(number)
        return f"{{{{ {name} }}}}", f"${name}"

    def elements(self, depth: int) -> ScriptPair:
        created = same_text("")
        for _ in range(self.chance.between(1, 3)):
            gap = self.pick(" ", "\n", " # it's ) a \" comment (\n", "\t", " \\\n")
            before = self.pick("", "", "", "[7]=", "b ", "x")
            created = fill_pairs(f"@@{gap}{before}@@", created, self.word(depth))
        return created

    def array(self, depth: int) -> ScriptPair:
        text = self.pick(
            "a=(@@)\n", "a=( @@ )\n", "a=(@@); a+=(z)\n", "declare -a a=(@@)\n", "declare a=(@@)\n",
            "typeset -a a=(@@)\n", "a=(@@) b=(c)\n",
        )  # fmt: skip
        return fill_pairs(text + 'show "${a[@]}"\n', self.elements(depth - 1))

    def nested_array(self, depth: int) -> ScriptPair:
        text = self.pick(
            'show "$(a=(@@); show "${a[@]}")"\n',
            'x=$(a=(@@); show "${a[@]}"); show "$x"\n',
            'x=$(g() { local a=(@@); show "${a[@]}"; }; g); show "$x"\n',
            'x=$(declare -a a=(@@); show "${a[*]}"); show $x\n',
            'read_all < <(a=(@@); show "${a[@]}")\n',
            'a=($(b=(@@); show "${b[@]}")); show "${a[@]}"\n',
            'x=$(y=$(a=(@@); show "${a[@]}"); show "$y"); show "$x"\n',
            'x=$(a=(); a+=(@@); ( show "${a[@]}" )); show "$x"\n',
            'read_all <<< "$(a=(@@); show "${a[@]}")"\n',
            '[[ $(a=(@@); show "${a[@]}") == y ]] || show no\n',
            'x=$(case a in a) a=(@@); show "${a[@]}";; esac); show "$x"\n',
            'x=$(for i in 1; do a=(@@); done; show "${a[@]}"); show "$x"\n',
        )
        return fill_pairs(text, self.elements(depth - 1))

    def appended(self, depth: int) -> ScriptPair:
        text = self.pick(
            'a=(b); a+=(@@); show "${a[@]}"\n',
            'a[2]=@@; show "${a[2]}"\n',
            'a=x; a+=@@; show "$a"\n',
        )
        return fill_pairs(text, self.word(depth - 1))

    def local(self, depth: int) -> ScriptPair:
        before = self.pick("local", "local -a", "declare", "typeset", "local -r", "local -")
        text = self.pick(
            f'g() {{ {before} a=(@@); show "${{a[@]}}"; }}; g\n',
            f'g() {{ {before} a=(@@) b; show "${{a[@]}}"; }}\ng\n',
        )
        if before == "local -":
            return fill_pairs('g() { local - a; a=@@; show "$a"; }; g\n', self.word(depth - 1))
        return fill_pairs(text, self.elements(depth - 1))

    def declared(self, depth: int) -> ScriptPair:
        before = self.pick(
            "export", "local", "declare", "declare -r", "readonly", "typeset -x", "declare -u"
        )
        text = f'( g() {{ {before} q=@@; show "$q"; }}; g )\n'
        return fill_pairs(text, self.word(depth - 1))

    def mapping(self, depth: int) -> ScriptPair:
        text = self.pick(
            'declare -A m=([k]=@@ [l]=@@); show "${m[k]}" "${m[l]}"\n',
            'declare -A m; m[k]=@@; m+=([l]=@@); show "${m[k]}" "${m[l]}"\n',
            'g() { local -A m=([k]=@@ ["l l"]=@@); show "${m[k]}" "${m[l l]}"; }; g\n',
            'x=$(declare -A m=([k]=@@ [l]=@@); show "${m[k]}" "${m[l]}"); show "$x"\n',
        )
        return fill_pairs(text, self.word(depth - 1), self.word(depth - 1))

    def cond(self, depth: int) -> ScriptPair:
        test = self.test(depth, self.chance.between(0, 2))
        text = self.pick(
            "[[ @@ ]] && show y\n", "if [[ @@ ]]; then show y; else show n; fi\n", "! [[ @@ ]]; show $?\n",
            "x=$([[ @@ ]] && show y); show $x\n", "[[\n@@\n]] || show n\n",
        )  # fmt: skip
        return fill_pairs(text, test)

    def test(self, depth: int, more: int) -> ScriptPair:
        word, other = self.word(depth - 1), self.word(0)
        text = self.pick(
            "@@ == @@", "@@ = @@", "@@ != @@", "a@@ =~ ^(a|b)@@", "@@ < @@", "-n @@ && -z @@",
            "@@ == *@@", "@@ == @(a|b)", "( a == a ) && @@ == b",
        )  # fmt: skip
        created = fill_pairs(text, *[word, other][: text.count("@@")])
        if not more:
            return created
        rest = self.test(depth, more - 1)
        if self.chance.coin():
            rest = fill_pairs(self.pick("@@ -gt 7 || @@", "7 -le @@ && @@"), self.number(), rest)
        return fill_pairs(self.pick("@@ && @@", "@@ || @@", "! @@ &&\n @@"), created, rest)

    def arithmetic(self, depth: int) -> ScriptPair:
        text = self.pick(
            "((x = @@ + 1)); show $x\n", "(( @@ > 7 )) && show y\n", "let 'x = 1'; x=$((@@ * 2)); show $x\n",
            "show $(( (@@) << 1 ))\n",
        )  # fmt: skip
        return fill_pairs(text, self.number())

    def loop(self, depth: int) -> ScriptPair:
        inner = self.commands(depth - 1)
        return fill_pairs("for ((i = @@, k = 0; k < 2; k++)); do @@done\n", self.number(), inner)

    def here_string(self, depth: int) -> ScriptPair:
        text = self.pick(
            "read_all <<< @@\n", "read_all <<<@@\n", 'x=$(read_all <<< @@); show "$x"\n'
        )
        return fill_pairs(text, self.word(depth - 1))

    def process(self, depth: int) -> ScriptPair:
        text = self.pick(
            "read_all < <( @@)\n", "cat <( @@)\n", "show \"$(cat <( @@))\"\n",
            "{ ( @@); } > >(cat); wait $!\n",
        )  # fmt: skip
        return fill_pairs(text, self.commands(depth - 1))

    def keyword_function(self, depth: int) -> ScriptPair:
        text = self.pick(
            "function g { @@}; g\n", "function g() ( @@)\ng\n", "g() if :; then @@fi\ng\n",
            "function g\n{\n@@} </dev/null\ng\n", "g() case a in a) @@esac\ng\n",
        )  # fmt: skip
        return fill_pairs(text, self.commands(depth - 1))

    def fall_through(self, depth: int) -> ScriptPair:
        text = "case a in a) show @@ ;& b) show @@ ;;& @(a|c)) @@;; esac\n"
        return fill_pairs(text, self.word(depth - 1), self.word(0), self.commands(depth - 1))

    def coproc(self, depth: int) -> ScriptPair:
        text = self.pick(
            "{ coproc { @@} >&3; wait; } 3>&1\n", "{ coproc C { @@} >&3; wait; } 3>&1\n"
        )
        return fill_pairs(text, self.commands(min(depth - 1, 1)))

    def select(self, depth: int) -> ScriptPair:
        word, other = self.word(0), self.word(0)
        text = 'select i in @@ @@; do show "$i"; break; done 2>/dev/null <<< 2\n'
        return fill_pairs(text, word, other)

    def both_streams(self, depth: int) -> ScriptPair:
        text = self.pick(
            "show @@ |& cat\n", "show @@ &>/dev/null\n", "{ show @@; } >&2 2>&1 |& cat\n"
        )
        return fill_pairs(text, self.word(depth - 1))


def same_text(text: str) -> ScriptPair:
    """Text that is the same in both scripts."""
    return text, text


def fill_pairs(text: str, *pairs: ScriptPair) -> ScriptPair:
    """Both scripts, with the pairs in place of the ``@@``."""
    parts = text.split("@@")
    assert len(parts) == len(pairs) + 1, text
    one, two = parts[0], parts[0]
    for pair, part in zip(pairs, parts[1:], strict=True):
        one, two = one + pair[0] + part, two + pair[1] + part
    return one, two
