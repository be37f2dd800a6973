"""File descriptors that messages carry over Unix sockets: none is lost, and none leaks."""

from __future__ import annotations

import array
import fcntl
import os
import random
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from network_ground import PATIENCE, Ground, MovedClock, until
from tls_ground import server_options

from edgevent import (
    Client,
    ConnectionLostError,
    DescriptorError,
    Dispatcher,
    Message,
    MessageConnection,
    NotConnectedError,
    PermanentConnection,
    QueueFullError,
    ReceiveTimeout,
    Server,
    UsageError,
    broadcast,
)
from edgevent.testing.clock import settle
from edgevent.transport.memory import memory_pair

KINDS = {"unix": socket.SOCK_STREAM, "unixseq": socket.SOCK_SEQPACKET}


@pytest.fixture(params=KINDS)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where nobody listens yet."""
    return f"{request.param}:{tmp_path}/s"


@pytest.fixture
def place(tmp_path: Path) -> str:
    return f"unix:{tmp_path}/s"


def make_file(content: bytes) -> int:
    """A file in memory, to be read from its begin."""
    fd = os.memfd_create("test")
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def read_and_close(fd: int) -> bytes:
    try:
        return os.pread(fd, 1 << 20, 0)
    finally:
        os.close(fd)


@contextmanager
def file_of(content: bytes) -> Iterator[int]:
    fd = make_file(content)
    try:
        yield fd
    finally:
        os.close(fd)


def open_fds() -> set[str]:
    """What is open, by number and what it is."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
    return found


def files_open() -> int:
    """How many files of :func:`make_file` are open."""
    return sum("memfd:test" in one for one in open_fds())


@pytest.fixture
def raw() -> Iterator[Callable[..., socket.socket]]:
    """Connects plain sockets, or makes one that listens."""
    made: list[socket.socket] = []

    def make(address: str, *, listens: bool = False) -> socket.socket:
        kind, _, path = address.partition(":")
        sock = socket.socket(socket.AF_UNIX, KINDS[kind])
        sock.settimeout(PATIENCE)
        made.append(sock)
        if listens:
            sock.bind(path)
            sock.listen()
        else:
            sock.connect(path)
        return sock

    def accept(listener: socket.socket) -> socket.socket:
        made.append(listener.accept()[0])
        made[-1].settimeout(PATIENCE)
        return made[-1]

    make.accept = accept  # type: ignore[attr-defined]
    yield make
    for sock in made:
        sock.close()


def send_raw(sock: socket.socket, data: bytes, fds: list[int]) -> None:
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
    assert sock.sendmsg([data], [rights] if fds else []) == len(data)


def receive_raw(sock: socket.socket) -> tuple[bytes, list[int]]:
    data, control, _, _ = sock.recvmsg(1 << 20, socket.CMSG_SPACE(4 * 253))
    fds = array.array("i")
    for _, _, value in control:
        fds.frombytes(value)
    return data, list(fds)


# --- passing --------------------------------------------------------------------------------------


@pytest.fixture
def reading() -> Dispatcher:
    """Answers with what is in the descriptors that came, and with a file of its own."""
    service = Dispatcher()

    @service.on("READ")
    def read(message: Message, peer: Any) -> None:
        content = b"".join(read_and_close(fd) for fd in peer.take_fds(message))
        with file_of(content[::-1]) as fd:
            peer.send(message.reply("DONE", {"text": content.decode()}), fds=[fd])

    return service


def ask_to_read(client: MessageConnection, *contents: bytes) -> None:
    fds = [make_file(content) for content in contents]
    try:
        answer = client.request(Message("READ"), fds=fds)
    finally:
        for fd in fds:
            os.close(fd)
    whole = b"".join(contents)
    assert answer["text"] == whole.decode()
    (fd,) = client.take_fds(answer)
    assert read_and_close(fd) == whole[::-1]
    assert client.take_fds(answer) == []


def test_they_go_both_ways_in_their_order(
    ground: Ground, reading: Dispatcher, address: str
) -> None:
    ground.serve(reading, address, max_fds=253)
    with Client(address, max_fds=1) as client:
        ask_to_read(client, b"one")
        ask_to_read(client, b"one", b"two", b"three")
        ask_to_read(client, *(b"%d " % n for n in range(253)))
        ask_to_read(client)


@pytest.mark.parametrize("shape", ["function", "class"])
def test_every_kind_of_handler_takes_them(ground: Ground, address: str, shape: str) -> None:
    def answer(connection: MessageConnection, message: Message) -> None:
        (fd,) = connection.take_fds(message)
        connection.send(message.reply("GOT", {"text": read_and_close(fd).decode()}))

    def converse(connection: MessageConnection) -> None:
        for message in connection:
            answer(connection, message)

    class Taker(MessageConnection):
        def process_message(self, message: Message) -> bool:
            answer(self, message)
            return True

    ground.serve(converse if shape == "function" else Taker, address, max_fds=1)
    with Client(address) as client, file_of(b"content") as fd:
        for _ in range(3):
            assert client.request(Message("TAKE"), fds=[fd])["text"] == "content"


def test_a_pipe_a_socket_and_a_file_can_be_passed(
    ground: Ground, address: str, tmp_path: Path
) -> None:
    def use(peer: MessageConnection) -> None:
        for message in peer:
            pipe, sock, file = peer.take_fds(message)
            with os.fdopen(pipe, "wb") as writer:
                writer.write(b"into the pipe")
            with socket.socket(fileno=sock) as end:
                end.sendall(b"into the socket")
            with os.fdopen(file, "ab") as writer:
                writer.write(b" and more")
            peer.send(message.reply("DONE"))

    ground.serve(use, address, max_fds=3)
    (tmp_path / "file").write_bytes(b"begin")
    here, there = socket.socketpair()
    reader, writer = os.pipe()
    with Client(address) as client, here, (tmp_path / "file").open("ab") as file:
        client.request(Message("USE"), fds=(fd for fd in (writer, there, file)))
        os.close(writer)
        there.close()
        assert os.read(reader, 100) == b"into the pipe"
        assert os.read(reader, 100) == b""
        os.close(reader)
        assert here.recv(100) == b"into the socket"
        assert here.recv(100) == b""
    assert (tmp_path / "file").read_bytes() == b"begin and more"


def test_a_message_says_how_many_it_carries(raw: Any, address: str) -> None:
    listener = raw(address, listens=True)
    with Client(address) as client, file_of(b"x") as fd:
        peer = raw.accept(listener)
        client.send(Message("ONE", {"a": 1}), fds=[fd])
        data, fds = receive_raw(peer)
        assert data.rstrip() == b"ONE a=1;unix_fds=1"
        assert [read_and_close(fd) for fd in fds] == [b"x"]
        client.send(Message("TWO"), json=True, fds=[fd, fd])
        data, fds = receive_raw(peer)
        assert data.rstrip() == b'{"command":"TWO","parameters":{"unix_fds":"2"}}'
        assert [read_and_close(fd) for fd in fds] == [b"x"] * 2
        client.send(Message("NONE"), fds=[])
        assert receive_raw(peer) == (b"NONE\n" if address.startswith("unix:") else b"NONE", [])


def test_a_handler_does_not_see_the_count(ground: Ground, address: str) -> None:
    found = []
    service = Dispatcher()

    @service.on("SHOW")
    def show(message: Message, peer: Any, a: int) -> Message:
        found.append((str(message), a, "unix_fds" in message))
        return message.reply("SHOWN")

    ground.serve(service, address, max_fds=2)
    with Client(address) as client, file_of(b"") as fd:
        client.request(Message("SHOW", {"a": 5}), serial=False, reply="SHOWN", fds=[fd])
    assert found == [("SHOW a=5", 5, False)]


def test_who_takes_none_sees_the_count_and_holds_nothing(ground: Ground, address: str) -> None:
    service = Dispatcher()

    @service.on("SHOW")
    def show(message: Message, peer: Any) -> Message:
        return message.reply("SHOWN", {"count": message["unix_fds"], "open": files_open()})

    ground.serve(service, address)
    with Client(address) as client, file_of(b"") as fd:
        answer = client.request(Message("SHOW"), fds=[fd])
    assert (answer["count"], answer["open"]) == ("1", "1")


def test_they_are_not_inherited_by_programs(ground: Ground, address: str) -> None:
    taken: list[int] = []
    service = Dispatcher()
    service.on("KEEP")(lambda message, peer: taken.extend(peer.take_fds(message)))
    ground.serve(service, address, max_fds=1)
    with Client(address) as client, file_of(b"") as fd:
        client.send(Message("KEEP"), fds=[fd])
        until(lambda: taken)
    assert fcntl.fcntl(taken[0], fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.close(taken[0])


def test_a_thousand_leave_nothing_behind(ground: Ground, reading: Dispatcher, address: str) -> None:
    ground.serve(reading, address, max_fds=2)
    with Client(address, max_fds=1) as client:
        ask_to_read(client, b"first")
        before = open_fds()
        for n in range(1000):
            ask_to_read(client, b"%d" % n, b"more")
        assert open_fds() == before
    assert files_open() == 0


def test_a_permanent_connection_passes_them(
    ground: Ground, reading: Dispatcher, address: str
) -> None:
    link = ground.communicator.add_connection(
        PermanentConnection(address, pauses="0.01", max_fds=1)
    )
    with file_of(b"x") as fd:
        with pytest.raises(NotConnectedError):
            link.send(Message("READ"), fds=[fd])
        with pytest.raises(UsageError, match="READ: a message with fds= cannot be kept"):
            link.send(Message("READ"), fds=[fd], cache=True)
    server = ground.serve(reading, address, max_fds=2)
    for _ in range(2):
        link.wait_until_up(PATIENCE)
        ask_to_read(link, b"one", b"two")
        assert link.request(Message("READ"), fds=[0], idempotent=True).command == "DONE"
        for peer in server.peers:
            peer.close()
        until(lambda: not link.is_connected)
    link.close()
    assert files_open() == 0


def test_what_may_be_lost_is_told_without_them(ground: Ground, raw: Any, address: str) -> None:
    listener = raw(address, listens=True)
    link = ground.communicator.add_connection(PermanentConnection(address, pauses="100"))
    peer = raw.accept(listener)
    link.wait_until_up(PATIENCE)
    with file_of(b"x") as fd:
        link.send(Message("NEWS"), fds=[fd])
    peer.close()
    until(lambda: link.undelivered)
    assert list(link.undelivered) == [Message("NEWS")]
    link.close()


def test_they_pass_between_parent_and_child_ends(reading: Dispatcher) -> None:
    here, there = socket.socketpair()
    near, far = (Client(f"fd:{sock.detach()}", max_fds=1) for sock in (here, there))
    with near, far:
        with file_of(b"x") as fd:
            far.send(Message("FILE"), fds=[fd])
        (taken,) = near.take_fds(near.receive(PATIENCE))
        assert read_and_close(taken) == b"x"


# --- the order ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_pieces_do_not_matter(raw: Any, place: str, seed: int) -> None:
    """Cut anywhere, each message gets its own: they come with the first byte of its line."""
    rng = random.Random(seed)
    listener = raw(place, listens=True)
    with Client(place, max_fds=3) as client:
        peer = raw.accept(listener)
        expected = []
        for n in range(40):
            count = rng.choice((0, 0, 1, 3))
            fds = [make_file(b"%d.%d" % (n, index)) for index in range(count)]
            line = b"M n=%d" % n + (b";unix_fds=%d" % count if count else b"") + b"\n"
            expected.append([b"%d.%d" % (n, index) for index in range(count)])
            place_ = rng.randint(1, len(line))
            send_raw(peer, line[:place_], fds)
            if rng.random() < 0.3:
                settle()
            if line[place_:]:
                peer.sendall(line[place_:])
            for fd in fds:
                os.close(fd)
        for n, contents in enumerate(expected):
            message = client.receive(PATIENCE)
            assert message.integer("n") == n
            assert [read_and_close(fd) for fd in client.take_fds(message)] == contents
    assert files_open() == 0


def test_every_single_byte_may_come_alone(raw: Any, place: str) -> None:
    listener = raw(place, listens=True)
    with Client(place, max_fds=1) as client:
        peer = raw.accept(listener)
        for content in (b"one", b"two"):
            with file_of(content) as fd:
                send_raw(peer, b"M", [fd])
            for byte in b" unix_fds=1\n":
                peer.sendall(bytes([byte]))
                settle()
        for content in (b"one", b"two"):
            assert [read_and_close(fd) for fd in client.take_fds(client.receive(PATIENCE))] == [
                content
            ]


def exchange(connection: MessageConnection, count: int) -> Callable[[], None]:
    """Returns what sends numbered messages, every third with files that hold its number."""

    def send() -> None:
        for n in range(count):
            message = Message("M", {"n": n, "text": "x" * (n * 37 % 9000)})
            if n % 3:
                connection.send(message)
                continue
            fds = [make_file(b"%d" % n) for _ in range(n % 4)]
            connection.send(message, fds=fds)
            for fd in fds:  # at once: the connection needs them no more
                os.close(fd)

    return send


def check_exchange(connection: MessageConnection, count: int) -> None:
    for n in range(count):
        message = connection.receive(PATIENCE)
        assert message.integer("n") == n
        contents = [read_and_close(fd) for fd in connection.take_fds(message)]
        assert contents == [b"%d" % n] * (0 if n % 3 else n % 4)


def test_both_directions_keep_their_order_under_back_pressure(ground: Ground, address: str) -> None:
    count = 900

    def peer(connection: MessageConnection) -> None:
        sender = gevent.spawn(exchange(connection, count))
        go_on.wait(PATIENCE)
        check_exchange(connection, count)
        sender.get(timeout=PATIENCE)
        connection.send(Message("END"))
        done.set()

    go_on, done = Event(), Event()
    server = ground.serve(peer, address, max_fds=3)
    with Client(address, max_fds=3) as client:
        sender = gevent.spawn(exchange(client, count))
        until(lambda: client.outbox.size and server.peers and server.peers[0].outbox.size)
        go_on.set()
        check_exchange(client, count)
        sender.get(timeout=PATIENCE)
        assert client.receive(PATIENCE).command == "END"
        assert done.wait(PATIENCE)
    assert files_open() == 0


# --- nobody takes them ----------------------------------------------------------------------------


def test_what_a_handler_leaves_is_closed_behind_it(ground: Ground, address: str) -> None:
    kept: list[tuple[Any, Message]] = []
    held: list[int] = []
    service = Dispatcher()

    @service.on("FAIL")
    @service.on("LEAVE")
    def leave(message: Message, peer: Any) -> Message:
        kept.append((peer, message))
        held.append(files_open())
        if message.command == "FAIL":
            raise ValueError("on purpose")
        return message.reply("LEFT")

    ground.serve(service, address, max_fds=2)
    with Client(address) as client, file_of(b"") as fd:
        for command in ("LEAVE", "FAIL", "NOBODY_KNOWS_THIS"):
            with suppress(Exception):
                client.request(Message(command), fds=[fd, fd])
            until(lambda: files_open() == 1)
        assert held == [3, 3]
        for peer, message in kept:
            with pytest.raises(UsageError, match=f"{message.command}: its descriptors are closed"):
                peer.take_fds(message)


def test_those_of_a_message_that_is_gone_are_closed(raw: Any, address: str) -> None:
    listener = raw(address, listens=True)
    with Client(address, max_fds=1) as client, file_of(b"") as fd:
        peer = raw.accept(listener)
        send_raw(peer, b"ONE unix_fds=1\n", [fd])
        message = client.receive(PATIENCE)
        assert files_open() == 2
        del message
        until(lambda: files_open() == 1)


def test_those_of_an_answer_that_comes_too_late_are_closed(
    raw: Any, address: str, clock: MovedClock
) -> None:
    listener = raw(address, listens=True)
    with Client(address, max_fds=1, clock=clock) as client, file_of(b"") as fd:
        peer = raw.accept(listener)
        asking = gevent.spawn(client.request, Message("ASK"), timeout=1.0)
        serial = peer.recv(1000).rstrip().partition(b"serial=")[2]
        clock.advance(1.0)
        with pytest.raises(TimeoutError):
            asking.get(timeout=PATIENCE)
        send_raw(peer, b"ANSWER serial=" + serial + b";unix_fds=1\n", [fd])
        until(lambda: client.late_answers == 1)
        assert files_open() == 1


@pytest.mark.parametrize("how", ["close", "cut", "end"])
def test_the_end_of_the_connection_closes_them(
    ground: Ground, raw: Any, address: str, how: str
) -> None:
    listener = raw(address, listens=True)
    client = Client(address, max_fds=2)
    peer = raw.accept(listener)
    with file_of(b"") as fd:
        send_raw(peer, b"RECEIVED unix_fds=2\n", [fd, fd])
        received = client.receive(PATIENCE)
        send_raw(peer, b"WAITS unix_fds=1\n", [fd])
        if address.startswith("unix:"):
            send_raw(peer, b"INCOMPL", [fd, fd])
        settle()
        if how == "end":
            peer.close()
            assert client.receive(PATIENCE).command == "WAITS"
            with pytest.raises(ConnectionLostError):
                client.receive(PATIENCE)
            assert files_open() == 3  # those of an incomplete one are closed, and WAITS is gone
        (client.cut if how == "cut" else client.close)()
        assert files_open() == 1
        with pytest.raises(UsageError, match="RECEIVED: its descriptors are closed"):
            client.take_fds(received)


def test_what_waits_to_be_received_is_bounded(raw: Any, address: str) -> None:
    listener = raw(address, listens=True)
    with Client(address, max_fds=4) as client, file_of(b"") as fd:
        peer = raw.accept(listener)
        peer.setblocking(False)
        sent = 0
        with suppress(BlockingIOError):
            for _ in range(100):
                send_raw(peer, b"M unix_fds=4\n", [fd] * 4)
                sent += 1
                settle()
        assert sent > 10
        assert 4 * 8 <= files_open() <= 4 * 9 + 1
        for _ in range(sent):
            assert len([os.close(fd) for fd in client.take_fds(client.receive(PATIENCE))]) == 4
        with pytest.raises(ReceiveTimeout):
            client.receive(0.0)
    assert files_open() == 0


def test_handlers_go_on_after_many_have_waited(ground: Ground, raw: Any, address: str) -> None:
    taken: list[int] = []
    service = Dispatcher()

    @service.on("M")
    def count(message: Message, peer: Any) -> None:
        go_on.wait(PATIENCE)
        taken.append(len([os.close(fd) for fd in peer.take_fds(message)]))

    go_on = Event()
    ground.serve(service, address, max_fds=4)
    with Client(address) as client, file_of(b"") as fd:
        sender = gevent.spawn(
            lambda: [client.send(Message("M"), fds=[fd] * (n % 5)) for n in range(200)]
        )
        until(lambda: files_open() > 30)
        go_on.set()
        sender.get(timeout=PATIENCE)
        until(lambda: len(taken) == 200)
    assert taken == [n % 5 for n in range(200)]


# --- bad peers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        ([(b"M unix_fds=1\n", 2)], "1 came that no message names"),
        ([(b"M\n", 1)], "1 came that no message names"),
        ([(b"\n", 3)], "3 came that no message names"),
        ([(b"M unix_fds=2\n", 1)], "a message names 2, and 1 came"),
        ([(b"M unix_fds=1\n", 0)], "a message names 1, and 0 came"),
        ([(b"M unix_fds=-1\n", 1)], "a message names -1, and 1 came"),
        ([(b"M unix_fds=5\n", 5)], "a message names 5, and max_fds is 4"),
        ([(b"M unix_fds=5\n", 0)], "a message names 5, and max_fds is 4"),
        ([(b"M unix_fds=253\n", 253)], "a message names 253, and max_fds is 4"),
        ([(b"M unix_fds=nonsense\n", 1)], "1 came that no message names"),
        ([(b"nonsense unix_fds=1\n", 1)], "1 came that no message names"),
        ([(b"GOOD unix_fds=4\nM text=unix_fds\n", 4), (b"\n", 1)], "1 came that no"),
    ],
)
def test_what_does_not_agree_ends_the_connection(
    ground: Ground,
    raw: Any,
    address: str,
    logged: Callable[[str], list[str]],
    sent: list[tuple[bytes, int]],
    sentence: str,
) -> None:
    errors: list[Exception] = []

    class Watch(MessageConnection):
        def process_error(self, error: Exception) -> None:
            errors.append(error)

    server = ground.serve(Watch, address, max_fds=4)
    good = raw(address)
    peer = raw(address)
    with file_of(b"") as fd:
        for data, count in sent:
            send_raw(peer, data, [fd] * count)
        with suppress(ConnectionResetError):
            while peer.recv(1000):
                pass
        until(lambda: errors)
        assert files_open() == 1
    assert isinstance(errors[0], DescriptorError)
    assert f": file descriptors: {sentence}" in str(errors[0])
    assert len(logged("closed: ")) == server.counts["lost"] == 1
    good.sendall(b"ALIVE\n")
    assert good.recv(1000).startswith(b"ABSOLUTELY")


def test_a_client_is_told_too(raw: Any, address: str) -> None:
    listener = raw(address, listens=True)
    with Client(address, max_fds=1) as client, file_of(b"") as fd:
        peer = raw.accept(listener)
        send_raw(peer, b"GOOD unix_fds=1\n", [fd])
        send_raw(peer, b"BAD\n", [fd])
        good = client.receive(PATIENCE)
        assert client.receive(PATIENCE).command == "BAD"
        with pytest.raises(DescriptorError, match=f"^{address}: file descriptors: 1 came that no"):
            client.receive(PATIENCE)
        assert len([os.close(fd) for fd in client.take_fds(good)]) == 1


def test_thousands_without_a_message_are_not_taken(
    ground: Ground, raw: Any, place: str, logged: Callable[[str], list[str]]
) -> None:
    server = ground.serve(Dispatcher(), place, max_fds=4)
    peer = raw(place)
    most = 0
    with file_of(b"") as fd, suppress(BrokenPipeError, ConnectionResetError):
        for _ in range(40):
            send_raw(peer, b"x", [fd] * 253)
            settle()
            most = max(most, files_open())
    until(lambda: server.counts["lost"] == 1)
    assert logged("file descriptors: 253 came for one message, and max_fds is 4")
    assert most <= 1 + 253
    assert files_open() == 0


def test_a_record_of_no_bytes_brings_none(
    ground: Ground, raw: Any, tmp_path: Path, logged: Callable[[str], list[str]]
) -> None:
    server = ground.serve(Dispatcher(), f"unixseq:{tmp_path}/s", max_fds=4)
    peer = raw(f"unixseq:{tmp_path}/s")
    with file_of(b"") as fd:
        send_raw(peer, b"", [fd])
        until(lambda: server.counts["lost"] == 1)
        assert files_open() == 1
    assert logged("file descriptors: 1 came that no message names")


def test_those_that_do_not_fit_the_process_end_the_connection(
    ground: Ground, raw: Any, address: str, logged: Callable[[str], list[str]]
) -> None:
    server = ground.serve(Dispatcher(), address, max_fds=253)
    peer = raw(address)
    until(lambda: server.peers)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with file_of(b"") as fd:
        first_free = os.dup(fd)
        os.close(first_free)
        try:
            send_raw(peer, b"M unix_fds=100\n", [fd] * 100)
            resource.setrlimit(resource.RLIMIT_NOFILE, (first_free + 50, hard))
            until(lambda: server.counts["lost"] == 1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert files_open() == 1
    assert logged("file descriptors: some that came were lost: too many open files")


# --- what cannot be sent --------------------------------------------------------------------------


def test_a_mistake_leaves_the_connection_as_it_is(
    ground: Ground, reading: Dispatcher, address: str
) -> None:
    ground.serve(reading, address, max_fds=253)
    with Client(address, max_fds=1) as client, file_of(b"") as fd:
        closed = os.dup(fd)
        os.close(closed)
        sock = socket.socket()
        sock.close()
        for fds, sentence in (
            ([fd] * 254, "254 descriptors: a message carries 253 at the most"),
            ([fd, closed], f"fds=.{fd}, {closed}. cannot be passed: Bad file descriptor"),
            ([fd, sock], f"fds=.{fd}, -1.: a closed one is among them"),
        ):
            for call in (client.send, client.request):
                with pytest.raises(UsageError, match=sentence):
                    call(Message("READ"), fds=fds)
        with pytest.raises(UsageError, match="READ: the parameter unix_fds counts what is given"):
            client.send(Message("READ", {"unix_fds": 1}), fds=[fd])
        ask_to_read(client, b"still", b"here")
    assert files_open() == 0


@pytest.mark.parametrize("make", [Client, PermanentConnection, Server])
@pytest.mark.parametrize("where", ["tcp://127.0.0.1:0", "tls://127.0.0.1:1", "tls+unix:/nowhere"])
def test_other_addresses_carry_none(make: Any, where: str) -> None:
    settings = {"tls": server_options()} if "tls" in where else {}
    sentence = f"^{re.escape(where)} cannot carry file descriptors: unix: and unixseq: can$"
    with pytest.raises(UsageError, match=sentence):
        make(where, max_fds=1, **settings)
    with pytest.raises(UsageError, match=r"^unix:/nowhere with TLS cannot carry file"):
        make("unix:/nowhere", max_fds=1, tls=server_options())


@pytest.mark.parametrize("make", [Client, PermanentConnection, Server, MessageConnection])
def test_the_limit_is_that_of_the_kernel(make: Any) -> None:
    for max_fds in (-1, 254):
        with pytest.raises(UsageError, match=f"max_fds={max_fds}: 0 to 253 was expected"):
            make("unix:/nowhere", max_fds=max_fds)


def test_a_transport_that_carries_none_is_named(ground: Ground) -> None:
    server = ground.serve(Dispatcher())
    with Client(server.addresses[0]) as client, file_of(b"") as fd:
        for call in (client.send, client.request):
            with pytest.raises(UsageError, match=f"^{server.addresses[0]} cannot carry file"):
                call(Message("M"), fds=[fd])
        assert client.request(Message("HELP")).command == "COMMANDS"
    near, far = memory_pair()
    with pytest.raises(UsageError, match="cannot carry file descriptors"):
        MessageConnection(near, max_fds=1)
    far.close()


# --- what waits in the outbox ---------------------------------------------------------------------


def fill(connection: MessageConnection) -> None:
    """Sends until the kernel takes no more."""
    while not connection.outbox.size:
        connection.send(Message("FILL", {"text": "x" * 5000}))
        settle()  # what was only joined leaves


@pytest.fixture
def full(raw: Any, address: str) -> Iterator[tuple[MessageConnection, socket.socket]]:
    """A connection whose kernel buffer is full, and its peer that has not read yet."""
    listener = raw(address, listens=True)
    with MessageConnection(address) as connection:
        peer = raw.accept(listener)
        fill(connection)
        yield connection, peer


def read_carried(peer: socket.socket, last: bytes) -> list[bytes]:
    """Reads to a message, and gives the contents of the files that came."""
    contents, rest = [], b""
    while True:
        data, fds = receive_raw(peer)
        contents += [read_and_close(fd) for fd in fds]
        if last in rest + data:
            return contents
        rest = data


def test_what_waits_leaves_in_order_though_its_sender_has_closed_it(full: Any) -> None:
    connection, peer = full
    for n in range(20):
        with file_of(b"%d" % n) as fd:
            connection.send(Message("M", {"n": n, "text": "x" * 3000}), fds=[fd])
        connection.send(Message("BETWEEN"))
    assert files_open() == 20
    connection.send(Message("LAST"))
    assert read_carried(peer, b"LAST") == [b"%d" % n for n in range(20)]
    assert files_open() == 0
    with file_of(b"direct") as fd:
        connection.send(Message("LAST"), fds=[fd])
    assert read_carried(peer, b"LAST") == [b"direct"]


def test_they_leave_behind_what_was_joined(raw: Any, address: str) -> None:
    listener = raw(address, listens=True)
    with MessageConnection(address) as connection, file_of(b"x") as fd:
        peer = raw.accept(listener)
        for n in range(3):
            connection.send(Message("M", {"n": n}))
        connection.send(Message("F"), fds=[fd])
        connection.send(Message("LAST"))
        settle()
        data, fds = b"", []
        while b"LAST" not in data:
            more, came = receive_raw(peer)
            data += more
            fds += came
            assert (b"F unix_fds=1" in data) == bool(fds)
        assert [read_and_close(fd) for fd in fds] == [b"x"]
        assert data.replace(b"\n", b"") == b"M n=0M n=1M n=2F unix_fds=1LAST"


def test_a_call_in_the_hub_leaves_them_to_the_outbox(full: Any) -> None:
    connection, peer = full

    def send_in_hub() -> None:
        try:
            with file_of(b"x") as fd:
                for _ in range(3):
                    connection.send(Message("M"), fds=[fd] * 100)
        except QueueFullError as error:
            refused.append(str(error))

    refused: list[str] = []
    gevent.get_hub().loop.run_callback(send_in_hub)
    until(lambda: refused)
    assert refused[0].startswith("the outbox is full: 200 descriptors wait for unix")
    connection.send(Message("LAST"))
    assert len(read_carried(peer, b"LAST")) == 200


def test_a_sender_waits_for_room_for_descriptors(full: Any) -> None:
    connection, peer = full

    def send() -> None:
        with file_of(b"x") as fd:
            for _ in range(9):
                connection.send(Message("M"), fds=[fd] * 100)
        connection.send(Message("LAST"))

    sender = gevent.spawn(send)
    until(lambda: connection.outbox.waiting)
    assert files_open() == 201
    assert len(read_carried(peer, b"LAST")) == 900
    sender.get(timeout=PATIENCE)


@pytest.mark.parametrize("when_full", ["raise", "drop"])
def test_who_does_not_wait_is_told(full: Any, when_full: Any) -> None:
    connection, _ = full
    connection.when_full = when_full
    with file_of(b"x") as fd:
        connection.send(Message("M"), fds=[fd] * 253)
        if when_full == "raise":
            with pytest.raises(QueueFullError, match="253 descriptors wait for"):
                connection.send(Message("M"), fds=[fd])
        else:
            connection.send(Message("M"), fds=[fd])
            assert connection.outbox.dropped == 1
        while not connection.outbox.is_full:
            connection.send(Message("FILL", {"text": "x" * 5000}))
    assert files_open() == 253
    connection.cut()
    assert files_open() == 0


def test_copies_that_do_not_fit_the_process_are_refused(full: Any) -> None:
    connection, peer = full
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with file_of(b"x") as fd:
        first_free = os.dup(fd)
        os.close(first_free)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (first_free + 5, hard))
            with pytest.raises(QueueFullError, match="10 descriptors cannot be passed now: Too ma"):
                connection.send(Message("M"), fds=[fd] * 10)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert files_open() == 1
        connection.send(Message("LAST"), fds=[fd])
    assert read_carried(peer, b"LAST") == [b"x"]


@pytest.mark.parametrize("how", ["peer", "slow"])
def test_what_has_not_left_is_closed_when_the_connection_breaks(
    raw: Any, address: str, clock: MovedClock, how: str
) -> None:
    listener = raw(address, listens=True)
    with MessageConnection(address, clock=clock) as connection:
        peer = raw.accept(listener)
        fill(connection)
        with file_of(b"x") as fd:
            connection.send(Message("M"), fds=[fd])
        assert files_open() == 1
        if how == "peer":
            peer.close()
        else:
            clock.advance(10.0)
        until(lambda: connection.outbox.error is not None)
        assert files_open() == 0
        with file_of(b"x") as fd, pytest.raises(ConnectionLostError):
            connection.send(Message("M"), fds=[fd])


def test_a_close_lets_them_leave(full: Any) -> None:
    connection, peer = full
    with file_of(b"x") as fd:
        connection.send(Message("LAST"), fds=[fd])
    connection.close()
    assert read_carried(peer, b"LAST") == [b"x"]
    until(lambda: files_open() == 0)


def test_a_broadcast_carries_none(full: Any) -> None:
    connection, peer = full
    with file_of(b"x") as fd:
        connection.send(Message("M"), fds=[fd])
    assert broadcast([connection], Message("NEWS")) == 1
    connection.send(Message("LAST"))
    assert read_carried(peer, b"LAST") == [b"x"]


def test_a_forked_child_holds_none(raw: Any, full: Any, tmp_path: Path) -> None:
    connection, _ = full
    with file_of(b"x") as fd:
        connection.send(Message("M"), fds=[fd])  # waits in the outbox
        listener = raw(f"unix:{tmp_path}/other", listens=True)
        with Client(f"unix:{tmp_path}/other", max_fds=2) as client:
            peer = raw.accept(listener)
            send_raw(peer, b"RECEIVED unix_fds=1\n", [fd])
            received = client.receive(PATIENCE)
            send_raw(peer, b"WAITS unix_fds=1\nINCOMPLETE", [fd])
            settle()
            assert files_open() == 4
            child = os.fork()
            if not child:
                os._exit(files_open())
            _, status = gevent.os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 1  # the test's own
            assert len([os.close(fd) for fd in client.take_fds(received)]) == 1
    connection.cut()
