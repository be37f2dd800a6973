"""A handler that blocks: nobody else waits, nothing of its own is lost or overtaken."""

from __future__ import annotations

import contextvars
import gc

import gevent
import pytest
from gevent.event import Event
from gevent.local import local
from hub_ground import PATIENCE, Lines, MakeLines

from edgevent import Communicator, Timer
from edgevent.limits import MAX_IDLE_WORKERS
from edgevent.runtime.turns import Turns, Worker
from edgevent.testing.clock import ManualClock, settle


def workers() -> list[Worker]:
    return [found for found in gc.get_objects() if isinstance(found, Worker) and found]


def test_others_are_served_while_a_handler_blocks(lines: MakeLines) -> None:
    gate = Event()
    blocked = lines(lambda connection, line: gate.wait(PATIENCE))
    others = [lines() for _ in range(3)]
    blocked.feed(b"1")
    settle()
    for other in others:
        other.feed(b"x")
    settle()
    assert [other.lines for other in others] == [[b"x"]] * 3
    gate.set()
    settle()


def test_the_rest_of_a_pass_is_served_when_one_of_it_blocks(lines: MakeLines) -> None:
    gate = Event()
    blocked = lines(lambda connection, line: gate.wait(PATIENCE), priority=0)
    others = [lines() for _ in range(3)]
    for connection in (blocked, *others):
        connection.feed(b"x")
    settle()
    assert [other.lines for other in others] == [[b"x"]] * 3
    assert not gate.is_set()
    gate.set()
    settle()


def test_later_events_of_a_blocked_connection_wait_in_order(lines: MakeLines) -> None:
    gate = Event()
    handled: list[bytes] = []

    def handle(connection: Lines, line: bytes) -> None:
        gate.wait(PATIENCE)
        handled.append(line)

    connection = lines(handle)
    for number in range(20):
        connection.feed(b"%d" % number)
        settle()
    assert connection.lines == [b"0"]
    gate.set()
    settle()
    assert handled == [b"%d" % number for number in range(20)]


def test_many_may_block_at_once_and_few_greenlets_are_kept(lines: MakeLines) -> None:
    gate = Event()
    connections = [lines(lambda connection, line: gate.wait(PATIENCE)) for _ in range(200)]
    before = len(workers())
    for connection in connections:
        connection.feed(b"x")
    settle()
    assert sum(worker.task is not None for worker in workers()) == 200
    gate.set()
    settle()
    assert all(len(connection.lines) == 1 for connection in connections)
    kept = workers()
    assert [worker for worker in kept if worker.task is not None] == []
    assert len(kept) <= max(MAX_IDLE_WORKERS, before)
    assert len(Turns.current().idle) <= MAX_IDLE_WORKERS


def test_idle_workers_are_used_again(lines: MakeLines) -> None:
    connection = lines()
    connection.feed(b"x")
    settle()
    before = set(workers())
    for _ in range(50):
        connection.feed(b"x")
        settle()
    assert set(workers()) == before


def test_a_timer_skips_the_calls_that_come_while_it_runs(
    communicator: Communicator, clock: ManualClock
) -> None:
    gate = Event()
    calls: list[float] = []

    def collect(timer: Timer) -> None:
        calls.append(clock.now())
        gate.wait(PATIENCE)

    communicator.add_connection(Timer(10.0, collect))
    clock.advance(35.0)
    assert calls == [1010.0]
    gate.set()
    settle()
    clock.advance(10.0)
    assert calls == [1010.0, 1040.0]


value: contextvars.ContextVar[str] = contextvars.ContextVar("value", default="none")
greenlet_local = local()


@pytest.mark.parametrize("blocks", [False, True])
def test_nothing_passes_from_one_turn_to_the_next(lines: MakeLines, blocks: bool) -> None:
    seen: list[tuple[str, str]] = []
    greenlets = set()

    def handle(connection: Lines, line: bytes) -> None:
        seen.append((value.get(), getattr(greenlet_local, "value", "none")))
        value.set(connection.name)
        greenlet_local.value = connection.name
        greenlets.add(gevent.getcurrent())
        if blocks:
            gevent.sleep(0)
        assert value.get() == connection.name
        assert greenlet_local.value == connection.name

    connections = [lines(handle) for _ in range(5)]
    for _ in range(4):
        for connection in connections:
            connection.feed(b"x")
            settle()
    assert seen == [("none", "none")] * 20
    assert len(greenlets) < 20  # workers were used again


def test_what_a_turn_sets_holds_for_the_next_message_of_that_turn_alone(lines: MakeLines) -> None:
    seen: list[str] = []

    def handle(connection: Lines, line: bytes) -> None:
        seen.append(value.get())
        value.set(line.decode())

    connection = lines(handle)
    connection.feed(b"a", b"b")
    settle()
    connection.feed(b"c")
    settle()
    assert seen == ["none", "a", "none"]
    assert value.get() == "none"
