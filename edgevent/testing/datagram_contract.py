"""The contract of datagram transports: what :class:`DatagramTransport` promises of any socket.

A transport passes when every function of :data:`PROMISES` returns for its pairs:

    >>> for promise in PROMISES:
    ...     promise(make_pair)

Each takes a function that makes two transports, one that is bound and one that sends to it, and
raises ``AssertionError`` for a broken promise. They wait in the calling greenlet; see
:mod:`~edgevent.testing.exchange`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any, Final

from gevent.event import Event

from ..transport.datagram import Datagram, DatagramTransport
from .clock import settle
from .exchange import PATIENCE, error_of, open_pair, wait_to_receive

MakePair = Callable[[], tuple[DatagramTransport, DatagramTransport]]
"""Makes a transport that is bound, and one whose target is that."""
Promise = Callable[[MakePair], None]

_MOST: Final = 100_000  # so many datagrams no queue takes


def take(transport: DatagramTransport) -> Datagram:
    """Waits for the next datagram."""
    while True:
        try:
            return transport.receive()
        except BlockingIOError:
            wait_to_receive(transport, "nothing came")


def nothing_there_raises_blocking_io_error(make: MakePair) -> None:
    """``receive`` never waits."""
    with open_pair(make) as pair:
        for side in pair:
            assert error_of(side.receive) is BlockingIOError


def boundaries_are_kept(make: MakePair) -> None:
    """What one ``transmit`` has sent is what one ``receive`` takes, in the same order."""
    rng = random.Random(1)
    with open_pair(make) as (bound, sender):
        for _ in range(50):
            sent = [rng.randbytes(rng.randint(1, sender.max_bytes)) for _ in range(3)]
            for data in sent:
                sender.transmit(data)
            assert [take(bound).data for _ in sent] == sent


def an_empty_datagram_is_one(make: MakePair) -> None:
    """No bytes are a datagram like others, and no end of anything."""
    with open_pair(make) as (bound, sender):
        for data in (b"", b"after", b""):
            sender.transmit(data)
        assert [take(bound)[0::2] for _ in range(3)] == [
            (b"", False),
            (b"after", False),
            (b"", False),
        ]


def the_sender_is_told_and_can_be_answered(make: MakePair) -> None:
    """By the address that comes with each datagram."""
    with open_pair(make) as (bound, sender):
        sender.transmit(b"question")
        question = take(bound)
        assert bound.show(question.sockaddr) == sender.local
        assert sender.peer == bound.local
        bound.transmit(b"answer", question.sockaddr)
        answer = take(sender)
        assert answer.data == b"answer"
        assert sender.show(answer.sockaddr) == bound.local
        found = question.credentials
        assert found is None or (found.pid, found.uid) == (os.getpid(), os.getuid())


def a_longer_one_is_told_apart(make: MakePair) -> None:
    """The limit itself is not too long; one byte more is, and what comes after it is whole."""
    with open_pair(make) as (bound, sender):
        limit = bound.max_bytes
        found = []
        for size in (limit, limit + 1, 2 * limit, 5):
            sender.transmit(b"x" * size)
            found.append(take(bound))
        assert [one.is_truncated for one in found] == [False, True, True, False]
        assert (len(found[0].data), found[3].data) == (limit, b"x" * 5)


def a_full_queue_is_told_or_counted(make: MakePair) -> None:
    """The sender gets ``BlockingIOError``, or the receiver counts what the kernel has dropped."""
    with open_pair(make) as (bound, sender):
        data, count = b"x" * 500, 0
        while not bound.dropped and count < _MOST:
            try:
                sender.transmit(data)
            except BlockingIOError:
                break
            count += 1
        assert 0 < count < _MOST
        for _ in range(count - bound.dropped):
            assert take(bound).data == data
        sender.transmit(b"room")
        assert take(bound).data == b"room"


def nobody_there_is_an_error_of_one_datagram(make: MakePair) -> None:
    """Told at once or by the next call; the transport stays open."""
    with open_pair(make) as (bound, sender):
        bound.close()
        told = error_of(sender.transmit, b"x") or error_of(take, sender)
        assert told not in (None, BlockingIOError)
        assert error_of(sender.receive) is BlockingIOError
        assert sender.fileno() >= 0


def close_is_idempotent_and_never_raises(make: MakePair) -> None:
    """In any state; afterwards all calls are refused."""
    befores: tuple[Callable[[DatagramTransport, DatagramTransport], None], ...] = (
        lambda bound, sender: None,
        lambda bound, sender: sender.transmit(b"x"),
        lambda bound, sender: bound.watch_read(bool),
        lambda bound, sender: sender.watch_write(bool),
        lambda bound, sender: sender.close(),
    )
    for before in befores:
        with open_pair(make) as (bound, sender):
            before(bound, sender)
            for side in (bound, sender):
                for _ in range(3):
                    side.close()
                side.unwatch_read()
                side.unwatch_write()
                assert error_of(side.receive) not in (None, BlockingIOError)
                assert error_of(side.transmit, b"x") not in (None, BlockingIOError)


def a_pair_leaves_no_descriptor(make: MakePair) -> None:
    """What was opened is closed when both sides are."""
    with open_pair(make):
        pass
    before = set(os.listdir("/proc/self/fd"))
    with open_pair(make) as (bound, sender):
        sender.transmit(b"x")
        take(bound)
    assert set(os.listdir("/proc/self/fd")) <= before


def watchers_start_and_stop(make: MakePair) -> None:
    """A stopped one does not call, a started one goes on until what is there was taken."""
    with open_pair(make) as (bound, sender):
        calls: list[str] = []
        bound.watch_read(lambda: calls.append("stopped"))
        bound.unwatch_read()
        sender.transmit(b"x")
        settle()
        assert calls == []
        called = Event()

        def read() -> None:
            calls.append("read")
            if len(calls) == 3:
                bound.receive()
            elif len(calls) > 3:
                raise AssertionError("called although nothing is there")
            if len(calls) == 3:
                called.set()

        bound.watch_read(read)
        assert called.wait(PATIENCE)
        settle()
        assert calls == ["read"] * 3
        bound.unwatch_read()
        wrote = Event()

        def write() -> None:
            sender.unwatch_write()
            wrote.set()

        sender.watch_write(write)
        assert wrote.wait(PATIENCE)


def a_callback_may_close(make: MakePair) -> None:
    """The watcher that calls may be ended by what it calls."""
    with open_pair(make) as (bound, sender):
        closed = Event()

        def close() -> None:
            bound.close()
            closed.set()

        bound.watch_read(close)
        sender.transmit(b"x")
        assert closed.wait(PATIENCE)
        settle()
        assert error_of(bound.receive) not in (None, BlockingIOError)


def both_sides_have_a_name(make: MakePair) -> None:
    """``local`` and ``peer`` are one line of text in every state, and so is any sender."""
    with open_pair(make) as (bound, sender):
        sender.transmit(b"x")
        texts: list[Any] = [bound.show(take(bound).sockaddr)]
        for _ in range(2):
            for side in (bound, sender):
                texts += [side.local, side.peer, repr(side)]
                assert side.port >= 0
                assert side.dropped >= 0
            bound.close()
            sender.close()
        assert all(text.isprintable() for text in texts)


PROMISES: Final[tuple[Promise, ...]] = (
    nothing_there_raises_blocking_io_error,
    boundaries_are_kept,
    an_empty_datagram_is_one,
    the_sender_is_told_and_can_be_answered,
    a_longer_one_is_told_apart,
    a_full_queue_is_told_or_counted,
    nobody_there_is_an_error_of_one_datagram,
    close_is_idempotent_and_never_raises,
    a_pair_leaves_no_descriptor,
    watchers_start_and_stop,
    a_callback_may_close,
    both_sides_have_a_name,
)
"""All promises, each a function of a pair maker."""
