"""Bytes over TLS: many, both ways at once, at the end, and over links that come back."""

from __future__ import annotations

import _socket
import fcntl
import os
import random
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import gevent
import pytest
from gevent import socket
from link_ground import number, numbers
from network_ground import PATIENCE, Ground, MovedClock, echo, until
from tls_ground import (
    Encrypted,
    authority,
    client_options,
    only_12,
    server_options,
    server_pair,
    tls_pair,
)

from edgevent import (
    CertificateError,
    Client,
    ConnectionLostError,
    Dispatcher,
    Message,
    PermanentConnection,
    StreamConnection,
    connect,
)
from edgevent.testing.clock import settle
from edgevent.transport.base import StreamTransport
from edgevent.transport.fd import FdTransport
from edgevent.transport.stream import SocketTransport

TLS = "tls://127.0.0.1:0"
Pair = tuple[StreamTransport, StreamTransport]


def small_sockets() -> Pair:
    pair = socket.socketpair()
    transports = []
    for sock in pair:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, 4096)
        transports.append(SocketTransport(_socket.socket(fileno=sock.detach())))
    return transports[0], transports[1]


def small_pipes() -> Pair:
    here, there = os.pipe2(os.O_NONBLOCK), os.pipe2(os.O_NONBLOCK)
    for descriptor in (here[1], there[1]):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, 4096)
    return FdTransport(here[0], there[1], peer="b"), FdTransport(there[0], here[1], peer="a")


@pytest.mark.parametrize("make", [small_sockets, small_pipes])
def test_400000_bytes_go_each_way_at_once_through_small_buffers(make: Callable[[], Pair]) -> None:
    data = random.Random(9).randbytes(400_000)
    sides = [StreamConnection(transport) for transport in tls_pair(*make())]

    def receive(side: StreamConnection) -> bytes:
        found = b""
        while len(found) < len(data):
            found += side.receive(PATIENCE)
        return found

    tasks = [gevent.spawn(receive, side) for side in sides]
    for start in range(0, len(data), 50_000):
        for side in sides:
            side.write(data[start : start + 50_000])
    assert [task.get(timeout=PATIENCE) == data for task in tasks] == [True, True]
    for side in sides:
        side.close()
    until(lambda: all(side.is_closed for side in sides))
    settle()


# --- the end --------------------------------------------------------------------------------------


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


# --- links that come back -------------------------------------------------------------------------


def test_a_link_comes_back_to_a_server_with_another_certificate(ground: Ground) -> None:
    server = ground.serve(echo(), TLS, tls=server_options())
    address = server.addresses[0]
    link = ground.communicator.add_connection(
        PermanentConnection(address, tls=client_options(), pauses="0.01")
    )
    link.wait_until_up(PATIENCE)
    assert link.request(Message("ECHO", {"text": "1"}))["text"] == "1"
    for pair in (server_pair("127.0.0.1", "second"), server_pair("127.0.0.1", "third")):
        peers = server.peers
        server.close()
        for peer in peers:
            peer.close()
        until(lambda: not link.is_connected)
        server = ground.serve(echo(), address, tls=server_options(pair))
        link.wait_until_up(PATIENCE)
        assert link.request(Message("ECHO", {"text": "2"}))["text"] == "2"
        assert link.tls is not None
        assert link.tls.peer_certificate == pair.certificate


def test_a_link_comes_back_after_a_handshake_that_failed(ground: Ground) -> None:
    foreign = server_pair(authority=authority("other authority"))
    server = ground.serve(echo(), TLS, tls=server_options(foreign))
    address = server.addresses[0]
    failures: list[Exception] = []
    link = PermanentConnection(address, tls=client_options(), pauses="0.01")
    link.on_connection_failed(lambda link, error: failures.append(error))
    link.send(Message("ECHO", {"text": "kept"}), cache=True)
    ground.communicator.add_connection(link)
    until(lambda: len(failures) > 1)
    assert all(isinstance(error, CertificateError) for error in failures)
    server.close()
    received: list[str] = []
    service = Dispatcher()
    service.on("ECHO")(lambda message, peer: received.append(message["text"]))
    ground.serve(service, address, tls=server_options())
    link.wait_until_up(PATIENCE)
    until(lambda: received)
    assert received == ["kept"]


def test_a_link_that_is_refused_by_its_server_says_why(
    ground: Ground, logged: Callable[[str], list[str]]
) -> None:
    server = ground.serve(echo(), TLS, tls=server_options(mutual=True))
    link = PermanentConnection(server.addresses[0], tls=client_options(), pauses="3600")
    ground.communicator.add_connection(link)
    until(lambda: logged("lost the link"))
    assert "certificate required" in logged("lost the link")[0]


def test_what_was_sent_before_a_loss_is_told_apart_as_without_tls(ground: Ground) -> None:
    with Encrypted(PermanentConnection, add=ground.communicator, pauses="3600") as peer:
        link = peer.client
        link.wait_until_up(PATIENCE)
        count = 0
        while not link.is_full:
            link.send(number(count).with_parameters(text="x" * 50_000))
            count += 1
        got = b""
        while got.count(b"\n") < 3:
            got += peer.read()
        whole = got.count(b"\n")
        peer.drop()
        until(lambda: not link.is_connected and len(link.undelivered))
        in_doubt, unsent = numbers(link.undelivered.in_doubt), numbers(link.undelivered.unsent)
        assert [*in_doubt, *unsent] == list(range(count))
        assert unsent
        assert whole <= unsent[0]  # what has arrived is not called unsent


def test_messages_survive_a_link_in_their_order(ground: Ground) -> None:
    seen: list[int] = []
    service = Dispatcher()
    service.on("NUMBER")(lambda message, peer: seen.append(message.integer("n")))
    server = ground.serve(service, TLS, tls=server_options())
    link = PermanentConnection(server.addresses[0], tls=client_options(), pauses="0.01")
    for n in range(50):
        link.send(number(n), cache=True)
    ground.communicator.add_connection(link)
    for n in range(50, 100):
        link.send(number(n), cache=True)
    until(lambda: len(seen) == 100)
    assert seen == list(range(100))


def test_a_client_dials_anew_after_a_loss(ground: Ground) -> None:
    server = ground.serve(echo(), TLS, tls=server_options())
    with Client(server.addresses[0], tls=client_options(), wait=True) as client:
        for text in ("1", "2", "3"):
            assert client.request(Message("ECHO", {"text": text}))["text"] == text
            for peer in server.peers:
                peer.cut()
    with Client(server.addresses[0], tls=client_options()) as client:
        assert client.request(Message("ECHO", {"text": "x"}))["text"] == "x"
        for peer in server.peers:
            peer.cut()
        with pytest.raises(ConnectionLostError, match="the peer has ended the connection"):
            client.request(Message("ECHO", {"text": "x"}))
