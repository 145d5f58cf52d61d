"""Filters and tests under Ansible's names mean what they mean in ansible-core, and are bounded."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import pytest

from orchestrator import templating
from orchestrator.errors import DefinitionError, SourcePosition
from orchestrator.model.marked_value import MarkedValue
from orchestrator.templating import limits
from orchestrator.templating.filters.password_hashes import HASH_KINDS
from orchestrator.templating.filters.texts import MAX_REGEX_CHARS
from orchestrator.templating.function_help import (
    FILTER_EXAMPLES,
    FILTER_HELP,
    TEST_EXAMPLES,
    TEST_HELP,
)
from tests.unit.templating.test_secret_taint import SecretScope, render_text

PROJECT = Path(__file__).parents[3]
MARK = SourcePosition("f.yml", 1, 1)


class Names(SecretScope):
    """Names with their values; those in ``of_hosts`` came from a host."""

    def __init__(self, *of_hosts: str, **values: object) -> None:
        super().__init__()
        self.of_hosts, self.values = of_hosts, values
        self.project_folder = str(PROJECT)

    def resolve(self, name: str) -> object:
        return self.values[name]

    def names(self) -> Iterable[str]:
        return self.values

    def from_host(self, name: str) -> bool:
        return name in self.of_hosts


def evaluate(expression: str, scope: SecretScope | None = None) -> Any:
    return templating.compile_expression(expression, MARK).value(scope or Names())


def problem_of(expression: str, scope: SecretScope | None = None) -> str:
    with pytest.raises(DefinitionError) as failed:
        evaluate(expression, scope)
    found = failed.value.diagnostics[0]
    return f"{found.message}\n{found.hint}"


@cache
def ansible() -> jinja2.Environment:
    """Return an environment with the filters and tests of ansible-core."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ansible.plugins.filter import core, mathstuff, urls, urlsplit
        from ansible.plugins.test import core as core_tests
        from ansible.plugins.test import files as file_tests
        from ansible.plugins.test import mathstuff as math_tests
    env = jinja2.Environment()
    for module in (core, mathstuff, urls, urlsplit):
        env.filters.update(module.FilterModule().filters())
    for module in (core_tests, file_tests, math_tests):
        env.tests.update(module.TestModule().tests())
    return env


def of_ansible(expression: str) -> Any:
    return ansible().compile_expression(expression, undefined_to_none=True)()


SAME = r"""
['a', '/b', 'c'] | path_join
['a/', 'b'] | path_join
'a' | path_join
'/a//b/../c/.' | normpath
'' | normpath
'/srv/a' | relpath('/srv/b/c')
'a/b' | relpath('a')
['/a/b', '/a/c/d'] | commonpath
['a/b', 'a/b'] | commonpath
'orch' | checksum
'orch' | sha1
'über' | md5
'a: 1\n---\n- 2\n---\n' | from_yaml_all | list
none | from_yaml_all
'a%2Bb+c%20d' | urldecode
'https://u:p@Host.example:8443/a/b?x=1#f' | urlsplit('hostname')
'https://u:p@host.example:8443/a/b?x=1#f' | urlsplit
'//host/a' | urlsplit('netloc')
'plain' | urlsplit('port')
'one\n\ntwo' | comment
'one\n' | comment
'' | comment
'one\ntwo' | comment('c')
'one\ntwo' | comment('cblock')
'one\ntwo' | comment('xml')
'one' | comment('erlang', prefix='%%', postfix='')
'one' | comment('plain', prefix='#######\n#', postfix='#\n#######')
'one' | comment(decoration='! ')
'one' | comment('cblock', prefix='', prefix_count=0, postfix_count=0)
'one' | comment(prefix_count=2, postfix_count=3, beginning='<', end='>')
'one' | comment(prefix='\n')
[1, 2, 3] | combinations(2) | map('list') | list
[1, 2] | combinations(3) | list
[1, 2, 3] | permutations | map('list') | list
'abc' | permutations(2) | map('list') | list
[{'id': 'a', 'x': 1}, {'id': 'b'}] | rekey_on_member('id')
{'p': {'id': 'a'}, 'q': {'id': 'a', 'x': 1}} | rekey_on_member('id', duplicates='overwrite')
1 | type_debug
true | type_debug
1.5 | type_debug
'x' | type_debug
[1] | type_debug
{'a': 1} | type_debug
none | type_debug
'/a' is abs
'a/b' is abs
[1, true] is all
[1, 0] is all
[] is all
[0, 1] is any
[] is any
true | ternary('a', 'b')
0 | ternary('a', 'b')
1 is truthy
'a, b' | split
'a,b,c' | split(',', 1)
[1, 2] | product([3, 4]) | map('list') | list
[1, 2] | product(['a'], [true]) | map('list') | list
[1, 2] | product(repeat=2) | map('list') | list
'' is truthy
[] is falsy
'no' is truthy(convert_bool=true)
'yes' is truthy(convert_bool=true)
'off' is falsy(convert_bool=true)
none is falsy(convert_bool=true)
'x' is truthy(convert_bool=true)
none | ternary('a', 'b')
none | ternary('a', 'b', 'c')
{'a': 1} | combine({'b': 2}, {'a': 3})
[{'a': 1}, {'b': 2}] | combine({'c': 3})
[] | combine
{'a': {'x': 1}} | combine({'a': {'y': 2}})
{'a': {'x': 1, 'l': [1]}} | combine({'a': {'y': 2, 'l': [2]}}, recursive=true)
{'a': [1, 2]} | combine({'a': [2, 3]}, list_merge='keep')
{'a': [1, 2]} | combine({'a': [2, 3]}, list_merge='append')
{'a': [1, 2]} | combine({'a': [2, 3]}, list_merge='prepend')
{'a': [1, 2]} | combine({'a': [2, 3]}, list_merge='append_rp')
{'a': [1, 2]} | combine({'a': [2, 3]}, list_merge='prepend_rp')
{'a': {'l': [1]}} | combine({'a': {'l': [2]}}, list_merge='append')
{'a': {'l': [1]}} | combine({'a': {'l': [2]}}, recursive=true, list_merge='append')
{'a': [1]} | combine({'a': 2}, list_merge='append')
{'a': 1, 'b': [2]} | dict2items
{'a': 1} | dict2items(key_name='k', value_name='v')
[{'key': 'a', 'value': 1}, {'key': 'b', 'value': 2}] | items2dict
[{'k': 'a', 'v': 1}] | items2dict(key_name='k', value_name='v')
'{"a": [1, null, true, 1.5]}' | from_json
'a: [1, ~, yes, 1.5]' | from_yaml
none | from_yaml
'- a: &x {b: 1}\n- c: *x\n- d: {<<: *x, e: 2}' | from_yaml
{'b': [1, {'c': none}], 'a': 'x'} | to_json
{'b': 1, 'a': 2} | to_json(sort_keys=true)
{'b': [1, {'c': none}], 'a': 'x'} | to_nice_json
{'b': 1} | to_nice_json(indent=2)
{'b': [1, 2], 'a': {'c': 'yes', 'd': true, 'e': none}} | to_yaml
{'b': [1, {'c': 2}], 'a': 'x: y'} | to_nice_yaml
{'b': [1, {'c': 2}], 'a': 'über'} | to_nice_yaml(indent=2)
{'b': 1, 'a': 2} | to_nice_yaml(sort_keys=false)
'text' | to_yaml
'ansible v1.2' | regex_replace('^a.*v(.*)$', '\\1')
'ab' | regex_replace('(?P<x>a)', '\\g<x>\\g<x>')
'aXa' | regex_replace('A', 'b', ignorecase=true)
'a\na' | regex_replace('^a$', 'b', multiline=true)
'aaa' | regex_replace('a', 'b', count=2)
'aaa' | regex_replace('a', 'b', mandatory_count=3)
5 | regex_replace('5', '6')
'server1/database42' | regex_search('database[0-9]+')
'server1/database42' | regex_search('server([0-9]+)/database([0-9]+)', '\\1', '\\2')
'server1' | regex_search('(?P<n>[0-9])', '\\g<n>')
'abc' | regex_search('x')
'abc' | regex_search('x', '\\1')
'ABC' | regex_search('b', ignorecase=true)
'a1 b2' | regex_findall('[a-z][0-9]')
'a1 b2' | regex_findall('([a-z])([0-9])')
'A\na' | regex_findall('^a$', multiline=true, ignorecase=true)
'^f.*o(.*)$' | regex_escape
'^f.*o[x]$' | regex_escape('posix_basic')
'grüße' | b64encode
'a?~' | b64encode(urlsafe=true)
'ab' | b64encode(encoding='utf-16-le')
'Z3LDvMOfZQ==' | b64decode
'YT9-' | b64decode(urlsafe=true)
'YQBiAA==' | b64decode(encoding='utf-16-le')
'test' | hash
'test' | hash('md5')
'test' | hash('sha512')
'grüße' | hash('blake2b')
'/etc/app.d/a.conf' | splitext
'.bashrc' | splitext
'a/b' | splitext
"it's" | quote
'' | quote
none | quote
'a b;c' | quote
8080 | mandatory
[1, [2, [3, [4]]], none] | flatten
[1, [2, [3, [4]]], none] | flatten(levels=1)
[1, none, ['null']] | flatten
[1, none] | flatten(skip_nulls=false)
[1, 2, 2, 3] | difference([2])
[{'a': 1}, {'a': 2}, {'a': 1}] | difference([{'a': 2}])
[3, 1, 2] | intersect([1, 3])
[{'a': 1}, {'a': 2}] | intersect([{'a': 2}])
[1, 2, 1] | union([2, 3])
[{'a': [1]}] | union([{'a': [1]}, {'b': 1}])
[1, 2] | symmetric_difference([2, 3])
[{'a': 1}] | symmetric_difference([{'a': 1}, {'b': 2}])
[1, 2, 1] | unique
['a', 'A', 'b'] | unique(case_sensitive=true)
[1, 2, 3] | zip(['a', 'b']) | list
[1, 2] | zip(['a', 'b'], ['x', 'y']) | list
[1, 2, 3] | zip_longest(['a'], fillvalue='-') | list
[1, 2] | zip_longest(['a']) | list
[{'n': 'a', 'k': [1, 2]}, {'n': 'b', 'k': [3]}] | subelements('k')
[{'n': 'a', 'k': {'l': [1]}}] | subelements('k.l')
[{'n': 'a', 'k': {'l': [1]}}] | subelements(['k', 'l'])
{'x': {'k': [1]}, 'y': {'k': [2]}} | subelements('k')
[{'n': 'a'}, {'k': [1]}] | subelements('k', skip_missing=true)
1 | extract(['a', 'b'])
'x' | extract({'x': {'y': [4, 5]}}, ['y', 1])
['x', 'y'] | map('extract', {'x': {'k': 1}, 'y': {'k': 2}}, 'k') | list
1 | human_readable
0 | human_readable
1500 | human_readable
1572864 | human_readable
10000 | human_readable(isbits=true)
1234567890 | human_readable(unit='M')
1234567890 | human_readable(isbits=true, unit='K')
2000000000000000000000000000 | human_readable
'10' | human_to_bytes
'10K' | human_to_bytes
'1.5 GB' | human_to_bytes
'2 kilobyte' | human_to_bytes
'10' | human_to_bytes('M')
'10b' | human_to_bytes
'10MB' | human_to_bytes('K')
'3Mb' | human_to_bytes(isbits=true)
'3 megabit' | human_to_bytes(isbits=true)
"pass" | password_hash('sha512', 'abcdefgh12345678', rounds=1000)
"pass" | password_hash('sha256', 'salt', rounds=5000)
"grüße" | password_hash(salt='a.b/', rounds=1000)
"pass" | password_hash('md5', 'ab./cd12')
"grüße" | password_hash('md5', 's')
"pass" | password_hash('blowfish', 'abcdefghijklmnopqrstuu', rounds=4)
"grüße" | password_hash('bcrypt', '1234567890123456789012', rounds=5)
'~' | expanduser
'~root/x' | expanduser
'~no-such-user/x' | expanduser
'a/~' | expanduser
60 | random(seed='web1')
60 | random(start=10, step=5, seed='web1')
['a', 'b', 'c'] | random(seed='web1')
'1.2.3' is version('1.10', '<')
'1.2' is version('1.2')
'1.2' is version('1.2.0', 'lt')
'1.0-2' is version('1.0-10', '<')
'1.2rc1' is version('1.2', '>')
'10.04' is version('10.4', '==')
'1.0b1' is version('1.0', 'lt', strict=true)
'1.0a1' is version('1.0b1', '<', version_type='strict')
'1.0.0-rc.1' is version('1.0.0', '<', version_type='semver')
'1.0.0-alpha.1' is version('1.0.0-alpha.beta', '<', version_type='semver')
'1.0.0-alpha' is version('1.0.0-alpha.1', '<', version_type='semantic')
'1.0.0-2' is version('1.0.0-11', '<', version_type='semver')
'1.0.0+a' is version('1.0.0+b', '==', version_type='semver')
'2' is version_compare('1', '!=')
'abc' is match('b')
'abc' is match('a')
'ABC' is match('a', ignorecase=true)
'abc' is search('b')
'x\nabc' is search('^abc', multiline=true)
'abc' is regex('b')
'abc' is regex('b', match_type='match')
'abc' is regex('abc', match_type='fullmatch')
[1, 2] is subset([1, 2, 3])
[1, 4] is subset([1, 2, 3])
[1, 2, 3] is superset([1])
[1, 2] is contains(1)
'abc' is contains('b')
{'a': 1} is contains('a')
'%Y-%m-%d %H:%M:%S' | strftime(1767225600, utc=true)
'%H' | strftime(1767225600.9)
'%j' | strftime('86400')
'web1' | to_uuid
'web1' | to_uuid(namespace='6ba7b810-9dad-11d1-80b4-00c04fd430c8')
""".strip().splitlines()
"""Expressions with the same value here and in ansible-core, up to the order of a set."""

UNORDERED = ("difference", "intersect", "union", "symmetric_difference")


@pytest.mark.parametrize("expression", SAME)
def test_means_what_it_means_in_ansible(expression: str) -> None:
    expected, found = (json.dumps(each(expression)) for each in (of_ansible, evaluate))
    if any(f"| {name}(" in expression for name in UNORDERED):
        expected, found = (json.dumps(sorted(json.loads(t), key=str)) for t in (expected, found))
    assert found == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("'192.0.2.7' | ipaddr", "192.0.2.7"),
        ("'localhost' | ipaddr", False),
        ("'' | ipaddr", False),
        ("true | ipaddr", False),
        ("'fe80:/10' | ipaddr", False),
        ("45443646733 | ipaddr", "::a:94a7:50d"),
        ("'523454/24' | ipaddr", "0.7.252.190/24"),
        ("['192.0.2.7', 'x', '::1', '198.51.100.0/24'] | ipaddr('host')", ["192.0.2.7/32", "::1/128"]),
        ("['192.0.2.7', '198.51.100.0/24', 'fe80::100/10'] | ipaddr('net')", ["198.51.100.0/24"]),
        ("['192.0.2.7/24', '198.51.100.0/24', 'fe80::100/10'] | ipaddr('address')", ["192.0.2.7", "fe80::100"]),
        ("['192.0.2.7/24', 'x', '10.0.0.1'] | ipaddr('192.0.0.0/8')", ["192.0.2.7/24"]),
        ("'192.0.2.7/24' | ipaddr('network')", "192.0.2.0"),
        ("'192.0.2.7/24' | ipaddr('subnet')", "192.0.2.0/24"),
        ("'192.0.2.7/24' | ipaddr('prefix')", 24),
        ("'192.0.2.7/20' | ipaddr('netmask')", "255.255.240.0"),
        ("'192.0.2.7/24' | ipaddr('hostmask')", "0.0.0.255"),
        ("'192.0.2.7/24' | ipaddr('broadcast')", "192.0.2.255"),
        ("'2001:db8::1/64' | ipaddr('broadcast')", False),
        ("'192.0.2.0/24' | ipaddr('size')", 256),
        ("'192.0.2.0/24' | ipaddr(1)", "192.0.2.1/24"),
        ("'192.0.2.0/24' | ipaddr('-2')", "192.0.2.254/24"),
        ("'192.0.2.0/24' | ipaddr(256)", False),
        ("'192.0.2.7/24' | ipaddr('first_usable')", "192.0.2.1"),
        ("'192.0.2.7/24' | ipaddr('range_usable')", "192.0.2.1-192.0.2.254"),
        ("'192.0.2.7/31' | ipaddr('last_usable')", "192.0.2.7"),
        ("'192.0.2.7' | ipaddr('int')", 3221225991),
        ("'192.0.2.7' | ipaddr('revdns')", "7.2.0.192.in-addr.arpa."),
        ("['10.0.0.1', '8.8.8.8'] | ipaddr('private')", ["10.0.0.1"]),
        ("['10.0.0.1', '8.8.8.8'] | ipaddr('public')", ["8.8.8.8"]),
        ("['127.0.0.1', '8.8.8.8'] | ipaddr('loopback')", ["127.0.0.1"]),
        ("['::1', '8.8.8.8'] | ipv4", ["8.8.8.8"]),
        ("'::1/64' | ipv6('prefix')", 64),
    ],
)  # fmt: skip
def test_ipaddr_answers_as_documented(expression: str, expected: object) -> None:
    assert evaluate(expression) == expected


@pytest.mark.parametrize(("name", "example"), [*FILTER_EXAMPLES.items(), *TEST_EXAMPLES.items()])
def test_examples_have_the_value_that_the_reference_says(
    name: str, example: tuple[str, str]
) -> None:
    expression, expected = example
    assert name in expression
    assert json.dumps(evaluate(expression), ensure_ascii=False) == expected


def test_everything_that_an_expression_can_show_has_an_example() -> None:
    assert FILTER_HELP.keys() - FILTER_EXAMPLES.keys() == {"random", "raw", "words"}
    of_results = {"changed", "failed", "skipped", "succeeded"}
    assert TEST_HELP.keys() - TEST_EXAMPLES.keys() == of_results


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("x | mandatory('set the port')", "set the port"),
        ("x | mandatory", "'x' is undefined"),
        ("x | combine({})", "'x' is undefined"),
        ("{} | combine(1)", "`combine` requires a mapping"),
        ("{} | combine({}, list_merge='x')", "it is one of replace, keep"),
        ("'no' | ternary(1, 2)", "`| bool | ternary(…)`"),
        ("[{'a': 1}] | items2dict", "`key` and `value`"),
        ("'abc' | flatten", "requires a list"),
        ("[{'a': 1}] | subelements('b')", "has no `b`"),
        ("[{'a': 1}] | subelements('a')", "is not a list"),
        ("'{' | from_json", "not JSON"),
        ("'[' | from_yaml", "not YAML"),
        ("'!!python/name:os.system x' | from_yaml", "not YAML"),
        ("'a' | regex_search('(')", "not a regular expression"),
        ("'a' | regex_search('a', '1')", "names no group"),
        ("'a' | regex_search('a', '\\\\1')", "0 groups"),
        ("'a' | regex_replace('a', '\\\\1')", "the replacement"),
        ("'a' | regex_replace('b', '', mandatory_count=1)", "matches 0 times"),
        ("'€' | b64decode", "not text in base64"),
        ("'/w==' | b64decode", "not text in base64"),
        ("'a' | b64encode('x-y')", "no encoding 'x-y'"),
        ("'a' | hash('crc')", "no hash 'crc'"),
        ("'ten' | human_to_bytes", "no number of bytes"),
        ("'10Mb' | human_to_bytes", "no unit 'Mb'"),
        ("10 | human_readable(unit='x')", "no unit 'x'"),
        ("'1' is version('x', version_type='semver')", "no semantic version"),
        ("'1' is version('2', '~')", "no operator '~'"),
        ("'' is version('2')", "an empty version"),
        ("'192.0.2.7' | ipaddr('netmaks')", "no query 'netmaks'"),
        ("{} | json_query('a[')", "`json_query`: "),
        ("x | json_query('a')", "'x' is undefined"),
        ("range(1000) | product(range(1001))", "more than 1,000,000 values"),
        ("[1] | product(repeat=10**9)", "more than 1,000,000 values"),
        ("'a' | split('')", "empty separator"),
        ("'no' is truthy", "any text counts as true"),
        ("x is truthy", "'x' is undefined"),
        ("'a' | password_hash", "`password_hash` without a salt"),
        ("'a' | password_hash('crypt', 'b')", "it is one of blowfish, md5, sha256, sha512"),
        ("'a' | password_hash('md5', '123456789')", "1 to 8 letters"),
        ("'a' | password_hash('md5', 'b', rounds=5000)", "md5 has none"),
        ("'a' | password_hash('blowfish', 'b')", "a salt of blowfish is 22 letters"),
        ("('a' * 73) | password_hash('blowfish', 'a' * 22)", "which blowfish would cut"),
        ("'1' is version('x', version_type='pep440')", "no version of PEP 440"),
        ("'a' | password_hash('sha512', 'a$b')", "letters, digits, dots and slashes"),
        ("'a' | password_hash('sha512', 'b', rounds=10**9)", "it is 1,000 to 1,000,000 rounds"),
        ("[1, 2] | random_seeded(none)", "random_seeded(host.name)"),
        ("'a' | ansible.builtin.hash", "write `hash`"),
        ("4 | pow(2)", "write `x ** y`"),
        ("[] | path_join", "an empty list is not a path"),
        ("[x] | path_join", "'x' is undefined"),
        ("'/a' | relpath('b')", "do not begin at the same place"),
        ("'a' | relpath('')", "do not begin at the same place"),
        ("['/a', 'b'] | commonpath", "all absolute, or all relative"),
        ("[] | commonpath", "all absolute, or all relative"),
        ("'a' | urlsplit('user')", "a URL has no 'user'"),
        ("'http://[' | urlsplit", "`urlsplit`: not a URL"),
        ("'http://a:b' | urlsplit", "`urlsplit`: not a URL"),
        ("'a' | comment('html')", "styles: plain, erlang, c, cblock, xml"),
        ("'a: [' | from_yaml_all", "`from_yaml_all`: the text is not YAML"),
        ("[1] | rekey_on_member('a')", "an item has no 'a'"),
        ("[{'a': 1}, {'a': 1}] | rekey_on_member('a')", "several items have the a '1'"),
        ("[] | rekey_on_member('a', duplicates='x')", "error or overwrite, not 'x'"),
        ("x | type_debug", "'x' is undefined"),
        ("['no'] is all", "any text counts as true"),
        ("[x] is any", "'x' is undefined"),
        ("'/a' is is_abs", "write `is abs`"),
        ("'a' | regex_replac('a')", "did you mean 'regex_replace'?"),
        ("'/etc' is directory", "outside of the project"),
        ("'tasks/../..' is exists", "outside of the project"),
        ("'a\\0b' is file", "is not a path"),
        ("'/etc' is mount", "a template does not look at this machine"),
        ("'%Y' | strftime", "`strftime` needs a time"),
        ("'%Y' | strftime('soon')", "'soon' is not a time in seconds"),
        ("'a' | to_uuid('b')", "'b' is not a UUID"),
        ("'a' is issubset('b')", "write `is subset(…)`"),
    ],
)
def test_is_refused_with_what_to_write(expression: str, what: str) -> None:
    assert what in problem_of(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "pw | b64encode",
        "pw | b64encode | b64decode | upper",
        "pw | hash('sha256')",
        "pw | regex_replace('-', '+')",
        "pw | regex_search('[^-]+$')",
        "pw | regex_findall('[a-z0-9]+') | first",
        "pw | regex_escape | replace('c', 'k')",
        "['x' ~ pw] | map('regex_replace', '(.)-', '\\\\1+') | first",
        "('a: ' ~ pw | upper) | from_yaml | to_json",
        "pw | splitext | first | upper",
        "pw | quote | upper",
        "pw | password_hash('sha256', 'salt', rounds=1000)",
        "{'a': [{'b': pw | upper}]} | json_query('a[0].b')",
        "{'a': pw | upper} | dict2items | map(attribute='value') | first",
        "{'k': pw} | combine({}) | to_nice_yaml | upper",
        "pw | upper | comment | lower",
        "[pw, 'x'] | path_join | upper",
        "pw | checksum",
        "('a: ' ~ pw | upper) | from_yaml_all | to_json",
        "('https://' ~ pw ~ '@b') | urlsplit('username') | upper",
    ],
)
def test_what_is_made_of_a_secret_is_hidden(expression: str) -> None:
    scope = SecretScope()
    assert scope.is_masked(str(evaluate(expression, scope)))


@pytest.mark.parametrize(
    "expression",
    [
        "'a' | regex_search(out)",
        "'a' | regex_replace(pattern=out)",
        "'a' | regex_findall('x' ~ out)",
        "['a'] | map('regex_replace', out, '') | list",
        "['a'] | select('match', out) | list",
        "[{'n': 'a'}] | selectattr('n', 'search', out) | list",
        "'a' is match(out)",
        "'a' is search(*[out])",
        "1 if 'a' is regex(out) else 2",
    ],
)
def test_a_regular_expression_cannot_come_from_a_host(expression: str) -> None:
    scope = Names("out", out="(a+)+$")
    assert "of 'out', which came from a host" in problem_of(expression, scope)


@pytest.mark.parametrize(
    "expression",
    [
        "out | realpath",
        "out is exists",
        "('tasks/' ~ out) is file",
        "[out] | map('realpath') | list",
        "[out] | select('directory') | list",
        "1 if out is exists else 2",
    ],
)
def test_a_path_of_this_machine_cannot_come_from_a_host(expression: str) -> None:
    scope = Names("out", out="tasks")
    assert "of 'out', which came from a host" in problem_of(expression, scope)


def test_a_link_out_of_the_project_is_refused(tmp_path: Path) -> None:
    scope = Names()
    scope.project_folder = str(tmp_path / "project")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "out").symlink_to(tmp_path)
    assert "outside of the project" in problem_of("'out' is directory", scope)


def test_only_the_regular_expression_is_guarded_and_not_other_arguments() -> None:
    scope = Names("out", out="b")
    assert evaluate("'search a' | replace('search', out)", scope) == "b a"
    assert evaluate("[{'match': 1}] | map(attribute='match') | first", scope) == 1


def test_a_text_from_a_host_can_be_searched_replaced_with_and_escaped() -> None:
    scope = Names("out", out="a.b")
    assert evaluate("out | regex_replace('[.]', '-')", scope) == "a-b"
    assert evaluate("'x' | regex_replace('x', out)", scope) == "a.b"
    assert evaluate("'xa.b axb' | regex_findall('x?' ~ (out | regex_escape))", scope) == ["xa.b"]


LAUGHS = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 8)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 8)}]}}\n"
    for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("text | from_yaml", "more than 1,000,000 values"),
        ("merges | from_yaml", "more than 1,000,000 values"),
        ("'a: &a [*a]' | from_yaml", "one inside itself"),
        ("deep | from_yaml", "levels deep"),
        ("deepest | from_yaml", "maximum nesting depth"),
        ("deepest | from_json", "too deeply"),
        ("long | regex_search('a')", f"more than {MAX_REGEX_CHARS:,} characters"),
        ("big | regex_replace('(a*)', '\\\\1' * 2000)", f"more than {limits.MAX_TEXT_CHARS:,}"),
        ("big | regex_replace('a', big)", f"more than {limits.MAX_TEXT_CHARS:,} characters"),
        ("{'a': 1} | to_nice_json(indent=1000)", "an indent"),
        ("{'a': 1} | to_nice_yaml(indent=1000)", "an indent"),
        ("range(100000) | zip_longest(*([[]] * 10))", "more than 1,000,000 values"),
        ("range(1000) | combinations(3)", "more than 1,000,000 values"),
        ("range(100) | permutations", "more than 1,000,000 values"),
        ("text | from_yaml_all", "more than 1,000,000 values"),
        ("big | comment(prefix=big, prefix_count=10000)", f"more than {limits.MAX_TEXT_CHARS:,}"),
        ("big | comment(newline='a', decoration=big)", f"more than {limits.MAX_TEXT_CHARS:,}"),
        ("big | comment(newline='')", "the expression fails"),
    ],
)
def test_is_bounded(expression: str, what: str) -> None:
    scope = Names(
        text=LAUGHS,
        merges=MERGES,
        deep="[" * 200 + "]" * 200,
        deepest="[" * 100_000,
        long="a" * (MAX_REGEX_CHARS + 1),
        big="a" * 10_000,
    )
    assert what in problem_of(expression, scope)


def test_a_password_hash_has_the_rounds_of_ansible_unless_others_are_given() -> None:
    from ansible.utils.encrypt import BaseHash

    of_ansible = {"blowfish": "bcrypt"}
    expected = {
        kind: BaseHash.algorithms[of_ansible.get(kind, f"{kind}_crypt")].implicit_rounds or 0
        for kind in HASH_KINDS
    }
    assert expected == {name: kind.rounds for name, kind in HASH_KINDS.items()}


PYTHON_VERSIONS = (
    "1.dev0 1.0.dev456 1.0a1 1.0a2.dev456 1.0a12 1.0b1.dev456 1.0b2 1.0b2.post345 1.0c1.dev456 "
    "1.0rc1 1.0 1.0+abc.5 1.0+abc.7 1.0+5 1.0.post456.dev34 1.0.post456 1.0-457 1.1.dev1 v1.1 "
    "1!0.1 1!1.0"
).split()


def test_versions_of_python_packages_have_the_order_of_pep_440() -> None:
    from packaging.version import Version

    for left in PYTHON_VERSIONS:
        for right in PYTHON_VERSIONS:
            for sign, expected in (
                ("<", Version(left) < Version(right)),
                ("==", Version(left) == Version(right)),
            ):
                expression = f"a is version(b, '{sign}', version_type='pep440')"
                assert evaluate(expression, Names(a=left, b=right)) is expected, (left, right)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a", [{"n": "x", "s": 2}, {"n": "y", "s": 1}]),
        ("a[*].n", ["x", "y"]),
        ("sort_by(a, &s)[0].n", "y"),
        ("a[?n == 'x'].s | [0]", 2),
        ("{names: a[].n}", {"names": ["x", "y"]}),
        ("missing.b", None),
    ],
)
def test_json_query_is_jmespath(query: str, expected: object) -> None:
    scope = Names(data={"a": [{"n": "x", "s": 2}, {"n": "y", "s": 1}]}, query=query)
    assert evaluate("data | json_query(query)", scope) == expected


def test_a_date_in_yaml_stays_a_text() -> None:
    assert evaluate("'a: 2024-01-31' | from_yaml") == {"a": "2024-01-31"}


def test_a_repeated_value_is_written_again() -> None:
    scope = Names(x={"a": 1})
    assert evaluate("{'b': x, 'c': x} | to_nice_yaml", scope) == "b:\n    a: 1\nc:\n    a: 1\n"


def test_quote_is_for_files_and_values() -> None:
    value = MarkedValue("cd {{ 'a b' | quote }}", MARK)
    assert templating.compile_value(value).render(Names()) == "cd 'a b'"
    assert render_text("{{ host | quote }}", SecretScope()) == "h.example"
