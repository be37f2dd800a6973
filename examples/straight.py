"""One peer, straight-line code, no callbacks: the function has a greenlet of its own."""

from edgevent import Communicator, Message, Server


def conversation(connection):
    connection.send(Message("HI"))
    for message in connection:  # blocks this greenlet alone
        if message.command == "MOM":
            connection.send(Message("BYE"))
            return  # closes


with Communicator() as communicator:
    communicator.stop_on("SIGTERM", "SIGINT")
    communicator.add_connection(Server("tcp://127.0.0.1:3001", conversation))
    communicator.run()
