"""The signals that are blocked so that their senders can be read, and the children without that.

A signal mask passes to children, through ``fork`` and through ``exec``, and a child that blocks
SIGTERM cannot be ended. ``os.fork`` calls the hooks of ``os.register_at_fork``; ``subprocess`` and
``os.posix_spawn`` do not: they go by vfork(2), and nothing of Python's runs in the child before the
new program does. But they announce it beforehand, as an event of ``sys.audit``. There the mask is
taken off; it is put on again when the hub runs next, and in another thread at its next event of any
kind. A signal that comes meanwhile goes to the loop's handler: it is told without its sender.

Audit hooks stay for the life of the process. This one is set when a sender is first asked for, and
costs 0.1 us an event; to send and to receive is none.

What starts programs without such an event is not seen: the methods *spawn* and *forkserver* of
``multiprocessing``, and extensions in C that fork by themselves.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final

import gevent

from .native import get_ident

_STARTS: Final = frozenset(("subprocess.Popen", "os.posix_spawn", "os.system", "os.exec"))

_masked: dict[int, Callable[[], object]] = {}  # those blocked here, and what takes them off
_bare: set[int] = set()  # the threads that go without the mask at this moment
_main: set[int] = set()  # the main thread, once the hook is there


def add(number: int, drain: Callable[[], object]) -> None:
    """Blocks a signal in the main thread, which calls this, and in those that it starts from now.

    Args:
        drain: Takes away, for later, the signals that wait; called before they are let through.
    """
    if not _main:
        sys.addaudithook(_audit)
        _main.add(get_ident())
    if number not in signal.pthread_sigmask(signal.SIG_BLOCK, [number]):
        _masked[number] = drain


def remove(number: int) -> None:
    """Lets a signal through again, unless it was blocked before :func:`add`."""
    if forget(number):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])


def forget(number: int) -> bool:
    """Leaves it to the caller to let the signal through; returns whether that is to be done."""
    return _masked.pop(number, None) is not None


def without_ours(mask: Iterable[int]) -> set[int]:
    """Returns a signal mask without those that are blocked here."""
    return set(mask) - _masked.keys()


def after_fork_in_child() -> None:
    """Forgets all, in a child that has its mask already."""
    _masked.clear()
    _bare.clear()
    _main.clear()


# The arguments keep what the hook needs alive: it is called until the interpreter has ended, when
# the names of this module are gone.
def _audit(
    event: str,
    arguments: Any,
    starts: frozenset[str] = _STARTS,
    masked: dict[int, Callable[[], object]] = _masked,
    bare: set[int] = _bare,
) -> None:
    if event in starts:
        if masked:
            _take_off()
    elif bare and get_ident() in bare and get_ident() not in _main:
        _put_on()


def _take_off() -> None:
    thread = get_ident()
    if thread in _main:
        for drain in tuple(_masked.values()):
            drain()
        gevent.get_hub().loop.run_callback(_put_on)
    if signal.pthread_sigmask(signal.SIG_UNBLOCK, _masked) & _masked.keys():
        _bare.add(thread)


def _put_on() -> None:
    _bare.discard(get_ident())
    signal.pthread_sigmask(signal.SIG_BLOCK, _masked)
