"""A service that tells what it counts: by a command, to Prometheus, and at its end."""

from edgevent import Communicator, Dispatcher, MetricsListener, Server, snapshot
from edgevent.counters import counters

service = Dispatcher()
service.on("COUNTERS")(counters)  # answers COUNTS, to those whose STOP is obeyed


@service.on("ADD")
def add(message, peer, a: int, b: int):
    return message.reply("SUM", {"value": a + b})


with Communicator(service, name="counted", count_handlers=True) as communicator:
    communicator.stop_on("SIGTERM", "SIGINT")
    communicator.add_connection(Server("unix:counted.sock", name="sums"))
    communicator.add_connection(MetricsListener("unix:metrics.sock"))
    communicator.run()
    print(snapshot(communicator).as_text())
