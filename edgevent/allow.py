"""Who may send which command: the table of a service's configuration file.

A line such as ``STOP = uid:root, name:admin.example, group:ops, net:10.0.0.0/8`` is judged by what
the kernel tells of a Unix socket's other side (unix(7), SO_PEERCRED and SO_PEERGROUPS), by a TLS
certificate that was checked, and by the address of the peer. Nothing here switches greenlets.
"""

from __future__ import annotations

import difflib
import fnmatch
import grp
import ipaddress
import pwd
import re
from collections.abc import Callable, Mapping
from typing import Final

from .answers import Peer
from .errors import OptionError

Test = Callable[[Peer], bool]

_KINDS: Final = ("uid", "group", "name", "net", "local", "all", "none")
_COMMAND: Final = re.compile(r"[A-Z0-9_*?\[\]!-]+", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,10}", re.ASCII)


class Allow:
    """A table of commands and of those who may send them; see :attr:`Dispatcher.permits`.

    Args:
        lines: To each command, or shell pattern of commands, the list of who may send it,
            separated by commas: ``uid:USER`` and ``group:GROUP`` (names or numbers; the process on
            the other side of a Unix socket), ``name:NAME`` (of a TLS certificate that was
            checked), ``net:NETWORK`` (the IP address of the peer; over UDP that is easily forged),
            ``local`` (loopback and Unix sockets), ``all`` and ``none``. An exact command goes
            before a pattern, and of the patterns the first one counts.

    Raises:
        OptionError: A command or an entry is none; there is no such user or group.

    Example:
        >>> table = Allow({"STOP": "uid:root, group:0", "SET_*": "none"})
        >>> table.find("SUM") is None
        True
    """

    def __init__(self, lines: Mapping[str, str]) -> None:
        self.lines = dict(lines)
        self._exact: dict[str, Test] = {}
        self._patterns: list[tuple[re.Pattern[str], Test]] = []
        for command, text in lines.items():
            test = parse_allow(command, text)
            if set(command) & set("*?["):
                self._patterns.append((re.compile(fnmatch.translate(command)), test))
            else:
                self._exact[command] = test

    def __bool__(self) -> bool:
        return bool(self.lines)

    def __repr__(self) -> str:
        return f"<Allow {', '.join(self.lines) or 'nothing'}>"

    def find(self, command: str) -> Test | None:
        """Gives what says whether a peer may send a command; ``None`` when no line is of it."""
        found = self._exact.get(command)
        if found is None:
            found = next((test for one, test in self._patterns if one.fullmatch(command)), None)
        return found


def parse_allow(command: str, text: str) -> Test:
    """Reads one line of the table.

    Returns:
        A function that says whether a peer is one of those.

    Raises:
        OptionError: As for :class:`Allow`.
    """
    if not _COMMAND.fullmatch(command):
        raise OptionError(
            f"{command!r}: a command was expected, or a pattern of commands such as SET_*"
        )
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise OptionError(f"{command} = {text!r}: an entry is empty; 'none' admits nobody")
    if len(words) > 1 and "none" in words:
        raise OptionError(f"{command} = {text!r}: 'none' stands alone")
    tests = [_parse_entry(word) for word in words]
    return tests[0] if len(tests) == 1 else lambda peer: any(test(peer) for test in tests)


def _parse_entry(word: str) -> Test:
    kind, colon, value = word.partition(":")
    value = value.strip()
    if not colon and word in ("all", "none", "local"):
        return {"all": _all, "none": _none, "local": _local}[word]
    if colon and value and kind in _OF_VALUE:
        return _OF_VALUE[kind](value)
    near = difflib.get_close_matches(kind, _KINDS, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0] + (':' if near[0] in _OF_VALUE else '')!r}?" if near else ""
    raise OptionError(
        f"{word!r}: uid:USER, group:GROUP, name:NAME, net:NETWORK, local, all or none was"
        f" expected{hint}"
    )


def _all(peer: Peer) -> bool:
    return True


def _none(peer: Peer) -> bool:
    return False


def _local(peer: Peer) -> bool:
    return bool(getattr(peer, "is_local", False))


def _uid(value: str) -> Test:
    if _NUMBER.fullmatch(value):
        uid = int(value)
    else:
        try:
            uid = pwd.getpwnam(value).pw_uid
        except KeyError:
            raise OptionError(f"uid:{value}: there is no user {value!r}") from None

    def test(peer: Peer) -> bool:
        found = getattr(peer, "credentials", None)
        return found is not None and found.uid == uid

    return test


def _group(value: str) -> Test:
    if _NUMBER.fullmatch(value):
        gid = int(value)
    else:
        try:
            gid = grp.getgrnam(value).gr_gid
        except KeyError:
            raise OptionError(f"group:{value}: there is no group {value!r}") from None

    def test(peer: Peer) -> bool:
        # Of the groups of a datagram's sender the kernel tells one.
        found = getattr(peer, "credentials", None)
        return found is not None and (found.gid == gid or gid in getattr(peer, "groups", ()))

    return test


def _name(value: str) -> Test:
    wanted = value.lower()

    def test(peer: Peer) -> bool:
        session = getattr(peer, "tls", None)
        if session is None or not session.is_verified:
            return False
        certificate = session.peer_certificate
        if certificate is None:
            return False
        names = certificate.names or (certificate.subject_common_name,)
        return any(name.lower() == wanted for name in names)

    return test


def _net(value: str) -> Test:
    try:
        network = ipaddress.ip_network(value)
    except ValueError as error:
        raise OptionError(
            f"net:{value}: {error}; a network such as 10.0.0.0/8 or fd00::/8 was expected"
        ) from None

    def test(peer: Peer) -> bool:
        # A Unix socket may have any name, that of another kind of address in it among them.
        scheme, _, place = str(getattr(peer, "address", "")).partition("://")
        if scheme not in ("tcp", "tls", "udp"):
            return False
        try:
            address = ipaddress.ip_address(place.rpartition(":")[0].strip("[]").partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address) in network

    return test


_OF_VALUE: Final[dict[str, Callable[[str], Test]]] = {
    "uid": _uid,
    "group": _group,
    "name": _name,
    "net": _net,
}
