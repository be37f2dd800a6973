"""Servers: what they make of a peer."""

from __future__ import annotations

import re
import struct
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gevent import socket
from gevent.event import Event
from network_ground import (
    PATIENCE,
    Ground,
    ask,
    echo,
    frees_at_once,
    read_all,
    read_lines,
    until,
)

from edgevent import (
    Client,
    Communicator,
    Connection,
    Dispatcher,
    LineConnection,
    Message,
    MessageConnection,
    Server,
    StreamConnection,
    UsageError,
    limits,
)
from edgevent.testing.clock import settle
from edgevent.transport import stream


@pytest.fixture(params=["tcp", "unix", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A free address of each kind."""
    kinds = {"tcp": "tcp://127.0.0.1:0", "unix": f"unix:{tmp_path}/s", "abstract": f"@{tmp_path}"}
    return f"unix:{kinds['abstract']}" if request.param == "abstract" else kinds[request.param]


def test_a_function_has_its_peer_for_a_conversation(ground: Ground, address: str) -> None:
    def conversation(connection: MessageConnection) -> None:
        connection.send(Message("HI"))
        for message in connection:
            if message.command == "MOM":
                connection.send(Message("BYE"))
                return
            connection.send(message.reply("SO", {"said": message.command}))

    sock = ground.dial(ground.serve(conversation, address))
    assert read_lines(sock, 1) == [b"HI"]
    sock.sendall(b"DAD\nCLIMB\n")
    assert read_lines(sock, 2) == [b"SO said=DAD", b"SO said=CLIMB"]
    sock.sendall(b"MOM\n")
    assert read_all(sock) == b"BYE\n"


def test_a_conversation_ends_with_the_stream_of_its_peer(ground: Ground) -> None:
    ended = Event()

    def conversation(connection: MessageConnection) -> None:
        for message in connection:
            connection.send(message)
        ended.set()

    server = ground.serve(conversation)
    sock = ground.dial(server)
    sock.sendall(b"ONE\nTWO\n")
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock) == b"ONE\nTWO\n"
    assert ended.wait(PATIENCE)
    until(lambda: not server.peers)


def test_a_conversation_that_raises_is_logged_and_ends_its_peer_alone(
    ground: Ground, logged: Callable[[str], list[str]]
) -> None:
    def conversation(connection: MessageConnection) -> None:
        for message in connection:
            connection.send(Message("N", {"n": 10 // message.integer("n")}))

    server = ground.serve(conversation)
    good, bad = ground.dial(server), ground.dial(server)
    bad.sendall(b"D n=0\n")
    assert read_all(bad) == b""
    assert re.search(r"conversation failed, id=[0-9a-f]{8}$", logged("failed")[0])
    good.sendall(b"D n=5\n")
    assert read_lines(good, 1) == [b"N n=2"]


def test_a_conversation_whose_peer_vanishes_is_no_failure(
    ground: Ground, logged: Callable[[str], list[str]]
) -> None:
    def conversation(connection: MessageConnection) -> None:
        while True:
            connection.receive()

    server = ground.serve(conversation)
    ground.dial(server).close()
    until(lambda: server.counts["accepted"] and not server.peers)
    assert not logged("failed")


def test_a_dispatcher_handles_the_messages_of_all_peers(ground: Ground, address: str) -> None:
    server = ground.serve(echo(), address)
    socks = [ground.dial(server) for _ in range(5)]
    for number, sock in enumerate(socks):
        ask(sock, str(number))
    assert server.counts["accepted"] == len(server.peers) == 5


def test_the_dispatcher_of_the_communicator_serves_where_none_was_given() -> None:
    with Ground(Communicator(echo())) as ground:
        ask(ground.dial(ground.serve()), "x")


def test_without_any_dispatcher_the_default_commands_are_answered(ground: Ground) -> None:
    sock = ground.dial(ground.serve())
    sock.sendall(b"ALIVE serial=5\n")
    assert read_lines(sock, 1)[0].startswith(b"ABSOLUTELY ")


class Echo(StreamConnection):
    def process_read(self, data: bytes) -> None:
        self.write(data.upper())


class Numbered(LineConnection):
    def __init__(self, transport: Any, **settings: Any) -> None:
        super().__init__(transport, **settings)
        self.count = 0

    def process_line(self, line: bytes) -> None:
        self.count += 1
        self.write_line(b"%d %s" % (self.count, line))


class Sensor(MessageConnection):
    def process_connected(self) -> None:
        self.send(Message("HI"))

    def process_message(self, message: Message) -> bool:
        if message.command == "READ":
            self.send(message.reply("IS", {"value": 42}))
            return True
        return False


def test_a_class_of_raw_bytes(ground: Ground, address: str) -> None:
    sock = ground.dial(ground.serve(Echo, address))
    sock.sendall(b"no newline")
    assert sock.recv(100) == b"NO NEWLINE"


def test_a_class_of_lines(ground: Ground, address: str) -> None:
    sock = ground.dial(ground.serve(Numbered, address))
    sock.sendall(b"a\r\n\nlast")
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock) == b"1 a\r\n2 \n3 last\n"


def test_a_class_of_messages(ground: Ground, address: str) -> None:
    sock = ground.dial(ground.serve(Sensor, address))
    sock.sendall(b"READ serial=1\nWRITE serial=2\n")
    assert read_lines(sock, 3) == [
        b"HI",
        b"IS serial=1;value=42",
        b"UNKNOWN command=WRITE",
    ]


def one() -> Dispatcher:
    service = Dispatcher()
    service.on("ONE")(lambda message, peer: Message("OK"))
    return service


def test_a_class_of_messages_with_a_dispatcher(ground: Ground) -> None:
    sock = ground.dial(ground.serve(Sensor, dispatcher=one()))
    sock.sendall(b"ONE\nREAD serial=1\n")
    assert read_lines(sock, 3) == [b"HI", b"OK", b"IS serial=1;value=42"]


def test_a_function_hands_messages_on_to_a_dispatcher(ground: Ground) -> None:
    def conversation(connection: MessageConnection) -> None:
        for message in connection:
            connection.dispatch(message)

    sock = ground.dial(ground.serve(conversation, dispatcher=one()))
    sock.sendall(b"ONE\nNONE\n")
    assert read_lines(sock, 2) == [b"OK", b"UNKNOWN command=NONE"]


def test_two_dispatchers_are_one_too_many() -> None:
    with pytest.raises(UsageError, match="one dispatcher"):
        Server("tcp://127.0.0.1:0", one(), dispatcher=one())


class Recorder(MessageConnection):
    """Notes which hooks are called."""

    calls: list[str]

    def process_connected(self) -> None:
        self.calls.append("connected")

    def process_message(self, message: Message) -> bool:
        self.calls.append(message.command)
        return True

    def process_hup(self) -> None:
        self.calls.append("hup")

    def process_error(self, error: Exception) -> None:
        self.calls.append(f"error {type(error).__name__}")

    def connection_added(self) -> None:
        self.calls.append("added")

    def connection_removed(self) -> None:
        self.calls.append("removed")


@pytest.fixture
def recorder() -> type[Recorder]:
    return type("Fresh", (Recorder,), {"calls": []})


def test_the_hooks_of_a_peer_that_ends_its_stream(ground: Ground, recorder: type[Recorder]) -> None:
    sock = ground.dial(ground.serve(recorder))
    sock.sendall(b"ONE\nTWO\n")
    sock.close()
    until(lambda: "removed" in recorder.calls)
    assert recorder.calls == ["added", "connected", "ONE", "TWO", "hup", "removed"]


def reset(sock: socket.socket) -> None:
    """Ends a TCP connection as a crash of the peer's machine does."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


def test_the_hooks_of_a_peer_whose_connection_breaks(
    ground: Ground, recorder: type[Recorder], logged: Callable[[str], list[str]]
) -> None:
    server = ground.serve(recorder)
    sock = ground.dial(server)
    until(lambda: "connected" in recorder.calls)
    reset(sock)
    until(lambda: "removed" in recorder.calls)
    assert recorder.calls == ["added", "connected", "error ConnectionLostError", "removed"]
    assert len(logged("closed: receiving from tcp://127.0.0.1:")) == 1
    assert server.counts["lost"] == 1


def test_connected_comes_before_the_first_message_although_a_hook_blocks(ground: Ground) -> None:
    calls: list[str] = []
    added, go_on = Event(), Event()

    class Slow(Recorder):
        def connection_added(self) -> None:
            added.set()
            go_on.wait()

    Slow.calls = calls
    sock = ground.dial(ground.serve(Slow))
    sock.sendall(b"ONE\n")
    sock.shutdown(socket.SHUT_WR)
    assert added.wait(PATIENCE)
    settle()
    go_on.set()
    until(lambda: "hup" in calls)
    assert calls[:3] == ["connected", "ONE", "hup"]


@pytest.mark.parametrize("handler", [5, "name", Connection, dict])
def test_what_is_no_handler_is_refused(handler: Any) -> None:
    with pytest.raises(UsageError, match="is no handler"):
        Server("tcp://127.0.0.1:0", handler)


def test_a_class_that_cannot_be_made_costs_that_peer_alone(
    ground: Ground, logged: Callable[[str], list[str]]
) -> None:
    class Picky(Sensor):
        count = 0

        def __init__(self, transport: Any, **settings: Any) -> None:
            Picky.count += 1
            if Picky.count == 1:
                raise LookupError("not this one")
            super().__init__(transport, **settings)

    server = ground.serve(Picky)
    assert read_all(ground.dial(server)) == b""
    assert len(logged("making a connection failed, id=")) == 1
    assert read_lines(ground.dial(server), 1) == [b"HI"]
    assert server.handler_errors == 1


@pytest.mark.parametrize("handler", [Numbered, Sensor])
def test_the_line_limit_of_a_server_is_that_of_its_peers(
    ground: Ground, handler: Any, logged: Callable[[str], list[str]]
) -> None:
    server = ground.serve(handler, max_line_bytes=10)
    sock = ground.dial(server)
    sock.sendall(b"A" * 11 + b"\n")
    assert read_all(sock).replace(b"HI\n", b"") == b""
    assert len(logged("a line over the limit came")) == 1


@pytest.mark.parametrize("size", [0, 16 * 1024 * 1024 + 1])
def test_a_line_limit_that_cannot_be_is_refused_at_once(size: int) -> None:
    with pytest.raises(ValueError, match="max_line_bytes="):
        Server("tcp://127.0.0.1:0", max_line_bytes=size)


def test_peers_have_the_priority_that_the_server_gives_or_their_class(ground: Ground) -> None:
    class Urgent(Sensor):
        def __init__(self, transport: Any, **settings: Any) -> None:
            super().__init__(transport, priority=7, **settings)

    for settings, expected in (({}, 7), ({"peer_priority": 3}, 3)):
        server = ground.serve(Urgent, **settings)
        read_lines(ground.dial(server), 1)
        assert [peer.priority for peer in server.peers] == [expected]


def test_peers_have_the_outbox_that_the_server_gives_or_their_class(ground: Ground) -> None:
    class Hasty(Sensor):
        def __init__(self, transport: Any, **settings: Any) -> None:
            super().__init__(transport, **settings)
            self.when_full = "drop"
            self.outbox.slow_timeout = 2.0

    given = {"when_full": "raise", "slow_timeout": 1.5, "max_outbox_bytes": 1000}
    for settings, expected in (
        ({}, ("drop", 2.0, limits.OUTBOX_BYTES)),
        (given, ("raise", 1.5, 1000)),
    ):
        server = ground.serve(Hasty, **settings)
        read_lines(ground.dial(server), 1)
        (peer,) = server.peers
        assert (peer.when_full, peer.outbox.slow_timeout, peer.outbox.max_bytes) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"when_full": "block"}, "when_full='block': 'wait', 'raise' or 'drop' was expected"),
        ({"slow_timeout": 0.0}, "slow_timeout=0.0: more than 0 was expected"),
        ({"max_outbox_bytes": 0}, "max_outbox_bytes=0: 1 to 8388608 was expected"),
    ],
)
def test_an_outbox_that_cannot_be_is_refused_at_once(
    settings: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(expected)):
        Server("tcp://127.0.0.1:0", **settings)


@pytest.mark.parametrize("allowed", [False, True])
def test_control_is_allowed_to_the_peers_of_a_server(ground: Ground, allowed: bool) -> None:
    server = ground.serve(Sensor, allow_control=allowed)
    read_lines(ground.dial(server), 1)
    (peer,) = server.peers
    assert peer._allow_control is allowed


def test_a_client_meets_a_server_at_each_kind_of_address(ground: Ground, address: str) -> None:
    server = ground.serve(echo(), address)
    with Client(server.addresses[0]) as client:
        assert client.request(Message("ECHO", {"text": "x"}))["text"] == "x"


@pytest.mark.parametrize("kind", ["dispatcher", "conversation", "raw", "reset"])
def test_a_peer_that_has_gone_is_freed_without_the_garbage_collector(
    ground: Ground, address: str, kind: str
) -> None:
    def converse(connection: MessageConnection) -> None:
        for message in connection:
            connection.send(message.reply("ECHOED", {"text": message["text"]}))

    class Raw(StreamConnection):
        def process_read(self, data: bytes) -> None:
            self.write(data.replace(b"ECHO", b"ECHOED"))

    handlers: dict[str, Any] = {"conversation": converse, "raw": Raw}
    server = ground.serve(handlers.get(kind, echo()), address)

    def come_and_go() -> weakref.ref[Any]:
        sock = ground.dial(server)
        ask(sock, "a")
        (peer,) = server.peers
        if kind == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        until(lambda: not server.peers)
        return weakref.ref(peer)

    frees_at_once(come_and_go)


def test_who_has_ended_the_stream_is_not_read_again_at_the_close(
    ground: Ground, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[object] = []
    monkeypatch.setattr(stream, "drop_input", looked.append)
    server = ground.serve(echo(), address)
    with ground.dial(server) as sock:
        ask(sock, "a")
    until(lambda: not server.peers)
    assert looked == []
    ground.dial(server)
    until(lambda: server.peers)
    server.peers[0].close()  # what the peer has sent, and nobody has read, would reset it
    assert len(looked) == 1
