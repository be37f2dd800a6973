"""Requests: no answer in time, the end of the connection, and callers that leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from asking import asking, fill, result
from gevent.event import AsyncResult
from network_ground import PATIENCE, Ground, MovedClock, until
from scripted_peer import ScriptedPeer

from edgevent import (
    Client,
    ClosedError,
    ConnectionLostError,
    DeadlineError,
    Dispatcher,
    EdgeventError,
    Message,
    RequestTimeout,
    deadline,
    limits,
)

# --- no answer in time ----------------------------------------------------------------------------


def test_each_request_has_its_own_limit(
    client: Client, peer: ScriptedPeer, clock: MovedClock
) -> None:
    long, short = asking(client, "LONG", timeout=9.0), asking(client, "SHORT", timeout=2.5)
    serial = peer.expect()["serial"]
    peer.read_line()
    clock.advance(2.5)
    assert result(short) == f"RequestTimeout: {client.name}: no answer to SHORT within 2.5 s"
    clock.advance(6.0)
    peer.send(f"IS serial={serial}")
    assert result(long) == f"IS serial={serial}"
    clock.advance(60.0)
    assert clock.pending == 0


def test_a_late_answer_is_dropped_and_counted(
    client: Client, peer: ScriptedPeer, clock: MovedClock
) -> None:
    first = asking(client, "ASK", "IS")
    serial = peer.expect()["serial"]
    clock.advance(10.0)
    with pytest.raises(RequestTimeout):
        first.get(timeout=PATIENCE)
    second = asking(client, "ASK", "IS")
    own = peer.expect()["serial"]
    peer.send(f"IS n=1;serial={serial}", f"IS n=2;serial={own}", f"IS n=3;serial={own}", "IS n=4")
    assert result(second) == f"IS n=2;serial={own}"
    assert str(client.receive()) == "IS n=4"
    assert client.late_answers == 2


def test_a_late_answer_to_a_serial_of_the_callers_is_dropped(
    client: Client, peer: ScriptedPeer, clock: MovedClock
) -> None:
    first = gevent.spawn(client.request, Message("ASK", {"serial": "x"}))
    peer.read_line()
    clock.advance(10.0)
    assert "RequestTimeout" in result(first)
    peer.send("IS n=1;serial=x", "IS n=2;serial=x")
    assert str(client.receive()) == "IS n=2;serial=x"
    assert client.late_answers == 1


@pytest.mark.parametrize("serial", [True, False])
@pytest.mark.parametrize("late", ["IS n=1", "UNKNOWN command=ASK"])
def test_a_late_answer_without_a_serial_is_not_taken_for_the_next(
    client: Client, peer: ScriptedPeer, clock: MovedClock, serial: bool, late: str
) -> None:
    for n in range(3):
        first = asking(client, "ASK", "IS", serial=serial)
        peer.read_line()
        clock.advance(10.0)
        assert "RequestTimeout" in result(first)
        second = asking(client, "ASK", "IS", serial=serial)
        peer.read_line()
        peer.send(late, "IS n=2")
        assert result(second) == "IS n=2"
        assert client.late_answers == n + 1


def test_what_an_older_request_waits_for_is_not_late(
    client: Client, peer: ScriptedPeer, clock: MovedClock
) -> None:
    old = asking(client, "ASK", "IS", serial=False, timeout=20.0)
    young = asking(client, "ASK", "IS", serial=False, timeout=5.0)
    peer.read_line()
    peer.read_line()
    clock.advance(5.0)
    assert "RequestTimeout" in result(young)
    peer.send("IS n=1", "IS n=2", "IS n=3")
    assert result(old) == "IS n=1"
    assert str(client.receive()) == "IS n=3"


def test_peers_that_copy_serials_may_send_the_same_command_unasked(
    client: Client, peer: ScriptedPeer, clock: MovedClock
) -> None:
    first = asking(client, "ASK", "IS")
    peer.send(peer.expect().reply("IS"))
    result(first)
    second = asking(client, "ASK", "IS")
    peer.read_line()
    clock.advance(10.0)
    result(second)
    peer.send("IS unasked=1")
    assert str(client.receive()) == "IS unasked=1"


def test_the_marks_of_late_answers_are_bounded_in_time(
    client: Client, peer: ScriptedPeer, clock: MovedClock
) -> None:
    first = asking(client, "ASK", "IS", serial=False)
    peer.read_line()
    clock.advance(10.0)
    result(first)
    clock.advance(limits.LATE_ANSWER_TIMEOUT)
    peer.send("IS n=1")
    assert str(client.receive()) == "IS n=1"


def test_the_marks_of_late_answers_are_bounded_in_number(
    client: Client, peer: ScriptedPeer, clock: MovedClock
) -> None:
    count = limits.LATE_ANSWERS + 6
    callers = [asking(client, f"ASK{n}", f"IS{n}", serial=False) for n in range(count)]
    for _ in callers:
        peer.read_line()
    clock.advance(10.0)
    gevent.joinall(callers, timeout=PATIENCE)
    peer.send(*(f"IS{n}" for n in range(count)), "END")
    assert [client.receive().command for _ in range(7)] == [f"IS{n}" for n in range(6)] + ["END"]
    assert client.late_answers == limits.LATE_ANSWERS


def test_an_answer_that_never_comes_does_not_shift_all_others_for_ever(
    client: Client, peer: ScriptedPeer, clock: MovedClock
) -> None:
    lost = asking(client, "ASK", "IS", serial=False)
    peer.read_line()
    clock.advance(10.0)
    result(lost)
    for asked in range(1, 20):  # each answer is taken for the late one of the request before
        caller = asking(client, "ASK", "IS", serial=False)
        peer.read_line()
        peer.send(f"IS n={asked}")
        until(lambda caller=caller, asked=asked: caller.ready() or client.late_answers == asked)
        clock.advance(10.0)
        if result(caller) == f"IS n={asked}":
            break
    assert asked * 10.0 <= limits.LATE_ANSWER_TIMEOUT + 10.0


def test_the_limit_holds_while_the_request_waits_for_room(
    client: Client, peer: ScriptedPeer, clock: MovedClock
) -> None:
    fill(client)
    waiting = asking(client, "ASK", timeout=3.0)
    also = asking(client, "ASK", "IS", timeout=6.0, serial=False)
    until(lambda: waiting.started and clock.pending >= 2)
    clock.advance(3.0)
    assert result(waiting) == (f"RequestTimeout: {client.name}: ASK could not be sent within 3 s")
    while not (line := peer.read_line()).startswith("ASK"):
        assert line.startswith("FILL")
    assert line == "ASK"  # what ran out of time was never sent
    peer.send("IS")
    assert result(also) == "IS"
    client.cut()


# --- the end of the connection --------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_that_ends_ends_its_requests(
    client: Client, peer: ScriptedPeer, reset: bool
) -> None:
    callers = [asking(client, f"ASK{n}", "IS") for n in range(3)]
    for _ in callers:
        peer.read_line()
    (peer.cut if reset else peer.close)()
    errors = [caller.get(block=True, timeout=PATIENCE) for caller in map(caught, callers)]
    assert {type(error) for error in errors} == {ConnectionLostError}
    assert len(set(map(id, errors))) == 3
    with pytest.raises(ConnectionLostError):
        client.request(Message("ASK"))


def caught(greenlet: Any) -> Any:
    """The error of a greenlet, as a result."""
    found: AsyncResult[BaseException] = AsyncResult()
    greenlet.rawlink(lambda ended: found.set(ended.exception))
    return found


def test_closing_ends_the_requests(client: Client, peer: ScriptedPeer) -> None:
    caller = asking(client)
    peer.read_line()
    client.close()
    assert result(caller) == f"ClosedError: {client.name} is closed"
    with pytest.raises(ClosedError):
        client.request(Message("ASK"))


def test_a_stop_ends_the_requests_of_handlers(ground: Ground) -> None:
    service, raised = Dispatcher(), AsyncResult()

    @service.on("ASK")
    def ask(message: Message, peer: Any) -> None:
        try:
            peer.request(Message("BACK"))
        except EdgeventError as error:
            raised.set(error)

    with Client(ground.serve(service).addresses[0]) as client:
        client.send(Message("ASK"))
        assert client.receive(PATIENCE).command == "BACK"
        ground.communicator.stop()
        assert isinstance(raised.get(timeout=PATIENCE), ClosedError)


def test_marks_do_not_outlive_their_connection(
    client: Client, peer: ScriptedPeer, clock: MovedClock
) -> None:
    first = asking(client, "ASK", "IS", serial=False)
    peer.read_line()
    clock.advance(10.0)
    result(first)
    peer.close()
    again = asking(client, "ASK", "IS", serial=False, idempotent=True)
    peer.accept()
    peer.read_line()
    peer.send("IS n=1")
    assert result(again) == "IS n=1"


# --- callers that leave ---------------------------------------------------------------------------


def give_up_by_timeout(client: Client) -> None:
    with gevent.Timeout(0.001, False):
        client.request(Message("ASK"), "IS", serial=False)


def give_up_by_kill(client: Client) -> None:
    caller = asking(client, "ASK", "IS", serial=False)
    until(lambda: client._requests and client._requests.count)
    caller.kill()


def give_up_by_deadline(client: Client) -> None:
    with pytest.raises(DeadlineError, match=r"0\.001 s"), deadline(0.001):
        client.request(Message("ASK"), "IS", serial=False)


@pytest.mark.parametrize("give_up", [give_up_by_timeout, give_up_by_kill, give_up_by_deadline])
def test_a_caller_that_leaves_leaves_nothing_but_a_mark(
    client: Client, peer: ScriptedPeer, give_up: Callable[[Client], None]
) -> None:
    give_up(client)
    assert client._requests is not None
    assert client._requests.count == 0
    peer.read_line()
    second = asking(client, "ASK", "IS", serial=False)
    peer.read_line()
    peer.send("IS late=1", "IS n=2")
    assert result(second) == "IS n=2"


def test_a_deadline_bounds_several_requests(
    client: Client, peer: ScriptedPeer, clock: MovedClock
) -> None:
    def ask() -> None:
        with deadline(3.0, clock=clock):
            client.request(Message("ASK"))
            client.request(Message("ASK"))

    asker = gevent.spawn(ask)
    serial = peer.expect()["serial"]
    clock.advance(2.0)
    peer.send(f"IS serial={serial}")
    peer.read_line()
    clock.advance(1.0)
    assert result(asker) == "DeadlineError: the deadline of 3 s was reached"
