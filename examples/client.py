"""The client of a short conversation; it can be paired with server.py or with the C++ server."""

import sys

from edgevent import Client, EdgeventError, Message
from edgevent.options import OptionParser

ANSWERS = {"HI": "DAD", "CLIMB": "TOP", "WHO": "MOM"}

parser = OptionParser("client", "Answers HI, CLIMB and WHO until the server says BYE.")
parser.add_address("--server", default="127.0.0.1:3001", help="where the server is")
parser.add_duration("--patience", default="10s", help="how long to wait for the server")
options = parser.parse()

try:
    with Client(options.server, connect_timeout=options.patience, wait=True) as client:
        while True:
            message = client.receive(timeout=options.patience)
            print("<", message, flush=True)
            if message.command == "BYE":
                break
            if message.command in ANSWERS:
                answer = Message(ANSWERS[message.command])
                print(">", answer, flush=True)
                client.send(answer)
except EdgeventError as error:
    sys.exit(f"client: {error}")
