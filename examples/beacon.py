"""A beacon: says every second, to all who are in the group, that it is there."""

import os
import socket
import sys

from edgevent import Communicator, Message, send_datagram

group = sys.argv[1] if len(sys.argv) > 1 else "udp://239.255.41.41:4141"
interface = sys.argv[2] if len(sys.argv) > 2 else ""  # such as eth0; the kernel's choice else
here = Message("HERE", {"host": socket.gethostname(), "pid": os.getpid()})

with Communicator() as communicator:
    communicator.stop_on("SIGTERM", "SIGINT")
    communicator.every(1.0, lambda: send_datagram(group, here, interface=interface))
    communicator.run()
