"""The rows of TLS: what encryption costs beside plain edgevent, an idle connection, a handshake."""

import gc
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from statistics import median

from edgevent import Client, TlsOptions, make_authority, make_certificate

from . import clients
from .measure import Case, Options, Run, compare, heading
from .peers import ask
from .process import ServerProcess, pinned, raise_descriptor_limit
from .work import line, request

NAMES = ["127.0.0.1"]


def write_keys(folder: str, key: str = "ec:P-256") -> TlsOptions:
    """Makes an authority and a server's certificate; returns what a client needs."""
    authority = make_authority("bench")
    authority.write(folder, "ca")
    make_certificate(authority, NAMES, usage="server", key=key).write(folder, "server")
    return TlsOptions(authorities=f"{folder}/ca.crt", reuse_sessions=False)


@contextmanager
def both() -> Iterator[tuple[ServerProcess, ServerProcess, TlsOptions]]:
    """Starts edgevent's plain server and its encrypted one."""
    with tempfile.TemporaryDirectory() as folder:
        options = write_keys(folder)
        with (
            ServerProcess("own", folder) as plain,
            ServerProcess("tls", folder) as encrypted,
        ):
            yield plain, encrypted, options


def beside_plain(
    load: Callable[..., AbstractContextManager[Run]],
    must: float,
    aim: float,
    options: Options,
    count: int,
) -> None:
    """One load, plain and encrypted."""
    with both() as (plain, encrypted, tls):
        for pin in options.pins:
            heading(pin)
            with pinned(pin, plain, encrypted):
                compare(
                    Case("edgevent, plain", lambda: load(plain.tcp), plain),
                    [
                        Case(
                            "edgevent, TLS",
                            lambda: load(encrypted.tls, tls=tls),
                            encrypted,
                            must,
                            aim,
                        )
                    ],
                    options,
                    count,
                )


def tls_request(options: Options) -> None:
    """Request and reply over TLS, against plain edgevent."""
    beside_plain(clients.own_request, 0.35, 0.6, options, options.count(10_000, 10))


def tls_one_way(options: Options) -> None:
    """A one-way stream over TLS, against plain edgevent."""
    beside_plain(clients.own_one_way_again, 0.6, 0.8, options, options.count(64_000, 640))


# --- handshakes -----------------------------------------------------------------------------------


@contextmanager
def shaking(address: str, tls: TlsOptions) -> Iterator[Run]:
    """Connects, asks and closes, one after another."""

    def run(count: int) -> None:
        for _ in range(count):
            with Client(address, tls=tls) as client:
                client.request(request())

    yield run


def tls_handshake(options: Options) -> None:
    """Connections made, used once and closed: P-256 and a resumed session against RSA-2048."""
    count = options.count(500, 5)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        rsa_options, own_options = write_keys(first, "rsa:2048"), write_keys(second)
        again = TlsOptions(authorities=f"{second}/ca.crt")
        with ServerProcess("tls", first) as rsa, ServerProcess("tls", second) as own:
            for pin in options.pins:
                heading(pin)
                with pinned(pin, rsa, own):
                    compare(
                        Case("RSA-2048", lambda: shaking(rsa.tls, rsa_options), rsa),
                        [
                            Case("P-256", lambda: shaking(own.tls, own_options), own, 1.1, 1.3),
                            Case("P-256, resumed", lambda: shaking(own.tls, again), own),
                        ],
                        options,
                        count,
                    )


# --- memory ---------------------------------------------------------------------------------------


def held(count: int, used: bool) -> float:
    """Returns the bytes that a fresh server holds for each idle connection."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        write_keys(folder)
        context = ssl.create_default_context(cafile=f"{folder}/ca.crt")
        server = stack.enter_context(ServerProcess("tls", folder))

        def connect() -> ssl.SSLSocket:
            sock = socket.create_connection((server.host, server.port), timeout=30.0)
            return context.wrap_socket(sock, server_hostname=server.host)

        control = stack.enter_context(connect())
        for _ in range(50):  # what is made once is made now
            with connect() as sock:
                ask(sock, line("PUT"))
                sock.unwrap()  # a close without the end mark would be worth a log line
        ask(control, line("GCC"))
        before = server.resident()
        for _ in range(count):
            sock = stack.enter_context(connect())
            if used:
                ask(sock, line("PUT"))
        ask(control, line("GCC"))
        ask(control, line("GCC"))
        found = (server.resident() - before) / count
        server.close()  # before its peers: it has nothing to say to their end
        return found


def tls_idle(options: Options) -> None:
    """KiB resident for each idle TLS connection with a dispatcher."""
    count = min(options.count(1_000, 50), raise_descriptor_limit(3_000) - 200)
    print(f"    {f'KiB a connection, {count} of them':38}{'min':>8}{'median':>8}{'max':>8}")
    for used in (False, True):
        gc.collect()
        sizes = [held(count, used) / 1024 for _ in range(options.rounds)]
        label = f"edgevent, {'used once' if used else 'new'}"
        text = f"    {label:38}{min(sizes):8.2f}{median(sizes):8.2f}{max(sizes):8.2f}"
        print(text + "   must 40, aim 34" + (" -" if median(sizes) > 40 else ""), flush=True)
