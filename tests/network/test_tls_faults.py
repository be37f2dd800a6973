"""TLS with peers that are silent, slow, of another kind, or gone; and what is left of them."""

from __future__ import annotations

import _socket
import gc
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from network_ground import PATIENCE, Ground, MovedClock, ask, echo, read_all, until
from scripted_peer import ScriptedPeer
from tls_ground import (
    client_options,
    client_pair,
    server_options,
    tls_pair,
)

from edgevent import (
    Client,
    ConnectionLostError,
    HandshakeError,
    Message,
    StreamConnection,
    TruncatedError,
    connect,
)
from edgevent.limits import GOODBYE_TIMEOUT, TLS_HANDSHAKE_TIMEOUT
from edgevent.testing.clock import settle
from edgevent.tls_session import TlsSession
from edgevent.transport.secure import TlsTransport
from edgevent.transport.stream import SocketTransport

TLS = "tls://127.0.0.1:0"


def hello() -> bytes:
    """The first bytes of a client."""
    session = TlsSession(client_options(), "tls://server", server_side=False)
    session.handshake()
    data = session.take()
    session.release()
    return data


# --- peers that are silent or slow ----------------------------------------------------------------


@pytest.mark.parametrize("count", [50, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("what", ["silence", "half a hello", "a byte a second"])
def test_a_handshake_has_five_seconds(
    what: str, count: int, moved: Ground, clock: MovedClock, logged: Callable[[str], list[str]]
) -> None:
    server = moved.serve(echo(), TLS, tls=server_options())
    plain = moved.serve(echo())
    begin = hello()
    first = {"silence": b"", "half a hello": begin[:100], "a byte a second": begin[:1]}[what]
    peers = [moved.dial(server) for _ in range(count)]
    for peer in peers:
        peer.sendall(first)
    until(lambda: len(server._greetings) == count)
    for second in range(1, 5):
        clock.advance(1.0)
        if what == "a byte a second":
            for peer in peers:
                peer.sendall(begin[second : second + 1])
    settle()
    assert len(server._greetings) == count
    ask(moved.dial(plain), "others go on")
    clock.advance(TLS_HANDSHAKE_TIMEOUT - 4.0)
    for peer in peers:
        assert peer.recv(100) == b""
        peer.close()
    until(lambda: not server._greetings)
    assert server.counts["lost"] == count
    (line,) = logged("no TLS with")
    assert line.endswith("no TLS handshake within 5 s")


def test_the_limit_of_a_handshake_is_an_option(moved: Ground, clock: MovedClock) -> None:
    server = moved.serve(echo(), TLS, tls=server_options(handshake_timeout=0.2))
    peer = moved.dial(server)
    until(lambda: server._greetings)
    clock.advance(0.2)
    assert peer.recv(1) == b""


def test_a_server_that_says_nothing_ends_the_dial_in_time(
    peer: ScriptedPeer, clock: MovedClock
) -> None:
    address = peer.address.replace("tcp:", "tls:")
    task = gevent.spawn(Client, address, tls=client_options(), clock=clock)
    peer.accept()
    until(lambda: clock.pending)
    settle()
    clock.advance(5.0)
    with pytest.raises(HandshakeError, match=rf"{address}: no TLS handshake within 5 s"):
        task.get(timeout=PATIENCE)
    assert hello()[:3] == peer.sock.recv(65536)[:3]


def test_a_peer_whose_handshake_failed_is_closed_although_it_stays(
    moved: Ground, clock: MovedClock
) -> None:
    server = moved.serve(echo(), TLS, tls=server_options(), max_connections=1)
    peer = moved.dial(server)
    peer.sendall(b"HELLO\n")
    read_all(peer)
    next_peer = moved.dial(server)
    settle()
    peer.sendall(b"and more")
    assert len(server._greetings) == 1  # it counts as long as its descriptor is open
    assert server.counts["accepted"] == 1
    clock.advance(GOODBYE_TIMEOUT)
    until(lambda: server.counts["accepted"] == 2)
    next_peer.close()
    until(lambda: not server._greetings)


# --- peers of another kind ------------------------------------------------------------------------


def test_text_in_the_clear_into_a_tls_port_100_times(
    ground: Ground, logged: Callable[[str], list[str]]
) -> None:
    server = ground.serve(echo(), TLS, tls=server_options())
    for number in range(100):
        with ground.dial(server) as peer:
            peer.sendall((b"ECHO text=x\n", b"GET / HTTP/1.0\r\n\r\n")[number & 1])
            peer.shutdown(socket.SHUT_WR)
            read_all(peer)  # an alert of some versions of OpenSSL, then the end
    until(lambda: not server._greetings)
    assert server.counts["lost"] == 100
    (line,) = logged("no TLS with")
    assert "the other side does not speak TLS" in line
    with Client(server.addresses[0], tls=client_options()) as client:
        assert client.request(Message("ECHO", {"text": "x"}))["text"] == "x"


def test_tls_into_a_port_in_the_clear_100_times(clock: MovedClock, moved: Ground) -> None:
    server = moved.serve(echo())
    address = server.addresses[0].replace("tcp:", "tls:")
    dials = [gevent.spawn(Client, address, tls=client_options(), clock=clock) for _ in range(100)]
    until(lambda: len(server.peers) == 100 or any(one.ready() for one in dials))
    settle()
    clock.advance(5.0)  # those whose first bytes had no newline in them were not answered
    failed = "the other side does not speak TLS|no TLS handshake within|the connection ended during"
    for one in dials:
        with pytest.raises(HandshakeError, match=failed):
            one.get(timeout=PATIENCE)
    until(lambda: not server.peers)


def test_a_service_in_the_clear_that_speaks_first_is_no_tls(peer: ScriptedPeer) -> None:
    address = peer.address.replace("tcp:", "tls:")
    task = gevent.spawn(Client, address, tls=client_options())
    peer.accept()
    peer.send("HI")
    peer.send("HOW ARE YOU")
    with pytest.raises(HandshakeError, match=f"{address}: the other side does not speak TLS"):
        task.get(timeout=PATIENCE)


# --- a close in the middle ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [b"", hello()[:50], hello(), b"rubbish"],
    ids=["nothing", "half a hello", "a hello", "rubbish"],
)
@pytest.mark.parametrize("how", ["close", "remove", "disable", "peer", "reset"])
def test_nothing_is_left_of_a_handshake_that_is_not_finished(
    how: str, first: bytes, moved: Ground, clock: MovedClock
) -> None:
    server = moved.serve(echo(), TLS, tls=server_options())
    before = clock.pending
    peer = moved.dial(server)
    peer.sendall(first)
    until(lambda: server._greetings)
    settle()
    if how == "close":
        server.close()
    elif how == "remove":
        moved.communicator.remove_connection(server)
        peer.close()
    elif how == "disable":
        server.enabled = False
        peer.close()
    else:
        if how == "reset":
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
    until(lambda: not server._greetings)
    assert clock.pending == before
    assert server.peers == ()
    server.close()


def test_a_stop_closes_those_who_shake_hands(moved: Ground, clock: MovedClock) -> None:
    server = moved.serve(echo(), TLS, tls=server_options())
    peers = [moved.dial(server) for _ in range(3)]
    until(lambda: len(server._greetings) == 3)
    moved.communicator.stop()
    for peer in peers:
        assert peer.recv(1) == b""
    assert server._greetings == set()


def test_a_server_that_was_removed_takes_nobody_who_is_still_shaking_hands(ground: Ground) -> None:
    server = ground.serve(echo(), TLS, tls=server_options())
    task = gevent.spawn(Client, server.addresses[0], tls=client_options())
    until(lambda: server._greetings)
    ground.communicator.remove_connection(server)
    try:
        with task.get(timeout=PATIENCE) as client, pytest.raises(ConnectionLostError):
            client.request(Message("ECHO", {"text": "x"}))
    except HandshakeError:
        pass  # it went before the client was done
    until(lambda: not server._greetings)
    assert server.peers == ()
    server.close()


def test_a_disabled_server_goes_on_with_those_whom_it_has_accepted(ground: Ground) -> None:
    server = ground.serve(echo(), TLS, tls=server_options())
    task = gevent.spawn(Client, server.addresses[0], tls=client_options())
    until(lambda: server._greetings)
    server.enabled = False
    with task.get(timeout=PATIENCE) as client:
        assert client.request(Message("ECHO", {"text": "x"}))["text"] == "x"


def test_those_who_shake_hands_count_as_connections(ground: Ground) -> None:
    server = ground.serve(echo(), TLS, tls=server_options(), max_connections=3)
    silent = [ground.dial(server) for _ in range(3)]
    until(lambda: len(server._greetings) == 3)
    task = gevent.spawn(Client, server.addresses[0], tls=client_options())
    settle()
    assert server.counts["accepted"] == 3
    silent[0].close()
    with task.get(timeout=PATIENCE) as client:
        assert client.request(Message("ECHO", {"text": "x"}))["text"] == "x"
        assert len(server.peers) == 1


def test_a_full_server_goes_on_when_no_connection_could_be_made(ground: Ground) -> None:
    class Failing(StreamConnection):
        made = 0

        def __init__(self, transport: Any, **settings: Any) -> None:
            Failing.made += 1
            if Failing.made == 1:
                raise ValueError("not this one")
            super().__init__(transport, **settings)

        def process_read(self, data: bytes) -> None:
            self.write(data)

    server = ground.serve(Failing, TLS, tls=server_options(), max_connections=1)
    with (
        connect(server.addresses[0], tls=client_options()) as first,
        connect(server.addresses[0], tls=client_options()) as second,
    ):
        second.write(b"x")
        assert second.read(timeout=PATIENCE) == b"x"
        with pytest.raises(TruncatedError):
            first.read(timeout=PATIENCE)


# --- nothing is left ------------------------------------------------------------------------------


def test_200_connections_leave_no_object(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    from OpenSSL import SSL

    caplog.set_level(logging.CRITICAL, "edgevent")  # its records would hold the errors

    def found(*kinds: type) -> int:
        return sum(isinstance(one, kinds) for one in gc.get_objects())

    server = ground.serve(echo(), TLS, tls=server_options(mutual=True))
    good, bad = client_options(client_pair()), client_options()

    def talk(times: int) -> None:
        for _ in range(times):
            with Client(server.addresses[0], tls=good) as client:
                client.request(Message("ECHO", {"text": "x"}))
            with (
                pytest.raises(ConnectionLostError),
                connect(server.addresses[0], tls=bad) as stream,
            ):
                stream.read(timeout=PATIENCE)
        until(lambda: not server.peers and not server._greetings)
        settle()

    talk(2)
    gc.collect()
    before = found(SSL.Connection), found(TlsTransport, TlsSession)
    gc.disable()
    try:
        talk(100)
        assert found(SSL.Connection) <= before[0]  # without the help of the garbage collector
    finally:
        gc.enable()
    gc.collect()
    assert found(TlsTransport, TlsSession) <= before[1]


def test_a_forked_child_has_no_part_in_a_conversation(tmp_path: Path) -> None:
    """What was decrypted and not yet handed over is handled by the parent alone."""
    ours, theirs = (_socket.socket(fileno=one.detach()) for one in socket.socketpair())
    a, b = tls_pair(SocketTransport(ours), SocketTransport(theirs))
    done = Event()

    def read() -> None:
        with open(tmp_path / "handled", "a") as file:
            file.write(f"{os.getpid()}\n")
        try:
            b.receive(1000)
        except BlockingIOError:
            b.unwatch_read()
            done.set()

    a.transmit(bytes(60_000))
    assert b.receive(1) == b"\0"  # the rest is here, and a poll is set for it
    b.watch_read(read)
    child = gevent.os.fork()
    if child == 0:
        try:
            gevent.sleep(0.01)
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert done.wait(PATIENCE)
    handled = (tmp_path / "handled").read_text().split()
    assert handled == [str(os.getpid())] * 61
    a.close()
    b.close()


def test_a_forked_child_ends_no_connection(ground: Ground) -> None:
    server = ground.serve(echo(), TLS, tls=server_options())
    silent = ground.dial(server)
    until(lambda: server._greetings)
    with Client(server.addresses[0], tls=client_options()) as client:
        assert client.request(Message("ECHO", {"text": "1"}))["text"] == "1"
        child = os.fork()
        if child == 0:
            code = 1
            try:
                client.close()
                server.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert client.request(Message("ECHO", {"text": "2"}))["text"] == "2"
    silent.close()
    until(lambda: not server._greetings)
