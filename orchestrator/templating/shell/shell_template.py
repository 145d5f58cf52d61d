"""Command text: a template in which no value can break out of its place."""

from __future__ import annotations

from msgspec import Struct

from orchestrator.errors import Mark
from orchestrator.model.marked_value import CommandText
from orchestrator.templating.environment import Missing, language
from orchestrator.templating.free_names import Names, survey
from orchestrator.templating.rendering import Field, Program, Rendering, compile_tree
from orchestrator.templating.scope import OBJECTS, Scope, heard_by
from orchestrator.templating.shell import heredoc_check
from orchestrator.templating.shell.escape import write
from orchestrator.templating.shell.lexer_state import Refusal
from orchestrator.templating.shell.placeholders import Place
from orchestrator.templating.shell.rewriter import Walk
from orchestrator.templating.template_parser import Parsed, Source, environment_of, parse
from orchestrator.templating.value_text import Unfit

_HINT = (
    "in a command `{{` and `{%` begin a template; "
    "for text that is none write `{% raw %}…{% endraw %}` around it"
)

_COMMAND = 4096  # characters of a command that tell what it does


class Use(Struct, frozen=True):
    """An expression in a command, for lint.

    ``filter``: raw, words or ''. ``sources``: the names that it is made of. ``command``: the
    text of its command before it, from the command's name on, or the beginning of that; '' where
    it stands in none, such as in a here-document.
    """

    mark: Mark
    filter: str
    sources: frozenset[str]
    command: str


class ShellTemplate(Struct, frozen=True, eq=False):
    """Compiled command text.

    ``names`` have to exist, ``optional`` ones are asked after first; ``uses`` are for lint.
    """

    source: str
    mark: Mark
    names: frozenset[str]
    optional: frozenset[str]
    uses: tuple[Use, ...]
    _program: Program
    _places: list[Place]

    @property
    def sources(self) -> frozenset[str]:
        """The names that its text is made of: none that only decides which it is."""
        return self._program.names.told

    @property
    def programs(self) -> tuple[Program, ...]:
        """What it is made of."""
        return (self._program,)

    @property
    def fields(self) -> tuple[Field, ...]:
        """What is taken of names that have to exist."""
        return self._program.fields

    def place_of(self, name: str) -> Mark:
        """Where one of the names stands first."""
        return self._program.place_of(name)

    @property
    def raw_uses(self) -> tuple[Use, ...]:
        """The expressions that are not quoted as they are."""
        return tuple(use for use in self.uses if use.filter)

    def parsed(self) -> Parsed:
        """The template, read anew."""
        return parse(Source(self.source, self.mark), language(comments=False), _HINT)

    def render(self, scope: Scope) -> str:
        """The command, every value escaped for its place.

        Raises ``DefinitionError`` for what is undefined or cannot stand at its place, and what
        ``scope`` raises.
        """
        rendering = Escaping(self._program, scope, self._places)
        text = self._program.run(rendering)
        if "\0" not in text:
            return text
        text, place, unfit = heredoc_check.check(text, self._places)
        if place and unfit:
            raise self._program.source.refuse(unfit.what, place.offset, unfit.hint)
        return text


class Escaping(Rendering):
    """A rendering that writes each value for its place."""

    def __init__(self, program: Program, scope: Scope, places: list[Place]) -> None:
        super().__init__(program.env, scope)
        self.program, self.places = program, places
        self.heard = heard_by(scope)

    def insert(self, value: object, index: int) -> str:
        place = self.places[index]
        if isinstance(value, Missing):
            raise self.program.undefined(value, self.scope, place.offset)
        if place.filter and not isinstance(value, CommandText):
            self._from_here(place)
        try:
            text: str = self.follow((value,), write(place, value))
            if place.filter == "words":
                self.follow((value,), text.split())
        except Unfit as unfit:
            raise self.program.source.refuse(unfit.what, place.offset, unfit.hint) from None
        return heredoc_check.mark(index, text) if place.documents else text

    def _from_here(self, place: Place) -> None:
        for name in sorted(place.sources):
            through = name in OBJECTS and heard_by(self.scope) != self.heard
            if through or self.scope.from_host(name):
                what = f"`{place.filter}` of '{name}', which came from a host"
                hint = "text from a host can only be inserted quoted"
                raise self.program.source.refuse(what, place.offset, hint)


def _command(text: str, place: Place) -> str:
    """What stands before a value in its command; of a very long one the beginning."""
    return text[place.begun : min(place.offset, place.begun + _COMMAND)].lstrip()


def compile_shell(text: str, mark: Mark) -> ShellTemplate:
    """Read command text. Raises ``DefinitionError`` for all that DESIGN 3.4 refuses at load."""
    parsed, names, walk = walked(text, mark)
    walk.rewrite()
    uses = tuple(
        Use(parsed.source.at(p.offset), p.filter, p.sources, _command(text, p)) for p in walk.places
    )
    program = compile_tree(parsed, environment_of(parsed), names)
    return ShellTemplate(
        text,
        mark,
        names=names.required,
        optional=names.optional,
        uses=uses,
        _program=program,
        _places=walk.places,
    )


def walked(text: str, mark: Mark) -> tuple[Parsed, Names, Walk]:
    """Read command text and find the place of each expression. Raises as ``compile_shell``."""
    source = Source(text, mark)
    if "\0" in text:
        raise source.refuse("a NUL character in a command", text.index("\0"))
    env = language(comments=False)
    parsed = parse(source, env, _HINT)
    names = survey(parsed.tree)
    walk = Walk(parsed, names)
    try:
        walk.run()
    except Refusal as refusal:
        raise source.refuse(refusal.what, refusal.offset, refusal.hint) from None
    if "alias" in text:
        for place in walk.places:
            place.bare = False
    return parsed, names, walk
