"""The rows of messages that go through communicatord."""

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from . import clients
from .measure import Case, Options, Run, compare, heading
from .process import ServerProcess, pinned

Load = Callable[[str], AbstractContextManager[Run]]


def through_the_daemon(direct: Load, routed: Load, options: Options, count: int) -> None:
    """A service at the daemon, against the same one directly, over Unix sockets."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        raw, own, daemon, target = (
            stack.enter_context(ServerProcess(kind, folder))
            for kind in ("raw", "own", "daemon", "target")
        )
        for pin in options.pins:
            heading(pin)
            with pinned(pin, raw, own, daemon, target):
                compare(
                    Case("edgevent, direct", lambda: direct(own.unix), own),
                    [
                        Case("through the daemon", lambda: routed(daemon.unix), daemon, 0.4, 0.5),
                        Case(
                            "raw gevent, TCP, direct",
                            lambda: clients.raw_request((raw.host, raw.port)),
                            raw,
                        ),
                    ],
                    options,
                    count,
                )


def routed_request(options: Options) -> None:
    """Request and reply through the daemon, against a direct edgevent connection."""
    through_the_daemon(
        clients.own_request, clients.routed_request, options, options.count(10_000, 10)
    )


def routed_one_way(options: Options) -> None:
    """A one-way stream through the daemon, against a direct edgevent connection."""
    through_the_daemon(
        clients.own_one_way_again, clients.routed_one_way, options, options.count(64_000, 640)
    )
