"""A link that comes back by itself: run it beside hello_service.py, and stop and start that one."""

from edgevent import Communicator, Dispatcher, Message, PermanentConnection

service = Dispatcher()


@service.on("UNKNOWN")
def unknown(message, peer, command: str):  # hello_service.py knows neither of the two
    print("the service does not know", command, flush=True)


with Communicator() as communicator:
    communicator.stop_on("SIGTERM", "SIGINT")
    link = PermanentConnection("unix:hello.sock", service, name="hello")
    link.on_connected(lambda link: link.send(Message("REGISTER", {"service": "me", "version": 1})))
    link.on_disconnected(lambda link: print("the service is gone", flush=True))
    link.send(Message("NEWS", {"text": "kept until the link is up"}), cache=True)
    communicator.add_connection(link)
    communicator.run()
