"""The ends of a permanent connection: when done, closed, cut or stopped."""

from __future__ import annotations

from collections.abc import Callable

import gevent
import pytest
from gevent.event import Event
from link_ground import add, fill, hang, number, numbers, read_numbers, up
from network_ground import PATIENCE, Ground, MovedClock, until
from scripted_peer import ScriptedPeer, scripted_peer

from edgevent import Dispatcher, Message
from edgevent import PermanentConnection as Link
from edgevent.testing.clock import settle


def test_mark_done_closes_at_once_what_keeps_nothing(moved: Ground, path: str) -> None:
    link = add(moved, f"unix:{path}")
    link.mark_done()
    assert link.is_closed
    assert link not in moved.communicator.connections


def test_mark_done_waits_until_what_was_kept_is_out_even_over_losses(
    moved: Ground, clock: MovedClock, path: str
) -> None:
    link = add(moved, f"unix:{path}", pauses="1")
    link.when_full = "raise"
    count = 34
    for n in range(count):
        link.send(number(n).with_parameters(x="x" * 55_000), cache=True)
    link.mark_done()
    assert not link.is_closed
    settle()
    with scripted_peer(f"unix:{path}") as peer:
        clock.advance(1.0)
        peer.accept()
        until(lambda: link.is_full)
        first = read_numbers(peer, 1)
        peer.close()
        settle()
        assert not link.is_closed
        assert link.kept
        doubtful = numbers(link.undelivered.in_doubt)
        assert first[0] == doubtful[0] == 0
        clock.advance(1.0)
        peer.accept()
        assert read_numbers(peer, count - len(doubtful)) == list(range(len(doubtful), count))
        assert peer.sock.recv(1) == b""
    until(lambda: link.is_closed)
    assert link.undelivered.unsent == []


def test_mark_done_and_a_loss_with_nothing_kept_end_the_link(
    moved: Ground, peer: ScriptedPeer
) -> None:
    link = up(moved, peer)
    count = fill(link)
    link.mark_done()
    assert not link.is_closed  # what was sent is still to leave
    peer.close()
    until(lambda: link.is_closed)
    assert numbers(link.undelivered) == list(range(count))


def test_closing_lets_leave_what_was_sent(moved: Ground, peer: ScriptedPeer) -> None:
    link = up(moved, peer)
    count = fill(link)
    link.close()
    assert read_numbers(peer, count) == list(range(count))
    assert peer.sock.recv(1) == b""
    assert len(link.undelivered) == 0


def test_a_peer_that_breaks_off_while_it_is_sent_the_rest_leaves_all_in_doubt_or_unsent(
    moved: Ground, peer: ScriptedPeer
) -> None:
    link = up(moved, peer)
    count = fill(link)
    link.close()
    assert link in moved.communicator.connections
    peer.cut()
    until(lambda: link not in moved.communicator.connections)
    assert numbers(link.undelivered) == list(range(count))
    assert link.undelivered.in_doubt
    assert link.undelivered.unsent


@pytest.mark.parametrize(
    "leave", [Link.close, Link.cut, lambda link: link.communicator.remove_connection(link)]
)
def test_a_link_that_leaves_leaves_no_alarms(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer, leave: Callable[[Link], None]
) -> None:
    before = clock.pending
    link = up(moved, peer)
    asking = gevent.spawn(link.request, Message("ASK"), timeout=500.0)
    peer.read_line()
    peer.close()  # a line of the log is held back now, a pause runs, and a request had a limit
    settle()
    assert clock.pending > before
    leave(link)
    settle()
    assert clock.pending == before
    assert asking.exception is not None


def test_cutting_tells_what_was_not_sent(moved: Ground, peer: ScriptedPeer) -> None:
    link = up(moved, peer)
    count = fill(link)
    link.cut()
    unsent = numbers(link.undelivered.unsent)
    assert unsent == list(range(count - len(unsent), count))
    assert unsent
    assert link.undelivered.in_doubt == []


def stopped(ground: Ground) -> None:
    ground.communicator.stop()
    assert ground.runner.get(timeout=PATIENCE) is True
    ground.runner = gevent.spawn(lambda: True)


@pytest.mark.parametrize("dialling", [False, True])
def test_a_stop_while_it_is_down_tells_what_was_kept(
    moved: Ground, path: str, logged: Callable[[str], list[str]], dialling: bool
) -> None:
    hung = hang(path)
    if dialling:
        next(hung)
    link = add(moved, f"unix:{path}")
    link.send(number(1), cache=True)
    until(lambda: link._dialler if dialling else link.attempts and not link._dialler)
    stopped(moved)
    assert logged("1 kept messages are lost")
    assert numbers(link.undelivered.unsent) == [1]
    assert link.kept == 0
    assert link.is_closed
    hung.close()


def test_a_stop_while_it_is_up_lets_leave_what_was_kept(moved: Ground, peer: ScriptedPeer) -> None:
    go = Event()
    link = Link(peer.address)
    link.on_connected(lambda link: go.wait())
    for n in range(36):
        link.send(number(n).with_parameters(x="x" * 55_000), cache=True)
    moved.communicator.add_connection(link)
    peer.accept()
    settle()
    moved.communicator.stop()
    settle()
    assert not link.is_closed
    go.set()
    assert read_numbers(peer, 36) == list(range(36))
    assert peer.sock.recv(1) == b""
    stopped(moved)
    assert len(link.undelivered) == 0


@pytest.mark.parametrize("settings", [{}, {"cache": True}, {"json": True}])
def test_what_came_before_a_stop_is_answered_after_it(
    moved: Ground, peer: ScriptedPeer, settings: dict[str, bool]
) -> None:
    go, table = Event(), Dispatcher()

    @table.on("ASK")
    def ask(message: Message, link: Link) -> None:
        assert go.wait(PATIENCE)
        link.send(number(message.integer("n")), **settings)

    link = up(moved, peer, dispatcher=table)
    peer.send("ASK n=1", "ASK n=2")
    until(lambda: link.command == "ASK")
    moved.communicator.stop()
    link.mark_done()
    settle()
    go.set()
    for n in (1, 2):
        assert Message.parse(peer.read_line()).integer("n") == n
    assert peer.expect_end() == "closed"
    stopped(moved)


def test_a_stop_before_it_is_ready_tells_what_was_kept(moved: Ground, peer: ScriptedPeer) -> None:
    link = up(moved, peer, wait_ready=True)
    link.send(number(1), cache=True)
    stopped(moved)
    assert numbers(link.undelivered.unsent) == [1]
