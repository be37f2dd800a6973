"""Peers that read slowly or not at all, and messages that go to many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from network_ground import PATIENCE, Ground, MovedClock, read_all, until

from edgevent import (
    ClosedError,
    ConnectionLostError,
    Dispatcher,
    Message,
    MessageConnection,
    QueueFullError,
    Server,
    SlowConsumerError,
    UsageError,
    broadcast,
    limits,
)
from edgevent.runtime import outbox as outbox_module
from edgevent.testing.clock import settle
from edgevent.transport.memory import memory_pair

BIG = Message("BIG", {"data": "x" * 60_000})


class Quiet(MessageConnection):
    """Notes what happens to it."""

    def __init__(self, transport: Any, **settings: Any) -> None:
        super().__init__(transport, **settings)
        self.events: list[str] = []

    def process_empty_buffer(self) -> None:
        self.events.append("empty")

    def process_error(self, error: Exception) -> None:
        self.events.append(type(error).__name__)


def meet(ground: Ground, server: Server) -> tuple[Quiet, socket.socket]:
    """Dials a server; gives its connection, and the peer's socket."""
    known = set(server.peers)
    sock = ground.dial(server)
    until(lambda: len(server.peers) > len(known))
    (peer,) = set(server.peers) - known
    assert isinstance(peer, Quiet)
    return peer, sock


@pytest.fixture(params=["tcp", "unix"])
def server(request: pytest.FixtureRequest, moved: Ground, tmp_path: Path) -> Server:
    address = "tcp://127.0.0.1:0" if request.param == "tcp" else f"unix:{tmp_path}/s"
    return moved.serve(Quiet, address)


def fill(peer: Quiet, message: Message = BIG) -> int:
    """Sends until the outbox is full; returns how many messages that were."""
    count = 0
    while not peer.outbox.is_full:
        peer.send(message)
        count += 1
        settle()  # until the kernel has what it takes
    return count


@pytest.mark.parametrize("wrong", ["NEWS", b"NEWS", None])
def test_what_is_no_message_is_not_sent_to_many(wrong: Any) -> None:
    with pytest.raises(UsageError, match=f"a Message was expected, not a {type(wrong).__name__}"):
        broadcast([], wrong)


def test_a_server_says_how_long_its_peers_may_take_nothing(
    moved: Ground, clock: MovedClock, tmp_path: Path
) -> None:
    server = moved.serve(
        Quiet, f"unix:{tmp_path}/slow", when_full="raise", slow_timeout=3.0, max_outbox_bytes=70_000
    )
    peer, _ = meet(moved, server)
    assert fill(peer) * 60_000 < limits.OUTBOX_BYTES
    with pytest.raises(QueueFullError):
        peer.send(BIG)
    clock.advance(2.9)
    assert not peer.is_closed
    clock.advance(0.2)
    until(lambda: peer.is_closed)
    assert peer.events[-1] == "SlowConsumerError"


# --- a sender and its peer ----------------------------------------------------------------------


def test_a_sender_waits_for_room_and_goes_on_when_the_peer_reads(
    moved: Ground, server: Server
) -> None:
    peer, sock = meet(moved, server)
    count = fill(peer)
    sending = gevent.spawn(lambda: [peer.send(Message("N", {"n": n})) for n in range(5)])
    settle()
    assert not sending.ready()
    data = b""
    while data.count(b"\n") < count + 5:
        data += sock.recv(1 << 20)
    sending.get(timeout=PATIENCE)
    assert data.splitlines()[-5:] == [b"N n=%d" % n for n in range(5)]
    until(lambda: peer.events == ["empty"])
    assert peer.outbox.size == 0


@pytest.mark.parametrize("end", ["close", "cut"])
def test_a_sender_that_waits_is_told_of_the_close(moved: Ground, server: Server, end: str) -> None:
    peer, _ = meet(moved, server)
    fill(peer)
    sending = gevent.spawn(peer.send, BIG)
    settle()
    getattr(peer, end)()
    with pytest.raises(ClosedError):
        sending.get(timeout=PATIENCE)


def test_a_sender_that_waits_is_told_of_the_end_of_the_peer(moved: Ground, server: Server) -> None:
    peer, sock = meet(moved, server)
    fill(peer)
    sending = gevent.spawn(peer.send, BIG)
    settle()
    sock.close()
    with pytest.raises(ConnectionLostError, match="sending to"):
        sending.get(timeout=PATIENCE)
    until(lambda: peer.is_closed)


def test_a_sender_that_was_killed_while_it_waited_leaves_nothing(
    moved: Ground, server: Server
) -> None:
    peer, sock = meet(moved, server)
    count = fill(peer)
    sending = gevent.spawn(peer.send, BIG)
    settle()
    sending.kill()
    peer.close()
    assert read_all(sock).count(b"\n") == count


def test_several_senders_that_wait_are_all_served_in_their_order(
    moved: Ground, server: Server
) -> None:
    peer, sock = meet(moved, server)
    fill(peer)
    senders = [gevent.spawn(peer.send, Message("N", {"n": n})) for n in range(10)]
    settle()
    assert not any(sender.ready() for sender in senders)
    data = b""
    while data.count(b"\nN n=") < 10:
        data += sock.recv(1 << 20)
    gevent.joinall(senders, timeout=PATIENCE, raise_error=True)
    assert data.splitlines()[-10:] == [b"N n=%d" % n for n in range(10)]


def test_a_sender_may_be_refused_instead(moved: Ground, server: Server) -> None:
    peer, sock = meet(moved, server)
    peer.when_full = "raise"
    count = fill(peer)
    with pytest.raises(QueueFullError, match=r"^the outbox is full: \d+ bytes wait for "):
        peer.send(BIG)
    peer.close()
    assert read_all(sock).count(b"\n") == count


def test_what_does_not_fit_may_be_dropped_and_counted(moved: Ground, server: Server) -> None:
    peer, sock = meet(moved, server)
    peer.when_full = "drop"
    count = fill(peer)
    for _ in range(3):
        peer.send(BIG)
    assert peer.outbox.dropped == 3
    peer.close()
    assert read_all(sock).count(b"\n") == count


def test_the_policy_is_one_of_three(moved: Ground, server: Server) -> None:
    peer, _ = meet(moved, server)
    assert peer.when_full == "wait"
    with pytest.raises(UsageError, match="'wait', 'raise' or 'drop' was expected"):
        peer.when_full = "block"  # type: ignore[assignment]


def test_a_send_in_the_hub_never_waits(moved: Ground, server: Server) -> None:
    peer, _ = meet(moved, server)
    fill(peer)
    raised: list[Exception] = []

    def call() -> None:
        try:
            peer.send(BIG)
        except Exception as error:
            raised.append(error)

    gevent.get_hub().loop.run_callback(call)
    until(lambda: raised)
    assert isinstance(raised[0], QueueFullError)


def test_what_was_sent_leaves_before_the_close_and_nothing_after_it(
    moved: Ground, server: Server
) -> None:
    peer, sock = meet(moved, server)
    count = fill(peer)
    peer.close()
    with pytest.raises(ClosedError):
        peer.send(BIG)
    with pytest.raises(ClosedError):
        peer.write(b"x")
    assert broadcast([peer], BIG) == 0
    assert read_all(sock).count(b"\n") == count
    until(lambda: not server.peers)


def test_a_peer_that_takes_nothing_is_closed_after_its_time(
    moved: Ground, clock: MovedClock, server: Server, logged: Callable[[str], list[str]]
) -> None:
    peer, _ = meet(moved, server)
    fill(peer)
    waiting = gevent.spawn(peer.send, BIG)
    settle()
    clock.advance(limits.SLOW_CONSUMER_TIMEOUT - 0.1)
    assert not peer.is_closed
    clock.advance(0.2)
    with pytest.raises(SlowConsumerError, match="it took nothing for 10 s"):
        waiting.get(timeout=PATIENCE)
    assert peer.is_closed
    assert peer.events == ["SlowConsumerError"]
    assert len(logged("closed: ")) == len(logged("is a slow consumer")) == 1
    assert server.counts["lost"] == 1
    with pytest.raises(SlowConsumerError):
        peer.send(BIG)


def test_a_closed_connection_does_not_wait_longer_for_its_peer(
    moved: Ground, clock: MovedClock, server: Server
) -> None:
    peer, _ = meet(moved, server)
    fill(peer)
    peer.close()
    assert server.peers
    clock.advance(limits.SLOW_CONSUMER_TIMEOUT + 0.1)
    assert not server.peers


def test_what_a_peer_takes_of_the_kernel_counts_although_the_kernel_takes_nothing_more(
    moved: Ground, clock: MovedClock, server: Server
) -> None:
    peer, sock = meet(moved, server)
    fill(peer)
    waits = peer.outbox.size
    for _ in range(3):
        clock.advance(limits.SLOW_CONSUMER_TIMEOUT - 0.1)
        before = peer._transport.in_flight
        while peer._transport.in_flight >= before:
            sock.recv(4096)
    settle()
    assert peer.outbox.size == waits
    assert not peer.is_closed
    clock.advance(limits.SLOW_CONSUMER_TIMEOUT - 0.1)
    clock.advance(limits.SLOW_CONSUMER_TIMEOUT + 0.1)
    assert peer.is_closed


def test_a_peer_that_takes_a_little_now_and_then_is_no_slow_consumer(
    moved: Ground, clock: MovedClock, server: Server
) -> None:
    peer, sock = meet(moved, server)
    for _ in range(5):
        fill(peer)
        clock.advance(limits.SLOW_CONSUMER_TIMEOUT - 0.1)
        size = peer.outbox.size
        while peer.outbox.size == size:
            sock.recv(65536)
            settle()
    assert not peer.is_closed


def test_progress_in_whole_chunks_is_progress(moved: Ground, clock: MovedClock) -> None:
    near, far = memory_pair(1000)
    peer = moved.communicator.add_connection(Quiet(near))
    chunk = b"x" * 1000
    for _ in range(2):
        peer.write(chunk)
        settle()
    for _ in range(5):
        peer.write(chunk)  # what waits is joined only when the chunk before it is out
        clock.advance(limits.SLOW_CONSUMER_TIMEOUT - 0.1)
        assert far.receive(1000) == chunk
        settle()
    assert not peer.is_closed
    far.close()


def test_a_limit_of_its_own(moved: Ground, clock: MovedClock, server: Server) -> None:
    peer, _ = meet(moved, server)
    peer.outbox.slow_timeout = 1.0
    peer.outbox.max_bytes = 1000
    assert fill(peer) < 100
    clock.advance(1.1)
    assert peer.is_closed


# --- many peers ---------------------------------------------------------------------------------


@pytest.fixture
def hard_limit(request: pytest.FixtureRequest) -> Iterator[int]:
    """What may pile up for a peer; 1 MiB in place of 8 at commit size."""
    former = outbox_module.OUTBOX_HARD_BYTES
    outbox_module.OUTBOX_HARD_BYTES = request.param
    yield request.param
    outbox_module.OUTBOX_HARD_BYTES = former


@pytest.mark.parametrize(
    ("count", "hard_limit"),
    [(90, 1 << 20), pytest.param(990, 8 << 20, marks=pytest.mark.slow)],
    indirect=["hard_limit"],
)
def test_peers_that_never_read_are_closed_and_the_others_get_everything(
    ground: Ground, count: int, hard_limit: int, logged: Callable[[str], list[str]]
) -> None:
    server = ground.serve(Quiet, max_connections=2000)
    bad = [meet(ground, server)[0] for _ in range(10)]
    good = [ground.dial(server) for _ in range(count)]
    until(lambda: len(server.peers) == count + 10)
    peers = server.peers
    received = [0] * count

    def read(index: int, sock: socket.socket) -> None:
        number = 0
        with sock.makefile("rb") as lines:
            for line in lines:
                assert line.endswith(b";number=%d\n" % number)
                number += 1
                received[index] = number

    readers = [gevent.spawn(read, index, sock) for index, sock in enumerate(good)]
    number = 0
    while any(not peer.is_closed for peer in bad):
        message = BIG.with_parameters({"number": number})
        taken = broadcast(peers, message)
        number += 1
        assert taken >= count
        until(lambda expected=number: min(received) == expected)
    assert taken == count
    assert number * len(bytes(BIG)) > hard_limit
    assert [peer.events for peer in bad] == [["SlowConsumerError"]] * 10
    assert len(logged(f"is a slow consumer: more than {hard_limit} bytes wait for it")) == 10
    assert len(server.peers) == count
    for sock in good:
        sock.shutdown(socket.SHUT_WR)
    gevent.joinall(readers, timeout=PATIENCE, raise_error=True)


def test_a_message_is_built_once(ground: Ground) -> None:
    pairs = [memory_pair(1) for _ in range(3)]
    peers = [ground.communicator.add_connection(Quiet(near)) for near, _ in pairs]
    broadcast(peers, BIG)
    left = [peer.outbox._head for peer in peers]  # of what each has taken a byte
    assert len({id(part.obj) for part in left if isinstance(part, memoryview)}) == 1
    assert all(part is not None and len(part) == len(BIG.to_line()) - 1 for part in left)


def test_messages_go_to_all_in_order(ground: Ground) -> None:
    server = ground.serve(Quiet)
    both = [meet(ground, server) for _ in range(5)]
    peers = [peer for peer, _ in both]
    for number in range(100):
        assert broadcast(peers, Message("N", {"n": number})) == 5
    peers[0].send(Message("LAST"))
    for peer in peers:
        peer.close()
    expected = b"".join(b"N n=%d\n" % number for number in range(100))
    assert read_all(both[0][1]) == expected + b"LAST\n"
    for _, sock in both[1:]:
        assert read_all(sock) == expected


def test_a_broadcast_stays_behind_what_was_sent_before_it(ground: Ground) -> None:
    server = ground.serve(Quiet)
    peer, sock = meet(ground, server)
    for number in range(50):
        peer.send(Message("A", {"n": number}))
        broadcast([peer], Message("B", {"n": number}))
    peer.close()
    lines = read_all(sock).splitlines()
    assert lines == [b"%c n=%d" % (letter, n) for n in range(50) for letter in b"AB"]


def test_peers_that_are_gone_are_skipped(ground: Ground) -> None:
    server = ground.serve(Quiet)
    (closed, _), (lost, lost_sock), (good, sock) = (meet(ground, server) for _ in range(3))
    closed.close()
    lost_sock.close()
    until(lambda: lost.is_closed)
    assert broadcast([closed, lost, good], Message("NEWS")) == 1
    assert broadcast([], Message("NEWS")) == 0
    good.close()
    assert read_all(sock) == b"NEWS\n"


def test_a_peer_that_breaks_during_a_broadcast_is_the_only_one_lost(ground: Ground) -> None:
    server = ground.serve(Quiet)
    (bad, bad_sock), (good, sock) = (meet(ground, server) for _ in range(2))
    bad_sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    bad_sock.close()
    for _ in range(3):
        broadcast([bad, good], BIG)  # at 64 KiB it is written at once, and fails
    until(lambda: bad.is_closed)
    good.close()
    assert read_all(sock).count(b"\n") == 3


def test_a_handler_may_broadcast_to_all_peers(ground: Ground) -> None:
    service = Dispatcher()
    server = ground.serve(service)

    @service.on("SAY")
    def say(message: Message, peer: Any) -> None:
        broadcast(server.peers, Message("SAID", {"text": message["text"]}))

    socks = [ground.dial(server) for _ in range(3)]
    until(lambda: len(server.peers) == 3)
    socks[0].sendall(b"SAY text=x\n")
    for sock in socks:
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b"SAID text=x\n"


def test_the_first_of_a_pass_leaves_at_once_and_several_leave_together(ground: Ground) -> None:
    ours, theirs = memory_pair()
    connection = ground.communicator.add_connection(MessageConnection(ours))

    def say(*commands: str) -> None:
        for command in commands:
            assert broadcast([connection], Message(command)) == 1

    settle()
    say("A", "B", "C")
    assert theirs.receive(100) == b"A\n"
    settle()
    assert theirs.receive(100) == b"B\nC\n"
    say("D", "E")  # as several came last time, they wait for each other from the first on
    with pytest.raises(BlockingIOError):
        theirs.receive(100)
    settle()
    assert theirs.receive(100) == b"D\nE\n"
    say("F")
    settle()
    assert theirs.receive(100) == b"F\n"
    say("G")  # as one came alone, it does not wait
    assert theirs.receive(100) == b"G\n"


def test_what_the_kernel_does_not_take_of_a_broadcast_leaves_later(ground: Ground) -> None:
    ours, theirs = memory_pair(capacity=10)
    connection = ground.communicator.add_connection(MessageConnection(ours))
    settle()
    assert broadcast([connection], Message("LONGER_THAN_TEN")) == 1
    broadcast([connection], Message("NEXT"))
    found = b""
    while len(found) < 21:
        found += theirs.receive(100)
        settle()
    assert found == b"LONGER_THAN_TEN\nNEXT\n"


def test_a_broadcast_that_nothing_can_be_taken_of_waits(ground: Ground) -> None:
    ours, theirs = memory_pair(capacity=4)
    connection = ground.communicator.add_connection(MessageConnection(ours))
    connection.write(b"FULL")
    settle()
    assert broadcast([connection], Message("A")) == 1
    found = b""
    while len(found) < 6:
        found += theirs.receive(100)
        settle()
    assert found == b"FULLA\n"
