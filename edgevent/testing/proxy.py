"""A proxy that makes a network as bad as a test wants it."""

from __future__ import annotations

import _socket
import logging
import random
import socket
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import gevent
from gevent import Greenlet

from ..address import Address
from ..errors import AddressError, EdgeventError, ReceiveTimeout
from ..limits import CONNECT_TIMEOUT
from ..runtime.clock import SYSTEM_CLOCK, Alarm, Clock
from ..runtime.closing import Closing
from ..runtime.turns import Turns
from ..runtime.waits import Waiters
from ..transport.base import StreamTransport
from ..transport.dial import dial
from ..transport.fifo_listen import FifoListener
from ..transport.listen import Listener, listen
from ..transport.secure import with_tls
from ..transport.stream import SocketTransport
from .faults import (
    DIRECTIONS,
    NONE,
    Controls,
    Direction,
    Directions,
    Faults,
    Faulty,
    Mark,
    each_direction,
)
from .way import Way

logger = logging.getLogger("edgevent")

_NO_LINGER: Final = struct.pack("ii", 1, 0)  # man 7 socket, SO_LINGER: struct linger
_PLAIN: Final = {"tls": "tcp", "tls+unix": "unix"}
_PAUSE: Final = 0.05  # after an accept that failed for want of descriptors


class ProxyConnection(Controls):
    """One connection through a :class:`FaultProxy`; its calls change this one alone.

    Attributes:
        number: 1 for the first connection of the proxy.
        up: What the client sends, with the counters ``arrived``, ``passed``, ``swallowed`` and
            ``corrupted``, in bytes.
        down: What the server sends, with the same counters.
    """

    __slots__ = ("_client", "_proxy", "_server", "_turns", "down", "number", "up")

    def __init__(
        self, proxy: FaultProxy, number: int, client: StreamTransport, server: StreamTransport
    ) -> None:
        self.number = number
        self._proxy = proxy
        self._turns = proxy._turns
        self._client = client
        self._server = server
        self.up = self._make_way("up", client, server)
        self.down = self._make_way("down", server, client)

    def _make_way(
        self, direction: Direction, source: StreamTransport, sink: StreamTransport
    ) -> Way:
        proxy = self._proxy
        return Way(
            source,
            sink,
            proxy._to_come[direction].faults,
            clock=proxy._clock,
            chance=random.Random(f"{proxy.seed} {self.number} {direction}"),
            on_mark=self._marked,
            on_broken=self._broken,
        )

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed"
        passed = f"{self.up.passed} bytes up, {self.down.passed} down"
        return f"<ProxyConnection {self.number} of {self._proxy.address} {state}, {passed}>"

    @property
    def is_open(self) -> bool:
        """Whether it is there: a proxy closes both sides when both have ended, or one is broken."""
        return self in self._proxy._open

    def _each(self, direction: Directions) -> Iterator[Faulty]:
        self._turns.check()
        for one in each_direction(direction):
            if self.is_open:
                yield self.up if one == "up" else self.down

    def _start(self) -> None:
        for way in (self.up, self.down):
            if self.is_open:
                way.start()

    def _marked(self, way: Way, mark: Mark) -> None:
        if mark != "end":
            self._shut(breaks=mark == "reset")
            return
        (self._server if way is self.up else self._client).shutdown_write()
        if self.up.is_done and self.down.is_done:
            self._shut()

    def _broken(self, way: Way, error: OSError) -> None:
        logger.debug("%r: %s", self, error.strerror or error)
        (self.down if way is self.up else self.up).break_off()

    def _shut(self, *, breaks: bool = False) -> None:
        self.up.close()
        self.down.close()
        for transport in (self._client, self._server):
            _close(transport, breaks=breaks)
        self._proxy._open.pop(self, None)


class _ToCome:
    """The faults of one direction of connections that are not there yet."""

    arrived = 0

    def __init__(self) -> None:
        self.faults: Faults = NONE

    def change(self, **values: Any) -> None:
        self.faults = replace(self.faults, **values)

    def stop(self, mark: Mark) -> None:
        """Nothing has come that could be ended."""


class FaultProxy(Controls, Closing):
    """Stands between clients and a server, hands on what they send, and fails when told to.

    It passes all that a stream can say: bytes, the end of one direction, a reset, and that a reader
    is slow (it holds up to 128 KiB of each direction). What is encrypted passes as it is, and so do
    the records of ``unixseq:`` on both sides. It works in the hub of the thread that has made it,
    whenever something there waits.

    A reset may pass a Unix socket as an end: see :meth:`reset`. Credentials of a Unix socket's
    peer are the proxy's, and file descriptors do not pass.

    Args:
        target: The address of the server, in the form in which a client dials it: a stream of any
            kind. It is dialled anew for each client.
        listen: Where clients come; port 0 is a free one. It may be of another kind.
        clock: Counts delays and throttles; a :class:`~edgevent.testing.clock.ManualClock` makes
            them stand still until the test moves it.
        seed: For what is drawn at random: the same seed gives the same faults to the first, second
            and further connections.
        connect_timeout: The limit of a dial to the target, in seconds.

    Raises:
        ListenError: It cannot listen there.
        AddressError: An address is of no stream.

    Attributes:
        accepted: How many clients have come.
        failed: For how many of them the target could not be reached; they were reset.

    Example:
        >>> with FaultProxy(server.addresses[0]) as proxy, Client(proxy.address) as client:
        ...     proxy.cut(after=100, direction="down")
        ...     client.request(message)    # raises ConnectionLostError, if the answer is longer
    """

    def __init__(
        self,
        target: str | Address,
        listen: str | Address = "tcp://127.0.0.1:0",
        *,
        clock: Clock = SYSTEM_CLOCK,
        seed: int = 0,
        connect_timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        self._turns = Turns.current()
        self._target, target_is_tls = _without_tls(target)
        place, place_is_tls = _without_tls(listen)
        self._is_tls = target_is_tls or place_is_tls
        self._clock = clock
        self._connect_timeout = connect_timeout
        self.seed = seed
        self.accepted = self.failed = 0
        self._to_come = {direction: _ToCome() for direction in DIRECTIONS}
        self._open: dict[ProxyConnection, None] = {}
        self._new: deque[ProxyConnection] = deque()  # that nobody has waited for yet
        self._waiters = Waiters(self._turns)
        self._diallers: dict[Greenlet[..., None], StreamTransport] = {}
        self._pause: Alarm | None = None
        self._held_ports: list[_socket.socket] = []
        self._closed = False
        self._listeners = _listen([place])
        self._places = [Address.parse(found.local) for found in self._listeners]
        self._watch()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "listening" if self._listeners else "refusing"
        return (
            f"<FaultProxy {self.address} to {self.target} {state}, {len(self._open)} connections>"
        )

    # --- what users see ---------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """What clients dial; it stays the same."""
        place = self._places[0]
        if place.second_path:  # what one side reads from the other one writes to
            return f"fifo:{place.second_path},{place.path}"
        return with_tls(str(place)) if self._is_tls else str(place)

    @property
    def target(self) -> str:
        """Where the server is."""
        return with_tls(str(self._target)) if self._is_tls else str(self._target)

    @property
    def connections(self) -> tuple[ProxyConnection, ...]:
        """The connections that are there now, the oldest one first."""
        return tuple(self._open)

    def wait_for_connection(self, timeout: float = 5.0) -> ProxyConnection:
        """Waits for the next connection that stands up to the target, and returns it.

        Each is returned once, in the order in which they came. Blocks the calling greenlet alone.

        Args:
            timeout: The limit, in seconds of the system's clock.

        Raises:
            ReceiveTimeout: None came in time.
        """
        end = SYSTEM_CLOCK.now() + timeout
        while not self._new:
            left = end - SYSTEM_CLOCK.now()
            if left <= 0.0 or not self._waiters.wait(SYSTEM_CLOCK, left):
                raise ReceiveTimeout(f"{self.address}: no connection within {timeout:g} s")
        return self._new.popleft()

    def refuse(self) -> None:
        """Stops to listen: who dials is refused. :meth:`heal` listens again at the same address.

        Connections that stand are not touched.
        """
        self._turns.check()
        listeners, self._listeners = self._listeners, []
        self._stop_pause()
        for listener in listeners:
            listener.close()
        if listeners:
            self._hold_ports()

    def heal(self) -> None:
        """Ends all faults. What was cut, reset, half-closed or swallowed stays so.

        Raises:
            ListenError: It cannot listen again, after :meth:`refuse`.
        """
        super().heal()
        if not (self._listeners or self._closed):
            self._listeners = _listen(self._places)
            self._let_ports_go()
            self._watch()

    def close(self) -> None:
        """Stops to listen, and cuts all connections. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._stop_pause()
        for listener in self._listeners:
            listener.close()
        self._listeners = []
        self._let_ports_go()
        for dialler, client in self._diallers.items():
            dialler.kill(block=False)
            _close(client)  # one that has not begun yet never does
        for connection in self.connections:
            connection._shut()
        self._new.clear()

    def _each(self, direction: Directions) -> Iterator[Faulty]:
        self._turns.check()
        for one in each_direction(direction):
            yield self._to_come[one]
        for connection in self.connections:
            yield from connection._each(direction)

    # --- the address ------------------------------------------------------------------------------

    def _hold_ports(self) -> None:
        """Keeps others from the ports for the time in which nobody listens there.

        A socket that is bound and does not listen refuses, and SO_REUSEADDR lets a listening one
        be bound beside it (man 7 socket). A client that dials meanwhile cannot get the port for
        itself either, and so never meets itself.
        """
        for place in self._places:
            if place.is_inet:
                family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
                sock = _socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
                self._held_ports.append(sock)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((place.host, place.port))

    def _let_ports_go(self) -> None:
        held, self._held_ports = self._held_ports, []
        for sock in held:
            sock.close()

    # --- accepting --------------------------------------------------------------------------------

    def _watch(self) -> None:
        self._pause = None
        for listener in self._listeners:
            listener.watch_read(self._acceptable)

    def _stop_pause(self) -> None:
        if self._pause is not None:
            self._pause.stop()
            self._pause = None

    def _acceptable(self) -> None:
        try:
            for listener in self._listeners:
                self._accept(listener)
        except BaseException as error:  # gevent would stop the watcher without a word
            self._turns.failed(error)

    def _accept(self, listener: Listener | FifoListener) -> None:
        while True:
            try:
                client = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                logger.warning("%r: cannot accept: %s", self, error.strerror or error)
                for one in self._listeners:
                    one.unwatch_read()
                self._pause = self._pause or SYSTEM_CLOCK.call_later(_PAUSE, self._watch)
                return
            self.accepted += 1
            dialler = gevent.spawn(self._connect, client, self.accepted)
            dialler.name = f"dialler {self.accepted} of {self.address}"
            self._diallers[dialler] = client
            dialler.rawlink(self._diallers.pop)

    def _connect(self, client: StreamTransport, number: int) -> None:
        try:
            server = dial(self._target, self._connect_timeout)
        except EdgeventError as error:
            self.failed += 1
            logger.info("%r: connection %d: %s", self, number, error)
            _close(client, breaks=True)
            return
        connection = ProxyConnection(self, number, client, server)
        self._open[connection] = None
        self._new.append(connection)
        connection._start()
        self._waiters.wake()


def _without_tls(address: str | Address) -> tuple[Address, bool]:
    """Returns the address of the bytes below TLS, and whether there is TLS."""
    found = Address.parse(address)
    if found.is_datagram or found.scheme == "fd":
        raise AddressError(f"{str(found)!r}: a proxy needs an address of a stream")
    return replace(found, scheme=_PLAIN.get(found.scheme, found.scheme)), found.is_tls


def _listen(places: Sequence[Address]) -> list[Listener | FifoListener]:
    found: list[Listener | FifoListener] = []
    try:
        for place in places:
            found += listen(place)
    except BaseException:
        for listener in found:
            listener.close()
        raise
    return found


def _close(transport: StreamTransport, *, breaks: bool = False) -> None:
    if breaks:
        reset(transport)
        return
    try:
        transport.finish()
    except OSError as error:  # the other side has gone
        logger.debug("%r: %s", transport, error)
    transport.close()


def reset(transport: StreamTransport) -> None:
    """Closes so that the other side sees a reset, where the transport has one (man 7 socket)."""
    if isinstance(transport, SocketTransport) and transport.fileno() >= 0:
        sock = _socket.socket(fileno=transport.fileno())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        sock.detach()
    transport.close()
