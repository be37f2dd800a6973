"""A peer that says what a test tells it to, and fails the test unless it hears what it expects."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Mapping
from time import monotonic
from types import TracebackType
from typing import Final, NoReturn

from gevent import socket

from ..address import Address
from ..errors import ConnectionLostError, MessageError, UsageError
from ..message import Message
from ..tls import TlsOptions
from .clock import settle
from .expecting import Wanted, meets, shown
from .wires import Entrance, Wire
from .wires import dial as dial_wire

WITHIN: Final = 5.0
"""For so many seconds is waited for what is expected, if nothing else is said."""

_LAST_WORDS: Final = 50  # lines of the conversation that a failure shows
_SHOWN: Final = 200  # characters of each


class ScriptedPeer:
    """One side of a conversation, on plain sockets, which does what the test says.

    It listens, and speaks with whoever has come last: the first call that needs somebody waits for
    one, and after :meth:`close` or :meth:`cut` the next one. Or it dials. It works in the test's
    own process: what waits blocks the calling greenlet alone, and servers and links of the test go
    on meanwhile. Programs that are not of this package, and blocking code, find it just as well:
    the kernel keeps their connections and messages until the test looks.

    Args:
        listen: Where it listens; port 0 is a free one. Of any kind: a stream, encrypted or not,
            ``unixseq:``, a FIFO, or datagrams.
        dial: Where it connects to, in place of that.
        tls: Its certificate and whom it trusts, for addresses of TLS.
        within: How many seconds it waits for what is expected.

    Raises:
        OSError: It cannot listen, or connect.
        UsageError: An address of TLS without ``tls``.

    Attributes:
        address: What others dial, or what it has dialled.

    Example:
        >>> with ScriptedPeer() as peer, Client(peer.address) as client:
        ...     client.send(Message("ADD", {"a": 2, "b": 3}))
        ...     add = peer.expect("ADD a=2;b=*", within=1.0)
        ...     peer.send(add.reply("SUM", {"value": 5}))
    """

    def __init__(
        self,
        listen: str | Address = "tcp://127.0.0.1:0",
        *,
        dial: str | Address | None = None,
        tls: TlsOptions | None = None,
        within: float = WITHIN,
    ) -> None:
        place = Address.parse(listen if dial is None else dial)
        if place.is_tls and tls is None:
            raise UsageError(f"{str(place)!r}: tls= is needed: certificates, or whom to trust")
        self._within = within
        self._tls = tls if place.is_tls else None
        self._is_datagram = place.is_datagram
        self._said: deque[str] = deque(maxlen=_LAST_WORDS)
        self._began = monotonic()
        self._wire: Wire | None = None
        self._read = b""
        self._entrance: Entrance | None = None
        if dial is None:
            self._entrance = Entrance(place, self._tls)
            self.address = self._entrance.address
            if self._is_datagram:
                self._wire = self._entrance.accept(within)
        else:
            self.address = str(place)
            self._wire = dial_wire(place, self._tls, within)
            self._note("**", "connected")

    # --- connections ------------------------------------------------------------------------------

    @property
    def sock(self) -> socket.socket:
        """The socket of the connection (of ``gevent.socket``), for what has no call here.

        Raises:
            UsageError: Nobody is connected, or over a FIFO.
        """
        found: socket.socket | None = getattr(self._wire, "sock", None)
        if found is None:
            raise UsageError(f"{self.address}: there is no connection with a socket")
        return found

    @property
    def conversation(self) -> str:
        """What was said so far, a line each, with seconds since the beginning."""
        return "\n".join(self._said) or "(nothing)"

    def accept(self, *, within: float | None = None) -> None:
        """Waits for the next one to connect, and ends the connection before.

        Those who open a FIFO are seen when they first write. Datagrams have nobody to wait for.

        Raises:
            AssertionError: Nobody has come in time, or its TLS handshake has failed.
        """
        __tracebackhide__ = True
        if self._is_datagram and self._entrance is not None:
            return
        self.close()
        limit = self._within if within is None else within
        try:
            self._let_in(limit)
        except TimeoutError:
            self._fail("somebody to connect", f"nobody did within {limit:g} s")
        except OSError as error:
            self._fail("somebody to connect", str(error))

    def expect_nobody(self, *, within: float = 0.1) -> None:
        """Ends the connection before, and fails when somebody connects.

        Args:
            within: For how many seconds it listens; 0 is as in :meth:`expect_nothing`.

        Raises:
            AssertionError: Somebody has connected.
        """
        __tracebackhide__ = True
        self.close()
        if within <= 0.0:
            settle()
        try:
            self._let_in(within)
        except TimeoutError:
            return
        except OSError as error:
            self._fail("nobody to connect", f"somebody did: {error}")
        self._fail("nobody to connect", "somebody did")

    def close(self) -> None:
        """Ends the connection in good order. It goes on to listen. Idempotent."""
        self._end("closed", cut=False)

    def cut(self) -> None:
        """Breaks the connection off: a reset over TCP, no end mark of TLS. It goes on to listen."""
        self._end("cut", cut=True)

    def half_close(self) -> None:
        """Lets the other side see the end of the stream, and goes on to listen to it."""
        self._connection().half_close()
        self._note("->", "(end)")

    def stop_listening(self) -> None:
        """Refuses all that come from now on; the connection stays. Idempotent.

        A Unix socket stays in its folder, as that of a program that was killed; another scripted
        peer may listen there.
        """
        if self._entrance is not None:
            self._entrance.close()

    # --- talk -------------------------------------------------------------------------------------

    def send(self, *messages: str | Message | bytes) -> None:
        """Sends messages, or lines, all at once; bytes leave as they are, without a newline.

        Raises:
            AssertionError: The other side has gone, or takes nothing.
        """
        __tracebackhide__ = True
        wire = self._connection()
        units = [one if isinstance(one, bytes) else str(one).encode() for one in messages]
        for one, unit in zip(messages, units, strict=True):
            self._note("->", repr(unit) if isinstance(one, bytes) else str(one))
        if not wire.keeps_records:
            ends = ("" if isinstance(one, bytes) else "\n" for one in messages)
            pairs = zip(units, ends, strict=True)
            units = [b"".join(unit + end.encode() for unit, end in pairs)]
        try:
            for unit in units:
                wire.send(unit, self._within)
        except TimeoutError:
            self._fail("to send", f"the other side takes nothing for {self._within:g} s")
        except OSError as error:
            self._fail("to send", f"the other side has gone: {_reason(error)}")

    def expect(
        self,
        wanted: Wanted = "*",
        parameters: Mapping[str, object] | None = None,
        *,
        within: float | None = None,
        skip: bool = False,
    ) -> Message:
        """Waits for the next message, which must be what is wanted, and returns it.

        Args:
            wanted: A text (``ADD``, ``ADD a=2;b=*``), an expression, a mapping of parameters or a
                function; see :func:`~edgevent.testing.expecting.meets`.
            parameters: Parameters that it must have as well.
            within: How many seconds it may take.
            skip: Whether others may come before it; they are passed over.

        Raises:
            AssertionError: Another message has come, or none in time; it shows the conversation.
        """
        __tracebackhide__ = True
        limit = self._within if within is None else within
        what = shown(wanted) + (f" with {dict(parameters)}" if parameters else "")
        end = monotonic() + limit
        while True:
            line = self._line(what, max(end - monotonic(), 0.0), limit)
            try:
                message = Message.parse(line)
            except MessageError as error:
                self._fail(what, f"a line has come that is no message: {error}")
            if meets(message, wanted) and meets(message, parameters or {}):
                return message
            if not skip:
                self._fail(what, f"this has come: {_short(str(message))}")

    def read_line(self, *, within: float | None = None) -> str:
        """Waits for the next line, and returns it without its newline; any text will do.

        Raises:
            AssertionError: None has come in time, or the stream has ended.
        """
        __tracebackhide__ = True
        limit = self._within if within is None else within
        return self._line("a line", limit, limit).decode("utf-8", "surrogateescape")

    def expect_nothing(self, *, within: float = 0.1) -> None:
        """Fails when anything comes, the end of the connection included.

        Args:
            within: For how many seconds it listens. With 0 it looks once nothing is left to be
                done in this thread, which takes no time, and is enough when all that speaks is in
                this process.

        Raises:
            AssertionError: Something has come.
        """
        __tracebackhide__ = True
        if within <= 0.0:
            settle()
        data = self._read
        if not data:
            end = monotonic() + within
            try:
                if self._wire is None:
                    self._let_in(within)
                data = self._connection().receive(max(end - monotonic(), 0.0))
            except TimeoutError:
                return
            except OSError as error:
                self._fail("nothing", f"the connection was broken off: {_reason(error)}")
        self._read = data
        self._note("<-", _short(data.decode("utf-8", "backslashreplace").strip()) or "(end)")
        self._fail("nothing", "something has come" if data else "the connection has ended")

    def expect_end(self, *, within: float | None = None) -> str:
        """Waits until the other side has ended the connection.

        Returns:
            How: ``closed``, in good order; or ``cut``: by a reset, or without the end mark of TLS.

        Raises:
            AssertionError: A message has come in place of it, or nothing in time.
        """
        __tracebackhide__ = True
        if self._is_datagram:
            raise UsageError("datagrams have no end that could be expected")
        limit = self._within if within is None else within
        how = "closed"
        if not self._read:
            try:
                self._read = self._connection(limit).receive(limit)
            except TimeoutError:
                self._fail("the end", f"nothing has come within {limit:g} s")
            except OSError:
                how = "cut"
        if self._read:
            self._fail("the end", f"this has come: {_short(repr(self._read))}")
        self._note("<-", f"({how})")
        self.close()
        return how

    # --- inside -----------------------------------------------------------------------------------

    def __enter__(self) -> ScriptedPeer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        state = "connected" if self._wire is not None else "alone"
        return f"<ScriptedPeer {self.address} {state}>"

    def release(self) -> None:
        """Ends the connection and stops to listen; a ``with`` does it at its end. Idempotent."""
        self.close()
        self.stop_listening()
        if self._is_datagram and self._wire is not None:
            self._wire.close()

    def _connection(self, within: float | None = None) -> Wire:
        __tracebackhide__ = True
        if self._wire is None:
            self._check_entrance()
            self.accept(within=within)
        assert self._wire is not None
        return self._wire

    def _check_entrance(self) -> Entrance:
        if self._entrance is None:
            raise UsageError(f"{self.address}: this peer dials, and lets nobody in")
        if not self._entrance.is_open:
            raise UsageError(f"{self.address}: this peer has stopped to listen")
        return self._entrance

    def _let_in(self, within: float) -> None:
        """Waits for the next one; raises ``TimeoutError``, or ``OSError`` when TLS fails."""
        self._wire = self._check_entrance().accept(within)
        self._read = b""
        self._note("**", "connected")

    def _end(self, how: str, *, cut: bool) -> None:
        if self._is_datagram and self._entrance is not None:
            return  # its socket is where it listens
        wire, self._wire = self._wire, None
        if wire is not None:
            (wire.cut if cut else wire.close)()
            self._note("**", f"{how} by this peer")

    def _line(self, what: str, within: float, limit: float) -> bytes:
        __tracebackhide__ = True
        end = monotonic() + within
        wire = self._connection(within)
        while b"\n" not in self._read:
            try:
                data = wire.receive(max(end - monotonic(), 0.0))
            except TimeoutError:
                came = f", but the half of a line: {self._read!r}" if self._read else ""
                self._fail(what, f"nothing has come within {limit:g} s{came}")
            except OSError as error:
                self._fail(what, f"the connection was broken off: {_reason(error)}")
            if not data:
                self._note("<-", "(end)")
                came = f" after {self._read!r}" if self._read else ""
                self._fail(what, f"the connection has ended{came}")
            # The end of a record is that of a message.
            self._read += data.rstrip(b"\n") + b"\n" if wire.keeps_records else data
        line, _, self._read = self._read.partition(b"\n")
        self._note("<-", line.decode("utf-8", "backslashreplace"))
        return line

    def _note(self, sign: str, text: str) -> None:
        self._said.append(f"  {monotonic() - self._began:7.3f} {sign} {_short(text)}")

    def _fail(self, what: str, why: str) -> NoReturn:
        __tracebackhide__ = True
        raise AssertionError(
            f"{self.address}: expected {what}, but {why}; the conversation so far:\n"
            f"{self.conversation}"
        ) from None


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, ConnectionLostError):
        return error.strerror or errno.errorcode.get(error.errno or 0, str(error))
    return str(error)
