"""The loads: what a raw gevent client and edgevent's own client do to a server."""

import itertools
import socket as plain_socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import gevent
from gevent import socket
from gevent.event import AsyncResult
from gevent.lock import BoundedSemaphore

from edgevent import Client, Message, TlsOptions

from .measure import Run
from .work import LINE, line, message, request

CALLERS = 100
BURST = 64

Place = tuple[str, int] | str
"""Where a raw client connects to: host and port, or a path."""


def connect(place: Place) -> socket.socket:
    """Connects a gevent socket."""
    if isinstance(place, str):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(place)
    else:
        sock = socket.create_connection(place)
        sock.setsockopt(plain_socket.IPPROTO_TCP, plain_socket.TCP_NODELAY, 1)
    return sock


def read_answer(sock: socket.socket) -> None:
    """Reads one answer."""
    data = sock.recv(65536)
    while not data.endswith(b"\n"):
        data += sock.recv(65536)


@contextmanager
def raw_request(place: Place) -> Iterator[Run]:
    """One outstanding, on one connection."""
    with connect(place) as sock:

        def run(count: int) -> None:
            for _ in range(count):
                sock.sendall(LINE)
                read_answer(sock)

        yield run


@contextmanager
def own_request(address: str, tls: TlsOptions | None = None) -> Iterator[Run]:
    """One outstanding, on one connection."""
    with Client(address, tls=tls) as client:

        def run(count: int) -> None:
            for _ in range(count):
                client.request(request())

        yield run


def share(count: int) -> list[int]:
    """Divides operations among the callers."""
    return [count // CALLERS + (number < count % CALLERS) for number in range(CALLERS)]


@contextmanager
def raw_many(place: Place) -> Iterator[Run]:
    """One outstanding on each of many connections."""
    with ExitStack() as stack:
        socks = [stack.enter_context(connect(place)) for _ in range(CALLERS)]

        def caller(sock: socket.socket, count: int) -> None:
            for _ in range(count):
                sock.sendall(LINE)
                read_answer(sock)

        def run(count: int) -> None:
            gevent.joinall(
                [gevent.spawn(caller, *pair) for pair in zip(socks, share(count), strict=True)],
                raise_error=True,
            )

        yield run


@contextmanager
def own_many(address: str) -> Iterator[Run]:
    """One outstanding on each of many connections."""
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(address)) for _ in range(CALLERS)]

        def run(count: int) -> None:
            gevent.joinall(
                [gevent.spawn(ask, *pair) for pair in zip(clients, share(count), strict=True)],
                raise_error=True,
            )

        yield run


def ask(client: Client, count: int) -> None:
    """Asks again and again."""
    for _ in range(count):
        client.request(request())


@contextmanager
def raw_locked(place: Place) -> Iterator[Run]:
    """Many callers on one connection, one at a time: without parsing, answers have no owner."""
    lock = BoundedSemaphore()
    with connect(place) as sock:

        def caller(count: int) -> None:
            for _ in range(count):
                with lock:
                    sock.sendall(LINE)
                    read_answer(sock)

        def run(count: int) -> None:
            gevent.joinall([gevent.spawn(caller, part) for part in share(count)], raise_error=True)

        yield run


@contextmanager
def raw_shared(place: Place) -> Iterator[Run]:
    """Many callers on one connection: a reader gives each answer to whom its serial says."""
    waiting: dict[bytes, AsyncResult] = {}
    serials = itertools.count(100_000)
    with connect(place) as sock:

        def read() -> None:
            rest = b""
            while data := sock.recv(65536):
                lines = (rest + data).split(b"\n")
                rest = lines.pop()
                for answer in lines:
                    waiting.pop(answer.rpartition(b"=")[2]).set(answer)

        def caller(count: int) -> None:
            for _ in range(count):
                serial = b"%d" % next(serials)
                result = waiting[serial] = AsyncResult()
                sock.sendall(line("PUT", serial))
                result.get()

        def run(count: int) -> None:
            gevent.joinall([gevent.spawn(caller, part) for part in share(count)], raise_error=True)

        reader = gevent.spawn(read)
        yield run
        reader.kill()


@contextmanager
def own_shared(address: str) -> Iterator[Run]:
    """Many callers on one connection."""
    with Client(address) as client:

        def run(count: int) -> None:
            gevent.joinall(
                [gevent.spawn(ask, client, part) for part in share(count)], raise_error=True
            )

        yield run


@contextmanager
def raw_one_way(place: Place) -> Iterator[Run]:
    """A stream of messages that are not answered, 64 a send; the last one is answered."""
    many, end = line("SET") * BURST, line("END")
    with connect(place) as sock:

        def run(count: int) -> None:
            for _ in range(count // BURST):
                sock.sendall(many)
            sock.sendall(line("SET") * (count % BURST) + end)
            read_answer(sock)

        yield run


@contextmanager
def own_one_way(address: str) -> Iterator[Run]:
    """The same stream, built and sent message by message."""
    with Client(address) as client:

        def run(count: int) -> None:
            for number in range(count):
                client.send(message("SET", str(100_000 + number)))
            client.request(message("END", str(100_000 + count)), timeout=60.0)

        yield run


@contextmanager
def own_one_way_again(address: str, tls: TlsOptions | None = None) -> Iterator[Run]:
    """The same stream, of one message that is built once and sent again and again."""
    again = message("SET", "123456")
    with Client(address, tls=tls) as client:

        def run(count: int) -> None:
            for _ in range(count):
                client.send(again)
            client.request(message("END", "123456"), timeout=60.0)

        yield run


@contextmanager
def registered(address: str) -> Iterator[Client]:
    """A client that is a service of the daemon."""
    with Client(address) as client:
        fields = {"service": "bench", "version": 1}
        client.request(Message("REGISTER", fields), reply="READY", serial=False)
        yield client


@contextmanager
def routed_request(address: str) -> Iterator[Run]:
    """One outstanding, through the daemon."""
    with registered(address) as client:
        yield lambda count: ask(client, count)


@contextmanager
def routed_one_way(address: str) -> Iterator[Run]:
    """One message sent again and again, through the daemon."""
    again = message("SET", "123456")
    with registered(address) as client:

        def run(count: int) -> None:
            for _ in range(count):
                client.send(again)
            client.request(message("END", "123456"), timeout=60.0)

        yield run
