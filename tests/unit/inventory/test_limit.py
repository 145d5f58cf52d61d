from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from orchestrator.errors import DefinitionError, Diagnostic, SourcePosition
from orchestrator.inventory.limit import select_hosts, split_terms
from orchestrator.model.host import ConnectionOptions, Host, Role, Stage

MARK = SourcePosition("f", 1, 1)
HOSTS = ("web1", "web2", "web3", "Db1.example.net", "db2.example.net", "::1", "42", "api")
ROLES = {
    "web": ("web3", "web1", "web2"),
    "db": ("Db1.example.net", "db2.example.net"),
    "eu": ("web1", "Db1.example.net", "42"),
    "empty": (),
    "api": ("web2",),
}


def make_stage() -> Stage:
    hosts = {
        n: Host(n, ConnectionOptions(n, 2222 if n == "::1" else None), (), (), MARK) for n in HOSTS
    }
    roles = {n: Role(n, h, h[0] if h else None, MARK) for n, h in ROLES.items()}
    return Stage("dev", "inventories/dev", hosts, roles)


STAGE = make_stage()


def matching_names(limit: str | None) -> list[str]:
    return [host.name for host in select_hosts(STAGE, limit)]


def refused_limit(limit: str) -> Diagnostic:
    with pytest.raises(DefinitionError) as caught:
        select_hosts(STAGE, limit)
    (problem,) = caught.value.diagnostics
    return problem


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (None, list(HOSTS)),
        ("all", list(HOSTS)),
        ("*", list(HOSTS)),
        ("web2", ["web2"]),
        ("WEB2", ["web2"]),
        ("db1.example.net", ["Db1.example.net"]),
        ("web", ["web1", "web2", "web3"]),
        ("web3,web1", ["web1", "web3"]),
        ("web:&eu", ["web1"]),
        ("web:!web2", ["web1", "web3"]),
        ("!web2:web", ["web1", "web3"]),
        ("&eu:web", ["web1"]),
        ("!web", ["Db1.example.net", "db2.example.net", "::1", "42", "api"]),
        ("&eu", ["web1", "Db1.example.net", "42"]),
        ("web:db:&eu:!web1", ["Db1.example.net"]),
        ("web*", ["web1", "web2", "web3"]),
        ("*.example.net", ["Db1.example.net", "db2.example.net"]),
        ("d?", ["Db1.example.net", "db2.example.net"]),
        ("web[!2]", ["web1", "web3"]),
        ("web[1-3]", ["web1", "web2", "web3"]),
        ("web[1,3]", ["web1", "web3"]),
        ("web[1-3/2]", ["web1", "web3"]),
        ("WEB[2-3]", ["web2", "web3"]),
        ("web[1-2],db[2].example.net", ["web1", "web2", "db2.example.net"]),
        ("web[1-3]:!web[2,3]", ["web1"]),
        ("web[1-3]:&eu", ["web1"]),
        ("db[1-2].example.net", ["Db1.example.net", "db2.example.net"]),
        ("d[a-b][1-2].*", None),
        ("d*[1-2].*", ["Db1.example.net", "db2.example.net"]),
        ("[42]", ["42"]),
        ("[40-44/2]", None),
        ("[41-42]", None),
        ("[42,42]", ["42"]),
        ("ap[h-i]", None),
        ("ap[i]", ["web2", "api"]),
        ("web[1]", ["web1"]),  # the role's second host, and called so
        ("web[1:1]", ["web1"]),
        ("all[1:2]", ["web2", "web3"]),
        ("~web[12]", ["web1", "web2"]),
        ("~(e|x)u$", ["web1", "Db1.example.net", "42"]),
        ("web[0]", ["web3"]),
        ("web[-1]", ["web2"]),
        ("web[0:1]", ["web1", "web3"]),
        ("web[1:]", ["web1", "web2"]),
        ("web[:0]", ["web3"]),
        ("web[-2:]", ["web1", "web2"]),
        ("web[0:-2]", ["web1", "web3"]),
        ("web[0:99]", ["web1", "web2", "web3"]),
        ("all[0]", ["web1"]),
        ("db[1:2].example.net", ["Db1.example.net", "db2.example.net"]),
        ("[::1]", ["::1"]),
        ("::1", ["::1"]),
        ("!::1:", None),
        ("[0:0:0:0:0:0:0:1]:2222", ["::1"]),
        ("web1:[::1]:2222:42", ["web1", "::1", "42"]),
        ("[::1],42", ["::1", "42"]),
        ("WEB*", ["web1", "web2", "web3"]),
        ("42", ["42"]),
        ("api", ["web2", "api"]),
        ("web1:empty", ["web1"]),
        ("web:!empty", ["web1", "web2", "web3"]),
        (" web1 , web2 ", ["web1", "web2"]),
        ("web1,&eu", ["web1"]),
    ],
)
def test_limits_mean_what_is_documented(limit: str | None, expected: list[str] | None) -> None:
    if expected is None:
        assert refused_limit(str(limit))
    else:
        assert matching_names(limit) == expected


@pytest.mark.parametrize("limit", ["", " ", "\t"])
def test_an_empty_limit_is_an_error_and_never_everything(limit: str) -> None:
    problem = refused_limit(limit)
    assert problem.message == "the limit is empty"
    assert "every host" in problem.hint


@pytest.mark.parametrize("limit", ["web:", ":web", "web::db", "web,", "web:!", "web:&", "!", ","])
def test_an_empty_term_is_an_error(limit: str) -> None:
    assert "empty term" in refused_limit(limit).message


@pytest.mark.parametrize(
    ("limit", "term", "hint"),
    [
        ("wbe", "wbe", "did you mean 'web'?"),
        ("web:!ue", "ue", ""),
        ("web:&web44", "web44", "did you mean"),
        (
            "web[7]",
            "web[7]",
            "a range of names: web[1-3], web[01-20,25]; some of a role's hosts: web[0:2]",
        ),
        ("web[1-5]", "web[4-5]", "existing hosts: web*"),
        ("web[01-03]", "web[01-03]", "some of a role's hosts: web[0:2]"),
        ("web[01]", "web01", "some of a role's hosts: web[0:2]"),
        ("eu[1-2]", "eu[1-2]", "some of a role's hosts: eu[0:2]"),
        ("nope[0:2]", "nope[0-2]", "some of a role's hosts: web[0:2]"),
        ("web[ab]", "web[ab]", "hosts of a range of names: web[1-3]"),
        ("web[1-3,]", "web[1-3,]", "hosts of a range of names: web[1-3]"),
        ("web[-3]x", "web[-3]x", "hosts of a range of names: web[1-3]"),
        ("web[3-]", "web[3-]", "hosts of a range of names: web[1-3]"),
        ("d*[2-3].*", "d*3.*", ""),
        ("web[2:1]", "web[2:1]", ""),
        ("web[0:-9]", "web[0:-9]", ""),
        ("web[0:-5]", "web[0:-5]", ""),
        ("nope*", "nope*", ""),
        ("~nope", "~nope", ""),
        ("db[1:3].example.net", "db3.example.net", ""),
        ("[::2]", "[::2]", ""),
        ("[::1]:23", "[::1]:23", ""),
        ("web1:22", "22", ""),
        ("web1[", "web1[", ""),
        ("Web", "Web", "did you mean 'web'?"),
    ],
)
def test_a_term_that_means_nothing_is_an_error_with_the_nearest(
    limit: str, term: str, hint: str
) -> None:
    problem = refused_limit(limit)
    assert f"'{term}'" in problem.message
    assert hint in problem.hint


@pytest.mark.parametrize(
    "limit",
    ["~(", "web[3:1]x", "web[3-1]", "web[1-3/0]", "web[1-a/2]", "web[1-010]", "@/no/such/file"],
)
def test_a_term_that_cannot_be_read_is_an_error(limit: str) -> None:
    assert refused_limit(limit).message


@pytest.mark.parametrize("limit", ["web:&db", "web:!web", "empty", "web:&empty"])
def test_no_host_left_is_an_error(limit: str) -> None:
    assert "leaves no host" in refused_limit(limit).message


def test_an_index_that_may_be_a_name_of_another_host_is_asked_about() -> None:
    """``web[2]`` is web2 to those who know clush, and the role's third host to others."""
    hosts = {
        n: Host(n, ConnectionOptions(n), (), (), MARK) for n in ("web1", "web2", "web3", "web4")
    }
    roles = {"web": Role("web", ("web1", "web2", "web3", "web4"), "web1", MARK)}
    stage = Stage("dev", "p", hosts, roles)
    with pytest.raises(DefinitionError) as caught:
        select_hosts(stage, "web[2]")
    (problem,) = caught.value.diagnostics
    assert problem.message == "'web[2]' in the limit may mean 'web2', or web3"
    assert problem.hint == "write web2, or web[2:2] for the role's host"
    for limit, host in (
        ("web2", "web2"),
        ("web[2:2]", "web3"),
        ("web[0]", "web1"),
        ("web[4]", "web4"),
    ):
        assert [one.name for one in select_hosts(stage, limit)] == [host]


def test_a_stage_without_hosts_is_an_error() -> None:
    with pytest.raises(DefinitionError, match="has no hosts"):
        select_hosts(Stage("dev", "p", {}, {}), None)


def test_a_file_has_a_limit_on_each_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("l").write_text("# failed\r\nweb1  # why\n\n  db:&eu\n")
    assert matching_names("@l") == ["web1", "Db1.example.net"]
    assert matching_names("web:!@l") == ["web2", "web3"]
    Path("l").write_text("web1\nwbe\n")
    assert refused_limit("@l").mark == SourcePosition("l", 2, 1)


def test_an_empty_file_or_one_that_names_itself_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("l").write_text("# nobody\n\n")
    assert "is empty" in refused_limit("@l").message
    Path("l").write_text("@l\n")
    assert "includes itself" in refused_limit("@l").message
    Path("l").write_bytes(b"\xff")
    assert "UTF-8" in refused_limit("@l").message


ATOMS: dict[str, set[str]] = {
    "web": {"web1", "web2", "web3"},
    "db": set(ROLES["db"]),
    "eu": set(ROLES["eu"]),
    "web1": {"web1"},
    "db?.*": set(ROLES["db"]),
    "web*": {"web1", "web2", "web3"},
    "all": set(HOSTS),
    "[::1]": {"::1"},
    "web[0]": {"web3"},
    "api": {"api", "web2"},
}
TERMS = st.tuples(st.sampled_from(["", "&", "!"]), st.sampled_from(sorted(ATOMS)))


@given(st.lists(TERMS, min_size=1, max_size=6), st.randoms(), st.sampled_from([":", ",", " , "]))
def test_a_limit_is_set_algebra_whatever_the_order(
    terms: list[tuple[str, str]], random: object, between: str
) -> None:
    joined = [ATOMS[atom] for sign, atom in terms if not sign]
    expected = set().union(*joined) if joined else set(HOSTS)
    for host in HOSTS:
        narrowed = all(host in ATOMS[atom] for sign, atom in terms if sign == "&")
        if not narrowed or any(host in ATOMS[atom] for sign, atom in terms if sign == "!"):
            expected.discard(host)
    shuffled = list(terms)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    limit = between.join(sign + atom for sign, atom in shuffled)
    if expected:
        assert matching_names(limit) == [host for host in HOSTS if host in expected]
    else:
        assert "leaves no host" in refused_limit(limit).message


@given(st.text("web1:,&![]*~@ #-", max_size=12))
def test_no_text_is_a_crash_or_widens_to_nothing(limit: str) -> None:
    assume("@" not in limit)
    try:
        assert select_hosts(STAGE, limit)
    except DefinitionError as error:
        assert error.diagnostics[0].message


@given(st.text(":,[]12ab!&", max_size=20))
def test_splitting_loses_no_character_but_separators_and_blanks(text: str) -> None:
    kept = "".join(split_terms(text))
    assert [c for c in kept if c not in ":,"] == [c for c in text if c not in ":,"]


@pytest.mark.parametrize(
    ("limit", "hosts"),
    [
        ("@failed", ["web1", "api"]),
        ("@failed:!api", ["web1"]),
        ("web*:&@failed", ["web1"]),
        ("42,@failed", ["web1", "42", "api"]),
        ("@limits", ["api"]),
        ("@./failed", ["web2"]),
    ],
)
def test_those_that_did_not_complete_are_a_term_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, hosts: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("failed").write_text("web2\n")
    Path("limits").write_text("@failed  # again\n!web1\n")
    found = select_hosts(STAGE, limit, lambda: ("api", "gone", "web1"))
    assert [host.name for host in found] == hosts
