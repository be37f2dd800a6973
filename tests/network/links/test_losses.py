"""What a permanent connection tells of a loss: in doubt, not sent, or known to be there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gevent
import pytest
from link_ground import fill, number, numbers, read_numbers, up
from network_ground import PATIENCE, Ground, MovedClock, until
from scripted_peer import ScriptedPeer, scripted_peer

from edgevent import (
    Address,
    ConnectionLostError,
    Message,
    NotConnectedError,
    RequestTimeout,
    broadcast,
)
from edgevent import PermanentConnection as Link
from edgevent.testing.clock import settle


def test_what_the_kernel_had_is_told_apart_from_what_it_had_not(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer
) -> None:
    link = up(moved, peer, pauses="1")
    count = fill(link)
    taken, total = link.outbox.sent_bytes, link.outbox.size
    peer.close()
    until(lambda: not link.is_connected)
    settle()
    found = link.undelivered
    assert numbers(found) == list(range(count))
    assert numbers(found.in_doubt) + numbers(found.unsent) == list(range(count))
    assert sum(len(message.to_line()) for message in found.in_doubt) <= taken
    assert sum(len(message.to_line()) for message in found.unsent) >= total
    assert (
        repr(found) == f"<Undelivered {len(found.in_doubt)} in doubt, {len(found.unsent)} unsent>"
    )
    found.clear()
    assert len(found) == 0


def test_kept_messages_that_were_not_sent_are_sent_over_the_next_link_before_later_ones(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer
) -> None:
    link = up(moved, peer, pauses="1")
    sent = 0
    while not link.is_full:
        link.send(number(sent).with_parameters(text="x" * 40_000), cache=sent % 2 == 1)
        sent += 1
    link.when_full = "raise"
    link.send(number(998), cache=True)
    peer.close()
    settle()
    link.send(number(999), cache=True)
    doubtful, unsent = numbers(link.undelivered.in_doubt), numbers(link.undelivered.unsent)
    assert doubtful == list(range(len(doubtful)))
    assert unsent == [n for n in range(sent) if n not in doubtful and n % 2 == 0]
    again = [n for n in range(sent) if n not in doubtful and n % 2 == 1]
    assert again
    clock.advance(1.0)
    peer.accept()
    assert read_numbers(peer, len(again) + 2) == [*again, 998, 999]


def test_an_answered_request_shows_that_all_before_it_has_arrived(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer
) -> None:
    link = up(moved, peer)
    for answer in ("IS", "UNKNOWN command=ASK;", "none"):
        link.send(number(1))
        link.send(number(2), cache=True)
        asking = gevent.spawn(link.request, Message("ASK"), timeout=5.0)
        assert read_numbers(peer, 2) == [1, 2]
        serial = peer.expect()["serial"]
        link.send(number(3))
        if answer == "none":
            clock.advance(5.0)
        else:
            peer.send(f"{answer} serial={serial}".replace("; ", ";"))
        asking.join(PATIENCE)
        assert read_numbers(peer, 1) == [3]
    assert isinstance(asking.exception, RequestTimeout)
    peer.close()
    settle()
    # The answer to the second request has shown that the first 3 has arrived, too.
    assert numbers(link.undelivered) == [3, 1, 2, 3]
    assert numbers(link.undelivered.in_doubt) == [3, 1, 2, 3]


def test_a_request_that_is_lost_is_no_undelivered_message(
    moved: Ground, peer: ScriptedPeer
) -> None:
    link = up(moved, peer)
    asking = gevent.spawn(link.request, Message("ASK"))
    also = gevent.spawn(link.request, Message("ASK"), "IS", serial=False)
    peer.read_line()
    peer.read_line()
    peer.close()
    for one in (asking, also):
        with pytest.raises(ConnectionLostError):
            one.get(timeout=PATIENCE)
    settle()
    assert list(link.undelivered) == []


def test_an_answer_over_one_link_shows_nothing_of_another(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer
) -> None:
    link = up(moved, peer, pauses="1")
    request = link.ask(Message("ASK"), frozenset(), 5.0, True)
    peer.send(peer.expect().reply("IS"))
    settle()
    peer.close()
    settle()
    clock.advance(1.0)
    peer.accept()
    settle()
    link.send(number(1))
    assert link.answer(request).command == "IS"
    peer.close()
    settle()
    assert numbers(link.undelivered) == [1]


def test_what_was_broadcast_is_told_as_well(moved: Ground, peer: ScriptedPeer) -> None:
    link = up(moved, peer)
    assert broadcast([link, link], number(4)) == 2
    link.send(number(5))
    assert read_numbers(peer, 3) == [4, 4, 5]
    peer.close()
    settle()
    assert numbers(link.undelivered) == [4, 4, 5]


def test_a_send_that_fails_is_told_to_its_sender_alone(moved: Ground, peer: ScriptedPeer) -> None:
    link = up(moved, peer)
    link.send(number(1))
    settle()
    peer.cut()
    with pytest.raises(ConnectionLostError):
        link.send(number(2))  # at once: the hub has not seen the end
    assert not link.is_connected
    with pytest.raises(NotConnectedError):
        link.send(number(3))
    link.send(number(4), cache=True)
    settle()
    assert numbers(link.undelivered) == [1]
    assert link.kept == 1


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is joined is held until the pass ends, however slow the machine is."""
    monkeypatch.setattr("edgevent.runtime.outbox._HELD", PATIENCE)


def test_what_was_joined_to_leave_together_when_the_link_broke_was_not_sent(
    moved: Ground, peer: ScriptedPeer, held: None
) -> None:
    link = up(moved, peer)
    for n in range(5):
        link.send(number(n))
        if n == 1:
            peer.cut()  # the first has left at once, the others wait for the pass's end
    settle()
    assert numbers(link.undelivered.in_doubt) == [0]
    assert numbers(link.undelivered.unsent) == [1, 2, 3, 4]


def test_what_found_the_link_broken_without_an_error_of_its_own_was_not_sent(
    moved: Ground, peer: ScriptedPeer, held: None
) -> None:
    link = up(moved, peer)
    link.send(number(0))
    peer.cut()
    for n in (1, 2):  # so much is not held back until the end of the pass
        link.send(number(n).with_parameters(text="x" * 40_000))
    with pytest.raises(NotConnectedError):
        link.send(number(3))
    settle()
    assert numbers(link.undelivered.in_doubt) == [0]
    assert numbers(link.undelivered.unsent) == [1, 2]


def test_a_cached_send_that_fails_is_kept(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer
) -> None:
    link = up(moved, peer, pauses="1")
    peer.cut()
    link.send(number(2), cache=True)
    settle()
    clock.advance(1.0)
    peer.accept()
    assert read_numbers(peer, 1) == [2]
    assert list(link.undelivered) == []


def test_what_could_not_be_flushed_because_the_link_broke_is_kept(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer
) -> None:
    link = Link(peer.address, pauses="1")
    for n in range(3):
        link.send(number(n), cache=True)
    link.on_connected(lambda link: link.attempts > 1 or accept_and_drop())

    def accept_and_drop() -> None:
        peer.accept()
        peer.cut()

    moved.communicator.add_connection(link)
    until(lambda: link.attempts and not link.is_connected)
    settle()
    assert link.kept == 3
    with pytest.raises(NotConnectedError):
        link.request(Message("ASK"))
    clock.advance(1.0)
    peer.accept()
    assert read_numbers(peer, 3) == [0, 1, 2]
    assert len(link.undelivered) == 0


def test_half_a_line_at_the_loss_is_not_handled_and_told(
    moved: Ground, peer: ScriptedPeer, logged: Callable[[str], list[str]]
) -> None:
    up(moved, peer)
    peer.sock.sendall(b"NUMBER n=1")
    peer.close()
    until(lambda: logged("dropped 10 bytes without a newline"))


def test_a_link_that_a_hook_of_the_loss_has_moved_dials_there_at_once(
    moved: Ground, peer: ScriptedPeer, tmp_path: Path
) -> None:
    link = up(moved, peer, pauses="3600")
    with scripted_peer(f"unix:{tmp_path}/other") as other:
        place = Address.parse(other.address)
        link.on_disconnected(lambda link: link.prepare_move(place)())
        peer.close()
        other.accept()  # the clock stands still
        until(lambda: link.is_connected and link.address == other.address)
