"""What a service's configuration file says of a listener or a link: an address, and settings.

A value is ``ADDRESS [NAME=VALUE ...]``, in words as the shell has them, such as
``tls://10.0.0.5:3002 certificate=/etc/hello/server.crt key=/etc/hello/server.key``. Nothing here
opens a socket.
"""

from __future__ import annotations

import grp
import ipaddress
import os
import pwd
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, get_args

from . import limits
from .address import Address
from .backoff import Backoff
from .durations import parse_duration
from .errors import EdgeventError, ListenError, OptionError, UsageError
from .option_values import nearest, shown
from .runtime.room import WhenFull
from .tls import TlsOptions

Convert = Callable[[str], object]

_YES: Final = ("yes", "true", "on", "1")
_NO: Final = ("no", "false", "off", "0")
_SIZE: Final = re.compile(r"([0-9]{1,12})(KiB|MiB)?", re.ASCII)
_UNITS: Final = {None: 1, "KiB": 1024, "MiB": 1024 * 1024}
_MAX_ID: Final = 2**32 - 2  # the last number means none (chown(2))
_MODE: Final = re.compile(r"0?[0-7]{3}", re.ASCII)


def _boolean(text: str) -> bool:
    if text.lower() in (*_YES, *_NO):
        return text.lower() in _YES
    raise UsageError("yes or no was expected")


def _size(least: int, most: int) -> Convert:
    """Makes a conversion of numbers and sizes within limits."""

    def read(text: str) -> int:
        found = _SIZE.fullmatch(text)
        if found is None:
            raise UsageError("a number was expected, such as 1000 or 64KiB")
        size = int(found[1]) * _UNITS[found[2]]
        if not least <= size <= most:
            raise UsageError(f"a number from {least} to {most} was expected")
        return size

    return read


def _mode(text: str) -> int:
    if not _MODE.fullmatch(text):
        raise UsageError("the mode of a file was expected, such as 0660")
    return int(text, 8)


def _list(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _user(text: str) -> str | int:
    return _known("user", text, pwd.getpwnam)


def _group(text: str) -> str | int:
    return _known("group", text, grp.getgrnam)


def _known(kind: str, name: str, find: Callable[[str], object]) -> str | int:
    if name.isascii() and name.isdecimal() and int(name) <= _MAX_ID:
        return int(name)
    try:
        find(name)
    except (KeyError, ValueError):  # ValueError: a NUL, or half a character
        raise UsageError(f"there is no {kind} {shown(name)}") from None
    return name


def _users(text: str) -> tuple[str | int, ...]:
    return tuple(map(_user, _list(text)))


def _groups(text: str) -> tuple[str | int, ...]:
    return tuple(map(_group, _list(text)))


def _file(text: str) -> str:
    if not text or "\0" in text:
        raise UsageError("the name of a file was expected")
    return text


def _multicast(text: str) -> tuple[str, ...]:
    for group in _list(text):
        try:
            is_group = ipaddress.ip_address(group.partition("%")[0]).is_multicast
        except ValueError:
            is_group = False
        if not is_group:
            raise UsageError(f"{shown(group)} is no address of multicast, such as 239.1.2.3")
    return _list(text)


def _interface(text: str) -> str:
    if not text or "\0" in text:
        raise UsageError("the name or an address of an interface was expected")
    return text


def _when_full(text: str) -> str:
    if text in get_args(WhenFull):
        return text
    raise UsageError("wait, raise or drop was expected")


def _seconds(text: str) -> float:
    seconds = parse_duration(text)
    if seconds > 0.0:
        return seconds
    raise UsageError("more than 0 seconds were expected")


def _pauses(text: str) -> str:
    Backoff(text)
    return text


_FEW: Final = _size(0, 255)  # of these the connection knows a narrower limit
_LARGE: Final = _size(0, 2**40)
_LINE_BYTES: Final = _size(1, limits.MAX_CONFIGURABLE_LINE_BYTES)
_TLS: Final[dict[str, Convert]] = {
    "certificate": _file,
    "key": _file,
    "ca": _file,
    "verify": str,
    "mutual": _boolean,
    "allow_names": _list,
    "server_name": str,
    "minimum_version": str,
    "handshake_timeout": parse_duration,
}
_LISTENER: Final[dict[str, Convert]] = {"allow_control": _boolean, "priority": _FEW}
_SOCKET_FILE: Final[dict[str, Convert]] = {
    "mode": _mode,
    "group": _group,
    "allow_users": _users,
    "allow_groups": _groups,
}
_STREAM: Final[dict[str, Convert]] = {
    **_LISTENER,
    "allow_remote": _boolean,
    "backlog": _size(1, 65_535),
    "max_connections": _size(1, 2**40),
    "must_introduce": _boolean,
    "introduction_timeout": _seconds,
    "max_line_bytes": _LINE_BYTES,
    "peer_priority": _FEW,
    "when_full": _when_full,
    "slow_timeout": _seconds,
    "max_outbox_bytes": _size(1, limits.OUTBOX_HARD_BYTES),
}
_UNIX_STREAM: Final[dict[str, Convert]] = {**_STREAM, **_SOCKET_FILE, "max_fds": _FEW}
_DATAGRAM: Final[dict[str, Convert]] = {
    **_LISTENER,
    "allow_unauthenticated": _boolean,
    "secret_code_file": _file,
    "auth": _file,
    "signature_window": _seconds,
    "concurrency": _size(1, 1000),
    "max_datagram_bytes": _size(1, limits.MAX_UNIX_DATAGRAM_BYTES),
    "send_timeout": _seconds,
}
_UNIX_DATAGRAM: Final[dict[str, Convert]] = {**_DATAGRAM, **_SOCKET_FILE}
_UDP: Final[dict[str, Convert]] = {
    **_DATAGRAM,
    "groups": _multicast,
    "interface": _interface,
    "ttl": _FEW,
    "loop": _boolean,
}
_LINK: Final[dict[str, Convert]] = {
    "pauses": _pauses,
    "connect_timeout": _seconds,
    "wait_for_listener": _boolean,
    "wait_ready": _boolean,
    "max_kept": _LARGE,
    "max_kept_bytes": _LARGE,
    "max_line_bytes": _LINE_BYTES,
    "max_fds": _FEW,
    "priority": _FEW,
}
_ONLY: Final = {
    **dict.fromkeys((*_SOCKET_FILE, "max_fds"), "Unix sockets"),
    **dict.fromkeys(("groups", "interface", "loop", "ttl"), "udp:"),
}
LIVE: Final = frozenset(
    {
        "allow_control",
        "connect_timeout",
        "introduction_timeout",
        "max_connections",
        "max_kept",
        "max_kept_bytes",
        "max_outbox_bytes",
        "must_introduce",
        "peer_priority",
        "priority",
        "send_timeout",
        "slow_timeout",
        "wait_ready",
        "when_full",
    }
)
"""The settings that can change while a listener or a link stays: all are plain attributes."""


@dataclass(frozen=True, slots=True)
class Place:
    """A listener or a link as the file has it; two are equal when nothing is to be changed.

    Attributes:
        address: Where it is.
        settings: The arguments of ``Server``, ``DatagramServer`` or ``PermanentConnection`` that
            are given, without those of TLS.
        tls: The arguments of :class:`TlsOptions` that are given.
        text: The value as it stood there.
    """

    address: Address
    settings: Mapping[str, Any] = field(default_factory=dict)
    tls: Mapping[str, Any] = field(default_factory=dict)
    text: str = field(default="", compare=False)

    def tls_options(self) -> TlsOptions | None:
        """Makes what is asked of TLS; ``None`` when nothing is said of it."""
        return TlsOptions(**self.tls) if self.tls else None

    def differs_in(self, other: Place) -> set[str]:
        """Gives the names of the settings that are not the same; ``address`` and ``tls`` too."""
        names = {
            name
            for name in {*self.settings, *other.settings}
            if self.settings.get(name) != other.settings.get(name)
        }
        return (
            names
            | ({"address"} if self.address != other.address else set())
            | ({"tls"} if self.tls != other.tls else set())
        )

    def at(self, settings: Mapping[str, Any]) -> Place:
        """Gives the same place with settings of a program below its own."""
        return replace(self, settings={**settings, **self.settings})


def parse_listener(name: str, text: str, default_port: int | None = None) -> Place:
    """Reads where to listen, and how.

    Args:
        name: The listener's name, for nothing but the signature of a section's values.
        text: ``ADDRESS [NAME=VALUE ...]``.
        default_port: The port of an address without one.

    Raises:
        OptionError: The sentence names the word, and what was expected.
    """
    address, words = _split(text, default_port)
    if address.is_datagram:
        known = _UNIX_DATAGRAM if address.is_unix else _UDP
        return _place(address, words, known, {}, text)
    can_have_tls = address.scheme in ("tcp", "tls", "unix", "tls+unix")
    if address.is_tls and not any(word.startswith("certificate=") for word in words):
        raise OptionError(f"{address}: certificate=FILE and key=FILE were expected behind it")
    known = _STREAM if address.is_inet else _UNIX_STREAM
    return _place(address, words, known, _TLS if can_have_tls else {}, text)


def parse_link(name: str, text: str) -> Place:
    """Reads where a link goes, and how; as :func:`parse_listener`."""
    address, words = _split(text)
    if address.is_datagram or address.scheme == "fd":
        raise OptionError(f"{address}: a link goes over a stream, such as tcp: or unix:")
    return _place(address, words, _LINK, _TLS, text)


def _split(text: str, default_port: int | None = None) -> tuple[Address, list[str]]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise OptionError(f"{shown(text)}: {error}") from None
    if not words:
        raise OptionError("an address was expected, such as tcp://127.0.0.1:3001")
    return _address(words[0], default_port), words[1:]


def _address(text: str, default_port: int | None = None) -> Address:
    try:
        return Address.parse(text, default_port=default_port)
    except EdgeventError as error:
        raise OptionError(str(error)) from None


def _place(
    address: Address,
    words: list[str],
    known: Mapping[str, Convert],
    of_tls: Mapping[str, Convert],
    text: str,
) -> Place:
    settings: dict[str, Any] = {}
    tls: dict[str, Any] = {}
    found: set[str] = set()
    for word in words:
        name, equal, value = word.partition("=")
        name = name.replace("-", "_")
        convert = known.get(name) or of_tls.get(name)
        if convert is None or not equal:
            raise OptionError(_unknown(address, word, name, [*known, *of_tls]))
        if name in found:
            raise OptionError(f"{name} stands twice behind {address}")
        found.add(name)
        try:
            converted = convert(value)
        except EdgeventError as error:
            raise OptionError(f"{name}={shown(value)[1:-1]}: {error}") from None
        if name in of_tls and name not in known:
            tls["authorities" if name == "ca" else name] = converted
        else:
            settings[name] = converted
    try:
        TlsOptions(**tls)
    except UsageError as error:
        raise OptionError(f"{address}: {error}") from None
    return Place(address, settings, tls, text)


def _unknown(address: Address, word: str, name: str, known: list[str]) -> str:
    if name in known:
        return f"{shown(word)}: NAME=VALUE was expected of {address.scheme}:"
    if name in _ONLY:
        return f"{shown(word)}: {address.scheme}: has none, this is a setting of {_ONLY[name]} only"
    return f"{shown(word)}: there is no such setting of {address.scheme}:{nearest(name, known)}"


def unix_place(address: Address, group: str, settings: Mapping[str, Any]) -> Place:
    """Gives a Unix socket for a group, by name or number; without one it is its user's alone."""
    if not group:
        return Place(address, {**settings, "mode": limits.UNIX_SOCKET_MODE})
    whose = int(group) if group.isdecimal() else group
    return Place(address, {**settings, "mode": limits.UNIX_GROUP_SOCKET_MODE, "group": whose})


def datagram_place(
    address: Address, secret_code: str | None, keys: str | None, **settings: Any
) -> Place:
    """Gives a place of datagrams, with a secret code or keys that sign them, if one is given."""
    if secret_code:
        settings["secret_code"] = secret_code
    if keys:
        settings["auth"] = keys
    return Place(address, settings)


def make_socket_folder(path: str) -> None:
    """Makes the folder of a daemon's own Unix socket, if it is not there.

    Raises:
        ListenError: It cannot be made.
    """
    mode = 0o755 if os.geteuid() == 0 else 0o700
    try:
        os.makedirs(os.path.dirname(path), mode=mode, exist_ok=True)
    except OSError as error:
        raise ListenError(f"unix:{path}: its folder cannot be made: {error.strerror}") from None
