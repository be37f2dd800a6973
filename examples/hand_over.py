"""A keeper opens log files, and hands them over to others through its Unix socket."""

import os

from edgevent import Client, Communicator, Dispatcher, Message, Server

keeper = Dispatcher()


@keeper.on("OPEN")
def open_log(message, peer, name: str):
    if not name.isalnum():
        peer.send(message.reply("REFUSED"))
        return
    with open(f"{name}.log", "ab") as log:
        peer.send(message.reply("OPENED"), fds=[log])  # the peer gets a descriptor of its own


def write_log():
    with Client("unix:keeper.sock", max_fds=1) as client:
        reply = client.request(Message("OPEN", {"name": "web"}), reply="OPENED")
        (fd,) = client.take_fds(reply)
    with os.fdopen(fd, "w") as log:
        print("written by the client", file=log)
    communicator.stop()


with Communicator() as communicator:
    communicator.add_connection(Server("unix:keeper.sock", keeper))
    communicator.after(0.0, write_log)
    communicator.run()
