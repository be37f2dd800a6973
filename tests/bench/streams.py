"""The rows of requests and of one-way streams."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from . import clients
from .measure import Case, Options, Run, compare, heading
from .process import ServerProcess, pinned

Load = Callable[..., AbstractContextManager[Run]]


@contextmanager
def servers() -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """Starts the raw server and edgevent's."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess("raw", folder) as raw,
        ServerProcess("own", folder) as own,
    ):
        yield raw, own


def over_tcp(
    raw_load: Load, own_load: Load, must: float, aim: float, options: Options, count: int
) -> None:
    """Both kinds of client against edgevent's server, beside raw gevent on both sides."""
    with servers() as (raw, own):
        for pin in options.pins:
            heading(pin)
            with pinned(pin, raw, own):
                compare(
                    Case("raw gevent", lambda: raw_load((raw.host, raw.port)), raw),
                    [
                        Case(
                            "raw client, edgevent server",
                            lambda: raw_load((own.host, own.port)),
                            own,
                            must,
                            aim,
                        ),
                        Case(
                            "edgevent client and server",
                            lambda: own_load(own.tcp),
                            own,
                            must,
                            aim,
                        ),
                    ],
                    options,
                    count,
                )


def request(options: Options) -> None:
    """Request and reply, one outstanding, over TCP."""
    over_tcp(
        clients.raw_request, clients.own_request, 0.75, 1.0, options, options.count(10_000, 10)
    )


def unix(options: Options) -> None:
    """The same over a Unix socket, against raw gevent over TCP."""
    count = options.count(10_000, 10)
    with servers() as (raw, own):
        for pin in options.pins:
            heading(pin)
            with pinned(pin, raw, own):
                compare(
                    Case("raw gevent", lambda: clients.raw_request((raw.host, raw.port)), raw),
                    [
                        Case(
                            "raw client, edgevent server",
                            lambda: clients.raw_request(own.path),
                            own,
                            0.95,
                            1.3,
                        ),
                        Case(
                            "edgevent client and server",
                            lambda: clients.own_request(own.unix),
                            own,
                            0.95,
                            1.3,
                        ),
                    ],
                    options,
                    count,
                )


def many(options: Options) -> None:
    """100 connections, one outstanding each."""
    over_tcp(clients.raw_many, clients.own_many, 0.9, 1.15, options, options.count(20_000, 200))


def shared(options: Options) -> None:
    """100 callers sharing one connection."""
    count = options.count(20_000, 200)
    with servers() as (raw, own):
        for pin in options.pins:
            heading(pin)
            with pinned(pin, raw, own):
                compare(
                    Case(
                        "raw gevent, one at a time",
                        lambda: clients.raw_locked((raw.host, raw.port)),
                        raw,
                    ),
                    [
                        Case(
                            "raw gevent, matching serials",
                            lambda: clients.raw_shared((raw.host, raw.port)),
                            raw,
                        ),
                        Case(
                            "such a client, edgevent server",
                            lambda: clients.raw_shared((own.host, own.port)),
                            own,
                        ),
                        Case(
                            "edgevent client and server",
                            lambda: clients.own_shared(own.tcp),
                            own,
                            2.0,
                            2.8,
                        ),
                    ],
                    options,
                    count,
                )


def one_way(options: Options) -> None:
    """A one-way stream: 64 messages a send by the raw client, send per message by edgevent."""
    count = options.count(64_000, 640)
    with servers() as (raw, own):
        for pin in options.pins:
            heading(pin)
            with pinned(pin, raw, own):
                compare(
                    Case("raw gevent", lambda: clients.raw_one_way((raw.host, raw.port)), raw),
                    [
                        Case(label, load, own, 0.16, 0.25)
                        for label, load in (
                            (
                                "raw client, edgevent server",
                                lambda: clients.raw_one_way((own.host, own.port)),
                            ),
                            (
                                "edgevent, each message built anew",
                                lambda: clients.own_one_way(own.tcp),
                            ),
                            (
                                "edgevent, one message sent again",
                                lambda: clients.own_one_way_again(own.tcp),
                            ),
                        )
                    ],
                    options,
                    count,
                )
