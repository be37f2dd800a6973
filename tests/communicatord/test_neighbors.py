"""The addresses of other daemons, and the file that keeps them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevent import Address, AddressError
from edgevent.communicatord.neighbors import (
    MAX_NEIGHBORS,
    Neighbors,
    parse_neighbor,
    parse_neighbors,
    place_of,
    written,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.5", "tcp://10.0.0.5:4042"),
        ("10.0.0.5:1", "tcp://10.0.0.5:1"),
        ("[fd00::5]:7", "tcp://[fd00::5]:7"),
        ("tls://203.0.113.5", "tls://203.0.113.5:4043"),
        ("cds://203.0.113.5:9", "tls://203.0.113.5:9"),
    ],
)
def test_an_address_is_read(text: str, address: str) -> None:
    assert str(parse_neighbor(text)) == address
    assert parse_neighbor(written(parse_neighbor(text))) == Address.parse(address)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "203.0.113.5",
            "plain links are for private networks; tls://203.0.113.5:4042 was expected",
        ),
        ("127.0.0.1", "an address that other computers reach was expected"),
        ("0.0.0.0", "the address of one computer, with a port, was expected"),
        ("10.0.0.5:0", "the address of one computer, with a port, was expected"),
        ("224.0.0.1", "the address of one computer, with a port, was expected"),
        ("somewhere", "a numeric address was expected"),
        ("unix:/x", "an address ip:port or tls://ip:port was expected"),
        ("10.0.0.5:x", "port"),
    ],
)
def test_what_is_no_neighbor_is_refused(text: str, why: str) -> None:
    with pytest.raises(AddressError, match=why.replace(".", r"\.")):
        parse_neighbor(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("localhost", "an address that other computers reach was expected"),
        ("snap.example:0", "the address of one computer, with a port, was expected"),
        ("203.0.113.5", "plain links are for private networks"),
        ("udp://snap.example:1", "an address ip:port or tls://ip:port was expected"),
    ],
)
def test_a_name_is_a_neighbor_where_it_may_be_one(text: str, why: str) -> None:
    found = parse_neighbors("snap.example tls://crackle.example:9", allow_names=True)
    assert [written(one) for one in found] == ["snap.example:4042", "tls://crackle.example:9"]
    with pytest.raises(AddressError, match=why):
        parse_neighbor(text, allow_name=True)


def test_a_name_and_where_it_leads_are_one(tmp_path: Path) -> None:
    name, first, second = (
        Address("tcp", host, 4042) for host in ("snap.example", "10.0.0.9", "10.0.0.8")
    )
    neighbors = Neighbors(tmp_path)
    neighbors.configured = neighbors.add([name])
    assert neighbors.dialled_as(name) == neighbors.located_at(name) == name
    for place in (first, second):
        neighbors.located(next(iter(neighbors)), place)
        assert list(neighbors) == neighbors.configured == [place]
        assert name in neighbors
        assert neighbors.add([name, place]) == []
        assert neighbors.dialled_as(place) == name
        assert neighbors.located_at(name) == place
    assert (tmp_path / "neighbors.txt").read_text().count("\n") == 1
    assert neighbors.remove(second) == [second]
    assert neighbors.dialled_as(second) == second


def test_loopback_is_for_those_who_ask_for_it() -> None:
    assert parse_neighbor("127.0.0.2", allow_loopback=True).host == "127.0.0.2"


def test_a_list_has_commas_or_blanks() -> None:
    found = parse_neighbors(" 10.0.0.1, 10.0.0.2:7 tls://10.0.0.3,\n")
    assert [one.endpoint for one in found] == ["10.0.0.1:4042", "10.0.0.2:7", "10.0.0.3:4043"]


def test_daemons_are_in_the_order_of_their_addresses_and_then_ports() -> None:
    texts = [
        "[::1]:1",
        "9.9.9.9:5",
        "10.0.0.1:1",
        "10.0.0.1:2",
        "[::ffff:10.0.0.2]:1",
        "[fd00::]:1",
    ]
    places = [place_of(Address.parse(text)) for text in texts]
    assert places == sorted(places)
    assert place_of(Address.parse("[::ffff:10.0.0.1]:1")) == places[2]


# --- the file -------------------------------------------------------------------------------------


def test_what_is_known_is_kept(tmp_path: Path) -> None:
    first = Neighbors(tmp_path)
    first.own = Address.parse("10.0.0.5:4042")
    added = first.add(parse_neighbors("10.0.0.9 10.0.0.5 tls://203.0.113.5 [fd00::7]:4042"))
    assert len(added) == 3
    assert first.add(parse_neighbors("10.0.0.9")) == []
    text = (tmp_path / "neighbors.txt").read_text()
    assert text.splitlines()[1:] == [
        "10.0.0.9:4042",
        "[fd00::7]:4042",
        "tls://203.0.113.5:4043",
        "10.0.0.5:4042 # this daemon",
    ]
    second = Neighbors(tmp_path)
    second.own = Address.parse("10.0.0.6:4042")  # it has another one now
    assert set(second.load()) == set(first)
    assert [one.name for one in tmp_path.iterdir()] == ["neighbors.txt"]


def test_a_file_of_the_other_daemon_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "neighbors.txt").write_text(
        "# comment\n\n10.0.0.9:4042 # the big one\n[fd00::7]:4042\nrubbish\n127.0.0.1:4042\n"
    )
    found = Neighbors(tmp_path).load()
    assert [one.endpoint for one in found] == ["10.0.0.9:4042", "[fd00::7]:4042"]
    assert "neighbors.txt:5: left out: " in caplog.text
    assert "neighbors.txt:6: left out: " in caplog.text


def test_a_file_that_cannot_be_used_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "neighbors.txt").mkdir()
    neighbors = Neighbors(tmp_path)
    assert neighbors.load() == []
    assert neighbors.add(parse_neighbors("10.0.0.9"))
    assert "neighbors.txt: it cannot be read: " in caplog.text
    assert "neighbors.txt: it cannot be written: " in caplog.text
    assert [one.name for one in tmp_path.iterdir()] == ["neighbors.txt"]


def test_one_is_forgotten_by_its_address_or_its_host() -> None:
    neighbors = Neighbors()
    neighbors.configured = parse_neighbors("10.0.0.9:1")
    neighbors.add(parse_neighbors("10.0.0.9:1 10.0.0.9:2 10.0.0.8:1"))
    assert len(neighbors.remove(Address.parse("10.0.0.9:1"))) == 1
    assert neighbors.configured == []
    assert len(neighbors.remove(Address.parse("10.0.0.9:0"), any_port=True)) == 1
    assert [one.endpoint for one in neighbors] == ["10.0.0.8:1"]
    assert Address.parse("10.0.0.8:1") in neighbors
    assert neighbors.remove(Address.parse("10.0.0.9:1")) == []


def test_how_many_are_known_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    neighbors = Neighbors()
    neighbors.add(Address("tcp", "10.0.0.9", port) for port in range(1, MAX_NEIGHBORS + 5))
    assert len(neighbors) == MAX_NEIGHBORS
    assert "256 are known already" in caplog.text
