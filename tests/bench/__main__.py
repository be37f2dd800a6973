"""``python -m tests.bench NAME``: the rows of what edgevent must reach, beside raw gevent.

Without a name it lists them; ``all`` runs all.
"""

import argparse
from collections.abc import Callable

from . import (
    collecting,
    datagrams,
    encrypted,
    files,
    logging_calls,
    peers,
    routed,
    settings,
    streams,
    timers,
    values,
)
from .measure import Options

ROWS: dict[str, Callable[[Options], None]] = {
    "request": streams.request,
    "unix": streams.unix,
    "many": streams.many,
    "shared": streams.shared,
    "one-way": streams.one_way,
    "broadcast": peers.broadcast,
    "idle": peers.idle,
    "accept": peers.accept,
    "tls-request": encrypted.tls_request,
    "tls-one-way": encrypted.tls_one_way,
    "tls-idle": encrypted.tls_idle,
    "tls-handshake": encrypted.tls_handshake,
    "datagrams": datagrams.datagrams,
    "routed-request": routed.routed_request,
    "routed-one-way": routed.routed_one_way,
    "registered-idle": routed.registered_idle,
    "log-call": logging_calls.log_call,
    "log-lines": collecting.log_lines,
    "settings": settings.settings,
    "parse": values.parse,
    "build": values.build,
    "files": files.files,
    "timers": timers.timers,
}


def main() -> None:
    """Runs the rows that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ROWS) + " or all")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--size", type=float, default=1.0, help="of the usual work (default: 1)")
    parser.add_argument("--pin", choices=("yes", "no", "both"), default="both")
    given = parser.parse_args()
    names = list(ROWS) if given.names == ["all"] else given.names
    for name in names:
        if name not in ROWS:
            parser.error(f"{name!r} is no row: {', '.join(ROWS)} or all was expected")
    pins = {"yes": (True,), "no": (False,), "both": (True, False)}[given.pin]
    options = Options(given.rounds, given.size, pins)
    for name in names:
        print(f"{name}: {ROWS[name].__doc__}", flush=True)
        ROWS[name](options)
    if not names:
        for name, row in ROWS.items():
            print(f"{name:16}{row.__doc__}")


if __name__ == "__main__":
    main()
