"""Handlers of the standard library's logging that send records to snaploggerd.

They work in any program: with a communicator or without one, with threads, patched by gevent, and
after a fork. What logs only puts an entry into a queue; a thread of the system's sends it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any, Final

from ..address import Address
from ..backoff import Backoff
from ..errors import AddressError, UsageError
from ..log_levels import read_level
from ..signing import Guard, SigningKeys
from ..tls import TlsMode, TlsOptions, options_for
from .datagram_way import DatagramWay
from .entries import Ledger
from .network_handler import NetworkLogHandler, listed
from .protocol import DEFAULT_PORT
from .stream_way import StreamWay

MAX_PAUSE: Final = 30.0
"""The longest pause between two attempts to reach a server that is away, in seconds."""
ANSWER_TIMEOUT: Final = 1.0
"""How long a datagram waits for its answer before it is sent again, in seconds."""
RETRIES: Final = 4
"""How often a datagram without an answer is sent again."""

_ALERT: Final = "alert"
_STREAMS: Final = ("tcp", "tls", "unix", "tls+unix")
_DATAGRAMS: Final = ("udp", "unixgram")


class TcpLogHandler(NetworkLogHandler):
    """Sends records over a stream; the connection comes back by itself.

    Args:
        address: The server's: ``tcp:``, ``tls:``, ``unix:`` or ``tls+unix:``; ``host:port`` is TCP.
        tls: What is asked of TLS; by default all its checks, for an address of TLS.
        pauses: The pauses between attempts to reach the server, as of
            :class:`~edgevent.Backoff`; by default one second, doubled up to half a minute.
        settings: Those of :class:`NetworkLogHandler`.

    Raises:
        AddressError: It is no address of a stream.
        CertificateFileError: A file of TLS cannot be used.
        DurationError: The pauses are none.
        OptionError: A severity is none.
        UsageError: Another value cannot be used.

    Example:
        >>> logging.getLogger().addHandler(TcpLogHandler("127.0.0.1:4043"))
    """

    def __init__(
        self,
        address: Address | str = f"127.0.0.1:{DEFAULT_PORT}",
        *,
        tls: TlsOptions | TlsMode | None = None,
        pauses: str | Sequence[float] | None = None,
        **settings: Any,
    ) -> None:
        place = _read_address(address, "tcp", _STREAMS)
        asked = options_for(place, tls)
        if asked is not None:
            asked.context(server_side=False)  # files that cannot be used are told now
        Backoff(pauses, maximum=MAX_PAUSE)

        def make(ledger: Ledger) -> StreamWay:
            return StreamWay(place, ledger, Backoff(pauses, maximum=MAX_PAUSE), asked)

        super().__init__(str(place), make, **settings)


class UdpLogHandler(NetworkLogHandler):
    """Sends each record in a datagram, and again when its acknowledgement does not come.

    A record that is too long for a datagram has its text cut. Without acknowledgement, what is lost
    on the way is lost without a word.

    Args:
        address: The server's: ``udp:`` or ``unixgram:``; ``host:port`` is UDP.
        secret_code: The code in the clear that the server wants.
        auth: The keys that sign, or their file; the server's answers must be signed then.
        answer_timeout: After so many seconds without an answer a record is sent again.
        retries: So often, at the most; then it is lost.
        max_datagram_bytes: The longest datagram; by default 1024 bytes over UDP, as in C++, and
            64 KiB over a Unix socket.
        pauses: The pauses while nobody receives, as of :class:`TcpLogHandler`.
        settings: Those of :class:`NetworkLogHandler`.

    Raises:
        AddressError: It is no address of datagrams.
        SigningKeyError: The file of keys cannot be used.
        DurationError: The pauses are none.
        OptionError: A severity is none.
        UsageError: Another value cannot be used.
    """

    def __init__(
        self,
        address: Address | str = f"127.0.0.1:{DEFAULT_PORT}",
        *,
        secret_code: str | None = None,
        auth: SigningKeys | str | os.PathLike[str] | None = None,
        answer_timeout: float = ANSWER_TIMEOUT,
        retries: int = RETRIES,
        max_datagram_bytes: int = 0,
        pauses: str | Sequence[float] | None = None,
        **settings: Any,
    ) -> None:
        place = _read_address(address, "udp", _DATAGRAMS)
        if answer_timeout <= 0.0 or retries < 0 or max_datagram_bytes < 0:
            raise UsageError(
                "answer_timeout= is more than 0, retries= and max_datagram_bytes= are 0 or more"
            )
        guard = Guard(secret_code=secret_code, auth=auth, name=str(place))
        Backoff(pauses, maximum=MAX_PAUSE)

        def make(ledger: Ledger) -> DatagramWay:
            return DatagramWay(
                place,
                ledger,
                Backoff(pauses, maximum=MAX_PAUSE),
                guard,
                max_bytes=max_datagram_bytes,
                timeout=answer_timeout,
                retries=retries,
            )

        super().__init__(str(place), make, **settings)


class AlertLogHandler(TcpLogHandler):
    """Sends a part of the records: one of so many, and alerts, with the component ``alert``.

    An alert is a record with the component ``alert``, or of the alert severity or above. Whatever
    is sent begins both counts anew. It stands beside another handler, which sends all.

    Args:
        address: As of :class:`TcpLogHandler`.
        standard: One of so many records that are no alerts is sent; ``instant`` (0) for all of
            them, ``off`` (-1) for none.
        alert: The same for alerts.
        alert_severity: From which severity on a record is an alert.
        settings: Those of :class:`TcpLogHandler`.

    Raises:
        UsageError: A count is none; or as of :class:`TcpLogHandler`.
    """

    def __init__(
        self,
        address: Address | str = f"127.0.0.1:{DEFAULT_PORT}",
        *,
        standard: int | str = 10,
        alert: int | str = "instant",
        alert_severity: str | int = "alert",
        **settings: Any,
    ) -> None:
        self._limits = {False: _read_count("standard", standard), True: _read_count("alert", alert)}
        self._counts = {False: 0, True: 0}
        self._alert_level = read_level(str(alert_severity))
        self._is_telling = False
        super().__init__(address, **settings)

    def write_record(self, record: logging.LogRecord) -> None:
        """Counts a record, and puts it into the queue when it is its turn."""
        if self._is_telling:
            return super().write_record(record)
        is_alert = record.levelno >= self._alert_level
        is_alert = is_alert or _ALERT in super()._components_of(record).split(",")
        limit, counts = self._limits[is_alert], self._counts
        if limit < 0:
            return None
        counts[is_alert] += 1
        if counts[is_alert] >= limit:
            before = dict(counts)
            counts[False] = counts[True] = 0
            try:
                super().write_record(record)
            except OSError:
                raise
            except Exception:  # it cannot be read as it is, and comes once more
                counts.update(before)
                raise
        return None

    def _tell_losses(self) -> bool:
        self._is_telling = True  # of losses it is always told
        try:
            return super()._tell_losses()
        finally:
            self._is_telling = False

    def _components_of(self, record: logging.LogRecord) -> str:
        found = super()._components_of(record)
        if _ALERT in found.split(","):
            return found
        return f"{_ALERT},{found}" if found else _ALERT


def _read_address(address: Address | str, scheme: str, schemes: tuple[str, ...]) -> Address:
    place = Address.parse(address, default_scheme=scheme, default_port=DEFAULT_PORT)
    if place.scheme not in schemes:
        raise AddressError(f"{str(place)!r}: an address of scheme {listed(schemes)} was expected")
    if place.path_too_long:
        raise AddressError(f"{str(place)!r}: a Unix socket's path of at most 107 bytes expected")
    if place.is_inet and not place.port:
        raise AddressError(f"{str(place)!r}: a port from 1 to 65535 was expected")
    return place


def _read_count(name: str, value: int | str) -> int:
    count = {"instant": 0, "off": -1}.get(value, value) if isinstance(value, str) else value
    try:
        number = int(count)
    except ValueError:
        number = -2
    if number < -1:
        raise UsageError(f"{name}={value!r}: a number was expected, or 'instant' or 'off'")
    return number
