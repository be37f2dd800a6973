"""What a service and systemd tell each other: states, the watchdog, sockets that are open already.

The protocols are plain ones, which other service managers speak as well: man 3 sd_notify, man 3
sd_watchdog_enabled, man 3 sd_listen_fds. Without such a manager everything here does nothing.
"""

from __future__ import annotations

import _socket
import array
import fcntl
import logging
import os
import socket
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from .address import Address
from .errors import OptionError
from .runtime.clock import SYSTEM_CLOCK, Clock
from .runtime.closing import Closing
from .runtime.guards import REGISTRY
from .runtime.turns import TIMED_OUT, Turns, wait
from .runtime.watchers import READ, io_watcher
from .transport.base import close_quietly
from .transport.inherited import bound_address, duplicate
from .transport.stream import printable

logger = logging.getLogger("edgevent")

_FIRST: Final = 3  # man 3 sd_listen_fds, SD_LISTEN_FDS_START
_NOTIFY_VARIABLE: Final = "NOTIFY_SOCKET"
_LISTEN_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_MAX_SENT: Final = 4096  # systemd's src/core/manager.c, NOTIFY_BUFFER_MAX: it drops longer ones
_MAX_STATUS: Final = 1000
_STATES: Final = ("READY", "RELOADING", "STOPPING")  # one replaces the other


class Notifier(Closing):
    """Tells the service manager how this service is, by man 3 sd_notify.

    Nothing here waits or switches greenlets, but for :meth:`barrier`. What cannot be sent because
    the manager's queue is full leaves with what is sent next; any other failure is logged, once
    until something is sent again. Each call returns whether all has left; without a manager, False.

    Args:
        address: The manager's socket: an absolute path, or ``@`` and an abstract name; empty for
            none.
        watchdog_timeout: The manager ends the service when :meth:`watchdog` was not called for so
            many seconds; 0 for no limit.

    Example:
        >>> notifier = Notifier.from_environment()
        >>> if notifier.watchdog_interval:
        ...     communicator.every(notifier.watchdog_interval, notifier.watchdog)
        >>> notifier.ready()

    A forked child tells nothing.
    """

    __slots__ = ("_failed", "_sock", "_target", "_unsent", "address", "watchdog_timeout")

    def __init__(self, address: str = "", *, watchdog_timeout: float = 0.0) -> None:
        self.address = address
        self.watchdog_timeout = watchdog_timeout
        self._unsent: dict[str, str] = {}
        self._failed = False
        self._sock: _socket.socket | None = None
        self._target = f"\0{address[1:]}" if address.startswith("@") else address
        if address[:1] not in ("/", "@"):
            if address:  # "vsock:", for example, which is for virtual machines
                self._tell(f"an absolute path or @NAME was expected in {_NOTIFY_VARIABLE}")
            return
        # One socket for all: it is there still when no descriptor is left, and the watchdog waits.
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._sock = _socket.socket(socket.AF_UNIX, kind)
        REGISTRY.descriptors.add(self)

    @classmethod
    def from_environment(cls) -> Notifier:
        """Makes one from ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID``.

        They are taken out of the environment, so that no child of this process speaks for it.
        """
        address = os.environ.pop(_NOTIFY_VARIABLE, "")
        return cls(address, watchdog_timeout=_pop_watchdog() if address else 0.0)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {printable(self.address) or 'of no manager'}>"

    @property
    def is_active(self) -> bool:
        """Whether there is a manager that is told."""
        return self._sock is not None

    @property
    def watchdog_interval(self) -> float | None:
        """How often, in seconds, :meth:`watchdog` is to be called: twice in the time that there is.

        ``None`` when the manager does not watch.
        """
        return self.watchdog_timeout / 2 or None

    # --- what is told -----------------------------------------------------------------------------

    def ready(self, status: str | None = None) -> bool:
        """Tells that the service has started, or has finished a reload."""
        return self._send({"READY": "1"}, status)

    def reloading(self, status: str | None = None) -> bool:
        """Tells that the service reads its configuration; :meth:`ready` is to follow."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        return self._send({"RELOADING": "1", "MONOTONIC_USEC": str(microseconds)}, status)

    def stopping(self, status: str | None = None) -> bool:
        """Tells that the service begins to stop."""
        return self._send({"STOPPING": "1"}, status)

    def status(self, text: str) -> bool:
        """Tells a line for people, which ``systemctl status`` shows; cut at 1,000 characters."""
        return self._send({}, text)

    def watchdog(self) -> bool:
        """Tells that the service is alive.

        To be called where it is: by a timer of the communicator, which a handler that keeps the
        whole process busy holds up.
        """
        return self._send({"WATCHDOG": "1"})

    def trip_watchdog(self) -> bool:
        """Has the manager end this service now, as if it had been silent."""
        return self._send({"WATCHDOG": "trigger"})

    def failed(self, number: int, status: str | None = None) -> bool:
        """Tells the ``errno`` for which the service ends."""
        return self._send({"ERRNO": str(number)}, status)

    def main_pid(self, pid: int) -> bool:
        """Tells that the service goes on in another process."""
        return self._send({"MAINPID": str(pid)})

    def extend_timeout(self, seconds: float) -> bool:
        """Asks for so many more seconds from now on, for the start, the reload or the stop."""
        return self._send({"EXTEND_TIMEOUT_USEC": str(int(seconds * 1e6))})

    def barrier(self, timeout: float = 5.0, *, clock: Clock = SYSTEM_CLOCK) -> bool:
        """Blocks the calling greenlet until the manager has handled all that was told.

        For a program that ends right after its last word: the manager may not know whose it was.

        Args:
            timeout: The limit in seconds.

        Returns:
            Whether it has, in time.
        """
        if self._sock is None or (self._unsent and not self._send({})):
            return False
        turns = Turns.current()
        current: Any = turns.check_wait()
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            # The manager closes its copy of the pipe's end when it has come so far.
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [writer]))
            if not self._transmit(b"BARRIER=1", [rights]):
                return False
            close_quietly(writer)
            writer = -1
            watcher = io_watcher(reader, READ)
            watcher.start(current.switch)
            try:
                return wait(turns, clock, timeout) is not TIMED_OUT
            finally:
                watcher.close()
        finally:
            for descriptor in (reader, writer):
                close_quietly(descriptor)

    # --- sending ----------------------------------------------------------------------------------

    def _send(self, fields: Mapping[str, str], status: str | None = None) -> bool:
        if self._sock is None:
            return False
        if not fields.keys().isdisjoint(_STATES):  # of states, the last one alone is true
            for state in (*_STATES, "MONOTONIC_USEC"):
                self._unsent.pop(state, None)
        self._unsent.update(fields)
        if status is not None:
            self._unsent["STATUS"] = printable(status)[:_MAX_STATUS]
        text = "\n".join(f"{name}={value}" for name, value in self._unsent.items())
        data = text.encode("utf-8", "replace")[:_MAX_SENT]
        if self._transmit(data, []):
            self._unsent.clear()
            return True
        return False

    def _transmit(self, data: bytes, control: list[Any]) -> bool:
        assert self._sock is not None
        try:
            self._sock.sendmsg([data], control, socket.MSG_NOSIGNAL, self._target)
        except BlockingIOError:
            return False
        except OSError as error:
            self._tell(error.strerror or str(error))
            self._unsent.clear()
            return False
        self._failed = False
        return True

    def _tell(self, reason: str) -> None:
        level = logging.DEBUG if self._failed else logging.WARNING
        self._failed = True
        logger.log(level, "service manager %s: not told: %s", printable(self.address), reason)

    # --- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Tells nothing from now on. Idempotent."""
        if self._sock is not None:
            REGISTRY.descriptors.discard(self)
            self._sock.close()
            self._sock = None

    def abandon(self) -> None:
        """Closes a forked child's copy of the descriptor."""
        self.close()


def _pop_watchdog() -> float:
    """Takes the watchdog's limit, in seconds, out of the environment; 0 when there is none."""
    limit, pid = os.environ.pop("WATCHDOG_USEC", ""), os.environ.pop("WATCHDOG_PID", "")
    if not limit or (pid and pid != str(os.getpid())):
        return 0.0
    if not (limit.isascii() and limit.isdigit() and int(limit)):
        logger.warning("WATCHDOG_USEC=%s: microseconds were expected", printable(limit))
        return 0.0
    return int(limit) / 1e6


# --- sockets that are open already ----------------------------------------------------------------


class InheritedSocket(NamedTuple):
    """A descriptor that the service manager has opened for this process.

    ``Server(socket=...)`` and ``DatagramServer(socket=...)`` take it.

    Attributes:
        fd: The descriptor.
        name: Its name: ``FileDescriptorName=`` of a .socket unit, which is the unit's by default;
            ``unknown`` when the manager gave none.
    """

    fd: int
    name: str

    def fileno(self) -> int:
        """The descriptor."""
        return self.fd

    @property
    def address(self) -> Address:
        """The address that it is bound to; its ``is_datagram`` tells which server takes it.

        Raises:
            ListenError: It is no socket, or bound to none.
        """
        sock = duplicate(self.fd)
        try:
            return bound_address(sock)
        finally:
            sock.close()

    def close(self) -> None:
        """Closes the descriptor, for one that nobody wants."""
        close_quietly(self.fd)


def inherited_sockets() -> list[InheritedSocket]:
    """Returns the sockets that the service manager has opened for this process (sd_listen_fds).

    They are closed in children from now on, and ``LISTEN_FDS``, ``LISTEN_PID`` and
    ``LISTEN_FDNAMES`` are taken out of the environment: a second call returns none.

    Raises:
        OptionError: The variables are wrong.
    """
    pid, count, names, _ = (os.environ.pop(name, "") for name in _LISTEN_VARIABLES)
    if not count or pid != str(os.getpid()):
        return []
    if not (count.isascii() and count.isdigit() and len(count) < 7):
        raise OptionError(f"environment variable LISTEN_FDS: {count!r}: expected a number")
    numbers = range(_FIRST, _FIRST + int(count))
    known = names.split(":") if names else ["unknown"] * len(numbers)
    if len(known) != len(numbers):
        text = f"environment variable LISTEN_FDNAMES: {len(known)} names for {count} descriptors"
        raise OptionError(text)
    for number in numbers:
        try:
            flags = fcntl.fcntl(number, fcntl.F_GETFD)
            fcntl.fcntl(number, fcntl.F_SETFD, flags | fcntl.FD_CLOEXEC)
        except OSError as error:
            text = f"environment variable LISTEN_FDS: {count}: descriptor {number} is not open"
            raise OptionError(text) from error
    return [InheritedSocket(number, name) for number, name in zip(numbers, known, strict=True)]
