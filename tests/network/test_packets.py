"""Sockets that keep records (``unixseq:``): every layer over them, and other programs as peers."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edgevent import Address
from edgevent.testing.contract import MakePair, Promise
from edgevent.testing.record_contract import RECORD_PROMISES
from edgevent.transport.base import StreamTransport
from edgevent.transport.dial import dial
from edgevent.transport.listen import listen

Pair = tuple[StreamTransport, StreamTransport]

_names = itertools.count()


# --- the contract ---------------------------------------------------------------------------------


def accepted(address: str) -> Pair:
    """Dials a listener of this test's own: the dialled side comes first."""
    listener = listen(Address.parse(address))[0]
    try:
        dialled = dial(Address.parse(listener.local), 5.0)
        return dialled, listener.accept()
    finally:
        listener.close()


def at_a_path(folder: Path) -> Pair:
    return accepted(f"unixseq:{folder / f's{next(_names)}'}")


def abstract(folder: Path) -> Pair:
    return accepted(f"unixseq:@edgevent-records-{os.getpid()}-{next(_names)}")


def swapped(make: MakePair) -> Pair:
    first, second = make()
    return second, first


@pytest.mark.parametrize("promise", RECORD_PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("make", [at_a_path, abstract], ids=lambda make: make.__name__)
def test_both_sides_keep(make: Callable[[Path], Pair], promise: Promise, tmp_path: Path) -> None:
    promise(partial(make, tmp_path))
    promise(partial(swapped, partial(make, tmp_path)))
