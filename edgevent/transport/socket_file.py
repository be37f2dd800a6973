"""The file of a Unix socket: bound at most once, open to nobody before its time, removed by us."""

from __future__ import annotations

import _socket
import errno
import fcntl
import logging
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from .. import limits
from ..address import Address
from ..errors import ListenError, UsageError
from ..runtime.clock import SYSTEM_CLOCK
from ..runtime.turns import Turns, wait
from .base import close_quietly, credentials_of
from .files import file_identity, group_number
from .resolve import unix_sockaddr

_LOCK_ATTEMPTS: Final = 100

logger = logging.getLogger("edgevent")


class SocketFile:
    """The path that a socket of this process is bound to.

    Args:
        path: The path; nothing is kept for an empty one, which stands for a socket without a file.
    """

    __slots__ = ("_identity", "_path")

    def __init__(self, path: str = "") -> None:
        self._path = os.path.abspath(path) if path else ""  # the program may change its folder
        self._identity = file_identity(self._path)

    def remove(self) -> None:
        """Removes the file, to be called before the socket is closed. Never raises."""
        # Another server may have the path now: its socket is not ours to remove. Ours is removed
        # before it is closed: after that the next server takes it for a stale one and has the
        # path, perhaps with the same inode number, at any moment.
        if self._path and file_identity(self._path) == self._identity:
            try:
                os.unlink(self._path)
            except OSError as error:
                logger.warning("unix:%s: not removed: %s", self._path, error.strerror)

    def forget(self) -> None:
        """Leaves the file to another process."""
        self._path = ""


def check_has_file(address: Address, mode: int | None, group: str | int | None) -> None:
    """Refuses a mode or a group for what has no file.

    Raises:
        UsageError: One is given, and the address is no path.
    """
    if (mode is not None or group is not None) and (not address.is_unix or address.is_abstract):
        raise UsageError(f"{address} has no file, and so neither mode nor group")


def check_is_own(address: Address, mode: int | None, group: str | int | None) -> None:
    """Refuses a mode or a group for the file of a socket that another process has made.

    Raises:
        UsageError: One is given.
    """
    if mode is not None or group is not None:
        raise UsageError(f"{address}: who made the socket has said its file's mode and group")


def bind_unix(
    sock: _socket.socket,
    address: Address,
    mode: int | None = None,
    group: str | int | None = None,
    make_ready: Callable[[], object] | None = None,
) -> SocketFile:
    """Binds a Unix socket of any type. May switch greenlets, while another server starts there.

    Args:
        mode: The mode of the file; 0600, or 0660 when a group is given.
        group: The group of the file, by name or number.
        make_ready: Called when mode and group are set: ``listen``, for a socket that has one.

    Raises:
        ListenError: It names the address and the reason.
    """
    if mode is None:
        mode = limits.UNIX_SOCKET_MODE if group is None else limits.UNIX_GROUP_SOCKET_MODE
    number = -1 if group is None else group_number(address, group)
    try:
        if address.is_abstract:
            _bind_abstract(sock, address)
            if make_ready is not None:
                make_ready()
            return SocketFile()
        with _only_one(address.path):
            _remove_stale(sock, address)
            # The file takes the socket's mode (Linux, unix_bind_bsd): nobody passes the check of a
            # connect that ends only when this one listens.
            os.fchmod(sock.fileno(), 0)
            sock.bind(address.path)
            return _open_up(address.path, mode, number, make_ready)
    except ListenError:
        raise
    except OSError as error:
        raise ListenError(f"{address}: {error.strerror}", error.errno) from error


def _bind_abstract(sock: _socket.socket, address: Address) -> None:
    name = unix_sockaddr(address)
    try:
        sock.bind(name)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise _taken(address, _ask(sock, name)[1]) from error


def _open_up(
    path: str, mode: int, group: int, make_ready: Callable[[], object] | None
) -> SocketFile:
    # The file has mode 0 yet, and a bound stream socket refuses everybody until it listens: mode
    # and group are set first, so there is no moment at which others can connect.
    try:
        if group >= 0:
            os.chown(path, -1, group, follow_symlinks=False)
        os.chmod(path, mode)
        if make_ready is not None:
            make_ready()
        return SocketFile(path)
    except BaseException:
        os.unlink(path)
        raise


@contextmanager
def _only_one(path: str) -> Iterator[None]:
    """Keeps another server that starts at the same moment from taking ours for a stale socket."""
    try:
        descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield  # a folder that can be searched but not read cannot be locked
        return
    try:
        for _ in range(_LOCK_ATTEMPTS):  # anybody who can read the folder can hold the lock
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                wait(Turns.current(), SYSTEM_CLOCK, 0.01)
            else:
                break
        yield
    finally:
        close_quietly(descriptor)


def _remove_stale(sock: _socket.socket, address: Address) -> None:
    """Removes a socket that nobody listens to any more, and nothing else."""
    path = address.path
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(f"{address}: there is something that is no socket", errno.EADDRINUSE)
    code, holder = _ask(sock, path)
    if code == errno.ECONNREFUSED:
        os.unlink(path)
    elif code == errno.EACCES:
        raise ListenError(f"{address}: a socket of another user is there", code)
    elif code != errno.ENOENT:  # EAGAIN: its queue is full, so it is alive
        raise _taken(address, holder)


def _ask(sock: _socket.socket, name: str) -> tuple[int, str]:
    """Connects to what has a name already; returns the errno, and who it is, if that is known."""
    # Only one of the same type answers; a live socket of another type answers EPROTOTYPE.
    kind = sock.type | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    probe = _socket.socket(socket.AF_UNIX, kind)
    try:
        code = probe.connect_ex(name)
        return code, "" if code else _holder(credentials_of(probe).pid)
    finally:
        probe.close()


def _holder(pid: int) -> str:
    if pid == os.getpid():
        return "this process"
    if pid <= 0:  # of datagrams the kernel does not tell it, nor of another PID namespace
        return ""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            name = file.read().rstrip("\n")
    except OSError:  # it has ended, and a child of it has the socket; or it may not be looked at
        name = ""
    return f"process {pid} ({name})" if name and name.isprintable() else f"process {pid}"


def _taken(address: Address, holder: str) -> ListenError:
    whose = f": {holder}" if holder else ""
    return ListenError(f"{address}: a live server has it{whose}", errno.EADDRINUSE)
