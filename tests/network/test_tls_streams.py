"""Bytes over TLS: many, both ways at once, at the end, and over links that come back."""

from __future__ import annotations

import _socket
import fcntl
import os
import random
from collections.abc import Callable

import gevent
import pytest
from gevent import socket
from link_ground import number, numbers
from network_ground import PATIENCE, Ground, echo, until
from tls_ground import (
    Encrypted,
    authority,
    client_options,
    server_options,
    server_pair,
    tls_pair,
)

from edgevent import (
    Address,
    CertificateError,
    Client,
    ConnectionLostError,
    Dispatcher,
    Message,
    PermanentConnection,
    StreamConnection,
)
from edgevent.links.greeting import Greeting
from edgevent.runtime.clock import SYSTEM_CLOCK
from edgevent.runtime.turns import Turns
from edgevent.testing.clock import settle
from edgevent.testing.exchange import fill
from edgevent.tls_session import TlsSession
from edgevent.transport.base import StreamTransport
from edgevent.transport.fd import FdTransport
from edgevent.transport.handshake import secure
from edgevent.transport.memory import memory_pair
from edgevent.transport.secure import TlsTransport
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


def receive_all(side: StreamConnection, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += side.receive(PATIENCE)
    return found


@pytest.mark.parametrize("make", [small_sockets, small_pipes])
def test_400000_bytes_go_each_way_at_once_through_small_buffers(make: Callable[[], Pair]) -> None:
    data = random.Random(9).randbytes(400_000)
    sides = [StreamConnection(transport) for transport in tls_pair(*make())]

    tasks = [gevent.spawn(receive_all, side, len(data)) for side in sides]
    for start in range(0, len(data), 50_000):
        for side in sides:
            side.write(data[start : start + 50_000])
    assert [task.get(timeout=PATIENCE) == data for task in tasks] == [True, True]
    for side in sides:
        side.close()
    until(lambda: all(side.is_closed for side in sides))
    settle()


def test_a_way_that_takes_a_few_bytes_at_a_time_is_wide_enough() -> None:
    """Both sides wait for room in the middle of their handshake, and of every record."""
    a, b = memory_pair(7)
    greeted: list[TlsTransport | None] = []
    session = TlsSession(server_options(), "tls://client", server_side=True)
    Greeting(
        TlsTransport(b, session),
        Turns.current(),
        SYSTEM_CLOCK,
        PATIENCE,
        "test",
        100,
        on_failed=lambda greeting, error: greeted.append(None),
        on_end=lambda greeting, transport: greeted.append(transport),
    )
    address = Address.parse("tls://localhost:1")
    client = StreamConnection(secure(a, address, client_options(), PATIENCE, SYSTEM_CLOCK))
    data = random.Random(1).randbytes(20_000)
    answer = gevent.spawn(receive_all, client, len(data))  # and the session tickets before it
    until(lambda: greeted)
    assert greeted[0] is not None
    server = StreamConnection(greeted[0])
    client.write(data)
    assert receive_all(server, len(data)) == data
    server.write(data)
    assert answer.get(timeout=PATIENCE) == data
    client.close()
    assert server.receive_or_end(PATIENCE) == b""
    server.close()
    until(lambda: server.is_closed and client.is_closed)
    settle()


def test_a_peer_that_reads_nothing_cannot_let_answers_pile_up() -> None:
    a, b = tls_pair(*memory_pair())
    fill(a)

    def ask_again_and_again() -> None:
        for _ in range(1000):
            a._hold(bytes(1000))

    with pytest.raises(ConnectionLostError, match="it reads nothing, and asks for ever more"):
        ask_again_and_again()
    assert a._pending is not None
    assert len(a._pending) < 300_000
    a.close()
    b.close()


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
