"""The contract of record transports: what :mod:`edgevent.transport.record` promises.

They keep the promises of byte transports, but for those that need any cut to be allowed, and those
that stand here. A transport passes when every function of
:data:`RECORD_PROMISES` returns for its pairs; see :mod:`edgevent.testing.contract`.
"""

from __future__ import annotations

import random
from typing import Final, cast

from gevent.event import Event

from ..errors import LineTooLongError, MessageError
from ..limits import MAX_UNIX_DATAGRAM_BYTES
from ..transport.base import StreamTransport
from ..transport.record import RecordTransport
from .clock import settle
from .contract import (
    PROMISES,
    MakePair,
    Promise,
    a_full_transport_says_so_and_when_there_is_room,
    bytes_come_in_order,
)
from .exchange import PATIENCE, Pulling, end, fill, open_pair, wait_to_transmit


class PullRecords(Pulling):
    """Receives records.

    Attributes:
        records: What has come.
    """

    def __init__(self, transport: StreamTransport) -> None:
        self.records: list[bytes] = []
        super().__init__(transport, 10)  # a record comes whole, however little is asked for

    def took(self, data: bytes) -> None:
        """Keeps it."""
        if data:
            self.records.append(data)

    def so_far(self) -> str:
        """How many have come."""
        return f"{len(self.records)} records"

    def wait_for(self, records: list[bytes]) -> None:
        """Waits for exactly these records."""
        self.wait(lambda: len(self.records) >= len(records) or self.has_ended)
        assert self.records == records


def push_records(transport: StreamTransport, records: list[bytes]) -> None:
    """Transmits records; waits while the transport takes none."""
    for record in records:
        while True:
            try:
                assert transport.transmit(record) == len(record)
            except BlockingIOError:
                wait_to_transmit(transport, f"no room for a record of {len(record)} bytes")
            else:
                break


def _pack(transport: StreamTransport, unit: bytes) -> bytes:
    return cast(RecordTransport, transport).pack(unit)


def it_says_what_it_keeps(make: MakePair) -> None:
    """``keeps_records`` is true, and a record is no datagram: it is not lost."""
    with open_pair(make) as (a, b):
        assert (a.keeps_records, b.keeps_records) == (True, True)
        assert (a.is_datagram, b.is_datagram) == (False, False)


def records_keep_their_boundaries(make: MakePair) -> None:
    """Nothing is joined or cut, whoever reads when; a newline is a byte as any other."""
    rng = random.Random(5)
    sizes = [1, 2, 10, 10, 65_535, MAX_UNIX_DATAGRAM_BYTES, 1, 4096, 4097]
    records = [b"\n", b"a\nb\n", b"\0"]
    records += [
        rng.randbytes(size) for size in (*sizes, *(rng.randint(1, 9000) for _ in range(99)))
    ]
    with open_pair(make) as (a, b):
        pull = PullRecords(b)
        push_records(a, [_pack(a, record) for record in records])
        pull.wait_for(records)
    with open_pair(make) as (a, b):
        push_records(a, records[:8])
        PullRecords(b).wait_for(records[:8])


def a_full_transport_refuses_whole_records(make: MakePair) -> None:
    """``BlockingIOError`` while nobody reads; the write watcher calls once somebody has."""
    with open_pair(make) as (a, b):
        taken, refused = fill(a)
        room = Event()
        a.watch_write(room.set)
        settle()
        assert not room.is_set()
        pull = PullRecords(b)
        assert room.wait(PATIENCE)
        a.unwatch_write()
        push_records(a, [refused, b"last"])
        whole = len(refused)
        assert len(taken) % whole == 0
        records = [taken[start : start + whole] for start in range(0, len(taken), whole)]
        pull.wait_for([*records, refused, b"last"])


def a_record_that_is_too_long_is_refused(make: MakePair) -> None:
    """By ``pack``, before anything goes out."""
    with open_pair(make) as (a, b):
        unit = bytes(MAX_UNIX_DATAGRAM_BYTES + 1)
        refused = ""
        try:
            _pack(a, unit)
        except MessageError as error:
            refused = str(error)
        assert refused.startswith(f"a record of {MAX_UNIX_DATAGRAM_BYTES + 1} bytes is over")
        pull = PullRecords(b)
        push_records(a, [_pack(a, unit[1:])])
        pull.wait_for([unit[1:]])


def a_record_that_is_too_long_is_never_cut(make: MakePair) -> None:
    """One that comes is an error; those before it are received."""
    with open_pair(make) as (a, b):
        pull = PullRecords(b)
        push_records(a, [b"before", bytes(MAX_UNIX_DATAGRAM_BYTES + 1)])
        pull.wait_for_end()
        assert pull.records == [b"before"]
        assert isinstance(pull.error, LineTooLongError)


def a_record_of_no_bytes_is_no_end(make: MakePair) -> None:
    """Neither for who waits, nor among others, nor as the last before the end."""
    with open_pair(make) as (a, b):
        pull = PullRecords(b)
        a.transmit(b"")
        settle()
        assert not pull.has_ended
        for record in (b"one", b"", b"", b"two", b""):
            a.transmit(record)
        pull.wait_for([b"one", b"two"])
        end(a)
        pull.wait_for_end()
        assert pull.error is None
    with open_pair(make) as (a, b):
        for record in (b"", b"one", b"", b"two", b""):
            a.transmit(record)
        end(a)
        pull = PullRecords(b)
        pull.wait_for_end()
        assert (pull.records, pull.error) == ([b"one", b"two"], None)


def what_came_before_a_reset_is_received(make: MakePair) -> None:
    """A peer that closes with unread input is told apart from a clean end, after its last words."""
    records = [b"one", b"two", b"three"]
    with open_pair(make) as (a, b):
        push_records(b, [b"never read"])
        push_records(a, records)
        a.close()
        pull = PullRecords(b)
        pull.wait_for_end()
        assert pull.records == records
        assert isinstance(pull.error, ConnectionResetError)


def an_orderly_end_is_no_reset(make: MakePair) -> None:
    """However many short records were not read."""
    with open_pair(make) as (a, b):
        count = 0
        try:
            while True:
                b.transmit(b"x" if count % 2 else b"")
                count += 1
        except BlockingIOError:
            assert count
        end(a)
        pull = PullRecords(b)
        pull.wait_for_end()
        assert (pull.records, pull.error) == ([], None)


_CUT: Final = (bytes_come_in_order, a_full_transport_says_so_and_when_there_is_room)

RECORD_PROMISES: Final[tuple[Promise, ...]] = (
    *(promise for promise in PROMISES if promise not in _CUT),
    it_says_what_it_keeps,
    records_keep_their_boundaries,
    a_full_transport_refuses_whole_records,
    a_record_that_is_too_long_is_refused,
    a_record_that_is_too_long_is_never_cut,
    a_record_of_no_bytes_is_no_end,
    what_came_before_a_reset_is_received,
    an_orderly_end_is_no_reset,
)
"""All promises, each a function of a pair maker."""
