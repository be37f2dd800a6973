"""The blocking client: dialling, asking again after a loss, and receiving."""

from __future__ import annotations

import gc
import os
import socket as plain_socket
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from asking import asking
from gevent.event import Event
from network_ground import PATIENCE, Ground, until
from scripted_peer import ScriptedPeer, scripted_peer

from edgevent import (
    Client,
    ConnectError,
    ConnectionLostError,
    Dispatcher,
    Message,
    limits,
)

# --- dialling -------------------------------------------------------------------------------------


def counting() -> tuple[Dispatcher, list[int]]:
    """A service that writes down the numbers it is sent, and answers them."""
    service, seen = Dispatcher(), []

    @service.on("NUMBER")
    def number(message: Message, peer: Any, n: int) -> Message:
        seen.append(n)
        return message.reply("TAKEN", {"n": n})

    return service, seen


def free_port() -> int:
    with plain_socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.mark.parametrize("wait", [False, True])
def test_nobody_listens(tmp_path: Path, wait: bool) -> None:
    for address in (f"tcp://127.0.0.1:{free_port()}", f"unix:{tmp_path}/none"):
        with pytest.raises(ConnectError, match=address):
            Client(address, wait=wait, connect_timeout=0.05)


def test_it_waits_until_the_service_is_up(
    ground: Ground, tmp_path: Path, logged: Callable[[str], list[str]]
) -> None:
    address = f"unix:{tmp_path}/late"
    dialling = gevent.spawn(Client, address, wait=True, connect_timeout=PATIENCE)
    gevent.idle()
    service, _ = counting()
    ground.serve(service, address)
    with dialling.get(timeout=PATIENCE) as client:
        assert client.request(Message("NUMBER", {"n": 1}))["n"] == "1"


def test_a_dial_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    dialling = gevent.spawn(Client, f"unix:{tmp_path}/never", wait=True, connect_timeout=PATIENCE)
    gevent.idle()
    dialling.kill()


# --- after a loss ---------------------------------------------------------------------------------


def test_the_next_request_after_a_loss_dials_anew(peer: ScriptedPeer) -> None:
    with Client(peer.address, wait=True) as client:
        for n in range(3):
            caller = asking(client)  # the hub had no chance to notice before
            peer.accept()
            serial = peer.expect()["serial"]
            peer.send(f"IS n={n};serial={serial}")
            assert caller.get(timeout=PATIENCE)["n"] == str(n)
            (peer.cut if n == 1 else peer.close)()


def test_without_wait_a_loss_is_final(peer: ScriptedPeer) -> None:
    with Client(peer.address) as client:
        peer.accept()
        peer.close()
        until(lambda: not client.is_connected)
        for _ in range(2):
            with pytest.raises(ConnectionLostError):
                client.request(Message("ASK"))
        assert repr(client) == f"<{client.name} lost {peer.address}>"


def test_a_service_that_stays_away_is_waited_for_within_the_limit(peer: ScriptedPeer) -> None:
    with Client(peer.address, wait=True) as client:
        peer.accept()
        peer.close()
        peer.stop_listening()
        for _ in range(2):
            with pytest.raises(ConnectError):
                client.request(Message("ASK"), timeout=0.05)


@pytest.mark.parametrize("idempotent", [False, True])
def test_only_what_is_idempotent_is_sent_again(peer: ScriptedPeer, idempotent: bool) -> None:
    with Client(peer.address, wait=True) as client:
        peer.accept()
        caller = asking(client, idempotent=idempotent)
        peer.read_line()
        peer.close()
        if idempotent:
            peer.accept()
            peer.send(peer.expect().reply("IS"))
            assert caller.get(timeout=PATIENCE).command == "IS"
        else:
            with pytest.raises(ConnectionLostError):
                caller.get(timeout=PATIENCE)
            again = asking(client, "OTHER")
            peer.accept()
            assert peer.read_line().startswith("OTHER serial=")
            again.kill()


def test_nothing_is_sent_twice_over_many_losses(ground: Ground) -> None:
    service, seen = counting()

    @service.on("LEAVE")
    def leave(message: Message, peer: Any) -> None:
        peer.cut()

    server = ground.serve(service)
    answered, lost = [], []
    with Client(server.addresses[0], wait=True) as client:
        for n in range(60):
            if n % 7 == 0:
                client.send(Message("LEAVE"))
            try:
                answered.append(client.request(Message("NUMBER", {"n": n})).integer("n"))
            except ConnectionLostError:
                lost.append(n)
    assert seen == sorted(set(seen))
    assert set(answered) <= set(seen)
    assert sorted(answered + lost) == list(range(60))
    assert len(lost) == 9


def test_what_a_peer_sent_before_it_went_is_received_although_the_client_has_dialled_anew(
    peer: ScriptedPeer,
) -> None:
    count = 2 * limits.INBOX_BYTES // 5000  # more than is read before somebody receives
    with Client(peer.address, wait=True) as client:
        peer.accept()
        peer.send(*["NEWS text=" + "x" * 5000] * count)
        until(lambda: client._inbox.is_full)
        peer.close()
        caller = asking(client)
        peer.accept()
        peer.send(peer.expect().reply("IS"), "NEWS")
        assert caller.get(timeout=PATIENCE).command == "IS"
        assert [client.receive(PATIENCE).command for _ in range(count + 1)] == ["NEWS"] * (
            count + 1
        )


@pytest.mark.parametrize("idempotent", [False, True])
def test_a_send_that_fails_before_the_end_is_read_ends_the_connection_for_a_request(
    peer: ScriptedPeer, idempotent: bool
) -> None:
    with Client(peer.address, wait=True) as client:
        peer.accept()
        peer.cut()
        with pytest.raises(ConnectionLostError):  # at once: the hub does not run meanwhile
            client.send(Message("NEWS"))
        assert client.outbox.error is not None
        caller = asking(client, idempotent=idempotent)
        peer.accept()
        peer.send(peer.expect().reply("IS"))
        assert caller.get(timeout=PATIENCE).command == "IS"


def test_who_waits_for_room_when_another_dials_anew_has_lost_the_connection(
    peer: ScriptedPeer,
) -> None:
    with Client(peer.address, wait=True) as client:
        peer.accept()
        while not client.is_full:
            client.send(Message("FILL", {"with": "x" * 60000}))
        sending = gevent.spawn(client.send, Message("NEWS"))
        until(lambda: client.outbox.waiting)
        peer.sock.shutdown(plain_socket.SHUT_WR)
        until(lambda: not client.is_connected)
        caller = asking(client)
        peer.accept()
        peer.send(peer.expect().reply("IS"))
        assert caller.get(timeout=PATIENCE).command == "IS"
        with pytest.raises(ConnectionLostError):
            sending.get(timeout=PATIENCE)


def test_callers_that_find_the_loss_at_the_same_time_share_one_dial(
    ground: Ground, peer: ScriptedPeer
) -> None:
    with Client(peer.address, wait=True) as client:
        peer.accept()
        peer.close()
        until(lambda: not client.is_connected)
        callers = [asking(client, f"ASK{n}") for n in range(5)]
        peer.accept()
        for _ in callers:
            peer.send(peer.expect().reply("IS"))
        assert {caller.get(timeout=PATIENCE).command for caller in callers} == {"IS"}


def test_who_waits_for_the_dial_of_another_has_a_limit_too(tmp_path: Path) -> None:
    path = f"{tmp_path}/away"
    with scripted_peer(f"unix:{path}") as peer:
        client = Client(peer.address, wait=True, connect_timeout=PATIENCE)
        peer.accept()
    until(lambda: not client.is_connected)
    long, short = asking(client, timeout=PATIENCE), asking(client, timeout=0.05)
    with pytest.raises(ConnectError):
        short.get(timeout=PATIENCE)
    client.close()
    os.unlink(path)
    with scripted_peer(f"unix:{path}"), pytest.raises(ConnectionLostError):
        long.get(timeout=PATIENCE)


def test_with_a_dispatcher_a_loss_is_told_and_mended_too(peer: ScriptedPeer) -> None:
    told = Event()

    class Watching(Client):
        def process_hup(self) -> None:
            told.set()

    with Watching(peer.address, Dispatcher(), wait=True) as client:
        peer.accept()
        peer.close()
        assert told.wait(PATIENCE)
        told.clear()
        caller = asking(client)
        peer.accept()
        peer.send(peer.expect().reply("IS"), "HELP")
        assert caller.get(timeout=PATIENCE).command == "IS"
        assert peer.read_line().startswith("COMMANDS list=ALIVE,")
        assert not told.is_set()
        peer.close()  # without a chance for its turn
        caller = asking(client)
        peer.accept()
        peer.send(peer.expect().reply("IS"))
        assert caller.get(timeout=PATIENCE).command == "IS"
        assert told.is_set()


# --- receiving ------------------------------------------------------------------------------------


def test_help_and_alive_are_answered_and_the_rest_is_kept(peer: ScriptedPeer) -> None:
    with Client(peer.address) as client:
        peer.accept()
        peer.send("NEWS n=1", "HELP serial=7", "ALIVE serial=8", "nonsense", "NEWS n=2")
        assert peer.read_line().startswith("COMMANDS list=ALIVE,")
        assert peer.read_line().startswith("ABSOLUTELY reply_timestamp=")
        assert [str(client.receive()), str(client.receive())] == ["NEWS n=1", "NEWS n=2"]


def test_help_to_a_client_that_cannot_send_is_no_failure(peer: ScriptedPeer) -> None:
    with Client(peer.address) as client:
        peer.accept()
        while not client.is_full:
            client.send(Message("FILL", {"with": "x" * 60000}))
        peer.send("HELP", "NEWS")
        assert str(client.receive(PATIENCE)) == "NEWS"
        client.cut()


def test_peek_shows_what_receive_returns_next(peer: ScriptedPeer) -> None:
    with Client(peer.address) as client:
        peer.accept()
        assert client.peek() is None
        caller = gevent.spawn(lambda: (client.request(Message("ASK")), client.peek()))
        # The message is there when the answer is, although both came at once.
        peer.send("", "NEWS n=1", peer.expect().reply("IS"), "NEWS n=2")
        _, shown = caller.get(timeout=PATIENCE)
        assert str(shown) == "NEWS n=1"
        assert str(client.peek()) == "NEWS n=1"
        assert [str(client.receive(PATIENCE)) for _ in range(2)] == ["NEWS n=1", "NEWS n=2"]
        assert client.peek() is None


def test_peek_shows_what_waits_for_a_handler_too(peer: ScriptedPeer) -> None:
    here, go = Dispatcher(), Event()
    here.on("WAIT")(lambda message, peer: go.wait() and None)
    here.on("NEWS")(lambda message, peer: message.reply("HEARD"))
    with Client(peer.address, here) as client:
        peer.accept()
        peer.send("WAIT", "nonsense", "NEWS n=1")
        until(client.peek)
        assert str(client.peek()) == "NEWS n=1"
        go.set()
        assert peer.read_line() == "HEARD"


def test_what_nobody_receives_is_not_read_for_ever(peer: ScriptedPeer) -> None:
    count = 16 * 1024 * 1024 // 5000
    with Client(peer.address) as client:
        peer.accept()
        writer = gevent.spawn(peer.send, *["NEWS text=" + "x" * 5000] * count)
        until(lambda: client._inbox.is_full)
        gevent.idle()
        assert client._inbox.size < limits.INBOX_BYTES + 2 * limits.READ_BYTES
        assert not writer.ready()
        assert [client.receive(PATIENCE).command for _ in range(count)] == ["NEWS"] * count
        writer.get(timeout=PATIENCE)


def test_messages_before_the_end_are_received(peer: ScriptedPeer) -> None:
    with Client(peer.address) as client:
        peer.accept()
        peer.send("NEWS n=1", "NEWS n=2")
        peer.close()
        assert [str(message) for message in client] == ["NEWS n=1", "NEWS n=2"]
        with pytest.raises(ConnectionLostError):
            client.receive()


def test_a_closed_client_is_freed_without_the_garbage_collector(ground: Ground) -> None:
    server = ground.serve(counting()[0])

    def ask_once() -> weakref.ref[Client]:
        with Client(server.addresses[0]) as client:
            assert client.request(Message("NUMBER", {"n": 1}))["n"] == "1"
        return weakref.ref(client)

    ask_once()
    gc.disable()
    try:
        found = ask_once()
        until(lambda: found() is None)
    finally:
        gc.enable()
