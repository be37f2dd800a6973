"""Starts a service as a process of its own, waits until it is ready, and stops it."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket as _socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Final

import gevent

from ..address import Address
from ..errors import AddressError, CommandTimeout, UsageError
from ..links.client import Client
from ..runtime.watchers import READ, io_watcher
from ..sources.process import Process
from .places import Places, bind, listening_addresses, make_socket

Ready = str | re.Pattern[str] | Callable[["StartedService"], object]
"""What is waited for; see the argument ``ready`` of :class:`StartedService`."""

START_TIMEOUT: Final = 10.0
"""For so many seconds a service may take to be ready, and as many to end."""

_LOOK: Final = 0.01  # seconds between two looks at what tells nobody that it has changed
_SHOWN: Final = 4000  # characters of its output, in a failure
_FIRST_FD: Final = 3  # SD_LISTEN_FDS_START, man 3 sd_listen_fds
_HIGH: Final = 100  # no descriptor that is handed over has a number from which another one goes
_SERVICE: Final = re.compile(rb"\bedgevent\b.*\bService\b", re.DOTALL)

# Only the process itself knows its id, and only there may 3 and those that follow be free.
_HAND_OVER: Final = """
import os, sys
numbers = [int(number) for number in sys.argv[1].split(",")]
for place, number in enumerate(numbers, 3):
    os.dup2(number, place)
    os.close(number)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execvp(sys.argv[2], sys.argv[2:])
"""


class StartedService:
    """A service in a process of its own.

    It runs in a folder of its own, which is its home too, without the ``EDGEVENT_`` variables of
    whoever runs the tests. Waits block the calling greenlet alone, so what the test has in its own
    process goes on meanwhile. In texts that are given to it ``{port}`` stands for a free port
    (``{port2}`` for another one), and ``{folder}`` for that folder.

    Args:
        command: A Python script, or a list: a program and its arguments.
        arguments: Further arguments.
        ready: When it is ready: ``notify``: it has sent ``READY=1`` to systemd's socket
            (sd_notify(3)); ``listening``: it listens anywhere; ``started``: at once; an address: it
            listens there; another text or an expression: a line of its output holds it; or a
            function, called with this object, is true. By default ``notify`` for a script that uses
            edgevent's ``Service``, else ``listening``.
        config: The text of its configuration file, which is handed over by ``--config FILE``.
        sockets: Names and addresses of sockets that listen before it starts, and are handed over
            as systemd does (sd_listen_fds(3)); port 0 is a free one.
        env: Further environment variables.
        folder: Where it runs; by default a new folder, which is gone afterwards.
        timeout: How many seconds it may take to be ready, and to end.

    Raises:
        AssertionError: It has ended, or is not ready in time; its output follows.
        CommandError: It could not be started.

    Attributes:
        folder: Where it runs.
        name: For errors: the script's name.
        notified: What it has told systemd, a line each: ``READY=1``, ``STATUS=...``.
    """

    def __init__(
        self,
        command: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *arguments: object,
        ready: Ready | None = None,
        config: str | None = None,
        sockets: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        folder: str | os.PathLike[str] | None = None,
        timeout: float = START_TIMEOUT,
    ) -> None:
        words, script = _words(command)
        self.name = Path(script).name
        self.timeout = timeout
        self.notified: list[str] = []
        self._places = Places()
        self._clients: list[Client] = []
        self._own: tempfile.TemporaryDirectory[str] | None = None
        if folder is None:
            self._own = tempfile.TemporaryDirectory(prefix="ed-service-")
            folder = self._own.name
        self.folder = Path(folder)
        self._process: Process | None = None
        self._was_looked_at = False
        self._notices = make_socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_NONBLOCK)
        self._notices.bind("")  # a name of the kernel's choice (man 7 unix, autobind)
        self._watcher: Any = io_watcher(self._notices.fileno(), READ)
        self._watcher.start(self._take_notices)
        self._log_path = self.folder / f".{self.name}.output"
        try:
            words = [self._fill(word) for word in (*words, *map(str, arguments))]
            if config is not None:
                path = self.folder / f"{Path(script).stem}.conf"
                path.write_text(self._fill(config), encoding="utf-8")
                path.chmod(0o600)
                words += ["--config", str(path)]
            self._start(words, {**(env or {})}, sockets or {})
            if ready is None:
                ready = "notify" if _is_service(script) else "listening"
            self.wait_until(ready, within=timeout)
        except BaseException:
            self.kill()
            self.close()
            raise

    # --- what users see ---------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._running().pid

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.is_alive

    @property
    def exit_code(self) -> int | None:
        """Its exit code, or -15 when it was ended by signal 15; ``None`` while it runs."""
        return None if self._process is None else self._process.exit_code

    @property
    def output(self) -> str:
        """What it has written so far, to standard output and standard error."""
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    @property
    def port(self) -> int:
        """What stands for ``{port}``."""
        return self._places.named_port()

    @property
    def addresses(self) -> list[str]:
        """Where it listens now, in the order of its descriptors; see ``listening_addresses``."""
        return listening_addresses(self.pid)

    @property
    def address(self) -> str:
        """The first of them.

        Raises:
            AssertionError: It does not listen.
        """
        found = self.addresses
        if not found:
            raise self._failure("listens nowhere")
        return found[0]

    def client(self, address: str | None = None, **settings: Any) -> Client:
        """Returns a client that is connected to it, and closed at the end.

        Args:
            address: Where; by default :attr:`address`, with TLS when ``tls`` is given.
            settings: As for :class:`~edgevent.Client`.
        """
        place = Address.parse(self._fill(address) if address else self.address)
        if settings.get("tls") is not None and not place.is_tls:
            text = str(place)
            place = Address.parse(text.replace("tcp:", "tls:").replace("unix:", "tls+unix:"))
        made = Client(place, **settings)
        self._clients.append(made)
        return made

    def wait_until(self, ready: Ready, *, within: float | None = None) -> None:
        """Waits until something holds; the same forms as ``ready``.

        Raises:
            AssertionError: It has ended, or ``within`` seconds are over.
        """
        limit = self.timeout if within is None else within
        end = monotonic() + limit
        look, wanted = self._look(ready)
        while not look():
            if not self.is_alive and not look():  # its last words may have come meanwhile
                raise self._failure(f"ended with {self._ended()} before {wanted}")
            if monotonic() > end:
                raise self._failure(f"has run for {limit:g} s without this: {wanted}")
            gevent.sleep(_LOOK)

    def signal(self, name: str | int) -> None:
        """Sends it a signal, by name or number; one of which it may end is looked for by you."""
        self._running().send_signal(name)

    def wait(self, *, within: float | None = None) -> int:
        """Waits until it has ended by itself; returns its exit code.

        Raises:
            AssertionError: It runs still after ``within`` seconds.
        """
        self._was_looked_at = True
        limit = self.timeout if within is None else within
        try:
            code = self._running().wait(limit)
        except CommandTimeout:
            raise self._failure(f"has not ended within {limit:g} s") from None
        return -1 if code is None else code

    def stop(self, *, within: float | None = None) -> int:
        """Ends it by SIGTERM, as systemd does, and waits for that; returns its exit code.

        Raises:
            AssertionError: It runs still after ``within`` seconds, and was killed.
        """
        self.signal(signal.SIGTERM)
        try:
            return self.wait(within=within)
        except AssertionError:
            self.kill()
            raise

    def kill(self) -> None:
        """Ends it, and what it has started, by SIGKILL."""
        self._was_looked_at = True
        if self._process is not None:
            self._process.cut()

    def close(self) -> None:
        """Stops it if it runs still, and clears away. Idempotent.

        Raises:
            AssertionError: It had died before, does not end, or has failed at its end.
        """
        if self._notices.fileno() < 0:
            return
        trouble: AssertionError | None = None
        try:
            self._end()
        except AssertionError as error:
            trouble = error
        for client in self._clients:
            client.close()
        if self._process is not None:
            self._process.close()
        self._watcher.close()
        self._notices.close()
        self._places.close()
        if self._own is not None:
            self._own.cleanup()
        if trouble is not None:
            raise trouble

    def __enter__(self) -> StartedService:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            with suppress(AssertionError):  # one failure is enough
                self.close()

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.is_alive else f"ended with {self._ended()}"
        return f"<StartedService {self.name} {state}>"

    # --- inside -----------------------------------------------------------------------------------

    def _running(self) -> Process:
        if self._process is None:
            raise UsageError(f"{self.name} was not started")
        return self._process

    def _fill(self, text: str) -> str:
        return self._places.fill(text.replace("{folder}", str(self.folder)))

    def _start(self, words: list[str], env: dict[str, str], sockets: Mapping[str, str]) -> None:
        kept = {name: one for name, one in os.environ.items() if not name.startswith("EDGEVENT_")}
        name = os.fsdecode(self._notices.getsockname())
        variables = {
            **kept,
            "HOME": str(self.folder),
            "PYTHONUNBUFFERED": "1",
            "NOTIFY_SOCKET": name.replace("\0", "@", 1),
            **{key: self._fill(value) for key, value in env.items()},
        }
        handed: list[int] = []
        try:
            for address in sockets.values():
                with bind(self._fill(address)) as sock:
                    handed.append(fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, _HIGH))
            if handed:
                variables["LISTEN_FDS"] = str(len(handed))
                variables["LISTEN_FDNAMES"] = ":".join(sockets)
                numbers = ",".join(map(str, handed))
                words = [sys.executable, "-I", "-S", "-c", _HAND_OVER, numbers, *words]
            with open(self._log_path, "wb") as log:
                self._process = Process(
                    words,
                    stdin="discard",
                    stdout=log,
                    stderr="merge",
                    cwd=self.folder,
                    env=variables,
                    pass_fds=handed,
                    new_session=True,
                    name=self.name,
                )
        finally:
            for number in handed:
                os.close(number)

    def _take_notices(self) -> None:
        try:
            while True:
                text = self._notices.recv(65536).decode("utf-8", "replace")
                self.notified += text.splitlines()
        except OSError:  # nothing more is there
            return

    def _look(self, ready: Ready) -> tuple[Callable[[], object], str]:
        """Returns what is to become true, and how a sentence calls it."""
        if isinstance(ready, re.Pattern):
            return lambda: ready.search(self.output), f"a line that {ready.pattern!r} matches"
        if not isinstance(ready, str):
            name = getattr(ready, "__name__", repr(ready))
            return lambda: ready(self), f"{name} being true"
        if ready == "notify":
            return lambda: "READY=1" in self.notified, "READY=1 for systemd"
        if ready == "listening":
            return lambda: self.addresses, "a socket that listens"
        if ready == "started":
            return lambda: True, "its start"
        text = self._fill(ready)
        try:
            place = Address.parse(text)
        except AddressError:
            return lambda: any(text in line for line in self._lines()), f"a line with {text!r}"
        return lambda: any(_is_at(one, place) for one in self.addresses), f"listening on {place}"

    def _lines(self) -> list[str]:
        return self.output.splitlines()

    def _ended(self) -> str:
        code = self.exit_code
        if code is None:
            return "an exit code that somebody else has collected"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _end(self) -> None:
        if self._process is None or (self._was_looked_at and not self.is_alive):
            return
        if not self.is_alive:
            if self.exit_code != 0:
                raise self._failure(f"had ended with {self._ended()} before it was stopped")
            return
        if self.stop() not in (0, -signal.SIGTERM):
            raise self._failure(f"has ended with {self._ended()}")

    def _failure(self, what: str) -> AssertionError:
        output = self.output if self._log_path.exists() else ""
        cut = "..." if len(output) > _SHOWN else ""
        shown = f"{cut}{output[-_SHOWN:]}" if output.strip() else "(nothing)"
        return AssertionError(f"{self.name} {what}; it has written:\n{shown}")


def _words(
    command: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> tuple[list[str], str]:
    """Returns the words of a command, and the script or program among them."""
    if isinstance(command, str | os.PathLike):
        script = os.path.abspath(command)
        if not os.path.exists(script):
            raise UsageError(f"{os.fspath(command)!r}: there is no such script in {os.getcwd()}")
        return [sys.executable, script], script
    words = [os.fspath(word) for word in command]
    if not words:
        raise UsageError("a command without a word: expected a script, or a list")
    words = [os.path.abspath(word) if os.path.isfile(word) else word for word in words]
    files = [word for word in words[1:] if os.path.isfile(word)]
    is_python = os.path.basename(words[0]).startswith("python")
    return words, files[0] if is_python and files else words[0]


def _is_service(script: str) -> bool:
    # A program that PATH finds is no file here.
    return os.path.isfile(script) and _SERVICE.search(Path(script).read_bytes()) is not None


def _is_at(address: str, wanted: Address) -> bool:
    """Whether who listens at an address, as the kernel tells it, listens at the wanted one."""
    found = Address.parse(address)
    if found.is_inet != wanted.is_inet or found.is_datagram != wanted.is_datagram:
        return False
    if not found.is_inet:
        return os.path.realpath(found.path) == os.path.realpath(wanted.path)
    hosts = {"127.0.0.1", "::1"} if wanted.host == "localhost" else {wanted.host}
    return found.port == wanted.port and (found.is_any or found.host in hosts)
