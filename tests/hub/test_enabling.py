"""Enabling and disabling, at any time and from anywhere."""

from __future__ import annotations

import socket

import pytest
from gevent.event import Event
from hub_ground import PATIENCE, Lines, MakeLines

from edgevent import Communicator, MessageConnection, ReadyConnection, Server, Timer
from edgevent.testing.clock import ManualClock, settle
from edgevent.transport.memory import memory_pair


def test_a_disabled_connection_keeps_what_comes_until_it_is_enabled(lines: MakeLines) -> None:
    connection = lines()
    connection.enabled = False
    connection.feed(b"1")
    settle()
    assert connection.lines == []
    connection.enabled = True
    settle()
    assert connection.lines == [b"1"]


def test_one_that_is_added_disabled_is_not_listened_to(communicator: Communicator) -> None:
    connection = Lines()
    connection.enabled = False
    communicator.add_connection(connection)
    connection.feed(b"1")
    settle()
    assert connection.lines == []
    connection.enabled = True
    settle()
    assert connection.lines == [b"1"]
    connection.far.close()
    settle()


def test_a_turn_that_is_queued_is_cancelled(lines: MakeLines) -> None:
    first, second = lines(priority=0), lines(priority=1)

    def disable(connection: Lines, line: bytes) -> None:
        second.enabled = False

    first.handle = disable
    first.feed(b"x")
    second.feed(b"1", b"2")
    settle()
    assert (first.lines, second.lines) == ([b"x"], [])
    second.enabled = True
    settle()
    assert second.lines == [b"1", b"2"]


def test_disabled_and_enabled_in_one_handler_it_is_served_once(lines: MakeLines) -> None:
    first, second = lines(priority=0), lines(priority=1)

    def toggle(connection: Lines, line: bytes) -> None:
        for enabled in (False, True, False, True):
            second.enabled = enabled

    first.handle = toggle
    first.feed(b"x")
    second.feed(b"1", b"2")
    settle()
    assert second.lines == [b"1", b"2"]


def test_a_handler_that_disables_its_own_connection_gets_the_rest_later(lines: MakeLines) -> None:
    def disable(connection: Lines, line: bytes) -> None:
        connection.enabled = line != b"2"

    connection = lines(disable)
    connection.feed(b"1", b"2", b"3", b"4")
    settle()
    assert connection.lines == [b"1", b"2"]
    connection.feed(b"5")
    settle()
    assert connection.lines == [b"1", b"2"]
    connection.enabled = True
    settle()
    assert connection.lines == [b"1", b"2", b"3", b"4", b"5"]


def test_a_handler_that_runs_goes_on_when_its_connection_is_disabled(lines: MakeLines) -> None:
    gate = Event()
    ended: list[bytes] = []

    def handle(connection: Lines, line: bytes) -> None:
        gate.wait(PATIENCE)
        ended.append(line)

    connection = lines(handle)
    connection.feed(b"1", b"2")
    settle()
    connection.enabled = False
    gate.set()
    settle()
    assert ended == [b"1"]
    connection.enabled = True
    settle()
    assert ended == [b"1", b"2"]


def test_the_end_of_a_disabled_connection_is_seen_when_it_is_enabled(
    lines: MakeLines, communicator: Communicator
) -> None:
    connection = lines()
    connection.feed(b"1")
    connection.far.close()
    connection.enabled = False
    settle()
    assert connection in communicator.connections
    connection.enabled = True
    settle()
    assert connection.lines == [b"1"]
    assert connection.is_closed
    assert communicator.connections == ()


def test_a_disabled_server_accepts_nobody_until_it_is_enabled(communicator: Communicator) -> None:
    server = communicator.add_connection(Server("tcp://127.0.0.1:0"))
    server.enabled = False
    with socket.create_connection(("127.0.0.1", server.port)):
        settle()
        assert server.peers == ()
        server.enabled = True
        settle()
        assert len(server.peers) == 1


def test_a_disabled_peer_holds_back_its_sender(communicator: Communicator) -> None:
    near, far = memory_pair(capacity=1000)
    communicator.add_connection(MessageConnection(near)).enabled = False
    settle()
    assert far.transmit(b"x" * 5000) == 1000
    settle()
    with pytest.raises(BlockingIOError):
        far.transmit(b"x")
    far.close()


def test_a_disabled_timer_stops_and_begins_anew(
    communicator: Communicator, clock: ManualClock
) -> None:
    calls: list[float] = []
    timer = communicator.add_connection(Timer(10.0, lambda timer: calls.append(clock.now())))
    clock.advance(9.0)
    timer.enabled = False
    assert clock.alarms == []
    clock.advance(20.0)
    timer.enabled = True
    assert clock.alarms == [10.0]
    clock.advance(10.0)
    assert calls == [1039.0]


def test_a_date_that_passes_while_disabled_is_kept(
    communicator: Communicator, clock: ManualClock
) -> None:
    calls: list[float] = []
    date = clock.date() + 10.0
    timer = communicator.add_connection(
        Timer(None, lambda timer: calls.append(clock.now()), date=date)
    )
    timer.enabled = False
    clock.advance(60.0)
    assert calls == []
    timer.enabled = True
    clock.advance(0.0)
    assert calls == [1060.0]
    assert timer.is_closed


def test_a_ready_connection_asks_for_nothing_while_disabled(communicator: Communicator) -> None:
    near, far = socket.socketpair()
    reads: list[bytes] = []

    class Reader(ReadyConnection):
        def process_read(self) -> None:
            reads.append(near.recv(100))

    with near, far:
        reader = communicator.add_connection(Reader(near))
        reader.enabled = False
        far.sendall(b"x")
        settle()
        assert reads == []
        reader.enabled = True
        settle()
        assert reads == [b"x"]
        reader.close()


def test_enabling_twice_changes_nothing(lines: MakeLines) -> None:
    connection = lines()
    for enabled in (True, True, False, False, True):
        connection.enabled = enabled
    connection.feed(b"x")
    settle()
    assert connection.lines == [b"x"]
