"""What ``--check-config`` tries without a start: addresses, files, folders, certificates.

Each function yields a sentence for each thing that is wrong; none of them raises. Those that look
names up may switch greenlets.
"""

from __future__ import annotations

import _socket
import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

from .address import Address
from .definitions import load_definition
from .errors import AddressError, CertificateFileError, DefinitionError
from .transport.resolve import DATAGRAM_SCHEMES, STREAM_SCHEMES, Endpoint, resolve

if TYPE_CHECKING:
    from .tls import TlsOptions

# What another server does, or this one that runs already, is no mistake of the options.
_IN_USE: Final = errno.EADDRINUSE


def address_problems(address: Address, *, listens: bool) -> Iterator[str]:
    """Tell whether an address can be used.

    Args:
        address: The address.
        listens: Whether it is listened on. Then its host must be one of this machine, its port one
            that this user may have, and the folder of its socket one that can be written; a port in
            use is none of the problems, for the service may run. Otherwise its host must be known.

    Yields:
        Sentences that begin with the address.
    """
    try:
        if address.scheme in ("fifo", "fd"):
            return
        if address.is_unix:
            endpoints = resolve(address, schemes=(address.scheme,))
            if listens and not address.is_abstract:
                yield from _socket_file_problems(address)
            return
        endpoints = resolve(address, passive=listens, schemes=STREAM_SCHEMES + DATAGRAM_SCHEMES)
    except AddressError as error:
        yield str(error)
        return
    except OSError as error:
        yield f"{address}: {error.strerror or error}"
        return
    if listens:
        failures = [_bind_problem(endpoint) for endpoint in endpoints]
        # Of a name with several addresses, one that is of this machine is enough.
        if all(failures):
            yield f"{address}: {failures[0]}"


def is_far(address: Address, *, private: bool = False) -> bool:
    """Tell whether others than this machine can reach a listener, as far as the address tells it.

    Args:
        address: Where it listens; a host that is a name counts as near.
        private: Whether those of a private network count as others.
    """
    if not address.is_inet:
        return False
    try:
        ipaddress.ip_address(address.host.partition("%")[0])
    except ValueError:
        return address.is_any
    return not (address.is_loopback or (address.is_private and not private))


def _bind_problem(endpoint: Endpoint) -> str:
    try:
        with socket.socket(endpoint.family, endpoint.kind) as sock:
            if endpoint.family == _socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(endpoint.sockaddr)
    except OSError as error:
        return "" if error.errno == _IN_USE else str(error.strerror)
    return ""


def _socket_file_problems(address: Address) -> Iterator[str]:
    folder = os.path.dirname(os.path.abspath(address.path))
    found = _folder_problem(folder)
    if found:
        yield f"{address}: {found}"
        return
    try:
        mode = os.lstat(address.path).st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        yield f"{address}: the path is there and is no socket"


def _folder_problem(folder: str) -> str:
    if not os.path.isdir(folder):
        return f"there is no folder {folder}"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"the folder {folder} cannot be written"
    return ""


def file_problems(path: str, *, writes: bool = False) -> Iterator[str]:
    """Tell whether a file can be used.

    Args:
        path: The file.
        writes: Whether it is written, and made if it is not there; otherwise it is read.

    Yields:
        Sentences that begin with the path.
    """
    if os.path.isdir(path):
        yield f"{path}: expected a file, and this is a folder"
    elif writes and not os.path.exists(path):
        found = _folder_problem(os.path.dirname(os.path.abspath(path)))
        if found:
            yield f"{path}: {found}"
    elif not os.path.exists(path):
        yield f"{path}: there is no such file"
    elif not os.access(path, os.W_OK if writes else os.R_OK):
        yield f"{path}: the file cannot be {'written' if writes else 'read'}"


def tls_problems(tls: TlsOptions, *, server_side: bool) -> Iterator[str]:
    """Tell whether certificates and keys can be used, now.

    Args:
        tls: What was asked for.
        server_side: Whether it is for a server.

    Yields:
        Sentences that name the file.
    """
    from .certificate import Certificate

    try:
        tls.context(server_side=server_side)
        if not isinstance(tls.certificate, (str, os.PathLike)):
            return
        found = Certificate.read(tls.certificate)
    except CertificateFileError as error:
        yield str(error)
        return
    now = datetime.now(timezone.utc)
    path = os.fspath(tls.certificate)
    if now > found.not_after:
        yield f"{path}: the certificate has expired on {found.not_after:%Y-%m-%d %H:%M} UTC"
    elif now < found.not_before:
        yield f"{path}: the certificate is valid from {found.not_before:%Y-%m-%d %H:%M} UTC on only"


def definition_problems(folders: tuple[str, ...]) -> Iterator[str]:
    """Tell whether all definition files of some folders can be used.

    Args:
        folders: The folders.

    Yields:
        Sentences that begin with the file or folder.
    """
    for folder in folders:
        try:
            names = sorted(os.listdir(folder))
        except OSError as error:
            yield f"{folder}: {error.strerror}"
            continue
        for name in names:
            if name.endswith(".conf"):
                try:
                    load_definition(os.path.join(folder, name))
                except DefinitionError as error:
                    yield str(error)
