"""The layers over a stream: bytes, lines, messages; who receives them; cut in any pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from network_ground import PATIENCE, Ground, MovedClock, read_all, read_lines, until

from edgevent import (
    ClosedError,
    ConnectionLostError,
    Dispatcher,
    LineConnection,
    LineTooLongError,
    Message,
    MessageConnection,
    ReceiveTimeout,
    StreamConnection,
    UsageError,
)
from edgevent.testing.clock import settle

LAYERS = [StreamConnection, LineConnection, MessageConnection]


class Pair:
    """A connection, and what its peer does."""

    def __init__(self, near: Any, sock: socket.socket) -> None:
        self.near = near
        self.sock = sock

    def say(self, data: bytes) -> None:
        self.sock.sendall(data)
        settle()

    def end(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)
        settle()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Callable[[type[Any]], Pair]]:
    """Gives a dialled connection of a layer and its peer, a plain socket."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    made = []

    def make(layer: type[Any]) -> Pair:
        near = layer(f"unix:{tmp_path}/s")
        made.append(Pair(near, listener.accept()[0]))
        made[-1].sock.settimeout(PATIENCE)
        return made[-1]

    yield make
    for found in made:
        found.near.close()
        found.sock.close()
    listener.close()


# --- receiving ----------------------------------------------------------------------------------


def show(unit: Any) -> Any:
    return str(unit) if isinstance(unit, Message) else unit


@pytest.mark.parametrize(
    ("layer", "sent", "received"),
    [
        (StreamConnection, b"ONE\nTWO", [b"ONE\nTWO"]),
        (LineConnection, b"ONE\r\n\nTWO", [b"ONE\r", b"", b"TWO"]),
        (MessageConnection, b"ONE\r\n\nTWO a=b\nHALF", ["ONE", "TWO a=b"]),
    ],
)
def test_iteration_gives_each_unit_and_ends_with_the_stream(
    pair: Callable[..., Pair], layer: Any, sent: bytes, received: list[Any]
) -> None:
    both = pair(layer)
    both.sock.sendall(sent)
    both.sock.shutdown(socket.SHUT_WR)
    assert [show(unit) for unit in both.near] == received
    assert list(both.near) == []  # and again


@pytest.mark.parametrize("layer", LAYERS)
def test_receive_waits_for_one_unit(pair: Callable[..., Pair], layer: Any) -> None:
    both = pair(layer)
    receiver = gevent.spawn(both.near.receive)
    settle()
    assert not receiver.ready()
    both.say(b"ONE\n")
    assert show(receiver.get(timeout=PATIENCE)) in (b"ONE\n", b"ONE", "ONE")


@pytest.mark.parametrize("layer", LAYERS)
def test_receive_has_a_limit_and_loses_nothing_by_it(pair: Callable[..., Pair], layer: Any) -> None:
    both = pair(layer)
    clock = both.near._use_clock = MovedClock()
    receiver = gevent.spawn(both.near.receive, 2.5)
    settle()
    clock.advance(2.4)
    assert not receiver.ready()
    clock.advance(0.2)
    with pytest.raises(ReceiveTimeout, match=r"Connection-\d+: nothing came within 2\.5 s"):
        receiver.get(timeout=PATIENCE)
    both.say(b"ONE\n")
    assert show(both.near.receive()) in (b"ONE\n", b"ONE", "ONE")
    assert clock.pending == 0


@pytest.mark.parametrize("layer", LAYERS)
def test_a_second_receiver_is_a_mistake(pair: Callable[..., Pair], layer: Any) -> None:
    both = pair(layer)
    receiver = gevent.spawn(both.near.receive)
    settle()
    with pytest.raises(UsageError, match="another greenlet is receiving"):
        both.near.receive()
    both.say(b"ONE\n")
    assert receiver.get(timeout=PATIENCE)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_receiver_that_was_killed_makes_room_for_another(
    pair: Callable[..., Pair], layer: Any
) -> None:
    both = pair(layer)
    receiver = gevent.spawn(both.near.receive)
    settle()
    receiver.kill()
    both.say(b"ONE\n")
    assert both.near.receive()


@pytest.mark.parametrize("layer", LAYERS)
def test_receive_after_the_end_is_an_error_each_time(pair: Callable[..., Pair], layer: Any) -> None:
    both = pair(layer)
    both.say(b"ONE\n")
    both.end()
    both.near.receive()
    for _ in range(2):
        with pytest.raises(ConnectionLostError, match="the peer has ended the connection"):
            both.near.receive()
    assert both.near.receive_or_end() == b""


@pytest.mark.parametrize("layer", LAYERS)
def test_the_end_of_the_stream_wakes_a_receiver(pair: Callable[..., Pair], layer: Any) -> None:
    both = pair(layer)
    receiver = gevent.spawn(both.near.receive)
    settle()
    both.end()
    with pytest.raises(ConnectionLostError, match="the peer has ended the connection"):
        receiver.get(timeout=PATIENCE)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("end", ["close", "cut"])
def test_the_close_of_this_side_wakes_a_receiver(
    pair: Callable[..., Pair], layer: Any, end: str
) -> None:
    both = pair(layer)
    receiver = gevent.spawn(both.near.receive)
    settle()
    getattr(both.near, end)()
    with pytest.raises(ClosedError, match="is closed"):
        receiver.get(timeout=PATIENCE)
    with pytest.raises(ClosedError, match="is closed"):
        both.near.receive()
    with pytest.raises(ClosedError):
        both.near.write(b"x")


@pytest.mark.parametrize("layer", [LineConnection, MessageConnection])
def test_a_line_over_the_limit_ends_a_receiver_after_those_before_it(
    pair: Callable[..., Pair], layer: Any
) -> None:
    both = pair(layer)
    both.say(b"ONE\n" + b"x" * 70_000 + b"\nTWO\n")
    assert show(both.near.receive()) in (b"ONE", "ONE")
    for _ in range(2):
        with pytest.raises(LineTooLongError, match="a line over the limit came"):
            both.near.receive()


def test_what_has_come_before_the_first_receive_is_kept_and_bounded(
    pair: Callable[..., Pair],
) -> None:
    both = pair(StreamConnection)
    sending = gevent.spawn(both.sock.sendall, b"x" * (1 << 20))
    received = len(both.near.receive())
    settle()
    assert not sending.ready()
    assert both.near._inbox.size <= both.near._inbox.mark + 65536
    while received < 1 << 20:
        received += len(both.near.receive())
    sending.get(timeout=PATIENCE)


def test_a_receiver_has_what_would_go_to_handlers(ground: Ground) -> None:
    handled, service = [], Dispatcher()

    @service.otherwise
    def note(message: Message, peer: Any) -> None:
        handled.append(message.command)

    server = ground.serve(service)
    sock = ground.dial(server)
    until(lambda: server.peers)
    (peer,) = server.peers
    receiver = gevent.spawn(peer.receive)
    settle()
    sock.sendall(b"ONE\nTWO\n")
    assert receiver.get(timeout=PATIENCE).command == "ONE"
    until(lambda: handled)
    assert handled == ["TWO"]
    peer.dispatch(Message("THREE"))
    assert handled == ["TWO", "THREE"]


def test_an_iteration_has_what_comes_while_it_deals_with_a_unit(ground: Ground) -> None:
    service, handled, go_on = Dispatcher(), [], Event()

    @service.otherwise
    def note(message: Message, peer: Any) -> None:
        handled.append(message.command)

    def iterate(connection: MessageConnection) -> list[str]:
        found = []
        for message in connection:
            found.append(message.command)
            if message.command == "ONE":
                go_on.wait()
            if message.command == "FOUR":
                break
        return found

    server = ground.serve(service)
    sock = ground.dial(server)
    until(lambda: server.peers)
    iterating = gevent.spawn(iterate, server.peers[0])
    settle()
    sock.sendall(b"ONE\nTWO\n")
    settle()
    sock.sendall(b"THREE\nFOUR\nFIVE\n")
    settle()
    assert handled == []
    go_on.set()
    assert iterating.get(timeout=PATIENCE) == ["ONE", "TWO", "THREE", "FOUR"]
    until(lambda: handled)
    assert handled == ["FIVE"]
    sock.sendall(b"SIX\n")
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock) == b""
    assert handled == ["FIVE", "SIX"]


def test_a_half_closed_peer_is_answered_by_whoever_iterates(ground: Ground) -> None:
    go_on = Event()

    def answer(connection: MessageConnection) -> None:
        for message in connection:
            go_on.wait()
            connection.send(message)

    server = ground.serve(Dispatcher())
    sock = ground.dial(server)
    until(lambda: server.peers)
    answering = gevent.spawn(answer, server.peers[0])
    settle()
    sock.sendall(b"ONE\n")
    sock.shutdown(socket.SHUT_WR)
    settle()
    go_on.set()
    assert read_all(sock) == b"ONE\n"
    answering.get(timeout=PATIENCE)
    until(lambda: not server.peers)


def test_a_conversation_that_fails_at_somebody_else_is_a_failure(
    ground: Ground, logged: Callable[[str], list[str]]
) -> None:
    def conversation(connection: MessageConnection) -> None:
        connection.receive()
        raise ConnectionLostError("of another connection")

    sock = ground.dial(ground.serve(conversation))
    sock.sendall(b"ONE\n")
    assert read_all(sock) == b""
    assert len(logged("conversation failed, id=")) == 1


def test_a_conversation_that_ends_with_half_a_line_says_so(
    ground: Ground, logged: Callable[[str], list[str]]
) -> None:
    def conversation(connection: MessageConnection) -> None:
        for message in connection:
            connection.send(message)

    sock = ground.dial(ground.serve(conversation))
    sock.sendall(b"ONE\nHALF")
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock) == b"ONE\n"
    assert len(logged("dropped 4 bytes without a newline: HALF")) == 1


def test_a_handler_may_receive_what_follows_its_message(ground: Ground) -> None:
    service = Dispatcher()

    @service.on("PUT")
    def put(message: Message, peer: Any) -> Message:
        lines = [peer.receive().command for _ in range(message.integer("count"))]
        return Message("GOT", {"what": ",".join(lines)})

    sock = ground.dial(ground.serve(service))
    sock.sendall(b"PUT count=2\nA\n")
    settle()
    sock.sendall(b"B\nPUT count=0\n")
    assert read_lines(sock, 2) == [b"GOT what=A,B", b"GOT what="]


@pytest.mark.parametrize("layer", LAYERS)
def test_a_receive_in_the_hub_is_a_mistake(pair: Callable[..., Pair], layer: Any) -> None:
    both = pair(layer)
    raised: list[Exception] = []

    def call() -> None:
        try:
            both.near.receive()
        except Exception as error:
            raised.append(error)

    gevent.get_hub().loop.run_callback(call)
    until(lambda: raised)
    assert isinstance(raised[0], UsageError)


def test_a_disabled_connection_keeps_what_it_has_and_reads_nothing(ground: Ground) -> None:
    heard: list[str] = []

    class Deaf(MessageConnection):
        def process_message(self, message: Message) -> bool:
            heard.append(message.command)
            self.enabled = message.command != "ONE"
            return True

    server = ground.serve(Deaf)
    sock = ground.dial(server)
    sock.sendall(b"ONE\nTWO\n")
    until(lambda: heard)
    settle()
    sock.sendall(b"THREE\n")
    sock.shutdown(socket.SHUT_WR)
    settle()
    assert heard == ["ONE"]
    server.peers[0].enabled = True
    assert read_all(sock) == b""
    assert heard == ["ONE", "TWO", "THREE"]


def test_a_process_line_hook_gets_the_last_line_without_its_newline(ground: Ground) -> None:
    lines: list[bytes] = []

    class Last(LineConnection):
        def process_line(self, line: bytes) -> None:
            lines.append(line)

        def process_hup(self) -> None:
            lines.append(b"hup")

    sock = ground.dial(ground.serve(Last))
    sock.sendall(b"ONE\nlast")
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock) == b""
    assert lines == [b"ONE", b"last", b"hup"]
