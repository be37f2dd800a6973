"""The sender of one datagram, as a handler sees it."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any, Final, Protocol

from ..address import Address
from ..errors import AddressError, NetworkError
from ..message import Message
from ..transport.base import Credentials
from ..transport.datagram import DatagramTransport

REPLY_TO: Final = "reply_to"


class Answering(Protocol):
    """What a peer asks of its server."""

    allow_control: bool

    @property
    def name(self) -> str:
        """The name for log lines."""

    @property
    def communicator(self) -> Any:
        """What runs it, or ``None``."""

    def encode(self, message: Message, /) -> bytes:
        """Returns the datagram for a message."""

    def transmit(self, transport: DatagramTransport, data: bytes, sockaddr: Any, /) -> None:
        """Sends a datagram by one of the sockets."""

    def drop(self, reason: str, peer: DatagramPeer, /) -> None:
        """Counts an answer that is not sent, and tells it."""


class DatagramPeer:
    """Who sent a datagram, and the way back.

    All answers to one datagram together are no longer than it was, unless its sender is on this
    machine or has proved itself: a sender's address is easily forged, and the one whose it is must
    not get more than somebody has spent on it. What is longer is dropped and counted.

    Attributes:
        authenticated: Whether the sender has proved itself, by a signature, by a right secret
            code, or (on a Unix socket) by the kernel.
        is_local: Whether it is a process of this machine.
        credentials: Process, user and group of the sender, on a Unix socket.
    """

    __slots__ = (
        "_left",
        "_server",
        "_sockaddr",
        "_target",
        "_transport",
        "authenticated",
        "credentials",
        "error",
        "is_local",
    )

    def __init__(
        self,
        server: Answering,
        transport: DatagramTransport,
        sockaddr: Any,
        credentials: Credentials | None,
        size: int,
    ) -> None:
        self._server = server
        self._transport = transport
        self._sockaddr = sockaddr
        self._target = sockaddr
        self._left = size
        self.credentials = credentials
        self.is_local = transport.is_local(sockaddr)
        self.authenticated = credentials is not None
        self.error: NetworkError | None = None  # of the answer that could not be sent

    @property
    def name(self) -> str:
        """The server's name and the sender's address, for log lines."""
        return f"{self._server.name} {self.address}"

    @property
    def address(self) -> str:
        """The sender's address, as text; an unbound Unix socket is shown by its process."""
        if not self._sockaddr and self.credentials is not None:
            return f"unixgram:pid {self.credentials.pid}"
        return self._transport.show(self._sockaddr)

    @property
    def communicator(self) -> Any:
        """The communicator of the server."""
        return self._server.communicator

    @property
    def server(self) -> Any:
        """The :class:`~edgevent.DatagramServer` that the datagram came to."""
        return self._server

    @property
    def may_control(self) -> bool:
        """Whether its STOP and the like are obeyed."""
        return self.is_local or self.authenticated or self._server.allow_control

    @property
    def answers_errors(self) -> bool:
        """Whether what is refused is answered: to this machine, and to those who proved it."""
        return self.is_local or self.authenticated

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address}>"

    def send(self, message: Message) -> None:
        """Sends a message to the sender, signed or with the secret code as the server has them.

        Blocks the calling greenlet while the sender's queue is full (Unix), for the server's
        ``send_timeout`` at most.

        Raises:
            MessageError: The datagram would be longer than the server's ``max_datagram_bytes``.
            ConnectionLostError: Nobody has the address any more.
            QueueFullError: The sender takes nothing.
            ClosedError: The server is closed.
        """
        self.write(self._server.encode(message))

    def write(self, data: bytes) -> None:
        """Sends bytes as they are, for servers that speak no messages; errors as in ``send``."""
        server = self._server
        if not (self.is_local or self.authenticated):
            if len(data) > self._left:
                server.drop("longer_answer", self)
                return
            self._left -= len(data)
        if not self._target:
            server.drop("unbound_sender", self)
            return
        try:
            server.transmit(self._transport, data, self._target)
        except NetworkError as error:
            self.error = error
            raise

    def stop_requested(self, quitting: bool) -> None:
        """What STOP and QUITTING do by default: the communicator drains and stops."""
        if self._server.communicator is not None:
            self._server.communicator.stop()

    def log_alive(self) -> None:
        """What LEAK does."""
        if self._server.communicator is not None:
            self._server.communicator.log_alive()

    def redirect(self, message: Message) -> None:
        """Has answers go where ``reply_to`` says, as far as the sender may say that."""
        target = self._reply_target(message[REPLY_TO])
        if target is None:
            self._server.drop("reply_to", self)
        else:
            self._target = target

    def _reply_target(self, text: str) -> Any:
        transport = self._transport
        if transport.family == socket.AF_UNIX or not (self.is_local or self.authenticated):
            return None
        try:
            # Neither a name, which would have to be looked up, nor all addresses, nor a group.
            address = Address.parse(text, default_scheme="udp")
            ip = ipaddress.ip_address(address.host)
        except (AddressError, ValueError):
            return None
        family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
        if address.scheme != "udp" or not address.port or family != transport.family:
            return None
        if ip.is_multicast or ip.is_unspecified or ip.is_loopback != self.is_local:
            return None
        if family == socket.AF_INET:
            return (address.host, address.port)
        found: list[Any] = socket.getaddrinfo(
            address.host, address.port, family, socket.SOCK_DGRAM, 0, socket.AI_NUMERICHOST
        )
        return found[0][4]
