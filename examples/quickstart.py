"""Starts hello_service.py as a process of its own, and asks it over TCP, TLS, Unix and UDP."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from edgevent import (
    Client,
    Communicator,
    Message,
    PermanentConnection,
    TlsOptions,
    make_authority,
    make_certificate,
)


def ask(peer, a, b):
    print(f"{peer.name} asks: ADD a={a};b={b}", flush=True)
    answer = peer.request(Message("ADD", {"a": a, "b": b}), reply="SUM", timeout=5.0, serial=False)
    print(f"{peer.name} gets: {answer}", flush=True)
    right.append(answer.integer("value") == a + b)


right = []
program = sys.argv[1] if sys.argv[1:] else Path(__file__).with_name("hello_service.py")
kinds = {"TCP": "tcp://127.0.0.1:0", "TLS": "tls://127.0.0.1:0", "Unix": "unix:hello.sock"}
kinds["UDP"] = "udp://127.0.0.1:0"
with tempfile.TemporaryDirectory() as folder:
    authority = make_authority()  # as the command ed-keys does
    authority.write(f"{folder}/keys", "ca")
    make_certificate(authority, ["127.0.0.1"]).write(f"{folder}/keys", "server")
    trust = TlsOptions(authorities=f"{folder}/keys/ca.crt")
    command = [sys.executable, Path(program).resolve(), *kinds.values()]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as service:
        signal.signal(signal.SIGALRM, lambda *_: service.kill())
        signal.alarm(20)  # seconds
        try:
            for kind in kinds:
                address = service.stdout.readline().split()[-1]  # listening on ADDRESS
                address = address.replace("unix:", f"unix:{folder}/")
                tls = trust if kind == "TLS" else None
                if kind != "UDP":
                    with Communicator() as communicator:
                        link = PermanentConnection(
                            address, name=f"permanent link over {kind}", tls=tls
                        )
                        communicator.add_connection(link)
                        link.wait_until_up(5.0)
                        ask(link, 1, 2)
                with Client(address, name=f"blocking client over {kind}", tls=tls) as client:
                    ask(client, 20, 22)
        finally:
            service.terminate()
sys.exit(right != [True] * 7 or service.returncode != 0)
