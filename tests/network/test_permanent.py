"""Permanent connections: when they dial, what they keep, and what they tell of a loss."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import AsyncResult, Event
from network_ground import PATIENCE, Ground, MovedClock, Resolver, until
from scripted_peer import ScriptedPeer, scripted_peer

from edgevent import (
    AddressError,
    Backoff,
    ClosedError,
    ConnectError,
    ConnectionLostError,
    Dispatcher,
    Message,
    MessageError,
    NotConnectedError,
    PermanentConnection,
    QueueFullError,
    RequestTimeout,
    UnknownCommandError,
    UsageError,
    broadcast,
    limits,
)
from edgevent.testing.clock import settle
from edgevent.transport.dial import dial

Link = PermanentConnection


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where a peer can listen, go away, and listen again."""
    return f"{tmp_path}/peer"


@pytest.fixture
def peer(path: str) -> Iterator[ScriptedPeer]:
    with scripted_peer(path) as peer:
        yield peer


def number(n: int) -> Message:
    return Message("NUMBER", {"n": n})


def numbers(messages: Any) -> list[int]:
    return [message.integer("n") for message in messages]


def read_numbers(peer: ScriptedPeer, count: int) -> list[int]:
    return [int(peer.read().removeprefix("NUMBER n=").partition(";")[0]) for _ in range(count)]


def add(ground: Ground, address: str, **options: Any) -> Link:
    return ground.communicator.add_connection(Link(address, **options))


def up(ground: Ground, peer: ScriptedPeer, **options: Any) -> Link:
    """A link that is up."""
    link = add(ground, peer.address, **options)
    peer.accept()
    link.wait_until_up(PATIENCE)
    return link


def fill(link: Link) -> int:
    """Sends numbers until a further one would have to wait; returns how many those are."""
    count = 0
    while not link.is_full:
        link.send(number(count).with_parameters(text="x" * 50_000))
        count += 1
    return count


# --- dialling -------------------------------------------------------------------------------------


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
        peer.drop()
        until(lambda: not link.is_connected)
        settle()
        assert attempts_at(clock, link, pause, 0.5) == [pause]
        peer.accept()


def test_a_name_is_looked_up_anew_at_each_attempt(
    moved: Ground, clock: MovedClock, resolver: Resolver
) -> None:
    resolver.names["moves.invalid"] = ["127.0.0.2"]
    with scripted_peer(("127.0.0.3", 0)) as peer:
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
    with scripted_peer(path) as peer:
        clock.advance(1.0)
        peer.accept()
        settle()
        peer.drop()
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


def hang(path: str) -> Iterator[None]:
    """Keeps everybody who dials waiting: the queue is full, and nobody accepts."""
    socket = gevent.socket
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)
        yield


@pytest.fixture
def hanging(path: str) -> Iterator[None]:
    yield from hang(path)


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
    peer.write("ASK")
    settle()
    moved.communicator.add_connection(link)
    assert peer.read() == "IS"
    assert link.attempts == 1


def test_a_link_that_is_lost_while_it_was_removed_dials_when_it_is_added(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer
) -> None:
    link = up(moved, peer, pauses="1")
    moved.communicator.remove_connection(link)
    peer.drop()
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
    with scripted_peer(path) as peer:
        clock.advance(0.5)
        if link._dialler:  # the pause between two looks at a full queue is part of the clock
            clock.advance(0.5)
        link.enabled = True
        clock.advance(1.0)
        peer.accept()
        assert connected.wait(PATIENCE)


def test_a_disabled_link_that_is_up_sends_and_handles_nothing(
    moved: Ground, peer: ScriptedPeer
) -> None:
    seen: list[Message] = []
    here = Dispatcher()
    here.on("NUMBER")(lambda message, peer: seen.append(message))
    link = up(moved, peer, dispatcher=here)
    link.enabled = False
    peer.write("NUMBER n=1")
    link.send(number(7))
    assert read_numbers(peer, 1) == [7]
    settle()
    assert seen == []
    link.enabled = True
    until(lambda: seen)


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
    with scripted_peer(path) as peer:
        clock.advance(1.0)
        peer.accept()
        assert peer.read() == "REGISTER"
        link.send(number(4), cache=True)
        assert link.kept == 5
        link.send(Message("PLAIN"))
        assert peer.read() == "PLAIN"
        go.set()
        assert read_numbers(peer, 2) == [0, 1]
        assert peer.read() == '{"command":"NUMBER","parameters":{"n":"2"}}'
        assert read_numbers(peer, 2) == [3, 4]
        assert link.kept == 0
        link.send(number(5), cache=True)
        assert read_numbers(peer, 1) == [5]


def ready_by_message(link: Link, peer: ScriptedPeer) -> None:
    assert peer.read() == "REGISTER"
    peer.write("READY")


def ready_by_answer(link: Link, peer: ScriptedPeer) -> None:
    assert peer.read() == "REGISTER"
    asking = gevent.spawn(link.request, Message("REGISTER", {"again": 1}), "READY")
    peer.write(f"READY serial={peer.read().partition('serial=')[2]}")
    asking.get(timeout=PATIENCE)


def ready_by_receiving(link: Link, peer: ScriptedPeer) -> None:
    assert peer.read() == "REGISTER"
    receiving = gevent.spawn(link.receive)
    until(lambda: link._receiver)
    peer.write("nonsense", "READY")
    assert receiving.get(timeout=PATIENCE).command == "READY"


def ready_by_word(link: Link, peer: ScriptedPeer) -> None:
    assert peer.read() == "REGISTER"
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
        peer.drop()
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
    with scripted_peer(path) as peer:
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
    with scripted_peer(path) as peer:
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
    with scripted_peer(path) as peer:
        moved.communicator.add_connection(link)
        peer.accept()
        until(lambda: link.is_full)
        assert link.kept
        peer.write("ASK")
        settle()
        assert read_numbers(peer, 36) == list(range(36))
        assert peer.read() == "IS"
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
        peer.drop()
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
    until(lambda: len(link.outbox._waiters or ()) == 3)
    peer.drop(reset=reset)
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


# --- what may be lost -----------------------------------------------------------------------------


def test_what_the_kernel_had_is_told_apart_from_what_it_had_not(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer
) -> None:
    link = up(moved, peer, pauses="1")
    count = fill(link)
    taken, total = link.outbox.sent_bytes, link.outbox.size
    peer.drop()
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
    peer.drop()
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
        serial = peer.read_serial()
        link.send(number(3))
        if answer == "none":
            clock.advance(5.0)
        else:
            peer.write(f"{answer} serial={serial}".replace("; ", ";"))
        asking.join(PATIENCE)
        assert read_numbers(peer, 1) == [3]
    assert isinstance(asking.exception, RequestTimeout)
    peer.drop()
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
    peer.read()
    peer.read()
    peer.drop()
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
    peer.write(f"IS serial={peer.read_serial()}")
    settle()
    peer.drop()
    settle()
    clock.advance(1.0)
    peer.accept()
    settle()
    link.send(number(1))
    assert link.answer(request).command == "IS"
    peer.drop()
    settle()
    assert numbers(link.undelivered) == [1]


def test_what_was_broadcast_is_told_as_well(moved: Ground, peer: ScriptedPeer) -> None:
    link = up(moved, peer)
    assert broadcast([link, link], number(4)) == 2
    link.send(number(5))
    assert read_numbers(peer, 3) == [4, 4, 5]
    peer.drop()
    settle()
    assert numbers(link.undelivered) == [4, 4, 5]


def test_a_send_that_fails_is_told_to_its_sender_alone(moved: Ground, peer: ScriptedPeer) -> None:
    link = up(moved, peer)
    link.send(number(1))
    settle()
    peer.drop(reset=True)
    with pytest.raises(ConnectionLostError):
        link.send(number(2))  # at once: the hub has not seen the end
    assert not link.is_connected
    with pytest.raises(NotConnectedError):
        link.send(number(3))
    link.send(number(4), cache=True)
    settle()
    assert numbers(link.undelivered) == [1]
    assert link.kept == 1


def test_what_was_joined_to_leave_together_when_the_link_broke_was_not_sent(
    moved: Ground, peer: ScriptedPeer
) -> None:
    link = up(moved, peer)
    for n in range(5):
        link.send(number(n))
        if n == 1:
            peer.drop(reset=True)  # the first has left at once, the others wait for the pass's end
    settle()
    assert numbers(link.undelivered.in_doubt) == [0]
    assert numbers(link.undelivered.unsent) == [1, 2, 3, 4]


def test_a_cached_send_that_fails_is_kept(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer
) -> None:
    link = up(moved, peer, pauses="1")
    peer.drop(reset=True)
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
        peer.drop(reset=True)

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
    peer.drop()
    until(lambda: logged("dropped 10 bytes without a newline"))


# --- the end --------------------------------------------------------------------------------------


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
    with scripted_peer(path) as peer:
        clock.advance(1.0)
        peer.accept()
        until(lambda: link.is_full)
        first = read_numbers(peer, 1)
        peer.drop()
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
    peer.drop()
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
    peer.drop(reset=True)
    until(lambda: link not in moved.communicator.connections)
    assert numbers(link.undelivered) == list(range(count))
    assert link.undelivered.in_doubt
    assert link.undelivered.unsent


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


def test_a_stop_before_it_is_ready_tells_what_was_kept(moved: Ground, peer: ScriptedPeer) -> None:
    link = up(moved, peer, wait_ready=True)
    link.send(number(1), cache=True)
    stopped(moved)
    assert numbers(link.undelivered.unsent) == [1]


# --- waiting, and asking again --------------------------------------------------------------------


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
    with scripted_peer(path) as peer:
        clock.advance(0.5)
        peer.accept()
        assert seen.get(timeout=PATIENCE) is True
        settle()
        assert not long.ready()
        go.set()
        long.get(timeout=PATIENCE)


def test_only_what_is_idempotent_is_asked_again(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer
) -> None:
    link = up(moved, peer, pauses="1")
    again = gevent.spawn(link.request, Message("AGAIN"), idempotent=True)
    once = gevent.spawn(link.request, Message("ONCE"))
    commands = {peer.read().split()[0] for _ in range(2)}
    assert commands == {"AGAIN", "ONCE"}
    for _ in range(2):
        peer.drop()
        settle()
        clock.advance(1.0)
        peer.accept()
        line = peer.read()
        assert line.startswith("AGAIN")
    with pytest.raises(ConnectionLostError):
        once.get(timeout=PATIENCE)
    peer.write(f"IS {line.partition(' ')[2]}", "LAST")
    assert again.get(timeout=PATIENCE).command == "IS"
    assert peer.read() == "UNKNOWN command=LAST"
    asking = gevent.spawn(link.request, Message("WHAT"), idempotent=True)
    peer.read()
    peer.write("UNKNOWN command=WHAT")
    with pytest.raises(UnknownCommandError):
        asking.get(timeout=PATIENCE)


def test_an_idempotent_request_has_one_limit(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer
) -> None:
    link = up(moved, peer, pauses="1")
    asking = gevent.spawn(link.request, Message("ASK"), timeout=5.0, idempotent=True)
    peer.read()
    clock.advance(3.0)
    peer.drop()
    settle()
    clock.advance(1.0)
    peer.accept()
    peer.read()
    clock.advance(0.5)
    assert not asking.ready()
    clock.advance(0.5)
    with pytest.raises(RequestTimeout):
        asking.get(timeout=PATIENCE)
    peer.drop()
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
    peer.drop(reset=True)
    with pytest.raises(ConnectionLostError):
        link.send(number(1))
    asking = gevent.spawn(link.request, Message("ASK"), idempotent=True)
    settle()
    clock.advance(1.0)
    peer.accept()
    peer.write(f"IS serial={peer.read_serial()}")
    assert asking.get(timeout=PATIENCE).command == "IS"


def test_a_request_in_on_connected(moved: Ground, peer: ScriptedPeer) -> None:
    link = Link(peer.address)
    registered = AsyncResult()
    link.on_connected(lambda link: registered.set(link.request(Message("REGISTER"), "READY")))
    link.send(number(1), cache=True)
    moved.communicator.add_connection(link)
    peer.accept()
    peer.write(f"READY serial={peer.read_serial()}")
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
    with scripted_peer(path) as peer:
        clock.advance(1.0)
        peer.accept()
        link.send(number(7), cache=True)
        assert read_numbers(peer, 1) == [7]
        peer.write("NUMBER n=1")
        for n in (2, 3):
            serial = peer.read_serial()
            peer.write(f"NUMBER n={n}", f"IS serial={serial}")
        peer.read()
        peer.drop()
        with pytest.raises(ConnectionLostError):
            iterating.get(timeout=PATIENCE)
        assert heard == ["NUMBER n=1", "NUMBER n=2", "NUMBER n=3"]
        assert not handled.ready()
        settle()
        clock.advance(1.0)
        peer.accept()
        peer.write("NUMBER n=4")
        assert handled.get(timeout=PATIENCE) == "NUMBER n=4"


# --- the log --------------------------------------------------------------------------------------


def lines_of(caplog: pytest.LogCaptureFixture, link: Link) -> list[str]:
    """What the log says of a link, without debugging."""
    return [
        record.getMessage().removeprefix(f"{link.name}: ")
        for record in caplog.records
        if record.levelno > logging.DEBUG and record.getMessage().startswith(f"{link.name}: ")
    ]


def test_a_link_that_is_down_is_told_of_once_a_minute(
    moved: Ground, clock: MovedClock, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "edgevent")
    link = add(moved, f"unix:{path}", pauses="1")
    settle()
    assert lines_of(caplog, link) == [f"cannot connect: unix:{path}: No such file or directory"]
    for _ in range(50):
        clock.advance(6.0)
    assert link.attempts == 301
    assert len(lines_of(caplog, link)) == 6


def test_a_loss_is_told_at_once_and_the_return_within_a_minute(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "edgevent")
    link = up(moved, peer, pauses="1")
    clock.advance(10.0)
    peer.drop()
    settle()
    told = [
        f"connected to {peer.address}",
        f"lost the link to {peer.address}: the peer has ended it",
    ]
    assert lines_of(caplog, link) == told
    clock.advance(1.0)
    peer.accept()
    settle()
    assert lines_of(caplog, link) == told
    clock.advance(60.0)
    assert lines_of(caplog, link) == [*told, f"connected to {peer.address}"]
    clock.advance(600.0)
    assert len(lines_of(caplog, link)) == 3


def test_a_link_that_comes_and_goes_is_told_of_once_a_minute(
    moved: Ground, clock: MovedClock, peer: ScriptedPeer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "edgevent")
    link = up(moved, peer, pauses="1")
    for _ in range(300):
        peer.drop()
        settle()
        clock.advance(1.0)
        peer.accept()
        settle()
    told = lines_of(caplog, link)
    assert len(told) <= 8
    assert any("changes before that were not logged" in line for line in told)
    link.close()
    clock.advance(60.0)
    assert lines_of(caplog, link) == told


# --- many of them ---------------------------------------------------------------------------------


def test_a_thousand_links_do_not_come_back_at_one_instant() -> None:
    # The pauses of the real thing, by a seed: 20 seconds after the loss the service is up again.
    chance = random.Random(7).random
    back = []
    for _ in range(1000):
        backoff, at = Backoff(random=chance), 0.0
        while at < 20.0:
            at += backoff.next()
        back.append(at)
    back.sort()
    most = max(sum(1 for other in back if at <= other < at + 0.1) for at in back)
    assert most <= 150
    assert back[-1] <= 20.0 + 32.0
