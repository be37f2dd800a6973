"""What a test has left behind: greenlets, descriptors, threads, children, started watchers.

A parked worker without a turn is no leak, up to those that are kept for later turns: a worker in a
turn is one, for nobody will come to end it.
"""

from __future__ import annotations

import gc
import os
import threading
import traceback
from collections.abc import Callable, Hashable, Iterator
from time import monotonic
from typing import Final
from weakref import WeakSet

import gevent
from gevent.hub import Hub
from greenlet import getcurrent, greenlet

from ..runtime import signals
from ..runtime.turns import Turns, Worker
from .clock import settle

_MOST_OBJECTS: Final = 20_000  # so many are looked at for each test, at most
_UNNAMED: Final = "a thread that threading does not know"
_set_aside: WeakSet[greenlet] = WeakSet()  # greenlets among the objects that are not looked at

PATIENCE: Final = 3.0
"""For so many seconds what is about to end may take to be gone: a thread, a child process."""


class Snapshot:
    """What is there now, to be compared with what is there later.

    A look at all greenlets costs a look at all objects that the garbage collector knows; see
    :func:`look_only_at_what_is_new`.
    """

    def __init__(self) -> None:
        settle()
        # Kept with the objects themselves: an id alone may be that of another one later.
        self._greenlets = {id(found): found for found in _greenlets()}
        self._others = dict(_others())
        self._watchers = _watchers()

    def leaks(self) -> list[str]:
        """Says, a sentence each, what has come since and has not gone.

        May switch greenlets. Waits for up to :data:`PATIENCE` seconds, when something is there.
        """
        found = self._find()
        if found:
            gc.collect()
            end = monotonic() + PATIENCE
            while (found := self._find()) and monotonic() < end:
                gevent.sleep(0.005)
        return found

    def _find(self) -> list[str]:
        settle()
        found = [text for key, text in _others() if key not in self._others]
        if _UNNAMED in found:
            # It may be about to end. What greenlet keeps of a thread is given up then, whoever has
            # asked the garbage collector for it meanwhile: the process would crash (greenlet 3.5).
            return found
        found += [_describe(one) for one in _greenlets() if self._greenlets.get(id(one)) is not one]
        started = _watchers() - self._watchers
        if started > 0:
            found.append(f"{started} watchers or timers are still started")
        return found


def look_only_at_what_is_new() -> None:
    """Takes all objects that there are now out of later looks, which makes those 100 times faster.

    They are out of the garbage collector's looks as well (``gc.freeze``): for processes that end
    after their tests. Greenlets are looked at all the same.
    """
    Turns.current().idle.clear()  # new workers are made, which every look at objects finds
    gc.collect()
    _set_aside.update(found for found in gc.get_objects() if isinstance(found, greenlet))
    gc.freeze()


def look_only_at_what_is_new_again() -> None:
    """Does it once more when much has come since: a long run gathers what its reports hold."""
    if len(gc.get_objects()) > _MOST_OBJECTS:
        look_only_at_what_is_new()


def warm_up() -> None:
    """Makes what the hub makes once and keeps, so that the first test is not blamed for it."""
    hub = gevent.get_hub()
    hub.threadpool  # noqa: B018 - it is made by the look
    wake = hub.loop.async_()
    wake.start(lambda: None)
    wake.send()
    settle()
    wake.close()


def _greenlets() -> Iterator[greenlet]:
    current = getcurrent()
    for found in (*_set_aside, *gc.get_objects()):
        # True: started, and not ended. The main one of a thread has no parent.
        if isinstance(found, greenlet) and found and found.parent is not None:
            if found is current or isinstance(found, Hub):
                continue
            if isinstance(found, Worker) and found.task is None:
                continue
            if type(found).__module__ == "gevent.threadpool":  # a thread that looks up names
                continue
            yield found


def _describe(found: greenlet) -> str:
    if isinstance(found, Worker) and found.task is not None:
        text = f"a greenlet in a turn of {found.task.name}"
    else:
        text = f"the greenlet {found!r}"
    frame = found.gr_frame
    if frame is None:
        return text
    last = traceback.extract_stack(frame)[-3:]
    return f"{text}, at {' < '.join(f'{at.filename}:{at.lineno}' for at in reversed(last))}"


def _others() -> Iterator[tuple[Hashable, str]]:
    for name in os.listdir("/proc/self/fd"):
        target = _read(os.readlink, f"/proc/self/fd/{name}")
        if target:  # else it was the descriptor of the listing itself
            yield ("descriptor", name, target), f"descriptor {name} of {target}"
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    pool = gevent.get_hub().threadpool
    native = [int(number) for number in os.listdir("/proc/self/task")]
    for number in native:
        if number in names:
            yield ("thread", number), f"the thread {names[number]}"
    unnamed = sum(number not in names for number in native) - pool.size
    for count in range(unnamed):
        yield ("unnamed thread", count), _UNNAMED
    for number in native:
        for child in _read(_content, f"/proc/self/task/{number}/children").split():
            yield ("child", child), f"the child process {child}"
    for signal in signals.watched():
        yield ("signal", signal), f"a watch of signal {signal}"


def _content(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def _read(read: Callable[[str], str], path: str) -> str:
    try:
        return read(path)
    except OSError:  # it went away meanwhile
        return ""


def _watchers() -> int:
    return int(gevent.get_hub().loop.activecnt)
