"""What ``ed-top`` knows of a communicatord: what that tells, and what has changed since."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import EdgeventError, InvalidMessageError, UnknownCommandError
from ..links.client import Client
from ..message import Message

RATES: Final = ("messages_in", "messages_out", "bytes_in", "bytes_out")
"""The counts of a peer of which there are rates, ``messages_in_rate`` and so on, a second."""


class RefusedError(EdgeventError):
    """The daemon does not tell, or is none that could."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was there at one moment.

    Attributes:
        daemon: What the daemon tells of itself; see ``LIST_TRAFFIC``.
        peers: Its services and other daemons, each with its rates since the look before.
        seconds: How long ago that was; 0.0 for the first look, which knows no rates.
    """

    daemon: dict[str, Any]
    peers: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def as_json(self) -> str:
        """Gives an object of JSON, on one line."""
        found = {"daemon": self.daemon, "seconds": round(self.seconds, 3), "peers": self.peers}
        return json.dumps(found)


def read_traffic(client: Client, timeout: float) -> Look:
    """Asks the daemon.

    Args:
        client: A connection to it.
        timeout: The limit of each answer, in seconds.

    Raises:
        RefusedError: It does not tell.
        EdgeventError: As of :meth:`edgevent.Client.request`.
    """
    daemon: dict[str, Any] = {}
    peers: list[dict[str, Any]] = []
    offset: str | None = "0"
    while offset is not None:
        try:
            answer = client.request(Message("LIST_TRAFFIC", {"offset": offset}), "TRAFFIC", timeout)
        except UnknownCommandError:
            raise RefusedError(f"{client.address}: it knows no LIST_TRAFFIC") from None
        except InvalidMessageError as error:
            raise RefusedError(f"{client.address}: {error}") from None
        try:
            peers += json.loads(answer["peers"])
            daemon = json.loads(answer["daemon"]) if "daemon" in answer else daemon
        except ValueError:
            raise RefusedError(f"{client.address}: its TRAFFIC cannot be read") from None
        offset = answer.get("next")
    return Look(daemon, peers)


class Traffic:
    """Looks at the daemon again and again.

    Args:
        connect: Makes a connection to it.
        timeout: The limit of each answer, in seconds.
        monotonic: A clock that only moves forward, in seconds.
    """

    def __init__(
        self,
        connect: Callable[[], Client],
        timeout: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._timeout = timeout
        self._monotonic = monotonic
        self._client: Client | None = None
        self._before: dict[tuple[object, ...], dict[str, Any]] = {}
        self._cpu = 0.0
        self._at = 0.0

    def look(self) -> Look:
        """Asks once more; after a loss over a new connection. Blocks the calling greenlet.

        Raises:
            EdgeventError: As of :func:`read_traffic`; the next look begins anew.
        """
        if self._client is None:
            self._client = self._connect()
        try:
            look = read_traffic(self._client, self._timeout)
        except EdgeventError:
            self.close()
            raise
        now = self._monotonic()
        seconds = now - self._at if self._at else 0.0
        for peer in look.peers:
            before = self._before.get(_key(peer))
            for name in RATES:
                rate = None
                if before is not None and seconds and name in before and name in peer:
                    rate = round(max(peer[name] - before[name], 0) / seconds, 1)
                peer[f"{name}_rate"] = rate
        cpu = float(look.daemon.get("cpu_seconds", 0.0))
        look.daemon["cpu"] = round(max(cpu - self._cpu, 0.0) / seconds, 3) if seconds else None
        self._cpu, self._at = cpu, now
        self._before = {_key(peer): peer for peer in look.peers}
        return Look(look.daemon, look.peers, seconds)

    def close(self) -> None:
        """Ends the connection. Idempotent."""
        client, self._client = self._client, None
        self._before, self._at = {}, 0.0
        if client is not None:
            client.close()


def _key(peer: dict[str, Any]) -> tuple[object, ...]:
    return peer.get("kind"), peer.get("name"), peer.get("up_since")
