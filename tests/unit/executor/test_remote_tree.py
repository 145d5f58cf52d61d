"""Listings of hosts' folders: what hosts may say, and what none of them can."""

from __future__ import annotations

import pytest

from orchestrator.errors import OrchError
from orchestrator.executor.remote_tree import RemoteEntry, is_inner_link, parse_listing

SUM = "a" * 64


def test_the_lines_of_a_listing_are_joined_by_name() -> None:
    listing = f"""\
f ./b
x ./a/run
o ./pipe
d ./a
     12 ./b
 3 ./a/run
 15 total
{SUM}  ./b
{SUM} *./a/run
L ./l ./a\\0040b
F ./x\\0012y 5\\0040{SUM}
F ./z\\0040 -\\0040-
D ./d\\0134
"""
    entries = {entry.name: entry for entry in parse_listing(listing.encode())}
    assert list(entries) == sorted(entries)
    assert entries["b"] == RemoteEntry("f", (b"b",), size=12, digest=SUM)
    assert entries["a/run"] == RemoteEntry("f", (b"a", b"run"), True, size=3, digest=SUM)
    assert entries["l"].target == b"./a b"
    assert entries["x\ny"].size == 5
    assert entries["z "].size == -1
    assert {entries[name].kind for name in ("a", "d\\")} == {"d"}
    assert entries["pipe"].kind == "o"


@pytest.mark.parametrize(
    "line",
    [
        "f ../x",
        "f ./../x",
        "f ./a/../../x",
        "d ./a/..",
        "f /etc/passwd",
        "f ./",
        "f .//x",
        "f ./.",
        "f ./not-listed/x",
        "F ./\\0056\\0056/x 1\\0040" + SUM,
        "F ./a\\0000b 1\\0040" + SUM,
        "f ./" + "n" * 256,
        "L ./l",
        "L ./l x y",
        "L ./l \\0000",
        "F ./f 1",
        "F ./f -1\\0040" + SUM,
        "F ./f " + "9" * 19 + "\\0040" + SUM,
        "anything",
        "Z ./x",
        "d ./x\nf ./x",
        "l ./x",
        "f ./f\nf ./f/x",
    ],
)
def test_a_listing_that_no_folder_has_is_refused(line: str) -> None:
    with pytest.raises(OrchError, match="unexpected reply from the host"):
        parse_listing(f"{line}\n".encode())


@pytest.mark.parametrize(
    ("parts", "target", "is_inner"),
    [
        ((b"l",), b"a", True),
        ((b"l",), b"./a/b", True),
        ((b"l",), b"..", False),
        ((b"l",), b"../x", False),
        ((b"l",), b"/etc", False),
        ((b"a", b"l"), b"../x", True),
        ((b"a", b"l"), b"..", True),
        ((b"a", b"l"), b"../../x", False),
        ((b"a", b"l"), b"b/../../x", False),
        ((b"a", b"l"), b"b/../x", False),  # b could be a link
    ],
)
def test_a_link_is_inner_if_it_cannot_lead_out(
    parts: tuple[bytes, ...], target: bytes, is_inner: bool
) -> None:
    assert is_inner_link(RemoteEntry("l", parts, target=target)) == is_inner
