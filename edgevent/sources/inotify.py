"""The kernel's watches of files and folders (man 7 inotify).

Python has no functions for it. Three of the C library's are called by ``ctypes``, which is imported
when they are first needed; a dependency would do no more than that.
"""

from __future__ import annotations

import errno
import functools
import os
import struct
import sys
from collections.abc import Callable
from typing import Any, Final

from ..errors import FileWatchError
from ..limits import READ_BYTES
from ..runtime.guards import REGISTRY
from ..runtime.watchers import READ, io_watcher

# linux/inotify.h
IN_ACCESS: Final = 0x1
IN_MODIFY: Final = 0x2
IN_ATTRIB: Final = 0x4
IN_CLOSE_WRITE: Final = 0x8
IN_CLOSE_NOWRITE: Final = 0x10
IN_OPEN: Final = 0x20
IN_MOVED_FROM: Final = 0x40
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100
IN_DELETE: Final = 0x200
IN_DELETE_SELF: Final = 0x400
IN_MOVE_SELF: Final = 0x800
IN_UNMOUNT: Final = 0x2000
IN_Q_OVERFLOW: Final = 0x4000
IN_IGNORED: Final = 0x8000
IN_ONLYDIR: Final = 0x1000000
IN_DONT_FOLLOW: Final = 0x2000000
IN_EXCL_UNLINK: Final = 0x4000000
IN_MASK_ADD: Final = 0x20000000
IN_ISDIR: Final = 0x40000000

Record = tuple[int, int, int, str]
"""One ``struct inotify_event``: watch, mask, cookie, and the name or an empty text."""

_HEAD: Final = struct.Struct("iIII")
_ENCODING: Final = sys.getfilesystemencoding()
_ERRORS: Final = sys.getfilesystemencodeerrors()


def parse(data: bytes) -> list[Record]:
    """Splits what was read into its events (``struct inotify_event``).

    Names that are not in the encoding of the file system are kept by surrogate escapes, as in all
    of Python's own calls.
    """
    records = []
    offset, end, unpack = 0, len(data), _HEAD.unpack_from
    while offset < end:
        watch, mask, cookie, length = unpack(data, offset)
        offset += 16
        name = ""
        if length:
            name = data[offset : offset + length].rstrip(b"\0").decode(_ENCODING, _ERRORS)
            offset += length
        records.append((watch, mask, cookie, name))
    return records


@functools.cache
def _library() -> Any:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> int:
    if result < 0:
        import ctypes

        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _limit(name: str) -> str:
    """Names the sysctl of a limit, and its value: that of the user, or of its user namespace."""
    found = {}
    for place in ("fs/inotify/max_user_", "user/max_inotify_"):
        path = f"{place}{name}"
        try:
            with open(f"/proc/sys/{path}", encoding="ascii") as file:
                found[path.replace("/", ".")] = int(file.read())
        except (OSError, ValueError):  # no /proc, or none of that name in this kernel
            continue
    if not found:
        return f"the limit is fs.inotify.max_user_{name}"
    sysctl = min(found, key=found.__getitem__)
    return f"{sysctl} is {found[sysctl]}"


def _has_descriptors() -> bool:
    """Whether this process may open one more descriptor."""
    try:
        os.close(os.open("/", os.O_PATH | os.O_CLOEXEC))
    except OSError:
        return False
    return True


class Inotify:
    """One queue of the kernel's, and the watches that fill it.

    Raises:
        FileWatchError: There can be no more of them; the sentence names the limit.
    """

    __slots__ = ("_descriptor", "_reader")

    def __init__(self) -> None:
        try:
            flags = os.O_NONBLOCK | os.O_CLOEXEC
            self._descriptor: int = _check(_library().inotify_init1(flags))
        except OSError as error:
            reason = error.strerror
            if error.errno == errno.EMFILE and _has_descriptors():
                limit = _limit("instances")
                reason = f"this user has as many watches as can be: {limit}"
            raise FileWatchError(f"files cannot be watched: {reason}", error.errno) from error
        self._reader: Any = io_watcher(self._descriptor, READ)
        REGISTRY.descriptors.add(self)

    @property
    def is_open(self) -> bool:
        """Whether it was not closed."""
        return self._descriptor >= 0

    def add(self, path: str, mask: int, told: str = "") -> int:
        """Watches what a path names; returns the number of the watch.

        That is the same one as before when the same file or folder is watched already.

        Args:
            told: The path for errors, when it is another one.

        Raises:
            FileWatchError: It names the path, the reason, and the limit if it is one.
        """
        try:
            return _check(_library().inotify_add_watch(self._descriptor, os.fsencode(path), mask))
        except OSError as error:
            reason = error.strerror
            if error.errno == errno.ENOSPC:
                limit = _limit("watches")
                reason = f"this user watches as many files and folders as can be: {limit}"
            raise FileWatchError(
                f"{(told or path)!r} cannot be watched: {reason}", error.errno
            ) from error

    def remove(self, watch: int) -> None:
        """Ends a watch; one that has ended already is no error."""
        _library().inotify_rm_watch(self._descriptor, watch)

    def read(self) -> list[Record]:
        """Reads up to 64 KiB of events; raises ``BlockingIOError`` when there is none."""
        return parse(os.read(self._descriptor, READ_BYTES))

    @property
    def is_empty(self) -> bool:
        """Whether all that has happened so far was read."""
        import fcntl
        import termios

        return not any(fcntl.ioctl(self._descriptor, termios.FIONREAD, bytes(4)))

    def start(self, callback: Callable[[], object]) -> None:
        """Calls back in the hub while there is something to read."""
        self._reader.start(callback)

    def stop(self) -> None:
        """Ends that; the kernel goes on to fill the queue."""
        self._reader.stop()

    def close(self) -> None:
        """Ends all watches. Idempotent."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            REGISTRY.descriptors.discard(self)
            self._reader.close()
            os.close(descriptor)

    def abandon(self) -> None:
        """Closes a forked child's copy; the watches go on for the parent."""
        self.close()
