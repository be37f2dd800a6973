"""What the tests of permanent connections do again and again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gevent import socket
from network_ground import PATIENCE, Ground
from scripted_peer import ScriptedPeer

from edgevent import Message, PermanentConnection


def number(n: int) -> Message:
    return Message("NUMBER", {"n": n})


def numbers(messages: Any) -> list[int]:
    return [message.integer("n") for message in messages]


def read_numbers(peer: ScriptedPeer, count: int) -> list[int]:
    return [int(peer.read_line().removeprefix("NUMBER n=").partition(";")[0]) for _ in range(count)]


def add(ground: Ground, address: str, **options: Any) -> PermanentConnection:
    return ground.communicator.add_connection(PermanentConnection(address, **options))


def up(ground: Ground, peer: ScriptedPeer, **options: Any) -> PermanentConnection:
    """A link that is up."""
    link = add(ground, peer.address, **options)
    peer.accept()
    link.wait_until_up(PATIENCE)
    return link


def fill(link: PermanentConnection) -> int:
    """Sends numbers until a further one would have to wait; returns how many those are."""
    count = 0
    while not link.is_full:
        link.send(number(count).with_parameters(text="x" * 50_000))
        count += 1
    return count


def hang(path: str) -> Iterator[None]:
    """Keeps everybody who dials waiting: the queue is full, and nobody accepts."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)
        yield
