"""The blocking client of datagrams: needs no communicator."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterable
from typing import Final

from .. import limits
from ..address import Address
from ..arguments import checks_arguments
from ..errors import (
    ClosedError,
    ConnectionLostError,
    ReceiveTimeout,
    RequestTimeout,
)
from ..message import Message
from ..runtime.clock import SYSTEM_CLOCK, Clock
from ..runtime.closing import Closing
from ..runtime.turns import Turns, wait
from ..runtime.waits import Waiters
from ..signing import REASONS, Guard
from ..transport.datagram import Datagram, default_max_bytes
from ..transport.datagram_open import open_datagrams
from ..transport.datagram_record import REFUSED
from ..transport.datagram_send import send_error, send_within
from ..transport.multicast import Reach
from .request import RequestTable, reply_set
from .resending import Resends
from .send_datagram import Keys, check_datagram, datagram_address

logger = logging.getLogger("edgevent")

_READS: Final = 64  # so many datagrams are read before others may run


@checks_arguments
class DatagramClient(Closing):
    """Sends messages as datagrams to one address, and receives what comes back.

    Nothing is received while nobody waits for it: it stays in the kernel's queue. Several greenlets
    may wait at a time.

    A client of a broadcast or multicast address takes answers from everybody: the first one is
    that of ``request``, the others come to ``receive``, and :attr:`sender` says whose each was.

    Args:
        address: ``udp://host:port``, ``unixgram:/path`` or ``unixgram:@name``.
        secret_code: The code that the receiver wants; answers must have it, too.
        auth: The keys to sign with, or the path of their file; answers must be signed.
        connect_timeout: The limit of the look-up of a name, in seconds.
        send_timeout: How long a send may wait for room in the receiver's queue, in seconds.
        interface: The interface of multicast, by its name or by an address of it.
        ttl: How many routers may pass a datagram on.
        loop: Whether receivers on this machine get a multicast, too.
        max_datagram_bytes: The longest datagram, 1,024 bytes, or 64 KiB on a Unix socket.
        name: The name in log lines and errors.

    Raises:
        ConnectError: The name cannot be resolved, there is no way to the address, or nobody has it
            (Unix).
        SigningKeyError: The file of keys cannot be used.
        AddressError: The address cannot be read, or is of no datagram socket.

    Attributes:
        sender: The address of the sender of what was returned last.
        counts: How often what happened: ``received``; what was dropped stands under its reason, as
            in :class:`~edgevent.DatagramServer`, and ``overflow``: more came for ``receive`` than
            is kept while a request waits.
    """

    def __init__(
        self,
        address: str | Address,
        *,
        secret_code: str | None = None,
        auth: Keys = None,
        connect_timeout: float = limits.CONNECT_TIMEOUT,
        send_timeout: float = limits.DATAGRAM_SEND_TIMEOUT,
        interface: str = "",
        ttl: int | None = None,
        loop: bool | None = None,
        max_datagram_bytes: int | None = None,
        clock: Clock = SYSTEM_CLOCK,
        name: str = "",
    ) -> None:
        self._address = datagram_address(address)
        self.name = name or f"{type(self).__name__} of {self._address}"
        self.max_datagram_bytes = max_datagram_bytes or default_max_bytes(self._address)
        self.send_timeout = send_timeout
        self.sender = ""
        self.counts: Counter[str] = Counter()
        self._clock = clock
        self._turns = Turns.current()
        self._guard = Guard(secret_code=secret_code, auth=auth, dates=clock, name=self.name)
        self._table = RequestTable(self._turns, clock, lambda: self.name)
        self._kept: deque[tuple[Message, str]] = deque()
        self._receivers = Waiters(self._turns)
        self._failure: ConnectionLostError | None = None
        self._waiting = 0
        self._closed = False
        self._transport = open_datagrams(
            self._address,
            max_bytes=self.max_datagram_bytes,
            reach=Reach(interface, ttl, loop),
            timeout=connect_timeout,
            clock=clock,
        )
        self._asks_many = self._transport.target is not None

    def __repr__(self) -> str:
        state = "closed" if self._closed else self.local_address
        return f"<{type(self).__name__} {self._address} {state}>"

    # --- what users see ---------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where it sends to."""
        return str(self._address)

    @property
    def local_address(self) -> str:
        """Where answers come to; empty when closed."""
        return self._transport.local

    def send(self, message: Message) -> None:
        """Sends a message. Blocks the calling greenlet while the receiver's queue is full (Unix).

        That it returns says nothing of its arrival, but on a Unix socket.

        Raises:
            MessageError: The datagram would be longer than ``max_datagram_bytes``.
            ConnectionLostError: It could not be sent.
            QueueFullError: The receiver's queue was full for ``send_timeout`` seconds.
            ClosedError: The client is closed.
        """
        self._check_open()
        self._send(self._encode(message))

    def receive(self, timeout: float | None = None) -> Message:
        """Waits for the next message that answers no request, and returns it.

        Args:
            timeout: The limit in seconds; ``None`` waits for ever.

        Raises:
            ReceiveTimeout: Nothing came in time.
            ConnectionLostError: Nobody receives what was sent before (UDP); the next may arrive.
            ClosedError: The client is closed.
        """
        end = None if timeout is None else self._clock.now() + timeout
        self._begin_wait()
        try:
            while not self._kept:
                self._check_open()
                if self._failure is not None:
                    failure, self._failure = self._failure, None
                    raise failure
                left = None if end is None else max(end - self._clock.now(), 0.0)
                if not self._receivers.wait(self._clock, left) and not self._kept:
                    raise ReceiveTimeout(f"{self.name}: nothing came within {timeout:g} s")
            message, self.sender = self._kept.popleft()
            return message
        finally:
            self._end_wait()

    def request(
        self,
        message: Message,
        reply: str | Iterable[str] | None = None,
        timeout: float = limits.REQUEST_TIMEOUT,
        *,
        serial: bool = True,
        idempotent: bool = False,
        resend_interval: float = limits.RESEND_INTERVAL,
    ) -> Message:
        """Sends a message and waits for its answer. Blocks the calling greenlet alone.

        Args:
            reply: The command, or commands, of the answer; needed for peers that copy no serial.
            timeout: The limit in seconds.
            serial: Whether a ``serial`` is added, which the answer copies.
            idempotent: Whether it may arrive more than once: it is sent again while no answer
                comes, since datagrams get lost.
            resend_interval: After how many seconds each time.

        Raises:
            RequestTimeout: No answer came in time.
            UnknownCommandError: The peer has no handler for the command.
            InvalidMessageError: The peer refused it.
            RemoteError: The peer failed; ``id`` finds the traceback in its log.
            MessageError: The datagram would be longer than ``max_datagram_bytes``.
            ConnectionLostError: Nobody receives at the address, or it could not be sent.
            QueueFullError: The receiver's queue was full for ``send_timeout`` seconds.
            ClosedError: The client is closed.
        """
        self._check_open()
        number = message.get("serial") if serial else None
        if serial and number is None:
            number = self._table.next_serial()
            message = message.with_parameters(serial=number)
        replies = reply_set(reply)
        end = self._clock.now() + timeout
        interval = resend_interval if idempotent else None
        while True:
            left = max(end - self._clock.now(), 0.0)
            try:
                return self._ask(message, replies, number, left, interval)
            except ConnectionLostError:
                if interval is None or self._closed or self._clock.now() + interval >= end:
                    raise
            except RequestTimeout:
                text = f"{self.name}: no answer to {message.command} within {timeout:g} s"
                raise RequestTimeout(text) from None
            wait(self._turns, self._clock, interval)

    def close(self) -> None:
        """Closes the socket; who waits gets a :class:`ClosedError`. Idempotent."""
        if self._closed:
            return
        if self._turns.forked:
            self._closed = True
            return
        self._turns.check()
        self._closed = True
        self._transport.close()
        self._table.lose(self._closed_error())
        self._receivers.wake()

    # --- inside -----------------------------------------------------------------------------------

    def _closed_error(self) -> ClosedError:
        return ClosedError(f"{self.name} is closed")

    def _check_open(self) -> None:
        self._turns.check()
        if self._closed:
            raise self._closed_error()

    def _encode(self, message: Message) -> bytes:
        return check_datagram(message, self._guard.seal(message), self.max_datagram_bytes)

    def _send(self, data: bytes) -> None:
        transport = self._transport
        try:
            send_within(transport, data, timeout=self.send_timeout, clock=self._clock)
        except ConnectionLostError as error:
            if error.errno not in REFUSED:
                raise
            # UDP tells of an earlier datagram, and this one was not sent. A Unix socket's path may
            # be another server's now.
            try:
                transport.reconnect()
            except OSError as again:
                raise send_error(transport, None, again) from again
            send_within(transport, data, timeout=self.send_timeout, clock=self._clock)

    def _ask(
        self,
        message: Message,
        replies: frozenset[str],
        serial: str | None,
        timeout: float,
        interval: float | None,
    ) -> Message:
        data = self._encode(message)
        request = self._table.add(message, replies, serial, timeout)
        resends: Resends | None = None
        self._begin_wait()
        try:
            try:
                self._send(data)
            except BaseException:
                self._table.remove(request)
                raise
            if interval is not None and request.answer is None:
                resends = Resends(
                    self._turns, self._clock, request, interval, lambda: self._resend(message)
                )
            return self._table.wait(request)
        finally:
            if resends is not None:
                resends.stop()
            self._end_wait()

    def _resend(self, message: Message) -> None:
        """Sends once more, in the hub, which must not wait: a full queue is a lost one."""
        try:
            self._transport.transmit(self._encode(message))
        except BlockingIOError:
            return
        except OSError as error:
            self._failed(error)

    def _begin_wait(self) -> None:
        self._turns.check_wait()
        self._check_open()
        self._waiting += 1
        if self._waiting == 1:
            self._transport.watch_read(self._readable)

    def _end_wait(self) -> None:
        self._waiting -= 1
        if not self._waiting and not self._closed:
            self._transport.unwatch_read()

    # --- in the hub -------------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            for _ in range(_READS):
                try:
                    datagram = self._transport.receive()
                except BlockingIOError:
                    break
                self._arrived(datagram)
                if not self._waiting or self._closed:
                    break  # what comes later is for the next who waits
        except OSError as error:
            self._failed(error)
        except BaseException as error:  # gevent would stop the watcher without a word
            self._turns.failed(error)

    def _arrived(self, datagram: Datagram) -> None:
        self.counts["received"] += 1
        if datagram.is_truncated:
            self.counts["truncated"] += 1
            logger.debug("%s: dropped a datagram: it is longer than the limit", self.name)
            return
        message, _, reason = self._guard.open(datagram.data)
        if message is None:
            self.counts[reason] += 1
            logger.debug("%s: dropped a datagram: %s", self.name, REASONS[reason])
            return
        before, self.sender = self.sender, self._transport.show(datagram.sockaddr)
        late = self._table.late
        # What a group answers after its first member is no late answer, but one more.
        if self._table.take(message) and (self._table.late == late or not self._asks_many):
            return
        self._kept.append((message, self.sender))
        self.sender = before
        if len(self._kept) > limits.KEPT_DATAGRAMS:
            self._kept.pop()
            self.counts["overflow"] += 1
        self._receivers.wake()

    def _failed(self, error: OSError) -> None:
        """A system call has told that something sent before has not arrived."""
        failure = send_error(self._transport, None, error)
        if self._table.count:
            self._table.fail(failure)
        elif len(self._receivers):
            self._failure = failure
            self._receivers.wake()
        else:
            logger.debug("%s: %s", self.name, failure)
