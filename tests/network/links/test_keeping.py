"""What a permanent connection keeps while it is down, and how that leaves."""

from __future__ import annotations

from collections.abc import Callable

import gevent
import pytest
from gevent.event import Event
from link_ground import add, fill, number, numbers, read_numbers, up
from network_ground import PATIENCE, Ground, MovedClock, until
from scripted_peer import ScriptedPeer, scripted_peer

from edgevent import (
    ClosedError,
    ConnectionLostError,
    Dispatcher,
    Message,
    MessageError,
    NotConnectedError,
    QueueFullError,
    UsageError,
    broadcast,
    limits,
)
from edgevent import PermanentConnection as Link
from edgevent.testing.clock import settle

# --- keeping --------------------------------------------------------------------------------------


def test_what_was_kept_leaves_in_order_after_on_connected_has_returned(
    moved: Ground, clock: MovedClock, path: str
) -> None:
    link = Link(f"unix:{path}", pauses="1")
    link.send(number(0), cache=True)  # before a communicator has it
    go = Event()

    @link.on_connected
    def register(found: Link) -> None:
        found.send(Message("REGISTER"))
        found.send(number(3), cache=True)
        go.wait()

    moved.communicator.add_connection(link)
    settle()
    link.send(number(1), cache=True)
    link.send(number(2), cache=True, json=True)
    with scripted_peer(f"unix:{path}") as peer:
        clock.advance(1.0)
        peer.accept()
        assert peer.read_line() == "REGISTER"
        link.send(number(4), cache=True)
        assert link.kept == 5
        link.send(Message("PLAIN"))
        assert peer.read_line() == "PLAIN"
        go.set()
        assert read_numbers(peer, 2) == [0, 1]
        assert peer.read_line() == '{"command":"NUMBER","parameters":{"n":"2"}}'
        assert read_numbers(peer, 2) == [3, 4]
        assert link.kept == 0
        link.send(number(5), cache=True)
        assert read_numbers(peer, 1) == [5]


def test_what_is_to_be_kept_waits_for_on_connected_although_nothing_else_does(
    moved: Ground, peer: ScriptedPeer
) -> None:
    go = Event()
    link = Link(peer.address)
    link.on_connected(lambda link: go.wait())
    moved.communicator.add_connection(link)
    peer.accept()
    settle()
    link.send(number(1), cache=True)
    link.send(Message("PLAIN"))
    assert peer.read_line() == "PLAIN"
    go.set()
    assert read_numbers(peer, 1) == [1]


def ready_by_message(link: Link, peer: ScriptedPeer) -> None:
    assert peer.read_line() == "REGISTER"
    peer.send("READY")


def ready_by_answer(link: Link, peer: ScriptedPeer) -> None:
    assert peer.read_line() == "REGISTER"
    asking = gevent.spawn(link.request, Message("REGISTER", {"again": 1}), "READY")
    peer.send(f"READY serial={peer.read_line().partition('serial=')[2]}")
    asking.get(timeout=PATIENCE)


def ready_by_receiving(link: Link, peer: ScriptedPeer) -> None:
    assert peer.read_line() == "REGISTER"
    receiving = gevent.spawn(link.receive)
    until(lambda: link._receiver)
    peer.send("nonsense", "READY")
    assert receiving.get(timeout=PATIENCE).command == "READY"


def ready_by_word(link: Link, peer: ScriptedPeer) -> None:
    assert peer.read_line() == "REGISTER"
    link.set_ready()


@pytest.mark.parametrize(
    "get_ready", [ready_by_message, ready_by_answer, ready_by_receiving, ready_by_word]
)
def test_where_a_registration_is_needed_what_was_kept_waits_for_it(
    moved: Ground,
    clock: MovedClock,
    peer: ScriptedPeer,
    get_ready: Callable[[Link, ScriptedPeer], None],
) -> None:
    link = Link(peer.address, wait_ready=True, pauses="1")
    link.on_connected(lambda link: link.send(Message("REGISTER")))
    link.send(number(0), cache=True)
    moved.communicator.add_connection(link)
    for n in range(2):
        peer.accept()
        link.wait_until_up(PATIENCE)
        settle()
        assert link.kept == 1
        get_ready(link, peer)
        assert read_numbers(peer, 1) == [n]
        link.send(number(n + 1), cache=True)
        assert read_numbers(peer, 1) == [n + 1]
        peer.close()
        settle()
        link.send(number(n + 1), cache=True)
        clock.advance(1.0)


def test_so_many_messages_are_kept_and_no_more(moved: Ground, path: str) -> None:
    link = add(moved, f"unix:{path}")
    for n in range(limits.OFFLINE_MESSAGES):
        link.send(number(n), cache=True)
    with pytest.raises(QueueFullError, match=r"1000 messages of \d+ bytes are kept already"):
        link.send(number(1000), cache=True)
    assert link.kept == 1000


def test_so_many_bytes_are_kept_and_no_more(
    moved: Ground, clock: MovedClock, path: str, logged: Callable[[str], list[str]]
) -> None:
    link = add(moved, f"unix:{path}", pauses="1")
    size = 64 * 1024
    filled = [
        number(n).with_parameters(x="x" * (size - len(f"NUMBER n={n};x=\n"))) for n in range(33)
    ]
    for message in filled[:32]:
        link.send(message, cache=True)
    with pytest.raises(QueueFullError, match="2097152 bytes"):
        link.send(filled[32], cache=True)
    with scripted_peer(f"unix:{path}") as peer:
        settle()
        clock.advance(1.0)
        peer.accept()
        assert read_numbers(peer, 32) == list(range(32))
    link.max_kept, link.max_kept_bytes = 1, 5
    settle()
    with pytest.raises(QueueFullError):
        link.send(number(0), cache=True)


def test_while_it_is_down_nothing_else_can_be_sent(moved: Ground, path: str) -> None:
    link = add(moved, f"unix:{path}")
    with pytest.raises(NotConnectedError, match=f"is not connected to unix:{path}"):
        link.send(number(0))
    with pytest.raises(NotConnectedError):
        link.request(Message("ASK"))
    with pytest.raises(MessageError, match="over the limit"):
        link.send(Message("LONG", {"x": "x" * limits.MAX_LINE_BYTES}), cache=True)
    with pytest.raises(NotConnectedError):
        link.write(b"raw\n")
    assert broadcast([link], number(0)) == 0
    link.close()
    for cache in (False, True):
        with pytest.raises(ClosedError):
            link.send(number(0), cache=cache)
    with pytest.raises(ClosedError):
        link.request(Message("ASK"))
    link.close()


def test_its_repr_says_whether_it_is_up(moved: Ground, clock: MovedClock, path: str) -> None:
    link = add(moved, f"unix:{path}", name="link", pauses="1")
    settle()
    assert repr(link) == f"<link down unix:{path}>"
    assert link.address == f"unix:{path}"
    with scripted_peer(f"unix:{path}") as peer:
        clock.advance(1.0)
        peer.accept()
        settle()
        assert repr(link) == f"<link up unix:{path}>"
        link.close()
        assert repr(link) == f"<link closed unix:{path}>"


def test_what_leaves_after_a_long_time_does_not_keep_the_link_from_handling_messages(
    moved: Ground, clock: MovedClock, path: str
) -> None:
    here = Dispatcher()
    here.on("ASK")(lambda message, peer: peer.send(Message("IS"), cache=True))
    link = Link(f"unix:{path}", here, pauses="1")
    link.when_full = "raise"
    for n in range(36):
        link.send(number(n).with_parameters(x="x" * 55_000), cache=True)
    with scripted_peer(f"unix:{path}") as peer:
        moved.communicator.add_connection(link)
        peer.accept()
        until(lambda: link.is_full)
        assert link.kept
        peer.send("ASK")
        settle()
        assert read_numbers(peer, 36) == list(range(36))
        assert peer.read_line() == "IS"
        settle()
        assert link.kept == 0


# --- what a full outbox does ----------------------------------------------------------------------


def test_what_is_done_when_too_much_waits_holds_over_a_loss(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer
) -> None:
    link = Link(peer.address, pauses="1")
    with pytest.raises(UsageError):
        link.when_full = "nonsense"  # type: ignore[assignment]
    link.when_full = "drop"
    moved.communicator.add_connection(link)
    for _ in range(2):
        peer.accept()
        settle()
        assert link.when_full == link.outbox.when_full == "drop"
        count = fill(link)
        link.send(number(1000))
        link.send(number(1001))
        assert link.outbox.dropped == 2
        assert read_numbers(peer, count) == list(range(count))
        link.send(number(1002))
        assert read_numbers(peer, 1) == [1002]
        peer.close()
        settle()
        assert numbers(link.undelivered) == [*range(count), 1002]
        link.undelivered.clear()
        link.when_full = "drop"
        clock.advance(1.0)


@pytest.mark.parametrize("reset", [False, True])
def test_a_message_that_waits_for_room_when_the_link_breaks_is_kept_or_refused(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer, reset: bool
) -> None:
    link = up(moved, peer, pauses="1")
    count = fill(link)
    plain = gevent.spawn(link.send, number(100))
    kept = gevent.spawn(link.send, number(101), cache=True)
    asking = gevent.spawn(link.request, Message("ASK"))
    until(lambda: link.outbox.waiting == 3)
    (peer.cut if reset else peer.close)()
    kept.get(timeout=PATIENCE)
    with pytest.raises(ConnectionLostError):
        plain.get(timeout=PATIENCE)
    with pytest.raises((ConnectionLostError, NotConnectedError)):
        asking.get(timeout=PATIENCE)
    assert numbers(link.undelivered) == list(range(count))
    settle()
    clock.advance(1.0)
    peer.accept()
    assert read_numbers(peer, 1) == [101]


def test_a_message_to_be_kept_for_which_there_is_no_room_and_no_wait_is_kept(
    moved: Ground, peer: ScriptedPeer
) -> None:
    link = up(moved, peer)
    link.when_full = "raise"
    count = fill(link)
    with pytest.raises(QueueFullError):
        link.send(number(count))
    link.send(number(count), cache=True)
    assert link.kept == 1
    assert read_numbers(peer, count + 1) == list(range(count + 1))
