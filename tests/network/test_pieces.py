"""The same stream in any pieces gives the same messages."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from network_ground import Ground, until

from edgevent import (
    Message,
    MessageConnection,
)
from edgevent.testing.clock import settle
from edgevent.transport.memory import memory_pair

STREAM = (
    "ONE\n"
    "<sender:service target:other/TWO a=b;c=d\n"
    "\n"
    'THREE quoted="a\\"b;c=d";umlaut=äöü€😀;empty=\n'
    '{"command": "FOUR", "parameters": {"text": "zwölf"}}\n'
    "FIVE a=b\r\n"
    "SIX lines=one\\ntwo\n"
    f"SEVEN long={'x' * 100}\n"
    "EIGHT\n"
).encode()
WHOLE = [str(Message.parse(line)) for line in STREAM.splitlines() if line]


def splits() -> Iterator[list[bytes]]:
    """The stream at once, byte by byte, in two pieces cut anywhere, in pieces cut at random."""
    yield [STREAM]
    yield [STREAM[at : at + 1] for at in range(len(STREAM))]
    for at in range(1, len(STREAM)):
        yield [STREAM[:at], STREAM[at:]]
    chance = random.Random(5)
    for _ in range(max(10, 340 - len(STREAM))):
        cuts = sorted(chance.sample(range(1, len(STREAM)), chance.randrange(2, 12)))
        yield [STREAM[a:b] for a, b in itertools.pairwise([0, *cuts, len(STREAM)])]


class Listening(MessageConnection):
    """Keeps what it hears."""

    def __init__(self, transport: Any, **settings: Any) -> None:
        super().__init__(transport, **settings)
        self.heard: list[str] = []

    def process_message(self, message: Message) -> bool:
        self.heard.append(str(message))
        return True


@contextmanager
def far_end(ground: Ground, kind: str, path: Path) -> Iterator[Callable[[], Any]]:
    """Gives what makes a new connection, and returns it with what speaks to it."""
    if kind == "memory":

        def connect() -> tuple[Listening, Callable[[bytes], object], Callable[[], object]]:
            near, far = memory_pair()
            made = ground.communicator.add_connection(Listening(near))
            return made, far.transmit, far.close

        yield connect
        return
    if kind == "fifo":
        server = ground.serve(Listening, f"fifo:{path}")

        def write() -> tuple[Listening, Callable[[bytes], object], Callable[[], object]]:
            fifo = open(path, "wb", 0)  # noqa: SIM115
            fifo.write(b"\n")  # nobody is there before something was written
            until(lambda: server.peers)
            return server.peers[0], fifo.write, fifo.close

        yield write
        return
    server = ground.serve(Listening, f"unix:{path}" if kind == "unix" else "tcp://127.0.0.1:0")

    def accept() -> tuple[Listening, Callable[[bytes], object], Callable[[], object]]:
        sock = ground.dial(server)
        until(lambda: server.peers)
        return server.peers[0], sock.sendall, sock.close

    yield accept


@pytest.mark.parametrize("kind", ["memory", "tcp", "unix", "fifo"])
def test_a_stream_in_any_pieces_gives_the_same_messages(
    ground: Ground, tmp_path: Path, kind: str
) -> None:
    count = 0
    with far_end(ground, kind, tmp_path / "s") as connect:
        for pieces in splits():
            near, send, close = connect()
            for piece in pieces:
                send(piece)
                settle()  # until it was read
            until(lambda near=near: len(near.heard) == len(WHOLE))
            assert near.heard == WHOLE
            close()
            until(lambda near=near: near.is_closed)
            count += 1
    assert count >= 340
