"""Hears the beacons of its network: run it beside beacon.py, here or on another machine."""

import sys

from edgevent import Communicator, DatagramServer, Dispatcher

group = sys.argv[1] if len(sys.argv) > 1 else "udp://239.255.41.41:4141"
interface = sys.argv[2] if len(sys.argv) > 2 else ""
news = Dispatcher()


@news.on("HERE")
def here(message, peer, host: str, pid: int):
    print(f"process {pid} of {host} is there", flush=True)


with Communicator() as communicator:
    communicator.stop_on("SIGTERM", "SIGINT")
    # Anybody in the network is heard; secret_code= or auth= would let in only those who prove it.
    server = DatagramServer(group, news, interface=interface, allow_unauthenticated=True)
    communicator.add_connection(server)
    print("listening on", *server.addresses, flush=True)
    communicator.run()
