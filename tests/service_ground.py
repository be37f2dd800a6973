"""Services that run in the test's own process, beside the test."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import gevent
from gevent import socket
from network_ground import PATIENCE, until

from edgevent import Client, Service

Logged = Callable[[str], list[str]]
ONE = "[listeners]\none = unix:FOLDER/one.sock\n"
READ_AGAIN = "the configuration was read again: "
AS_BEFORE = "the configuration stays as it was: "


def write(folder: Path, text: str) -> Path:
    """Writes the configuration file of a service called ``tested``."""
    path = folder / "tested.conf"
    path.write_text(text.replace("FOLDER", str(folder)), encoding="utf-8")
    return path


def made(folder: Path, **settings: Any) -> Service:
    """A service with its files in this folder alone."""
    return Service("tested", "Is tested.", config_folder=folder, **settings)


class Running:
    """A service that runs in a greenlet of its own, until the block ends."""

    def __init__(self, service: Service, *words: str) -> None:
        self.service = service
        self.runner = gevent.spawn(service.main, list(words))
        self._ended = False

    def __enter__(self) -> Running:
        until(lambda: self.service.is_running or self.runner.dead)
        assert not self.runner.dead, self.runner.exception or self.runner.value
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._ended:
            status = self.end()
            assert error is not None or status == 0

    def end(self, *, by: signal.Signals | None = None) -> int:
        """Stops it, by a signal if one is given; gives the exit status."""
        self._ended = True
        if by is not None:
            os.kill(os.getpid(), by)
        elif not self.runner.dead:
            self.service.stop()
        return self.wait()

    def wait(self) -> int:
        """Waits until it has ended by itself; gives the exit status."""
        self._ended = True
        status: int = self.runner.get(timeout=PATIENCE)
        return status

    def address(self, listener: str) -> str:
        """The first address of a listener."""
        return self.service.listeners[listener].addresses[0]

    def dial(self, listener: str) -> Client:
        """A client of a listener."""
        return Client(self.address(listener), connect_timeout=PATIENCE)


class Reloads:
    """Rewrites the file of a service and has it read again, until that is done."""

    def __init__(self, folder: Path, logged: Logged) -> None:
        self._folder = folder
        self._logged = logged

    def __call__(self, text: str, *, says: str = READ_AGAIN) -> str:
        """Returns what was said behind ``says``."""
        write(self._folder, text)
        before = len(self._logged(says))
        os.kill(os.getpid(), signal.SIGHUP)
        until(lambda: len(self._logged(says)) > before)
        return self._logged(says)[-1].partition(says)[2]


class Manager:
    """A service manager's notify socket (man 3 sd_notify)."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "notify")
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(self.path)
        self._sock.settimeout(PATIENCE)

    def receive(self) -> dict[str, str]:
        """What comes next, by name."""
        text = self._sock.recv(4096).decode()
        return dict(line.split("=", 1) for line in text.splitlines())

    def receive_until(self, name: str) -> dict[str, str]:
        """Reads up to what says this."""
        while name not in (found := self.receive()):
            pass
        return found

    def close(self) -> None:
        """Is told nothing more."""
        self._sock.close()
