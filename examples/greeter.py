"""A service with settings that change while it runs: examples/greeter.ini defines them.

It starts with the values of the settings daemon, and prints each change until SIGTERM or Ctrl-C.
"""

import sys

from edgevent import Service

service = Service("greeter", "Greets those who come.")
greeting = service.setting("greeting", "Hello")
pause = service.setting("pause", 5)


@greeting.on_change
def changed(value):
    print("greeting:", value, flush=True)


@service.on_start
def begin(options):
    print("starting with", greeting.value, "and", pause.value, flush=True)


@service.on("GREET")
def greet(message, peer, name: str):
    return message.reply("GREETING", {"text": f"{greeting.value}, {name}"})


service.listen("unix:greeter.sock")
sys.exit(service.main())
