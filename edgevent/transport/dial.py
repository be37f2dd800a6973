"""Connecting to a stream address within a limit."""

from __future__ import annotations

import _socket
import errno
import os
import socket

from ..address import Address
from ..errors import ConnectError, ConnectTimeoutError, UsageError
from ..limits import CONNECT_TIMEOUT
from ..runtime.clock import SYSTEM_CLOCK, Clock
from ..runtime.turns import TIMED_OUT, Turns, wait
from ..runtime.watchers import WRITE, io_watcher
from ..signing import Guard
from ..tls import TlsMode, TlsOptions, options_for
from .adopt import adopt
from .base import StreamTransport
from .datagram_record import dial_datagrams
from .fifo import Access, dial_fifo
from .handshake import secure
from .record import connected
from .resolve import Endpoint, resolve
from .stream import set_stream_options

_FULL_BACKLOG_PAUSES = (0.005, 0.01, 0.02, 0.05, 0.1)


def dial(
    address: Address,
    timeout: float = CONNECT_TIMEOUT,
    *,
    clock: Clock = SYSTEM_CLOCK,
    tls: TlsOptions | TlsMode | None = None,
    access: Access | None = None,
    guard: Guard | None = None,
) -> StreamTransport:
    """Connects, and returns the transport. Blocks the calling greenlet.

    All addresses of a name are tried in turn, each with an equal share of the time that is left.

    Args:
        timeout: The limit in seconds, over the look-up, all addresses and the TLS handshake.
        tls: What is asked of TLS; by default all its checks, for an address of TLS.
        access: ``"read"`` or ``"write"``: which way one FIFO is opened (it is written to by
            default), or which way alone a descriptor is used that is open for both.
        guard: What proves the sender of datagrams.

    Raises:
        ConnectError: Nobody took the connection; it names the address and the last reason.
        ConnectTimeoutError: The limit was reached.
        CertificateFileError: A file of TLS cannot be used.
        HandshakeError: There is no TLS with whoever took it; a subclass says whose certificate is
            not accepted.
        AddressError: The address is of no stream.
        UsageError: There is no such access, or no TLS, for this address.
    """
    Turns.current().check_wait()
    options = options_for(address, tls)
    if options is not None:
        options.context(server_side=False)  # files that cannot be used are told before all else
    end = clock.now() + timeout
    if access not in (None, "read", "write"):
        raise UsageError(f"access={access!r}: 'read' or 'write' was expected")
    if address.scheme == "fifo":
        transport: StreamTransport = dial_fifo(address, access)
    elif address.scheme == "fd":
        transport = adopt(address, access)
    elif access is not None:
        raise UsageError(f"{address} goes both ways: access= is for FIFOs and descriptors")
    elif address.is_datagram:
        transport = dial_datagrams(address, timeout, clock=clock, guard=guard)
    else:
        transport = _dial_socket(address, timeout, clock)
    if options is None:
        return transport
    return secure(transport, address, options, end - clock.now(), clock)


def _dial_socket(address: Address, timeout: float, clock: Clock) -> StreamTransport:
    end = clock.now() + timeout
    try:
        endpoints = resolve(address, timeout, clock=clock)
    except TimeoutError as error:
        raise ConnectTimeoutError(f"{address}: {error.strerror}", error.errno) from error
    except OSError as error:
        code = None if isinstance(error, socket.gaierror) else error.errno
        raise ConnectError(f"{address}: {error.strerror or error}", code) from error
    failure: OSError | None = None
    for index, endpoint in enumerate(endpoints):
        left = end - clock.now()
        if left <= 0.0 and index:
            break
        try:
            return _connect(endpoint, left / (len(endpoints) - index), clock)
        except OSError as error:
            failure = error
    if failure is None or failure.errno == errno.ETIMEDOUT:
        raise ConnectTimeoutError(
            f"{address}: no connection within {timeout:g} s", errno.ETIMEDOUT
        ) from failure
    raise ConnectError(f"{address}: {failure.strerror}", failure.errno) from failure


def _connect(endpoint: Endpoint, timeout: float, clock: Clock) -> StreamTransport:
    """Connects to one endpoint; raises what the system calls say."""
    end = clock.now() + timeout
    kind = endpoint.kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    sock = _socket.socket(endpoint.family, kind)
    try:
        set_stream_options(sock)
        code = _start(sock, endpoint, end, clock)
        if code == errno.EINPROGRESS:
            code = _finish(sock, end - clock.now(), clock)
        if code == 0 and _is_to_itself(sock):
            code = errno.ECONNREFUSED
        if code:
            raise OSError(code, os.strerror(code))
        return connected(sock)
    except BaseException:
        sock.close()
        raise


def _start(sock: _socket.socket, endpoint: Endpoint, end: float, clock: Clock) -> int:
    """Begins to connect. A Unix socket whose queue is full says EAGAIN: its server is alive."""
    turns = Turns.current()
    attempt = 0
    while True:
        code = sock.connect_ex(endpoint.sockaddr)
        if code != errno.EAGAIN:
            return code
        pause = _FULL_BACKLOG_PAUSES[min(attempt, len(_FULL_BACKLOG_PAUSES) - 1)]
        attempt += 1
        if clock.now() + pause >= end:
            return errno.ETIMEDOUT
        wait(turns, clock, pause)


def _finish(sock: _socket.socket, timeout: float, clock: Clock) -> int:
    turns = Turns.current()
    watcher = io_watcher(sock.fileno(), WRITE)
    watcher.start(turns.check_wait().switch)
    try:
        if wait(turns, clock, max(timeout, 0.0)) is TIMED_OUT:
            return errno.ETIMEDOUT
    finally:
        watcher.close()
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _is_to_itself(sock: _socket.socket) -> bool:
    # A dial to a free port of the ephemeral range can meet itself (simultaneous open, RFC 9293,
    # 3.5): it would look like a server that echoes, and would keep the real one from its port.
    return sock.family != socket.AF_UNIX and sock.getsockname() == sock.getpeername()
