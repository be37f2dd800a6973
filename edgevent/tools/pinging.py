"""Round trips of ALIVE to a service, and what they add up to."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from typing import Final

import gevent

from ..communicatord.script import CommunicatorClient
from ..errors import (
    AddressError,
    CertificateError,
    CertificateFileError,
    EdgeventError,
    IdentityError,
    NetworkError,
    RequestTimeout,
    SigningKeyError,
    UnknownCommandError,
)
from ..links.client import Client
from ..links.datagram_client import DatagramClient
from ..message import Message
from .peer_options import Peer
from .sending import own_name

_SERVICE: Final = "ed_ping"
_PAUSES: Final = (0.02, 0.05, 0.1)
"""Between attempts to reach a service of this machine, in seconds; the last one repeats."""
_PAUSES_FAR: Final = (0.1, 0.2, 0.5, 1.0)
_LASTING: Final = (
    AddressError, CertificateError, CertificateFileError, IdentityError, SigningKeyError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        command: ``ABSOLUTELY``, or ``UNKNOWN`` of a service that does not know ALIVE but is there.
        seconds: How long it took.
    """

    command: str
    seconds: float


@dataclass(slots=True)
class Statistics:
    """What a number of round trips add up to; times in seconds, ``nan`` without an answer."""

    sent: int = 0
    times: list[float] = field(default_factory=list)

    def begin(self) -> int:
        """Counts one that begins, and gives its number."""
        self.sent += 1
        return self.sent

    def add(self, seconds: float) -> None:
        """Counts an answer."""
        self.times.append(seconds)

    def forget_open(self) -> None:
        """Takes back the last one, of which nobody will know whether it was answered."""
        if self.lost:
            self.sent -= 1

    @property
    def answered(self) -> int:
        """How many were answered."""
        return len(self.times)

    @property
    def lost(self) -> int:
        """How many were not."""
        return self.sent - len(self.times)

    @property
    def lost_percent(self) -> float:
        """How many were not, in percent."""
        return 100.0 * self.lost / self.sent if self.sent else 0.0

    @property
    def minimum(self) -> float:
        """The shortest time."""
        return min(self.times, default=math.nan)

    @property
    def average(self) -> float:
        """The arithmetic mean."""
        return sum(self.times) / len(self.times) if self.times else math.nan

    @property
    def maximum(self) -> float:
        """The longest time."""
        return max(self.times, default=math.nan)

    @property
    def deviation(self) -> float:
        """The standard deviation, which ping(8) calls ``mdev``."""
        average = self.average
        squares = [(one - average) ** 2 for one in self.times]
        return math.sqrt(sum(squares) / len(squares)) if squares else math.nan


class Pinger:
    """Asks one service; over a stream by one connection, which is made anew after a loss.

    Args:
        peer: Where it is.
        timeout: The limit of connecting, and of the wait for each answer, in seconds.
    """

    def __init__(self, peer: Peer, timeout: float) -> None:
        self._peer = peer
        self._timeout = timeout
        self._link: Client | DatagramClient | None = None

    def __enter__(self) -> Pinger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection. Idempotent."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def ping(self, number: int) -> Answer:
        """Sends ALIVE and waits for the answer; blocks the calling greenlet alone.

        Args:
            number: The serial.

        Raises:
            ConnectError: Nobody is there.
            RequestTimeout: No answer came in time.
            ConnectionLostError: The connection ended before the answer, or nobody receives.
            RemoteError: The service has refused, or failed.
        """
        try:
            if self._link is None:
                self._link = self._open()
            return self._ask(self._link, number)
        except NetworkError:
            self.close()
            raise

    def _open(self) -> Client | DatagramClient:
        peer = self._peer
        name = str(peer)
        if peer.target:
            return CommunicatorClient(
                f"{_SERVICE}_{os.getpid()}",
                address=peer.address,
                connect_timeout=self._timeout,
                tls=peer.tls,
                name=name,
            )
        if not peer.address.is_datagram:
            return Client(peer.address, connect_timeout=self._timeout, tls=peer.tls, name=name)
        return DatagramClient(
            peer.address,
            secret_code=peer.secret_code,
            auth=peer.auth,
            connect_timeout=self._timeout,
            name=name,
        )

    def _ask(self, link: Client | DatagramClient, number: int) -> Answer:
        now = time.time_ns()
        message = Message(
            "ALIVE",
            {"serial": number, "timestamp": f"{now // 10**9}.{now % 10**9:09}"},
        )
        if isinstance(link, CommunicatorClient):
            message = message.with_target(*self._peer.target.split(":"))
        else:
            message = message.with_sender(own_name(), _SERVICE)
        start = time.perf_counter()
        try:
            command = link.request(message, "ABSOLUTELY", self._timeout).command
        except UnknownCommandError:
            command = "UNKNOWN"
        return Answer(command, time.perf_counter() - start)


def wait_for_service(peer: Peer, timeout: float, limit: float) -> Answer:
    """Asks until a service answers once; blocks the calling greenlet alone.

    Args:
        timeout: The limit of one attempt, in seconds.
        limit: That of all of them.

    Raises:
        RequestTimeout: It has not answered; the sentence says what the last attempt has met.
        EdgeventError: What no later attempt could change: a certificate or a file is not right.
    """
    address = peer.address  # of the communicatord, as the case may be
    is_near = address.is_unix or (address.is_inet and address.is_loopback)
    pauses = _PAUSES if is_near else _PAUSES_FAR
    end = time.monotonic() + limit
    attempt = 0
    while True:
        left = max(end - time.monotonic(), 0.001)
        try:
            with Pinger(peer, min(timeout, left)) as pinger:
                return pinger.ping(1)
        except _LASTING:
            raise
        except EdgeventError as error:
            pause = pauses[min(attempt, len(pauses) - 1)]
            if time.monotonic() + pause >= end:
                why = str(error).removeprefix(f"{peer}: ")
                text = f"{peer}: no answer within {limit:g} s: {why}"
                raise RequestTimeout(text) from error
        attempt += 1
        gevent.sleep(pause)
