"""What ed-signal does to any address: send, and wait for what comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import gevent

from ..address import Address
from ..communicatord.naming import own_name as own_name
from ..errors import ConnectionLostError, EdgeventError, ReceiveTimeout, UsageError
from ..links.client import Client
from ..links.datagram_client import DatagramClient
from ..message import Message
from ..signing import REASONS
from ..tls import TlsOptions

REFUSAL_TIMEOUT: Final = 0.05
"""How long the kernel is given to tell that nobody receives a datagram, in seconds."""


class NoAnswerError(EdgeventError):
    """Fewer answers came than were asked for."""


class Link(Protocol):
    """What both kinds of blocking clients can do."""

    def send(self, message: Message) -> None: ...
    def receive(self, timeout: float | None = None) -> Message: ...
    def close(self) -> None: ...


class Sender:
    """A place to which messages are sent, and from which answers come.

    Args:
        link: A blocking client.
        where: Its address, for errors.
        watch: Called after each message for which no answer is wanted.
        why: Tells for what reason answers were dropped, if any were.

    Attributes:
        where: The address.
        why: What was given as that.
    """

    def __init__(
        self, link: Link, where: str, watch: Callable[[], None], why: Callable[[], str]
    ) -> None:
        self._link = link
        self.where = where
        self._watch = watch
        self.why = why

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self._link.close()

    def send(self, message: Message) -> None:
        """Sends a message; errors are those of the blocking clients."""
        self._link.send(message)

    @property
    def is_datagram(self) -> bool:
        """Whether what is sent has to be a message, which may be signed."""
        return not isinstance(self._link, Client)

    def write(self, data: bytes) -> None:
        """Sends a line as it is, its newline included, over a stream; errors as in ``send``.

        Raises:
            UsageError: Datagrams are messages.
        """
        if not isinstance(self._link, Client):
            raise UsageError(f"{self.where}: datagrams have to be messages")
        self._link.write(data)

    def receive(self, timeout: float | None = None) -> Message:
        """Waits for the next message; errors are those of the blocking clients."""
        return self._link.receive(timeout)

    def answers(self, wanted: int, timeout: float) -> Iterator[Message]:
        """Waits for so many messages, and gives each as it comes.

        Args:
            wanted: How many; with 0 it is only seen to that somebody receives.
            timeout: The limit over all of them, in seconds.

        Raises:
            NoAnswerError: They did not all come in time, or the peer has ended the connection.
            ConnectionLostError: Nobody receives at the address, or the connection broke.
        """
        if not wanted:
            self._watch()
        end = time.monotonic() + timeout
        for count in range(wanted):
            try:
                yield self._link.receive(max(end - time.monotonic(), 0.0))
            except ReceiveTimeout:
                came = f"{count} of {wanted} answers" if count else "no answer"
                raise NoAnswerError(
                    f"{self.where}: {came} within {timeout:g} s{self.why()}"
                ) from None
            except ConnectionLostError as error:
                raise NoAnswerError(f"no answer from {self.where}: {error}") from error

    def pause(self, seconds: float) -> None:
        """Waits; other greenlets run."""
        if seconds > 0.0:
            gevent.sleep(seconds)


def open_sender(
    address: Address,
    *,
    timeout: float,
    tls: TlsOptions | None = None,
    secret_code: str | None = None,
    auth: str | None = None,
) -> Sender:
    """Opens what sends to an address.

    Args:
        timeout: The limit of connecting, in seconds.
        tls: What is asked of TLS.
        secret_code: The code of datagrams; streams have none.
        auth: The file of the keys that sign datagrams; streams have none.

    Raises:
        ConnectError: Nobody is there.
        SigningKeyError: The file of keys cannot be used.
        CertificateFileError: A file of TLS cannot be used.
        AddressError: Nothing can be sent to such an address.
    """
    if not address.is_datagram:
        stream = Client(address, connect_timeout=timeout, tls=tls)
        return Sender(stream, str(address), lambda: None, lambda: "")
    link = DatagramClient(address, secret_code=secret_code, auth=auth, connect_timeout=timeout)

    def watch() -> None:
        if address.scheme == "udp" and not address.is_multicast:
            try:
                link.receive(REFUSAL_TIMEOUT)  # raises what ICMP says of the message before
            except ReceiveTimeout:
                pass

    def why() -> str:
        dropped = [REASONS[one] for one in REASONS if link.counts[one]]
        return f"; one was dropped: {dropped[0]}" if dropped else ""

    return Sender(link, str(address), watch, why)
