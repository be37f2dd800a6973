"""POSIX signals as calls in the hub, never inside the C handler.

The loop's own handler (libev's) catches a signal, and calls back after its next poll. That tells
nothing of the sender. Where that is asked for, the signal is blocked in the main thread's mask and
read from a descriptor instead (:mod:`.signalfd`); the handler stays in place for the threads that
do not block it, which are those that were there before. See :mod:`.masking` for the children.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import gevent

from ..errors import UsageError
from . import masking
from .signal_names import signal_name
from .signalfd import Sender, open_signalfd, read_senders
from .turns import Turns
from .watchers import READ, io_watcher

_READ_AT_ONCE: Final = 32  # signals of one number, between two polls


@dataclass(frozen=True, slots=True)
class ReceivedSignal:
    """A signal that has come.

    Attributes:
        number: Its number.
        pid: The process that sent it, where senders are asked for. ``None`` if the kernel did, if
            the sender is outside of this process's pid namespace, or if it is not known.
        uid: The real user of the sender, or ``None``.
    """

    number: int
    pid: int | None = None
    uid: int | None = None

    @property
    def name(self) -> str:
        """Its name, such as ``SIGTERM``."""
        return signal_name(self.number)

    def __str__(self) -> str:
        return self.name if self.pid is None else f"{self.name} from process {self.pid}"


def check_main_thread() -> None:
    """Refuses what can be done in the main thread only.

    Raises:
        UsageError: The calling thread is another one.
    """
    if not gevent.get_hub().loop.default:
        raise UsageError("signals can be caught in the main thread only")


class _Delivery:
    """What all watches of one signal share: the loop's watcher, and what there was before."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.watches: dict[SignalWatch, None] = {}
        self.former = signal.getsignal(number)
        # Not referenced: a program with nothing but signals to wait for has nothing to wait for.
        self._watcher: Any = gevent.get_hub().loop.signal(number, ref=False)
        self._watcher.start(self._deliver)
        self._descriptor = -1
        self._reader: Any = None

    def add(self, watch: SignalWatch) -> None:
        """Calls it from now on."""
        if watch.with_sender and self._reader is None:
            self._descriptor = open_signalfd(self.number)
            self._reader = io_watcher(self._descriptor, READ)
            self._reader.ref = False
            self._reader.start(self._readable)
            masking.add(self.number, self._tell_soon)
        self.watches[watch] = None

    def remove(self, watch: SignalWatch) -> None:
        """Calls it no more; without the last one all is as it was before."""
        del self.watches[watch]
        if not self.watches:
            self._stop()
        elif self._reader is not None:
            if any(other.with_sender for other in self.watches):
                self.look_at_pauses()
            else:
                self._tell(self._take_all())
                self._stop_reading()
                masking.remove(self.number)

    def look_at_pauses(self) -> None:
        """Leaves what comes to the kernel's queue while a watch cannot take more."""
        if self._reader is not None:
            self._reader.stop()
            if not any(watch.paused for watch in self.watches):
                self._reader.start(self._readable)

    def _deliver(self) -> None:
        self._tell([(None, None)])

    def _readable(self) -> None:
        try:
            self._tell(read_senders(self._descriptor, _READ_AT_ONCE))
        except BaseException as error:
            Turns.current().failed(error)

    def _take_all(self) -> list[Sender]:
        found = more = read_senders(self._descriptor, _READ_AT_ONCE)
        while more:
            more = read_senders(self._descriptor, _READ_AT_ONCE)
            found += more
        return found

    def _tell_soon(self) -> None:
        if found := self._take_all():
            gevent.get_hub().loop.run_callback(self._tell, found)

    def _tell(self, senders: list[Sender]) -> None:
        for sender in senders:
            received = ReceivedSignal(self.number, *sender)
            for watch in tuple(self.watches):
                watch.callback(received)

    def _stop_reading(self) -> None:
        if self._reader is not None:
            self._reader.close()
            os.close(self._descriptor)
            self._reader = None

    def _stop(self) -> None:
        # libev leaves SIG_DFL behind when its last watcher of a signal stops, whatever there was
        # before; one that comes until that is back waits in the mask, or it would end the program.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, [self.number])
        if self._reader is not None:
            self._take_all()  # it came for those who are gone
            self._stop_reading()
            if masking.forget(self.number):
                held.discard(self.number)
        self.restore()
        signal.pthread_sigmask(signal.SIG_SETMASK, held)

    def restore(self) -> None:
        """Brings back what the signal did before."""
        self._watcher.close()
        if self.former is not None:  # a handler of C, which Python cannot bring back
            signal.signal(self.number, self.former)

    def abandon(self) -> None:
        """Lets go of it in a forked child, where nobody is told."""
        for watch in self.watches:
            watch._delivery = None
        self._stop_reading()
        self.restore()


_deliveries: dict[int, _Delivery] = {}


class SignalWatch:
    """Calls back in the hub for each delivery of a signal; several that come at once are one.

    Several watches of one signal are each called. The first one notes the disposition that it
    finds, and the last one that stops brings it back.

    Args:
        callback: Called in the hub with what has come; it must not block or raise.
        with_sender: Whether the sender is to be known, which blocks the signal in the thread's mask
            for as long as there is such a watch. All watches of the signal are told then.

    Raises:
        UsageError: The thread is not the main one: only there does the loop see signals.
        OSError: There are too many open files, for a watch with senders.
    """

    __slots__ = ("_delivery", "callback", "paused", "with_sender")

    def __init__(
        self,
        number: int,
        callback: Callable[[ReceivedSignal], Any],
        *,
        with_sender: bool = False,
    ) -> None:
        check_main_thread()
        self.callback = callback
        self.with_sender = with_sender
        self.paused = False
        self._delivery: _Delivery | None = None
        delivery = _deliveries.get(number) or _Delivery(number)
        try:
            delivery.add(self)
        except BaseException:
            if not delivery.watches:
                delivery.restore()
            raise
        self._delivery = _deliveries[number] = delivery

    def pause(self, paused: bool) -> None:
        """Leaves further signals, if senders are asked for, to the kernel's queue; or ends that."""
        if self.paused != paused and self._delivery is not None:
            self.paused = paused
            self._delivery.look_at_pauses()

    def stop(self) -> None:
        """Ends it. Idempotent."""
        delivery, self._delivery = self._delivery, None
        if delivery is not None:
            delivery.remove(self)
            if not delivery.watches:
                del _deliveries[delivery.number]


def watched() -> list[int]:
    """The numbers of the signals that are watched now."""
    return sorted(_deliveries)


Disposition = Callable[[int, Any], Any] | int | signal.Handlers | None
"""What ``signal.getsignal`` returns."""


def disposition_of(number: int) -> Disposition:
    """Returns what a signal does, or will do again once it is no longer watched."""
    delivery = _deliveries.get(number)
    return signal.getsignal(number) if delivery is None else delivery.former


def set_disposition(number: int, disposition: Disposition) -> Disposition:
    """Sets what a signal does, or will do again once it is no longer watched; returns the former.

    Raises:
        UsageError: The thread is not the main one.
    """
    check_main_thread()
    delivery, former = _deliveries.get(number), disposition_of(number)
    if delivery is None:
        signal.signal(number, disposition)
    else:
        delivery.former = disposition
    return former


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
        for delivery in _deliveries.values():
            delivery.abandon()
        _deliveries.clear()
        signal.pthread_sigmask(signal.SIG_SETMASK, masking.without_ours(_mask_before_fork))
        _mask_before_fork.clear()
    masking.after_fork_in_child()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
)
