"""The contract of byte transports: what :class:`~edgevent.transport.base.StreamTransport` promises.

A transport passes when every function of :data:`PROMISES` returns for its pairs:

    >>> for promise in PROMISES:
    ...     promise(memory_pair)

Each takes a function that makes two connected transports, and raises ``AssertionError`` for a
broken promise. They wait in the calling greenlet; see :mod:`~edgevent.testing.exchange`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Final

from gevent.event import Event

from ..transport.base import StreamTransport
from .clock import settle
from .exchange import PATIENCE, Pull, end, error_of, fill, open_pair, push

MakePair = Callable[[], tuple[StreamTransport, StreamTransport]]
Promise = Callable[[MakePair], None]


# --- bytes ----------------------------------------------------------------------------------------


def nothing_there_raises_blocking_io_error(make: MakePair) -> None:
    """``receive`` never waits, and never takes silence for the end."""
    with open_pair(make) as (a, b):
        for side in (a, b):
            assert error_of(side.receive, 100) is BlockingIOError


def an_empty_transmit_sends_nothing(make: MakePair) -> None:
    """No bytes are none, and no end of the stream."""
    with open_pair(make) as (a, b):
        assert a.transmit(b"") == 0
        pull = Pull(b)
        settle()
        assert (bytes(pull.data), pull.has_ended) == (b"", False)
        push(a, b"after")
        pull.wait_for(b"after")


def bytes_come_in_order(make: MakePair) -> None:
    """All at once, byte by byte or in random pieces, with reads of any size."""
    rng = random.Random(2)
    data = rng.randbytes(300_000)
    for size in (65536, 1000):
        with open_pair(make) as (a, b):
            pull = Pull(b, size)
            push(a, data)
            pull.wait_for(data)
    with open_pair(make) as (a, b):
        pull = Pull(b, 7)
        for index in range(500):
            push(a, data[index : index + 1])
        pull.wait_for(data[:500])
    with open_pair(make) as (a, b):
        pull = Pull(b)
        start = 0
        while start < len(data):
            end = start + rng.randint(1, 5000)
            push(a, data[start:end])
            start = end
        pull.wait_for(data)


def views_are_transmitted_as_bytes_are(make: MakePair) -> None:
    """What is left of a chunk is transmitted without a copy, and may be changed afterwards."""
    with open_pair(make) as (a, b):
        buffer = bytearray(b"first second")
        assert a.transmit(memoryview(buffer)[6:]) == 6
        buffer[:] = b"x" * len(buffer)
        pull = Pull(b)
        pull.wait_for(b"second")


def both_directions_go_at_once(make: MakePair) -> None:
    """Neither direction holds up the other."""
    rng = random.Random(3)
    there, back = rng.randbytes(200_000), rng.randbytes(200_000)
    with open_pair(make) as (a, b):
        pull_a, pull_b = Pull(a), Pull(b)
        for start in range(0, 200_000, 10_000):
            push(a, there[start : start + 10_000])
            push(b, back[start : start + 10_000])
        pull_a.wait_for(back)
        pull_b.wait_for(there)


def a_full_transport_says_so_and_when_there_is_room(make: MakePair) -> None:
    """``BlockingIOError`` while nobody reads; the write watcher calls once somebody has."""
    with open_pair(make) as (a, b):
        taken, refused = fill(a)
        room = Event()
        a.watch_write(room.set)
        settle()
        assert not room.is_set()
        pull = Pull(b)
        assert room.wait(PATIENCE)
        a.unwatch_write()
        push(a, refused + b"last")
        pull.wait_for(taken + refused + b"last")


# --- the end --------------------------------------------------------------------------------------


def half_close_leaves_the_other_direction(make: MakePair) -> None:
    """After ``shutdown_write`` the peer has all bytes, then the end, and can still answer."""
    with open_pair(make) as (a, b):
        pull_a, pull_b = Pull(a), Pull(b)
        push(a, b"question")
        a.shutdown_write()
        pull_b.wait_for_end()
        assert (bytes(pull_b.data), pull_b.error) == (b"question", None)
        push(b, b"answer")
        pull_a.wait_for(b"answer")
        assert error_of(a.transmit, b"more") not in (None, BlockingIOError)
        end(b)
        pull_a.wait_for_end()
        assert (bytes(pull_a.data), pull_a.error) == (b"answer", None)


def the_end_is_seen_once(make: MakePair) -> None:
    """An unwatched end calls nobody again; and it stays the end, whoever asks."""
    with open_pair(make) as (a, b):
        pull = Pull(b)
        end(a)
        pull.wait_for_end()
        settle()
        assert pull.ends == 1
        assert [b.receive(100) for _ in range(3)] == [b""] * 3


def what_was_sent_before_a_close_arrives(make: MakePair) -> None:
    """Close drops nothing that ``transmit`` has taken, whether anybody reads yet or not."""
    data = random.Random(4).randbytes(50_000)  # for which every transport has room
    with open_pair(make) as (a, b):
        push(a, data)
        end(a)
        pull = Pull(b)
        pull.wait_for_end()
        assert (pull.data == data, pull.error) == (True, None)
    with open_pair(make) as (a, b):
        taken, refused = fill(a)
        pull = Pull(b)
        push(a, refused)
        end(a)
        pull.wait_for_end()
        assert (pull.data == taken + refused, pull.error) == (True, None)


def a_close_ends_the_wait_of_the_other_side(make: MakePair) -> None:
    """A side that waits for bytes sees the end; one that waits for room gets an error."""
    with open_pair(make) as (a, b):
        pull = Pull(b)
        settle()
        end(a)
        pull.wait_for_end()
        assert (pull.ends, pull.error) == (1, None)
    with open_pair(make) as (a, b):
        fill(a)
        room = Event()
        a.watch_write(room.set)
        settle()
        b.close()
        assert room.wait(PATIENCE)
        a.unwatch_write()
        assert error_of(a.transmit, b"more") not in (None, BlockingIOError)


def close_is_idempotent_and_never_raises(make: MakePair) -> None:
    """In any state, from either side, as often as wanted; afterwards all calls are refused."""
    for before in (
        lambda a, b: None,
        lambda a, b: fill(a),
        lambda a, b: fill(b),
        lambda a, b: a.shutdown_write(),
        lambda a, b: b.close(),
        lambda a, b: (a.watch_read(lambda: None), a.watch_write(lambda: None)),
    ):
        with open_pair(make) as (a, b):
            before(a, b)
            for _ in range(3):
                a.close()
            a.unwatch_read()
            a.unwatch_write()
            a.shutdown_write()
            assert error_of(a.receive, 10) not in (None, BlockingIOError)
            assert error_of(a.transmit, b"x") not in (None, BlockingIOError)


def a_pair_leaves_no_descriptor(make: MakePair) -> None:
    """What was opened is closed when both sides are."""
    with open_pair(make):
        pass
    settle()
    before = set(os.listdir("/proc/self/fd"))
    with open_pair(make) as (a, b):
        push(a, b"x")
        Pull(b).wait_for(b"x")
    settle()  # what stands between the two sides goes when both have
    assert set(os.listdir("/proc/self/fd")) <= before


# --- watchers -------------------------------------------------------------------------------------


def watchers_start_and_stop(make: MakePair) -> None:
    """As often as wanted, in any order; a stopped one does not call, a started one goes on."""
    with open_pair(make) as (a, b):
        calls: list[str] = []
        b.unwatch_read()
        b.unwatch_write()
        b.watch_read(lambda: calls.append("first"))
        b.watch_read(lambda: calls.append("second"))
        b.unwatch_read()
        push(a, b"x")
        settle()
        assert calls == []
        called = Event()

        def read() -> None:
            calls.append("read")
            if len(calls) == 3:
                b.unwatch_read()
                called.set()

        b.watch_read(read)
        assert called.wait(PATIENCE)
        settle()
        assert calls == ["read"] * 3  # level-triggered: nothing was taken
        writes: list[str] = []
        wrote = Event()

        def write() -> None:
            writes.append("write")
            b.unwatch_write()
            wrote.set()

        b.watch_write(write)
        assert wrote.wait(PATIENCE)
        settle()
        assert writes == ["write"]


def a_callback_may_close(make: MakePair) -> None:
    """The watcher that calls may be ended by what it calls."""
    with open_pair(make) as (a, b):
        closed = Event()

        def close() -> None:
            b.close()
            closed.set()

        b.watch_write(lambda: None)
        b.watch_read(close)
        push(a, b"x")
        assert closed.wait(PATIENCE)
        settle()
        assert error_of(b.receive, 10) not in (None, BlockingIOError)


def both_sides_have_a_name(make: MakePair) -> None:
    """``peer`` and ``local`` are one line of text in every state."""
    with open_pair(make) as (a, b):
        for _ in range(2):
            for side in (a, b):
                assert isinstance(side.local, str)
                assert side.peer.isprintable()
                assert isinstance(side.is_local, bool)
                assert side.credentials is None or side.credentials.pid > 0
                repr(side)
            assert a.peer
            a.close()
            b.close()


PROMISES: Final[tuple[Promise, ...]] = (
    nothing_there_raises_blocking_io_error,
    an_empty_transmit_sends_nothing,
    bytes_come_in_order,
    views_are_transmitted_as_bytes_are,
    both_directions_go_at_once,
    a_full_transport_says_so_and_when_there_is_room,
    half_close_leaves_the_other_direction,
    the_end_is_seen_once,
    what_was_sent_before_a_close_arrives,
    a_close_ends_the_wait_of_the_other_side,
    close_is_idempotent_and_never_raises,
    a_pair_leaves_no_descriptor,
    watchers_start_and_stop,
    a_callback_may_close,
    both_sides_have_a_name,
)
"""All promises, each a function of a pair maker."""
