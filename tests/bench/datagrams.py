"""The row of datagrams: messages through DatagramServer, beside a gevent DatagramServer.

``python -m tests.bench.datagrams raw|own`` is the server of one side, as ``server.py`` is for
streams; both read, dispatch and reply, and edgevent's parses besides.
"""

import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from .measure import Case, Options, Run, compare, heading
from .process import ServerProcess, pinned
from .work import line

WINDOW = 32  # so many are on their way at a time, and no queue holds fewer
DATAGRAM = line("PUT")[:-1]


def run_raw() -> None:
    """The baseline: dictionary dispatch, no parsing, and no greenlet for each datagram."""
    from gevent.server import DatagramServer

    class Server(DatagramServer):
        def handle(self, data, address):
            self.sendto(handlers[data.split(b" ", 2)[1]](data), address)

    handlers = {b"srv:target/PUT": lambda data: data}
    server = Server("127.0.0.1:0", spawn=None)
    server.start()
    print("127.0.0.1", server.server_port, "-", flush=True)
    server.serve_forever()


def run_own() -> None:
    """edgevent: read, parse into a Message, dispatch, build, write."""
    from edgevent import Communicator, DatagramServer, Dispatcher

    service = Dispatcher()

    @service.on("PUT")
    def put(message, peer):
        return message.reply("DONE", {"payload": message["payload"]})

    with Communicator() as communicator:
        server = communicator.add_connection(DatagramServer("udp://127.0.0.1:0", service))
        print("127.0.0.1", server.port, "-", flush=True)
        communicator.run()


@contextmanager
def window(server: ServerProcess) -> Iterator[Run]:
    """Keeps many datagrams on their way; an operation is one and its answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(30.0)
        sock.connect((server.host, server.port))

        def run(count: int) -> None:
            ahead = min(WINDOW, count)
            for _ in range(ahead):
                sock.send(DATAGRAM)
            for _ in range(count - ahead):
                sock.recv(2048)
                sock.send(DATAGRAM)
            for _ in range(ahead):
                sock.recv(2048)

        yield run


def datagrams(options: Options) -> None:
    """Messages through DatagramServer and back, against a gevent DatagramServer."""
    module = "tests.bench.datagrams"
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess("raw", folder, module) as raw,
        ServerProcess("own", folder, module) as own,
    ):
        for pin in options.pins:
            heading(pin)
            with pinned(pin, raw, own):
                compare(
                    Case("raw gevent", lambda: window(raw), raw),
                    [Case("edgevent", lambda: window(own), own, 0.3)],
                    options,
                    options.count(40_000, 100),
                )


if __name__ == "__main__":
    {"raw": run_raw, "own": run_own}[sys.argv[1]]()
