"""Everything at once, for some time: descriptors, greenlets and memory stay level."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from running import environment, unmeasured

PROGRAM = """
import gc, logging, os, sys, time

sys.path.insert(0, sys.argv[1])
import gevent
from gevent import socket
from gevent.event import Event
from greenlet import greenlet
from network_ground import Ground, until

from edgevent import (
    Client, Communicator, DeadlineError, Dispatcher, EdgeventError, Message, MessageConnection,
    PermanentConnection, RequestTimeout, broadcast, deadline, request_many,
)
from edgevent.runtime.turns import Turns

logging.disable(logging.CRITICAL)
service, go = Dispatcher(), Event()


@service.on("ADD")
def add(message, peer, a: int, b: int):
    return message.reply("SUM", {"value": a + b})


@service.on("PUT")
def put(message, peer):
    pass


@service.on("FAIL")
def fail(message, peer):
    raise ZeroDivisionError


@service.on("WAIT")
def wait(message, peer):
    go.wait()
    return message.reply("WAITED")


@service.on("BACK")
def back(message, peer):
    return message.reply("THERE", {"n": peer.request(Message("HERE"))["n"]})


@service.on("LEAVE")
def leave(message, peer):
    peer.cut()


def conversation(connection):
    connection.send(Message("HI"))
    for message in connection:
        connection.send(message.reply("HEARD"))
        if message.command == "BYE":
            return


class Counting(MessageConnection):
    def process_connected(self):
        self.timeout_delay = 60.0

    def process_message(self, message):
        self.send(message.reply("COUNTED"))
        return True


here = Dispatcher()


@here.on("HERE")
def answer(message, peer):
    return message.reply("I_AM", {"n": 7})


def fails(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except EdgeventError:
        return
    raise AssertionError(f"{function} {arguments} did not fail")


def ask(address):
    with Client(address, here) as client:
        for n in range(5):
            assert client.request(Message("ADD", {"a": n, "b": 1})).integer("value") == n + 1
        assert client.request(Message("BACK"))["n"] == "7"
        fails(client.request, Message("ADD", {"a": "x"}))
        fails(client.request, Message("FAIL"))
        fails(client.request, Message("WHAT"))


def push(address):
    with Client(address) as client:
        for n in range(200):
            client.send(Message("PUT", {"n": n, "x": "x" * (n * 7)}))
        client.request(Message("ALIVE"))


def run_out(address):
    go.clear()
    with Client(address) as client:
        fails(client.request, Message("WAIT"), timeout=0.001)
        try:
            with deadline(0.001):
                client.request(Message("WAIT"))
        except DeadlineError:
            pass
        go.set()
        assert client.request(Message("WAIT")).command == "WAITED"


def talk(address):
    with Client(address) as client:
        assert client.receive(30.0).command == "HI"
        for command in ("ONE", "TWO", "BYE"):
            client.send(Message(command))
            assert client.receive(30.0).command == "HEARD"
        assert [message for message in client] == []


def misbehave(dial, server):
    for data, half_closes in (
        (b"ALIVE serial=5\\nHELP\\n", True),
        (b"ADD a=1", True),
        (b"nonsense\\n" * 12, False),
        (b"x" * 70000, False),
        (b"ADD a=1;b=2\\n" * 50, True),
    ):
        with dial(server) as sock:
            sock.sendall(data)
            if half_closes:
                sock.shutdown(socket.SHUT_WR)
            try:
                while sock.recv(65536):
                    pass
            except ConnectionResetError:
                pass
    with dial(server) as sock:
        sock.sendall(b"ADD a=1;b=2\\n")  # and goes without its answer


def round_of(ground, servers, link):
    communicator, addresses = ground.communicator, [found.addresses[0] for found in servers]
    jobs = [gevent.spawn(job, address) for job in (ask, push, run_out) for address in addresses[:2]]
    jobs += [gevent.spawn(talk, addresses[2])]
    jobs += [gevent.spawn(misbehave, ground.dial, server) for server in servers[:2]]
    for job in gevent.joinall(jobs, timeout=60.0):
        job.get()
    for done in jobs:
        assert done.dead
    # Many: a broadcast to all, and a question to all.
    clients = [Client(addresses[n % 2], here) for n in range(10)]
    assert len(request_many(clients, Message("ADD", {"a": 1, "b": 2}), 30.0)) == 10
    assert broadcast(servers[0].peers, Message("NEWS")) == len(servers[0].peers)
    for client in clients:
        client.close()
    # The link is cut, and comes back.
    before = link.attempts
    link.send(Message("LEAVE"))
    until(lambda: link.attempts > before)
    link.send(Message("PUT"), cache=True)
    assert link.request(Message("ADD", {"a": 3, "b": 4}), idempotent=True)["value"] == "7"
    link.undelivered.clear()
    with Client(addresses[3]) as client:
        assert client.request(Message("ANYTHING")).command == "COUNTED"
    # Timers, and calls of other threads.
    ticked, called = Event(), Event()
    timers = [communicator.every(60.0, ticked.set) for _ in range(20)]
    communicator.after(0.001, ticked.set)
    gevent.get_hub().threadpool.apply(communicator.call_threadsafe, (called.set,))
    assert ticked.wait(30.0) and called.wait(30.0)
    for timer in timers:
        timer.close()
    for sock in ground._sockets:
        sock.close()
    ground._sockets.clear()
    until(lambda: [len(server.peers) for server in servers] == [1, 0, 0, 0])


def level(turns):
    gevent.idle()
    gc.collect()
    # How many idle workers are kept depends on how many handlers blocked at once.
    alive = [
        found
        for found in gc.get_objects()
        if isinstance(found, greenlet) and not found.dead and found not in turns.idle
    ]
    return len(os.listdir("/proc/self/fd")), len(alive), sys.getallocatedblocks()


with Ground(Communicator()) as ground:
    servers = [
        ground.serve(service, introduction_timeout=60.0),
        ground.serve(service, f"unix:{os.getcwd()}/service"),
        ground.serve(conversation),
        ground.serve(Counting),
    ]
    link = ground.communicator.add_connection(
        PermanentConnection(servers[0].addresses[0], pauses="0.01")
    )
    turns = Turns.current()
    link.wait_until_up(30.0)
    for _ in range(10):
        round_of(ground, servers, link)
    first = level(turns)
    end = time.monotonic() + float(sys.argv[3])
    rounds = 0
    while rounds < int(sys.argv[2]) or time.monotonic() < end:
        round_of(ground, servers, link)
        rounds += 1
    last = level(turns)
    print(*first, *last, rounds)
"""


@pytest.mark.parametrize(
    ("rounds", "seconds"),
    [
        (100, 0),
        pytest.param(1, 8 * 3600, marks=[pytest.mark.slow, pytest.mark.timeout(9 * 3600)]),
    ],
)
def test_mixed_traffic_leaves_everything_level(tmp_path: Path, rounds: int, seconds: int) -> None:
    here = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(here), str(rounds), str(seconds)],
        cwd=tmp_path,
        env={**environment(tmp_path), **unmeasured()},
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    descriptors, greenlets, blocks, *then, rounds = map(int, done.stdout.split())
    assert then[0] == descriptors
    assert then[1] == greenlets
    # A block that stays each time would be one a round and operation, of which there are thousands.
    assert then[2] - blocks < 1000 + 2 * rounds
