"""Sockets that keep records (``unixseq:``): every layer over them, and other programs as peers."""

from __future__ import annotations

import errno
import itertools
import os
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket, subprocess
from gevent.event import Event
from link_ground import number, numbers
from network_ground import PATIENCE, Ground, MovedClock, echo, until

from edgevent import (
    Address,
    Client,
    ConnectError,
    ConnectionLostError,
    LineConnection,
    LineTooLongError,
    ListenError,
    Message,
    MessageConnection,
    MessageError,
    PermanentConnection,
    QueueFullError,
    Server,
    SlowConsumerError,
    StreamConnection,
    UsageError,
    broadcast,
    connect,
    request_many,
)
from edgevent.limits import MAX_UNIX_DATAGRAM_BYTES
from edgevent.testing.clock import settle
from edgevent.testing.contract import MakePair, Promise
from edgevent.testing.record_contract import RECORD_PROMISES
from edgevent.transport.base import StreamTransport
from edgevent.transport.dial import dial
from edgevent.transport.listen import listen

Pair = tuple[StreamTransport, StreamTransport]

_names = itertools.count()


# --- the contract ---------------------------------------------------------------------------------


def accepted(address: str) -> Pair:
    """Dials a listener of this test's own: the dialled side comes first."""
    listener = listen(Address.parse(address))[0]
    try:
        dialled = dial(Address.parse(listener.local), 5.0)
        return dialled, listener.accept()
    finally:
        listener.close()


def at_a_path(folder: Path) -> Pair:
    return accepted(f"unixseq:{folder / f's{next(_names)}'}")


def abstract(folder: Path) -> Pair:
    return accepted(f"unixseq:@edgevent-records-{os.getpid()}-{next(_names)}")


def swapped(make: MakePair) -> Pair:
    first, second = make()
    return second, first


@pytest.mark.parametrize("promise", RECORD_PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("make", [at_a_path, abstract], ids=lambda make: make.__name__)
def test_both_sides_keep(make: Callable[[Path], Pair], promise: Promise, tmp_path: Path) -> None:
    promise(partial(make, tmp_path))
    promise(partial(swapped, partial(make, tmp_path)))


# --- the layers -----------------------------------------------------------------------------------


class Peer:
    """A plain packet socket of Python's."""

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        sock.settimeout(PATIENCE)

    def send(self, *records: bytes) -> None:
        for record in records:
            self.sock.sendall(record)

    def read(self) -> bytes:
        return bytes(self.sock.recv(1 << 20))

    def read_all(self) -> list[bytes]:
        return list(iter(self.read, b""))


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where nobody listens yet."""
    if request.param == "path":
        return f"unixseq:{tmp_path}/s"
    return f"unixseq:@edgevent-packets-{os.getpid()}-{next(_names)}"


@pytest.fixture
def place(tmp_path: Path) -> str:
    return f"unixseq:{tmp_path}/s"


@pytest.fixture
def dial_raw() -> Iterator[Callable[[str], Peer]]:
    """Connects a plain packet socket."""
    made: list[Peer] = []

    def connect_raw(address: str) -> Peer:
        path = Address.parse(address).path
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        made.append(Peer(sock))
        sock.connect("\0" + path[1:] if path.startswith("@") else path)
        return made[-1]

    yield connect_raw
    for peer in made:
        peer.sock.close()


class Listener:
    """A plain packet socket that listens."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.bind(path)
        self.sock.listen(16)
        self.sock.settimeout(PATIENCE)
        self.peers: list[Peer] = []

    def accept(self) -> Peer:
        self.peers.append(Peer(self.sock.accept()[0]))
        return self.peers[-1]


@pytest.fixture
def listener(place: str) -> Iterator[Listener]:
    found = Listener(Address.parse(place).path)
    yield found
    for peer in found.peers:
        peer.sock.close()
    found.sock.close()


def ask_echo(client: Client, text: str) -> None:
    assert client.request(Message("ECHO", {"text": text}))["text"] == text


def test_a_client_asks(ground: Ground, address: str) -> None:
    server = ground.serve(echo(), address)
    assert server.addresses == [address]
    with Client(address) as client:
        ask_echo(client, "one")
        ask_echo(client, "two\nlines; é \\")
        client.send(Message("ECHO", {"text": "json"}), json=True)
        assert client.receive(PATIENCE)["text"] == "json"
        assert client.is_connected
        assert client.keeps_records
    until(lambda: not server.peers)


def test_both_sides_know_each_other(ground: Ground, address: str) -> None:
    server = ground.serve(None, address)
    with Client(address) as client:
        client.request(Message("HELP"))
        (peer,) = server.peers
        for side in (client, peer):
            assert side.credentials == (os.getpid(), os.getuid(), os.getgid())
            assert side.authenticated
        assert peer.address == f"unixseq:pid {os.getpid()}"
        assert peer.may_control


def test_a_permanent_connection_asks_and_comes_back(ground: Ground, address: str) -> None:
    server = ground.serve(echo(), address)
    link = ground.communicator.add_connection(PermanentConnection(address, pauses="0.01"))
    for text in ("first", "second"):
        link.wait_until_up(PATIENCE)
        assert link.request(Message("ECHO", {"text": text}))["text"] == text
        for peer in server.peers:
            peer.close()
        until(lambda: not link.is_connected)
    assert link.attempts >= 2
    link.close()


def test_straight_line_code_serves(ground: Ground, address: str) -> None:
    def count(connection: MessageConnection) -> None:
        for index, message in enumerate(connection):
            connection.send(message.reply("COUNTED", {"index": index}))

    ground.serve(count, address)
    with Client(address) as client:
        found = [client.request(Message("COUNT")).integer("index") for _ in range(3)]
    assert found == [0, 1, 2]


class Lines(LineConnection):
    def process_line(self, line: bytes) -> None:
        self.write_line(line[::-1])


class Bytes(StreamConnection):
    def process_read(self, data: bytes) -> None:
        self.write(data)


def test_lines_are_records(ground: Ground, address: str, dial_raw: Callable[[str], Peer]) -> None:
    ground.serve(Lines, address)
    peer = dial_raw(address)
    peer.send(b"abc", b"def\n", b"\n", b"1\n23\n\n45")
    assert [peer.read() for _ in range(7)] == [b"cba", b"fed", b"\n", b"1", b"32", b"\n", b"54"]


def test_an_empty_line_is_sent(ground: Ground, address: str) -> None:
    ground.serve(Lines, address)
    with LineConnection(address) as lines:
        for line in (b"one", b"", b"two", b"x" * MAX_UNIX_DATAGRAM_BYTES):
            lines.write_line(line)
            assert lines.receive(PATIENCE) == line[::-1]


def test_raw_records_keep_their_bounds(ground: Ground, address: str) -> None:
    ground.serve(Bytes, address)
    with StreamConnection(address) as raw:
        records = [b"a\n", b"b", b"\n\n", b"c" * MAX_UNIX_DATAGRAM_BYTES]
        for record in records:
            raw.write(b"")
            raw.write(record)
        assert [raw.receive(PATIENCE) for _ in records] == records


def test_a_plain_stream_reads_lines_and_bytes(ground: Ground, address: str) -> None:
    ground.serve(Bytes, address)
    stream = connect(address)
    stream.write(b"no newline")
    assert stream.read_line(PATIENCE) == b"no newline"
    stream.write(b"one\ntwo")
    assert [stream.read_line(PATIENCE), stream.read_line(PATIENCE)] == [b"one\n", b"two"]
    stream.write(b"12345")
    assert [stream.read(3), stream.read(3)] == [b"123", b"45"]
    stream.close()


def test_many_are_asked_and_told(ground: Ground, address: str) -> None:
    ground.serve(echo(), address)
    clients = [Client(address) for _ in range(5)]
    answers = request_many(clients, Message("ECHO", {"text": "many"}), PATIENCE)
    assert [answer["text"] for answer in answers if isinstance(answer, Message)] == ["many"] * 5
    assert broadcast(clients, Message("ECHO", {"text": "all"})) == 5
    assert [client.receive(PATIENCE)["text"] for client in clients] == ["all"] * 5
    for client in clients:
        client.close()


def test_there_is_no_tls_over_records(place: str) -> None:
    with pytest.raises(UsageError, match="there is no TLS over datagrams or packets"):
        Server(place, tls="secure")


# --- how long -------------------------------------------------------------------------------------


def message_of(size: int) -> Message:
    """A message whose record has so many bytes."""
    return Message("ECHO", {"text": "x" * (size - len("ECHO text="))})


def test_the_longest_message_goes_both_ways(ground: Ground, place: str) -> None:
    ground.serve(lambda peer: [peer.send(message) for message in peer], place)
    with Client(place) as client:
        longest = message_of(MAX_UNIX_DATAGRAM_BYTES)
        client.send(longest)
        assert client.receive(PATIENCE) == longest


@pytest.mark.parametrize("max_line_bytes", [MAX_UNIX_DATAGRAM_BYTES, 4 * MAX_UNIX_DATAGRAM_BYTES])
@pytest.mark.parametrize("make", [Client, PermanentConnection])
def test_one_byte_more_is_refused_before_anything_goes_out(
    ground: Ground, place: str, make: Any, max_line_bytes: int
) -> None:
    ground.serve(echo(), place)
    connection = make(place, max_line_bytes=max_line_bytes)
    longer = message_of(MAX_UNIX_DATAGRAM_BYTES + 1)
    if make is PermanentConnection:
        ground.communicator.add_connection(connection)
        with pytest.raises(MessageError, match="over the limit of 65536"):
            connection.send(longer, cache=True)
        connection.wait_until_up(PATIENCE)
    for call in (connection.send, connection.request):
        with pytest.raises(MessageError, match="bytes is over the limit of 65536"):
            call(longer)
    assert connection.request(Message("ECHO", {"text": "still"}))["text"] == "still"
    connection.close()


@pytest.mark.parametrize("make", [StreamConnection, LineConnection])
def test_a_longer_write_is_refused(ground: Ground, place: str, make: Any) -> None:
    ground.serve(Bytes, place)
    with make(place) as connection:
        with pytest.raises(MessageError, match="a record of 65537 bytes is over the limit"):
            connection.write(b"x" * (MAX_UNIX_DATAGRAM_BYTES + 1))
        connection.write(b"after")
        assert connection.receive(PATIENCE) == b"after"


def test_a_broadcast_that_is_too_long_is_told(
    ground: Ground, place: str, logged: Callable[[str], list[str]]
) -> None:
    ground.serve(echo(), place)
    with Client(place) as client:
        assert broadcast([client], message_of(MAX_UNIX_DATAGRAM_BYTES + 1)) == 0
        assert logged(": not sent: a record of 65537 bytes is over the limit of 65536")
        ask_echo(client, "still")


@pytest.mark.parametrize("handler", [echo(), Lines, Bytes], ids=["messages", "lines", "raw"])
@pytest.mark.parametrize("size", [MAX_UNIX_DATAGRAM_BYTES + 1, 200_000])
def test_a_longer_record_that_comes_ends_its_connection_alone(
    ground: Ground,
    place: str,
    dial_raw: Callable[[str], Peer],
    logged: Callable[[str], list[str]],
    handler: Any,
    size: int,
) -> None:
    server = ground.serve(handler, place, max_line_bytes=1 << 20)
    good, bad = dial_raw(place), dial_raw(place)
    bad.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    bad.send(b"x" * size)
    assert bad.read_all() == []
    assert len(logged("a record over the limit of 65536 bytes came")) == 1
    assert server.counts["lost"] == 1
    good.send(b"ECHO text=good")
    assert good.read()


def test_a_line_over_a_lower_limit_ends_its_connection(
    ground: Ground, place: str, dial_raw: Callable[[str], Peer]
) -> None:
    server = ground.serve(echo(), place, max_line_bytes=20)
    peer = dial_raw(place)
    peer.send(b"ECHO text=one\nECHO text=two\nECHO text=" + b"3" * 11)
    assert peer.read_all() == [b"ECHOED text=one", b"ECHOED text=two"]
    assert server.counts["lost"] == 1


def test_the_receiver_of_a_longer_record_is_told(listener: Listener, place: str) -> None:
    with Client(place) as client:
        peer = listener.accept()
        peer.send(b"FIRST", b"x" * (MAX_UNIX_DATAGRAM_BYTES + 1))
        assert client.receive(PATIENCE).command == "FIRST"
        with pytest.raises(LineTooLongError, match="a record over the limit of 65536 bytes came"):
            client.receive(PATIENCE)


def test_empty_records_and_blank_lines_are_nothing(
    ground: Ground, place: str, dial_raw: Callable[[str], Peer]
) -> None:
    server = ground.serve(echo(), place)
    peer = dial_raw(place)
    peer.send(b"", b"\n", b"  ", b"", b"ECHO text=1", b"", b"\n\nECHO text=2\n\n", b"")
    assert [peer.read(), peer.read()] == [b"ECHOED text=1", b"ECHOED text=2"]
    assert len(server.peers) == 1


# --- a peer that is slow --------------------------------------------------------------------------


def records_of_many_sizes(count: int) -> list[bytes]:
    rng = random.Random(11)
    sizes = (1, 2, 100, 5000, 65_000, MAX_UNIX_DATAGRAM_BYTES)
    return [b"%d " % index + rng.randbytes(rng.choice(sizes))[7:] for index in range(count)]


def test_a_slow_reader_blocks_the_sender_and_gets_every_record(
    listener: Listener, place: str
) -> None:
    records = records_of_many_sizes(400)
    with StreamConnection(place) as connection:
        peer = listener.accept()
        sender = gevent.spawn(lambda: [connection.write(record) for record in records])
        until(lambda: connection.outbox.waiting)
        assert connection.outbox.size < sum(map(len, records))
        assert [peer.read() for _ in records] == records
        sender.get(timeout=PATIENCE)


def test_several_senders_keep_their_own_order(listener: Listener, place: str) -> None:
    def send(connection: StreamConnection, name: bytes) -> None:
        for index in range(150):
            connection.write(b"%b %d " % (name, index) + b"x" * 20_000)

    with StreamConnection(place) as connection:
        peer = listener.accept()
        senders = [gevent.spawn(send, connection, name) for name in (b"a", b"b", b"c")]
        until(lambda: connection.outbox.waiting == 3)
        found: dict[bytes, list[int]] = {b"a": [], b"b": [], b"c": []}
        for _ in range(450):
            name, index, rest = peer.read().split(b" ")
            assert rest == b"x" * 20_000
            found[name].append(int(index))
        assert all(indexes == list(range(150)) for indexes in found.values())
        gevent.joinall(senders, raise_error=True)


def fill(connection: Any, record: bytes) -> int:
    """Sends until one more would have to wait; returns how many records those are."""
    count = 0
    while not connection.outbox.is_full:
        connection.write(record)
        count += 1
    return count


@pytest.mark.parametrize("when_full", ["raise", "drop"])
def test_a_sender_that_does_not_wait_is_told(
    listener: Listener, place: str, when_full: Any
) -> None:
    record = b"x" * 50_000
    with StreamConnection(place) as connection:
        peer = listener.accept()
        connection.when_full = when_full
        count = fill(connection, record)
        if when_full == "raise":
            with pytest.raises(QueueFullError, match=f"bytes wait for {place}"):
                connection.write(b"more")
        else:
            connection.write(b"more")
        assert connection.outbox.dropped == (when_full == "drop")
        assert [peer.read() for _ in range(count)] == [record] * count
        until(lambda: not connection.outbox.size)
        connection.write(b"last")
        assert peer.read() == b"last"


def test_a_refused_record_does_not_wait_for_room(listener: Listener, place: str) -> None:
    with StreamConnection(place) as connection:
        listener.accept()
        fill(connection, b"x" * 50_000)
        with pytest.raises(MessageError):
            connection.write(b"x" * (MAX_UNIX_DATAGRAM_BYTES + 1))
        connection.cut()


def test_a_slow_consumer_is_given_up(listener: Listener, place: str, clock: MovedClock) -> None:
    with StreamConnection(place, clock=clock) as connection:
        peer = listener.accept()
        sender = gevent.spawn(lambda: [connection.write(b"x" * 50_000) for _ in range(100)])
        until(lambda: connection.outbox.waiting)
        clock.advance(9.0)
        waiting = connection.outbox.size
        while connection.outbox.size == waiting:
            peer.read()
            settle()
        clock.advance(9.0)
        assert connection.is_connected
        clock.advance(9.0)
        with pytest.raises(SlowConsumerError, match="it took nothing for 10 s"):
            sender.get(timeout=PATIENCE)


def test_what_piles_up_for_one_closes_it(ground: Ground, place: str) -> None:
    server = ground.serve(None, place)
    clients = [Client(place) for _ in range(2)]
    until(lambda: len(server.peers) == 2)
    for client in clients:
        client.enabled = False
    news = Message("NEWS", {"text": "x" * 60_000})
    for _ in range(300):
        if broadcast(server.peers, news) < 2:
            break
    until(lambda: server.counts["lost"] == 2)
    for client in clients:
        client.close()


# --- the end --------------------------------------------------------------------------------------


def test_a_close_sends_what_waits(listener: Listener, place: str) -> None:
    records = iter(records_of_many_sizes(400))
    sent = []
    with StreamConnection(place) as connection:
        peer = listener.accept()
        while not connection.outbox.is_full:
            sent.append(next(records))
            connection.write(sent[-1])
    assert peer.read_all() == sent


def test_a_stop_sends_what_handlers_have_answered(ground: Ground, place: str) -> None:
    def flood(peer: MessageConnection) -> None:
        for n in range(2000):
            peer.send(number(n))
        sent.set()

    sent = Event()
    ground.serve(flood, place)
    with Client(place) as client:
        assert sent.wait(PATIENCE)
        ground.communicator.stop()
        assert numbers(client) == list(range(2000))


def test_the_end_of_a_peer_is_seen(ground: Ground, place: str) -> None:
    class Watch(MessageConnection):
        def process_hup(self) -> None:
            ended.set()

    ended = Event()
    ground.serve(Watch, place)
    with Client(place) as client:
        ask = client.request(Message("HELP"))
        assert ask.command == "COMMANDS"
    assert ended.wait(PATIENCE)


@pytest.mark.parametrize("how", [socket.SHUT_WR, None], ids=["half-closed", "closed"])
def test_all_that_came_before_the_end_is_handled(
    ground: Ground, place: str, dial_raw: Callable[[str], Peer], how: int | None
) -> None:
    def collect(peer: MessageConnection) -> None:
        found.append(numbers(peer))
        peer.send(Message("DONE"))

    found: list[list[int]] = []
    ground.serve(collect, place)
    for _ in range(100):
        peer = dial_raw(place)
        peer.send(*(bytes(number(n)) for n in range(50)))
        if how is not None:
            peer.sock.shutdown(how)
            assert peer.read_all() == [b"DONE"]
        peer.sock.close()
    until(lambda: len(found) == 100)
    assert found == [list(range(50))] * 100


class Recording(MessageConnection):
    """Keeps what happens; it sends a word first, which its peer does not read."""

    happened: list[str]

    def process_connected(self) -> None:
        self.send(Message("WELCOME"))

    def process_message(self, message: Message) -> bool:
        self.happened.append(message.command)
        return True

    def process_error(self, error: Exception) -> None:
        self.happened.append(f"{type(error).__name__} {error.errno}")  # type: ignore[attr-defined]

    def process_hup(self) -> None:
        self.happened.append("hup")


def test_a_peer_that_closes_with_unread_input_is_told_apart_after_its_last_words(
    ground: Ground, place: str, dial_raw: Callable[[str], Peer]
) -> None:
    Recording.happened = []
    server = ground.serve(Recording, place)
    peer = dial_raw(place)
    until(lambda: server.peers and server.peers[0].outbox.sent_bytes)
    server.enabled = False
    peer.send(b"ONE", b"TWO", b"THREE")
    peer.sock.close()
    until(lambda: len(Recording.happened) == 4)
    reset = f"ConnectionLostError {errno.ECONNRESET}"
    assert Recording.happened == ["ONE", "TWO", "THREE", reset]


def test_a_client_that_has_not_read_all_resets_nobody(ground: Ground, place: str) -> None:
    Recording.happened = []
    ground.serve(Recording, place)
    client = Client(place)
    client.send(Message("BYE"))
    client.close()
    until(lambda: len(Recording.happened) == 2)
    assert Recording.happened == ["BYE", "hup"]


def test_a_request_whose_peer_goes_is_ended(listener: Listener, place: str) -> None:
    with Client(place) as client:
        peer = listener.accept()
        asking = gevent.spawn(client.request, Message("ASK"))
        assert peer.read().startswith(b"ASK serial=")
        peer.sock.close()
        with pytest.raises(ConnectionLostError):
            asking.get(timeout=PATIENCE)
        with pytest.raises(ConnectionLostError):
            client.send(Message("MORE"))


def test_a_sender_that_waits_is_told_of_the_end(listener: Listener, place: str) -> None:
    with StreamConnection(place) as connection:
        peer = listener.accept()
        sender = gevent.spawn(lambda: [connection.write(b"x" * 50_000) for _ in range(100)])
        until(lambda: connection.outbox.waiting)
        peer.sock.close()
        with pytest.raises(ConnectionLostError, match=r"Broken pipe|Connection reset"):
            sender.get(timeout=PATIENCE)


def test_what_a_lost_link_had_been_given_is_told_apart(
    ground: Ground, listener: Listener, place: str
) -> None:
    link = ground.communicator.add_connection(PermanentConnection(place, pauses="100"))
    peer = listener.accept()
    link.wait_until_up(PATIENCE)
    count = 0
    while not link.is_full:
        link.send(number(count).with_parameters(text="x" * 50_000))
        count += 1
    waiting = gevent.spawn(link.send, number(count), cache=True)
    until(lambda: link.outbox.waiting)
    for _ in range(3):
        peer.read()
    peer.sock.close()
    until(lambda: link.undelivered)
    waiting.get(timeout=PATIENCE)
    in_doubt, unsent = numbers(link.undelivered.in_doubt), numbers(link.undelivered.unsent)
    assert in_doubt + unsent == list(range(count))
    assert len(in_doubt) >= 3
    assert unsent
    assert link.kept == 1
    link.close()


# --- addresses ------------------------------------------------------------------------------------


def test_a_stale_file_is_replaced(ground: Ground, tmp_path: Path) -> None:
    for kind in (socket.SOCK_SEQPACKET, socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_UNIX, kind) as sock:
            sock.bind(f"{tmp_path}/s")
        server = ground.serve(echo(), f"unixseq:{tmp_path}/s")
        with Client(f"unixseq:{tmp_path}/s") as client:
            ask_echo(client, "here")
        server.close()
        assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("kind", ["unix", "unixseq"])
def test_a_live_socket_of_any_type_keeps_its_path(
    ground: Ground, tmp_path: Path, kind: str
) -> None:
    ground.serve(echo(), f"{kind}:{tmp_path}/s")
    for other in ("unix", "unixseq"):
        address = f"{other}:{tmp_path}/s"
        whose = ": this process" if other == kind else ""
        with pytest.raises(ListenError, match=f"^{address}: a live server has it{whose}$"):
            Server(address)
        if other == kind:
            Client(address).close()
        else:
            with pytest.raises(ConnectError, match=f"^{address}: Protocol wrong type"):
                Client(address)


def test_who_is_not_allowed_is_refused(ground: Ground, place: str) -> None:
    server = ground.serve(echo(), place, allow_users=[os.getuid() + 1])
    with Client(place) as client, pytest.raises(ConnectionLostError):
        client.request(Message("ECHO", {"text": "x"}))
    assert server.counts["refused"] == 1
    server.close()
    ground.serve(echo(), place, allow_groups=[os.getgid()])
    with Client(place) as client:
        ask_echo(client, "allowed")


def test_a_forked_child_holds_nothing(ground: Ground, place: str) -> None:
    server = ground.serve(echo(), place)
    with Client(place) as client:
        ask_echo(client, "before")
        child = os.fork()
        if not child:
            held = [client._transport, *(peer._transport for peer in server.peers)]
            os._exit(sum(one.fileno() >= 0 for one in held))  # type: ignore[union-attr]
        assert gevent.os.waitpid(child, 0)[1] == 0
        ask_echo(client, "after")
        assert Path(Address.parse(place).path).exists()


# --- other programs -------------------------------------------------------------------------------


def test_socat_asks(ground: Ground, place: str, need_tool: Callable[..., str]) -> None:
    socat = need_tool("socat", package="socat")
    server = ground.serve(echo(), place)
    where = f"UNIX-CONNECT:{Address.parse(place).path},type=5"
    done = subprocess.run(
        [socat, f"-t{PATIENCE:.0f}", "-", where],
        input=b"ECHO text=one\nECHO text=two\n",
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"ECHOED text=oneECHOED text=two"
    until(lambda: not server.peers)


def test_socat_answers(place: str, need_tool: Callable[..., str]) -> None:
    socat = need_tool("socat", package="socat")
    where = f"UNIX-LISTEN:{Address.parse(place).path},type=5"
    command = [socat, "-dd", where, "SYSTEM:sed -u s/ASK/ANSWER/"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as program:
        assert b"listening on" in program.stderr.readline()
        stream = connect(place)
        for number_ in (b"1", b"2"):
            stream.write(b"ASK " + number_ + b"\n")
            assert stream.read_line(PATIENCE) == b"ANSWER " + number_ + b"\n"
        stream.close()
        assert program.wait(PATIENCE) == 0
