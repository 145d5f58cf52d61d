import re
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.host_folding import fold_hints, fold_hostnames, fold_messages, message_frame

NAMES = st.lists(
    st.builds(
        lambda a, n, pad, b: f"{a}{n:0{pad}}{b}",
        st.sampled_from(["web", "db-", "10.0.0.", "", "rack2-"]),
        st.integers(0, 120),
        st.integers(0, 4),
        st.sampled_from(["", ".example.net", "-3"]),
    )
    | st.text("ab01.-", min_size=1, max_size=8),
    max_size=40,
)


def expand_folded(text: str) -> list[str]:
    """Return the expansion by clush's ``nodeset -e``, which pads a range like its first number."""
    return list(
        chain.from_iterable(
            _expand_group(group) for group in re.findall(r"(?:\[.*?\]|[^,])+", text)
        )
    )


def _expand_group(group: str) -> list[str]:
    match = re.fullmatch(r"(.*?)\[(.*)\](.*)", group)
    if not match:
        return [group]
    before, ranges, after = match.groups()
    return [f"{before}{n}{after}" for part in ranges.split(",") for n in _expand_range(part)]


def _expand_range(part: str) -> list[str]:
    low, _, high = part.partition("-")
    width = len(low) if low.startswith("0") else 0
    return [f"{n:0{width}}" for n in range(int(low), int(high) + 1)] if high else [low]


@given(NAMES)
def test_folded_names_unfold_to_the_same_names_each_once(names: list[str]) -> None:
    assert sorted(expand_folded(fold_hostnames(names))) == sorted(set(names))


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        (["devserver1", "devserver2"], "devserver[1-2]"),
        (["web01", "web02", "web03", "web07"], "web[01-03,07]"),
        (["web08", "web09", "web10"], "web[08-10]"),
        (["web9", "web10", "web11"], "web[9-11]"),
        (["web1", "web01"], "web[1,01]"),
        (["web098", "web099", "web100", "web1000"], "web[098-100,1000]"),
        (["a1.example.net", "a2.example.net"], "a[1-2].example.net"),
        (["10.0.0.1", "10.0.0.2"], "10.0.0.[1-2]"),
        (["web1.dc1", "web2.dc1", "web1.dc2", "web2.dc2"], "web[1-2].dc1,web[1-2].dc2"),
        (["db", "web2", "web1", "cache1"], "db,web[1-2],cache1"),
        (["[::1]:2222", "[::1]:2223"], "[::1]:2222,[::1]:2223"),
        (["one"], "one"),
        ([], ""),
    ],
)
def test_names_fold_as_clush_writes_them(names: list[str], folded: str) -> None:
    assert fold_hostnames(names) == folded


def test_five_thousand_names_fold_to_one_range() -> None:
    assert (
        fold_hostnames(f"n{i:04}.dc1.example.net" for i in range(5000))
        == "n[0000-4999].dc1.example.net"
    )


def test_messages_of_hosts_that_differ_in_name_or_address_are_one() -> None:
    output = [
        (f"web{i}", f"connect: u@10.0.0.{i}:22: refused by web{i} (10.0.0.{i})") for i in (1, 2)
    ]
    assert message_frame(output[0][1], "web1") == message_frame(output[1][1], "web2")
    assert fold_messages((host, text) for host, text in output) == (
        "connect: u@10.0.0.[1-2]:22: refused by web[1-2] (10.0.0.[1-2])"
    )


def test_what_is_the_same_in_all_messages_stays_as_it_is() -> None:
    output = [(f"web{i}", f"u@web{i}:22: jump host 10.0.0.9 refused") for i in (1, 2)]
    assert fold_messages(output) == "u@web[1-2]:22: jump host 10.0.0.9 refused"


def test_messages_that_say_something_else_are_told_apart() -> None:
    assert message_frame("no key a.pem", "web1") != message_frame("no key b.pem", "web2")
    assert message_frame("web12 is away", "web1") != message_frame("web13 is away", "web1")


def test_names_that_have_nothing_in_common_are_not_all_written_within_a_message() -> None:
    names = [f"{letter * 9}" for letter in "abcdefgh"]
    text = fold_messages((name, f"{name} refused") for name in names)
    assert text == "<host> refused"


def test_commands_in_hints_can_be_typed_as_they_are() -> None:
    def hints(text: str) -> str:
        return fold_hints(
            (f"web{n}", text.format(host=f"web{n}", address=f"10.0.0.{n}")) for n in (1, 2, 3)
        )

    assert hints("then: ssh-keyscan -p 22 {address} >> ~/.ssh/known_hosts") == (
        "then: ssh-keyscan -p 22 10.0.0.1 10.0.0.2 10.0.0.3 >> ~/.ssh/known_hosts"
    )
    assert hints("log in with `ssh u@{address}`, or see {host}") == (
        "log in with `ssh u@<host>`, or see web[1-3]"
    )
    assert hints("the same for all") == "the same for all"


def test_many_names_in_a_command_are_a_placeholder() -> None:
    names = [f"web{n}.example.net" for n in range(100)]
    assert fold_hints((name, f"ssh-keyscan {name}") for name in names) == "ssh-keyscan <host>"
