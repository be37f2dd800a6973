"""A service: answers ADD on TCP, on a Unix socket and by datagram, until SIGTERM or Ctrl-C.

Other addresses may be named on the command line; for tls: there must be keys (ed-keys makes them).
"""

import sys

from edgevent import Communicator, DatagramServer, Dispatcher, Server, TlsOptions

service = Dispatcher()


@service.on("ADD")
def add(message, peer, a: int, b: int):
    return message.reply("SUM", {"value": a + b})


with Communicator() as communicator:
    communicator.stop_on("SIGTERM", "SIGINT")
    usual = ["tcp://127.0.0.1:3001", "unix:hello.sock", "udp://127.0.0.1:3001"]
    for address in sys.argv[1:] or usual:
        if address.startswith("udp:"):
            server = DatagramServer(address, service)
        elif address.startswith("tls:"):
            keys = TlsOptions("keys/server.crt", "keys/server.key")
            server = Server(address, service, tls=keys)
        else:
            server = Server(address, service)
        communicator.add_connection(server)
        print("listening on", *server.addresses, flush=True)
    communicator.run()
