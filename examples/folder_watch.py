"""Tells everybody who is connected which file of a folder was written: folder_watch.py [FOLDER]."""

import sys

from edgevent import Communicator, FileWatch, Message, Server, broadcast

folder = sys.argv[1] if len(sys.argv) > 1 else "."


def written(event):  # the file is complete: it was closed, or moved here
    broadcast(server.peers, Message("WRITTEN", {"path": event.path}))


with Communicator() as communicator:
    communicator.stop_on("SIGTERM", "SIGINT")
    server = communicator.add_connection(Server("tcp://127.0.0.1:3001"))
    watch = FileWatch(folder, written, events="updated", pattern="*.txt", recursive=True)
    communicator.add_connection(watch)
    communicator.run()
