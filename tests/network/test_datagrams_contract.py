"""Every datagram transport keeps every promise."""

from __future__ import annotations

from pathlib import Path

import pytest
from datagram_ground import KINDS, address_of

from edgevent import Address
from edgevent.testing.datagram_contract import PROMISES, Promise
from edgevent.transport.datagram import DatagramTransport
from edgevent.transport.datagram_open import bind_datagrams, open_datagrams


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_a_datagram_transport_keeps(kind: str, promise: Promise, tmp_path: Path) -> None:
    def make() -> tuple[DatagramTransport, DatagramTransport]:
        (bound,) = bind_datagrams(Address.parse(address_of(kind, tmp_path)))
        return bound, open_datagrams(Address.parse(bound.local))

    promise(make)
