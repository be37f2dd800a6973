"""The rows of many connections: broadcast, idle memory, accepting."""

import gc
import os
import select
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

from .measure import Case, Options, Run, compare, heading
from .process import ServerProcess, pinned, raise_descriptor_limit
from .streams import servers
from .work import LINE, line


def connect(server: ServerProcess) -> socket.socket:
    """Connects a bare blocking socket: the client's side is to cost as little as it can."""
    return socket.create_connection((server.host, server.port), timeout=30.0)


def ask(sock: socket.socket, question: bytes) -> None:
    """Sends one line and reads one."""
    sock.sendall(question)
    data = sock.recv(65536)
    while not data.endswith(b"\n"):
        data += sock.recv(65536)


# --- broadcast ------------------------------------------------------------------------------------


@contextmanager
def listening(server: ServerProcess, listeners: int, burst: int) -> Iterator[Run]:
    """Many connections that a server sends to; an operation is one message to one of them."""
    with ExitStack() as stack:
        control = stack.enter_context(connect(server))
        poll = stack.enter_context(select.epoll())
        socks: dict[int, socket.socket] = {}
        for _ in range(listeners):
            sock = stack.enter_context(connect(server))
            ask(sock, line("SUB"))
            sock.setblocking(False)
            socks[sock.fileno()] = sock
            poll.register(sock.fileno(), select.EPOLLIN)

        def run(count: int) -> None:
            for _ in range(count // (burst * listeners)):
                control.sendall(line("ALL", b"%d" % burst))
                left = burst * listeners * len(LINE)
                while left:
                    for descriptor, _ in poll.poll(30.0):
                        left -= len(os.read(descriptor, 65536))

        yield run
        ask(control, line("GCC"))


def broadcast(options: Options) -> None:
    """To 1,000 connections, against sendall to each: one message, and a burst of 64."""
    listeners = options.count(1_000, 10)
    raise_descriptor_limit(listeners + 100)
    with servers() as (raw, own):
        for burst, times, must, aim in ((1, 50, 1.2, 1.4), (64, 3, 10.0, 30.0)):
            for pin in options.pins:
                heading(pin)
                print(f"    messages at a time: {burst}")
                with pinned(pin, raw, own):
                    compare(
                        Case("raw gevent", lambda: listening(raw, listeners, burst), raw),  # noqa: B023
                        [
                            Case(
                                label,
                                lambda: listening(own, listeners, burst),  # noqa: B023
                                own,
                                must,
                                aim,
                                cpu_alone,
                            )
                            for label, cpu_alone in (
                                ("edgevent, until all is received", False),
                                ("edgevent, the server's CPU time", True),
                            )
                        ],
                        options,
                        listeners * burst * options.count(times),
                        listeners * burst,
                    )


# --- memory ---------------------------------------------------------------------------------------


def held(kind: str, count: int, used: bool) -> float:
    """Returns the bytes that a fresh server holds for each idle connection."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess(kind, folder) as server,
        ExitStack() as stack,
    ):
        control = stack.enter_context(connect(server))
        for _ in range(50):  # what is made once is made now
            with connect(server) as sock:
                ask(sock, line("PUT"))
        ask(control, line("GCC"))
        before = server.resident()
        for _ in range(count):
            sock = stack.enter_context(connect(server))
            if used:
                ask(sock, line("PUT"))
        ask(control, line("GCC"))  # behind all others in the queue: they have been accepted
        ask(control, line("GCC"))
        return (server.resident() - before) / count


def idle(options: Options) -> None:
    """KiB resident for each idle TCP connection with a dispatcher."""
    count = min(options.count(4_000, 100), raise_descriptor_limit(9_000) - 200)
    print(
        f"    {'KiB a connection, ' + str(count) + ' of them':38}{'min':>8}{'median':>8}{'max':>8}"
    )
    for used in (False, True):
        for kind in ("raw", "own"):
            gc.collect()
            sizes = [held(kind, count, used) / 1024 for _ in range(options.rounds)]
            label = (
                f"{'edgevent' if kind == 'own' else 'raw gevent'}, {'used once' if used else 'new'}"
            )
            text = f"    {label:38}{min(sizes):8.2f}{median(sizes):8.2f}{max(sizes):8.2f}"
            if kind == "own":
                text += "   must 4, aim 2" + (" -" if median(sizes) > 4 else "")
            print(text, flush=True)


# --- accepting ------------------------------------------------------------------------------------

BATCH = 200


@contextmanager
def storm(server: ServerProcess, address: tuple[str, int]) -> Iterator[Run]:
    """Connects, asks, reads the answer and closes, 200 at a time."""
    turn = iter(range(1, 10**9))

    def batch(count: int) -> None:
        # An address of its own for each batch: closed connections keep their port for a minute.
        number = next(turn)
        source = f"127.{1 + number % 200}.{os.getpid() % 250}.1"
        socks = []
        for _ in range(count):
            sock = socket.socket()
            sock.settimeout(30.0)
            sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT, ip(7)
            sock.bind((source, 0))
            sock.connect(address)
            sock.sendall(LINE)
            socks.append(sock)
        for sock in socks:
            data = sock.recv(65536)
            while not data.endswith(b"\n"):
                data += sock.recv(65536)
            sock.close()

    def run(count: int) -> None:
        while count > 0:
            batch(min(BATCH, count))
            count -= BATCH

    yield run


def accept(options: Options) -> None:
    """Accept and answer 5,000 connections."""
    count = options.count(5_000, 20)
    raise_descriptor_limit(2_000)
    with servers() as (raw, own):
        for pin in options.pins:
            heading(pin)
            with pinned(pin, raw, own):
                compare(
                    Case("raw gevent", lambda: storm(raw, (raw.host, raw.port)), raw),
                    [
                        Case(
                            "edgevent",
                            lambda: storm(own, (own.host, own.port)),
                            own,
                            1.0,
                            1.5,
                        )
                    ],
                    options,
                    count,
                )
