"""communicatord as a program in the test's own process, and bare sockets that talk to it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from gevent import socket
from network_ground import PATIENCE
from service_ground import Running

from edgevent.communicatord.daemon import Daemon
from edgevent.communicatord.program import Program
from edgevent.communicatord.router import Router

SERVER = "testhost"
READY = [
    f"<{SERVER}:communicatord HELP",
    f"<{SERVER}:communicatord READY my_address=127.0.0.1:4042",
]


class Line:
    """A peer that writes and reads lines, as a shell does.

    Args:
        address: The path of a Unix socket, or a host and a port.
    """

    def __init__(self, address: str | tuple[str, int]) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(address)
        self._rest = b""

    def says(self, *lines: str | bytes) -> Line:
        """Sends lines, all at once."""
        data = [line if isinstance(line, bytes) else line.encode() for line in lines]
        self.sock.sendall(b"".join(line + b"\n" for line in data))
        return self

    def hears(self) -> str:
        """Waits for the next line; an empty text is the end."""
        while b"\n" not in self._rest:
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                return ""
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode("utf-8", "surrogateescape")

    def hears_lines(self, count: int) -> list[str]:
        """Waits for so many lines."""
        return [self.hears() for _ in range(count)]

    def hears_until(self, part: str) -> str:
        """Waits for a line with this in it."""
        while part not in (line := self.hears()):
            assert line, f"it ended before {part!r}"
        return line

    def quiet(self) -> list[str]:
        """What has come up to an answer that is asked for now."""
        self.says("SERVICE_STATUS service=asked_by_the_test")
        found = []
        while "asked_by_the_test" not in (line := self.hears()):
            assert line
            found.append(line)
        return found

    def close(self) -> None:
        """Goes away."""
        self.sock.close()


class RunningDaemon:
    """A daemon with a Unix socket in a folder, and others on ports of their own."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.path = f"{folder}/cd.sock"
        self.program = Program(config_folder=folder, other_folders=())
        self._running = Running(
            self.program.service,
            f"--server-name={SERVER}",
            "--local-listen=127.0.0.1:0",
            f"--unix-listen={self.path}",
            "--signal=127.0.0.1:0",
            f"--services={folder}/services",
            f"--data-path={folder}",
            "--timedate-wait-command=true",
            "--settle=0s",
            *words,
        )
        self._lines: list[Line] = []

    def __enter__(self) -> RunningDaemon:
        self._running.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._running.__exit__(kind, error, traceback)
        finally:
            for line in self._lines:
                line.close()

    @property
    def daemon(self) -> Daemon:
        """The daemon in it."""
        assert self.program.daemon is not None
        return self.program.daemon

    @property
    def router(self) -> Router:
        """Its router."""
        return self.daemon.router

    def wait(self) -> int:
        """Waits until it has ended by itself."""
        return self._running.wait()

    def endpoint(self, listener: str) -> tuple[str, int]:
        """Host and port of a listener."""
        host, _, port = self._running.address(listener).partition("://")[2].rpartition(":")
        return host, int(port)

    def line(self, over: str = "unix") -> Line:
        """A peer that has said nothing yet."""
        line = Line(self.path if over == "unix" else self.endpoint(over))
        self._lines.append(line)
        return line

    def service(self, name: str, commands: Iterable[str] = (), over: str = "unix") -> Line:
        """A service that is registered, and has listed commands if any are given."""
        line = self.line(over).says(f"REGISTER service={name};version=1")
        assert line.hears_lines(2) == READY
        if commands:
            line.says(f"COMMANDS list={','.join(commands)}")
            line.quiet()
        return line

    def datagram(self, text: str, *, answer: bool = False) -> str:
        """Sends a datagram; waits for the answer, if one is wanted."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(PATIENCE)
            sock.sendto(text.encode(), self.endpoint("signal"))
            return sock.recv(2000).decode() if answer else ""


def settings_of(daemon: RunningDaemon) -> Any:
    """The options that the daemon has read."""
    return daemon.program.service.values
