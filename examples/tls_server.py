"""A service over TLS that lets in alice alone; 'ed-keys' has made the files in keys/."""

import sys

from edgevent import Communicator, Dispatcher, Server, TlsOptions

address = sys.argv[1] if len(sys.argv) > 1 else "tls://127.0.0.1:3002"
tls = TlsOptions("keys/server.crt", "keys/server.key", "keys/ca.crt", allow_names=["alice"])
service = Dispatcher()


@service.on("HELLO")
def hello(message, peer):
    name = peer.tls.peer_certificate.subject_common_name
    return message.reply("WELCOME", {"name": name, "version": peer.tls.version})


with Communicator() as communicator:
    communicator.stop_on("SIGTERM", "SIGINT")
    server = communicator.add_connection(Server(address, service, tls=tls))
    print("listening on", *server.addresses, flush=True)
    communicator.run()
