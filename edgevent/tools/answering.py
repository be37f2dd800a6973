"""The listeners of ``ed-listen`` that answer by a table, or not at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

from ..address import Address
from ..answers import Peer
from ..connection import Connection
from ..defaults import default_commands
from ..dispatcher import Dispatcher
from ..errors import MessageError, NetworkError
from ..links.datagram import DatagramServer
from ..links.datagram_peer import DatagramPeer
from ..links.message import MessageConnection
from ..links.server import Server
from ..message import Message
from ..tls import TlsOptions
from .hearing import Hearing
from .recording import Source
from .reply_table import ReplyTable

logger = logging.getLogger("edgevent")

MAX_UDP_BYTES: Final = 65_527  # RFC 768: what its length field can say
MAX_UNIX_BYTES: Final = 256 * 1024  # more than the kernel takes by default (man 7 socket, wmem_max)

_DEFAULTS: Final = ("ALIVE", "HELP")
_CONTROL: Final = ("QUITTING", "STOP")


class Answerer:
    """What messages are answered with: first by the table, then as services do by default.

    Args:
        table: Commands and answers.
        answers_defaults: Whether HELP and ALIVE are answered.
        on_stop: What STOP and QUITTING do; ``None`` when they do nothing.
    """

    def __init__(
        self,
        table: ReplyTable,
        *,
        answers_defaults: bool = False,
        on_stop: Callable[[], object] | None = None,
    ) -> None:
        self._table = table
        self._on_stop = on_stop
        dispatcher = Dispatcher(default_commands=False)
        dispatcher.add_help(self.commands)
        found = default_commands(dispatcher)
        self._defaults = {name: found[name] for name in _DEFAULTS if answers_defaults}

    def commands(self) -> set[str]:
        """The names for HELP."""
        control = _CONTROL if self._on_stop is not None else ()
        return {*self._table.commands, *self._defaults, *control}

    def answer(self, message: Message, peer: Peer) -> Message | None:
        """Returns the answer to a message, or ``None``; may stop the program."""
        rule = self._table.find(message.command)
        if rule is not None:
            try:
                return rule.fill(message)
            except MessageError as error:
                return _refuse(message, peer, error)
        if message.command in _CONTROL and self._on_stop is not None:
            logger.info("%s: %s", peer.name, message.command)
            self._on_stop()
            return None
        handler = self._defaults.get(message.command)
        return None if handler is None else handler(message, peer)


def _refuse(message: Message, peer: Peer, error: MessageError) -> Message | None:
    # As a service's dispatcher does; answers.refuse() would send it past the recording.
    logger.warning("%s: refused %.64s: %s", peer.name, message.command, error)
    if not peer.answers_errors or message.command in ("INVALID", "UNKNOWN"):
        return None
    return message.reply("INVALID", {"command": message.command, "message": str(error)})


class Ears:
    """What all listeners share.

    Args:
        hearing: What is done with what comes.
        answerer: What it is answered with.
    """

    def __init__(self, hearing: Hearing, answerer: Answerer) -> None:
        self.hearing = hearing
        self.answerer = answerer

    def take(
        self, source: Source, data: bytes, peer: Peer, pack: Callable[[Message], bytes]
    ) -> None:
        """Hears a line or a datagram, and answers it. May switch greenlets.

        Args:
            pack: Returns what stands for an answer on the wire, for the recording.
        """
        message = self.hearing.hear(source, "in", data)
        if message is None:
            return
        try:
            answer = self.answerer.answer(message, peer)
            if answer is not None:
                peer.send(answer)
                self.hearing.hear(source, "out", pack(answer))
        except (NetworkError, MessageError) as error:
            logger.warning("%s: %s was not answered: %s", peer.name, message.command, error)


class HeardConnection(MessageConnection):
    """A stream from which messages are heard."""

    ears: Ears
    source: Source

    def listen_with(self, ears: Ears, listener: str) -> None:
        """Says who hears it; to be called before it is run."""
        self.ears = ears
        self.source = ears.hearing.source(listener, self.address)
        self.name = self.address

    def process_unit(self, unit: Any) -> None:
        """Hears one line."""
        line = unit.encode("utf-8", "surrogateescape")
        self.call_hook(self._hear, line if self.keeps_records else line + b"\n")

    def incomplete(self, rest: bytes) -> None:
        """Hears what has no newline, at the end."""
        self.call_hook(self._hear, rest)

    def _hear(self, data: bytes) -> None:
        self.ears.take(self.source, data, self, Message.to_line)


class HeardServer(Server):
    """Listens for streams."""

    ears: Ears

    def process_accept(self, connection: Any) -> None:
        """Numbers a peer."""
        connection.listen_with(self.ears, self.addresses[0])
        logger.info("%s: %s connected", self.name, connection.address)


class HeardDatagrams(DatagramServer):
    """Receives datagrams. Each of its addresses counts as one connection."""

    ears: Ears
    number = 0

    def process_datagram(self, data: bytes, peer: DatagramPeer) -> None:
        """Hears one datagram."""
        if not self.number:
            self.number = self.ears.hearing.source("", "").connection
        source = Source(self.addresses[0], peer.address, self.number)
        self.ears.take(source, data, peer, bytes)


def open_listeners(
    addresses: Iterable[Address],
    ears: Ears,
    *,
    allow_remote: bool,
    tls: TlsOptions | None,
    max_line_bytes: int,
) -> list[Connection]:
    """Opens what listens to the addresses; nothing is accepted before it is run.

    Args:
        allow_remote: Whether plain addresses may be listened to that others can reach.
        tls: For addresses of TLS.
        max_line_bytes: The longest line of a peer.

    Raises:
        ListenError: It cannot listen at one of them.
        ConnectError: One is of no open descriptor.
        CertificateFileError: A file of TLS cannot be used.
    """
    opened: list[Connection] = []
    try:
        for address in addresses:
            opened.append(_open(address, ears, allow_remote, tls, max_line_bytes))
    except BaseException:
        for connection in opened:
            connection.close()
        raise
    return opened


def _open(
    address: Address, ears: Ears, allow_remote: bool, tls: TlsOptions | None, max_line_bytes: int
) -> Connection:
    if address.scheme == "fd":
        connection = HeardConnection(address, max_line_bytes=max_line_bytes, name=str(address))
        connection.listen_with(ears, str(address))
        return connection
    if address.is_datagram:
        datagrams = HeardDatagrams(
            address,
            name=str(address),
            allow_unauthenticated=allow_remote,
            max_datagram_bytes=max_datagram_bytes(address),
        )
        datagrams.ears = ears
        return datagrams
    server = HeardServer(
        address,
        HeardConnection,
        name=str(address),
        allow_remote=allow_remote,
        tls=tls if address.is_tls else None,
        max_line_bytes=max_line_bytes,
    )
    server.ears = ears
    return server


def max_datagram_bytes(address: Address) -> int:
    """The longest datagram that can come there: a listener has no limits of its own."""
    return MAX_UNIX_BYTES if address.is_unix else MAX_UDP_BYTES
