"""POSIX signals as calls in the hub, never inside the C handler."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import gevent

from ..errors import UsageError


def signal_number(name: str | int) -> int:
    """Returns the number of a signal, given by name (with or without ``SIG``) or number.

    Raises:
        UsageError: There is no such signal, or it cannot be caught.
    """
    number: int | None = None
    if isinstance(name, str):
        text = name.upper()
        found = signal.Signals.__members__.get(text if text.startswith("SIG") else f"SIG{text}")
        number = None if found is None else int(found)
    elif name in signal.valid_signals():
        number = int(name)
    if number is None:
        raise UsageError(f"{name!r} is no signal: a name such as SIGTERM was expected")
    if number in (signal.SIGKILL, signal.SIGSTOP):
        raise UsageError(f"{signal.Signals(number).name} cannot be caught")
    if number == signal.SIGCHLD:
        raise UsageError("SIGCHLD belongs to the loop, which tells of the end of children")
    return number


class _Delivery:
    """What all watches of one signal share: the loop's watcher, and what there was before."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.watches: dict[SignalWatch, None] = {}
        self.former = signal.getsignal(number)
        # Not referenced: a program with nothing but signals to wait for has nothing to wait for.
        self._watcher: Any = gevent.get_hub().loop.signal(number, ref=False)
        self._watcher.start(self._deliver)

    def _deliver(self) -> None:
        for watch in tuple(self.watches):
            watch.callback(self.number)

    def stop(self) -> None:
        """Lets go of the signal and brings its former disposition back."""
        self._watcher.close()
        # libev leaves SIG_DFL behind when its last watcher of a signal stops, whatever there was
        # before. None stands for a handler of C, which Python cannot bring back.
        if self.former is not None:
            signal.signal(self.number, self.former)


_deliveries: dict[int, _Delivery] = {}


class SignalWatch:
    """Calls back in the hub for each delivery of a signal; several that come at once are one.

    Several watches of one signal are each called. The first one notes the disposition that it
    finds, and the last one that stops brings it back.

    Args:
        callback: Called in the hub with the signal's number; it must not block or raise.

    Raises:
        UsageError: The thread is not the main one: only there does the loop see signals.
    """

    __slots__ = ("_delivery", "callback")

    def __init__(self, number: int, callback: Callable[[int], Any]) -> None:
        if not gevent.get_hub().loop.default:
            raise UsageError("signals can be caught in the main thread only")
        self.callback = callback
        delivery = _deliveries.get(number)
        if delivery is None:
            delivery = _deliveries[number] = _Delivery(number)
        self._delivery: _Delivery | None = delivery
        delivery.watches[self] = None

    def stop(self) -> None:
        """Ends it. Idempotent."""
        delivery, self._delivery = self._delivery, None
        if delivery is not None:
            del delivery.watches[self]
            if not delivery.watches:
                del _deliveries[delivery.number]
                delivery.stop()


def watched() -> list[int]:
    """The numbers of the signals that are watched now."""
    return sorted(_deliveries)


# A SIGTERM must end a forked child whose parent catches it. One that comes before the child has its
# dispositions back waits meanwhile: the mask that the fork copies keeps it.

_mask_before_fork: set[int] = set()


def _before_fork() -> None:
    if _deliveries:
        _mask_before_fork.update(signal.pthread_sigmask(signal.SIG_BLOCK, _deliveries))


def _after_fork() -> None:
    if _deliveries:
        signal.pthread_sigmask(signal.SIG_SETMASK, _mask_before_fork)
        _mask_before_fork.clear()


def _after_fork_in_child() -> None:
    if _deliveries:
        for delivery in tuple(_deliveries.values()):
            for watch in tuple(delivery.watches):
                watch.stop()
        signal.pthread_sigmask(signal.SIG_SETMASK, _mask_before_fork)
        _mask_before_fork.clear()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
)
