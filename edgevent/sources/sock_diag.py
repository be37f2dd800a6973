"""The kernel's tables of sockets, asked over netlink: sock_diag(7).

The formats are those of ``linux/netlink.h``, ``linux/sock_diag.h``, ``linux/inet_diag.h`` and
``linux/unix_diag.h``. A program sees the sockets of its own network namespace; it needs no right.
"""

from __future__ import annotations

import _socket
import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

LISTEN: Final = 10
"""The state TCP_LISTEN of ``net/tcp_states.h``, which Unix sockets use too."""

_SOCK_DIAG: Final = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY: Final = 20  # SOCK_DIAG_BY_FAMILY
_REQUEST: Final = 1
_DUMP: Final = 0x300
_ERROR, _DONE = 2, 3
_INTERRUPTED: Final = 0x10  # NLM_F_DUMP_INTR: the table has changed meanwhile
_HEADER: Final = struct.Struct("=IHHII")
_INET_REQUEST: Final = struct.Struct("=BBBBI")
_INET_ID: Final = struct.Struct("!HH16s16s")
_UNIX_REQUEST: Final = struct.Struct("=BBHIIIII")
_UNIX_HEAD: Final = struct.Struct("=BBBBIII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_NO_COOKIE: Final = 0xFFFFFFFF
_NAME, _VFS = 0, 1  # UNIX_DIAG_NAME and UNIX_DIAG_VFS; as bits, what is to be shown
_READ_BYTES: Final = 65536  # the kernel makes no part of a dump longer than 32 KiB
_MOST_PARTS: Final = 100_000
_DUMPS: Final = 3


class UnixListener(NamedTuple):
    """A Unix socket that listens.

    Attributes:
        kind: ``SOCK_STREAM`` or ``SOCK_SEQPACKET``.
        name: As it was bound; an abstract one begins with NUL.
        inode: That of its file (the low 32 bits), and
        device: that of the file's device, as the kernel counts them; ``None`` if not known.
    """

    kind: int
    name: bytes
    inode: int | None = None
    device: int | None = None


class SocketDiag:
    """A netlink socket for questions about sockets; nothing here waits or switches.

    Raises:
        OSError: The kernel, or a filter of system calls, does not allow the questions.
    """

    is_exact = True
    """Whether a listener for all IPv6 addresses is known to take those of IPv4 or not."""

    def __init__(self) -> None:
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = _socket.socket(socket.AF_NETLINK, kind, _SOCK_DIAG)
        self._sequence = 0
        try:
            # A kernel that cannot tell says of every single socket that there is none.
            self._dump(_INET_REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0), 48)
            self.unix_listeners()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Gives the descriptor back. Idempotent."""
        self._socket.close()

    def tcp_listens(self, family: int, host: bytes, port: int, interface: int = 0) -> bool:
        """Whether somebody would take a connection to this address: the kernel's own look-up.

        Args:
            host: The address, packed; 4 or 16 bytes.
            interface: The index of the interface that a link-local address is of.

        Raises:
            OSError: The kernel did not answer.
        """
        body = _INET_REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, 1 << LISTEN)
        body += _INET_ID.pack(port, 0, host.ljust(16, b"\0"), bytes(16))
        body += struct.pack("=III", interface, _NO_COOKIE, _NO_COOKIE)
        sequence = self._ask(body, 0)
        for kind, _, content in self._answers(sequence):
            if kind == _BY_FAMILY:
                return len(content) > 1 and content[1] == LISTEN
            code = _error_of(content)
            if code != errno.ENOENT:
                raise OSError(code, os.strerror(code))
            return False
        raise OSError(errno.EBADMSG, "the kernel's answer about a socket is not understood")

    def unix_listeners(self) -> list[UnixListener]:
        """All Unix sockets that listen and have a name.

        Raises:
            OSError: The kernel did not answer.
        """
        show = 1 << _NAME | 1 << _VFS
        body = _UNIX_REQUEST.pack(
            socket.AF_UNIX, 0, 0, 1 << LISTEN, 0, show, _NO_COOKIE, _NO_COOKIE
        )
        found = (read_unix_listener(content) for content in self._dump(body))
        return [one for one in found if one is not None]

    def _ask(self, body: bytes, flags: int) -> int:
        self._sequence += 1
        length = _HEADER.size + len(body)
        header = _HEADER.pack(length, _BY_FAMILY, _REQUEST | flags, self._sequence, 0)
        self._socket.send(header + body)
        return self._sequence

    def _dump(self, body: bytes, padding: int = 0) -> list[bytes]:
        found: list[bytes] = []
        for _ in range(_DUMPS):  # with ever new sockets, the last one must do
            found, whole = [], True
            for kind, flags, content in self._answers(self._ask(body + bytes(padding), _DUMP)):
                whole = whole and not flags & _INTERRUPTED
                if kind == _BY_FAMILY:
                    found.append(content)
                elif code := _error_of(content):
                    raise OSError(code, os.strerror(code))
            if whole:
                break
        return found

    def _answers(self, sequence: int) -> Iterator[tuple[int, int, bytes]]:
        """Gives the parts of an answer, up to its end; what is left of others is passed over.

        The kernel has answered before ``send`` returns, so no ``recv`` waits.
        """
        for _ in range(_MOST_PARTS):
            for kind, flags, number, content in read_parts(self._socket.recv(_READ_BYTES)):
                if number != sequence:
                    continue
                yield kind, flags, content
                if kind in (_DONE, _ERROR) or not flags & 2:  # NLM_F_MULTI
                    return


def read_parts(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Splits what netlink gave: type, flags, sequence number and content of each part.

    Raises:
        OSError: It is no netlink message.
    """
    at = 0
    while at < len(data):
        if len(data) - at < _HEADER.size:
            raise OSError(errno.EBADMSG, f"{len(data) - at} bytes are no netlink message")
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
        if not _HEADER.size <= length <= len(data) - at:
            raise OSError(errno.EBADMSG, f"a netlink message says that it has {length} bytes")
        yield kind, flags, sequence, data[at + _HEADER.size : at + length]
        at += _aligned(length)


def read_unix_listener(content: bytes) -> UnixListener | None:
    """Reads one ``unix_diag_msg`` with its attributes; ``None`` for a socket without a name."""
    if len(content) < _UNIX_HEAD.size:
        raise OSError(errno.EBADMSG, f"{len(content)} bytes about a Unix socket are too few")
    _, kind, state, *_ = _UNIX_HEAD.unpack_from(content)
    name, inode, device, at = b"", None, None, _UNIX_HEAD.size
    while len(content) - at >= _ATTRIBUTE.size:
        length, what = _ATTRIBUTE.unpack_from(content, at)
        if not _ATTRIBUTE.size <= length <= len(content) - at:
            raise OSError(errno.EBADMSG, f"an attribute says that it has {length} bytes")
        value = content[at + _ATTRIBUTE.size : at + length]
        if what == _NAME:
            name = value if value.startswith(b"\0") else value.rstrip(b"\0")
        elif what == _VFS and len(value) >= 8:
            inode, device = struct.unpack_from("=II", value)
        at += _aligned(length)
    return UnixListener(kind, name, inode, device) if name and state == LISTEN else None


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _error_of(content: bytes) -> int:
    """The error number in an NLMSG_ERROR or NLMSG_DONE; 0 for none."""
    return -int(struct.unpack_from("=i", content)[0]) if len(content) >= 4 else 0
