"""Keeps commands running, and says what becomes of them: supervisor.py 'sleep 60' 'vmstat 5'."""

import shlex
import sys

from edgevent import Communicator, Process


def start(command):
    process = Process(shlex.split(command), say, on_exit=ended, stderr="merge", name=command)
    print(f"{command}: started as {process.pid}", flush=True)
    communicator.add_connection(process)


def say(process, line):
    print(f"{process.name}: {line.decode(errors='replace')}", flush=True)


def ended(process):
    print(f"{process.name}: {process.exits[0]}", flush=True)
    communicator.after(0.5, lambda: start(process.name))  # not while the communicator stops


with Communicator() as communicator:
    communicator.stop_on("SIGTERM", "SIGINT")
    for command in sys.argv[1:]:
        start(command)
    communicator.run()
