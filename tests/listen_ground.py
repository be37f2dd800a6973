"""What the tests of ed-listen share: the tool as it runs, and plain sockets beside it."""

from __future__ import annotations

import select
import signal
import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import pytest
from tool_ground import PATIENCE, begin

from edgevent import Address
from edgevent.tools.ed_listen import main


class Listening:
    """ed-listen in a folder of the test's own; it has begun to listen.

    Args:
        words: Its command line.
    """

    def __init__(self, folder: Path, *words: str | Path) -> None:
        self.process: subprocess.Popen[str] = begin("ed-listen", *words, folder=folder)
        self._limit = threading.Timer(PATIENCE, self.process.kill)
        self._limit.start()
        self.told = ""  # on the error output
        self.addresses: list[str] = []
        self._sockets: list[socket.socket] = []
        before = ["", *map(str, words)]
        wanted = len(
            [one for one, word in zip(before, words, strict=False) if _is_place(one, str(word))]
        )
        try:
            while len(self.addresses) < wanted:
                line = self.tell()
                if line.startswith("ed-listen: listening on "):
                    self.addresses.append(line.split("listening on ")[1].strip())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Listening:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kills it, and closes what was opened."""
        for sock in self._sockets:
            sock.close()
        self.process.kill()
        self.process.wait()
        self._limit.cancel()
        self._limit.join()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def tell(self) -> str:
        """The next line of the error output."""
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        assert line, f"it has ended: {self.told}"
        self.told += line
        return line

    def wait_for(self, text: str) -> str:
        """Reads up to a line of the error output that has this text."""
        while text not in (line := self.tell()):
            pass
        return line

    def line(self) -> str:
        """The next line of the standard output."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.endswith("\n"), line
        return line[:-1]

    def dial(self, index: int = 0) -> socket.socket:
        """Connects a plain socket to one of its addresses."""
        sock = dial(self.addresses[index])
        self._sockets.append(sock)
        return sock

    def send(self, data: bytes, index: int = 0) -> None:
        """Sends bytes by a connection of their own, or a datagram."""
        with dial(self.addresses[index]) as sock:
            sock.sendall(data)

    def end(self, number: int | None = signal.SIGTERM) -> tuple[int, str]:
        """Waits for the end; gives the exit code and what was left on the standard output."""
        if number is not None:
            self.process.send_signal(number)
        printed, told = self.process.communicate(timeout=PATIENCE)
        self.told += told
        return self.process.returncode, printed


def _is_place(before: str, word: str) -> bool:
    scheme = word.partition(":")[0]
    return before != "--forward" and scheme in (
        "tcp",
        "tls",
        "udp",
        "unix",
        "tls+unix",
        "unixgram",
        "unixseq",
        "fifo",
    )


def dial(text: str) -> socket.socket:
    """Connects a plain socket to an address."""
    address = Address.parse(text)
    kinds = {"udp": socket.SOCK_DGRAM, "unixgram": socket.SOCK_DGRAM}
    kind = kinds.get(address.scheme, socket.SOCK_STREAM)
    if address.scheme == "unixseq":
        kind = socket.SOCK_SEQPACKET
    if address.is_unix:
        sock = socket.socket(socket.AF_UNIX, kind)
        where: object = address.path
        if kind == socket.SOCK_DGRAM:
            sock.bind("")  # man 7 unix, autobind: so that it can be answered
    else:
        sock = socket.socket(socket.AF_INET, kind)
        where = (address.host, address.port)
    sock.settimeout(PATIENCE)
    try:
        sock.connect(where)
    except BaseException:
        sock.close()
        raise
    return sock


def read_all(sock: socket.socket) -> bytes:
    """Reads up to the end of the stream."""
    received = b""
    with suppress(ConnectionResetError):
        while part := sock.recv(65536):
            received += part
    return received


def fill(sock: socket.socket, data: bytes) -> int:
    """Sends until all buffers on the way are full; returns how many bytes that were."""
    sock.setblocking(False)
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    sent = 0
    while poll.poll(200):
        assert sent < 32 * 1024 * 1024, "nobody holds it up"
        sent += sock.send(data)
    return sent


def failed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line of a run that ends with 2 before it listens."""
    code: object
    try:
        code = main(words)
    except SystemExit as error:
        code = error.code
    printed, told = capsys.readouterr()
    assert (code, printed) == (2, ""), told
    assert told.startswith("ed-listen: "), told
    assert told.count("\n") == 1, told
    return told[len("ed-listen: ") : -1]
