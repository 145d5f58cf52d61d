"""Parsing of ``--limit``: a set of hosts as text.

Terms are separated by ``:`` or ``,``; separators inside brackets do not count.

    web1  web*  web[!2]                  hosts: by name or glob (fnmatch)
    web[01-20].example.net  w[1-3,7]     every host of a range of names, as clush writes them
    appservers  app*                     the hosts of a role
    appservers[0]  appservers[0:2]       the first; the first three: both ends count
    appservers[-1]  appservers[2:]       the last; all from the third on
    ~web[0-9]+                           hosts and roles whose names start with a match of the regex
    all  [::1]  [::1]:2222               every host; an IPv6 address; the same with its port
    @failed                              hosts that did not complete in the last run
    @file                                the terms of a file: one limit per line, # comments
    &term  !term                         only hosts that are also in term; no hosts in term

The order of the terms does not matter: the terms without a prefix are joined (all hosts if there
are none), then ``&`` terms intersect, then ``!`` terms exclude.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition, suggest_nearest
from orchestrator.inventory.hostnames import (
    ALL,
    InvalidHostNameError,
    expand_ranges,
    has_range,
    is_ipv6,
    normalize_host,
)
from orchestrator.model.host import Host, Stage
from orchestrator.model.host_folding import fold_hostnames
from orchestrator.model.lazy_regex import lazy_regex
from orchestrator.yamlio.local_files import read_file

FAILED_HOSTS = "@failed"
_COMMAND_LINE = SourcePosition("--limit")
_PORTED = r"\s*(?:[&!]\s*)?\[[^\]:]{0,99}:[^\]]{0,299}\]:[0-9]+(?=\s*(?:[:,]|$))"
_TERM = lazy_regex(_PORTED + r"|(?:\[[^\]]{0,999}\]|[^:,])*")
_INDEX = r"(-?(?:0|[1-9][0-9]{0,8}))"  # a padded number is part of a name
_SLICE = lazy_regex(rf"(.+)\[(?:{_INDEX}|{_INDEX}?:{_INDEX}?)\]")
_BROKEN = lazy_regex(r"\[(?:[^][]*[,/]|-|[^][]*-\])")  # an invalid range, not a glob
_WILD = lazy_regex(r"[*?]")
_MAX_FILE_DEPTH = 5
_MAX_LIMIT_CHARS = 20_000  # of one term


def select_hosts(
    stage: Stage, limit: str | None, failed: Callable[[], Collection[str]] = tuple
) -> tuple[Host, ...]:
    """Return the hosts of the stage that match the limit, in inventory order; None selects all.

    ``failed`` returns the hosts of ``@failed``, or raises ``DefinitionError`` if there are none.
    Raises ``DefinitionError`` for an empty limit, for a term that matches nothing, and if no host
    is left: no mistake widens the limit to every host.
    """
    if not stage.hosts:
        raise DefinitionError(
            Diagnostic(f"the stage '{stage.name}' has no hosts", SourcePosition(stage.path))
        )
    if limit is None:
        return tuple(stage.hosts.values())
    chosen = _LimitParser(stage, failed).parse_limit(limit, _COMMAND_LINE)
    if not chosen:
        what = f"--limit '{limit}' leaves no host of stage '{stage.name}'"
        hint = "each term matches some host, but their combination matches none"
        raise DefinitionError(Diagnostic(what, _COMMAND_LINE, hint))
    return tuple(host for host in stage.hosts.values() if host.name in chosen)


class _LimitParser:
    """A parser of limits for one stage; the sets contain host names."""

    def __init__(self, stage: Stage, failed: Callable[[], Collection[str]]) -> None:
        self.stage, self.failed = stage, failed
        self.names = {normalize_host(name): name for name in stage.hosts}
        self.depth = 0

    def parse_limit(self, text: str, mark: SourcePosition) -> set[str]:
        if not text.strip():
            hint = "an empty limit would mean every host; omit --limit for that"
            raise DefinitionError(Diagnostic("the limit is empty", mark, hint))
        return self.combine_terms([(term, mark) for term in split_terms(text)], text)

    def combine_terms(self, terms: Iterable[tuple[str, SourcePosition]], text: str) -> set[str]:
        groups: dict[str, list[set[str]]] = {"": [], "&": [], "!": []}
        for term, mark in terms:
            sign = term[:1] if term[:1] in ("&", "!") else ""
            body = term[len(sign) :].strip()
            if not body:
                hint = "remove the separator, or check for an empty variable"
                raise DefinitionError(
                    Diagnostic(f"an empty term in the limit '{text}'", mark, hint)
                )
            groups[sign].append(self.parse_term(body, mark))
        hosts = set().union(*groups[""]) if groups[""] else set(self.stage.hosts)
        return hosts.intersection(*groups["&"]).difference(*groups["!"])

    def parse_term(self, term: str, mark: SourcePosition) -> set[str]:
        """Return the hosts of one term. Raises ``DefinitionError`` if it matches nothing."""
        if len(term) > _MAX_LIMIT_CHARS:
            what = f"a term of the limit has {len(term)} characters, more than {_MAX_LIMIT_CHARS}"
            raise DefinitionError(Diagnostic(what, mark))
        if term == FAILED_HOSTS:
            return set(self.failed()) & set(self.stage.hosts)
        if term.startswith("@"):
            return self.hosts_of_file(term[1:], mark)
        if term in (ALL, "*"):
            return set(self.stage.hosts)
        named = self.hosts_named(term)
        if named is not None:
            return named
        found = self.hosts_of_pattern(term, mark)
        if not found:
            raise self.unknown_name_error(term, term, mark)
        return found

    def hosts_named(self, name: str) -> set[str] | None:
        """Return the host and the role's hosts of this name, or None if there is neither."""
        role, host = self.stage.roles.get(name), self.names.get(host_key_or_text(name))
        if role is None and host is None:
            return None
        return {*(role.hosts if role else ()), *((host,) if host else ())}

    def unknown_name_error(self, name: str, term: str, mark: SourcePosition) -> DefinitionError:
        """Return the error for ``name``, a part of ``term``, that matches nothing."""
        names = [*self.stage.roles, *self.stage.hosts]
        base = term.partition("[")[0]
        hint = suggest_nearest(name, names) or f"known: {', '.join(names[:10])}"
        if base and base != term:
            hint = (
                f"hosts of a range of names: {base}[1-3], {base}[01-20,25];"
                f" some of a role's hosts: {_similar_role(base, self.stage.roles)}[0:2];"
                f" existing hosts: {base}*"
            )
        what = f"'{name}' in the limit is not a host or role of stage '{self.stage.name}'"
        return DefinitionError(Diagnostic(what, mark, hint))

    def hosts_of_pattern(self, term: str, mark: SourcePosition) -> set[str]:
        if term.startswith("[") and (found := self.hosts_of_address(term)):
            return found
        if term.startswith("~"):
            try:
                with warnings.catch_warnings():  # of syntax that a later Python may change
                    warnings.simplefilter("ignore", FutureWarning)
                    regex = re.compile(term[1:])
            except (re.error, RecursionError, OverflowError) as error:
                what = f"'{term}' in the limit is not a valid regular expression: {error}"
                raise DefinitionError(Diagnostic(what, mark)) from error
            return self.matching_hosts(regex.match, regex.match)
        sliced = _SLICE.fullmatch(term)
        if sliced and (sliced[1] == ALL or sliced[1] in self.stage.roles):
            return self.hosts_of_slice(sliced, mark)
        if has_range(term):
            return self.hosts_of_range(term, mark)
        return set() if _BROKEN.search(term) else self.hosts_of_glob(term)

    def hosts_of_glob(self, term: str) -> set[str]:
        folded = term.lower()
        return self.matching_hosts(
            lambda host: fnmatchcase(host.lower(), folded), lambda role: fnmatchcase(role, term)
        )

    def matching_hosts(
        self, host: Callable[[str], object], role: Callable[[str], object]
    ) -> set[str]:
        found = {name for name in self.stage.hosts if host(name)}
        return found.union(*(r.hosts for r in self.stage.roles.values() if role(r.name)))

    def hosts_of_slice(self, sliced: re.Match[str], mark: SourcePosition) -> set[str]:
        role, index, first, last = sliced.groups()
        hosts = list(self.stage.hosts if role == ALL else self.stage.roles[role].hosts)
        if index is not None:
            at = int(index)
            found = {hosts[at]} if -len(hosts) <= at < len(hosts) else set()
            other = self.hosts_named(f"{role}{index}")
            if found and other is not None and found != other:
                what = f"'{sliced[0]}' in the limit may mean '{role}{index}', or {found.pop()}"
                hint = f"write {role}{index}, or {role}[{index}:{index}] for the role's host"
                raise DefinitionError(Diagnostic(what, mark, hint))
            return found or other or set()
        start = int(first or 0)
        stop = len(hosts) - 1 if last is None else int(last)
        stop = stop + len(hosts) if stop < 0 else stop
        return set(hosts[start : max(0, stop + 1)])

    def hosts_of_range(self, term: str, mark: SourcePosition) -> set[str]:
        try:
            names = expand_ranges(term)
        except InvalidHostNameError as bad:
            what = f"'{term}' in the limit: {bad.why}"
            raise DefinitionError(Diagnostic(what, mark, bad.hint)) from bad
        found = {name: self.hosts_named(name) for name in names}
        wild = {
            name: self.hosts_of_glob(name)
            for name in names
            if found[name] is None and _WILD.search(name)
        }
        found |= {name: hosts or None for name, hosts in wild.items()}
        missing = [name for name, hosts in found.items() if hosts is None]
        if missing:
            raise self.unknown_name_error(fold_hostnames(missing), term, mark)
        return set().union(*(hosts for hosts in found.values() if hosts))

    def hosts_of_address(self, term: str) -> set[str]:
        """Return the host of ``[v6]`` or ``[v6]:port``, or of a name in brackets, as a set."""
        inner, _, port = term[1:].partition("]")
        name = self.names.get(host_key_or_text(inner))
        if name is None or (port and self.port_of_host(name) != port[1:]):
            return set()
        return {name}

    def port_of_host(self, name: str) -> str:
        return str(self.stage.hosts[name].connect.port or 22)

    def hosts_of_file(self, name: str, mark: SourcePosition) -> set[str]:
        try:
            rows = read_file(Path(name)).decode("utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            what = f"cannot read the limit's file '{name}': {why}"
            raise DefinitionError(Diagnostic(what, mark)) from error
        self.depth += 1
        if self.depth > _MAX_FILE_DEPTH:
            raise DefinitionError(Diagnostic(f"the limit's file '{name}' includes itself", mark))
        terms = []
        for number, row in enumerate(rows, 1):
            text = re.sub(r"(^|\s)#.*", "", row).strip()
            terms += [
                (term, SourcePosition(name, number, 1))
                for term in (split_terms(text) if text else ())
            ]
        if not terms:
            hint = "an empty limit would mean every host"
            raise DefinitionError(Diagnostic(f"the limit's file '{name}' is empty", mark, hint))
        found = self.combine_terms(terms, f"@{name}")
        self.depth -= 1
        return found


def _similar_role(base: str, roles: Iterable[str]) -> str:
    """Return a role to show an example slice of: ``base`` if it is a role, else the first."""
    names = list(roles)
    return next((n for n in names if n == base), names[0] if names else "role")


def split_terms(text: str) -> list[str]:
    """Return the terms of a limit, including empty ones; a bare IPv6 address is one term."""
    if is_ipv6(text.strip().lstrip("&!")):
        return [text.strip()]
    terms, at = [], 0
    while True:
        match = _TERM.match(text, at)
        end = match.end() if match else at
        terms.append(text[at:end].strip())
        if end >= len(text):
            return terms
        at = end + 1


def host_key_or_text(name: str) -> str:
    """Return the key of a host's name, or the text unchanged if it is not a valid name."""
    return normalize_host(name) if is_ipv6(name) or ":" not in name else name
