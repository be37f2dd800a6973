"""Log records for systemd's journal, with their fields, by its datagram protocol.

See https://systemd.io/JOURNAL_NATIVE_PROTOCOL and systemd.journal-fields(7).
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Mapping
from typing import Final

from .log_handler import RecordHandler, close_descriptor
from .log_levels import name_level, syslog_priority
from .log_syslog import LogSocket
from .log_text import LineFormatter, escape, mask

JOURNAL_SOCKET: Final = "/run/systemd/journal/socket"
"""Where the journal receives."""

KEPT: Final = "\n\t"
"""What is not escaped there: the journal has values of several lines, and indents them."""

_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_TOO_LONG: Final = (errno.EMSGSIZE, errno.ENOBUFS)


class JournalHandler(RecordHandler):
    """Sends records to the journal; one that its queue does not take is lost, and counted.

    The fields are MESSAGE (with the traceback, if there is one), PRIORITY, SYSLOG_IDENTIFIER,
    CODE_FILE, CODE_LINE, CODE_FUNC, LOGGER, THREAD_NAME, EDGEVENT_SEVERITY (the name of the C++
    library's severity) and EDGEVENT_CONNECTION (the name of the connection that it is about, or
    what the record was given by ``extra={"connection": ...}``).

    Args:
        identifier: The program's name.
        formatter: Made with ``keep=KEPT``: makes the text of a record.
        path: The journal's socket.
    """

    def __init__(
        self, identifier: str, formatter: LineFormatter, *, path: str = JOURNAL_SOCKET
    ) -> None:
        super().__init__(f"journal at {path}", formatter)
        self._identifier = identifier
        self._secrets = formatter.secrets
        self._socket = LogSocket(path)

    def write_record(self, record: logging.LogRecord) -> None:
        """Sends a record, and does not wait."""
        fields = {
            "MESSAGE": self.format(record),
            "PRIORITY": str(syslog_priority(record.levelno)),
            "SYSLOG_IDENTIFIER": self._identifier,
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName or "",
            "LOGGER": record.name,
            "THREAD_NAME": record.threadName or "",
            "EDGEVENT_SEVERITY": name_level(record.levelno),
            "EDGEVENT_CONNECTION": mask(connection_of(record), self._secrets),
        }
        data = encode_fields({name: value for name, value in fields.items() if value})
        try:
            self._socket.send(data)
        except OSError as error:
            if error.errno not in _TOO_LONG:
                raise
            self._send_sealed(data)

    def release_resources(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def _send_sealed(self, data: bytes) -> None:
        """Sends a long record as a memory file that nobody can change any more."""
        descriptor = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            self._socket.send(b"", descriptor)
        finally:
            close_descriptor(descriptor)


def encode_fields(fields: Mapping[str, str]) -> bytes:
    """Returns the datagram of a record; a value of several lines has its length before it."""
    parts = []
    for name, text in fields.items():
        value = escape(text, KEPT).encode()
        if b"\n" in value:
            parts.append(b"%b\n%b%b\n" % (name.encode(), len(value).to_bytes(8, "little"), value))
        else:
            parts.append(b"%b=%b\n" % (name.encode(), value))
    return b"".join(parts)


def connection_of(record: logging.LogRecord) -> str:
    """Returns the name of the connection that a record is about, or an empty string.

    The records of this package begin with it; others may say it by ``extra=``.
    """
    given = getattr(record, "connection", "")
    if given:
        return str(given)
    is_ours = record.name.partition(".")[0] == "edgevent" and str(record.msg).startswith("%s: ")
    arguments = record.args
    return str(arguments[0]) if is_ours and isinstance(arguments, tuple) and arguments else ""
