"""A log daemon that a test makes, and a watch over switches of greenlets."""

from __future__ import annotations

import array
import fcntl
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import greenlet

PATIENCE = 30.0
SEALED = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class LogDaemon:
    """A datagram socket at a path that is short enough, as syslog's and the journal's are."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.path = str(Path(self._folder.name) / "log")
        self._socket: socket.socket | None = None
        self.start()

    def start(self) -> None:
        """Receives again, at the same path."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE)
        self._socket.bind(self.path)

    def stop(self) -> None:
        """Is gone."""
        if self._socket is not None:
            self._socket.close()
            os.unlink(self.path)
            self._socket = None

    def receive(self) -> bytes:
        """Gives the next datagram, or what a sealed memory file in place of it holds."""
        assert self._socket is not None
        data, ancillary, _, _ = self._socket.recvmsg(1 << 20, 1024)
        for _, _, rights in ancillary:
            (descriptor,) = array.array("i", rights)
            assert data == b""
            assert fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & SEALED == SEALED
            with os.fdopen(descriptor, "rb") as file:
                file.seek(0)
                data = file.read()
        return data

    def __enter__(self) -> LogDaemon:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self._folder.cleanup()


def fields_of(data: bytes) -> dict[str, str]:
    """Reads an entry as the journal does."""
    fields = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equal, value = line.partition(b"=")
        if not equal:
            size = int.from_bytes(data[:8], "little")
            value, data = data[8 : 8 + size], data[8 + size :]
            assert data.startswith(b"\n")
            data = data[1:]
        fields[name.decode()] = value.decode()
    return fields


def record_of(text: object, *arguments: object, level: int = logging.INFO) -> logging.LogRecord:
    """A record of this package's."""
    return logging.LogRecord("edgevent", level, "/a.py", 7, text, arguments, None, "call")


@contextmanager
def no_switch() -> Iterator[None]:
    """Fails when this thread switches greenlets inside."""
    switches: list[Any] = []
    former = greenlet.settrace(lambda event, pair: switches.append(event))
    try:
        yield
    finally:
        greenlet.settrace(former)
    assert switches == []
