"""A parent asks its child, over a pipe between the two."""

import os

from edgevent import Communicator, Dispatcher, Message, MessageConnection, Pipe

service = Dispatcher()


@service.on("SQUARE")
def square(message, peer, number: int):
    return message.reply("IS", {"number": number**2, "pid": os.getpid()})


pipe = Pipe()
child = os.fork()
if child:
    with MessageConnection(pipe.open()) as connection:
        answer = connection.request(Message("SQUARE", {"number": 12}))
    print(answer["number"], answer.integer("pid") == child)
    os.waitpid(child, 0)
else:
    with Communicator() as communicator:  # runs until the parent closes its end
        communicator.add_connection(MessageConnection(pipe.open(), service))
        communicator.run()
