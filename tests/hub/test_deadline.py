"""``deadline`` bounds every wait inside its block, and no other."""

from __future__ import annotations

import socket
from collections.abc import Callable

import gevent
import pytest
from gevent.event import Event
from hub_ground import PATIENCE, Lines, Log, MakeLines

from edgevent import (
    Client,
    Communicator,
    DeadlineError,
    EdgeventError,
    Message,
    RequestTimeout,
    Server,
    StreamConnection,
    deadline,
)
from edgevent.testing.clock import ManualClock, settle
from edgevent.transport.memory import memory_pair


def reached(clock: ManualClock, wait: Callable[[], object], limit: float = 3.0) -> BaseException:
    """Waits in a greenlet under a deadline, moves the clock, and returns what came out."""
    errors: list[BaseException] = []

    def block() -> None:
        try:
            with deadline(limit, clock=clock):
                wait()
        except EdgeventError as error:
            errors.append(error)

    waiting = gevent.spawn(block)
    settle()
    clock.advance(limit - 0.1)
    assert errors == []
    clock.advance(0.1)
    waiting.get(timeout=PATIENCE)
    return errors[0]


def test_a_wait_of_gevents_own_is_bounded(clock: ManualClock) -> None:
    error = reached(clock, Event().wait)
    assert isinstance(error, DeadlineError)
    assert isinstance(error, TimeoutError)
    assert str(error) == "the deadline of 3 s was reached"


def test_a_receive_is_bounded_and_can_go_on_afterwards(clock: ManualClock) -> None:
    near, far = memory_pair()
    connection = StreamConnection(near)
    assert isinstance(reached(clock, connection.receive), DeadlineError)
    far.transmit(b"late")
    assert connection.receive(PATIENCE) == b"late"
    connection.close()
    far.close()


def test_a_request_is_bounded_and_its_answer_is_dropped(
    communicator: Communicator, clock: ManualClock
) -> None:
    answers = Event()

    def answer(connection: object) -> None:
        for message in connection:  # type: ignore[attr-defined]
            answers.wait(PATIENCE)
            connection.send(message.reply("LATE"))  # type: ignore[attr-defined]

    server = communicator.add_connection(Server("tcp://127.0.0.1:0", answer))
    with Client(server.addresses[0], clock=clock) as client:
        error = reached(clock, lambda: client.request(Message("ASK"), timeout=PATIENCE))
        assert isinstance(error, DeadlineError)
        answers.set()
        settle()
        assert client.peek() is None
        assert client.request(Message("ASK")).command == "LATE"


def test_a_send_that_waits_for_room_is_bounded(clock: ManualClock) -> None:
    near, far = memory_pair(capacity=10)
    connection = StreamConnection(near, clock=clock)
    connection._outbox.slow_timeout = 1000.0  # type: ignore[union-attr]

    def fill() -> None:
        while True:
            connection.write(b"x" * 100_000)

    assert isinstance(reached(clock, fill), DeadlineError)
    connection.cut()
    far.close()


def test_run_is_bounded(communicator: Communicator, clock: ManualClock) -> None:
    communicator.every(1000.0, int)
    assert isinstance(reached(clock, communicator.run), DeadlineError)
    assert not communicator.is_running


def test_several_waits_share_one_deadline(clock: ManualClock) -> None:
    done: list[int] = []
    gates = [Event() for _ in range(3)]

    def wait() -> None:
        for number, gate in enumerate(gates):
            gate.wait()
            done.append(number)

    waiting = gevent.spawn(reached, clock, wait, 3.0)
    settle()
    gates[0].set()
    settle()
    assert isinstance(waiting.get(timeout=PATIENCE), DeadlineError)
    assert done == [0]


def test_a_block_that_ends_in_time_leaves_nothing_behind(clock: ManualClock) -> None:
    with deadline(3.0, clock=clock) as found:
        settle()
    assert (found.seconds, clock.alarms) == (3.0, [])
    clock.advance(10.0)


def test_an_error_of_the_block_is_its_own(clock: ManualClock) -> None:
    with pytest.raises(KeyError), deadline(3.0, clock=clock):
        raise KeyError
    assert clock.alarms == []


@pytest.mark.parametrize(("outer", "inner"), [(1.0, 5.0), (5.0, 1.0)])
def test_of_nested_ones_the_first_that_is_reached_raises(
    clock: ManualClock, outer: float, inner: float
) -> None:
    seen: list[str] = []

    def block() -> None:
        try:
            with deadline(outer, clock=clock):
                try:
                    with deadline(inner, clock=clock):
                        Event().wait()
                except DeadlineError as error:
                    seen.append(f"inner: {error}")
                    Event().wait()
        except DeadlineError as error:
            seen.append(f"outer: {error}")

    waiting = gevent.spawn(block)
    settle()
    clock.advance(1.0)
    assert seen == (
        ["inner: the deadline of 1 s was reached"]
        if inner < outer
        else ["outer: the deadline of 1 s was reached"]
    )
    clock.advance(4.0)
    waiting.get(timeout=PATIENCE)
    assert seen[-1] == f"outer: the deadline of {outer:g} s was reached"
    assert clock.alarms == []


def test_a_limit_of_the_call_itself_stays_what_it_is(clock: ManualClock) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    with listening, Client(f"tcp://127.0.0.1:{listening.getsockname()[1]}", clock=clock) as client:
        errors: list[BaseException] = []

        def ask() -> None:
            try:
                with deadline(5.0, clock=clock):
                    client.request(Message("ASK"), timeout=1.0)
            except EdgeventError as error:
                errors.append(error)

        asking = gevent.spawn(ask)
        settle()
        clock.advance(1.0)
        asking.get(timeout=PATIENCE)
        assert isinstance(errors[0], RequestTimeout)


def test_timeouts_of_gevent_pass_through(clock: ManualClock) -> None:
    with pytest.raises(gevent.Timeout), deadline(3.0, clock=clock), gevent.Timeout(0.001):
        Event().wait()
    assert clock.alarms == []


def test_except_exception_does_not_take_it(clock: ManualClock) -> None:
    def stubborn() -> None:
        while True:
            try:
                Event().wait()
            except Exception:
                continue

    assert isinstance(reached(clock, stubborn), DeadlineError)


def test_in_a_handler_it_is_a_failure_of_the_handler(
    lines: MakeLines, clock: ManualClock, log: Log
) -> None:
    def wait(connection: Lines, line: bytes) -> None:
        with deadline(3.0, clock=clock):
            Event().wait()

    connection = lines(wait)
    connection.feed(b"1")
    settle()
    clock.advance(3.0)
    assert connection.handler_errors == 1
    connection.feed(b"2")
    settle()
    assert connection.lines == [b"1", b"2"]
    clock.advance(3.0)


def test_it_may_be_used_again(clock: ManualClock) -> None:
    limit = deadline(3.0, clock=clock)
    for _ in range(2):
        with pytest.raises(DeadlineError), limit:
            clock.advance(3.0)


def test_on_the_systems_clock_it_waits_no_longer() -> None:
    with pytest.raises(DeadlineError), deadline(0.001):
        Event().wait(PATIENCE)


def test_no_time_at_all_ends_the_first_wait() -> None:
    with pytest.raises(DeadlineError), deadline(0.0):
        Event().wait(PATIENCE)
