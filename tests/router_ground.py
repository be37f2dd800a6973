"""Peers of a router that keep what they are given."""

from edgevent import Message
from edgevent.communicatord.router import Router
from edgevent.communicatord.station import Station


class Peer:
    """A peer in this process.

    Args:
        router: Whom it talks to.
        name: What the log calls it.
    """

    def __init__(self, router: Router, name: str = "peer", **settings) -> None:
        self.router = router
        self.lines: list[str] = []
        self.handled: list[Message] = []
        self.reads = True
        self.station = Station(self.take, self.handled.append, name, **settings)

    def take(self, line: bytes) -> bool:
        """Takes a line, unless the test has it read nothing."""
        if self.reads:
            assert line.endswith(b"\n")
            self.lines += line[:-1].decode("utf-8", "surrogateescape").split("\n")
        return self.reads

    def says(self, text: str) -> None:
        """Sends a line."""
        self.router.route(Message.parse(text), self.station, text)

    def got(self) -> list[str]:
        """What it was given since it was last asked."""
        lines, self.lines = self.lines, []
        return lines


def service(router: Router, name: str, *commands: str) -> Peer:
    """A registered service; without commands it has listed none yet."""
    peer = Peer(router, name)
    router.register(peer.station, name)
    if commands:
        peer.station.add_commands(commands)
        router.changed()
    return peer
