"""What ``run`` waits for, and what it returns."""

from __future__ import annotations

import socket
import time

import gevent
from gevent.event import Event
from hub_ground import PATIENCE, Lines, Log, MakeLines

from edgevent import (
    Communicator,
    ReadyConnection,
    Server,
    Timer,
    UsageError,
)
from edgevent.testing.clock import ManualClock, settle


def test_run_with_nothing_returns_at_once(communicator: Communicator) -> None:
    assert communicator.run() is True
    assert not communicator.is_running


def test_run_returns_when_the_last_connection_is_gone(
    lines: MakeLines, communicator: Communicator
) -> None:
    connections = [lines(lambda connection, line: connection.close()) for _ in range(3)]
    running = gevent.spawn(communicator.run)
    for connection in connections:
        settle()
        assert communicator.is_running
        connection.feed(b"x")
    assert running.get(timeout=PATIENCE) is True
    assert not communicator.is_running


def test_run_returns_when_the_last_one_is_removed(communicator: Communicator) -> None:
    timer = communicator.every(1.0, int)
    running = gevent.spawn(communicator.run)
    settle()
    communicator.remove_connection(timer)
    assert running.get(timeout=PATIENCE) is True
    timer.close()


def test_what_does_not_keep_it_running_does_not(communicator: Communicator) -> None:
    keeper = communicator.after(10.0, int)
    communicator.every(1.0, int, keep_running=False)
    communicator.add_connection(Timer(1.0, keep_running=False))
    running = gevent.spawn(communicator.run)
    settle()
    assert communicator.is_running
    keeper.close()
    assert running.get(timeout=PATIENCE) is True
    assert len(communicator.connections) == 2


def test_signals_do_not_keep_it_running(communicator: Communicator) -> None:
    communicator.stop_on("SIGTERM", "SIGUSR1")
    assert communicator.run() is True


def test_run_inside_run_is_an_error(communicator: Communicator) -> None:
    errors: list[BaseException] = []

    def run_again() -> None:
        try:
            communicator.run()
        except UsageError as error:
            errors.append(error)

    communicator.after(1.0, run_again)
    running = gevent.spawn(communicator.run)
    settle()
    communicator.clock.advance(1.0)
    assert running.get(timeout=PATIENCE) is True
    assert str(errors[0]) == "communicator.run() was called inside run()"


def test_run_again_goes_on_with_what_is_left(
    communicator: Communicator, clock: ManualClock
) -> None:
    calls: list[float] = []
    communicator.every(10.0, lambda: calls.append(clock.now()))
    for expected in ([1010.0], [1010.0, 1020.0]):
        running = gevent.spawn(communicator.run)
        settle()
        clock.advance(10.0)
        running.kill()
        assert calls == expected
        assert not communicator.is_running


def test_a_timeout_around_run_leaves_it_usable(communicator: Communicator) -> None:
    communicator.every(1.0, int)
    with gevent.Timeout(0.01, False):
        communicator.run()
    assert not communicator.is_running
    communicator.stop()
    assert communicator.run() is True


# --- nothing can happen ---------------------------------------------------------------------------


def test_false_when_all_is_disabled(communicator: Communicator, log: Log) -> None:
    near, far = socket.socketpair()
    with near, far:
        timer, ready = Timer(1.0, name="clock"), ReadyConnection(near, name="ready")
        for connection in (timer, ready):
            connection.enabled = False
            communicator.add_connection(connection)
        assert communicator.run() is False
        assert log.lines("communicator: all is disabled, nothing can happen: clock, ready")
        ready.close()


def test_false_when_the_last_one_that_is_enabled_goes(
    lines: MakeLines, communicator: Communicator
) -> None:
    disabled = lines()
    disabled.enabled = False
    last = lines(lambda connection, line: connection.close())
    last.feed(b"x")
    assert communicator.run() is False
    assert last.is_closed
    assert communicator.connections == (disabled,)


def test_false_when_a_handler_disables_the_last_one(
    lines: MakeLines, communicator: Communicator
) -> None:
    def disable(connection: Lines, line: bytes) -> None:
        connection.enabled = False

    lines(disable).feed(b"x")
    assert communicator.run() is False


def test_it_goes_on_while_a_handler_of_a_disabled_connection_waits_for_something(
    lines: MakeLines, communicator: Communicator
) -> None:
    def sleep_and_enable(connection: Lines, line: bytes) -> None:
        connection.enabled = False
        gevent.sleep(0.001)
        connection.enabled = True
        connection.close()

    lines(sleep_and_enable).feed(b"x")
    assert communicator.run() is True


def test_it_goes_on_while_some_greenlet_of_the_program_can_enable(
    lines: MakeLines, communicator: Communicator
) -> None:
    connection = lines(lambda connection, line: connection.close())
    connection.enabled = False
    connection.feed(b"x")
    enabling = gevent.spawn_later(0.001, setattr, connection, "enabled", True)
    assert communicator.run() is True
    enabling.get()


def test_after_false_it_runs_again_when_something_is_enabled(
    lines: MakeLines, communicator: Communicator
) -> None:
    connection = lines(lambda connection, line: connection.close())
    connection.feed(b"x")
    connection.enabled = False
    assert communicator.run() is False
    connection.enabled = True
    assert communicator.run() is True


# --- several --------------------------------------------------------------------------------------


def test_several_communicators_share_a_thread(clock: ManualClock) -> None:
    order: list[str] = []
    with Communicator(clock=clock, name="a") as a, Communicator(clock=clock, name="b") as b:
        for communicator in (a, b):
            communicator.every(
                1.0, lambda communicator=communicator: order.append(communicator.name)
            )
        running = [gevent.spawn(communicator.run) for communicator in (a, b)]
        settle()
        clock.advance(1.0)
        a.stop()
        assert running[0].get(timeout=PATIENCE) is True
        assert b.is_running
        clock.advance(1.0)
        b.stop()
        assert running[1].get(timeout=PATIENCE) is True
    assert order == ["a", "b", "b"]


def test_a_communicator_may_run_inside_a_handler_of_another(clock: ManualClock) -> None:
    results: list[bool] = []
    with Communicator(clock=clock) as outer, Communicator(clock=clock) as inner:
        inner.after(2.0, int)
        outer.after(1.0, lambda: results.append(inner.run()))
        running = gevent.spawn(outer.run)
        settle()
        clock.advance(3.0)
        assert running.get(timeout=PATIENCE) is True
    assert results == [True]


def test_instance_is_the_one_of_this_thread() -> None:
    first = Communicator.instance()
    assert Communicator.instance() is first
    first.close()
    second = Communicator.instance()
    assert second is not first
    second.close()


# --- time -----------------------------------------------------------------------------------------


def test_idle_counts_the_time_without_work() -> None:
    began = time.monotonic()

    def burn() -> None:
        used = time.thread_time()
        while time.thread_time() - used < 0.05:
            pass

    with Communicator() as communicator:
        assert communicator.idle == 0.0
        communicator.after(0.02, burn)
        assert communicator.run() is True
        idle = communicator.idle
        assert 0.015 <= idle <= time.monotonic() - began - 0.045
        assert communicator.run() is True
        assert communicator.idle >= idle
        communicator.after(0.01, lambda: seen.append(communicator.idle))
        seen: list[float] = []
        communicator.run()
        assert seen[0] > idle


# --- what keeps a running program up --------------------------------------------------------------


def test_peers_keep_it_running_when_their_server_is_gone(communicator: Communicator) -> None:
    server = communicator.add_connection(Server("tcp://127.0.0.1:0"))
    with socket.create_connection(("127.0.0.1", server.port)) as peer:
        running = gevent.spawn(communicator.run)
        settle()
        server.close()
        peer.sendall(b"ALIVE\n")
        settle()
        assert communicator.is_running
        assert peer.recv(100).startswith(b"ABSOLUTELY")
    assert running.get(timeout=PATIENCE) is True


def test_a_blocked_handler_keeps_its_connection_and_so_the_run(
    lines: MakeLines, communicator: Communicator
) -> None:
    gate = Event()
    connection = lines(lambda connection, line: (gate.wait(PATIENCE), connection.close()))
    running = gevent.spawn(communicator.run)
    connection.feed(b"x")
    connection.far.shutdown(socket.SHUT_WR)
    settle()
    assert communicator.is_running
    gate.set()
    assert running.get(timeout=PATIENCE) is True
