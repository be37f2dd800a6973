"""Programs that tests start as processes of their own, and speak to."""

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
LIMIT = 30.0

FORKING = """
import os

def say(*what):
    os.write(1, (" ".join(map(str, what)) + "\\n").encode())  # two processes write

def open_files():
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:  # the descriptor of the listing itself
            pass
    return found
"""
"""What a program that forks begins with."""


def lines_of(printed: str) -> list[str]:
    """What a program has printed, but for what is only said on a machine that is busy."""
    return [line for line in printed.splitlines() if "kept the hub busy" not in line]


def environment(home: Path) -> dict[str, str]:
    """An environment in which this checkout is found, and no configuration of this machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EDGEVENT_")}
    return {**kept, "HOME": str(home), "PYTHONPATH": str(ROOT)}


def unmeasured() -> dict[str, str]:
    """Variables with which a program runs without coverage, where that is seen.

    It costs time and memory, and its tracer loses an interrupt that comes while it looks up whose
    greenlet it is in.
    """
    return {name: "" for name in os.environ if name.startswith("COVERAGE_")}


class Program:
    """A Python program in a folder of the test's own; it is killed when it outlives its limit."""

    def __init__(
        self, path: Path, *arguments: str, folder: Path, limit: float = LIMIT, **variables: str
    ) -> None:
        self.printed = ""
        self.process = subprocess.Popen(
            [sys.executable, str(path), *arguments],
            cwd=folder,
            env={**environment(folder), **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._limit = threading.Timer(limit, self.kill)
        self._limit.start()

    @property
    def lines(self) -> list[str]:
        """What it has printed, as :func:`lines_of` gives it."""
        return lines_of(self.printed)

    def wait_for(self, text: str) -> str:
        """Reads up to the line that holds the text, and returns that line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed += line
            if text in line:
                return line.rstrip("\n")
        raise AssertionError(f"{text!r} was never printed, but:\n{self.printed}")

    def listening_on(self) -> str:
        """The address that the program says it listens on."""
        return self.wait_for("listening on ").rpartition(" ")[2]

    def end(self, number: int | None = None) -> int:
        """Waits for the end, after a signal if one is given; returns the exit code."""
        assert self.process.stdout is not None
        if number is not None:
            self.process.send_signal(number)
        self.printed += self.process.stdout.read()
        return self.process.wait()

    def kill(self) -> None:
        """Kills the program, and what it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def __enter__(self) -> "Program":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        self.process.wait()
        self._limit.cancel()
        self._limit.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


def terminate(program: Program) -> int:
    """Ends a service as systemd does; returns the exit code."""
    return program.end(signal.SIGTERM)


def dial(address: str) -> socket.socket:
    """Connects a plain socket to an address as edgevent prints it."""
    scheme, _, rest = address.partition(":")
    if scheme == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(LIMIT)
        sock.connect(rest)
        return sock
    host, _, port = rest.strip("/").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=LIMIT)


def talk(address: str, data: bytes) -> bytes:
    """Sends bytes, ends the sending side, and returns all that comes until the peer closes."""
    with dial(address) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        received = b""
        while part := sock.recv(65536):
            received += part
        return received


def copy_at(name: str, address: str, folder: Path) -> Path:
    """Copies an example that has its address in its text, with another address."""
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert "tcp://127.0.0.1:3001" in text
    path = folder / name
    path.write_text(text.replace("tcp://127.0.0.1:3001", address), encoding="utf-8")
    return path
