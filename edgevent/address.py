"""Addresses: one text form for every kind of socket and descriptor.

The forms are ``tcp://host:port``, ``tls://host:port``, ``udp://host:port``, ``unix:/path``,
``unix:@abstract``, ``tls+unix:/path``, ``unixgram:/path``, ``unixseq:/path``, ``fifo:/path``,
``fifo:/in,/out`` and ``fd:N``. The spellings of the C++ library are read too: ``cd`` is plain,
``cds`` is TLS and ``cdu`` is datagram, each with ``//host:port`` or with a path.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Final

from .errors import AddressError, UsageError

_INET: Final = frozenset(("tcp", "tls", "udp"))
_UNIX: Final = frozenset(("unix", "tls+unix", "unixgram", "unixseq"))
_PATH: Final = _UNIX | {"fifo"}
SCHEMES: Final = ("tcp", "tls", "udp", "unix", "tls+unix", "unixgram", "unixseq", "fifo", "fd")
"""Every scheme that an address can have."""
# To each C++ scheme the scheme before a host, and the one before a path.
_CPP: Final = {"cd": ("tcp", "unix"), "cds": ("tls", "tls+unix"), "cdu": ("udp", "unixgram")}

# sun_path of sockaddr_un (unix(7)) has 108 bytes; a path needs a NUL behind it, an abstract name
# one before it.
_SUN_PATH_BYTES: Final = 107
_MAX_PORT: Final = 65_535
_MAX_FD: Final = 2**31 - 1
_MAX_HOST_LENGTH: Final = 253
_SHOWN: Final = 100

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):", re.ASCII)
_PORT: Final = re.compile(r"[0-9]{1,5}")
_FD: Final = re.compile(r"[0-9]{1,10}")
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# inet_aton(3), and with it getaddrinfo(3), reads "0x7f.1" and "127.1" as IPv4 addresses.
_NUMERIC_END: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")
_SCOPE: Final = re.compile(r"[!-~]{1,15}")
_SCOPE_REFUSED: Final = frozenset("/%[]")
_PRIVATE: Final = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16")
_PRIVATE6: Final = ("fd00::/8", "fe80::/10")


@dataclass(frozen=True, slots=True)
class Address:
    """A place to listen at or to connect to; a value, checked and brought to its canonical form.

    Attributes:
        scheme: One of :data:`SCHEMES`.
        host: A name in lower case, or a numeric address without brackets; empty for all addresses.
        port: 0 to 65535; 0 lets the kernel choose when listening.
        path: A file's path, or ``@name`` for an abstract Unix socket. It may be empty when built
            directly: that is the unnamed socket which most Unix clients have.
        second_path: The path of a two-way FIFO that is written to; ``path`` is then read from.
        fd: The number of an open descriptor; -1 if the scheme is not ``fd``.

    Example:
        >>> str(Address.parse("[::1]:3001"))
        'tcp://[::1]:3001'
    """

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    second_path: str = ""
    fd: int = -1

    def __post_init__(self) -> None:
        if self.scheme in _INET:
            object.__setattr__(self, "host", _canonical_host(self.host))
            foreign = bool(self.path or self.second_path) or self.fd != -1
            if not 0 <= self.port <= _MAX_PORT:
                raise AddressError(f"port {self.port}: expected 0 to {_MAX_PORT}")
        elif self.scheme in _PATH:
            object.__setattr__(self, "path", _canonical_path(self.path))
            object.__setattr__(self, "second_path", _canonical_path(self.second_path))
            foreign = bool(self.host or self.port) or self.fd != -1
            self._check_paths()
        elif self.scheme == "fd":
            foreign = bool(self.host or self.port or self.path or self.second_path)
            if not 0 <= self.fd <= _MAX_FD:
                raise AddressError(f"descriptor {self.fd}: expected 0 to {_MAX_FD}")
        else:
            raise AddressError(_unknown_scheme(self.scheme))
        if foreign:
            raise AddressError(f"an address of scheme {self.scheme} was given another kind's field")

    def _check_paths(self) -> None:
        if self.scheme != "fifo":
            if self.second_path:
                raise AddressError("a second path is for scheme fifo only")
        elif not self.path or "," in self.path + self.second_path:
            raise AddressError("expected fifo:/path or fifo:/in,/out, without a comma in a path")

    @staticmethod
    def parse(
        text: str | Address,
        *,
        default_scheme: str = "tcp",
        default_port: int | None = None,
    ) -> Address:
        """Read an address; one that is an :class:`Address` already is handed back.

        Args:
            text: The address; the scheme may be missing.
            default_scheme: The scheme of a text without one.
            default_port: The port of a text without one; ``None`` makes the port necessary.

        Returns:
            The address, in canonical form.

        Raises:
            AddressError: The text is no address; the sentence says what was expected. A user name
                and password in the text are not shown.
            UsageError: It is no text.
        """
        if isinstance(text, Address):
            return text
        if not isinstance(text, str):
            raise UsageError(
                f"an address is text, such as tcp://127.0.0.1:3001, and no {type(text).__name__}"
            )
        try:
            return _parse(text, default_scheme, default_port)
        except AddressError as error:
            raise AddressError(f"address {_shown(text)}: {error}") from None

    def __str__(self) -> str:
        if self.scheme in _INET:
            return f"{self.scheme}://{self.endpoint}"
        if self.scheme == "fd":
            return f"fd:{self.fd}"
        second = f",{self.second_path}" if self.second_path else ""
        return f"{self.scheme}:{self.path}{second}"

    @property
    def endpoint(self) -> str:
        """``ip:port`` as in the parameters of messages; of a local kind the whole text."""
        if self.scheme not in _INET:
            return str(self)
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_stream(self) -> bool:
        """Whether bytes flow without boundaries; ``unixseq`` is neither stream nor datagram."""
        return not self.is_datagram and self.scheme != "unixseq"

    @property
    def is_datagram(self) -> bool:
        """Whether each message is a datagram of its own, without a connection."""
        return self.scheme in ("udp", "unixgram")

    @property
    def is_unix(self) -> bool:
        """Whether it is a Unix socket of any kind."""
        return self.scheme in _UNIX

    @property
    def is_tls(self) -> bool:
        """Whether TLS is spoken."""
        return self.scheme in ("tls", "tls+unix")

    @property
    def is_inet(self) -> bool:
        """Whether it has a host and a port."""
        return self.scheme in _INET

    @property
    def is_abstract(self) -> bool:
        """Whether it is a Unix socket in the abstract namespace, which has no file."""
        return self.scheme in _UNIX and self.path.startswith("@")

    @property
    def path_too_long(self) -> bool:
        """Whether the path does not fit the kernel's ``sockaddr_un`` (107 bytes)."""
        name = self.path[1:] if self.is_abstract else self.path
        return self.scheme in _UNIX and len(os.fsencode(name)) > _SUN_PATH_BYTES

    @property
    def is_loopback(self) -> bool:
        """Whether the host is 127.0.0.0/8, ::1 or ``localhost``."""
        ip = self._ip()
        return self.host == "localhost" if ip is None else ip.is_loopback

    @property
    def is_local(self) -> bool:
        """Whether it never leaves this machine: loopback, Unix, FIFO, descriptor."""
        return self.scheme not in _INET or self.is_loopback

    @property
    def is_private(self) -> bool:
        """Whether the host is numeric and of a private or link-local network."""
        ip = self._ip()
        if ip is None:
            return False
        networks = _PRIVATE if ip.version == 4 else _PRIVATE6
        return any(ip in ipaddress.ip_network(network) for network in networks)

    @property
    def is_any(self) -> bool:
        """Whether it stands for all addresses of this machine: empty, 0.0.0.0 or ``::``."""
        ip = self._ip()
        return self.is_inet and not self.host if ip is None else ip.is_unspecified

    @property
    def is_multicast(self) -> bool:
        """Whether the host is a numeric multicast address."""
        ip = self._ip()
        return ip is not None and ip.is_multicast

    def _ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        if self.scheme not in _INET:
            return None
        try:
            ip = ipaddress.ip_address(self.host)
        except ValueError:
            return None
        # The kernel connects ::ffff:127.0.0.1 to 127.0.0.1, so it must be judged as such.
        mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
        return ip if mapped is None else mapped


def _parse(text: str, default_scheme: str, default_port: int | None) -> Address:
    match = _SCHEME.match(text)
    scheme = match[1].lower() if match else ""
    if match and (scheme in SCHEMES or scheme in _CPP):
        rest = text[match.end() :]
    elif match and text[match.end() :].startswith(("/", "@")):
        raise AddressError(_unknown_scheme(scheme))
    elif default_scheme not in SCHEMES:
        raise AddressError(f"default {_unknown_scheme(default_scheme)}")
    else:
        scheme = default_scheme
        rest = f"//{text}" if default_scheme in _INET else text
        if text.startswith(("/", "@")) and default_scheme in _INET:
            raise AddressError("expected host:port, or unix: before a path")
    if scheme in _CPP:
        has_host = rest.startswith("//") and not rest.startswith("///")
        scheme = _CPP[scheme][0 if has_host else 1]
    if scheme in _INET:
        host, port = _split_host(scheme, rest, default_port)
        return Address(scheme, host=host, port=port)
    if scheme == "fd":
        if not _FD.fullmatch(rest):
            raise AddressError("expected fd: and the number of a descriptor")
        return Address(scheme, fd=int(rest))
    return _parse_path(scheme, rest)


def _split_host(scheme: str, rest: str, default_port: int | None) -> tuple[str, int]:
    expected = f"expected {scheme}://host:port"
    if not rest.startswith("//"):
        raise AddressError(expected)
    rest = rest[2:]
    if "@" in rest:
        raise AddressError(f"{expected}, without a user name or password")
    if rest.startswith("["):
        host, bracket, port = rest[1:].partition("]")
        if not bracket or ":" not in host or (port and not port.startswith(":")):
            raise AddressError(f"{expected}, with an IPv6 address in brackets")
        colon, port = port[:1], port[1:]
    else:
        host, colon, port = rest.partition(":")
        if ":" in port:
            raise AddressError(f"{expected}; an IPv6 address stands in brackets: [::1]:{_MAX_PORT}")
    if not colon:
        if default_port is None or not host:
            raise AddressError(f"{expected}; there is no port")
        return host, default_port
    if not _PORT.fullmatch(port):
        raise AddressError(f"port {_shown(port)}: {expected}, the port from 0 to {_MAX_PORT}")
    return host, int(port)


def _parse_path(scheme: str, rest: str) -> Address:
    expected = f"expected {scheme}:/path"
    if rest.startswith("//") and not rest.startswith("///"):
        raise AddressError(f"{expected} or {scheme}:///path")
    path, second_path = rest, ""
    if scheme == "fifo":
        path, comma, second_path = rest.partition(",")
        if comma and not second_path:
            raise AddressError(f"{expected} or {scheme}:/in,/out")
    if path in ("", "@"):
        raise AddressError(f"{expected}; the path is empty")
    return Address(scheme, path=path, second_path=second_path)


def _canonical_host(host: str) -> str:
    name = host.lower()
    if ":" in name:
        return _canonical_ipv6(host)
    if not name:
        return name
    if _NUMERIC_END.fullmatch(name):
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            raise AddressError(
                f"host {_shown(host)}: expected a name, or an IPv4 address of four decimal numbers"
            ) from None
    labels = name.removesuffix(".").split(".")
    if len(name) > _MAX_HOST_LENGTH or not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressError(
            f"host {_shown(host)}: expected a name of ASCII letters, digits, '-' and '.', "
            "or a numeric address"
        )
    return name


def _canonical_ipv6(host: str) -> str:
    # The scope is the name of an interface, in which capital letters count.
    number, percent, scope = host.partition("%")
    try:
        ip = ipaddress.IPv6Address(number)
        if percent and (not _SCOPE.fullmatch(scope) or _SCOPE_REFUSED & set(scope)):
            raise ValueError(scope)
    except ValueError:
        raise AddressError(f"host {_shown(host)}: expected an IPv6 address") from None
    # Python versions differ in how they write a mapped address.
    text = str(ip) if ip.ipv4_mapped is None else f"::ffff:{ip.ipv4_mapped}"
    return text + percent + scope


def _canonical_path(path: str) -> str:
    if "\0" in path:
        raise AddressError("expected a path without a NUL")
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise AddressError("expected a path that the file system can encode") from None
    # Two slashes would read as the start of the form with "//", and mean the same as one to Linux.
    return "/" + path.lstrip("/") if path.startswith("//") else path


def _unknown_scheme(scheme: str) -> str:
    near = difflib.get_close_matches(scheme[:_SHOWN], (*SCHEMES, *_CPP), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"scheme {_shown(scheme)}: expected one of {', '.join(SCHEMES)}{hint}"


def _shown(text: str) -> str:
    """Give a text as it may stand in an error: cut, escaped, without credentials."""
    scheme = _SCHEME.match(text)
    start = text.find("//") + 2 if "//" in text else 0
    end = text.rfind("@")
    if end > start and (scheme is None or scheme[1].lower() not in _PATH):
        text = f"{text[:start]}***{text[end:]}"
    shown = repr(text[: _SHOWN + 1])
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."
