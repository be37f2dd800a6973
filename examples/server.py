"""The server of a short conversation; it can be paired with client.py or with the C++ client."""

import sys

from edgevent import Communicator, Dispatcher, EdgeventError, Message, MessageConnection, Server
from edgevent.options import OptionParser

talk = Dispatcher(default_commands=False)  # HELP and ALIVE too are answered UNKNOWN
for question, answer in (("DAD", "CLIMB"), ("TOP", "WHO"), ("MOM", "BYE")):
    talk.on(question)(lambda message, peer, answer=answer: message.reply(answer))


@talk.on("QUIT")
def quit_server(message, peer):
    peer.communicator.stop()


class Guest(MessageConnection):
    def process_connected(self):
        self.send(Message("HI"))


parser = OptionParser("server", "Says HI, and answers DAD, TOP, MOM and QUIT.")
parser.add_address("--listen", default="127.0.0.1:3001", help="where to listen")
options = parser.parse()

with Communicator(dispatcher=talk) as communicator:
    communicator.stop_on("SIGTERM", "SIGINT")
    try:
        server = communicator.add_connection(Server(options.listen, Guest))
    except EdgeventError as error:
        sys.exit(f"server: {error}")
    print("listening on", *server.addresses, flush=True)
    communicator.run()
