"""FIFOs, as those who dial them see them (man 7 fifo)."""

from __future__ import annotations

import errno
import os
import select
import stat
from typing import Final, Literal

from ..address import Address
from ..errors import ConnectError, UsageError
from .fd import FdTransport
from .stream import printable

Access = Literal["read", "write"]
"""Which way a FIFO or a descriptor is used, where both would do."""

READ_FIFO: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
WRITE_FIFO: Final = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
_WHOLE: Final = select.PIPE_BUF


class FifoTransport(FdTransport):
    """A stream over one or two FIFOs.

    Lines of up to 4,096 bytes are never mixed with those of other writers: a write of so many
    bytes goes in whole (man 7 pipe, PIPE_BUF), so longer data is cut behind a newline.
    """

    __slots__ = ()

    def transmit(self, data: bytes | memoryview) -> int:
        """Writes whole lines, as far as they are short enough; returns how many bytes were taken.

        Raises:
            BlockingIOError: There is no room.
            BrokenPipeError: Nobody reads any more, or this side cannot write.
        """
        if len(data) <= _WHOLE:
            return super().transmit(data)
        view, sent = memoryview(data), 0
        while sent < len(view):
            piece = bytes(view[sent : sent + _WHOLE])
            end = piece.rfind(b"\n") + 1 if sent + _WHOLE < len(view) else 0
            try:
                sent += super().transmit(piece[:end] if end else piece)
            except BlockingIOError:
                if not sent:
                    raise
                break
        return sent


def dial_fifo(address: Address, access: Access | None) -> FdTransport:
    """Opens a FIFO for writing, or for reading, or two for both.

    Args:
        access: ``"read"`` opens the one FIFO for reading; by default it is written to.

    Raises:
        ConnectError: It is missing, it is something else, or nobody reads what is to be written to.
        UsageError: Two FIFOs go both ways.
    """
    if address.second_path:
        if access is not None:
            raise UsageError(f"{address} goes both ways: access={access!r} is for one FIFO")
        source = _open_fifo(address, address.path, READ_FIFO)
        try:
            output = _open_fifo(address, address.second_path, WRITE_FIFO)
        except BaseException:
            os.close(source)
            raise
    elif access == "read":
        source, output = _open_fifo(address, address.path, READ_FIFO), -1
    else:
        source, output = -1, _open_fifo(address, address.path, WRITE_FIFO)
    return FifoTransport(source, output, peer=printable(str(address)), fresh=source >= 0)


def _open_fifo(address: Address, path: str, flags: int) -> int:
    try:
        if not stat.S_ISFIFO(os.stat(path).st_mode):  # a device may do something when it is opened
            raise ConnectError(f"{address}: {path} is no FIFO", errno.ENOTSUP)
        descriptor = os.open(path, flags)
    except ConnectError:
        raise
    except OSError as error:
        reason = "nobody reads it" if error.errno == errno.ENXIO else error.strerror
        raise ConnectError(f"{address}: {path}: {reason}", error.errno) from error
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ConnectError(f"{address}: {path} is no FIFO", errno.ENOTSUP)
    return descriptor
