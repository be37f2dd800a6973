"""A service: answers ADD on TCP and on a Unix socket, until SIGTERM or Ctrl-C."""

from edgevent import Communicator, Dispatcher, Server

service = Dispatcher()


@service.on("ADD")
def add(message, peer, a: int, b: int):
    return message.reply("SUM", {"value": a + b})


with Communicator() as communicator:
    communicator.stop_on("SIGTERM", "SIGINT")
    communicator.add_connection(Server("tcp://127.0.0.1:3001", service))
    communicator.add_connection(Server("unix:hello.sock", service))
    communicator.run()
