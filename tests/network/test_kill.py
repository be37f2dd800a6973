"""kill -9 of the service, again and again: nothing is sent twice, no loss is silent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent
import pytest
from network_ground import PATIENCE, Ground, until
from running import environment

from edgevent import ConnectionLostError, Message, NotConnectedError, PermanentConnection

# Each number is in the file before the answer to it is sent, and survives the kill there.
SERVICE = """
import os, sys
from edgevent import Communicator, Dispatcher, Server

service = Dispatcher()
taken = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

@service.on("PLAIN")
@service.on("KEPT")
def plain(message, peer, n: int):
    os.write(taken, b"%d\\n" % n)

@service.on("ASK")
def ask(message, peer, n: int):
    plain(message, peer, n)
    return message.reply("IS", {"n": n})

with Communicator() as communicator:
    communicator.add_connection(Server(sys.argv[1], service))
    communicator.run()
"""


@contextmanager
def service(address: str, taken: Path) -> Iterator[None]:
    """A service in a process of its own, which is killed at the end."""
    command = [sys.executable, "-c", SERVICE, address, str(taken)]
    with subprocess.Popen(command, env=environment(taken.parent)) as process:
        try:
            yield
        finally:
            process.kill()


class Sender:
    """Sends numbers in three ways as fast as it can, and writes down what became of each."""

    def __init__(self, link: PermanentConnection) -> None:
        self.link = link
        self.next = 0
        self.accepted: set[int] = set()  # by send
        self.refused: set[int] = set()  # by send, with an error
        self.answered: set[int] = set()
        self.lost: set[int] = set()  # the request raised
        self.enough = False

    def run(self) -> None:
        while not self.enough:
            self.link.wait_until_up(PATIENCE)
            self.ask()
            for _ in range(20):
                self.send("PLAIN", cache=False)
                self.send("KEPT", cache=True)

    def take(self) -> int:
        self.next += 1
        return self.next

    def ask(self) -> None:
        n = self.take()
        try:
            answer = self.link.request(Message("ASK", {"n": n}), timeout=PATIENCE)
        except (ConnectionLostError, NotConnectedError):
            self.lost.add(n)
        else:
            assert answer["n"] == str(n)
            self.answered.add(n)

    def send(self, command: str, *, cache: bool) -> None:
        n = self.take()
        try:
            self.link.send(Message(command, {"n": n}), cache=cache)
        except (ConnectionLostError, NotConnectedError):
            assert not cache
            self.refused.add(n)
        else:
            self.accepted.add(n)


@pytest.mark.parametrize(
    "cycles",
    [10, pytest.param(3600, marks=[pytest.mark.slow, pytest.mark.timeout(4 * 3600)])],
)
def test_kills_of_the_service(ground: Ground, tmp_path: Path, cycles: int) -> None:
    address, taken = f"unix:{tmp_path}/service", tmp_path / "taken"
    link = ground.communicator.add_connection(PermanentConnection(address, pauses="0.1"))
    sender = Sender(link)
    told: set[int] = set()
    unsent: set[int] = set()

    def note() -> None:
        told.update(message.integer("n") for message in link.undelivered)
        unsent.update(message.integer("n") for message in link.undelivered.unsent)
        link.undelivered.clear()

    link.on_disconnected(lambda link: note())
    sending = gevent.spawn(sender.run)
    for cycle in range(cycles):
        with service(address, taken):
            before = len(sender.answered)
            until(lambda before=before: sending.dead or len(sender.answered) >= before + 20)
            assert not sending.dead, sending.exception
            if cycle == cycles - 1:
                sender.enough = True
                sending.get(timeout=PATIENCE)
                sender.ask()  # all that was sent before it has arrived
                assert sender.next in sender.answered
        until(lambda: not link.is_connected)
    note()
    arrived = [int(line) for line in taken.read_bytes().split()]
    assert arrived == sorted(set(arrived)), "twice, or in another order"
    assert sender.answered <= set(arrived)
    assert sender.accepted - set(arrived) <= told
    assert not unsent & set(arrived)
    assert not sender.refused & set(arrived)
    everything = sender.accepted | sender.refused | sender.answered | sender.lost
    assert everything == set(range(1, sender.next + 1))
    assert len(sender.answered) >= 20 * cycles
    assert os.path.exists(tmp_path / "service")  # a kill leaves it, and the next one takes it over
