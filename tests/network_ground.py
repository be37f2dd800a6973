"""What the tests over real sockets share: a running communicator, raw clients, a moved clock."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from types import TracebackType
from typing import Any

import gevent
from gevent import socket
from gevent.event import Event

from edgevent import Address, Communicator, Server
from edgevent.runtime.clock import Clock

PATIENCE = 30.0
"""How long a test waits for what must come, on a machine that is busy with other things."""


def until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Waits until a condition holds, which is looked at before each poll of the loop."""
    met = Event()
    loop = gevent.get_hub().loop
    # What is set inside a prepare watcher would be noticed after the poll that follows.
    watcher, soon = loop.prepare(), loop.timer(0.0)
    watcher.start(lambda: soon.start(met.set) if condition() else None)
    try:
        assert condition() or met.wait(patience), "it did not come true in time"
    finally:
        watcher.close()
        soon.close()


class _Alarm:
    def __init__(self, callback: Callable[[], Any]) -> None:
        self.callback: Callable[[], Any] | None = callback

    def stop(self) -> None:
        self.callback = None


class MovedClock(Clock):
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = 1000.0
        self._alarms: list[tuple[float, int, _Alarm]] = []
        self._count = itertools.count()

    def now(self) -> float:
        return self.time

    def date(self) -> float:
        return 1_700_000_000.0 + self.time

    def call_later(self, delay: float, callback: Callable[..., Any], *arguments: Any) -> _Alarm:
        alarm = _Alarm(lambda: callback(*arguments))
        heapq.heappush(self._alarms, (self.time + max(delay, 0.0), next(self._count), alarm))
        return alarm

    @property
    def pending(self) -> int:
        """How many alarms are set."""
        return sum(alarm.callback is not None for _, _, alarm in self._alarms)

    def advance(self, seconds: float) -> None:
        """Moves on, and makes the calls that are due, in the hub."""
        end = self.time + seconds
        while self._alarms and self._alarms[0][0] <= end:
            at, _, alarm = heapq.heappop(self._alarms)
            self.time = max(at, self.time)
            if alarm.callback is not None:
                callback, alarm.callback = alarm.callback, None
                done = Event()
                gevent.get_hub().loop.run_callback(_call, callback, done)
                done.wait()
        self.time = end


def _call(callback: Callable[[], Any], done: Event) -> None:
    try:
        callback()
    finally:
        done.set()


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
