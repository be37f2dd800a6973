"""A service: answers ADD on TCP and on a Unix socket, until SIGTERM or Ctrl-C."""

import sys

from edgevent import Communicator, Dispatcher, Server

service = Dispatcher()


@service.on("ADD")
def add(message, peer, a: int, b: int):
    return message.reply("SUM", {"value": a + b})


with Communicator() as communicator:
    communicator.stop_on("SIGTERM", "SIGINT")
    for address in sys.argv[1:] or ["tcp://127.0.0.1:3001", "unix:hello.sock"]:
        server = communicator.add_connection(Server(address, service))
        print("listening on", *server.addresses, flush=True)
    communicator.run()
