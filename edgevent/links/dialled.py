"""A message stream that dials, and dials again whenever it is lost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from greenlet import getcurrent, greenlet

from .. import limits
from ..address import Address
from ..arguments import check_callable, checks_arguments
from ..backoff import Backoff
from ..connection import Owner
from ..dispatcher import Dispatcher
from ..errors import (
    AddressError,
    ClosedError,
    ConnectError,
    ConnectionLostError,
    EdgeventError,
    NetworkError,
    NotConnectedError,
)
from ..runtime.clock import Alarm
from ..runtime.outbox import Outbox
from ..runtime.waits import Waiters
from ..tls import TlsMode, TlsOptions, options_for
from ..transport.base import StreamTransport
from ..transport.dial import dial
from ..transport.fifo import Access
from ..transport.resolve import STREAM_SCHEMES, unix_sockaddr
from ..transport.rights import check_carrier
from .asking import name_of
from .ending import EMPTY, START
from .listener_wait import ListenerWait, waits_for_listener
from .message import MessageConnection
from .report import Report

ATTEMPT: Final = 64
"""What can be due in a turn besides: an attempt to connect."""

_F = TypeVar("_F", bound=Callable[..., Any])


class _Aborted(BaseException):
    """Thrown into a dial for which nobody waits any more."""


@checks_arguments
class DialledConnection(MessageConnection):
    """A message stream over a transport that comes and goes; see ``PermanentConnection``."""

    __slots__ = (
        "_access",
        "_alarm_to_dial",
        "_backoff",
        "_beginner",
        "_begun",
        "_callbacks",
        "_dialler",
        "_listener",
        "_next_place",
        "_report",
        "_target",
        "_tls",
        "_up",
        "_up_since",
        "attempts",
        "connect_timeout",
    )

    def __init__(
        self,
        address: str | Address,
        dispatcher: Dispatcher | None = None,
        *,
        pauses: str | Sequence[float] | Backoff | None = None,
        connect_timeout: float = limits.CONNECT_TIMEOUT,
        wait_for_listener: bool | None = None,
        tls: TlsOptions | TlsMode | None = None,
        access: Access | None = None,
        max_fds: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__(None, dispatcher, max_fds=max_fds, **settings)
        self._target = _check_address(Address.parse(address))
        if self._target.scheme == "unixseq":  # what is kept has to fit a record later
            self.max_line_bytes = min(self.max_line_bytes, limits.MAX_UNIX_DATAGRAM_BYTES)
        self._tls = options_for(self._target, tls)
        check_carrier(self._target, max_fds, is_encrypted=self._tls is not None)
        self._access = access
        if self._tls is not None:
            self._tls.context(server_side=False)  # files that cannot be used are told here
        self._backoff = pauses if isinstance(pauses, Backoff) else Backoff(pauses)
        self.connect_timeout = connect_timeout
        self._next_place: tuple[Address, TlsOptions | None] | None = None
        self._listener: ListenerWait | None = None
        if waits_for_listener(self._target, wait_for_listener, has_pauses=pauses is not None):
            self._listener = ListenerWait(self._target, self._turns, self._service_is_back)
        self.attempts = 0
        self._report = Report(self._turns, name_of(self))
        self._up = Waiters(self._turns)
        self._up_since: float | None = None  # since when it is, or last was, up
        self._begun = False  # whether on_connected has returned
        self._beginner: greenlet | None = None  # the greenlet that runs it
        self._dialler: greenlet | None = None  # the greenlet that dials
        self._alarm_to_dial: Alarm | None = None
        self._callbacks: dict[str, list[Callable[..., Any]]] = {}

    # --- what users see ---------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where the link goes."""
        return str(self._target)

    @property
    def is_connected(self) -> bool:
        """Whether the link is up: there is a connection that can be written to and read from."""
        outbox = self._outbox
        return super().is_connected and outbox is not None and outbox.error is None

    @property
    def outbox(self) -> Outbox:
        """What is to leave; raises :class:`NotConnectedError` while the link is down."""
        if self._outbox is None:
            raise self.down_error()
        return self._outbox

    def on_connected(self, function: _F) -> _F:
        """Adds a function of the link, called in a turn when it is up; it may block."""
        return self._on("connected", function, "link")

    def on_connection_failed(self, function: _F) -> _F:
        """Adds a function of the link and the error, called after each attempt that failed."""
        return self._on("connection_failed", function, "link", "error")

    def on_disconnected(self, function: _F) -> _F:
        """Adds a function of the link, called when it is lost."""
        return self._on("disconnected", function, "link")

    def _on(self, what: str, function: _F, *takes: str) -> _F:
        check_callable(function, f"{self.name}: on_{what}", takes)
        self._callbacks.setdefault(what, []).append(function)
        return function

    def process_connection_failed(self, error: ConnectError) -> None:
        """Called in a turn after each attempt that failed."""

    def process_disconnected(self) -> None:
        """Called in a turn when the link is lost; it will be dialled again."""

    def wait_until_up(self, timeout: float) -> None:
        """Waits until the link is up and what :meth:`on_connected` has added has returned.

        Blocks the calling greenlet alone.

        Raises:
            NotConnectedError: It was not up within ``timeout`` seconds.
            ClosedError: The link was closed for good.
        """
        end = self._use_clock.now() + timeout
        while not (self.is_connected and (self._begun or self._beginner is getcurrent())):
            left = end - self._use_clock.now()
            if left <= 0.0 or self._closed:
                raise self.down_error()
            self._up.wait(self._use_clock, left)

    def reload(self) -> bool:
        """Reads the files of certificates again; a connection that stands is not touched.

        Returns:
            Whether they can be used. If not, that is logged, and what was in use stays.
        """
        return self._tls is None or self._tls.reload()

    def prepare_move(self, address: Address, tls: TlsOptions | None = None) -> Callable[[], None]:
        """Checks another address of a stream, for the link to go to from then on.

        Args:
            address: Where.
            tls: What is asked of TLS there.

        Returns:
            What has the link dial there at once, with its functions and what it has kept; a
            connection that stands is lost.

        Raises:
            AddressError: It is none of a stream.
            UsageError: The address and what is asked of TLS contradict each other.
            CertificateFileError: A file of TLS cannot be used.
        """
        target, options = _check_address(address), options_for(address, tls)
        if options is not None:
            options.context(server_side=False)

        def move() -> None:
            if self._closed:
                return
            self._next_place = (target, options)
            if self._transport is not None:
                self.ended(ConnectionLostError(f"it goes to {target} from now on"))
            elif self._communicator is not None:
                self._dial_later()

        return move

    def down_error(self) -> NetworkError:
        """Makes the error for a call that needs the link to be up."""
        if self._closed:
            return ClosedError(f"{self.name} is closed")
        return NotConnectedError(f"{self.name} is not connected to {self._target}")

    def _state(self) -> str:
        state = "closed" if self._closed else "up" if self.is_connected else "down"
        return f"{state} {self._target}"

    # --- dialling ---------------------------------------------------------------------------------

    def attach(self, communicator: Owner) -> None:
        """Called by the communicator: the first attempt follows."""
        super().attach(communicator)
        if self._transport is None:
            self._dial_after(self._backoff.first())

    def detach(self) -> None:
        """Called by the communicator: the dial ends, a link that is up stays."""
        super().detach()
        self._stop_dialling()
        self._report.stop()

    def _dial_after(self, pause: float) -> None:
        self._stop_dialling()
        if self._closed or self._communicator is None:
            return
        if pause <= 0.0:
            self._mark_due(ATTEMPT)
        else:
            self._alarm_to_dial = self._use_clock.call_later(pause, self._attempt_due)

    def _dial_later(self, error: ConnectError | None = None) -> None:
        """Dials after the next pause, or before, as soon as the service listens again."""
        if self._next_place is not None:
            self._stop_dialling()
            (self._target, self._tls), self._next_place = self._next_place, None
            self._listener = None
            if waits_for_listener(self._target, None, has_pauses=False):
                self._listener = ListenerWait(self._target, self._turns, self._service_is_back)
            self._backoff.reset()
            self._dial_after(0.0)
            return
        if self._due & ATTEMPT:
            return  # a hook that was called before this has moved it
        self._dial_after(self._backoff.next())
        if self._listener is not None and self._alarm_to_dial is not None and self._enabled:
            self._listener.start(self._use_clock, error)

    def _service_is_back(self, delay: float) -> None:
        if self._transport is None and self._alarm_to_dial is not None:
            self._dial_after(delay)

    def _enabled_changed(self, enabled: bool) -> None:
        super()._enabled_changed(enabled)
        if self._listener is not None and self._alarm_to_dial is not None:
            if enabled:
                self._listener.start(self._use_clock)
            else:
                self._listener.stop()

    def _attempt_due(self) -> None:
        try:
            self._alarm_to_dial = None
            self._mark_due(ATTEMPT)
        except BaseException as error:
            self._turns.failed(error)

    def _stop_dialling(self) -> None:
        self._due &= ~ATTEMPT
        if self._alarm_to_dial is not None:
            self._alarm_to_dial.stop()
            self._alarm_to_dial = None
        if self._listener is not None:
            self._listener.stop()
        if self._dialler is not None:
            self._turns.loop.run_callback(self._abort, self._dialler)

    def _abort(self, dialler: greenlet) -> None:
        if self._dialler is dialler:
            dialler.throw(_Aborted())

    def _work(self) -> None:
        if self._due & ATTEMPT:
            self._due &= ~ATTEMPT
            if self._transport is None and not self._closed:
                self._dial()
                if not self._enabled:
                    return  # what is due now waits until it is enabled again
        super()._work()

    def _try_to_dial(self) -> StreamTransport | ConnectError | None:
        self._dialler = getcurrent()
        try:
            return dial(
                self._target,
                self.connect_timeout,
                clock=self._use_clock,
                tls=self._tls,
                access=self._access,
            )
        except _Aborted:
            return None
        except EdgeventError as error:
            return error if isinstance(error, ConnectError) else ConnectError(str(error))
        finally:
            self._dialler = None

    def _dial(self) -> None:
        self.attempts += 1
        if self._listener is not None:
            self._listener.stop()
        target = self._target
        transport = self._try_to_dial()
        if transport is None:
            return
        has_moved = self._target is not target  # then the next attempt is due already
        if isinstance(transport, ConnectError):
            if not has_moved:
                self._dial_failed(transport)
            return
        if self._closed or self._communicator is None or has_moved:
            transport.close()
            return
        self.open(transport)
        first, self._up_since = self._up_since is None, self._use_clock.now()
        text = f"connected to {self._target}"
        self._report.say(self._use_clock, logging.INFO, text, at_once=first)
        if self._enabled:
            self._resume_reading()
        self._due |= START

    def _dial_failed(self, error: ConnectError) -> None:
        if self._closed:
            return
        self._report.say(self._use_clock, logging.WARNING, f"cannot connect: {error}")
        try:
            self.call_hook(self.process_connection_failed, error)
            self._call_back("connection_failed", error)
        finally:  # an interrupt in a hook, which a program may survive, must not end the link
            self._dial_later(error)

    def _call_back(self, what: str, *arguments: Any) -> None:
        for function in tuple(self._callbacks.get(what, ())):
            self.call_hook(function, self, *arguments)

    def _begin(self) -> None:
        self._beginner = getcurrent()
        try:
            super()._begin()
            self._call_back("connected")
        finally:
            self._beginner = None
            self._begun = self._transport is not None
            self._up.wake()

    # --- the loss ---------------------------------------------------------------------------------

    def finish(self) -> None:
        """The link is lost: its state is put in order, and it is dialled again."""
        if self._draining:
            self.close()
            return
        error = self._error
        if error is None:
            self.drop_rest()
        text = f"lost the link to {self._target}: {error or 'the peer has ended it'}"
        self._report.say(self._use_clock, logging.WARNING, text)
        self._let_go()
        assert self._up_since is not None
        self._backoff.lost(self._use_clock.now() - self._up_since)
        try:
            self.call_hook(self.process_disconnected)
            self._call_back("disconnected")
        finally:
            self._dial_later()

    def _let_go(self) -> None:
        outbox, transport = self._outbox, self._transport
        assert outbox is not None
        assert transport is not None
        self._keep_outbox_counts(outbox)
        self._transport = self._outbox = None
        self._begun = False
        self._due &= ~(START | EMPTY)
        outbox.close(self.end_error())
        self.sort_out(outbox)
        transport.close()

    def sort_out(self, outbox: Outbox) -> None:
        """Called with the outbox of a connection that is lost."""

    def _shut(self) -> None:
        self._stop_dialling()
        self._report.stop()
        super()._shut()
        self._up.wake()


def _check_address(address: Address) -> Address:
    """Refuses what no attempt could ever reach, before the first one."""
    if address.scheme not in (*STREAM_SCHEMES, "fifo"):
        expected = ", ".join((*STREAM_SCHEMES, "fifo"))
        raise AddressError(f"{str(address)!r}: an address of scheme {expected} was expected")
    if address.is_unix:
        unix_sockaddr(address)
    return address
