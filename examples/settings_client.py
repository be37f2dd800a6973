"""A script that sets a setting of greeter.py, and prints each change until Ctrl-C."""

import sys

from edgevent.errors import SettingError
from edgevent.fluidsettings import Client

address = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:4049"
with Client(address, name="settings_client") as settings:
    try:
        settings.set("greeter::pause", "90")
    except SettingError as error:
        print("refused:", error, flush=True)
    settings.set("greeter::pause", "30")
    for change in settings.watch("greeter::greeting", "greeter::pause"):
        print(change.name, "is", change.value, flush=True)
