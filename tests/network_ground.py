"""What the tests over real sockets share: a running communicator, raw clients, a moved clock."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import gevent
from gevent import socket, subprocess
from gevent.event import Event

from edgevent import Address, Communicator, Dispatcher, Message, Server
from edgevent.testing.clock import ManualClock

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 30.0
"""How long a test waits for what must come, on a machine that is busy with other things."""


def until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Waits until a condition holds, which is looked at before each poll of the loop."""
    met = Event()
    loop = gevent.get_hub().loop
    # What is set inside a prepare watcher would be noticed after the poll that follows. The lowest
    # priority stands behind gevent's own watcher, which makes the calls of run_callback.
    watcher, soon = loop.prepare(priority=-2), loop.timer(0.0)
    watcher.start(lambda: soon.start(met.set) if condition() else None)
    soon.start(bool)  # a watcher that was started by a callback is not asked before this poll
    try:
        assert condition() or met.wait(patience), "it did not come true in time"
    finally:
        watcher.close()
        soon.close()


LINKS_UP = " && until ! ip -o link show up | grep -q NO-CARRIER; do :; done"
"""Behind the lines that set up both ends of links, for a shell.

A link whose other end came up later drops what is sent, without an error, until a worker of the
kernel has seen that (dev_activate in its net/sched/sch_generic.c).
"""

LONE = f"import signal; signal.alarm({2 * PATIENCE:.0f})\n"
"""What a program that a test starts begins with: it ends although nobody is left to end it."""


def frees_at_once(come_and_go: Callable[[], weakref.ref[Any]]) -> None:
    """Shows that what comes and goes does not wait for the garbage collector."""
    come_and_go()
    gc.disable()
    try:
        found = come_and_go()
        come_and_go()  # a frame that waits may still have the one before
        until(lambda: found() is None)
    finally:
        gc.enable()


def run_program(
    text: str,
    *arguments: object,
    before: tuple[str, ...] = (),
    patience: float = PATIENCE,
) -> str:
    """Runs a Python program in a process of its own, while the hub goes on; gives its output.

    Args:
        before: What stands before Python on the command line.
        patience: How many seconds it may take.
    """
    done = subprocess.run(
        [*before, sys.executable, "-c", LONE + text, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patience,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


class Resolver:
    """A resolver of gevent's with names of our own; the look-up of ``hangs.invalid`` never ends."""

    def __init__(self, former: Any) -> None:
        self._former = former
        self.names: dict[str, list[str]] = {}
        self.asked = Event()

    def getaddrinfo(self, host: str, port: int, *rest: Any) -> list[Any]:
        self.asked.set()
        if host == "hangs.invalid":
            Event().wait()
        if host not in self.names:
            return list(self._former.getaddrinfo(host, port, *rest))
        return [
            found
            for name in self.names[host]
            for found in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        ]


class MovedClock(ManualClock):
    """A clock that the test moves, and that says how many alarms are set."""

    @property
    def pending(self) -> int:
        """How many alarms are set."""
        return len(self.alarms)


class Ground:
    """A communicator that runs in a greenlet of its own."""

    def __init__(self, communicator: Communicator) -> None:
        self.communicator = communicator
        self._keeper = communicator.every(3600.0, lambda: None)
        self.runner = gevent.spawn(communicator.run)
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Ground:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for found in self._sockets:
            found.close()
        self.communicator.stop(0.0)
        assert self.runner.get(timeout=PATIENCE) is True
        self.communicator.close()

    def serve(
        self, handler: Any = None, address: str = "tcp://127.0.0.1:0", **settings: Any
    ) -> Server:
        """Adds a server."""
        return self.communicator.add_connection(Server(address, handler, **settings))

    def dial(self, server: Server | str) -> socket.socket:
        """Connects a plain socket to the first address of a server."""
        address = Address.parse(server if isinstance(server, str) else server.addresses[0])
        if address.is_unix:
            found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            path = address.path
            found.connect("\0" + path[1:] if address.is_abstract else path)
        else:
            found = socket.create_connection((address.host, address.port))
        found.settimeout(PATIENCE)
        self._sockets.append(found)
        return found


def read_all(sock: socket.socket) -> bytes:
    """Reads to the end of the stream."""
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


def read_lines(sock: socket.socket, count: int) -> list[bytes]:
    """Reads so many lines, and nothing after them."""
    data = b""
    while data.count(b"\n") < count:
        part = sock.recv(65536)
        assert part, f"the stream ended after {data!r}"
        data += part
    lines = data.split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == count
    return lines


def echo() -> Dispatcher:
    """A service that answers ECHO."""
    service = Dispatcher()

    @service.on("ECHO")
    def answer(message: Message, peer: Any) -> Message:
        return message.reply("ECHOED", {"text": message["text"]})

    return service


def ask(sock: socket.socket, text: str) -> None:
    """Shows that a peer is answered."""
    sock.sendall(f"ECHO text={text}\n".encode())
    assert read_lines(sock, 1) == [f"ECHOED text={text}".encode()]
