"""The row of settings: what the daemon answers a second, and how soon a thousand listeners know."""

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import gevent
from gevent import socket

from edgevent.testing.starting import StartedService

from .measure import Options
from .process import ROOT

DEFINITIONS = "[bench::number]\nvalidator=integer\ndefault=0\n\n[bench::text]\nhelp=any\n"
WINDOW = 100  # requests that are under way together


def settings(options: Options) -> None:
    """GET a second on one connection: must 5,000; durable PUT: must 500; 1,000 told: must 0.5 s."""
    listeners = options.count(1_000, 10)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "bench.ini").write_text(DEFINITIONS, encoding="utf-8")
        with StartedService(
            [
                sys.executable,
                str(ROOT / "scripts" / "fluid-settings"),
                "--listen=unix:s max_connections=2000",
                f"--definitions={folder}",
                f"--database={folder}/settings.db",
                "--communicator-listen=off",
            ],
            ready="notify",
            folder=folder,
        ):
            where = f"{folder}/s"
            print(f"    {'':38}{'min':>10}{'median':>10}{'max':>10}")
            gets, puts = options.count(20_000, 50), options.count(5_000, 50)
            rows: list[tuple[str, Callable[[], float], float]] = [
                ("GET, one by one", lambda: ask(where, get, gets, 1), 5_000),
                (f"GET, {WINDOW} at a time", lambda: ask(where, get, gets, WINDOW), 5_000),
                ("PUT, one by one", lambda: ask(where, put, puts // 10, 1), 0),
                (f"PUT, {WINDOW} at a time", lambda: ask(where, put, puts, WINDOW), 500),
            ]
            for label, run, must in rows:
                show(label, [run() for _ in range(options.rounds)], must)
            with ExitStack() as stack:
                peers = [stack.enter_context(dial(where)) for _ in range(listeners)]
                for peer in peers:
                    peer.sendall(b"FLUID_SETTINGS_LISTEN names=bench::number\n")
                for peer in peers:
                    read(peer, 3)
                times = [tell(where, peers) * 1000.0 for _ in range(options.rounds)]
            low, middle, high = min(times), median(times), max(times)
            label = f"{listeners:,} listeners told, ms"
            text = f"    {label:38}{low:10,.1f}{middle:10,.1f}{high:10,.1f}"
            print(text + "   must 500" + (" -" if middle > 500.0 else ""), flush=True)


def show(label: str, rates: list[float], must: float) -> None:
    """Prints a line of the table."""
    text = f"    {label:38}{min(rates):10,.0f}{median(rates):10,.0f}{max(rates):10,.0f}"
    # One by one, a PUT takes as long as the device's flush.
    goal = f"   must {must:,.0f}" + (" -" if median(rates) < must else "") if must else ""
    print(text + goal, flush=True)


def dial(path: str) -> socket.socket:
    """Connects to the daemon."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    return sock


def read(sock: socket.socket, count: int) -> bytes:
    """Reads so many lines."""
    data = b""
    while data.count(b"\n") < count:
        part = sock.recv(65536)
        if not part:
            raise SystemExit("the daemon has ended the connection")
        data += part
    return data


def get(number: int) -> bytes:
    """A question."""
    return b"FLUID_SETTINGS_GET name=bench::number\n"


def put(number: int) -> bytes:
    """A value that was not there before."""
    return b"FLUID_SETTINGS_PUT name=bench::text;value=%d-%d\n" % (time.time_ns(), number)


def ask(path: str, make: Callable[[int], bytes], count: int, window: int) -> float:
    """Asks so often, so much at a time; gives the answers a second."""
    with dial(path) as sock:
        began = time.perf_counter()
        for first in range(0, count, window):
            part = range(first, min(first + window, count))
            sock.sendall(b"".join(map(make, part)))
            if b"INVALID" in read(sock, len(part)):
                raise SystemExit("the daemon has refused what was asked")
        return count / (time.perf_counter() - began)


def tell(path: str, peers: list[socket.socket]) -> float:
    """Changes what all listen to; gives the seconds until the last one knows."""
    with dial(path) as sock:
        readers = [gevent.spawn(read, peer, 1) for peer in peers]
        began = time.perf_counter()
        sock.sendall(b"FLUID_SETTINGS_PUT name=bench::number;value=%d\n" % time.time_ns())
        gevent.joinall(readers, raise_error=True)
        took = time.perf_counter() - began
        read(sock, 1)
        return took
