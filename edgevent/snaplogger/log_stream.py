"""The connection of a sender: its records are taken in the hub, without a turn for each."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from ..address import Address
from ..answers import Peer
from ..errors import AddressError, ConnectionLostError, MessageError, NetworkError
from ..links.datagram_peer import DatagramPeer
from ..links.message import MessageConnection
from ..message import Message, parse_text
from ..runtime.turns import IDLE
from ..transport.base import StreamTransport
from .collected import Source
from .protocol import LOG, LOGGER, PAUSE, UNPAUSE
from .streams import Streams

logger = logging.getLogger("edgevent.snaplogger")

_HEADS: Final = (f"{LOG} ", f"{LOGGER} ")
_OWN_HOST: Final = socket.gethostname()
_PAUSE: Final = Message(PAUSE).to_line()
_UNPAUSE: Final = Message(UNPAUSE).to_line()
_NOT_KEPT: Final = "could not be kept"


class LogStream(MessageConnection):
    """A stream of records; other commands have their turns as on every connection.

    A class of its own for each daemon names its :class:`Streams`.

    Attributes:
        streams: All connections of this kind.
        source: Where its records come from.
        is_paused: Whether its sender was told to send none.
    """

    __slots__ = ("is_paused", "source")

    streams: ClassVar[Streams]

    def __init__(self, address: str | Address | StreamTransport | None, **settings: Any) -> None:
        super().__init__(address, **settings)
        self._filters = True
        self.source = stream_source(self)
        self.is_paused = False
        self.streams.add(self)

    def take_units(self, units: list[Any]) -> list[Any]:
        """Takes records in the hub; what is none, or is wrong, and what follows, has its turn."""
        streams = self.streams
        collector = streams.collector
        if (
            collector is None
            or not streams.may_pass_by
            or self._inbox.units
            or self.ticket != IDLE
            or not self._enabled
            or self._eof
        ):
            return units
        take, source = collector.take, self.source
        for count, unit in enumerate(units):
            if unit.__class__ is not str or not unit.startswith(_HEADS):
                return units[count:]
            try:
                take(parse_text(unit), source)
            except MessageError:
                return units[count:]  # it is answered in its turn
        if streams.is_full:
            streams.look_at(self)
        return []

    def _refuse_line(self, text: str, error: MessageError) -> None:
        before = self.malformed_count
        super()._refuse_line(text, error)
        collector = self.streams.collector
        if self.malformed_count > before and not self._eof and collector is not None:
            collector.counts["malformed"] += 1
            fields = {"message": f"malformed line: {error}"}
            self.send_lines([Message("INVALID", fields).to_line()])

    def send_lines(self, lines: Sequence[bytes]) -> None:
        """Sends lines; a peer that never reads them is closed as a slow consumer."""
        outbox = self._outbox
        if outbox is not None:
            outbox.write_soon(lines[0] if len(lines) == 1 else b"".join(lines))

    def send_again(self, lines: Sequence[bytes]) -> None:
        """Ends the connection: its sender comes back, and sends what has no answer once more."""
        self.ended(ConnectionLostError(f"{self.name}: {len(lines)} of its records {_NOT_KEPT}"))

    def pause(self, is_paused: bool) -> None:
        """Tells the sender to send nothing, or to go on, if that is not what it was told last."""
        if is_paused != self.is_paused:
            self.is_paused = is_paused
            self.send_lines([_PAUSE if is_paused else _UNPAUSE])

    def has_ended(self) -> None:
        """Forgets the sender."""
        super().has_ended()
        self.streams.remove(self)


def new_log_stream(streams: Streams) -> type[LogStream]:
    """Makes the class of the connections of one daemon."""
    return type("LogStream", (LogStream,), {"__slots__": (), "streams": streams})


class LateAnswers:
    """Answers in turns to those whom a line cannot be given to without a wait.

    Args:
        later: Has a function called in a turn.
    """

    def __init__(self, later: Callable[[Callable[[], None]], object]) -> None:
        self._later = later
        self._waiting: list[tuple[Peer, Sequence[bytes]]] = []

    def to(self, peer: Peer) -> LateAnswer:
        """Gives what takes the answers for a peer."""
        return LateAnswer(self, peer)

    def add(self, peer: Peer, lines: Sequence[bytes]) -> None:
        """Has lines sent soon."""
        if not self._waiting:
            self._later(self._send)
        self._waiting.append((peer, lines))

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for peer, lines in waiting:
            for line in lines:
                try:
                    peer.send(Message.parse(line))
                except (NetworkError, MessageError) as error:
                    logger.debug("%s: not answered: %s", peer.name, error)


class LateAnswer:
    """Takes the answers for one peer."""

    __slots__ = ("_answers", "_peer")

    def __init__(self, answers: LateAnswers, peer: Peer) -> None:
        self._answers = answers
        self._peer = peer

    def send_lines(self, lines: Sequence[bytes]) -> None:
        """Has lines sent soon."""
        self._answers.add(self._peer, lines)

    def send_again(self, lines: Sequence[bytes]) -> None:
        """Refuses the records; a datagram without an answer comes again by itself."""
        if isinstance(self._peer, DatagramPeer):
            return
        refusals = []
        for line in lines:
            answer = Message.parse(line)
            fields = {**answer.parameters, "command": LOG, "message": f"it {_NOT_KEPT}"}
            target = answer.server, answer.service
            refusals.append(Message("INVALID", fields).with_target(*target).to_line())
        self.send_lines(refusals)


def stream_source(connection: MessageConnection, answering: Any = None) -> Source:
    """Tells of a connection where its records come from."""
    text = connection.address
    scheme, ip = _split(text)
    if ip:
        key = ip
    else:
        ip, found = "local", connection.credentials
        key = f"process {found.pid} of user {found.uid}" if found is not None else text
    return Source(
        answering or connection,
        scheme,
        ip,
        text or scheme,
        key,
        _OWN_HOST if connection.is_local else ip,
        keeps_order=True,
    )


def datagram_source(peer: DatagramPeer, answering: Any) -> Source:
    """Tells of the sender of a datagram where its record comes from."""
    text = peer.address
    scheme, ip = _split(text)
    key = ip or text
    if not ip and peer.credentials is not None:
        key = f"process {peer.credentials.pid} of user {peer.credentials.uid}"
    host = _OWN_HOST if peer.is_local else ip
    return Source(
        answering,
        scheme,
        ip or "local",
        text,
        key,
        host,
        keeps_order=False,
        is_answered=peer.answers_errors,
    )


def _split(text: str) -> tuple[str, str]:
    """Gives the scheme and the IP address of an address as text."""
    try:
        address = Address.parse(text)
    except AddressError:
        return text.partition(":")[0] or "stream", ""
    return address.scheme, "" if address.is_unix else address.host
