"""Accepting: who waits is let in, as far as there is room and the peer is admitted."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from .. import limits
from ..conditions import Conditions
from ..connection import Connection
from ..errors import HandshakeError
from ..runtime.clock import Alarm
from ..runtime.turns import IDLE, Turns
from ..tls import TlsOptions
from ..tls_session import TlsSession
from ..transport.base import StreamTransport
from ..transport.fifo_listen import FifoListener, FifoSession
from ..transport.listen import Listener
from ..transport.secure import TlsTransport, with_tls
from ..transport.stream import SocketTransport
from .admission import Admission
from .greeting import Greeting
from .reserve import first_held_back, has_descriptor, is_peer_gone
from .stream import BaseStream

logger = logging.getLogger("edgevent")

_ACCEPT: Final = 32


class Accepting(Connection):
    """The part of a server that takes peers out of the queue, and lets them shake hands."""

    __slots__ = (
        "_admission",
        "_conditions",
        "_full",
        "_greetings",
        "_listeners",
        "_pause",
        "_peers",
        "_tls",
        "_turns",
        "_waits",
        "counts",
        "max_connections",
    )

    _admission: Admission | None
    _conditions: Conditions
    _full: bool  # whether somebody waits for a peer to leave
    _greetings: set[Greeting]
    _listeners: Sequence[Listener | FifoListener]
    _pause: Alarm | None
    _peers: set[BaseStream[Any]]
    _tls: TlsOptions | None
    _turns: Turns
    _waits: int  # how many pauses there were without a peer between them
    counts: Counter[str]
    max_connections: int

    def welcome(self, transport: StreamTransport) -> None:
        """Called in a turn with each peer that is let in."""
        raise NotImplementedError

    def accept_waiting(self) -> None:
        """Accepts those who wait in the queue, as far as that is possible: a close resets them."""
        for _ in range(limits.BACKLOG):  # who is refused may come again, and again
            before = self.counts.total()
            self._accept_all()
            if before == self.counts.total():
                break

    def _owning_turns(self) -> Turns:
        return self._turns

    # --- accepting --------------------------------------------------------------------------------

    def _enabled_changed(self, enabled: bool) -> None:
        if self._pause is not None:
            self._pause.stop()
            self._pause = None
        if enabled:
            self._watch()
        else:
            self._unwatch()

    def _acceptable(self) -> None:
        self._due |= _ACCEPT
        if self.ticket == IDLE:
            self._turns.event(self)
        else:  # a hook of this server blocks: looking again and again would only burn CPU
            self._unwatch()

    def _watch(self) -> None:
        for listener in self._listeners:
            listener.watch_read(self._acceptable)

    def _unwatch(self) -> None:
        for listener in self._listeners:
            listener.unwatch_read()

    def _is_listening(self) -> bool:
        return self._enabled and not self._closed and self._communicator is not None

    def _work(self) -> None:
        if self._due & _ACCEPT:
            self._due &= ~_ACCEPT
            if self._pause is None and self._accept_all() and self._is_listening():
                self._watch()
            else:
                self._unwatch()
        super()._work()

    def _accept_all(self) -> bool:
        """Accepts those who wait; returns whether the listeners are to be watched again."""
        return all(self._accept_from(listener) for listener in self._listeners)

    def _accept_from(self, listener: Listener | FifoListener) -> bool:
        lost = ""
        last, held_back = -1, first_held_back()
        for _ in range(limits.ACCEPTS_PER_TURN):
            if self._pause is not None or not self._is_listening():
                return False  # a hook may have closed this server
            if len(self._peers) + len(self._greetings) >= self.max_connections:
                self._full = True  # goes on when a peer leaves
                self._say("full", f"{self.max_connections} peers are the most, others wait")
                return False
            try:
                # The first of a row is looked at, and then those near the limit: a look costs as
                # much as all else that accepting one does.
                near = last < 0 or last + 1 >= held_back
                if near and not has_descriptor(listener.fileno(), held_back):
                    self._wait("the last descriptors are held back")
                    return False
                transport = listener.accept()
            except BlockingIOError:
                return True
            except OSError as error:
                lost = error.strerror or str(error)
                if not is_peer_gone(error):
                    self._wait(lost)
                    return False
                self.counts["lost"] += 1
            else:
                self._waits = 0
                lost = ""
                last = transport.fileno()
                self._take(transport)
        if lost:
            self._wait(lost)
        return not lost

    def _wait(self, reason: str) -> None:
        """Leaves peers in the queue for a while."""
        assert self._communicator is not None
        pause = limits.ACCEPT_PAUSES[min(self._waits, len(limits.ACCEPT_PAUSES) - 1)]
        self._waits += 1
        self._say("accept", f"cannot accept: {reason}")
        self._pause = self._communicator.clock.call_later(pause, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        if self._is_listening():
            self._watch()

    def _say(self, what: str, text: str) -> None:
        """Logs a condition that may last, once a minute."""
        assert self._communicator is not None
        self._conditions.say(self._communicator.clock.now(), what, f"{self.name}: {text}")

    def _take(self, transport: SocketTransport | FifoSession) -> None:
        if self._admission is not None and not self._admission.admits(transport):
            self.counts["refused"] += 1
            found = transport.credentials
            self._say("refused", f"refused {transport.peer}: {found} is not allowed")
            transport.close()
            return
        self.counts["accepted"] += 1
        if self._tls is None:
            self.welcome(transport)
        else:
            self._greet(transport, self._tls)

    def _greet(self, transport: StreamTransport, options: TlsOptions) -> None:
        """The peer has a connection once it has shaken hands."""
        assert self._communicator is not None
        session = TlsSession(options, with_tls(transport.peer), server_side=True)
        greeting = Greeting(
            TlsTransport(transport, session),
            self._turns,
            self._communicator.clock,
            options.handshake_timeout,
            self.name,
            self.priority,
            self._greeting_failed,
            self._greeted,
        )
        self._greetings.add(greeting)

    def _greeting_failed(self, greeting: Greeting, error: HandshakeError) -> None:
        self.counts["lost"] += 1
        if self._communicator is not None:
            host = greeting.peer.rpartition(":")[0]
            self._say(f"greeting {host}", f"no TLS with {error}")

    def _greeted(self, greeting: Greeting, transport: TlsTransport | None) -> None:
        self._greetings.discard(greeting)
        if transport is not None:
            if self._communicator is None:
                transport.close()
            else:
                self.welcome(transport)
        self._has_room()

    def _has_room(self) -> None:
        if self._full and len(self._peers) + len(self._greetings) < self.max_connections:
            self._full = False
            if self._pause is None:
                self._go_on()

    # --- the end ----------------------------------------------------------------------------------

    def drain(self) -> bool:
        """Closes at once, in the middle of a turn too: nobody is accepted any more."""
        self.close()
        return True

    def _release(self) -> bool:
        if self._pause is not None:
            self._pause.stop()
            self._pause = None
        for listener in self._listeners:
            listener.close()
        self._listeners = []
        for greeting in tuple(self._greetings):
            greeting.close()
        return True
