"""The rows of log records that ten senders have written: ``python -m tests.bench log-lines``.

``python -m tests.bench.collecting KIND FOLDER`` is a server's process: ``snaploggerd``, or
``stream``, which reads and dispatches the same messages, and writes nothing.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import gevent

from .clients import connect
from .measure import Case, Options, Run, compare, heading
from .process import ServerProcess, pinned

SENDERS = 10
BURST = 64
MODULE = "tests.bench.collecting"


def lines(acknowledge: str) -> bytes:
    """A burst of records as the C++ appender sends them."""
    form = (
        "LOG {}column=48;components=normal,bench;fields=id:{};filename=bench.cpp;"
        "function=int bench::run();line=248;message=the sender has done part {} of its work;"
        "severity=information;timestamp=1795452159.{:09d}\n"
    )
    return "".join(
        [form.format(acknowledge, number, number, number) for number in range(BURST)]
    ).encode()


@contextmanager
def senders(path: str, *, acknowledge: bool = False) -> Iterator[Run]:
    """Ten connections; an operation is a record, and the run ends when all are taken."""
    burst = lines("acknowledge=true;" if acknowledge else "")
    with ExitStack() as stack:
        socks = [stack.enter_context(connect(path)) for _ in range(SENDERS)]

        def read(number: int, answers: int) -> None:
            while answers:
                answers -= socks[number].recv(65536).count(b"\n")

        def send(number: int, times: int) -> None:
            reader = gevent.spawn(read, number, times * BURST if acknowledge else 1)
            for _ in range(times):
                socks[number].sendall(burst)
            if not acknowledge:
                socks[number].sendall(b"ALIVE\n")
            reader.get()

        def run(count: int) -> None:
            times = max(1, count // (SENDERS * BURST))
            gevent.joinall([gevent.spawn(send, one, times) for one in range(SENDERS)])

        yield run


def log_lines(options: Options) -> None:
    """Records of ten senders into a file, over Unix sockets, against a stream of the same."""
    count = options.count(128_000, SENDERS * BURST) // (SENDERS * BURST) * SENDERS * BURST
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stream, daemon = (
            stack.enter_context(ServerProcess(kind, folder, MODULE))
            for kind in ("stream", "snaploggerd")
        )
        for pin in options.pins:
            heading(pin)
            with pinned(pin, stream, daemon):
                compare(
                    Case("edgevent, read and dispatched", lambda: senders(stream.path), stream),
                    [
                        Case("snaploggerd", lambda: senders(daemon.path), daemon),
                        Case(
                            "snaploggerd, acknowledged",
                            lambda: senders(daemon.path, acknowledge=True),
                            daemon,
                        ),
                    ],
                    options,
                    count,
                    SENDERS * BURST,
                )
        written = Path(folder, "snaplogger.log").read_bytes().count(b"\n")
        sent = 2 * (count + SENDERS * BURST) * options.rounds * len(options.pins)
        print(f"    {written:,} records of {sent:,} were written; must: 50,000 a second")


# --- the servers ----------------------------------------------------------------------------------


def run_stream(folder: str) -> None:
    """Reads, parses and dispatches."""
    from edgevent import Communicator, Dispatcher, Server

    service = Dispatcher()

    @service.on("LOG")
    def log(message, peer):
        message["message"]

    with Communicator() as communicator:
        communicator.add_connection(Server(f"unix:{folder}/stream.sock", service))
        print("-", 0, f"{folder}/stream.sock", flush=True)
        communicator.run()


def run_snaploggerd(folder: str) -> None:
    """The daemon."""
    from edgevent.snaplogger.program import Program

    program = Program(config_folder=folder)

    def ready():
        print("-", 0, f"{folder}/daemon.sock", flush=True)

    @program.service.on_start
    def start(options):
        # Called when the listeners are open, which come after this.
        program.service.communicator.after(0.0, ready)

    words = ["--tcp-listen=off", "--udp-listen=off", "--logrotate-listen=127.0.0.1:0", "--no-log"]
    program.service.main([*words, f"--folder={folder}", f"--unix-listen={folder}/daemon.sock"])


if __name__ == "__main__":
    {"stream": run_stream, "snaploggerd": run_snaploggerd}[sys.argv[1]](sys.argv[2])
