"""Requests beside much else: full boxes, many peers, and receivers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from asking import asking, fill, result
from gevent.event import Event
from network_ground import PATIENCE, Ground, MovedClock, until
from scripted_peer import ScriptedPeer, scripted_peer

from edgevent import (
    Client,
    ClosedError,
    Dispatcher,
    Message,
    MessageConnection,
    QueueFullError,
    RequestTimeout,
    UnknownCommandError,
    UsageError,
    limits,
    request_many,
)

# --- a full inbox, a full outbox ------------------------------------------------------------------


NEWS = "NEWS text=" + "x" * 5000


def test_an_answer_behind_a_full_inbox_is_read(client: Client, peer: ScriptedPeer) -> None:
    count = 4 * limits.INBOX_BYTES // len(NEWS)
    caller = asking(client)
    serial = peer.expect()["serial"]
    peer.send(*[NEWS] * count, f"IS serial={serial}")
    assert result(caller) == f"IS serial={serial}"
    again = asking(client)  # the inbox is full already
    peer.send(peer.expect().reply("IS"))
    assert "IS" in result(again)
    assert [client.receive(PATIENCE).command for _ in range(count)] == ["NEWS"] * count


def test_a_handler_that_asks_its_own_peer_gets_its_answer_past_a_full_inbox(
    ground: Ground, peer: ScriptedPeer
) -> None:
    service, seen = Dispatcher(), Event()
    count = 4 * limits.INBOX_BYTES // len(NEWS)
    heard: list[str] = []

    @service.on("ASK")
    def ask(message: Message, peer: Any) -> None:
        heard.append(peer.request(Message("BACK"))["n"])

    @service.on("NEWS")
    def news(message: Message, peer: Any) -> None:
        heard.append("news")
        if len(heard) == count + 1:
            seen.set()

    ground.communicator.add_connection(MessageConnection(peer.address, service))
    peer.accept()
    peer.send("ASK")
    serial = peer.expect()["serial"]
    peer.send(*[NEWS] * count, f"IS n=5;serial={serial}")
    assert seen.wait(PATIENCE)
    assert heard == ["5"] + ["news"] * count


def test_a_wait_for_an_answer_does_not_pile_up_messages_without_end(
    client: Client, peer: ScriptedPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "INBOX_HARD_BYTES", 3 * limits.INBOX_BYTES)
    caller = asking(client)
    peer.read_line()
    writer = gevent.spawn(peer.send, *[NEWS] * (16 * 1024 * 1024 // len(NEWS)))
    assert "QueueFullError" in result(caller)
    assert "nobody has received" in result(caller)
    with pytest.raises(QueueFullError):
        client.request(Message("ASK"))
    assert client._inbox.size < limits.INBOX_HARD_BYTES + 2 * limits.READ_BYTES
    while client.receive().command == "NEWS" and client._inbox.is_full:
        pass
    client.cut()
    writer.kill()


def test_an_answer_comes_while_another_greenlet_is_held_by_a_full_outbox(
    client: Client, peer: ScriptedPeer
) -> None:
    caller = asking(client)
    serial = peer.expect()["serial"]
    fill(client)
    sender = gevent.spawn(client.send, Message("MORE"))
    until(lambda: client.outbox.waiting)
    peer.send(f"IS serial={serial}")
    assert result(caller) == f"IS serial={serial}"
    assert not sender.ready()
    peer.close()
    client.cut()
    assert "Error" in result(sender)


# --- many at once ---------------------------------------------------------------------------------


@pytest.fixture
def crowd(clock: MovedClock) -> Iterator[list[tuple[Client, ScriptedPeer]]]:
    """Four clients, each with a peer of its own."""
    with scripted_peer() as a, scripted_peer() as b, scripted_peer() as c, scripted_peer() as d:
        made = []
        for peer in (a, b, c, d):
            made.append((Client(peer.address, clock=clock), peer))
            peer.accept()
        yield made
        for client, _ in made:
            client.cut()


def asking_all(crowd: list[tuple[Client, ScriptedPeer]], **options: Any) -> Any:
    return gevent.spawn(request_many, [client for client, _ in crowd], Message("ASK"), **options)


def test_request_many_asks_all_at_once(crowd: list[tuple[Client, ScriptedPeer]]) -> None:
    asker = asking_all(crowd)
    serials = [peer.expect()["serial"] for _, peer in crowd]
    for n in (2, 0, 3, 1):
        crowd[n][1].send(f"IS n={n};serial={serials[n]}")
    answers = asker.get(timeout=PATIENCE)
    assert [answer["n"] for answer in answers] == ["0", "1", "2", "3"]


def test_request_many_gives_an_error_in_the_place_of_an_answer(
    crowd: list[tuple[Client, ScriptedPeer]], clock: MovedClock
) -> None:
    crowd[3][0].close()
    asker = asking_all(crowd, timeout=4.0, reply="IS")
    crowd[0][1].read_line()
    crowd[0][1].send("IS n=0")
    crowd[1][1].read_line()
    crowd[1][1].send("UNKNOWN command=ASK")
    crowd[2][1].read_line()
    until(lambda: crowd[1][0]._requests and not crowd[1][0]._requests.count)
    clock.advance(4.0)
    answers = asker.get(timeout=PATIENCE)
    assert [type(answer) for answer in answers] == [
        Message,
        UnknownCommandError,
        RequestTimeout,
        ClosedError,
    ]


def test_request_many_has_one_limit_for_all_and_lets_no_slow_peer_keep_the_others_waiting(
    crowd: list[tuple[Client, ScriptedPeer]], clock: MovedClock
) -> None:
    fill(crowd[0][0])
    fill(crowd[1][0])
    asker = asking_all(crowd, timeout=4.0)
    for client, peer in crowd[2:]:
        peer.send(peer.expect().reply("IS"))
        until(lambda client=client: not client._requests.count)
    until(lambda: crowd[0][0].outbox.waiting)
    clock.advance(4.0)
    answers = asker.get(timeout=PATIENCE)
    assert [type(answer) for answer in answers] == [RequestTimeout] * 2 + [Message] * 2


def test_request_many_of_nobody(crowd: list[tuple[Client, ScriptedPeer]]) -> None:
    assert request_many([], Message("ASK")) == []


def test_request_many_raises_a_mistake_of_the_program(
    crowd: list[tuple[Client, ScriptedPeer]],
) -> None:
    clients = [client for client, _ in crowd]
    with pytest.raises(UsageError, match="a Message was expected"):
        request_many(clients, "ASK")  # type: ignore[arg-type]
    clients[1].ask(Message("ASK", {"serial": 1}), frozenset(), 5.0, True)
    with pytest.raises(UsageError, match="serial is open already"):
        request_many(clients, Message("ASK", {"serial": 1}))
    assert [client._requests.count for client in clients[:2] if client._requests] == [0, 1]


def test_request_many_that_is_given_up_leaves_nothing_open(
    crowd: list[tuple[Client, ScriptedPeer]],
) -> None:
    asker = asking_all(crowd)
    for _, peer in crowd:
        peer.read_line()
    asker.kill()
    assert [client._requests.count for client, _ in crowd if client._requests] == [0] * 4


# --- beside a receiver ----------------------------------------------------------------------------


def test_a_second_receiver_is_an_error(client: Client, peer: ScriptedPeer) -> None:
    receiver = gevent.spawn(client.receive)
    until(lambda: client._receiver)
    with pytest.raises(UsageError, match="another greenlet is receiving"):
        client.receive()
    with pytest.raises(UsageError, match="another greenlet is receiving"):
        next(iter(client))
    peer.send("NEWS")
    assert result(receiver) == "NEWS"


def test_who_iterates_gets_what_no_request_awaits(client: Client, peer: ScriptedPeer) -> None:
    heard: list[str] = []
    iterating = gevent.spawn(lambda: heard.extend(map(str, client)))
    callers = [asking(client, "ASK", "IS", serial=serial) for serial in (True, False)]
    serial = peer.expect()["serial"]
    peer.read_line()
    peer.send("NEWS n=1", f"IS serial={serial}", "NEWS n=2", "IS", "IS", "NEWS n=3")
    assert [result(caller) for caller in callers] == [f"IS serial={serial}", "IS"]
    peer.close()
    iterating.get(timeout=PATIENCE)
    assert heard == ["NEWS n=1", "NEWS n=2", "IS", "NEWS n=3"]


def test_a_receive_has_one_limit_whatever_is_dropped_meanwhile(
    peer: ScriptedPeer, clock: MovedClock, logged: Callable[[str], list[str]]
) -> None:
    with Client(peer.address, Dispatcher(), clock=clock) as client:
        peer.accept()
        receiver = gevent.spawn(client.receive, 3.0)
        until(lambda: clock.pending)
        clock.advance(2.0)
        peer.send("", "no message")
        until(lambda: logged("malformed") and client._parked)
        clock.advance(1.0)
        assert receiver.ready()
        assert result(receiver) == f"ReceiveTimeout: {client.name}: nothing came within 3 s"
