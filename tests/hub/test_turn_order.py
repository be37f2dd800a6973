"""Who gets a turn when: by priority, then by arrival, pass after pass."""

from __future__ import annotations

import random

import gevent
import pytest
from hub_ground import PATIENCE, Lines, MakeLines

from edgevent import Communicator, Timer, UsageError
from edgevent.testing.clock import settle


def warm(connections: list[Lines]) -> None:
    """Has each handle a line: libev gives only 64 at its first poll, and grows after it."""
    for _ in range(3):
        for connection in connections:
            connection.feed(b"warm")
        settle()
    for connection in connections:
        connection.lines.clear()


def feed_at_once(connections: list[Lines], order: list[str]) -> None:
    """Sends each a line, in this order, before the loop polls; notes who handles it."""

    def note(connection: Lines, line: bytes) -> None:
        order.append(connection.name)

    for connection in connections:
        connection.handle = note
        connection.feed(b"x")
    settle()


@pytest.mark.parametrize("count", [2, 7, 64, 150])
def test_what_one_poll_finds_is_handled_in_the_order_of_its_arrival(
    lines: MakeLines, count: int
) -> None:
    connections = [lines(name=f"c{index}") for index in range(count)]
    warm(connections)
    random.Random(count).shuffle(connections)
    order: list[str] = []
    feed_at_once(connections, order)
    assert order == [connection.name for connection in connections]


def test_the_lowest_priority_is_first_and_equal_ones_keep_their_order(lines: MakeLines) -> None:
    rng = random.Random(1)
    connections = [lines(priority=rng.choice([0, 1, 99, 100, 254, 255])) for _ in range(40)]
    warm(connections)
    rng.shuffle(connections)
    order: list[str] = []
    feed_at_once(connections, order)
    expected = sorted(connections, key=lambda connection: connection.priority)
    assert order == [connection.name for connection in expected]


def test_a_changed_priority_holds_from_the_next_turn_on(lines: MakeLines) -> None:
    connections = [lines() for _ in range(3)]
    warm(connections)
    connections[2].priority = 5
    order: list[str] = []
    feed_at_once(connections, order)
    assert order == [connections[index].name for index in (2, 0, 1)]


@pytest.mark.parametrize("priority", [-1, 256, 1.5, None, "first"])
def test_a_priority_is_a_number_from_0_to_255(priority: int) -> None:
    with pytest.raises(UsageError, match=r"0 to 255 was expected|an integer was expected"):
        Timer(1.0, priority=priority)
    timer = Timer(1.0)
    with pytest.raises(UsageError, match="0 to 255 was expected"):
        timer.priority = priority


def test_what_becomes_ready_in_a_pass_waits_for_the_next_one(lines: MakeLines) -> None:
    order: list[str] = []
    urgent, first, last = lines(priority=0), lines(priority=1), lines(priority=255)
    warm([urgent, first, last])
    urgent.handle = lambda connection, line: order.append("urgent")
    first.handle = lambda connection, line: (order.append("first"), urgent.feed(b"x"))
    last.handle = lambda connection, line: order.append("last")
    first.feed(b"x")
    last.feed(b"x")
    settle()
    assert order == ["first", "last", "urgent"]


def test_event_limit_makes_two_busy_peers_take_turns(lines: MakeLines) -> None:
    order: list[str] = []
    both = [lines(name="a"), lines(name="b")]
    warm(both)
    for connection in both:
        connection.handle = lambda connection, line: order.append(connection.name + line.decode())
        connection.feed(*[b"%d" % number for number in range(12)])
    settle()
    expected = [
        f"{name}{number}"
        for start, end in ((0, 5), (5, 10), (10, 12))
        for name in "ab"
        for number in range(start, end)
    ]
    assert order == expected


def test_event_limit_is_the_connections_own(lines: MakeLines) -> None:
    order: list[str] = []
    both = [lines(name="a"), lines(name="b")]
    warm(both)
    both[0].event_limit = 2
    for connection in both:
        connection.handle = lambda connection, line: order.append(connection.name)
        connection.feed(*[b"x"] * 5)
    settle()
    assert "".join(order) == "aabbbbbaaa"


def test_processing_time_limit_ends_a_turn_between_two_messages(lines: MakeLines) -> None:
    order: list[str] = []
    both = [lines(name="a"), lines(name="b")]
    warm(both)
    for connection in both:
        connection.processing_time_limit = 0.0  # any time is more
        connection.handle = lambda connection, line: order.append(connection.name)
        connection.feed(*[b"x"] * 3)
    settle()
    assert "".join(order) == "ababab"


def test_a_long_inbox_starves_nobody(lines: MakeLines) -> None:
    served_after: list[int] = []

    def feed_the_other(connection: Lines, line: bytes) -> None:
        if len(connection.lines) == 10:
            other.feed(b"x")

    busy = lines(feed_the_other)
    other = lines(lambda connection, line: served_after.append(len(busy.lines)))
    busy.feed(*[b""] * 60_000)  # one read
    settle()
    assert len(busy.lines) == 60_000
    assert 10 <= served_after[0] < 60_000


def test_a_busy_peer_starves_nobody(lines: MakeLines) -> None:
    served: set[str] = set()

    def feed_again(connection: Lines, line: bytes) -> None:
        if len(connection.lines) == 20:
            other.feed(b"x")
            live.after(0.001, lambda: served.add("timer"))
        if served != {"peer", "timer"} and len(connection.lines) < 500_000:
            connection.feed(line)

    busy = lines(feed_again)
    other = lines(lambda connection, line: served.add("peer"))
    with Communicator() as live, gevent.Timeout(PATIENCE):
        busy.feed(*[b"x"] * 50)
        while served != {"peer", "timer"}:
            gevent.idle()
    assert len(busy.lines) < 500_000
