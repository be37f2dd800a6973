"""The blocking client: how it runs, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event
from network_ground import PATIENCE, Ground, MovedClock, until
from scripted_peer import ScriptedPeer

from edgevent import (
    Client,
    ClosedError,
    ConnectionLostError,
    Dispatcher,
    Message,
    UsageError,
)
from edgevent.testing.clock import settle

# --- running --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["STOP", "QUITTING"])
@pytest.mark.parametrize("dispatcher", [None, Dispatcher()])
def test_stop_and_quitting_end_run(
    peer: ScriptedPeer, command: str, dispatcher: Dispatcher | None
) -> None:
    with Client(peer.address, dispatcher) as client:
        peer.accept()
        running = gevent.spawn(client.run)
        until(lambda: client._runner)
        with pytest.raises(UsageError, match="another greenlet is in run"):
            client.run()
        peer.send(command)
        running.get(timeout=PATIENCE)
        assert client.peek() is None
        assert client.is_connected


def test_a_stop_that_comes_outside_run_is_received_and_ends_the_next_run(
    peer: ScriptedPeer,
) -> None:
    with Client(peer.address) as client:
        peer.accept()
        peer.send("STOP")
        assert str(client.receive(PATIENCE)) == "STOP"
        client.run()
        peer.close()
        client.run()


def test_a_stop_of_a_stranger_is_a_message_like_others(
    peer: ScriptedPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Client, "may_control", False)
    with Client(peer.address) as client:
        peer.accept()
        running = gevent.spawn(client.run)
        peer.send("STOP")
        until(lambda: client.peek())
        assert not running.ready()
        peer.close()
        running.get(timeout=PATIENCE)


def test_handlers_run_while_the_client_runs_until_one_ends_it(peer: ScriptedPeer) -> None:
    here = Dispatcher()

    @here.on("ADD")
    def add(message: Message, peer: Any, a: int, b: int) -> Message:
        return message.reply("SUM", {"value": a + b})

    @here.on("ENOUGH")
    def enough(message: Message, peer: Any) -> Message:
        peer.mark_done()
        return message.reply("BYE")

    with Client(peer.address, here) as client:
        peer.accept()
        running = gevent.spawn(client.run)
        peer.send("ADD a=1;b=2", "WHAT", "ENOUGH")
        assert peer.read_line() == "SUM value=3"
        assert peer.read_line() == "UNKNOWN command=WHAT"
        assert peer.read_line() == "BYE"
        running.get(timeout=PATIENCE)
        assert client.is_connected


def test_run_handles_what_came_before_the_end(peer: ScriptedPeer) -> None:
    here, seen, go = Dispatcher(), [], Event()

    @here.on("NEWS")
    def news(message: Message, peer: Any, n: int) -> None:
        go.wait()
        seen.append(n)

    with Client(peer.address, here) as client:
        peer.accept()
        running = gevent.spawn(client.run)
        peer.send(*(f"NEWS n={n}" for n in range(50)))
        peer.close()
        until(lambda: not client.is_connected)
        settle()
        assert not running.ready()
        go.set()
        running.get(timeout=PATIENCE)
        assert seen == list(range(50))
        client.run()


@pytest.mark.parametrize("dispatcher", [None, Dispatcher()])
def test_run_raises_when_the_connection_breaks(
    peer: ScriptedPeer, dispatcher: Dispatcher | None
) -> None:
    with Client(peer.address, dispatcher) as client:
        peer.accept()
        running = gevent.spawn(client.run)
        until(lambda: client._runner)
        peer.cut()
        with pytest.raises(ConnectionLostError):
            running.get(timeout=PATIENCE)


def test_closing_ends_run_and_receive(peer: ScriptedPeer) -> None:
    with Client(peer.address) as client, Client(peer.address) as other:
        running, receiving = gevent.spawn(client.run), gevent.spawn(other.receive)
        until(lambda: client._runner and other._receiver)
        client.close()
        other.close()
        running.get(timeout=PATIENCE)
        with pytest.raises(ClosedError):
            receiving.get(timeout=PATIENCE)


def test_a_client_that_is_disabled_handles_nothing_until_it_is_enabled(peer: ScriptedPeer) -> None:
    got: list[str] = []
    table = Dispatcher()
    table.on("NEWS")(lambda message, _: got.append(message["text"]))
    with Client(peer.address, table) as client:
        peer.accept()
        client.enabled = False
        peer.send("NEWS text=kept")
        peer.close()
        settle()
        assert got == []
        assert client.is_connected
        client.enabled = True
        client.run()
        assert got == ["kept"]


def test_a_communicator_can_run_a_client(ground: Ground, peer: ScriptedPeer) -> None:
    service, gone = Dispatcher(), Event()

    class Leaving(Client):
        def connection_removed(self) -> None:
            gone.set()

    client = ground.communicator.add_connection(Leaving(peer.address, service))
    peer.accept()
    peer.send("HELP")
    assert peer.read_line().startswith("COMMANDS ")
    peer.close()
    assert gone.wait(PATIENCE)
    assert client.is_closed


# --- the end --------------------------------------------------------------------------------------


def test_close_lets_leave_what_was_sent(peer: ScriptedPeer) -> None:
    sent = 0
    with Client(peer.address) as client:
        peer.accept()
        while not client.is_full:
            client.send(Message("NEWS", {"n": f"{sent:04}", "text": "x" * 50_000}))
            sent += 1
        reading = gevent.spawn(lambda: [peer.read_line()[:11] for _ in range(sent)])
    assert reading.get(timeout=PATIENCE) == [f"NEWS n={n:04}" for n in range(sent)]


def test_close_waits_for_a_peer_that_does_not_read_no_longer_than_its_limit(
    peer: ScriptedPeer, clock: MovedClock, logged: Callable[[str], list[str]]
) -> None:
    client = Client(peer.address, clock=clock, close_timeout=2.0)
    peer.accept()
    while not client.is_full:
        client.send(Message("NEWS", {"text": "x" * 50_000}))
    closing = gevent.spawn(client.close)
    until(lambda: client.outbox.waiting)
    clock.advance(1.9)
    assert not closing.ready()
    clock.advance(0.1)
    closing.get(timeout=PATIENCE)
    assert client.is_closed
    assert logged("bytes were not sent within")
    assert clock.pending == 0


def test_a_close_that_is_interrupted_has_closed(peer: ScriptedPeer) -> None:
    client = Client(peer.address)
    peer.accept()
    while not client.is_full:
        client.send(Message("NEWS", {"text": "x" * 50_000}))
    with gevent.Timeout(0.01, False):
        client.close()
    assert client.is_closed


def test_a_peer_that_breaks_off_while_it_is_sent_the_rest(
    peer: ScriptedPeer, logged: Callable[[str], list[str]]
) -> None:
    client = Client(peer.address)
    peer.accept()
    while not client.is_full:
        client.send(Message("NEWS", {"text": "x" * 50_000}))
    closing = gevent.spawn(client.close)
    until(lambda: client.outbox.waiting)
    peer.cut()
    closing.get(timeout=PATIENCE)
    assert logged("bytes were not sent: ")


def test_what_was_sent_in_one_breath_has_left_when_the_client_is_closed(
    peer: ScriptedPeer,
) -> None:
    with Client(peer.address) as client:
        peer.accept()
        for n in range(5):
            client.send(Message("NEWS", {"n": n}))
    assert [peer.read_line() for _ in range(5)] == [f"NEWS n={n}" for n in range(5)]
    assert peer.sock.recv(1) == b""


def test_closing_in_the_hub_does_not_wait(peer: ScriptedPeer) -> None:
    with Client(peer.address) as client:
        peer.accept()
        client.send(Message("NEWS"))
        gevent.get_hub().loop.run_callback(client.close)
        until(lambda: client.is_closed)
    assert peer.read_line() == "NEWS"


def test_its_repr_says_what_it_is(peer: ScriptedPeer) -> None:
    with Client(peer.address, name="asker") as client:
        assert repr(client) == f"<asker connected {peer.address}>"
        assert client.address == peer.address
    assert repr(client) == f"<asker closed {peer.address}>"
    client.close()
    with pytest.raises(ClosedError):
        client.send(Message("NEWS"))
