"""Several threads: calls into a communicator, one communicator each, and who may touch what."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event
from hub_ground import PATIENCE, Lines, Log, MakeLines

from edgevent import (
    Client,
    Communicator,
    Dispatcher,
    Message,
    Server,
    Timer,
    UsageError,
    WrongThreadError,
)
from edgevent.runtime.turns import Turns
from edgevent.testing.clock import settle


def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function in a thread of its own, with a hub of its own if it makes one."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            results.append(function(*arguments))
        except BaseException as error:
            errors.append(error)
        finally:
            gevent.get_hub().destroy(destroy_loop=True)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    if errors:
        raise errors[0]
    return results[0]


# --- call_threadsafe ------------------------------------------------------------------------------


def test_calls_from_threads_are_made_in_turns_in_their_order(communicator: Communicator) -> None:
    calls: list[tuple[int, int]] = []
    here = threading.get_ident()

    def note(thread: int, number: int) -> None:
        assert threading.get_ident() == here
        gevent.sleep(0)  # a turn may wait
        calls.append((thread, number))
        if len(calls) == 4 * 250:
            communicator.stop()

    def call(thread: int) -> None:
        for number in range(250):
            communicator.call_threadsafe(note, thread, number)

    communicator.every(1000.0, int)
    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    assert communicator.run() is True
    for thread in threads:
        thread.join()
    for number in range(4):
        assert [count for thread, count in calls if thread == number] == list(range(250))


def test_a_call_wakes_a_communicator_that_waits_for_nothing_else(lines: MakeLines) -> None:
    idle = lines()
    communicator = idle.communicator
    thread = threading.Thread(target=communicator.call_threadsafe, args=(communicator.stop,))
    communicator.call_threadsafe(thread.start)  # once it runs
    assert communicator.run() is True
    thread.join()


def test_a_call_before_run_is_made_when_it_runs(communicator: Communicator) -> None:
    communicator.every(1000.0, int)
    in_thread(communicator.call_threadsafe, communicator.stop)
    assert communicator.run() is True


def test_a_call_between_two_runs_is_made_in_the_second(communicator: Communicator) -> None:
    calls: list[str] = []
    assert communicator.run() is True
    communicator.call_threadsafe(calls.append, "late")
    settle()
    assert calls == []
    communicator.every(1000.0, int)
    communicator.call_threadsafe(communicator.stop)
    assert communicator.run() is True
    assert calls == ["late"]


def test_a_call_that_fails_is_logged(communicator: Communicator, log: Log) -> None:
    def fail() -> None:
        raise ValueError("on purpose")

    communicator.every(1000.0, int)
    communicator.call_threadsafe(fail)
    communicator.call_threadsafe(communicator.stop)
    assert communicator.run() is True
    (line,) = log.lines(" failed")
    assert line.startswith("call of ")
    assert line.endswith("fail failed")


def test_a_call_that_blocks_keeps_nobody_waiting(communicator: Communicator) -> None:
    gate, begun = Event(), Event()
    communicator.every(1000.0, int)
    running = gevent.spawn(communicator.run)
    communicator.call_threadsafe(lambda: (begun.set(), gate.wait(PATIENCE)))
    communicator.call_threadsafe(gate.set)
    assert gate.wait(PATIENCE)
    assert begun.is_set()
    communicator.stop()
    assert running.get(timeout=PATIENCE) is True


def test_a_call_after_close_is_never_made(communicator: Communicator) -> None:
    calls: list[str] = []
    communicator.close()
    communicator.call_threadsafe(calls.append, "never")
    settle()
    assert calls == []


# --- one in each thread ---------------------------------------------------------------------------


def test_each_thread_has_a_communicator_of_its_own() -> None:
    def serve(started: threading.Event, found: list[Any]) -> bool:
        service = Dispatcher()
        service.on("WHO")(lambda message, peer: message.reply("ME", {"id": threading.get_ident()}))
        with Communicator() as communicator:
            server = communicator.add_connection(Server("tcp://127.0.0.1:0", service))
            found += [communicator, server.addresses[0], threading.get_ident()]
            assert Turns.current() is communicator.turns
            started.set()
            return communicator.run()

    services = []
    for _ in range(3):
        started, found, results = threading.Event(), [], []
        thread = threading.Thread(
            target=lambda started, found, results: results.append(in_thread(serve, started, found)),
            args=(started, found, results),
        )
        thread.start()
        assert started.wait(PATIENCE)
        services.append((thread, found, results))
    assert len({id(found[0].turns) for _, found, _ in services}) == 3
    for thread, (communicator, address, ident), results in services:
        with Client(address) as client:
            assert client.request(Message("WHO")).integer("id") == ident
        communicator.call_threadsafe(communicator.stop)
        thread.join(PATIENCE)
        assert results == [True]


def test_instance_is_each_threads_own() -> None:
    mine = Communicator.instance()

    def theirs() -> bool:
        with Communicator.instance() as communicator:
            return communicator is Communicator.instance() and communicator is not mine

    assert in_thread(theirs) is True
    assert Communicator.instance() is mine
    mine.close()


# --- the wrong thread -----------------------------------------------------------------------------


USES: dict[str, Callable[[Communicator, Lines, Server], object]] = {
    "add_connection": lambda it, lines, server: it.add_connection(Timer(1.0)),
    "remove_connection": lambda it, lines, server: it.remove_connection(lines),
    "every": lambda it, lines, server: it.every(1.0, int),
    "after": lambda it, lines, server: it.after(1.0, int),
    "run": lambda it, lines, server: it.run(),
    "stop": lambda it, lines, server: it.stop(),
    "stop_on": lambda it, lines, server: it.stop_on("SIGTERM"),
    "close": lambda it, lines, server: it.close(),
    "write": lambda it, lines, server: lines.write(b"x"),
    "write_line": lambda it, lines, server: lines.write_line(b"x"),
    "receive": lambda it, lines, server: lines.receive(1.0),
    "enabled": lambda it, lines, server: setattr(lines, "enabled", False),
    "close a stream": lambda it, lines, server: lines.close(),
    "close a server": lambda it, lines, server: server.close(),
    "timeout_delay": lambda it, lines, server: setattr(lines, "timeout_delay", 1.0),
    "timeout_date": lambda it, lines, server: setattr(lines, "timeout_date", 1.0),
}


@pytest.mark.parametrize("use", USES)
def test_use_from_another_thread_is_refused(
    lines: MakeLines, communicator: Communicator, use: str
) -> None:
    connection = lines()
    server = communicator.add_connection(Server("tcp://127.0.0.1:0"))
    with pytest.raises(WrongThreadError, match="belongs to another thread; use call_threadsafe"):
        in_thread(USES[use], communicator, connection, server)
    connection.feed(b"x")
    settle()
    assert connection.lines == [b"x"]
    assert not server.is_closed
    assert communicator.connections == (connection, server)


def test_messages_are_not_sent_from_another_thread(communicator: Communicator) -> None:
    server = communicator.add_connection(Server("tcp://127.0.0.1:0"))
    with Client(server.addresses[0]) as client:
        for call in (
            lambda: client.send(Message("ALIVE")),
            lambda: client.request(Message("ALIVE")),
            lambda: client.receive(1.0),
            client.run,
            client.close,
        ):
            with pytest.raises(WrongThreadError):
                in_thread(call)
        assert client.request(Message("ALIVE"), reply="ABSOLUTELY")


def test_signals_are_caught_in_the_main_thread_only() -> None:
    def catch() -> None:
        with Communicator() as communicator:
            communicator.stop_on("SIGTERM")

    with pytest.raises(UsageError, match="signals can be caught in the main thread only"):
        in_thread(catch)
