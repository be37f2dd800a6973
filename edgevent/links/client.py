"""The blocking client: needs no communicator."""

from __future__ import annotations

import atexit
import logging
import os
import select
from collections.abc import Iterable, Sequence
from typing import Any, Final
from weakref import WeakSet

from gevent.monkey import get_original
from greenlet import getcurrent, greenlet

from .. import limits
from ..address import Address
from ..arguments import checks_arguments
from ..defaults import default_commands
from ..dispatcher import Dispatcher
from ..errors import (
    CertificateError,
    ConnectError,
    ConnectionLostError,
    EdgeventError,
    MessageError,
    NetworkError,
    UsageError,
)
from ..message import Message, parse_text
from ..runtime.clock import SYSTEM_CLOCK, Clock
from ..runtime.native import get_ident
from ..runtime.turns import wait as wait_turns
from ..runtime.waits import Waiters
from ..signing import Guard, SigningKeys
from ..tls import TlsMode, TlsOptions, options_for
from ..transport.base import StreamTransport
from ..transport.dial import dial
from ..transport.fifo import Access
from ..transport.rights import Fds, check_carrier
from .ending import END
from .message import MessageConnection, fallback_dispatcher
from .request import reply_set
from .resending import request_until_answered

logger = logging.getLogger("edgevent")

_DIAL_PAUSES: Final = (0.02, 0.05, 0.1, 0.2, 0.5)
_ANSWERED: Final = frozenset({"HELP", "ALIVE"})
_ENDING: Final = frozenset({"STOP", "QUITTING"})
_MOST_POLLS: Final = 64  # of what a peer has sent before it went, so many reads are made at most
_poll: Final = get_original("select", "poll")

_open: WeakSet[Client] = WeakSet()


@checks_arguments
class Client(MessageConnection):
    """Connects, asks and waits, in straight-line code.

    Without a dispatcher it answers HELP and ALIVE by itself, STOP and QUITTING end :meth:`run`, and
    all else waits for :meth:`receive`; when much waits there, no more is read. With a dispatcher,
    messages go to its handlers, in turns, while the calling greenlet waits in :meth:`run` or
    anywhere else.

    Args:
        address: Where to.
        dispatcher: The table for what the peer sends of its own accord.
        connect_timeout: The limit of a dial, in seconds.
        wait: Whether it waits, within that limit, until the service is up, and dials anew at the
            next request after a loss.
        tls: What is asked of TLS; by default all its checks, for an address of TLS.
        access: ``"read"`` opens one FIFO for reading; by default it is written to.
        close_timeout: How long :meth:`close` waits until what was sent has left, in seconds.
        max_fds: The most file descriptors that one message may bring, over a Unix socket; none are
            taken by default.
        secret_code: The code that datagrams must have, both ways.
        auth: The keys (or the path of their file) with which datagrams must be signed, both ways.

    Over datagrams (``udp:``, ``unixgram:``) nothing says that the peer is there, or that it is
    gone, until something is sent to it, and an idempotent request is sent again once a second; see
    also :class:`~edgevent.DatagramClient`.

    Raises:
        ConnectError: Nobody took the connection.
        AddressError: The address is of no stream socket.

    A client that the program never closes is closed in the same way when the program exits.
    """

    __slots__ = (
        "_access",
        "_arriving",
        "_dialling",
        "_dials_anew",
        "_done",
        "_guard",
        "_handled_end",
        "_runner",
        "_target",
        "_tls",
        "close_timeout",
        "connect_timeout",
    )

    works_alone = True

    def __init__(
        self,
        address: str | Address,
        dispatcher: Dispatcher | None = None,
        *,
        connect_timeout: float = limits.CONNECT_TIMEOUT,
        wait: bool = False,
        close_timeout: float = limits.CLOSE_TIMEOUT,
        tls: TlsOptions | TlsMode | None = None,
        access: Access | None = None,
        max_fds: int = 0,
        secret_code: str | None = None,
        auth: SigningKeys | str | os.PathLike[str] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        **settings: Any,
    ) -> None:
        self._target = Address.parse(address)
        self._tls = options_for(self._target, tls)
        self._access = access
        self._guard: Guard | None = None
        if self._target.is_datagram:
            name = settings.get("name") or str(self._target)
            self._guard = Guard(secret_code=secret_code, auth=auth, dates=clock, name=name)
        elif secret_code is not None or auth is not None:
            raise UsageError(f"{self._target}: secret_code= and auth= are for datagrams")
        check_carrier(self._target, max_fds, is_encrypted=self._tls is not None)
        self._dials_anew = wait
        self._dialling: Waiters | None = None  # those who wait for the greenlet that dials
        self._done = False
        self._handled_end = False  # whether the end had its turn
        self._runner: greenlet | None = None
        self._arriving: Sequence[Any] = ()  # what is on its way to the inbox
        self.connect_timeout = connect_timeout
        self.close_timeout = close_timeout
        super().__init__(None, dispatcher, max_fds=max_fds, clock=clock, **settings)
        self._filters = True
        self._connect(connect_timeout)
        _open.add(self)

    # --- what users see ---------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where the client is connected to."""
        return str(self._target)

    def _state(self) -> str:
        state = "closed" if self._closed else "connected" if self.is_connected else "lost"
        return f"{state} {self._target}"

    def peek(self) -> Message | None:
        """Returns the next message that :meth:`receive` would return now, or ``None``."""
        inbox = self._inbox
        while inbox.units:
            message = self.unpack(inbox.peek())
            if message is not None:
                inbox.replace(message)
                return message
            inbox.take()
        return self._arriving[0] if self._arriving else None

    def run(self) -> None:
        """Waits until :meth:`mark_done`, or until the peer ends the connection.

        With a dispatcher, what the peer has sent before its end is handled first.

        Raises:
            ConnectionLostError: The connection broke.
            UsageError: Another greenlet is in ``run``.
        """
        while not (self._done or self._has_run_out()):
            if self._runner is not None:
                raise UsageError(f"{self.name}: another greenlet is in run()")
            self._runner = self._turns.check_wait()
            try:
                wait_turns(self._turns, self._use_clock, None)
            finally:
                self._runner = None
        done, self._done = self._done, False
        if not done and self._error is not None:
            raise self.end_error()

    def _has_run_out(self) -> bool:
        return self._closed or (self._eof and (self._handled_end or not self._takes_turns()))

    def mark_done(self) -> None:
        """Ends :meth:`run`, or the next one; the connection stays."""
        self._turns.check()
        self._done = True
        self._end_run()

    def _end_run(self) -> None:
        if self._runner is not None:
            self._turns.loop.run_callback(self._resume_runner)

    def _resume_runner(self) -> None:
        if self._runner is not None:
            self._turns.resume(self._runner)

    def close(self) -> None:
        """Closes, after what was sent has left or the peer was given time for it. Idempotent."""
        turns = self._turns
        if self._closed or self._transport is None or turns.forked or getcurrent() is turns.hub:
            super().close()
            return
        turns.check()
        self.close_within(self.close_timeout)

    # --- dialling ---------------------------------------------------------------------------------

    def _connect(self, timeout: float) -> None:
        transport = self._dial(timeout)
        if self._closed:
            transport.close()
            raise self.end_error()
        self.open(transport)
        self._handled_end = False
        if self._enabled:
            self._resume_reading()

    def _dial(self, timeout: float) -> StreamTransport:
        end = self._use_clock.now() + timeout
        attempt = 0
        while True:
            left = end - self._use_clock.now()
            try:
                left = max(left, 0.0)
                return dial(
                    self._target,
                    left,
                    clock=self._use_clock,
                    tls=self._tls,
                    access=self._access,
                    guard=self._guard,
                )
            except CertificateError:
                raise  # a later attempt would meet the same one
            except ConnectError:
                pause = _DIAL_PAUSES[min(attempt, len(_DIAL_PAUSES) - 1)]
                attempt += 1
                if not self._dials_anew or self._use_clock.now() + pause >= end:
                    raise
            wait_turns(self._turns, self._use_clock, pause)

    def request_again(
        self,
        message: Message,
        reply: str | Iterable[str] | None,
        timeout: float,
        serial: bool,
        idempotent: bool,
        fds: Fds | None = None,
    ) -> Message:
        """Dials anew after a loss, with ``wait=True`` or for an idempotent request."""
        if self._guard is not None and idempotent:
            return request_until_answered(self, message, reply_set(reply), timeout, serial)
        end = self._use_clock.now() + timeout
        while True:
            if self._dials_anew or idempotent:
                self._come_back(end)
            left = max(end - self._use_clock.now(), 0.0)
            try:
                return super().request_again(message, reply, left, serial, idempotent, fds)
            except ConnectionLostError:
                if not idempotent or self._closed or self._use_clock.now() >= end:
                    raise

    def _is_lost(self) -> bool:
        return self._eof or self._outbox is None or self._outbox.error is not None

    def _come_back(self, end: float) -> None:
        """Makes the connection anew if it is lost, with the others that find it so."""
        if self._has_gone():
            self._read_rest()
        while self._is_lost() and not self._closed:
            left = max(end - self._use_clock.now(), 0.0)
            if self._dialling is None:
                self._reopen(min(left, self.connect_timeout))
            elif not self._dialling.wait(self._use_clock, left):
                raise ConnectError(f"{self._target}: no connection within the limit of the request")

    def _has_gone(self) -> bool:
        """Asks the kernel about the peer: a program may not have let the hub run for long."""
        transport = self._transport
        descriptor: int = getattr(transport, "fileno", lambda: -1)()
        if self._is_lost() or descriptor < 0 or self._guard is not None:
            return False  # of datagrams the kernel knows nothing
        poller = _poll()
        poller.register(descriptor, select.POLLRDHUP)  # errors and hang-ups come unasked
        return bool(poller.poll(0))

    def _read_rest(self) -> None:
        """Lets the hub read what the peer had sent before it went, and then the end."""
        polls = 0
        while not self._eof and not self._closed and polls < _MOST_POLLS:
            polls += 1
            self._resume_reading()
            wait_turns(self._turns, SYSTEM_CLOCK, 0.0)

    def _reopen(self, timeout: float) -> None:
        waiters = self._dialling = Waiters(self._turns)
        try:
            self._read_rest()
            assert self._outbox is not None
            self.ended(self._outbox.error)
            self._outbox.close(self.end_error())
            if self._due & END:  # its turn would take it for the end of the new connection
                self._due &= ~END
                self.call_hook(self.tell_end)
            transport, self._transport = self._transport, None
            if transport is not None:
                transport.close()
            self._connect(timeout)
        finally:
            self._dialling = None
            waiters.wake()

    # --- in turns ---------------------------------------------------------------------------------

    def finish(self) -> None:
        """The end of the stream. Without a communicator, the next request may dial anew."""
        self._handled_end = True
        if self._communicator is None:
            self.tell_end()
        else:
            super().finish()
        self._end_run()

    # --- in the hub -------------------------------------------------------------------------------

    def _takes_turns(self) -> bool:
        return self._dispatcher is not None or self._communicator is not None

    def take_units(self, units: list[Any]) -> list[Any]:
        """Without a dispatcher, answers HELP and ALIVE at once."""
        if self._dispatcher is not None or self._communicator is not None:
            return super().take_units(units)
        fds, table = self._fds, self._requests
        if fds is not None:
            units = self.assign_fds(units)
        left: list[Any] = []
        for unit in units:
            try:
                message = parse_text(unit) if unit.__class__ is str else unit
            except MessageError as error:
                self._refuse_line(unit, error)
                continue
            if table is not None and table.take(message):
                continue
            if message.command in _ANSWERED:
                self._answer_default(message)
                continue
            if message.command in _ENDING and self.may_control:
                in_run = self._runner is not None
                self.mark_done()
                if in_run:
                    continue  # else whoever receives is to see it, too
            self._arriving = left
            left.append(message)
        if left:
            self._arriving = ()
        if fds is not None:
            self.weigh(left)
        return left

    def _answer_default(self, message: Message) -> None:
        answer = default_commands(fallback_dispatcher())[message.command](message, self)
        assert answer is not None
        try:
            self.send(answer)
        except EdgeventError as error:
            logger.debug("%s: %s was not answered: %s", self.name, message.command, error)

    def ended(self, error: NetworkError | None) -> None:
        """Ends :meth:`run` too, when no turn is to come."""
        super().ended(error)
        self._end_run()

    def has_ended(self) -> None:
        """Ends :meth:`run` too."""
        super().has_ended()
        self._end_run()

    def _shut(self) -> None:
        _open.discard(self)
        super()._shut()


def _close_all() -> None:
    """Sends, at the end of the program, what clients that were never closed still hold."""
    for client in tuple(_open):
        if client._turns.thread == get_ident() and not client._turns.forked:
            client.close()


atexit.register(_close_all)
