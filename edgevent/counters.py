"""Counting what a communicator does: a snapshot, and the command that answers with one."""

from __future__ import annotations

from time import time
from typing import Any, Final

from .answers import Peer
from .communicator import Communicator
from .connection import Connection
from .counter_values import (
    RESERVED_BYTES,
    ConnectionCounters,
    Counters,
    HandlerCounters,
    Totals,
)
from .defaults import is_obeyed
from .links.datagram_flow import DatagramFlow
from .links.flow import Flow
from .links.server import Server
from .message import Message
from .runtime.traffic import Traffic

MAX_CONNECTIONS: Final = 1_000
"""So many connections are told one by one at most; the totals are of all."""


def snapshot(communicator: Communicator, *, max_connections: int = MAX_CONNECTIONS) -> Counters:
    """Returns what a communicator has counted so far. Does not switch.

    Connections and sums are always counted; the times of handlers and the lateness of the hub with
    ``Communicator(count_handlers=True)`` only. A connection that is closed goes on to count in the
    sums; one that was removed while open takes its counts with it.

    Args:
        max_connections: The most connections that are told one by one.

    Raises:
        WrongThreadError: The communicator belongs to another thread.
    """
    communicator.turns.check()
    total = Traffic()
    _add(communicator.ended, total)
    states: dict[tuple[str, str], int] = {}
    queued_in = queued_out = 0
    own: list[Connection] = []
    accepted: list[Connection] = []
    for connection in communicator.connections:
        if not connection.is_counted:
            continue
        connection.add_traffic_to(total)
        waiting, leaving = connection.queued_bytes
        queued_in += waiting
        queued_out += leaving
        key = type(connection).__name__, _state(connection)
        states[key] = states.get(key, 0) + 1
        (accepted if _server_of(connection) else own).append(connection)
    chosen = [*own, *accepted][:max_connections]
    table = communicator.handler_times
    rows = sorted(table.rows.items()) if table is not None else ()
    return Counters(
        name=communicator.name,
        date=time(),
        idle=communicator.idle,
        totals=Totals(
            total.messages_in,
            total.bytes_in,
            total.messages_out,
            total.bytes_out,
            total.handler_errors,
            communicator.ended_connections,
        ),
        states=states,
        queued_in=queued_in,
        queued_out=queued_out,
        lag=communicator.lag,
        handlers=tuple(
            HandlerCounters(name, one.count, one.total, one.max, one.errors)
            for name, one in rows
            if one.count
        ),
        connections=tuple(map(_describe, chosen)),
        left_out=len(own) + len(accepted) - len(chosen),
    )


def counters(message: Message, peer: Peer) -> Message | None:
    """A handler for a dispatcher: answers ``COUNTS`` with what the peer's communicator has counted.

    As STOP is, it is obeyed from peers that are local or have proved who they are. The answer keeps
    within the longest line, or datagram, that the peer is sent; ``left_out`` says how many
    handlers and connections had no room.

    Example:
        >>> service = Dispatcher()
        >>> _ = service.on("COUNTERS")(counters)
    """
    found: Any = peer
    # A datagram's sender has neither: its server has.
    table = getattr(found, "dispatcher", None) or found.server.dispatcher
    if not is_obeyed(table, message, peer):
        return None
    limit = getattr(found, "max_line_bytes", None) or found.server.max_datagram_bytes
    head = message.reply("COUNTS")
    room = limit - len(head.to_line()) - RESERVED_BYTES
    return head.with_parameters(snapshot(found.communicator).as_message_parameters(room))


# --- one connection -------------------------------------------------------------------------------


def _add(traffic: Traffic, total: Traffic) -> None:
    for name in Traffic.__slots__:
        setattr(total, name, getattr(total, name) + getattr(traffic, name))


def _server_of(connection: Connection) -> str:
    """The name of the server that has accepted it."""
    server = connection._server if isinstance(connection, Flow) else None
    return "" if server is None else str(server.name)


def _state(connection: Connection) -> str:
    if not connection.enabled:
        return "disabled"
    if isinstance(connection, Flow):
        if connection.is_connected:
            return "connected"
        return "disconnected" if connection.age is None else "ending"
    if isinstance(connection, Server):
        return "listening"
    return "receiving" if isinstance(connection, DatagramFlow) else "waiting"


def _describe(connection: Connection) -> ConnectionCounters:
    traffic, age = connection.traffic, connection.age
    queued_in, queued_out = connection.queued_bytes
    peer = ""
    peers: int | None = None
    events: dict[str, int] = {}
    if isinstance(connection, Flow):
        peer = connection.address
    elif isinstance(connection, (Server, DatagramFlow)):
        peer = ", ".join(connection.addresses)
        events = dict(connection.counts)
        if isinstance(connection, Server):
            peers = len(connection.peers)
    return ConnectionCounters(
        connection.name,
        type(connection).__name__,
        _state(connection),
        peer,
        _server_of(connection),
        None if age is None else time() - age,
        traffic.messages_in,
        traffic.bytes_in,
        traffic.messages_out,
        traffic.bytes_out,
        queued_in,
        queued_out,
        traffic.handler_errors,
        isinstance(connection, (Flow, DatagramFlow)),
        peers,
        events,
    )
