"""A raw peer that does what the test says, byte for byte."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

from gevent import socket
from network_ground import PATIENCE


class ScriptedPeer:
    """Listens for connections, and speaks on the one that it took last."""

    def __init__(self, where: tuple[str, int] | str = ("127.0.0.1", 0)) -> None:
        family = socket.AF_UNIX if isinstance(where, str) else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(where)
        self._listener.listen(16)
        self._listener.settimeout(PATIENCE)
        if isinstance(where, str):
            self.address = f"unix:{where}"
        else:
            self.address = "tcp://{}:{}".format(*self._listener.getsockname())
        self._sock: socket.socket | None = None
        self._read = b""

    @property
    def sock(self) -> socket.socket:
        """The connection."""
        assert self._sock is not None
        return self._sock

    def accept(self) -> None:
        """Takes the next connection; the one before it is closed."""
        self.drop()
        self._sock, _ = self._listener.accept()
        self._sock.settimeout(PATIENCE)
        self._read = b""

    def read(self) -> str:
        """Waits for a line."""
        while b"\n" not in self._read:
            data = self.sock.recv(65536)
            assert data, f"the stream ended after {self._read!r}"
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def read_serial(self) -> str:
        """Waits for a line, and gives the serial in it."""
        parameters = dict(pair.split("=") for pair in self.read().partition(" ")[2].split(";"))
        return parameters["serial"]

    def write(self, *lines: str) -> None:
        """Sends lines, all at once."""
        self.sock.sendall("".join(f"{line}\n" for line in lines).encode())

    def drop(self, *, reset: bool = False) -> None:
        """Ends the connection."""
        if self._sock is not None:
            if reset:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._sock.close()
            self._sock = None

    def stop_listening(self) -> None:
        """Refuses all connections from now on."""
        self._listener.close()


@contextmanager
def scripted_peer(where: tuple[str, int] | str = ("127.0.0.1", 0)) -> Iterator[ScriptedPeer]:
    """Gives a peer that is gone afterwards."""
    peer = ScriptedPeer(where)
    try:
        yield peer
    finally:
        peer.drop()
        peer.stop_listening()
