"""TRACE_ON and TRACE_OFF: who may see what passes, and when it is shown."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any, Final

from ..allow import parse_allow
from ..answers import Peer
from ..dispatcher import Dispatcher
from ..errors import OptionError
from ..limits import SLOW_CONSUMER_TIMEOUT
from ..message import Message
from ..runtime.clock import SYSTEM_CLOCK, Alarm, Clock
from .relay import RelayedStream
from .router import Router
from .station import Station
from .tap import Tap
from .tracing import TraceFilter

logger = logging.getLogger("edgevent.communicatord")

MAX_TAPS: Final = 8
"""The most taps at a time."""
WHO: Final = "it needs the Unix socket, and the daemon's own user or the group of --trace-group"
"""Why others are refused."""

_INTERVAL: Final = 0.02
_SHARE: Final = 0.001  # of each interval so many seconds at the most are spent on all taps
_LAST: Final = 0.01  # the same at the end of a trace
_FOREVER: Final = 10 * 365 * 86_400.0


def watchers(group: str = "") -> Callable[[Peer], bool]:
    """Makes what says who may see what passes: this process's user, root, and those of a group.

    The kernel tells it, of the other side of a Unix socket.

    Args:
        group: The name or number of the group; none when it is empty.

    Raises:
        OptionError: There is no such group.
    """
    of_group = f", group:{group}" if group else ""
    return parse_allow("TRACE_ON", f"uid:{os.geteuid()}, uid:0{of_group}")


class Taps:
    """TRACE_ON and TRACE_OFF.

    Args:
        router: What passes it is shown; its ``on_seen`` is ``None`` while nobody asks for it.
        may_see: Says whether a peer may see what passes.
        clock: Says when waiting messages are shown.

    Attributes:
        taps: Those that are open.
        may_see: The same.
    """

    def __init__(
        self, router: Router, may_see: Callable[[Peer], bool], *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.router = router
        self.may_see = may_see
        self.taps: list[Tap] = []
        self._clock = clock
        self._alarm: Alarm | None = None
        router.on_changed.append(self._changed)
        router.on_undelivered.append(self._undelivered)

    def add_to(self, dispatcher: Dispatcher) -> None:
        """Adds the handlers to a table."""
        dispatcher.on("TRACE_ON")(self.trace_on)
        dispatcher.on("TRACE_OFF")(self.trace_off)

    # --- the handlers -----------------------------------------------------------------------------

    def trace_on(self, message: Message, peer: Any) -> Message | None:
        """A peer wants to be shown what passes."""
        refuse = self.router.reports.refuse_peer
        self._drop_ended()
        if not isinstance(peer, RelayedStream) or not self.may_see(peer):
            refuse(message, peer, WHO)
            return None
        globs = [one.strip() for one in message.get("globs", "").split(",") if one.strip()]
        values = message.boolean("values", True)
        try:
            chosen = TraceFilter(globs)
        except OptionError as error:
            refuse(message, peer, f"globs: {error}")
            return None
        if self._find(peer) is not None:
            refuse(message, peer, "this connection has a trace already")
            return None
        if len(self.taps) >= MAX_TAPS:
            refuse(message, peer, f"{MAX_TAPS} traces are open already")
            return None
        logger.info("%s: a trace begins", peer.name)
        # Whoever reads a page of it with a pager does nothing wrong, and makes nobody wait.
        peer.outbox.slow_timeout = _FOREVER
        self.taps.append(Tap(peer, self.router.server, chosen, values, self._wake))
        self._aim()
        return message.reply("TRACING", {"server": self.router.server})

    def trace_off(self, message: Message, peer: Peer) -> Message | None:
        """It has seen enough; of what still waits for it, some is shown before the answer."""
        tap = self._find(peer)
        if tap is None:
            self.router.reports.refuse_peer(message, peer, "this connection has no trace")
            return None
        self._remove(tap)
        tap.show(time.monotonic() + _LAST)
        tap.drop()
        tap.peer.outbox.slow_timeout = SLOW_CONSUMER_TIMEOUT
        return message.reply("TRACE_ENDED", {"shown": tap.shown, "missed": tap.missed})

    # --- what passes ------------------------------------------------------------------------------

    def _undelivered(self, message: Message, source: Station, why: str) -> None:
        if not self.taps:
            return
        if source.kind != "remote":  # it stands there as it came
            message = message.with_sender("", "")
        self._seen(source, None, message.to_line(), why)

    def _seen(self, source: Station, target: Station | None, lines: bytes, lost: str = "") -> None:
        for tap in self.taps:
            tap.take(source, target, lines, lost)

    def _aim(self) -> None:
        taps = self.taps
        self.router.on_seen = None if not taps else taps[0].take if len(taps) == 1 else self._seen

    def _wake(self) -> None:
        if self._alarm is None:
            self._alarm = self._clock.call_later(_INTERVAL, self._show)

    def _show(self) -> None:
        self._alarm = None
        try:
            self._drop_ended()
            ready = [tap for tap in self.taps if tap.has_room]
            for tap in ready:
                tap.show(time.monotonic() + _SHARE / len(ready))
            if any(tap.is_waiting for tap in self.taps):
                self._wake()
        except Exception:
            logger.exception("communicatord: all traces end")
            self.close()

    def _changed(self) -> None:
        for tap in self.taps:
            tap.forget_ways()

    def _find(self, peer: object) -> Tap | None:
        return next((tap for tap in self.taps if tap.peer is peer), None)

    def _drop_ended(self) -> None:
        for tap in [tap for tap in self.taps if tap.has_ended]:
            self._remove(tap)

    def _remove(self, tap: Tap) -> None:
        logger.info("%s: its trace ends", tap.peer.name)
        self.taps.remove(tap)
        self._aim()

    def close(self) -> None:
        """Ends all traces, without a word to those who see them. Idempotent."""
        self.taps.clear()
        self._aim()
        if self._alarm is not None:
            self._alarm.stop()
            self._alarm = None
