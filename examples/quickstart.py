"""Starts hello_service.py as a process of its own, and asks it in four ways."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from edgevent import Client, Communicator, Message, PermanentConnection


def ask(peer, a, b):
    print(f"{peer.name} asks: ADD a={a};b={b}", flush=True)
    answer = peer.request(Message("ADD", {"a": a, "b": b}), reply="SUM", timeout=5.0, serial=False)
    print(f"{peer.name} gets: {answer}", flush=True)
    right.append(answer.integer("value") == a + b)


right = []
program = sys.argv[1] if sys.argv[1:] else Path(__file__).with_name("hello_service.py")
with tempfile.TemporaryDirectory() as folder:
    command = [sys.executable, program, "tcp://127.0.0.1:0", f"unix:{folder}/hello.sock"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        signal.signal(signal.SIGALRM, lambda *_: service.kill())
        signal.alarm(20)  # seconds
        try:
            for kind in ("TCP", "Unix"):
                address = service.stdout.readline().split()[-1]  # listening on ADDRESS
                with Communicator() as communicator:
                    link = PermanentConnection(address, name=f"permanent link over {kind}")
                    communicator.add_connection(link)
                    link.wait_until_up(5.0)
                    ask(link, 1, 2)
                with Client(address, name=f"blocking client over {kind}") as client:
                    ask(client, 20, 22)
        finally:
            service.terminate()
sys.exit(right != [True] * 4 or service.returncode != 0)
