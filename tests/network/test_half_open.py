"""A peer whose address is gone says nothing any more: it is noticed, idle or with data waiting."""

from __future__ import annotations

from collections.abc import Callable

import pytest

# The peer has a network namespace of its own, at the other end of a pair of virtual interfaces.
PROGRAM = """
import subprocess, sys, time
import gevent
from gevent.event import Event
import edgevent
from edgevent import Communicator, Message, MessageConnection, Server, limits

limits.KEEPALIVE_IDLE, limits.KEEPALIVE_INTERVAL, limits.KEEPALIVE_PROBES = IDLE
limits.TCP_USER_TIMEOUT = USER
PEER = '''
import socket, sys
print("in a network of its own", flush=True)
sys.stdin.readline()
with socket.create_connection(("10.9.0.1", int(sys.argv[1]))) as sock:
    sock.sendall(b"HELLO\\\\n")
    print(sock.recv(100), flush=True)
    sys.stdin.readline()
'''
arrived, gone = Event(), Event()


class Peer(MessageConnection):
    def process_message(self, message):
        self.send(Message("WELCOME"))
        arrived.set()
        return True

    def process_error(self, error):
        print("noticed", type(error).__name__, flush=True)
        gone.set()


with Communicator() as communicator:
    server = communicator.add_connection(Server("tcp://10.9.0.1:0", Peer))
    running = gevent.spawn(communicator.run)
    peer = subprocess.Popen(
        ["unshare", "-n", sys.executable, "-c", PEER, str(server.port)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    try:
        def run(*words):
            subprocess.run(words, check=True)
        def inside(*words):
            run("nsenter", "-t", str(peer.pid), "-n", *words)
        assert "own" in peer.stdout.readline()
        run("ip", "link", "set", "far", "netns", str(peer.pid))
        inside("ip", "address", "add", "10.9.0.2/24", "dev", "far")
        inside("ip", "link", "set", "far", "up")
        peer.stdin.write("go\\n")
        peer.stdin.flush()
        assert arrived.wait(30)
        assert "WELCOME" in peer.stdout.readline()
        inside("ip", "address", "del", "10.9.0.2/24", "dev", "far")
        began = time.monotonic()
        if WAITING:
            (connection,) = server.peers
            connection.send(Message("NEWS"))
        assert gone.wait(LIMIT), "it was not noticed"
        assert time.monotonic() - began < LIMIT
        print("ended", server.peers == ())
    finally:
        peer.kill()
        peer.communicate()
    communicator.stop()
    running.get(timeout=30)
"""

SETUP = (
    "ip link add near type veth peer name far && ip address add 10.9.0.1/24 dev near"
    " && ip link set near up"
)


@pytest.mark.parametrize(
    ("idle", "user", "waiting", "limit"),
    [
        pytest.param((1, 1, 2), 2.0, False, 20.0, id="idle, lowered limits"),
        pytest.param((20, 5, 3), 1.0, True, 20.0, id="data waiting, lowered limit"),
        pytest.param((20, 5, 3), 30.0, False, 40.0, id="idle", marks=pytest.mark.slow),
        pytest.param((20, 5, 3), 30.0, True, 36.0, id="data waiting", marks=pytest.mark.slow),
    ],
)
def test_it_is_noticed(
    idle: tuple[int, int, int],
    user: float,
    waiting: bool,
    limit: float,
    own_network: Callable[..., str],
    need_tool: Callable[..., str],
) -> None:
    need_tool("nsenter", package="util-linux")
    values = {"= IDLE": f"= {idle}", "= USER": f"= {user}", "LIMIT": str(limit)}
    program = PROGRAM
    for name, value in {**values, "WAITING": str(waiting)}.items():
        program = program.replace(name, value)
    assert own_network(program, SETUP, limit + 15.0) == "noticed ConnectionLostError\nended True\n"
