"""Serving datagrams: messages come from anybody, and answers go back to where each came from."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from typing import Any, Final

from .. import limits
from ..address import Address
from ..answers import answer_failure, is_senders_mistake
from ..arguments import checks_arguments
from ..connection import FAILURES, Owner
from ..dispatcher import HANDLED, UNMATCHED, Dispatcher
from ..errors import (
    ClosedError,
    ConnectError,
    ListenError,
    MessageError,
    NetworkError,
    QueueFullError,
    SigningKeyError,
    UsageError,
)
from ..message import Message
from ..runtime.clock import SYSTEM_CLOCK, Clock
from ..signing import REASONS, Guard, SigningKeys
from ..transport.datagram import Datagram, DatagramTransport, default_max_bytes
from ..transport.datagram_open import bind_datagrams
from ..transport.datagram_send import send_within
from ..transport.inherited import Inherited, let_go, served_address
from ..transport.multicast import Reach
from ..transport.resolve import DATAGRAM_SCHEMES, resolve
from .admission import Admission
from .datagram_flow import DatagramFlow
from .datagram_peer import REPLY_TO, DatagramPeer
from .message import fallback_dispatcher
from .send_datagram import Keys, check_datagram

logger = logging.getLogger("edgevent")

_DROPPED: Final = {
    **{reason: f"dropped a datagram from {{}}: {text}" for reason, text in REASONS.items()},
    "truncated": "dropped a datagram from {}: it is longer than the limit",
    "refused": "dropped a datagram from {}: its user is not allowed",
    "longer_answer": "did not answer {}: the answer is longer than what came",
    "unbound_sender": "did not answer {}: its socket has no address",
    "reply_to": "did not answer {} where its reply_to says: it may not say that",
}


@checks_arguments
class DatagramServer(DatagramFlow):
    """Receives datagrams at an address, each a message, and dispatches them.

    Handlers get the message and a :class:`DatagramPeer`, by which they answer. All senders share
    the server's turns: while a handler waits, no other runs, unless ``concurrency`` says so. What
    comes meanwhile waits in the kernel's queue, which drops what it cannot hold (UDP), or lets its
    sender wait (Unix).

    On a Unix socket, a sender that is connected and never reads its answers takes up the server's
    send buffer with them, and others may get none: let in only users that are trusted that far.

    Args:
        address: ``udp://host:port``, ``unixgram:/path`` or ``unixgram:@name``; a multicast address
            is joined.
        handler: A dispatcher, or a function of the message and the peer; by default the
            communicator's dispatcher.
        dispatcher: The same, for subclasses that override :meth:`process_message`.
        secret_code: The code that all datagrams must have, and that answers get.
        auth: The keys (or the path of their file) with which all datagrams must be signed, and
            answers are.
        allow_unauthenticated: Whether it may listen beyond loopback with neither of the two.
        allow_control: Whether STOP and the like are obeyed from senders that are neither local nor
            authenticated.
        allow_users: Names or numbers of the users that may send to a Unix socket.
        allow_groups: Names or numbers of groups, one of which the sending process may have in
            place of that.
        mode: The mode of a Unix socket's file, 0600 by default.
        group: The group of a Unix socket's file; makes the default mode 0660.
        groups: Multicast groups to join, beside the address itself.
        interface: The interface of multicast, by name or by an address of it.
        ttl: How many routers may pass on what this side sends.
        loop: Whether this machine gets this side's own multicast, too.
        concurrency: The most handlers that run at a time.
        max_datagram_bytes: The longest datagram that is taken or sent: 1,024 bytes, or 64 KiB on a
            Unix socket.
        send_timeout: How long an answer waits for room in its receiver's queue, in seconds.
        signature_window: Seconds by which the time of a signed datagram may be off.
        socket: A socket that is bound already, or its descriptor, as a service manager hands it
            over: it is the server's from now on, unless this raises, and has the address.

    Raises:
        ListenError: It cannot receive there, or not without a code or keys.
        SigningKeyError: The file of keys cannot be used.
        AddressError: The address cannot be read.
        UsageError: What is asked for needs another kind of socket, or the handler is none.

    Attributes:
        counts: How often what happened: ``received``, and for what was dropped the reason:
            ``malformed``, ``truncated``, ``unsigned``, ``forged``, ``expired``, ``replayed``,
            ``too_many``, ``no_secret``, ``wrong_secret``, ``refused``; for answers
            ``longer_answer``, ``unbound_sender``, ``reply_to``, ``undelivered``.
    """

    __slots__ = (
        "_admission",
        "_code",
        "_deaf",
        "_dispatcher",
        "_guard",
        "_handling",
        "_inherits",
        "_is_raw",
        "_key_file",
        "_keys",
        "_reach",
        "_window",
        "address",
        "allow_control",
        "max_datagram_bytes",
        "send_timeout",
    )

    def __init__(
        self,
        address: str | Address | None = None,
        handler: Dispatcher | Callable[..., Any] | None = None,
        *,
        dispatcher: Dispatcher | None = None,
        name: str = "",
        priority: int = limits.DEFAULT_PRIORITY,
        keep_running: bool = True,
        secret_code: str | None = None,
        auth: Keys = None,
        allow_unauthenticated: bool = False,
        allow_control: bool = False,
        allow_users: Iterable[str | int] | None = None,
        allow_groups: Iterable[str | int] | None = None,
        mode: int | None = None,
        group: str | int | None = None,
        groups: Iterable[str] = (),
        interface: str = "",
        ttl: int | None = None,
        loop: bool | None = None,
        concurrency: int = 1,
        max_datagram_bytes: int | None = None,
        send_timeout: float = limits.DATAGRAM_SEND_TIMEOUT,
        signature_window: float = limits.SIGNATURE_WINDOW,
        socket: Inherited | None = None,
    ) -> None:
        super().__init__(
            name=name, priority=priority, keep_running=keep_running, concurrency=concurrency
        )
        self.address = served_address(address, socket, default_scheme="udp")
        if not self.address.is_datagram:
            raise UsageError(
                f"{self.address}: an address of scheme udp or unixgram was expected; see Server"
            )
        self._dispatcher = _choose_dispatcher(handler, dispatcher)
        self._inherits = False
        self._is_raw = type(self).process_datagram is not DatagramServer.process_datagram
        if self._is_raw and (secret_code or auth is not None):
            raise UsageError(
                f"{self.address}: process_datagram is overridden, and so nobody would look at"
                " secret_code= or auth="
            )
        self._key_file = auth if isinstance(auth, (str, os.PathLike)) else None
        self._keys = None if auth is None else _read_keys(auth)
        self._code = secret_code or ""
        self._window = signature_window
        self._guard = self._make_guard(SYSTEM_CLOCK)
        self._admission: Admission | None = None
        if not (allow_users is None and allow_groups is None):
            if not self.address.is_unix:
                raise UsageError(f"{self.address}: users and groups are known of Unix sockets only")
            self._admission = Admission(allow_users or (), allow_groups or ())
        self.allow_control = allow_control
        self.max_datagram_bytes = max_datagram_bytes or default_max_bytes(self.address)
        self.send_timeout = send_timeout
        self._deaf: dict[Any, float] = {}  # who took no answer, and until when none is sent
        self._handling: Message | None = None
        self._reach = Reach(interface, ttl, loop)
        self._transports = tuple(
            bind_datagrams(
                self.address,
                max_bytes=self.max_datagram_bytes,
                reach=self._reach,
                groups=groups,
                mode=mode,
                group=group,
                inherited=socket,
            )
        )
        if not (allow_unauthenticated or self._guard.asks):
            self._check_reach()
        if socket is not None:
            let_go(socket)

    def _make_guard(self, clock: Clock) -> Guard:
        return Guard(
            secret_code=self._code,
            auth=self._keys,
            window=self._window,
            only_new=True,
            dates=clock,
            name=self.name,
        )

    def _check_reach(self) -> None:
        for transport in self._transports:
            if not transport.is_at_loopback:
                text = f"{transport.local} can be reached by others: secret_code= or auth= was"
                for other in self._transports:
                    other.close()
                raise ListenError(f"{text} expected, or allow_unauthenticated=True")

    # --- what users see ---------------------------------------------------------------------------

    @property
    def dispatcher(self) -> Dispatcher:
        """The table that says who handles which message."""
        return self._dispatcher or fallback_dispatcher()

    @property
    def command(self) -> str:
        """The command that was handled last, or an empty string."""
        return "" if self._handling is None else self._handling.command

    def process_datagram(self, data: bytes, peer: DatagramPeer) -> None:
        """Called in a turn with each datagram, where it is overridden; nothing is parsed then.

        :meth:`DatagramPeer.write` answers. There can be no ``secret_code`` and no ``auth`` then.
        """

    def process_message(self, message: Message, peer: DatagramPeer) -> bool:
        """Called in a turn with what the dispatcher's matches did not take.

        Returns:
            True when it is taken here.
        """
        return False

    def send(self, message: Message, address: str | Address) -> None:
        """Sends a message from this address to another one, a multicast group for example.

        Blocks the calling greenlet while a name is looked up, or while the receiver's queue is
        full (Unix). Errors are those of :meth:`DatagramPeer.send`, and:

        Raises:
            ConnectError: The name cannot be resolved, or has no address of this socket's family.
            AddressError: The address cannot be read, or is no datagram socket's.
        """
        data = self.encode(message)
        where = Address.parse(address, default_scheme=self.address.scheme)
        try:
            endpoints = resolve(where, clock=self._clock, schemes=DATAGRAM_SCHEMES)
        except OSError as error:
            raise ConnectError(f"{where}: {error.strerror or error}", error.errno) from error
        for endpoint in endpoints:
            for transport in self._transports:
                if transport.family == endpoint.family:
                    self.transmit(transport, data, endpoint.sockaddr)
                    return
        self._check_open()
        raise ConnectError(f"{where}: not of the same kind as {', '.join(self.addresses)}")

    def reload(self) -> bool:
        """Reads the file of keys again.

        Returns:
            Whether it can be used. If not, that is logged, and what was in use stays.
        """
        if self._key_file is None:
            return True
        try:
            self._keys = SigningKeys.read(self._key_file)
        except SigningKeyError as error:
            logger.error("%s: the keys in use stay: %s", self.name, error)
            return False
        self._guard.rekey(self._keys)
        return True

    # --- with the communicator --------------------------------------------------------------------

    def attach(self, communicator: Owner) -> None:
        """Called by the communicator."""
        if self._dispatcher is None or self._inherits:
            self._dispatcher = communicator.dispatcher
            self._inherits = True
        if communicator.clock is not SYSTEM_CLOCK:
            self._guard = self._make_guard(communicator.clock)
        self._guard.name = self.name
        super().attach(communicator)
        logger.info("%s: receiving at %s", self.name, ", ".join(self.addresses))

    def take(self, transport: DatagramTransport, datagram: Datagram) -> None:
        """Judges a datagram, and dispatches it."""
        data, sockaddr, is_truncated, credentials = datagram
        peer = DatagramPeer(self, transport, sockaddr, credentials, len(data))
        admission = self._admission
        if admission is not None and not admission.admits_sender(credentials):
            self.drop("refused", peer)
        elif is_truncated:
            self.drop("truncated", peer)
        elif self._is_raw:
            self.call_hook(self.process_datagram, data, peer)
        else:
            message, authenticated, reason = self._guard.open(data)
            if message is None:
                self.drop(reason, peer)
                return
            if authenticated:
                peer.authenticated = True
            if REPLY_TO in message:
                peer.redirect(message)
            communicator = self._communicator
            if communicator is not None and communicator.traces:
                communicator.trace("%s: received %r", peer.name, message)
            self.dispatch(message, peer)

    def dispatch(self, message: Message, peer: DatagramPeer) -> None:
        """Hands a message on to its handler; what that raises is answered."""
        self._handling = message
        dispatcher = self._dispatcher or self.dispatcher
        try:
            taken = dispatcher.dispatch(message, peer)
            if taken != HANDLED and not self.process_message(message, peer) and taken == UNMATCHED:
                dispatcher.dispatch_otherwise(message, peer)
        except FAILURES as error:
            self._message_failed(message, peer, error)

    def _message_failed(self, message: Message, peer: DatagramPeer, error: BaseException) -> None:
        if error is peer.error:
            return  # counted, and said, when it was sent
        try:
            identifier = ""
            if not is_senders_mistake(message, error):
                identifier = self.handler_failed(error, f"the handler of {message.command}")
            answer_failure(message, peer, error, identifier)
        except (NetworkError, MessageError) as lost:
            logger.debug("%s: the answer could not be sent: %s", peer.name, lost)

    # --- sending ----------------------------------------------------------------------------------

    def encode(self, message: Message) -> bytes:
        """Returns the datagram for a message.

        Raises:
            MessageError: It would be longer than ``max_datagram_bytes``.
        """
        return check_datagram(message, self._guard.seal(message), self.max_datagram_bytes)

    def transmit(self, transport: DatagramTransport, data: bytes, sockaddr: Any) -> None:
        """Sends a datagram by one of the sockets; errors as in :meth:`DatagramPeer.send`."""
        self._check_open()
        try:
            if self._deaf and self._is_deaf(sockaddr):
                transport.transmit(data, sockaddr)  # no wait for whom others have waited already
            else:
                send_within(transport, data, sockaddr, self.send_timeout, clock=self._clock)
        except (NetworkError, OSError) as error:
            self.counts["undelivered"] += 1
            if isinstance(error, (QueueFullError, BlockingIOError)):
                self._deaf[sockaddr] = self._clock.now() + limits.SLOW_CONSUMER_TIMEOUT
            if not isinstance(error, NetworkError):
                error = QueueFullError(f"the queue of {transport.show(sockaddr)} is full still")
            self.tell("undelivered", f"not delivered: {error}", level=logging.INFO)
            raise error
        self._out_datagrams += 1
        self._out_bytes += len(data)

    def _is_deaf(self, sockaddr: Any) -> bool:
        now = self._clock.now()
        if len(self._deaf) > limits.LOGGED_PEERS:
            self._deaf = {who: until for who, until in self._deaf.items() if until > now}
        return self._deaf.pop(sockaddr, 0.0) > now

    def drop(self, reason: str, peer: DatagramPeer) -> None:
        """Counts a datagram or an answer that is dropped, and tells it."""
        self.counts[reason] += 1
        # That a sender wants no answer, and gets none, is nothing to worry about.
        level = logging.INFO if reason == "unbound_sender" else logging.WARNING
        self.tell(reason, _DROPPED[reason].format(peer.address), level=level)

    def _check_open(self) -> None:
        self._turns.check()
        if self._closed:
            raise ClosedError(f"{self.name} is closed")


def _read_keys(auth: SigningKeys | str | os.PathLike[str]) -> SigningKeys:
    return auth if isinstance(auth, SigningKeys) else SigningKeys.read(auth)


def _choose_dispatcher(
    handler: Dispatcher | Callable[..., Any] | None, dispatcher: Dispatcher | None
) -> Dispatcher | None:
    if handler is None:
        return dispatcher
    if dispatcher is not None:
        raise UsageError("a server has one dispatcher: as its handler, or as dispatcher=")
    if isinstance(handler, Dispatcher):
        return handler
    if isinstance(handler, type) or not callable(handler):
        raise UsageError(f"{handler!r} is no handler: a Dispatcher or a function was expected")
    made = Dispatcher(default_commands=False)
    made.otherwise(handler)
    return made
