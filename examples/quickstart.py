"""Starts hello_service.py as a process of its own, and asks it in four ways."""

import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Timer

from edgevent import Client, Communicator, Message, PermanentConnection

right = []


def ask(peer, a, b):
    question = Message("ADD", {"a": a, "b": b})
    print(f"{peer.name}: {question}", flush=True)
    answer = peer.request(question, reply="SUM", timeout=5.0, serial=False)
    print(f"{peer.name}:   {answer}", flush=True)
    right.append(answer.integer("value") == a + b)


program = sys.argv[1] if sys.argv[1:] else Path(__file__).with_name("hello_service.py")
with tempfile.TemporaryDirectory() as folder:
    command = [sys.executable, program, "tcp://127.0.0.1:0", f"unix:{folder}/hello.sock"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        Timer(20.0, service.kill).start()
        try:
            for kind in ("TCP", "Unix"):
                address = service.stdout.readline().split()[-1]  # listening on ADDRESS
                with Communicator() as communicator:
                    link = PermanentConnection(address, name=f"permanent link, {kind}")
                    link.on_connected(lambda link: (ask(link, 1, 2), communicator.stop()))
                    communicator.add_connection(link)
                    communicator.after(8.0, communicator.stop)
                    communicator.run()
                with Client(address, name=f"blocking client, {kind}") as client:
                    ask(client, 20, 22)
        finally:
            service.terminate()
sys.exit(right != [True] * 4 or service.returncode != 0)
