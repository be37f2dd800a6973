"""A service under systemd: it takes the sockets that are open already, and tells how it is."""

from edgevent import Communicator, DatagramServer, Dispatcher, Notifier, Server, inherited_sockets

service = Dispatcher()


@service.on("ADD")
def add(message, peer, a: int, b: int):
    return message.reply("SUM", {"value": a + b})


with Communicator() as communicator, Notifier.from_environment() as systemd:
    communicator.stop_on("SIGTERM", "SIGINT")
    sockets = inherited_sockets()
    for found in sockets:
        make = DatagramServer if found.address.is_datagram else Server
        server = communicator.add_connection(make(handler=service, socket=found, name=found.name))
        print(found.name, "listens on", *server.addresses, flush=True)
    if systemd.watchdog_interval:
        communicator.every(systemd.watchdog_interval, systemd.watchdog)
    systemd.ready(f"serving {len(sockets)} sockets")
    communicator.run()
    systemd.stopping()
