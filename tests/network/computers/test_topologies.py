"""Messages and broadcasts over several daemons, whatever their links look like."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from computers_ground import Computer, computers, join, line, mesh, ring
from network_ground import Ground, until

from edgevent import Message

LETTERS = "abcdefghij"


def graph(ground: Ground, pairs: list[tuple[int, int]]) -> list[Computer]:
    count = 1 + max(itertools.chain(*pairs))
    found = computers(ground, LETTERS[:count])
    join(found, pairs)
    return found


def told(found: list[Computer], *services: str) -> None:
    """Waits until every computer knows the way to each of the services."""
    until(
        lambda: all(
            one.router.ways.further.to_service(name) or name in one.router.stations
            for one in found
            for name in services
        )
    )


def listen(found: list[Computer]) -> list[Any]:
    return [one.serve(f"s_{one.name}", "NEWS") for one in found]


def broadcast(sender: Any, services: list[Any], count: int) -> None:
    """Each service gets each exactly once."""
    for number in range(count):
        sender.says(f"*/NEWS n={number}")
        if number % 50 == 49:
            until(lambda number=number: all(len(one.lines) > number - 50 for one in services))
    until(lambda: all(len(one.lines) >= count for one in services))
    for one in services:
        numbers = [int(text.rpartition("n=")[2].partition(";")[0]) for text in one.got()]
        assert sorted(numbers) == list(range(count))


GRAPHS = {
    "line of 6": line(6),
    "ring of 3": ring(3),
    "ring of 7": ring(7),
    "ring of 10": ring(10),
    "mesh of 6": mesh(6),
    "two rings": [*ring(4), (3, 4), (4, 5), (5, 6), (3, 6)],
    "star": [(0, one) for one in range(1, 10)],
}


@pytest.mark.parametrize("pairs", GRAPHS.values(), ids=GRAPHS)
def test_each_service_gets_each_broadcast_once(ground: Ground, pairs: list[Any]) -> None:
    found = graph(ground, pairs)
    services = listen(found)
    broadcast(services[0], services, 20)
    broadcast(services[-1], services, 10)


@pytest.mark.parametrize("count", [100, pytest.param(1_000, marks=pytest.mark.slow)])
def test_many_broadcasts_round_a_ring_of_ten(ground: Ground, count: int) -> None:
    found = graph(ground, ring(10))
    services = listen(found)
    broadcast(services[3], services, count)
    # The last copies may still be on their way round the other side.
    until(lambda: sum(one.router.counts["duplicate"] for one in found) >= count)


def test_a_link_lost_in_the_middle_loses_no_broadcast_that_has_another_way(ground: Ground) -> None:
    found = graph(ground, ring(5))
    services = listen(found)
    broadcast(services[0], services, 10)
    services[0].says("*/NEWS n=0")
    found[0].cut("b")
    services[0].says("*/NEWS n=1")
    until(lambda: all(len(one.lines) >= 2 for one in services))
    assert [len(one.got()) for one in services] == [2] * 5
    until(lambda: found[0].linked() == {"b", "e"} and found[1].linked() == {"a", "c"})
    broadcast(services[0], services, 10)


def test_a_copy_that_has_come_over_five_links_goes_no_further(ground: Ground) -> None:
    found = graph(ground, line(8))
    services = listen(found)
    services[0].says("*/NEWS n=1")
    until(lambda: services[5].lines)
    services[1].says("*/NEWS n=2")
    until(lambda: services[6].lines)
    assert [len(one.lines) for one in services] == [2, 2, 2, 2, 2, 2, 1, 0]


# --- one for one ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pairs", [line(6), ring(6), ring(10)], ids=["line", "ring", "ring of 10"])
def test_a_message_finds_the_computer_that_has_its_service(ground: Ground, pairs: Any) -> None:
    found = graph(ground, pairs)
    asker, answerer = found[0].serve("asker"), found[len(found) // 2].serve("answerer")
    server = found[len(found) // 2].name
    told(found, "asker", "answerer")
    for number, target in enumerate(("answerer", f"{server}:answerer", "?:answerer")):
        asker.says(f"{target}/ADD n={number}")
        until(lambda: answerer.lines)
        (got,) = answerer.got()
        assert got.startswith(f"<a:asker {target}/ADD n={number}")
        answerer.says(f"a:asker/SUM n={number}")
        until(lambda: asker.lines)
        (got,) = asker.got()
        assert got.startswith(f"<{server}:answerer a:asker/SUM n={number}")


def test_what_is_known_follows_services_that_come_and_go(ground: Ground) -> None:
    found = graph(ground, line(4))
    a = found[0].serve("a")
    d = found[3].serve("d")
    told(found, "d")
    found[3].router.remove(d.station)
    until(lambda: not found[0].router.ways.further.to_service("d"))
    a.says('d/PING cache="no;reply"')
    assert a.got() == [
        "<a:communicatord SERVICE_UNAVAILABLE destination_service=d;unsent_command=PING"
    ]
    again = found[2].serve("d")
    told(found, "d")
    a.says("d/PING")
    until(lambda: again.lines)


def test_the_nearest_of_several_gets_it(ground: Ground) -> None:
    found = graph(ground, line(5))
    a, far = found[0].serve("a"), found[4].serve("b")
    told(found, "b")
    near = found[2].serve("b")
    until(lambda: found[1].router.ways.find(Message("X", service="b"), a.station).server == "c")  # type: ignore[union-attr]
    a.says("b/PING n=1")
    a.says("e:b/PING n=2")
    until(lambda: near.lines and far.lines)
    assert ([len(one.got()) for one in (near, far)]) == [1, 1]


def test_a_lost_link_changes_the_way_and_no_way_is_answered(ground: Ground) -> None:
    found = graph(ground, line(4))
    a, d = found[0].serve("a"), found[3].serve("d")
    told(found, "a", "d")
    for one in found[1:3]:
        one.links.stop()
    until(lambda: not found[0].linked())
    for target in ("d", "d:d", "c:x"):
        a.says(f'{target}/PING cache="no;reply"')
    assert len(a.got()) == 3
    assert d.got() == []


def test_a_service_by_name_is_reached_on_every_computer(ground: Ground) -> None:
    found = graph(ground, ring(4))
    services = [one.serve("gossiper", "GOSSIP_NOW") for one in found]
    services[1].says("*:gossiper/GOSSIP_NOW x=1")
    until(lambda: all(one.lines for one in (*services[:1], *services[2:])))
    assert [len(one.got()) for one in services] == [1, 0, 1, 1]


def test_what_another_daemon_reports_comes_whether_it_was_listed_or_not(ground: Ground) -> None:
    found = graph(ground, line(3))
    a, _ = found[0].serve("a", "PING"), found[2].serve("c", "PING")
    told(found, "a", "c")
    for text in ('c:x/PING cache="no;reply"', "c:x/PING transmission_report=failure", "c:c/X"):
        a.says(text)
    until(lambda: len(a.lines) == 3)
    assert [one.split(" ")[:2] for one in a.got()] == [
        ["<c:communicatord", f"a:a/{command}"]
        for command in ("SERVICE_UNAVAILABLE", "TRANSMISSION_REPORT", "UNKNOWN")
    ]


class Stale:
    """Believes that all is behind one neighbor."""

    def __init__(self, computer: Computer, neighbor: str) -> None:
        self._next = (computer.router.remotes[neighbor],)
        computer.router.ways.further = self
        computer.router.changed()

    def to_server(self, server: str) -> Any:
        return self._next

    def to_service(self, service: str) -> Any:
        return self._next


def test_a_message_leaves_a_ring_of_wrong_beliefs(ground: Ground) -> None:
    found = graph(ground, ring(3))
    a = found[0].serve("a")
    for computer, neighbor in zip(found, "bca", strict=True):
        Stale(computer, neighbor)
    a.says("ghost/PING transmission_report=failure")
    until(lambda: a.lines)
    assert a.got() == ["<a:communicatord TRANSMISSION_REPORT command=PING;status=failed"]
    assert found[0].router.counts["came_back"] == 1


def test_a_message_is_passed_on_so_often_and_no_more(ground: Ground) -> None:
    found = graph(ground, [*ring(4), (0, 4)])  # e asks, and the ring a, b, c, d believes
    e = found[4].serve("e")
    told(found, "e")
    for computer, neighbor in zip(found, "bcdaa", strict=True):
        Stale(computer, neighbor)
    e.says("ghost/PING transmission_report=failure")
    until(lambda: sum(one.router.counts["undelivered"] for one in found))
    passed = sum(station.forwarded for one in found[:4] for station in one.router.remotes.values())
    assert passed == 16
