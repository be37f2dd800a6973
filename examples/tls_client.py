"""A client over TLS that shows the certificate of alice: run it beside tls_server.py."""

import sys

from edgevent import Client, Message, TlsOptions

address = sys.argv[1] if len(sys.argv) > 1 else "tls://127.0.0.1:3002"
tls = TlsOptions("keys/client.crt", "keys/client.key", "keys/ca.crt")

with Client(address, tls=tls) as client:
    reply = client.request(Message("HELLO"), reply="WELCOME", timeout=5.0)
    print("I am", reply["name"], "over", reply["version"])
