"""Signals as turns: of several numbers, with their sender if that is wanted."""

from __future__ import annotations

import itertools
import logging
import signal
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Final

from .. import limits
from ..arguments import check_callable, checks_arguments
from ..connection import Connection, Owner
from ..errors import UsageError
from ..runtime.signal_names import catchable, signal_name
from ..runtime.signals import ReceivedSignal, SignalWatch, check_main_thread
from ..runtime.turns import IDLE, RUNNING

logger = logging.getLogger("edgevent")

_FIRST_REAL_TIME: Final = int(signal.SIGRTMIN)
_Key = tuple[int, int | None, int | None, int]


@checks_arguments
class SignalSource(Connection):
    """Calls a function in a turn for each signal that comes, while it is in a communicator.

    The former disposition comes back when it is removed or closed. Several sources may wait for one
    signal, beside :meth:`Communicator.stop_on`; each is called.

    Several deliveries of one number that come before their turn are one call, as the kernel joins
    them too: there is at least one call after the last of them. With senders those of one sender
    are joined, and of real-time signals none, as long as the kernel's queue takes them
    (``RLIMIT_SIGPENDING``). A disabled source is called once it is enabled.

    Args:
        signals: A signal by name or number (see :func:`signal_number`), or several.
        callback: Called with a :class:`ReceivedSignal`; it may block, and what comes meanwhile
            waits. :meth:`process_signal` may be overridden instead.
        with_sender: Whether the pid and the uid of the sender are wanted. The signals are blocked
            in the main thread's mask then, and in those of threads that it starts afterwards;
            children start without that. A thread that was there before may get a signal first,
            and one may come while a child is being started: these are told without a sender.

    Attributes:
        dropped: How many signals were not told: 1,000 waited already, of a disabled source. (Of an
            enabled one the kernel keeps them.)

    Raises:
        UsageError: There is no such signal, it cannot be caught, there is nothing to call, or the
            thread is not the main one.
    """

    __slots__ = (
        "_callback",
        "_is_draining",
        "_numbers",
        "_pending",
        "_serials",
        "_watches",
        "dropped",
        "with_sender",
    )

    def __init__(
        self,
        signals: str | int | Iterable[str | int],
        callback: Callable[[ReceivedSignal], Any] | None = None,
        *,
        with_sender: bool = False,
        name: str = "",
        priority: int = limits.DEFAULT_PRIORITY,
        keep_running: bool = True,
    ) -> None:
        super().__init__(name=name, priority=priority, keep_running=keep_running)
        check_main_thread()
        wanted = [signals] if isinstance(signals, str | int) else signals
        self._numbers = tuple(dict.fromkeys(catchable(one) for one in wanted))
        if not self._numbers:
            raise UsageError(f"{self.name}: a signal was expected, and none was given")
        overridden = type(self).process_signal is not SignalSource.process_signal
        if callback is not None or not overridden:
            check_callable(callback, self.name, ("signal",))
        self._callback = callback
        self.with_sender = with_sender
        self.dropped = 0
        self._is_draining = False
        self._watches: tuple[SignalWatch, ...] = ()
        self._pending: dict[_Key, ReceivedSignal] = {}
        self._serials = itertools.count(1)

    @property
    def signals(self) -> tuple[str, ...]:
        """The names of the signals."""
        return tuple(map(signal_name, self._numbers))

    def process_signal(self, received: ReceivedSignal) -> None:
        """Called in a turn for each signal; calls the callback."""
        if self._callback is not None:
            self._callback(received)

    def _state(self) -> str:
        return f"{super()._state()} {', '.join(self.signals)}"

    # --- with the communicator --------------------------------------------------------------------

    def attach(self, communicator: Owner) -> None:
        """Called by the communicator: catches the signals from now on."""
        watches: list[SignalWatch] = []
        try:
            for number in self._numbers:
                watches.append(SignalWatch(number, self._came, with_sender=self.with_sender))
        except BaseException:
            for watch in watches:
                watch.stop()
            communicator.remove_connection(self)
            raise
        self._watches = tuple(watches)
        super().attach(communicator)

    def detach(self) -> None:
        """Called by the communicator: brings back what the signals did before."""
        super().detach()
        self._stop_watches()

    def drain(self) -> bool:
        """Begins to end because of ``stop``: what has come is told first."""
        if self._closed or not (self._pending or self.ticket == RUNNING) or not self._enabled:
            return super().drain()
        self._is_draining = True
        self._stop_alarms()
        return False

    def _stop_watches(self) -> None:
        watches, self._watches = self._watches, ()
        for watch in watches:
            watch.stop()
        self._pending.clear()

    def _enabled_changed(self, enabled: bool) -> None:
        if not enabled:
            self._pause(False)  # what is full already must not keep signals from other sources

    def _pause(self, paused: bool) -> None:
        for watch in self._watches:
            watch.pause(paused)

    def _came(self, received: ReceivedSignal) -> None:
        pending, number = self._pending, received.number
        if len(pending) >= limits.MAX_PENDING_SIGNALS:
            if not self._enabled:
                self._drop(received)
                return
            self._pause(True)
        serial = 0
        if self.with_sender and number >= _FIRST_REAL_TIME:
            serial = next(self._serials)
        pending.setdefault((number, received.pid, received.uid, serial), received)
        self._catch_up()

    def _drop(self, received: ReceivedSignal) -> None:
        self.dropped += 1
        if self.dropped & (self.dropped - 1) == 0:  # the 1st, 2nd, 4th, 8th ...
            logger.warning(
                "%s: %s is dropped, %d wait until it is enabled: the %d. that was dropped",
                *(self.name, received.name, len(self._pending), self.dropped),
            )

    # --- turns ------------------------------------------------------------------------------------

    def _is_due(self) -> bool:
        return bool(self._due or self._pending)

    def _work(self) -> None:
        pending, communicator = self._pending, self._communicator
        count, began = 0, monotonic()
        while pending and self._enabled and self._communicator is communicator:
            received = pending.pop(next(iter(pending)))
            if len(pending) == limits.MAX_PENDING_SIGNALS // 2:
                self._pause(False)
            self.call_hook(self.process_signal, received)
            count += 1
            spent = monotonic() - began
            if count >= self.event_limit and self._others_wait(spent):
                break
            if spent > self.processing_time_limit:
                break
        super()._work()

    def _others_wait(self, spent: float) -> bool:
        communicator = self._communicator
        if communicator is None or spent > limits.SOLE_TURN_TIME:
            return True
        turns = communicator.turns
        return bool(turns.ready or turns.granted)

    def _end_turn(self) -> None:
        if self._is_draining and not self._pending:
            self.ticket = IDLE
            self.close()
            return
        super()._end_turn()
