"""The ends of streams over TLS: told from a cut, and after all that was sent."""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import gevent
import pytest
from network_ground import PATIENCE, Ground, MovedClock, echo, frees_at_once, until
from tls_ground import (
    Encrypted,
    client_options,
    only_12,
    server_options,
    tls_pair,
)

from edgevent import (
    Address,
    Client,
    ConnectionLostError,
    Message,
    SlowConsumerError,
    StreamConnection,
    TruncatedError,
    connect,
)
from edgevent.testing.clock import settle
from edgevent.testing.exchange import Pull, fill
from edgevent.transport.dial import dial
from edgevent.transport.memory import memory_pair

TLS = "tls://127.0.0.1:0"


# --- an end and a cut -----------------------------------------------------------------------------


def test_a_stream_without_an_end_mark_was_cut_off() -> None:
    with Encrypted(Client) as peer:
        peer.sock.sendall(peer.session.encrypt(b"LAST\nHALF"))
        peer.sock.close()
        assert peer.client.receive(PATIENCE).command == "LAST"
        text = "the stream was cut off, without an end mark"
        with pytest.raises(TruncatedError, match=text):
            peer.client.receive(PATIENCE)


def test_a_stream_with_an_end_mark_has_ended() -> None:
    with Encrypted(connect) as peer:
        peer.session.end()
        peer.sock.sendall(peer.session.take())
        assert peer.client.read(timeout=PATIENCE) == b""
        assert peer.client.read(timeout=PATIENCE) == b""


def test_half_a_record_is_cut_off_too() -> None:
    with Encrypted(connect) as peer:
        peer.sock.sendall(peer.session.encrypt(b"whole") + peer.session.encrypt(b"half")[:-1])
        assert peer.client.read(timeout=PATIENCE) == b"whole"
        peer.sock.close()
        with pytest.raises(TruncatedError):
            peer.client.read(timeout=PATIENCE)


def test_corruption_is_an_error_that_the_other_side_learns() -> None:
    with Encrypted(connect) as peer:
        before, record = map(peer.session.encrypt, (b"before", b"secret"))
        peer.sock.sendall(before + record[:-1] + bytes([record[-1] ^ 1]))
        assert peer.client.read(timeout=PATIENCE) == b"before"
        with pytest.raises(ConnectionLostError, match=r"receiving from .* failed: TLS: "):
            peer.client.read(timeout=PATIENCE)
        with pytest.raises(ConnectionLostError, match="alert bad record mac"):
            peer.session.decrypt(peer.sock.recv(65536))


def test_a_server_tells_a_cut_from_an_end(
    ground: Ground, logged: Callable[[str], list[str]]
) -> None:
    ends: list[str] = []

    class Noting(StreamConnection):
        def process_hup(self) -> None:
            ends.append("end")

        def process_error(self, error: Exception) -> None:
            ends.append(type(error).__name__)

    server = ground.serve(Noting, TLS, tls=server_options())
    address = Address.parse(server.addresses[0])
    dial(address, tls=client_options()).close()
    until(lambda: ends)
    with connect(address, tls=client_options()):
        pass
    until(lambda: len(ends) == 2)
    assert ends == ["TruncatedError", "end"]
    until(lambda: server.counts["lost"] == 1)
    assert logged("closed: tls://127.0.0.1") == logged("the stream was cut off")


@pytest.mark.parametrize("cut", [True, False])
def test_a_peer_that_has_gone_is_freed_without_the_garbage_collector(
    ground: Ground, cut: bool
) -> None:
    # With TLS 1.3 there would be tickets: unread, they would make it a reset.
    server = ground.serve(echo(), TLS, tls=only_12(server_options(), server_side=True))
    address = Address.parse(server.addresses[0])

    def come_and_go() -> weakref.ref[Any]:
        transport = dial(address, tls=client_options())
        until(lambda: server.peers)
        (peer,) = server.peers
        if not cut:
            transport.finish()
        transport.close()
        until(lambda: not server.peers)
        assert isinstance(peer._error, TruncatedError) == cut
        return weakref.ref(peer)

    frees_at_once(come_and_go)


def test_a_peer_that_never_reads_is_a_slow_consumer(moved: Ground, clock: MovedClock) -> None:
    errors: list[Exception] = []

    class Talking(StreamConnection):
        def process_connected(self) -> None:
            while True:
                self.write(bytes(100_000))

        def process_error(self, error: Exception) -> None:
            errors.append(error)

    server = moved.serve(Talking, TLS, tls=server_options())
    other = moved.serve(echo(), TLS, tls=server_options())
    silent = dial(Address.parse(server.addresses[0]), tls=client_options())
    until(lambda: server.peers and server.peers[0].outbox.is_full)
    with Client(other.addresses[0], tls=client_options()) as client:
        assert client.request(Message("ECHO", {"text": "x"}))["text"] == "x"
    clock.advance(11.0)
    until(lambda: not server.peers)
    (error,) = errors
    assert isinstance(error, SlowConsumerError)
    silent.close()


# --- what was sent before -------------------------------------------------------------------------


class Collecting(StreamConnection):
    """Keeps what comes, and how it ended."""

    all: ClassVar[list[Collecting]] = []

    def process_connected(self) -> None:
        self.data = b""
        self.end = ""
        self.all.append(self)

    def process_read(self, data: bytes) -> None:
        self.data += data

    def process_hup(self) -> None:
        self.end = "end"

    def process_error(self, error: Exception) -> None:
        self.end = f"{type(error).__name__}: {error}"


@pytest.fixture
def collected() -> Iterator[list[Collecting]]:
    """The connections that have collected something."""
    Collecting.all.clear()
    yield Collecting.all
    Collecting.all.clear()


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
def test_what_a_client_sends_right_before_its_close_arrives_whole(
    version: str, size: int, ground: Ground, collected: list[Collecting]
) -> None:
    """Also the client that has read nothing, not even what the server says by itself."""
    options = server_options()
    if version == "1.2":
        only_12(options, server_side=True)
    server = ground.serve(Collecting, TLS, tls=options)
    data = random.Random(size).randbytes(size)
    for _ in range(3):
        stream = connect(server.addresses[0], tls=client_options())
        stream.write(data)
        stream.close()
    until(lambda: len(collected) == 3 and all(one.end for one in collected))
    for one in collected:
        assert (one.end, len(one.data), one.data == data) == ("end", size, True)


@pytest.mark.parametrize("size", [1, 100_000, 3_000_000])
def test_what_a_server_sends_right_before_its_close_arrives_whole(
    size: int, ground: Ground
) -> None:
    data = random.Random(size).randbytes(size)

    class Talking(StreamConnection):
        def process_connected(self) -> None:
            self.write(data)
            self.close()

    server = ground.serve(Talking, TLS, tls=server_options())
    with connect(server.addresses[0], tls=client_options()) as stream:
        until(lambda: server.counts["accepted"])
        settle()
        found = b""
        while part := stream.read(timeout=PATIENCE):
            found += part
        assert found == data


def test_a_close_waits_until_the_server_has_spoken() -> None:
    """Else its word would meet a closed socket, and the reset would take what it has not read."""
    data = random.Random(8).randbytes(1_000_000)
    with Encrypted(connect, tickets=False) as peer:
        peer.client.write(data)
        closing = gevent.spawn(peer.client.close)
        settle()  # and burns no time meanwhile
        early = closing.ready()
        peer.send_tickets()
        found = b""
        while part := peer.read():
            found += part
        assert found == data
        closing.get(timeout=PATIENCE)
        assert not early


def test_a_close_that_has_waited_for_room_waits_for_the_server_too() -> None:
    with Encrypted(connect, tickets=False) as peer:
        peer.client.write(bytes(8_000_000))
        closing = gevent.spawn(peer.client.close)
        found = 0
        while found < 8_000_000:
            found += len(peer.read())
        settle()
        assert not closing.ready()
        peer.send_tickets()
        assert peer.read() == b""
        closing.get(timeout=PATIENCE)


def test_a_half_close_waits_for_room() -> None:
    a, b = tls_pair(*memory_pair())
    taken, refused = fill(a)
    a.shutdown_write()
    pull = Pull(b)
    pull.wait_for_end()
    assert pull.error is None
    assert (taken + refused).startswith(bytes(pull.data))
    assert len(pull.data) >= len(taken)
    settle()
    a.close()
    b.close()


@pytest.mark.parametrize("how", ["before", "meanwhile"])
def test_a_half_close_towards_nobody_is_none(how: str) -> None:
    a, b = tls_pair(*memory_pair())
    fill(a)
    if how == "before":
        b.close()
    a.shutdown_write()
    b.close()
    settle()
    a.close()


def test_a_close_waits_for_a_silent_server_no_longer_than_it_may(
    clock: MovedClock, logged: Callable[[str], list[str]]
) -> None:
    with Encrypted(Client, tickets=False, clock=clock) as peer:
        peer.client.send(Message("LAST"))
        closing = gevent.spawn(peer.client.close)
        until(lambda: clock.pending)
        settle()
        assert not closing.ready()
        clock.advance(5.0)
        closing.get(timeout=PATIENCE)
        assert peer.read() == b"LAST\n"


def test_a_client_that_only_sends_is_told_that_it_was_refused(
    ground: Ground, logged: Callable[[str], list[str]]
) -> None:
    server = ground.serve(echo(), TLS, tls=server_options(mutual=True))
    with Client(server.addresses[0], tls=client_options()) as client:
        client.send(Message("NEWS"))
    (line,) = logged("what was sent last may be lost: ")
    assert "certificate required" in line


def test_a_half_closed_client_is_still_answered(ground: Ground) -> None:
    class Answering(Collecting):
        def process_hup(self) -> None:
            self.write(b"got " + self.data)

    server = ground.serve(Answering, TLS, tls=server_options())
    with connect(server.addresses[0], tls=client_options()) as stream:
        stream.write(b"question")
        transport: Any = stream._connection._transport
        transport.shutdown_write()
        assert stream.read(timeout=PATIENCE) == b"got question"
        assert stream.read(timeout=PATIENCE) == b""
