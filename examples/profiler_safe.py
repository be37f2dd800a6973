"""A service that profiles itself: 'kill -USR1 PID' has it say where its time went."""

import collections
import os
import signal
import sys

from edgevent import Communicator, Dispatcher, Server, SignalSource

service, samples = Dispatcher(), collections.Counter()


@service.on("ADD_UP")
def add_up(message, peer, upto: int):
    total = 0
    for number in range(upto + 1):
        total += number
    return message.reply("TOTAL", {"value": total})


def sample(number, frame):  # at each millisecond of work, between any two steps of the program
    samples[frame.f_code.co_name] += 1


def report(received):  # in a turn: it may take its time
    place, count = samples.most_common(1)[0] if samples else ("nothing", 0)
    print(f"process {received.pid} asks: {count} samples in {place}", flush=True)


signal.signal(signal.SIGPROF, sample)
signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)

with Communicator() as communicator:
    communicator.stop_on("SIGTERM", "SIGINT")
    communicator.add_connection(SignalSource("SIGUSR1", report, with_sender=True))
    server = communicator.add_connection(Server(sys.argv[1], service))
    print("process", os.getpid(), "listening on", *server.addresses, flush=True)
    communicator.run()
signal.setitimer(signal.ITIMER_PROF, 0.0)  # Python's end would let the next one kill the program
