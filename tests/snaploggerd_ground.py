"""The daemon of logs as a process, and how tests talk to it."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from tool_ground import PATIENCE, SCRIPTS

from edgevent import Message
from edgevent.testing.starting import StartedService

OFF = ("--tcp-listen=off", "--udp-listen=off", "--logrotate-listen=127.0.0.1:0")


class Daemon(StartedService):
    """snaploggerd in a process of its own, with its files in ``logs`` and a Unix socket.

    Args:
        words: Further words of its command line.
        before: Words before it, as of unshare(1).
        settings: As of :class:`StartedService`.
    """

    def __init__(self, *words: str, before: Iterable[str] = (), **settings: Any) -> None:
        super().__init__(
            [
                *before,
                sys.executable,
                str(SCRIPTS / "snaploggerd"),
                "--folder=logs",
                "--unix-listen=s.sock",
                *words,
            ],
            ready="notify",
            timeout=PATIENCE,
            **settings,
        )

    @property
    def logs(self) -> Path:
        """The folder of its files."""
        return self.folder / "logs"

    def lines(self, path: str = "snaplogger.log") -> list[str]:
        """The lines of a file; none if it is not there."""
        try:
            return (self.logs / path).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []

    def counts(self) -> dict[str, int]:
        """What it has counted."""
        with Sender(self) as sender:
            answer = sender.ask("LOG_STATUS")
        return {name: int(text) for name, text in answer.parameters.items() if text.isdecimal()}


class Sender:
    """A plain socket that sends records, and reads what is answered.

    Args:
        daemon: The daemon, for its Unix socket; or an address of TCP or UDP.
        kind: The kind of socket for such an address.
    """

    def __init__(self, daemon: Daemon | tuple[str, int], kind: int = socket.SOCK_STREAM) -> None:
        family = socket.AF_INET if isinstance(daemon, tuple) else socket.AF_UNIX
        self.sock = socket.socket(family, kind)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(daemon if isinstance(daemon, tuple) else f"{daemon.folder}/s.sock")
        self._is_datagram = kind == socket.SOCK_DGRAM
        self._rest = b""

    def __enter__(self) -> Sender:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.sock.close()

    def send(self, *messages: Message | str | bytes) -> None:
        """Sends messages, or lines as they are."""
        for one in messages:
            line = bytes(one) if isinstance(one, (Message, bytes)) else one.encode()
            self.sock.sendall(line if self._is_datagram else line + b"\n")

    def receive(self) -> Message:
        """Reads one message."""
        if self._is_datagram:
            return Message.parse(self.sock.recv(65536))
        while b"\n" not in self._rest:
            part = self.sock.recv(65536)
            assert part, f"the stream ended after {self._rest!r}"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        return Message.parse(line)

    def ask(self, message: Message | str | bytes) -> Message:
        """Sends one, and reads one."""
        self.send(message)
        return self.receive()

    def log(self, text: str, **parameters: Any) -> str:
        """Sends a record, and gives the command of the answer: it is written then."""
        return self.ask(record(text, acknowledge=True, **parameters)).command


def record(text: str, **parameters: Any) -> Message:
    """A LOG message."""
    return Message("LOG", {"message": text, **parameters})


def remove_in(pid: int, path: Path) -> None:
    """Removes a file as a process sees it, which has mounts of its own."""
    os.unlink(f"/proc/{pid}/root{path}")
