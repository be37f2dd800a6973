"""``ed-listen --forward`` for datagrams: each sender has a socket of its own to the target."""

from __future__ import annotations

import logging
from typing import Any, Final

import gevent
from gevent import Greenlet

from ..address import Address
from ..errors import ConnectionLostError, EdgeventError, NetworkError
from ..links.datagram import DatagramServer
from ..links.datagram_peer import DatagramPeer
from ..runtime.clock import SYSTEM_CLOCK
from ..runtime.turns import Turns, wait
from ..transport.datagram import DatagramTransport
from ..transport.datagram_open import open_datagrams
from ..transport.datagram_record import REFUSED
from ..transport.datagram_send import send_within
from .answering import max_datagram_bytes
from .hearing import Hearing
from .recording import Source

logger = logging.getLogger("edgevent")

_PAUSE: Final = 0.01
MAX_SENDERS: Final = 500
"""For how many senders a socket is kept; then the one that was silent longest is forgotten."""


class _Way:
    """One sender and its socket to the target."""

    def __init__(
        self, transport: DatagramTransport, hearing: Hearing, source: Source, peer: DatagramPeer
    ) -> None:
        self.peer = peer
        self._transport = transport
        self._hearing = hearing
        self._source = source
        self._reader: Greenlet[..., Any] = gevent.spawn(self._bring_back)
        self._reader.name = f"from {transport.peer} to {source.peer}"

    def send(self, data: bytes) -> None:
        """Passes a datagram on."""
        self._hearing.hear(self._source, "in", data)
        try:
            try:
                send_within(self._transport, data)
            except ConnectionLostError as error:
                if error.errno not in REFUSED:
                    raise
                # UDP tells of an earlier one; of a Unix socket's path there may be a new owner.
                self._transport.reconnect()
                send_within(self._transport, data)
        except (NetworkError, OSError) as error:
            logger.error("%s: not forwarded: %s", self._source.peer, error)

    def _bring_back(self) -> None:
        turns, transport = Turns.current(), self._transport
        while transport.fileno() >= 0:
            try:
                datagram = transport.receive()
            except BlockingIOError:
                transport.watch_read(turns.check_wait().switch)
                try:
                    wait(turns, SYSTEM_CLOCK, None)  # until it is forgotten
                finally:
                    transport.unwatch_read()
            except OSError as error:
                self._refused(error)
                wait(turns, SYSTEM_CLOCK, _PAUSE)  # an error may stay, for want of memory
            else:
                self._answer(datagram.data)

    def _refused(self, error: OSError) -> None:
        text = "%s: not forwarded to %s: %s"
        logger.error(text, self._source.peer, self._transport.peer, error.strerror or error)

    def _answer(self, data: bytes) -> None:
        self._hearing.hear(self._source, "out", data)
        try:
            self.peer.write(data)
        except NetworkError as error:
            logger.debug("%s: %s", self._source.peer, error)  # told by the server already

    def close(self) -> None:
        """Forgets the sender."""
        self._reader.kill(block=False)
        self._transport.close()


class ForwardedDatagrams(DatagramServer):
    """Receives datagrams and passes them on; answers go back to where each sender is.

    A sender that is not on this machine gets no answer that is longer than what it has sent, as
    from all services: its address may be forged.

    Args:
        address: Where to receive.
        target: Where they go on to.
        hearing: What is done with what goes through.
        allow_remote: Whether it may receive where others can send to.
    """

    def __init__(
        self, address: Address, target: Address, hearing: Hearing, *, allow_remote: bool
    ) -> None:
        self._target = target
        self._hearing = hearing
        self._ways: dict[str, _Way] = {}  # the one that was silent longest stands first
        super().__init__(
            address,
            name=str(address),
            allow_unauthenticated=allow_remote,
            max_datagram_bytes=max_datagram_bytes(address),
        )

    def process_datagram(self, data: bytes, peer: DatagramPeer) -> None:
        """Passes one datagram on."""
        key = peer.address
        way = self._ways.pop(key, None)
        if way is None:
            way = self._open_way(peer)
            if way is None:
                return
        self._ways[key] = way
        way.peer = peer
        way.send(data)

    def _open_way(self, peer: DatagramPeer) -> _Way | None:
        try:
            transport = open_datagrams(self._target, max_bytes=self.max_datagram_bytes)
        except (EdgeventError, OSError) as error:
            logger.error("%s: cannot be forwarded: %s", peer.address, error)
            return None
        while len(self._ways) >= MAX_SENDERS:
            self._ways.pop(next(iter(self._ways))).close()
        source = self._hearing.source(self.addresses[0], peer.address)
        return _Way(transport, self._hearing, source, peer)

    def _release(self) -> bool:
        for way in self._ways.values():
            way.close()
        self._ways.clear()
        return super()._release()
