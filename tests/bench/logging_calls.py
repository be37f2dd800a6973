"""The row of what a logging call costs the program that logs."""

import logging
import multiprocessing
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import SocketHandler
from pathlib import Path

from edgevent import TcpLogHandler

from .measure import Case, Options, Run, compare

BURST = 1_000
"""So many records are logged, and then have to arrive, which counts too."""


def serve(listener: socket.socket) -> None:
    """Takes what comes, in a process of its own, and acknowledges each record of edgevent's."""
    while True:
        peer, _ = listener.accept()
        with peer:
            rest = b""
            while data := peer.recv(1 << 18):
                *lines, rest = (rest + data).split(b"\n")
                answers = [
                    b"LOG_ACKNOWLEDGE serial=%b\n" % line.partition(b";serial=")[2].split(b";")[0]
                    for line in lines
                    if line.startswith(b"LOG acknowledge=")
                ]
                if answers:  # else nobody waits: who logs may have closed, and no bytes fail too
                    peer.sendall(b"".join(answers))


def case(label: str, handler: logging.Handler, *goals: float) -> Case:
    """Makes a case of a handler."""
    logger = logging.getLogger(f"bench.{label}")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)

    @contextmanager
    def load() -> Iterator[Run]:
        def run(count: int) -> None:
            for number in range(count):
                logger.info("request %d took %.3f s", number, 0.25)
                if number % BURST == BURST - 1:
                    handler.flush()
            handler.flush()

        yield run

    return Case(label, load, None, *goals)


def log_call(options: Options) -> None:
    """A logging call with all that sends it (15 us at most), against a plain SocketHandler."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = str(Path(folder) / "log")
        listener.bind(path)
        listener.listen()
        context = multiprocessing.get_context("fork")
        servers = [context.Process(target=serve, args=(listener,)) for _ in range(3)]
        for server in servers:
            server.start()
        handlers = [
            SocketHandler(path, None),
            TcpLogHandler(f"unix:{path}", acknowledge="none"),
            TcpLogHandler(f"unix:{path}"),
        ]
        try:
            base = case("SocketHandler", handlers[0])
            ours = case("TcpLogHandler, no acknowledgements", handlers[1], 0.4)
            sure = case("TcpLogHandler, all acknowledged", handlers[2], 0.4)
            compare(base, [ours, sure], options, options.count(20_000, 100))
        finally:
            for handler in handlers:
                handler.close()
            for server in servers:
                server.kill()
                server.join()
