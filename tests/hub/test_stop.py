"""What ``stop`` lets end, and for how long."""

from __future__ import annotations

import socket
import threading

import gevent
import pytest
from gevent.event import Event
from hub_ground import PATIENCE, Lines, Log, MakeLines

from edgevent import (
    Communicator,
    Connection,
    Message,
    MessageConnection,
    ReadyConnection,
    Server,
    Timer,
)
from edgevent.testing.clock import ManualClock, settle
from edgevent.transport.memory import memory_pair


def start(communicator: Communicator) -> gevent.Greenlet:
    running = gevent.spawn(communicator.run)
    settle()
    assert communicator.is_running
    return running


def test_stop_ends_run_at_once_when_nothing_is_to_be_ended(
    lines: MakeLines, communicator: Communicator, clock: ManualClock
) -> None:
    lines()
    communicator.every(1.0, int)
    communicator.add_connection(Server("tcp://127.0.0.1:0"))
    running = start(communicator)
    communicator.stop()
    assert running.get(timeout=PATIENCE) is True
    assert communicator.connections == ()
    assert clock.alarms == []


def test_a_second_stop_is_harmless(communicator: Communicator, log: Log) -> None:
    communicator.every(1.0, int)
    running = start(communicator)
    communicator.stop()
    communicator.stop()
    assert running.get(timeout=PATIENCE) is True
    assert len(log.lines("communicator: stopping")) == 1


def test_stop_before_run_ends_it_as_it_begins(communicator: Communicator) -> None:
    communicator.stop()
    communicator.every(1.0, int)
    assert communicator.run() is True
    assert communicator.connections == ()


def test_after_a_stop_it_runs_again(communicator: Communicator, clock: ManualClock) -> None:
    calls: list[float] = []
    for _ in range(2):
        communicator.every(1.0, lambda: (calls.append(clock.now()), communicator.stop()))
        running = start(communicator)
        clock.advance(1.0)
        assert running.get(timeout=PATIENCE) is True
        clock.advance(100.0)
    assert calls == [1001.0, 1102.0]


def test_stop_in_a_handler_lets_the_handler_end(
    lines: MakeLines, communicator: Communicator
) -> None:
    ended: list[bytes] = []

    def stop(connection: Lines, line: bytes) -> None:
        communicator.stop()
        gevent.sleep(0)
        connection.write(b"good-bye")
        ended.append(line)

    connection = lines(stop)
    running = start(communicator)
    connection.feed(b"1")
    assert running.get(timeout=PATIENCE) is True
    assert ended == [b"1"]
    assert connection.far.recv(100) == b"good-bye"


def test_what_was_received_is_handled_and_nothing_more_is_read(
    lines: MakeLines, communicator: Communicator
) -> None:
    gate = Event()
    handled: list[bytes] = []

    def handle(connection: Lines, line: bytes) -> None:
        gate.wait(PATIENCE)
        handled.append(line)

    connection = lines(handle)
    running = start(communicator)
    connection.feed(b"1", b"2", b"3")
    settle()
    communicator.stop()
    connection.feed(b"too late")
    settle()
    assert communicator.is_running
    gate.set()
    assert running.get(timeout=PATIENCE) is True
    assert handled == [b"1", b"2", b"3"]


def test_a_listener_closes_at_once(communicator: Communicator) -> None:
    gate = Event()
    server = communicator.add_connection(
        Server("tcp://127.0.0.1:0", lambda connection: gate.wait(PATIENCE))
    )
    port = server.port
    with socket.create_connection(("127.0.0.1", port)):
        running = start(communicator)
        communicator.stop()
        assert server.is_closed
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        settle()
        assert communicator.is_running
        gate.set()
        assert running.get(timeout=PATIENCE) is True


def test_a_listener_closes_at_once_while_its_own_hook_blocks(communicator: Communicator) -> None:
    gate = Event()

    class Slow(Server):
        def process_accept(self, connection: object) -> None:
            gate.wait(PATIENCE)

    server = communicator.add_connection(Slow("tcp://127.0.0.1:0"))
    port = server.port
    with socket.create_connection(("127.0.0.1", port)) as peer:
        running = start(communicator)
        communicator.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        gate.set()
        assert running.get(timeout=PATIENCE) is True
        settle()
        assert communicator.connections == ()
        assert peer.recv(10) == b""


def test_what_was_sent_leaves_before_the_connection_closes(communicator: Communicator) -> None:
    near, far = memory_pair(capacity=1000)
    connection = communicator.add_connection(MessageConnection(near))
    running = start(communicator)
    for number in range(100):
        connection.send(Message("NEWS", {"text": f"{number:0100}"}))
    communicator.stop()
    settle()
    assert communicator.is_running
    received = bytearray()
    while chunk := read(far):
        received += chunk
        settle()
    assert received.count(b"\n") == 100
    assert received.endswith(b"99\n")
    assert running.get(timeout=PATIENCE) is True
    far.close()


def read(transport: object) -> bytes:
    return transport.receive(10_000)  # type: ignore[attr-defined,no-any-return]


def test_answers_to_what_was_received_leave_too(communicator: Communicator) -> None:
    server = communicator.add_connection(Server("tcp://127.0.0.1:0"))
    with socket.create_connection(("127.0.0.1", server.port)) as peer:
        running = start(communicator)
        peer.sendall(b"ALIVE serial=1\nALIVE serial=2\nSTOP\nALIVE serial=3\n")
        assert running.get(timeout=PATIENCE) is True
        peer.settimeout(PATIENCE)
        answers = b"".join(iter(lambda: peer.recv(1000), b"")).splitlines()
    assert [line.split(b"serial=")[1] for line in answers] == [b"1", b"2", b"3"]


# --- the limit ------------------------------------------------------------------------------------


def test_the_limit_cuts_a_handler_that_blocks(
    lines: MakeLines, communicator: Communicator, clock: ManualClock, log: Log
) -> None:
    gate = Event()
    ended: list[bytes] = []

    def block(connection: Lines, line: bytes) -> None:
        gate.wait(PATIENCE)
        ended.append(line)

    connection = lines(block, name="slow")
    running = start(communicator)
    connection.feed(b"1", b"2")
    settle()
    communicator.stop(3.0)
    clock.advance(2.9)
    assert communicator.is_running
    clock.advance(0.1)
    assert running.get(timeout=PATIENCE) is True
    assert connection.is_closed
    assert log.lines("slow: closed, it did not end in time")
    gate.set()
    settle()
    assert ended == [b"1"]


def test_one_that_does_not_end_is_named_after_five_seconds(
    lines: MakeLines, communicator: Communicator, clock: ManualClock, log: Log
) -> None:
    gate = Event()
    connection = lines(lambda connection, line: gate.wait(PATIENCE), name="slow")
    lines(name="quick")
    running = start(communicator)
    connection.feed(b"1")
    settle()
    communicator.stop(20.0)
    clock.advance(4.9)
    assert log.lines("still there") == []
    clock.advance(0.1)
    assert log.lines("still there") == ["slow: still there after stop()"]
    gate.set()
    assert running.get(timeout=PATIENCE) is True
    assert clock.alarms == []


def test_a_peer_that_reads_nothing_is_cut_at_the_limit(
    communicator: Communicator, clock: ManualClock
) -> None:
    near, far = memory_pair(capacity=10)
    connection = communicator.add_connection(MessageConnection(near))
    running = start(communicator)
    connection.send(Message("NEWS", {"text": "x" * 1000}))
    communicator.stop(3.0)
    clock.advance(3.0)
    assert running.get(timeout=PATIENCE) is True
    assert communicator.connections == ()
    far.close()


def test_no_time_at_all_cuts_at_once(lines: MakeLines, communicator: Communicator) -> None:
    gate = Event()
    connection = lines(lambda connection, line: gate.wait(PATIENCE))
    running = start(communicator)
    connection.feed(b"1")
    settle()
    communicator.stop(0.0)
    assert communicator.connections == ()
    assert running.get(timeout=PATIENCE) is True
    gate.set()
    settle()


def test_a_second_stop_may_shorten_the_limit(
    lines: MakeLines, communicator: Communicator, clock: ManualClock
) -> None:
    gate = Event()
    connection = lines(lambda connection, line: gate.wait(PATIENCE))
    running = start(communicator)
    connection.feed(b"1")
    settle()
    communicator.stop(100.0)
    communicator.stop(1.0)
    clock.advance(1.0)
    assert running.get(timeout=PATIENCE) is True
    assert clock.alarms == []
    gate.set()
    settle()


def test_the_communicators_own_limit_holds_when_stop_names_none(
    lines: MakeLines, clock: ManualClock
) -> None:
    gate = Event()
    with Communicator(clock=clock, drain_timeout=7.0) as communicator:
        connection = communicator.add_connection(Lines(lambda *_: gate.wait(PATIENCE)))
        running = start(communicator)
        connection.feed(b"1")
        settle()
        communicator.stop()
        clock.advance(6.9)
        assert communicator.is_running
        clock.advance(0.1)
        assert running.get(timeout=PATIENCE) is True
        gate.set()
        settle()
        connection.far.close()


# --- turns of other kinds -------------------------------------------------------------------------


def test_the_function_of_a_timer_ends_before_run_does(
    communicator: Communicator, clock: ManualClock
) -> None:
    gate = Event()
    ended: list[str] = []

    def collect() -> None:
        gate.wait(PATIENCE)
        ended.append("collected")

    communicator.every(1.0, collect)
    running = start(communicator)
    clock.advance(1.0)
    communicator.stop()
    settle()
    assert communicator.is_running
    assert clock.alarms == [5.0, 5.0]  # those of stop: the timer itself has none any more
    gate.set()
    assert running.get(timeout=PATIENCE) is True
    assert ended == ["collected"]


def test_a_call_from_a_thread_ends_before_run_does(communicator: Communicator) -> None:
    gate, begun = Event(), Event()
    ended: list[str] = []

    def work() -> None:
        begun.set()
        gate.wait(PATIENCE)
        ended.append("worked")

    communicator.every(1.0, int)
    running = start(communicator)
    thread = threading.Thread(target=communicator.call_threadsafe, args=(work,))
    thread.start()
    assert begun.wait(PATIENCE)
    thread.join()
    communicator.stop()
    settle()
    assert communicator.is_running
    gate.set()
    assert running.get(timeout=PATIENCE) is True
    assert ended == ["worked"]


def test_the_hook_of_a_ready_connection_ends_before_run_does(communicator: Communicator) -> None:
    gate = Event()
    near, far = socket.socketpair()
    ended: list[bytes] = []

    class Reader(ReadyConnection):
        def process_read(self) -> None:
            data = near.recv(100)
            gate.wait(PATIENCE)
            ended.append(data)

    with near, far:
        communicator.add_connection(Reader(near))
        running = start(communicator)
        far.sendall(b"1")
        settle()
        far.sendall(b"2")
        communicator.stop()
        settle()
        assert communicator.is_running
        gate.set()
        assert running.get(timeout=PATIENCE) is True
    assert ended == [b"1"]


def test_what_is_added_while_it_stops_ends_too(
    lines: MakeLines, communicator: Communicator
) -> None:
    gate = Event()
    connection = lines(lambda connection, line: gate.wait(PATIENCE))
    running = start(communicator)
    connection.feed(b"x")
    settle()
    communicator.stop()
    late = communicator.add_connection(Timer(1.0))
    assert late.is_closed
    gate.set()
    assert running.get(timeout=PATIENCE) is True


def test_one_whose_end_fails_is_cut_at_the_limit(
    communicator: Communicator, clock: ManualClock, log: Log
) -> None:
    class Broken(Connection):
        def drain(self) -> bool:
            raise OSError("cannot")

    broken = communicator.add_connection(Broken(name="broken"))
    other = communicator.every(1.0, int)
    running = start(communicator)
    communicator.stop(1.0)
    assert other.is_closed
    clock.advance(1.0)
    assert running.get(timeout=PATIENCE) is True
    assert broken.is_closed
    assert log.lines("broken: ")


def test_closing_ends_run(lines: MakeLines) -> None:
    with Communicator() as communicator:
        communicator.every(1.0, int)
        running = start(communicator)
    assert running.get(timeout=PATIENCE) is True


def test_a_handler_may_close_its_communicator(lines: MakeLines, communicator: Communicator) -> None:
    connection = lines(lambda connection, line: communicator.close())
    running = start(communicator)
    connection.feed(b"x")
    assert running.get(timeout=PATIENCE) is True
    assert connection.is_closed
