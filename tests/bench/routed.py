"""The rows of messages that go through communicatord."""

import socket
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from statistics import median

from . import clients
from .measure import Case, Options, Run, compare, heading
from .process import ServerProcess, pinned, raise_descriptor_limit

Load = Callable[[str], AbstractContextManager[Run]]

MEBIBYTE = 1024 * 1024
COMMANDS = "ALIVE,HELP,INVALID,LEAK,LOG_ROTATE,QUITTING,READY,RESTART,STOP,UNKNOWN"


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


def register(path: str, name: str) -> socket.socket:
    """Connects a bare socket as a service, and waits until the daemon has taken it in."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30.0)
    sock.connect(path)
    lines = f"REGISTER service={name};version=1\nCOMMANDS list={COMMANDS},{name.upper()}\n"
    sock.sendall(f"{lines}SERVICE_STATUS service={name}\n".encode())
    data = b""
    while b"STATUS" not in data:
        data += sock.recv(65536)
    return sock


def held_by_services(count: int) -> int:
    """Returns the bytes that a fresh daemon holds for so many idle services."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess("daemon", folder) as daemon,
        ExitStack() as stack,
    ):
        path = daemon.unix.removeprefix("unix:")
        for number in range(50):  # what is made once is made now
            register(path, f"early_{number}").close()
        before = daemon.resident()
        for number in range(count):
            stack.enter_context(register(path, f"service_{number}"))
        return daemon.resident() - before


def registered_idle(options: Options) -> None:
    """MiB of the daemon that 1,000 registered idle services take."""
    count = options.count(1_000, 20)
    raise_descriptor_limit(count + 100)
    sizes = [held_by_services(count) / MEBIBYTE for _ in range(options.rounds)]
    must = 10.0 * count / 1_000
    print(f"    {f'MiB, {count} services':38}{'min':>8}{'median':>8}{'max':>8}")
    mark = " -" if median(sizes) > must else ""
    row = f"{min(sizes):8.2f}{median(sizes):8.2f}{max(sizes):8.2f}"
    print(f"    {'registered with the daemon':38}{row}   must {must:g}{mark}", flush=True)
