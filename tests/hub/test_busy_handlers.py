"""Handlers that keep the hub busy are named; those that only wait are not."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator

import pytest
from gevent.event import Event
from hub_ground import PATIENCE, Lines, Log, MakeLines

from edgevent import Communicator, Dispatcher, Message, MessageConnection, Server
from edgevent.limits import HUB_BUSY_WARNING
from edgevent.testing.clock import settle
from edgevent.transport.memory import memory_pair


def burn_the_processor(*arguments: object) -> None:
    end = time.monotonic() + 2 * HUB_BUSY_WARNING
    while time.monotonic() < end:
        pass


def test_a_handler_that_keeps_the_hub_busy_is_named(lines: MakeLines, log: Log) -> None:
    connection = lines(burn_the_processor, name="burner")
    connection.feed(b"x")
    settle()
    assert len(log.lines("burner: its handler kept the hub busy for 0.", logging.WARNING)) == 1


def test_it_is_named_when_the_rest_of_the_pass_goes_on_too(lines: MakeLines, log: Log) -> None:
    burner, other = lines(burn_the_processor, name="burner", priority=0), lines(name="other")
    burner.feed(b"x")
    other.feed(b"x")
    settle()
    assert other.lines == [b"x"]
    assert len(log.lines("kept the hub busy")) == 1


@pytest.mark.parametrize("others", [0, 2])
def test_it_is_named_when_it_blocks_afterwards(lines: MakeLines, log: Log, others: int) -> None:
    gate = Event()
    connection = lines(
        lambda connection, line: (burn_the_processor(), gate.wait(PATIENCE)),
        name="burner",
        priority=0,
    )
    for fed in (connection, *(lines() for _ in range(others))):
        fed.feed(b"x")
    settle()
    assert len(log.lines("burner: its handler kept the hub busy")) == 1
    gate.set()
    settle()
    assert len(log.lines("kept the hub busy")) == 1


def test_it_is_named_when_it_has_waited_before(lines: MakeLines, log: Log) -> None:
    gate = Event()
    connection = lines(
        lambda connection, line: (gate.wait(PATIENCE), burn_the_processor()), name="burner"
    )
    connection.feed(b"x")
    settle()
    gate.set()
    settle()
    assert len(log.lines("burner: its handler kept the hub busy")) == 1


def test_it_is_named_when_it_has_received_before(communicator: Communicator, log: Log) -> None:
    def converse(connection: MessageConnection) -> None:
        connection.receive(PATIENCE)
        burn_the_processor()
        connection.receive(PATIENCE)

    server = communicator.add_connection(Server("tcp://127.0.0.1:0", converse))
    with socket.create_connection(("127.0.0.1", server.port)) as peer:
        settle()
        assert log.lines("busy") == []
        peer.sendall(b"BURN\n")
        settle()
        assert len(log.lines(f"{server.peers[0].name}: its handler kept the hub busy")) == 1
        peer.sendall(b"END\n")
        settle()
    assert len(log.lines("kept the hub busy")) == 1


def test_a_handler_of_a_message_is_named_too(communicator: Communicator, log: Log) -> None:
    service = Dispatcher()
    service.on("BURN")(lambda message, peer: burn_the_processor())
    near, far = memory_pair()
    communicator.add_connection(MessageConnection(near, service, name="burner"))
    far.transmit(bytes(Message("BURN")) + b"\n")
    settle()
    assert len(log.lines("burner: its handler kept the hub busy")) == 1
    far.close()
    settle()


# --- the monitor ----------------------------------------------------------------------------------


@pytest.fixture
def monitored() -> Iterator[Communicator]:
    with Communicator(monitor=True) as communicator:
        yield communicator


def test_the_monitor_logs_the_stack_of_what_keeps_the_hub_busy(
    monitored: Communicator, log: Log
) -> None:
    """The handler goes on until it was found, and some more: it is logged once all the same."""

    gate = Event()

    def burn_until_it_is_found(connection: Lines, line: bytes) -> None:
        if line == b"after a wait":
            gate.wait(PATIENCE)
        end = time.monotonic() + PATIENCE
        while not log.lines("keeps the hub busy") and time.monotonic() < end:
            pass
        burn_the_processor()

    connection = monitored.add_connection(Lines(burn_until_it_is_found, name="burner"))
    for line in (b"at once", b"after a wait"):
        log.clear()
        connection.feed(line)
        settle()
        gate.set()
        settle()
        found = log.lines("burner: its handler keeps the hub busy", logging.WARNING)
        assert len(found) == 1
        assert "burn_until_it_is_found" in found[0]
    connection.far.close()
    settle()


def test_a_handler_that_waits_for_long_is_not_named(monitored: Communicator, log: Log) -> None:
    gate = Event()
    waiting = monitored.add_connection(Lines(lambda connection, line: gate.wait(PATIENCE)))
    other = monitored.add_connection(Lines())
    waiting.feed(b"x")
    settle()
    end = time.monotonic() + 3 * HUB_BUSY_WARNING
    served = 0
    while time.monotonic() < end:  # others are served all the while
        other.feed(b"x")
        settle()
        served += 1
    assert len(other.lines) == served
    gate.set()
    waiting.far.close()
    other.far.close()
    settle()
    assert log.lines("busy") == []


def test_the_monitor_ends_with_its_communicator() -> None:
    for _ in range(3):
        communicator = Communicator(monitor=True)
        communicator.close()
        communicator.close()
