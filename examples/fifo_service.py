"""A service that a shell talks to: echo 'ADD a=2;b=40' > requests; cat answers."""

from edgevent import Communicator, Dispatcher, Server

service = Dispatcher()


@service.on("ADD")
def add(message, peer, a: int, b: int):
    return message.reply("SUM", {"value": a + b})


with Communicator() as communicator:
    communicator.stop_on("SIGTERM", "SIGINT")
    server = communicator.add_connection(Server("fifo:requests,answers", service))
    print("listening on", *server.addresses, flush=True)
    communicator.run()
