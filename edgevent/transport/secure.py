"""TLS over any byte transport: encrypted below, plain above."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final

import gevent

from ..errors import ConnectionLostError, HandshakeError, TruncatedError
from ..limits import JOIN_BYTES, READ_BYTES
from ..runtime.guards import REGISTRY
from ..tls_session import RECORD_BYTES, TlsSession
from .base import Credentials, StreamTransport, drop_input

logger = logging.getLogger("edgevent")

# So much waits for a peer that does not read, at the most: what was offered, and answers of TLS.
_MOST_PENDING: Final = 2 * JOIN_BYTES


class TlsTransport:
    """A byte transport that encrypts what it is given, and decrypts what comes.

    It is the one writer of what is below, which it owns from now on. Bytes that :meth:`transmit`
    has refused with ``BlockingIOError`` may be encrypted already: they are to be offered again,
    before all others.

    Args:
        below: A connected transport.
        session: A new conversation.
    """

    __slots__ = (
        "_awaits_word",
        "_gone",
        "_has_finished",
        "_has_heard",
        "_on_read",
        "_on_write",
        "_owed",
        "_pending",
        "_plain",
        "_poll",
        "_polls",
        "_transmit",
        "below",
        "session",
    )

    keeps_records = False
    is_datagram = False

    def __init__(self, below: StreamTransport, session: TlsSession) -> None:
        self.below = below
        self.session = session
        self._transmit = below.transmit
        self._on_read: Callable[[], object] | None = None
        self._on_write: Callable[[], object] | None = None
        self._pending: memoryview | None = None  # encrypted bytes that have not left
        # Of each record of which some are pending: its size, and how many plain bytes it is.
        self._owed: list[tuple[int, int]] = []
        self._gone = 0  # how many bytes of the first of them have left
        self._plain = b""  # what was decrypted beyond the size that was asked for
        self._polls = True  # whether there may be something to receive that no poll tells of
        self._poll: Any = None
        self._has_finished = False
        self._has_heard = False  # whether something has come after the handshake
        self._awaits_word = False  # whether the end waits for that

    def __repr__(self) -> str:
        return f"<TlsTransport over {self.below!r}>"

    def fileno(self) -> int:
        """The descriptor below, or -1 when it is closed or there is none."""
        found: int = getattr(self.below, "fileno", lambda: -1)()
        return found

    @property
    def peer(self) -> str:
        """The other side's address, with the scheme of TLS."""
        return with_tls(self.below.peer)

    @property
    def local(self) -> str:
        """This side's address, with the scheme of TLS."""
        return with_tls(self.below.local)

    @property
    def is_local(self) -> bool:
        """Whether the other side is a process of this machine, for certain."""
        return self.below.is_local

    @property
    def credentials(self) -> Credentials | None:
        """The other side's process and user, where the kernel tells."""
        return self.below.credentials

    # --- the handshake ----------------------------------------------------------------------------

    @property
    def must_write(self) -> bool:
        """Whether encrypted bytes wait until the transport below takes them."""
        return self._pending is not None

    def shake_hands(self) -> bool:
        """Goes on with the handshake; returns whether it is done.

        If not, it is to be called again when the transport below can be read, or written to while
        :attr:`must_write`. A step takes up to a millisecond of the processor's time.

        Raises:
            HandshakeError: It failed, or the other side went away.
        """
        session = self.session
        try:
            while True:
                self._push()
                if self._pending is not None:
                    return False
                if session.is_ready:
                    return True
                try:
                    session.handshake()
                except HandshakeError:
                    self._answer()  # the alert that tells the other side why
                    raise
                self._hold(session.take())
                self._push()
                if not session.is_ready and self._pending is None:
                    data = self.below.receive(READ_BYTES)
                    if not data:
                        raise session.ended_early()
                    session.feed(data)
        except BlockingIOError:
            return False
        except HandshakeError:
            raise
        except OSError as error:
            text = f"{self.peer}: the connection broke during the TLS handshake"
            raise HandshakeError(f"{text}: {error.strerror or error}", error.errno) from error

    # --- receiving --------------------------------------------------------------------------------

    def receive(self, size: int) -> bytes:
        """Returns plain bytes, ``size`` at the most; ``b""`` after the other side's end mark.

        Raises:
            BlockingIOError: Nothing is there.
            TruncatedError: The stream ended without an end mark.
            ConnectionLostError: What came is corrupt, or the other side has failed.
        """
        session = self.session
        if self._polls:
            if self._plain:
                plain, self._plain = self._plain, b""
                return self._cut(plain, size)
            if session.has_ended:
                return b""
            self._polls = False
            plain = self._decrypt(b"")  # there may be something that came with the handshake
            if plain or session.has_ended or session.failure:
                return self._cut(plain, size)
        data = self.below.receive(READ_BYTES)
        if not data:
            raise TruncatedError(f"{self.peer}: the stream was cut off, without an end mark")
        self._has_heard = True
        plain = self._decrypt(data)
        if plain and len(plain) <= size and not session.has_news:
            return plain
        return self._cut(plain, size)

    def _decrypt(self, data: bytes) -> bytes:
        try:
            return self.session.decrypt(data)
        except ConnectionLostError:
            self._answer()  # the alert that tells the other side
            raise

    def _answer(self) -> None:
        """Sends what OpenSSL has to say of its own: an alert, as that against a renegotiation."""
        is_first = self._pending is None
        self._hold(self.session.take())
        if is_first:  # else it leaves behind what the outbox has offered, and will offer again
            with contextlib.suppress(OSError):  # the other side has gone, which is told elsewhere
                self._push()

    def _cut(self, plain: bytes, size: int) -> bytes:
        session = self.session
        if session.has_news:
            session.has_news = bool(session.has_ended or session.failure)
            self._answer()
        if not plain and not session.has_ended:
            raise BlockingIOError
        self._plain = plain[size:]
        self._polls = True
        self._arm()
        return plain[:size]

    def watch_read(self, callback: Callable[[], object]) -> None:
        """Calls back in the hub while there is something to receive."""
        self._on_read = callback
        self.below.watch_read(callback)
        self._arm()

    def unwatch_read(self) -> None:
        """Ends it."""
        self._on_read = None
        self.below.unwatch_read()

    def _arm(self) -> None:
        """Calls back soon for what is here already: the transport below has nothing to tell."""
        if self._polls and self._on_read is not None and self._poll is None:
            REGISTRY.descriptors.add(self)
            self._poll = gevent.get_hub().loop.timer(0.0)
            self._poll.start(self._call)

    def _call(self) -> None:
        self._stop_poll()
        callback = self._on_read
        if callback is not None and self._polls:
            callback()
            self._arm()

    def _stop_poll(self) -> None:
        poll, self._poll = self._poll, None
        if poll is not None:
            REGISTRY.descriptors.discard(self)
            poll.close()

    # --- sending ----------------------------------------------------------------------------------

    def transmit(self, data: bytes | memoryview) -> int:
        """Encrypts bytes and sends them; returns how many are in records that have left whole.

        Raises:
            BlockingIOError: None are. The same bytes are to be offered again, before others.
            ConnectionLostError: This side has said that nothing more comes.
        """
        if self._pending is not None:
            whole = self._push()
            if whole:
                return whole
            if self._pending is not None:
                raise BlockingIOError
        size = len(data)
        if not size:
            return 0
        session = self.session
        if size <= RECORD_BYTES:
            record = session.encrypt(data)
            try:
                sent = self._transmit(record)
            except BlockingIOError:
                sent = 0
            if sent == len(record):
                return size
            self._owed.append((len(record), size))
            self._pending = memoryview(record)[sent:]
            self._gone = sent
            raise BlockingIOError
        view = memoryview(data)[:JOIN_BYTES]
        records = []
        for at in range(0, len(view), RECORD_BYTES):
            part = view[at : at + RECORD_BYTES]
            record = session.encrypt(part)
            records.append(record)
            self._owed.append((len(record), len(part)))
        self._pending = memoryview(b"".join(records))
        whole = self._push()
        if not whole:
            raise BlockingIOError
        return whole

    def _hold(self, data: bytes) -> None:
        """Puts what OpenSSL has to say of its own behind what is pending."""
        if data:
            pending = b"" if self._pending is None else bytes(self._pending)
            if len(pending) > _MOST_PENDING:
                raise ConnectionLostError(
                    f"{self.peer}: it reads nothing, and asks for ever more answers of TLS"
                )
            self._pending = memoryview(pending + data)
            self._owed.append((len(data), 0))

    def _push(self) -> int:
        """Sends what is pending; returns how many plain bytes have left in whole records."""
        pending = self._pending
        if pending is None:
            return 0
        try:
            sent = self._transmit(pending)
        except BlockingIOError:
            return 0
        self._pending = pending[sent:] if sent < len(pending) else None
        whole, gone, owed = 0, self._gone + sent, self._owed
        while owed and gone >= owed[0][0]:
            size, plain = owed.pop(0)
            gone -= size
            whole += plain
        self._gone = gone
        return whole

    def watch_write(self, callback: Callable[[], object]) -> None:
        """Calls back in the hub while something can be transmitted."""
        self._on_write = callback
        if self._awaits_word:
            self.below.watch_read(callback)
        else:
            self.below.watch_write(callback)

    def unwatch_write(self) -> None:
        """Ends it."""
        self._on_write = None
        self.below.unwatch_write()
        if self._awaits_word:
            self.below.unwatch_read()

    # --- the end ----------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """How many encrypted bytes the kernel has taken and the peer has not."""
        return self.below.in_flight

    def finish(self) -> None:
        """Says that nothing more comes from this side (``close_notify``).

        A client waits for the first word of its server too: the session tickets of TLS 1.3, which
        the server sends as soon as it has accepted the client. They would meet a socket that is
        closed, which resets the connection, and what the kernel still holds would be lost.

        Raises:
            BlockingIOError: There is no room for that yet, or no word has come.
        """
        self._say_end()
        if not self._has_heard and self.session.awaits_tickets:
            self._await_word()
        drop_input(self)

    def _await_word(self) -> None:
        try:
            self.receive(READ_BYTES)
        except BlockingIOError:
            if not self._has_heard:
                if not self._awaits_word:
                    self._awaits_word = True
                    self.below.unwatch_write()
                    if self._on_write is not None:
                        self.below.watch_read(self._on_write)
                raise
        except OSError as error:  # it does not accept this side's certificate, as a rule
            logger.warning("what was sent last may be lost: %s", error)

    def _say_end(self) -> None:
        if not self._has_finished and self.session.is_ready:
            self._has_finished = True
            self.session.end()
            self._hold(self.session.take())
        self._push()
        if self._pending is not None:
            raise BlockingIOError

    def shutdown_write(self) -> None:
        """Lets the other side see the end of the stream; this side can still receive."""
        try:
            self._say_end()
        except BlockingIOError:
            self.below.watch_write(self._push_alone)
        except OSError:
            return  # the other side has gone, which is more than an end

    def _push_alone(self) -> None:
        try:
            self._push()
        except OSError:
            self._pending = None  # the other side has gone
        if self._pending is None:
            self.below.unwatch_write()

    def close(self) -> None:
        """Releases everything. Idempotent.

        Without :meth:`finish` before it, the other side is told that the stream was cut off.
        """
        self.session.release()
        self.abandon()
        self._plain = b""
        self.below.close()

    def abandon(self) -> None:
        """What is here already is not received in a forked child."""
        self._on_read = self._on_write = None
        self._stop_poll()
        self._polls = False


def with_tls(address: str) -> str:
    """Gives the text of an address the scheme of TLS."""
    if address.startswith("tcp:"):
        return f"tls:{address[4:]}"
    return f"tls+{address}"
