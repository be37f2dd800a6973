"""Permanent connections: when they dial, and what that is not kept from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event
from link_ground import add, hang, number, read_numbers, up
from network_ground import PATIENCE, Ground, MovedClock, Resolver, until
from scripted_peer import ScriptedPeer, scripted_peer

from edgevent import (
    AddressError,
    Backoff,
    ClosedError,
    ConnectError,
    Dispatcher,
    Message,
)
from edgevent import PermanentConnection as Link
from edgevent.testing.clock import settle
from edgevent.transport.dial import dial


def attempts_at(clock: MovedClock, link: Link, seconds: float, step: float = 0.25) -> list[float]:
    """Moves the clock; gives the times of the attempts, counted from now, in steps."""
    found, passed = [], 0.0
    before = link.attempts
    while passed < seconds:
        clock.advance(step)
        passed += step
        found += [passed] * (link.attempts - before)
        before = link.attempts
    return found


@pytest.mark.parametrize(
    ("pauses", "first", "then"),
    [
        ("1,3", 1, [1.0, 4.0, 7.0, 10.0]),
        ("-5,1,2", 0, [5.0, 6.0, 8.0, 10.0]),
        (Backoff(random=lambda: 0.0), 1, [1.0, 3.0, 7.0]),
        (Backoff("4", jitter=True, random=lambda: 0.5), 1, [3.0, 6.0, 9.0]),
    ],
)
def test_it_dials_at_once_and_then_after_each_pause(
    moved: Ground, clock: MovedClock, path: str, pauses: Any, first: int, then: list[float]
) -> None:
    link = add(moved, f"unix:{path}", pauses=pauses)
    settle()
    assert link.attempts == first
    assert attempts_at(clock, link, 10.0) == then


def test_the_pauses_start_anew_only_after_the_link_was_up_for_ten_seconds(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer
) -> None:
    link = up(moved, peer, pauses="1,50")
    for up_for, pause in ((0.0, 1.0), (9.5, 50.0), (9.5, 50.0), (10.0, 1.0), (0.0, 50.0)):
        clock.advance(up_for)
        peer.close()
        until(lambda: not link.is_connected)
        settle()
        assert attempts_at(clock, link, pause, 0.5) == [pause]
        peer.accept()


def test_a_name_is_looked_up_anew_at_each_attempt(
    moved: Ground, clock: MovedClock, resolver: Resolver
) -> None:
    resolver.names["moves.invalid"] = ["127.0.0.2"]
    with scripted_peer("tcp://127.0.0.3:0") as peer:
        port = peer.address.rpartition(":")[2]
        link = add(moved, f"tcp://moves.invalid:{port}", pauses="1")
        until(lambda: link.attempts == 1)
        resolver.names["moves.invalid"] = ["127.0.0.2", "127.0.0.3"]
        until(lambda: clock.alarms[0] <= 1.0)
        clock.advance(1.0)
        peer.accept()
        link.wait_until_up(PATIENCE)


@pytest.mark.parametrize("address", ["udp://127.0.0.1:1", "unix:" + "x" * 200, "nonsense"])
def test_an_address_that_can_never_be_reached_is_refused(address: str) -> None:
    with pytest.raises(AddressError):
        Link(address)


def test_hooks_and_callbacks_are_called_in_turns(
    moved: Ground, clock: MovedClock, path: str
) -> None:
    told: list[str] = []

    class Telling(Link):
        def process_connected(self) -> None:
            told.append(f"connected {self.is_connected}")

        def process_connection_failed(self, error: ConnectError) -> None:
            told.append(f"failed {type(error).__name__}")

        def process_disconnected(self) -> None:
            told.append(f"disconnected {self.is_connected}")
            raise ZeroDivisionError

    link = moved.communicator.add_connection(Telling(f"unix:{path}", pauses="1"))
    link.on_connected(lambda found: told.append(f"on_connected {found is link}"))

    @link.on_connection_failed
    def failed(found: Link, error: ConnectError) -> None:
        told.append(f"on_connection_failed {'No such file' in str(error)}")

    @link.on_disconnected
    def disconnected(found: Link) -> None:
        told.append("on_disconnected")

    settle()
    with scripted_peer(f"unix:{path}") as peer:
        clock.advance(1.0)
        peer.accept()
        settle()
        peer.close()
        settle()
    assert told == [
        "failed ConnectError",
        "on_connection_failed True",
        "connected True",
        "on_connected True",
        "disconnected False",
        "on_disconnected",
    ]
    assert link.handler_errors == 1


def test_a_failing_hook_may_close_the_link(moved: Ground, path: str) -> None:
    class Failing(Link):
        def process_connection_failed(self, error: ConnectError) -> None:
            raise error

    link = Failing(f"unix:{path}")
    link.on_handler_error = "close"
    moved.communicator.add_connection(link)
    until(lambda: link.is_closed)
    assert link not in moved.communicator.connections


def test_closing_ends_a_dial(hanging: None, moved: Ground, path: str) -> None:
    link = add(moved, f"unix:{path}")
    waiting = gevent.spawn(link.wait_until_up, 5.0)
    until(lambda: link._dialler)
    link.close()
    until(lambda: not link._dialler)
    with pytest.raises(ClosedError):
        waiting.get(timeout=PATIENCE)
    assert link.attempts == 1


@pytest.mark.parametrize(
    "leave", [Link.close, lambda link: link.communicator.remove_connection(link)]
)
@pytest.mark.parametrize("fails", [False, True])
def test_a_dial_that_ends_just_when_the_link_leaves_comes_to_nothing(
    moved: Ground,
    peer: ScriptedPeer,
    monkeypatch: pytest.MonkeyPatch,
    leave: Callable[[Link], None],
    fails: bool,
) -> None:
    def dial_and_leave(*arguments: Any, **options: Any) -> Any:
        transport = dial(*arguments, **options)
        leave(link)
        if fails:
            transport.close()
            raise ConnectError("too late")
        return transport

    monkeypatch.setattr("edgevent.links.dialled.dial", dial_and_leave)
    told: list[Any] = []
    link = Link(peer.address)
    link.on_connected(told.append)
    link.on_connection_failed(lambda link, error: told.append(error))
    moved.communicator.add_connection(link)
    peer.accept()
    assert peer.sock.recv(1) == b""
    settle()
    assert not link.is_connected
    assert link.attempts == 1
    assert len(told) == (fails and not link.is_closed)


def test_a_link_that_is_added_again_while_it_dials_is_up_once(
    moved: Ground, peer: ScriptedPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dial_and_move(*arguments: Any, **options: Any) -> Any:
        transport = dial(*arguments, **options)
        moved.communicator.remove_connection(link)
        moved.communicator.add_connection(link)
        return transport

    monkeypatch.setattr("edgevent.links.dialled.dial", dial_and_move)
    link = Link(peer.address)
    moved.communicator.add_connection(link)
    peer.accept()
    settle()
    assert link.is_connected
    assert link.attempts == 1


def test_removing_ends_a_dial_and_adding_begins_anew(
    hanging: None, moved: Ground, path: str
) -> None:
    link = add(moved, f"unix:{path}")
    until(lambda: link._dialler)
    moved.communicator.remove_connection(link)
    moved.communicator.add_connection(link)
    until(lambda: link.attempts == 2)
    moved.communicator.remove_connection(link)
    until(lambda: not link._dialler)
    settle()
    assert link.attempts == 2
    assert not link.is_closed


def test_a_link_that_is_up_stays_up_when_it_is_removed_and_added(
    moved: Ground, peer: ScriptedPeer
) -> None:
    here = Dispatcher()
    here.on("ASK")(lambda message, peer: message.reply("IS"))
    link = up(moved, peer, dispatcher=here)
    moved.communicator.remove_connection(link)
    link.send(number(1))
    assert read_numbers(peer, 1) == [1]
    peer.send("ASK")
    settle()
    moved.communicator.add_connection(link)
    assert peer.read_line() == "IS"
    assert link.attempts == 1


def test_a_link_that_is_lost_while_it_was_removed_dials_when_it_is_added(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer
) -> None:
    link = up(moved, peer, pauses="1")
    moved.communicator.remove_connection(link)
    peer.close()
    settle()
    moved.communicator.add_connection(link)
    settle()
    clock.advance(1.0)
    peer.accept()
    link.wait_until_up(PATIENCE)
    assert link.attempts == 2


def test_a_disabled_link_does_not_dial(moved: Ground, clock: MovedClock, path: str) -> None:
    link = Link(f"unix:{path}", pauses="1")
    link.enabled = False
    moved.communicator.add_connection(link)
    clock.advance(10.0)
    assert link.attempts == 0
    link.enabled = True
    settle()
    assert link.attempts == 1
    link.enabled = False
    clock.advance(10.0)
    assert link.attempts == 1
    link.enabled = True
    settle()
    assert link.attempts == 2
    link.enabled = False
    link.enabled = True  # the pause is kept
    settle()
    assert link.attempts == 2


def test_a_link_that_is_disabled_while_it_dials_begins_when_it_is_enabled(
    moved: Ground, clock: MovedClock, path: str
) -> None:
    connected = Event()
    hung = hang(path)
    next(hung)
    link = add(moved, f"unix:{path}", pauses="1", connect_timeout=1.0)
    link.on_connected(lambda link: connected.set())
    until(lambda: link._dialler)
    link.enabled = False
    with pytest.raises(StopIteration):
        next(hung)
    Path(path).unlink()
    with scripted_peer(f"unix:{path}") as peer:
        clock.advance(0.5)  # the pauses between two looks at a full queue are of this clock
        peer.accept()
        settle()
        assert link.is_connected
        assert not connected.is_set()
        link.enabled = True
        assert connected.wait(PATIENCE)


def test_a_disabled_link_that_is_up_sends_and_handles_nothing(
    moved: Ground, peer: ScriptedPeer
) -> None:
    seen: list[Message] = []
    here = Dispatcher()
    here.on("NUMBER")(lambda message, peer: seen.append(message))
    link = up(moved, peer, dispatcher=here)
    link.enabled = False
    peer.send("NUMBER n=1")
    link.send(number(7))
    assert read_numbers(peer, 1) == [7]
    settle()
    assert seen == []
    link.enabled = True
    until(lambda: seen)
