"""A file with the process id of a service, for those who look after it without systemd."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import stat
import tempfile
from typing import Final

from .errors import PidFileError
from .runtime.closing import Closing
from .runtime.guards import REGISTRY
from .transport.base import close_quietly
from .transport.files import file_identity

logger = logging.getLogger("edgevent")

_ATTEMPTS: Final = 100
_MODE: Final = 0o644
_CONTENT: Final = re.compile(rb"\s*(\d{0,10})\s*")


class PidFile(Closing):
    """Holds a file with the id of this process, while this process lives or until it is closed.

    The file is locked (man 2 flock), and so a second service with the same file is refused, while
    a file that was left behind is replaced, whatever process has its number by now. It appears with
    its content, by a rename; readers never see half of it. Nothing here switches greenlets.

    Args:
        path: The file; its folder must exist.

    Raises:
        PidFileError: A process that lives holds it, it cannot be written, or what is there is no
            file of this kind.

    Example:
        >>> with PidFile("/run/hello/hello.pid"):
        ...     communicator.run()

    A forked child does not hold it.

    Attributes:
        path: The file's absolute path.
        pid: The process id in it.
    """

    __slots__ = ("_descriptor", "_identity", "path", "pid")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self.pid = os.getpid()
        self._identity: tuple[int, int] | None = None
        self._descriptor = -1
        try:
            self._descriptor = self._take()
        except OSError as error:
            if isinstance(error, PidFileError):
                raise
            raise PidFileError(f"{self.path}: {error.strerror}", error.errno) from error
        self._identity = file_identity(self.path)
        REGISTRY.descriptors.add(self)

    def __repr__(self) -> str:
        state = "held" if self._descriptor >= 0 else "closed"
        return f"<{type(self).__name__} {self.path} {state}>"

    # --- taking it --------------------------------------------------------------------------------

    def _take(self) -> int:
        for _ in range(_ATTEMPTS):  # each time that another process was quicker
            former = self._lock_former()
            if former is None:
                continue
            try:
                made = self._put(replaces=former >= 0)
            finally:
                if former >= 0:
                    os.close(former)
            if made is not None:
                return made
        raise PidFileError(f"{self.path} is made and removed by others again and again")

    def _lock_former(self) -> int | None:
        """Locks the file that is there; returns -1 if none is, ``None`` if it has just gone."""
        # Without O_NONBLOCK the open of a FIFO would wait for a writer.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            found = os.open(self.path, flags)
        except FileNotFoundError:
            return -1
        except OSError as error:
            if error.errno == errno.ELOOP:
                text = f"{self.path} is a symbolic link: a file was expected"
                raise PidFileError(text, error.errno) from error
            raise
        try:
            self._check(found)
            former = os.fstat(found)
            if (former.st_dev, former.st_ino) == file_identity(self.path):
                return found
        except BaseException:
            os.close(found)
            raise
        os.close(found)
        return None

    def _check(self, descriptor: int) -> None:
        """Locks a file, if it is one of ours and nobody holds it."""
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        content = _CONTENT.fullmatch(os.read(descriptor, 64)) if is_file else None
        if content is None:
            raise PidFileError(f"{self.path} is there, is no file with a process id, and stays")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            who = content[1].decode() or "another one"
            text = f"{self.path}: process {who} lives and holds it"
            raise PidFileError(text, error.errno) from error

    def _put(self, *, replaces: bool) -> int | None:
        """Puts a new file there, locked; returns ``None`` if another process was quicker."""
        folder, name = os.path.split(self.path)
        descriptor, made = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(descriptor, b"%d\n" % self.pid)
            os.fchmod(descriptor, _MODE)
            if replaces:  # the lock of the former one keeps all others away
                os.rename(made, self.path)
                return descriptor
            os.link(made, self.path)
        except FileExistsError:
            os.close(descriptor)
            os.unlink(made)
            return None
        except BaseException:
            os.close(descriptor)
            os.unlink(made)
            raise
        os.unlink(made)
        return descriptor

    # --- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Removes the file, if it is this one still, and gives the lock back. Idempotent.

        Never raises: a file that cannot be removed is logged, and the next process replaces it.
        """
        if self._descriptor < 0:
            return
        try:
            found = os.lstat(self.path)
            if (found.st_dev, found.st_ino) == self._identity:
                os.unlink(self.path)
        except FileNotFoundError:
            logger.debug("%s: removed by another process", self.path)
        except OSError as error:
            logger.warning("%s: not removed: %s", self.path, error.strerror)
        self.abandon()

    def abandon(self) -> None:
        """Closes a forked child's copy of the descriptor; file and lock stay with the parent."""
        REGISTRY.descriptors.discard(self)
        close_quietly(self._descriptor)
        self._descriptor = -1
