"""What a communicator tells of its connections, read from the log."""

from __future__ import annotations

import logging
import os

import gevent
import pytest
from gevent.event import Event
from hub_ground import PATIENCE, Log

from edgevent import Communicator, Dispatcher, MessageConnection, Timer
from edgevent.testing.clock import ManualClock, settle
from edgevent.transport.memory import memory_pair


def levels(log: Log, containing: str) -> set[int]:
    return {one.levelno for one in log.records if containing in one.getMessage()}


def test_adding_and_removing_is_logged_for_whoever_debugs(
    communicator: Communicator, log: Log
) -> None:
    communicator.add_connection(Timer(1.0, name="clock")).close()
    assert log.lines("clock: ", logging.DEBUG) == [
        "clock: added to communicator",
        "clock: removed from communicator",
    ]


# --- show_connections -----------------------------------------------------------------------------


def test_show_connections_lists_at_each_wait_what_is_listened_to(
    communicator: Communicator, log: Log
) -> None:
    communicator.add_connection(Timer(1.0, name="second"))
    communicator.add_connection(Timer(1.0, name="first", priority=3))
    hidden = communicator.add_connection(Timer(1.0, name="hidden"))
    hidden.enabled = False
    communicator.show_connections()
    settle()
    shown = log.lines("communicator: waiting for: ", logging.INFO)
    assert len(shown) > 1
    assert set(shown) == {"communicator: waiting for: first (3), second (100)"}


def test_show_connections_follows_what_changes_and_ends(
    communicator: Communicator, log: Log
) -> None:
    communicator.show_connections()
    settle()
    assert set(log.lines("waiting for")) == {"communicator: waiting for: nothing"}
    timer = communicator.add_connection(Timer(1.0, name="clock"))
    log.clear()
    settle()
    assert set(log.lines("waiting for")) == {"communicator: waiting for: clock (100)"}
    timer.close()
    communicator.show_connections(False)
    communicator.show_connections(False)
    log.clear()
    settle()
    assert log.records == []


def test_show_connections_does_not_keep_a_program_up(communicator: Communicator) -> None:
    communicator.show_connections()
    timer = communicator.every(1.0, int)
    timer.enabled = False
    assert communicator.run() is False


# --- log_connections ------------------------------------------------------------------------------


def test_log_connections_names_what_remains_after_each_removal(
    communicator: Communicator, log: Log
) -> None:
    timers = [communicator.add_connection(Timer(1.0, name=name)) for name in "cab"]
    communicator.log_connections(logging.WARNING)
    log.clear()
    for timer in timers:
        timer.close()
    assert log.lines(level=logging.WARNING) == [
        "c: removed from communicator, left: a, b",
        "a: removed from communicator, left: b",
        "b: removed from communicator, left: none",
    ]
    communicator.log_connections(None)
    log.clear()
    communicator.after(1.0, int).close()
    assert levels(log, "") == {logging.DEBUG}


# --- debug_connections ----------------------------------------------------------------------------


def test_debug_connections_traces_what_is_added_removed_and_received(
    communicator: Communicator, log: Log
) -> None:
    communicator.debug_connections(logging.ERROR)
    near, far = memory_pair()
    communicator.add_connection(MessageConnection(near, Dispatcher(), name="link"))
    far.transmit(b"ALIVE secret=hidden\n")
    settle()
    far.close()
    settle()
    traced = [text for text in log.lines(level=logging.ERROR) if "waiting for" not in text]
    assert traced == [
        "link: added to communicator",
        "link: received <Message ALIVE secret>",
        "link: removed from communicator, left: none",
    ]
    assert levels(log, "waiting for") == {logging.ERROR}
    assert log.lines("hidden") == []


def test_debug_connections_ends(communicator: Communicator, log: Log) -> None:
    communicator.debug_connections()
    communicator.debug_connections(None)
    near, far = memory_pair()
    communicator.add_connection(MessageConnection(near, Dispatcher(), name="link"))
    far.transmit(b"ALIVE\n")
    far.close()
    settle()
    assert log.lines("received") == []
    assert log.lines("waiting for") == []
    assert log.lines("left:") == []


# --- what is alive --------------------------------------------------------------------------------


def test_leak_names_each_greenlet_with_its_connection_command_and_time(
    communicator: Communicator, clock: ManualClock, log: Log
) -> None:
    gate = Event()
    service = Dispatcher()
    service.on("WAIT")(lambda message, peer: gate.wait(PATIENCE))
    near, far = memory_pair()
    other_near, other_far = memory_pair()
    communicator.add_connection(MessageConnection(near, service, name="slow"))
    communicator.add_connection(MessageConnection(other_near, service, name="asker"))
    far.transmit(b"WAIT\n")
    settle()
    other_far.transmit(b"LEAK\n")
    settle()
    told = log.lines("communicator: ", logging.INFO)
    (waiting,) = [text for text in told if "greenlet: slow" in text]
    assert waiting.startswith("communicator: greenlet: slow, command WAIT, for 0.")
    assert waiting.endswith(" s")
    assert any("greenlet: asker, command LEAK" in text for text in told)
    assert sum("connection: <" in text for text in told) == 2
    (totals,) = [text for text in told if "descriptors" in text]
    assert totals.startswith("communicator: 2 connections, ")
    open_now = len(os.listdir("/proc/self/fd")) - 1
    assert f"{open_now} descriptors" in totals
    gate.set()
    for transport in (far, other_far):
        transport.close()
    settle()


def test_what_has_no_command_is_named_without_one(
    communicator: Communicator, clock: ManualClock, log: Log
) -> None:
    gate = Event()
    communicator.add_connection(Timer(1.0, lambda timer: gate.wait(PATIENCE), name="slow"))
    clock.advance(1.0)
    communicator.log_alive()
    assert log.lines("greenlet: slow, command -, for ")
    gate.set()
    settle()


@pytest.mark.parametrize("state", ["running", "stopping"])
def test_repr_tells_what_it_does(
    communicator: Communicator, clock: ManualClock, state: str
) -> None:
    gate = Event()
    communicator.add_connection(Timer(1.0, lambda timer: gate.wait(PATIENCE)))
    running = gevent.spawn(communicator.run)
    clock.advance(1.0)
    if state == "stopping":
        communicator.stop()
    assert repr(communicator) == f"<Communicator communicator {state}, 1 connections>"
    communicator.stop(0.0)
    assert running.get(timeout=PATIENCE) is True
    gate.set()
    settle()
