"""Mutations of files: accidental, by a bad merge, or malicious."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

TOKENS = (
    *("{{", "}}", "{%", "%}", "{#", "#}", "{{ x }}", "{% raw %}", "{% if %}", "{{ 10 ** 9 }}"),
    *("{{ 'x' * 10**10 }}", "{{ range(10**9) | list }}", "{{ a.b.c }}", "{{ self }}", "| words"),
    *("'", '"', "`", "\\", "$(", "${", "$((", ")", "<<E\n", "&&", ";;", ">&", "$'", "\\\n"),
    *(
        "&a ",
        "*a",
        "<<: ",
        "? ",
        ": ",
        "- ",
        "|",
        ">",
        "|+9\n",
        "!x ",
        "!!int ",
        "!secret ",
        "---\n",
    ),
    *("[", "]", "{", "}", ",", "#", "%", "@", "~", "%TAG", "0", "-1", "1e999", "0777", "1_000"),
    *("9" * 30, "9" * 5000, "99999999999999h", "0x10", ".inf", ".nan", "null", "yes", "2026-01-01"),
    *(
        "\0",
        "\t",
        "\r",
        "\r\n",
        "\x1b[31m",
        "\x85",
        "\u2028",
        "\ufeff",
        "\u202e",
        "\xa0",
        "é",
        "🙂",
    ),
    *(
        "../",
        "/",
        "~/",
        "~nobody/",
        "/dev/null",
        "\n\n\n",
        " ",
        "a" * 300,
        "web[1:99999999]",
        "::1",
    ),
)
BYTES = (b"\xff", b"\xc3", b"\x00", b"\xed\xa0\x80", b"\xfe\xff", b"\x80", b"\xef\xbb\xbf")
SCALARS = (
    *("", "[]", "{}", "null", "true", "-1", "0", "1.5", "'{{ x }}'", "'{{ ports }}'", "[[]]"),
    *(
        "{a: }",
        "'\\0'",
        '"\\0"',
        '"\\u2028"',
        "999999999999999999999",
        "1e400",
        "'@'",
        "'../x'",
        "'*'",
    ),
    *("'%'", "!secret {env: X}", "!secret {}", "['']", "[null]", "{? [] : 1}", "'\n'", '"\\ud800"'),
)


def mutate_file(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """Return the data with one to four mutations."""
    for _ in range(random.choice((1, 1, 1, 2, 2, 4))):
        data = random.choice(_MUTATIONS)(data, others, random)
    return data


def _random_span(data: bytes, random: Random, most: int = 40) -> tuple[int, int]:
    start = random.randint(0, len(data))
    return start, min(len(data), start + random.randint(0, most))


def _insert(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    start, _end = _random_span(data, random)
    return data[:start] + random.choice(TOKENS).encode() + data[start:]


def _replace(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    start, end = _random_span(data, random, 8)
    return data[:start] + random.choice(TOKENS).encode() + data[end:]


def _bytes(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    start, end = _random_span(data, random, 2)
    return data[:start] + random.choice(BYTES) + data[end:]


def _cut(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    start, end = _random_span(data, random)
    return data[:start] + data[end:]


def _truncate(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    return data[: random.randint(0, len(data))]


def _repeat(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    start, end = _random_span(data, random)
    times = random.choice((2, 2, 3, 50, 2000))
    return data[:start] + data[start:end] * times + data[end:]


def _splice(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    other = random.choice(others)
    start, end = _random_span(other, random, 200)
    at, to = _random_span(data, random)
    return data[:at] + other[start:end] + data[to:]


def _swap_lines(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    lines = data.splitlines(keepends=True) or [b""]
    one, other = random.randrange(len(lines)), random.randrange(len(lines))
    match random.randrange(4):
        case 0:
            lines[one], lines[other] = lines[other], lines[one]
        case 1:
            lines.insert(one, lines[other])
        case 2:
            lines[one] = b"  " + lines[one]
        case _:
            lines[one] = lines[one][1:]
    return b"".join(lines)


def _replace_scalar(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    """Replace the value of a key."""
    at = [i for i in range(len(data)) if data.startswith(b": ", i)]
    if not at:
        return data
    start = random.choice(at) + 2
    ends = [end for sign in (b",", b"}", b"]", b"\n") if (end := data.find(sign, start)) >= 0]
    return data[:start] + random.choice(SCALARS).encode() + data[min(ends, default=len(data)) :]


_MUTATIONS: tuple[Callable[[bytes, Sequence[bytes], Random], bytes], ...] = (
    *(_insert, _replace, _bytes, _cut, _truncate, _repeat, _splice, _swap_lines, _swap_lines),
    *(_replace_scalar, _replace_scalar, _replace_scalar),
)
