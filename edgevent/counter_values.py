"""What a communicator has counted, as values: for the log, for a message, and for Prometheus."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Final

from . import limits
from .exposition import Exposition
from .runtime.lag import Lag

RESERVED_BYTES: Final = 256
"""What is kept free of the line of an answer: for a secret code, or a signature."""

_MAX_SERIES: Final = 200  # connections that are told one by one to Prometheus


@dataclass(frozen=True, slots=True)
class ConnectionCounters:
    """One connection at one moment.

    Attributes:
        name: Its name in the communicator.
        kind: The name of its class.
        state: ``listening``, ``receiving``, ``connected``, ``ending``, ``disconnected``,
            ``waiting`` (for its time, say) or ``disabled``.
        peer: The address of the other side; of a server, its own ones. Empty when there is none.
        server: The name of the server that has accepted it, or an empty string.
        since: When its transport was opened, in seconds since 1970; ``None`` without one.
        messages_in: See :class:`~edgevent.runtime.traffic.Traffic`; so are the next three.
        queued_in: How many bytes have come and wait to be handled.
        queued_out: How many bytes wait for the peer to take them.
        handler_errors: How often one of its hooks or handlers has raised.
        moves_bytes: Whether it is a stream or receives datagrams; not a timer or a server, say.
        peers: How many peers a server has; ``None`` for others.
        events: How often what has happened to a server: ``accepted``, ``lost`` and so on.
    """

    name: str
    kind: str
    state: str
    peer: str = ""
    server: str = ""
    since: float | None = None
    messages_in: int = 0
    bytes_in: int = 0
    messages_out: int = 0
    bytes_out: int = 0
    queued_in: int = 0
    queued_out: int = 0
    handler_errors: int = 0
    moves_bytes: bool = False
    peers: int | None = None
    events: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HandlerCounters:
    """The handlers of one command.

    Attributes:
        command: The command, or the pattern, for which they were added; ``*`` for every command,
            ``otherwise`` for the catch-all.
        count: How often one has run.
        total: The seconds that they took, their waits included.
        max: The seconds of the longest one.
        errors: How many of them raised.
    """

    command: str
    count: int
    total: float
    max: float
    errors: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all connections, those that have ended among them; they never go down.

    The fields are those of :class:`~edgevent.runtime.traffic.Traffic`, and ``ended_connections``:
    how many were closed.
    """

    messages_in: int
    bytes_in: int
    messages_out: int
    bytes_out: int
    handler_errors: int
    ended_connections: int


@dataclass(frozen=True, slots=True)
class Counters:
    """All that a communicator has counted, at one moment; see :func:`edgevent.snapshot`.

    Attributes:
        name: The communicator's name.
        date: The moment, in seconds since 1970.
        idle: The seconds that the communicator has spent without work.
        totals: The sums.
        states: How many connections there are, by class and state.
        queued_in: How many bytes wait to be handled, over all connections.
        queued_out: How many bytes wait for peers.
        lag: How late the hub was within the last minute; ``None`` when that is not measured.
        handlers: The times of handlers, by command; empty when they are not measured.
        connections: The connections, those that servers have accepted last.
        left_out: How many connections are not among them.
    """

    name: str
    date: float
    idle: float
    totals: Totals
    states: Mapping[tuple[str, str], int]
    queued_in: int
    queued_out: int
    lag: Lag | None
    handlers: tuple[HandlerCounters, ...]
    connections: tuple[ConnectionCounters, ...]
    left_out: int

    def as_json(self) -> str:
        """Returns a JSON object on one line."""
        return json.dumps(self.as_dict(), separators=(",", ":"))

    def as_dict(self) -> dict[str, Any]:
        """Returns all as plain dictionaries, lists, texts and numbers."""
        return {
            "name": self.name,
            "date": round(self.date, 3),
            "idle": round(self.idle, 6),
            "totals": dataclasses.asdict(self.totals),
            "states": [
                {"kind": kind, "state": state, "count": count}
                for (kind, state), count in sorted(self.states.items())
            ],
            "queued_in": self.queued_in,
            "queued_out": self.queued_out,
            "lag": None if self.lag is None else _rounded(self.lag._asdict()),
            "handlers": [_rounded(dataclasses.asdict(one)) for one in self.handlers],
            "connections": [_rounded(dataclasses.asdict(one)) for one in self.connections],
            "left_out": self.left_out,
        }

    def as_text(self) -> str:
        """Returns lines for people; the last one has no newline behind it."""
        totals = self.totals
        count = sum(self.states.values())
        lines = [
            f"{self.name}: {count} connections, {totals.ended_connections} ended,"
            f" in {totals.messages_in} ({totals.bytes_in} bytes),"
            f" out {totals.messages_out} ({totals.bytes_out} bytes),"
            f" {self.queued_in} bytes to be handled, {self.queued_out} bytes to leave,"
            f" {totals.handler_errors} handler errors, idle {self.idle:.3f} s"
        ]
        if self.lag is not None:
            now, p99, worst = (1000.0 * value for value in self.lag)
            lines.append(f"hub lag: now {now:.1f} ms, p99 {p99:.1f} ms, max {worst:.1f} ms")
        lines += map(_handler_line, self.handlers)
        lines += map(_connection_line, self.connections)
        if self.left_out:
            lines.append(f"{self.left_out} more connections")
        return "\n".join(lines)

    def as_message_parameters(
        self,
        max_bytes: int = limits.MAX_LINE_BYTES - RESERVED_BYTES,
        max_parameters: int = limits.MAX_PARAMETERS - 8,
    ) -> dict[str, str]:
        """Returns parameters for a message: the totals, then what else has room.

        ``handler_1`` and so on, ``connection_1`` and so on hold a JSON object each.

        Args:
            max_bytes: The most that they may take in a line.
            max_parameters: The most parameters.

        Returns:
            Among them ``left_out``: how many handlers and connections had no room.
        """
        lag = {} if self.lag is None else _rounded(self.lag._asdict())
        values = {
            "connections": sum(self.states.values()),
            **dataclasses.asdict(self.totals),
            "queued_in": self.queued_in,
            "queued_out": self.queued_out,
            **{f"lag_{name}": value for name, value in lag.items()},
        }
        chosen = {name: str(value) for name, value in values.items()}
        rows: list[tuple[str, int, HandlerCounters | ConnectionCounters]] = []
        rows += [("handler", number, one) for number, one in enumerate(self.handlers, 1)]
        rows += [("connection", number, one) for number, one in enumerate(self.connections, 1)]
        room = max_bytes - sum(map(_size, chosen.items())) - len("left_out=") - 12
        for taken, (kind, number, one) in enumerate(rows):
            row = f"{kind}_{number}", json.dumps(_brief(one), separators=(",", ":"))
            room -= _size(row)
            if room < 0 or len(chosen) + 1 >= max_parameters:
                return {**chosen, "left_out": str(len(rows) - taken + self.left_out)}
            chosen[row[0]] = row[1]
        return {**chosen, "left_out": str(self.left_out)}

    def as_prometheus(self) -> str:
        """Returns the text exposition format of Prometheus, version 0.0.4.

        Connections that servers have accepted, and those beyond the first 200, are in the sums
        only: each name would be a series of its own.
        """
        out = Exposition("edgevent_")
        _expose_sums(self, out)
        if self.lag is not None:
            out.gauge("hub_lag_seconds", "How late the hub called a timer at last.", self.lag.now)
            text = "How late the hub called a timer, of the last minute, but for one in a hundred."
            out.gauge("hub_lag_p99_seconds", text, self.lag.p99)
            text = "How late the hub called a timer at worst, of the last minute."
            out.gauge("hub_lag_max_seconds", text, self.lag.max)
        for handler in self.handlers:
            labels = {"command": handler.command}
            text = "Seconds that handlers took, their waits included."
            out.summary("handler_seconds", text, handler.count, handler.total, labels)
            out.gauge("handler_max_seconds", "The longest of them.", handler.max, labels)
            out.counter("handler_failures", "Handlers that raised.", handler.errors, labels)
        for one in [one for one in self.connections if not one.server][:_MAX_SERIES]:
            _expose_connection(one, out)
        return str(out)


# --- how it is shown ------------------------------------------------------------------------------


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in values.items()
    }


def _brief(one: HandlerCounters | ConnectionCounters) -> dict[str, Any]:
    """What is not 0 and not empty."""
    return {name: value for name, value in _rounded(dataclasses.asdict(one)).items() if value}


def _size(parameter: tuple[str, str]) -> int:
    """How many bytes a parameter takes in a line at most: ``;name="value"`` with its escapes."""
    name, value = parameter
    return (
        len(name)
        + len(value.encode("utf-8", "surrogateescape"))
        + 4
        + sum(map(value.count, '\\"\n\r'))
    )


def _printable(text: str) -> str:
    """A name or an address on one line, whatever is in it."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _handler_line(one: HandlerCounters) -> str:
    return (
        f"handler of {_printable(one.command)}: count {one.count}, total {one.total:.3f} s,"
        f" mean {1000.0 * one.total / one.count:.3f} ms, max {1000.0 * one.max:.3f} ms,"
        f" errors {one.errors}"
    )


def _connection_line(one: ConnectionCounters) -> str:
    parts = [f"{one.name} ({one.kind}) {one.state} {one.peer}".rstrip()]
    if one.moves_bytes:
        parts.append(f"in {one.messages_in} ({one.bytes_in} bytes)")
        parts.append(f"out {one.messages_out} ({one.bytes_out} bytes)")
    if one.queued_in or one.queued_out:
        parts.append(f"{one.queued_in} bytes to be handled")
        parts.append(f"{one.queued_out} bytes to leave")
    if one.since is not None:
        date = datetime.fromtimestamp(one.since, timezone.utc)
        parts.append(f"since {date:%Y-%m-%dT%H:%M:%SZ}")
    if one.server:
        parts.append(f"of {one.server}")
    if one.peers is not None:
        parts.append(f"peers {one.peers}")
    parts += [f"{name} {count}" for name, count in sorted(one.events.items())]
    if one.handler_errors:
        parts.append(f"handler errors {one.handler_errors}")
    return _printable(", ".join(parts))


def _expose_sums(found: Counters, out: Exposition) -> None:
    totals = found.totals
    for (kind, state), count in sorted(found.states.items()):
        labels = {"class": kind, "state": state}
        out.gauge("connections", "Connections, by class and state.", count, labels)
    ended = totals.ended_connections
    out.counter("ended_connections", "Connections that were closed.", ended)
    out.counter("received_messages", "Messages that came.", totals.messages_in)
    out.counter("received_bytes", "Their bytes.", totals.bytes_in)
    out.counter("sent_messages", "Messages that left.", totals.messages_out)
    out.counter("sent_bytes", "Their bytes.", totals.bytes_out)
    out.counter("handler_errors", "Hooks and handlers that raised.", totals.handler_errors)
    out.gauge("queued_received_bytes", "Bytes that wait to be handled.", found.queued_in)
    out.gauge("queued_sent_bytes", "Bytes that wait for peers.", found.queued_out)
    out.counter("idle_seconds", "Time without work.", round(found.idle, 6))


def _expose_connection(one: ConnectionCounters, out: Exposition) -> None:
    labels = {"connection": one.name}
    if one.moves_bytes or one.peers is not None:
        up = int(one.state in ("connected", "listening", "receiving"))
        out.gauge("connection_up", "Whether it is connected, or listens.", up, labels)
    if one.moves_bytes:
        text = "Messages that came on one connection."
        out.counter("connection_received_messages", text, one.messages_in, labels)
        text = "Bytes that came on one connection."
        out.counter("connection_received_bytes", text, one.bytes_in, labels)
        text = "Messages that left on one connection."
        out.counter("connection_sent_messages", text, one.messages_out, labels)
        text = "Bytes that left on one connection."
        out.counter("connection_sent_bytes", text, one.bytes_out, labels)
    if one.peers is not None:
        out.gauge("server_peers", "Peers of a server.", one.peers, labels)
    for event, count in sorted(one.events.items()):
        text = "What has happened to a server."
        out.counter("server_events", text, count, {**labels, "event": event})
