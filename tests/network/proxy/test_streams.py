"""Streams in any pieces, with any end, without an end of line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from network_ground import run_program, until
from proxy_ground import (
    RECORD_HEADER,
    Net,
    ask,
)

from edgevent import (
    Address,
    Message,
    MessageConnection,
    connect,
    limits,
)
from edgevent.testing.clock import settle
from edgevent.testing.exchange import Pull, push
from edgevent.testing.exchange import end as finish
from edgevent.transport.dial import dial

STREAM = (
    "ONE\n"
    "<sender:service target:other/TWO a=b;c=d\n"
    "\n"
    'THREE quoted="a\\"b;c=d";umlaut=äöü€😀;empty=\n'
    '{"command": "FOUR", "parameters": {"text": "zwölf"}}\n'
    "FIVE a=b\r\n"
    f"SIX long={'x' * 100};lines=one\\ntwo\n"
    "SEVEN\n"
).encode()
WHOLE = [str(Message.parse(line)) for line in STREAM.splitlines() if line]


class Listening(MessageConnection):
    """Keeps what it hears."""

    def __init__(self, transport: Any, **settings: Any) -> None:
        super().__init__(transport, **settings)
        self.heard: list[str] = []

    def process_message(self, message: Message) -> bool:
        self.heard.append(str(message))
        return True


@pytest.mark.parametrize("cut", ["anywhere", "everywhere", "at random"])
def test_a_stream_in_any_pieces_gives_the_same_messages(net: Net, cut: str) -> None:
    net.serve(Listening)
    with connect(net.proxy.address, **net.tls) as stream:
        until(lambda: net.server.peers)
        peer: Any = net.server.peers[0]
        up = net.proxy.wait_for_connection().up
        settle()
        size = len(STREAM) + (RECORD_HEADER + 17 if net.is_tls else 0)  # RFC 8446, 5.2
        count = {"anywhere": size, "everywhere": 10, "at random": 1000 - size}[cut]
        for number in range(count):
            if cut == "anywhere":
                net.proxy.split([number or size, size], "up")
            else:
                net.proxy.split(1 if cut == "everywhere" else 99, "up", randomly=number > 9)
            passed = up.passed
            stream.write(STREAM)
            until(lambda: len(peer.heard) >= len(WHOLE))
            assert peer.heard == WHOLE
            assert up.passed - passed == size
            peer.heard.clear()


@pytest.mark.parametrize("sizes", [1, 2, 3, 7, 100])
def test_a_conversation_in_pieces_from_its_first_byte_on(net: Net, sizes: int) -> None:
    net.serve()
    net.proxy.split(sizes)
    with net.client() as client:
        for number in range(5):
            ask(client, f"{number}")


# --- the end right behind the messages ------------------------------------------------------------

BURST = b"".join(b"N number=%d\n" % number for number in range(50))


class Counting(MessageConnection):
    """Keeps the numbers that it is sent, of each connection."""

    heard: list[list[int]]

    def __init__(self, transport: Any, **settings: Any) -> None:
        super().__init__(transport, **settings)
        self.numbers: list[int] = []
        self.heard.append(self.numbers)

    def process_message(self, message: Message) -> bool:
        self.numbers.append(message.integer("number"))
        return True


@pytest.mark.parametrize("end", ["orderly", "cut off", "half-closed"])
@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "in pieces"])
@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_all_messages_before_the_end_are_handled_in_order(
    net: Net, end: str, pieces: bool, count: int
) -> None:
    handler = type("Fresh", (Counting,), {"heard": []})
    net.serve(handler)
    if pieces:
        net.proxy.split(40, "up")
    address = Address.parse(net.proxy.address)
    for _ in range(count):
        transport = dial(address, **net.tls)
        push(transport, BURST)
        if end == "orderly":
            finish(transport)
        elif end == "half-closed":
            transport.shutdown_write()
            Pull(transport).wait_for_end()
            transport.close()
        else:
            below = getattr(transport, "below", transport)
            below.shutdown_write()
            Pull(below).wait_for_end()
            transport.close()
    until(lambda: len(handler.heard) == count and not net.server.peers)
    assert handler.heard == [list(range(50))] * count
    assert net.server.counts["lost"] == (count if net.is_tls and end == "cut off" else 0)


# --- too long a line ------------------------------------------------------------------------------

FLOOD = """
import sys
import gevent
from edgevent import (
    Communicator, Dispatcher, NetworkError, Server, TlsOptions, connect, make_authority,
    make_certificate,
)
from edgevent.testing.proxy import FaultProxy

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

authority = make_authority("test authority")
pair = make_certificate(authority, ["localhost", "127.0.0.1"], usage="server")
theirs = TlsOptions(pair.certificate_pem, pair.key_pem)
ours = TlsOptions(authorities=authority.certificate_pem)
tls = sys.argv[1].startswith("tls")

def flood(size):
    with connect(proxy.address, tls=ours if tls else None) as stream:
        sent = 0
        try:
            while sent < size:
                stream.write(b"x" * 65536)
                sent += 65536
        except NetworkError:
            return sent
    raise SystemExit(f"{sent} bytes were taken")

with Communicator() as communicator:
    server = Server(sys.argv[1], Dispatcher(), tls=theirs if tls else None)
    communicator.add_connection(server)
    with FaultProxy(server.addresses[0], sys.argv[2]) as proxy:
        gevent.spawn(communicator.run)
        for _ in range(20):  # what such a peer costs once and for all
            flood(8 << 20)
        before = peak()
        for _ in range(int(sys.argv[3])):
            flood(64 << 20)
        print(peak() - before, server.counts["lost"])
"""


@pytest.mark.parametrize("times", [1, pytest.param(100, marks=pytest.mark.slow)])
def test_a_flood_without_a_newline_is_cut_before_it_costs_memory(
    tmp_path: Path, kind: str, times: int
) -> None:
    where = "{}:{}/{}" if kind.endswith("unix") else "{}://127.0.0.1:0"
    server, proxy = (where.format(kind, tmp_path, name) for name in ("s", "p"))
    grown, lost = run_program(FLOOD, server, proxy, times).split()
    assert int(lost) == 20 + times
    assert int(grown) < 2 * limits.MAX_LINE_BYTES // 1024 + 4096
