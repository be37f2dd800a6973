"""Commands that a pattern stands for: EVENT1, EVENT2, ... and what the number is."""

import re

from edgevent import Communicator, Dispatcher, Server

service = Dispatcher()


@service.on(re.compile(r"EVENT([0-9]+)"))
def event(message, peer):
    number = int(message.match[1])
    return message.reply("NOTED", {"number": number, "next": f"EVENT{number + 1}"})


@service.on("LOCK_*")
def lock(message, peer):
    return message.reply("REFUSED", {"command": message.command})


service.add_help(lambda: ["EVENT1"])  # patterns have no name of their own that HELP could list

with Communicator() as communicator:
    communicator.stop_on("SIGTERM", "SIGINT")
    communicator.add_connection(Server("tcp://127.0.0.1:3001", service))
    communicator.run()
