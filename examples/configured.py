"""Listens where its options say, and greets whom the section [greetings] of its files names."""

import sys

from edgevent import Communicator, Dispatcher, EdgeventError
from edgevent.option_groups import (
    add_address_options,
    add_tls_options,
    servers_from_options,
    tls_from_options,
)
from edgevent.options import OptionParser

service = Dispatcher()


@service.on("GREET")
def greet(message, peer, name: str, password: str = ""):
    if options.password not in (None, password):
        return message.reply("REFUSED")
    return message.reply("GREETING", {"text": options.greetings.get(name, "Who are you?")})


parser = OptionParser("configured", "Greets by name.")
add_address_options(parser, default="tcp://127.0.0.1:3001")
add_tls_options(parser, server_side=True)
parser.add_section("greetings", lambda name, text: text, help="whom to greet, and how")
parser.add_secret("--password", help="what GREET must bring")
options = parser.parse()

try:
    with Communicator() as communicator:
        communicator.stop_on("SIGTERM", "SIGINT")
        tls = tls_from_options(options, server_side=True)
        for server in servers_from_options(options, service, tls=tls):
            print("listening on", *communicator.add_connection(server).addresses, flush=True)
        communicator.run()
except EdgeventError as error:
    sys.exit(f"configured: {error}")
