"""Who waits for a permanent connection, asks over it, and iterates over it."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import AsyncResult, Event
from link_ground import add, number, read_numbers, up
from network_ground import PATIENCE, Ground, MovedClock
from scripted_peer import ScriptedPeer, scripted_peer

from edgevent import (
    ConnectionLostError,
    Dispatcher,
    Message,
    NotConnectedError,
    RequestTimeout,
    UnknownCommandError,
)
from edgevent import PermanentConnection as Link
from edgevent.testing.clock import settle


def test_who_waits_for_the_link_waits_for_on_connected_too(
    moved: Ground, clock: MovedClock, path: str
) -> None:
    go, seen = Event(), AsyncResult()
    link = Link(f"unix:{path}", pauses="1")

    @link.on_connected
    def connected(found: Link) -> None:
        found.wait_until_up(0.0)  # for itself it is up
        seen.set(found.is_connected)
        go.wait()

    moved.communicator.add_connection(link)
    long, short = gevent.spawn(link.wait_until_up, 60.0), gevent.spawn(link.wait_until_up, 0.5)
    settle()
    clock.advance(0.5)
    with pytest.raises(NotConnectedError):
        short.get(timeout=PATIENCE)
    with scripted_peer(f"unix:{path}") as peer:
        clock.advance(0.5)
        peer.accept()
        assert seen.get(timeout=PATIENCE) is True
        meanwhile = gevent.spawn(link.wait_until_up, 60.0)
        settle()
        assert not long.ready()
        assert not meanwhile.ready()
        go.set()
        long.get(timeout=PATIENCE)
        meanwhile.get(timeout=PATIENCE)


def test_only_what_is_idempotent_is_asked_again(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer
) -> None:
    link = up(moved, peer, pauses="1")
    again = gevent.spawn(link.request, Message("AGAIN"), idempotent=True)
    once = gevent.spawn(link.request, Message("ONCE"))
    commands = {peer.read_line().split()[0] for _ in range(2)}
    assert commands == {"AGAIN", "ONCE"}
    for _ in range(2):
        peer.close()
        settle()
        clock.advance(1.0)
        peer.accept()
        line = peer.read_line()
        assert line.startswith("AGAIN")
    with pytest.raises(ConnectionLostError):
        once.get(timeout=PATIENCE)
    peer.send(f"IS {line.partition(' ')[2]}", "LAST")
    assert again.get(timeout=PATIENCE).command == "IS"
    assert peer.read_line() == "UNKNOWN command=LAST"
    asking = gevent.spawn(link.request, Message("WHAT"), idempotent=True)
    peer.read_line()
    peer.send("UNKNOWN command=WHAT")
    with pytest.raises(UnknownCommandError):
        asking.get(timeout=PATIENCE)


def test_an_idempotent_request_has_one_limit(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer
) -> None:
    link = up(moved, peer, pauses="1")
    asking = gevent.spawn(link.request, Message("ASK"), timeout=5.0, idempotent=True)
    peer.read_line()
    clock.advance(3.0)
    peer.close()
    settle()
    clock.advance(1.0)
    peer.accept()
    peer.read_line()
    clock.advance(0.5)
    assert not asking.ready()
    clock.advance(0.5)
    with pytest.raises(RequestTimeout):
        asking.get(timeout=PATIENCE)
    peer.close()
    peer.stop_listening()
    asking = gevent.spawn(link.request, Message("ASK"), timeout=5.0, idempotent=True)
    settle()
    clock.advance(5.0)
    with pytest.raises(NotConnectedError):
        asking.get(timeout=PATIENCE)


def test_a_send_that_failed_lets_an_idempotent_request_wait_for_the_next_link(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer
) -> None:
    link = up(moved, peer, pauses="1")
    peer.cut()
    with pytest.raises(ConnectionLostError):
        link.send(number(1))
    asking = gevent.spawn(link.request, Message("ASK"), idempotent=True)
    settle()
    clock.advance(1.0)
    peer.accept()
    peer.send(peer.expect().reply("IS"))
    assert asking.get(timeout=PATIENCE).command == "IS"


def test_a_request_in_on_connected(moved: Ground, peer: ScriptedPeer) -> None:
    link = Link(peer.address)
    registered = AsyncResult()
    link.on_connected(lambda link: registered.set(link.request(Message("REGISTER"), "READY")))
    link.send(number(1), cache=True)
    moved.communicator.add_connection(link)
    peer.accept()
    peer.send(peer.expect().reply("READY"))
    assert registered.get(timeout=PATIENCE).command == "READY"
    assert read_numbers(peer, 1) == [1]


def test_who_iterates_over_a_link_gets_what_comes_until_it_is_lost(
    moved: Ground, clock: MovedClock, path: str
) -> None:
    here, handled, heard = Dispatcher(), AsyncResult(), []
    here.on("NUMBER")(lambda message, peer: handled.set(str(message)))
    link = add(moved, f"unix:{path}", dispatcher=here, pauses="1")

    def iterate() -> None:
        for message in link:
            heard.append(str(message))
            link.request(Message("ASK"))

    iterating = gevent.spawn(iterate)  # before it is up
    settle()
    with scripted_peer(f"unix:{path}") as peer:
        clock.advance(1.0)
        peer.accept()
        link.send(number(7), cache=True)
        assert read_numbers(peer, 1) == [7]
        peer.send("NUMBER n=1")
        for n in (2, 3):
            serial = peer.expect()["serial"]
            peer.send(f"NUMBER n={n}", f"IS serial={serial}")
        peer.read_line()
        peer.close()
        with pytest.raises(ConnectionLostError):
            iterating.get(timeout=PATIENCE)
        assert heard == ["NUMBER n=1", "NUMBER n=2", "NUMBER n=3"]
        assert not handled.ready()
        settle()
        clock.advance(1.0)
        peer.accept()
        peer.send("NUMBER n=4")
        assert handled.get(timeout=PATIENCE) == "NUMBER n=4"
