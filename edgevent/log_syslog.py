"""Log records for the system's log, by datagrams to ``/dev/log``.

The form is that of the C library's syslog(3), RFC 3164 without a host name, or that of RFC 5424.
"""

from __future__ import annotations

import _socket
import logging
import os
import re
import sys
import time
from typing import Final, Literal

from .log_handler import RecordHandler
from .log_levels import syslog_priority
from .log_text import LineFormatter

SYSLOG_SOCKET: Final = "/dev/log"
"""Where the system's log receives."""

FACILITIES: Final = {
    "kern": 0,
    "user": 1,
    "mail": 2,
    "daemon": 3,
    "auth": 4,
    "syslog": 5,
    "lpr": 6,
    "news": 7,
    "uucp": 8,
    "cron": 9,
    "authpriv": 10,
    "ftp": 11,
    **{f"local{number}": 16 + number for number in range(8)},
}
"""The facilities by name (RFC 5424, section 6.2.1)."""

SyslogForm = Literal["rfc3164", "rfc5424"]

# Whatever the locale is.
_MONTHS: Final = "JanFebMarAprMayJunJulAugSepOctNovDec"
_MAX_BYTES: Final = 8192  # rsyslog takes no more, and cuts the rest off without a word
_MAX_NAME: Final = 48  # RFC 5424, section 6
_NO_NAME: Final = re.compile(r"[^!-~]")


class LogSocket:
    """A socket that sends datagrams to a path and never waits.

    The path is looked up each time: a log daemon that starts anew is found at once.

    Args:
        path: The socket of the log daemon.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        # gevent's sockets would need a hub in each thread that logs.
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def send(self, data: bytes, descriptor: int | None = None) -> None:
        """Sends a datagram, or a descriptor in place of it.

        Raises:
            OSError: There is no log daemon, its queue is full, or the datagram is too long.
        """
        rights = [] if descriptor is None else [_rights(descriptor)]
        self._socket.sendmsg([data], rights, _socket.MSG_NOSIGNAL, self._path)

    def close(self) -> None:
        """Closes it; may be called again."""
        self._socket.close()


class SyslogHandler(RecordHandler):
    """Sends records to the system's log; one that its queue does not take is lost, and counted.

    Args:
        identifier: The program's name.
        formatter: Makes the line of a record.
        path: The socket of the log daemon.
        facility: One of :data:`FACILITIES`.
        form: The form of the datagrams.
    """

    def __init__(
        self,
        identifier: str,
        formatter: LineFormatter,
        *,
        path: str = SYSLOG_SOCKET,
        facility: str = "daemon",
        form: SyslogForm = "rfc3164",
    ) -> None:
        super().__init__(f"syslog at {path}", formatter)
        self._name = _NO_NAME.sub("_", identifier)[:_MAX_NAME] or "-"
        self._facility = FACILITIES[facility] << 3
        self._header = _header_5424 if form == "rfc5424" else _header_3164
        self._socket = LogSocket(path)

    def write_record(self, record: logging.LogRecord) -> None:
        """Sends a record, and does not wait."""
        priority = self._facility | syslog_priority(record.levelno)
        data = f"<{priority}>{self._header(record, self._name)} {self.format(record)}".encode()
        if len(data) > _MAX_BYTES:
            cut = len(data) - _MAX_BYTES
            kept = data[:_MAX_BYTES].decode(errors="ignore")
            data = f"{kept}... ({cut} bytes are cut off)".encode()
        self._socket.send(data)

    def release_resources(self) -> None:
        """Closes the socket."""
        self._socket.close()


def _header_3164(record: logging.LogRecord, name: str) -> str:
    date = time.localtime(record.created)
    clock = f"{date.tm_hour:02}:{date.tm_min:02}:{date.tm_sec:02}"
    month = _MONTHS[3 * date.tm_mon - 3 : 3 * date.tm_mon]
    return f"{month} {date.tm_mday:2} {clock} {name}[{os.getpid()}]:"


def _header_5424(record: logging.LogRecord, name: str) -> str:
    date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    microseconds = int(record.created % 1 * 1_000_000)
    host = _NO_NAME.sub("_", os.uname().nodename) or "-"
    return f"1 {date}.{microseconds:06}Z {host} {name} {os.getpid()} - -"


def _rights(descriptor: int) -> tuple[int, int, bytes]:
    # An int of C, as the kernel takes it (cmsg(3)).
    return _socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptor.to_bytes(4, sys.byteorder)
