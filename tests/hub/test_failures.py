"""What hooks and handlers raise: logged, counted, and nobody else is touched."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from greenlet import GreenletExit
from hub_ground import PATIENCE, Lines, Log, MakeLines

from edgevent import (
    Client,
    Communicator,
    Connection,
    Dispatcher,
    LineConnection,
    Message,
    MessageConnection,
    PermanentConnection,
    ReadyConnection,
    RemoteError,
    Server,
    StreamConnection,
    Timer,
    UsageError,
)
from edgevent.runtime.turns import Turns
from edgevent.testing.clock import ManualClock, settle
from edgevent.transport.memory import memory_pair

TIMES = 1000
ADDRESS = f"unix:@edgevent-failures-{os.getpid()}"


def fail(*arguments: object) -> Any:
    raise ValueError("on purpose")


# --- every hook, a thousand times -----------------------------------------------------------------
#
# Each case makes a connection whose one hook fails, and something that has it called once.

Case = Callable[[Communicator, ManualClock], tuple[Connection, Callable[[], object]]]


def failing(base: type, hook: str, *arguments: Any, **settings: Any) -> Any:
    return type(f"Failing{base.__name__}", (base,), {hook: fail})(*arguments, **settings)


def timeout(communicator: Communicator, clock: ManualClock) -> Any:
    timer = failing(Timer, "process_timeout", 1.0)
    return communicator.add_connection(timer), lambda: clock.advance(1.0)


def over_memory(base: type, hook: str, data: bytes) -> Case:
    def case(communicator: Communicator, clock: ManualClock) -> Any:
        near, far = memory_pair()
        connection = communicator.add_connection(failing(base, hook, near))

        def call() -> None:
            far.transmit(data)
            settle()

        return connection, call

    return case


def empty_buffer(communicator: Communicator, clock: ManualClock) -> Any:
    near, far = memory_pair(capacity=10)
    connection = communicator.add_connection(
        failing(StreamConnection, "process_empty_buffer", near)
    )

    def call() -> None:
        connection.write(b"x" * 15)
        far.receive(10)
        settle()
        far.receive(10)
        settle()

    return connection, call


def ready(what: str) -> Case:
    def case(communicator: Communicator, clock: ManualClock) -> Any:
        near, far = socket.socketpair()
        far.sendall(b"x")  # nobody reads it: it is ready for good

        def disable_and_fail(connection: Connection) -> None:
            connection.enabled = False
            fail()

        base = type("Failing", (ReadyConnection,), {f"process_{what}": disable_and_fail})
        connection = base(near, read=what == "read", write=what == "write")
        connection.hold = (near, far)
        connection.enabled = False
        communicator.add_connection(connection)

        def call() -> None:
            connection.enabled = True
            settle()

        return connection, call

    return case


def one_after_another(
    base: type, hook: str, act: Callable[[socket.socket], object] = lambda peer: None
) -> Case:
    """For hooks that are called once in the life of a connection: the server has one a call."""

    def case(communicator: Communicator, clock: ManualClock) -> Any:
        made: list[Connection] = []

        class Failing(base):  # type: ignore[misc]
            def __init__(self, *arguments: Any, **settings: Any) -> None:
                super().__init__(*arguments, **settings)
                made.append(self)

        setattr(Failing, hook, fail)
        server = communicator.add_connection(Server(ADDRESS, Failing))

        class Sum:
            @property
            def handler_errors(self) -> int:
                return sum(one.handler_errors for one in made)

            def close(self) -> None:
                server.close()

        def call() -> None:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(f"\0{ADDRESS[6:]}")
                settle()
                act(peer)
            settle()

        return Sum(), call

    return case


def accept(communicator: Communicator, clock: ManualClock) -> Any:
    server = failing(Server, "process_accept", ADDRESS)
    communicator.add_connection(server)

    def call() -> None:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(f"\0{ADDRESS[6:]}")
            settle()
        settle()

    return server, call


def membership(hook: str) -> Case:
    def case(communicator: Communicator, clock: ManualClock) -> Any:
        connection = failing(Connection, hook)

        def call() -> None:
            communicator.add_connection(connection)
            communicator.remove_connection(connection)

        return connection, call

    return case


def permanent_failed(communicator: Communicator, clock: ManualClock) -> Any:
    link = failing(
        PermanentConnection,
        "process_connection_failed",
        f"{ADDRESS}-nobody",
        pauses="1",
    )
    communicator.add_connection(link)
    communicator.remove_connection(link)

    def call() -> None:
        communicator.add_connection(link)
        settle()
        communicator.remove_connection(link)

    return link, call


def permanent_up_and_down(hook: str) -> Case:
    def case(communicator: Communicator, clock: ManualClock) -> Any:
        server = communicator.add_connection(Server(ADDRESS))
        link = failing(PermanentConnection, hook, ADDRESS, pauses="1")
        communicator.add_connection(link)

        def call() -> None:
            settle()
            for peer in server.peers:
                peer.close()
            settle()
            clock.advance(2.0)

        return link, call

    return case


HOOKS: dict[str, Case] = {
    "process_timeout": timeout,
    "process_read": over_memory(StreamConnection, "process_read", b"x"),
    "process_line": over_memory(LineConnection, "process_line", b"x\n"),
    "process_message": over_memory(MessageConnection, "process_message", b"UNHEARD\n"),
    "process_empty_buffer": empty_buffer,
    "ready: process_read": ready("read"),
    "ready: process_write": ready("write"),
    "process_connected": one_after_another(MessageConnection, "process_connected"),
    "process_hup": one_after_another(StreamConnection, "process_hup"),
    "process_error": one_after_another(
        MessageConnection, "process_error", lambda peer: peer.sendall(b"\0 bad\n" * 10)
    ),
    "process_accept": accept,
    "connection_added": membership("connection_added"),
    "connection_removed": membership("connection_removed"),
    "process_connection_failed": permanent_failed,
    "permanent: process_connected": permanent_up_and_down("process_connected"),
    "process_disconnected": permanent_up_and_down("process_disconnected"),
}


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_may_fail_a_thousand_times(
    hook: str, lines: MakeLines, communicator: Communicator, clock: ManualClock, log: Log
) -> None:
    connection, call = HOOKS[hook](communicator, clock)
    other = lines()
    for _ in range(TIMES):
        call()
    assert connection.handler_errors >= TIMES
    failed = log.lines(" failed, id=")
    assert len(failed) == connection.handler_errors
    assert len(set(failed)) == len(failed)  # each has an id of its own
    other.feed(b"x")
    settle()
    assert other.lines == [b"x"]
    connection.close()
    for held in getattr(connection, "hold", ()):
        held.close()
    settle()


# --- a message's handler --------------------------------------------------------------------------


def test_a_handler_that_fails_answers_with_the_id_of_its_traceback(
    communicator: Communicator, log: Log
) -> None:
    service = Dispatcher()
    service.on("BREAK")(lambda message, peer: fail())
    server = communicator.add_connection(Server("tcp://127.0.0.1:0", service))
    with Client(server.addresses[0]) as client:
        ids = set()
        for _ in range(TIMES):
            with pytest.raises(RemoteError) as caught:
                client.request(Message("BREAK"))
            ids.add(caught.value.id)
        assert len(ids) == TIMES
        assert all(log.lines(f"failed, id={id}") for id in list(ids)[:20])
        assert client.request(Message("ALIVE"), reply="ABSOLUTELY").command == "ABSOLUTELY"
        assert server.peers[0].handler_errors == TIMES
    traceback = next(record for record in log.records if record.exc_info)
    assert traceback.exc_info is not None
    assert traceback.exc_info[0] is ValueError


def test_a_gevent_timeout_is_a_failure_like_others(lines: MakeLines, log: Log) -> None:
    def wait(connection: Lines, line: bytes) -> None:
        with gevent.Timeout(0.001):
            gevent.sleep(PATIENCE)

    connection = lines(wait)
    connection.feed(b"1", b"2")
    with gevent.Timeout(PATIENCE):
        while connection.handler_errors < 2:
            gevent.sleep(0)
    assert len(log.lines("Lines.process_line failed")) == 2
    assert not connection.is_closed


def test_a_greenlet_exit_ends_the_turn_and_nothing_else(lines: MakeLines, log: Log) -> None:
    def leave(connection: Lines, line: bytes) -> None:
        if line == b"leave":
            raise GreenletExit

    connection, other = lines(leave), lines()
    connection.feed(b"leave", b"1")
    other.feed(b"x")
    settle()
    connection.feed(b"2")
    settle()
    assert connection.lines == [b"leave", b"1", b"2"]
    assert other.lines == [b"x"]
    assert (connection.handler_errors, log.lines("failed")) == (0, [])


def test_a_killed_handler_gives_its_connection_back(lines: MakeLines) -> None:
    waiting: list[gevent.greenlet.greenlet] = []

    def block(connection: Lines, line: bytes) -> None:
        if line == b"block":
            waiting.append(gevent.getcurrent())
            gevent.sleep(PATIENCE)

    connection = lines(block)
    connection.feed(b"block", b"1")
    settle()
    gevent.get_hub().loop.run_callback(waiting[0].throw, GreenletExit)
    settle()
    assert connection.lines == [b"block", b"1"]


# --- on_handler_error -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "lines_seen", "closed", "stopped"),
    [("log", 2, False, False), ("close", 1, True, False), ("stop", 2, True, True)],
)
def test_the_policy_says_what_follows(
    lines: MakeLines,
    communicator: Communicator,
    policy: Any,
    lines_seen: int,
    closed: bool,
    stopped: bool,
) -> None:
    connection = lines(fail)
    connection.on_handler_error = policy
    other = lines()
    running = gevent.spawn(communicator.run)
    connection.feed(b"1", b"2")
    settle()
    assert connection.handler_errors == lines_seen
    assert connection.is_closed is closed
    assert other.is_closed is stopped
    if stopped:
        assert running.get(timeout=PATIENCE) is True
    else:
        assert communicator.is_running
        running.kill()


# --- failures of the package itself ---------------------------------------------------------------


def test_an_internal_failure_ends_run_with_that_error(
    lines: MakeLines, communicator: Communicator, log: Log
) -> None:
    class Faulty(LineConnection):
        def process_unit(self, unit: object) -> None:
            raise ZeroDivisionError("a mistake in the package")

    near, far = memory_pair()
    faulty = communicator.add_connection(Faulty(near))
    running = gevent.spawn(communicator.run)
    far.transmit(b"x\n")
    with pytest.raises(ZeroDivisionError, match="a mistake in the package"):
        running.get(timeout=PATIENCE)
    assert log.lines("internal failure")
    faulty.close()
    far.close()


def test_an_internal_failure_before_run_is_raised_by_it(communicator: Communicator) -> None:
    communicator.every(1.0, int)
    Turns.current().failed(ZeroDivisionError("early"))
    with pytest.raises(ZeroDivisionError, match="early"):
        communicator.run()
    communicator.stop()
    assert communicator.run() is True


def test_an_internal_failure_ends_every_run_of_the_thread(clock: ManualClock) -> None:
    with Communicator(clock=clock) as a, Communicator(clock=clock) as b:
        running = []
        for communicator in (a, b):
            communicator.every(1.0, int)
            running.append(gevent.spawn(communicator.run))
        settle()
        Turns.current().failed(ZeroDivisionError())
        for one in running:
            with pytest.raises(ZeroDivisionError):
                one.get(timeout=PATIENCE)


def test_a_failure_in_a_hub_callback_is_one_too(
    communicator: Communicator, clock: ManualClock
) -> None:
    class Faulty(Connection):
        def _mark_due(self, what: int) -> None:
            raise ZeroDivisionError

    for setting in ({"timeout_delay": 1.0}, {"timeout_date": clock.date()}):
        faulty = communicator.add_connection(Faulty())
        for name, value in setting.items():
            setattr(faulty, name, value)
        running = gevent.spawn(communicator.run)
        clock.advance(1.0)
        with pytest.raises(ZeroDivisionError):
            running.get(timeout=PATIENCE)
        faulty.close()


def test_a_failure_at_the_limit_of_stop_is_one_too(
    communicator: Communicator, clock: ManualClock
) -> None:
    class Faulty(Connection):
        failed = False

        def drain(self) -> bool:
            return False

        def cut(self) -> None:
            if not self.failed:
                self.failed = True
                raise ZeroDivisionError
            super().cut()

    communicator.add_connection(Faulty())
    running = gevent.spawn(communicator.run)
    settle()
    communicator.stop(1.0)
    clock.advance(1.0)
    with pytest.raises(ZeroDivisionError):
        running.get(timeout=PATIENCE)


def test_a_transport_that_breaks_its_promise_ends_run(communicator: Communicator) -> None:
    near, far = memory_pair()

    class Broken:
        receive = staticmethod(fail)

        def __getattr__(self, name: str) -> Any:
            return getattr(near, name)

    connection = communicator.add_connection(StreamConnection(Broken()))
    running = gevent.spawn(communicator.run)
    far.transmit(b"x")
    with pytest.raises(ValueError, match="on purpose"):
        running.get(timeout=PATIENCE)
    connection.close()
    far.close()


def test_an_interrupt_while_the_hub_reads_reaches_the_main_greenlet(
    communicator: Communicator, caplog: pytest.LogCaptureFixture
) -> None:
    near, far = memory_pair()
    interrupts = [KeyboardInterrupt()]

    class Interrupted:
        def receive(self, size: int) -> bytes:
            if interrupts:
                raise interrupts.pop()
            return near.receive(size)

        def __getattr__(self, name: str) -> Any:
            return getattr(near, name)

    read: list[bytes] = []

    class Reader(StreamConnection):
        def process_read(self, data: bytes) -> None:
            read.append(data)
            self.close()

    communicator.add_connection(Reader(Interrupted()))
    far.transmit(b"x")
    with pytest.raises(KeyboardInterrupt):
        communicator.run()
    assert communicator.run()  # it lives on, and what had come is still there
    assert read == [b"x"]
    assert "internal failure" not in caplog.text
    far.close()


def test_what_may_not_wait_is_refused_in_the_hub(communicator: Communicator) -> None:
    errors: list[BaseException] = []

    def call() -> None:
        try:
            communicator.run()
        except UsageError as error:
            errors.append(error)

    gevent.get_hub().loop.run_callback(call)
    settle()
    assert str(errors[0]) == "a call that may block was made in the hub itself"
