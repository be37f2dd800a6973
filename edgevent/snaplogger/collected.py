"""A log record as it has come: who sent it, and what it says.

What a parameter means is as in the C++ daemon (its ``daemon/utils.cpp``), but that nothing of it is
lost: file, function, line and column are kept, and so is the last of the fields.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable
from typing import Any, Final

from ..errors import MessageError, OptionError
from ..log_levels import ALIASES, LEVELS, name_level, read_level, severity_of
from ..log_text import MASK, escape, mask
from ..message import Message

_NANOSECONDS: Final = 1_000_000_000
_STAMP: Final = re.compile(r"([0-9]{1,11})(?:\.([0-9]{1,9}))?", re.ASCII)
_SECONDS: Final = 64  # so many are remembered as text
_UNKNOWN: Final = "error"
"""The severity of a record that has none, or one that is none."""

_LEVELS: Final = {
    **{name: (name, level) for name, level in LEVELS.items()},
    **{alias: (name, LEVELS[name]) for alias, name in ALIASES.items()},
}

_texts: dict[int, tuple[str, str]] = {}


class Source:
    """Where records come from: one connection, or one sender of datagrams.

    Args:
        peer: The peer, which is answered.
        protocol: ``tcp``, ``tls``, ``unix``, ``udp``, ``unixgram`` or another scheme.
        ip: The sender's address without its port; ``local`` over a Unix socket.
        address: The sender's address.
        key: Whom limits are for: an address, or a process of this computer.
        host: The sender's computer, for records that do not name it.
        keeps_order: Whether what comes is in order, and nothing comes twice.
        is_answered: Whether it is told what is refused.

    Attributes:
        can_wait: Whether the sender keeps records while it is told to send none.
    """

    __slots__ = (
        "address",
        "can_wait",
        "host",
        "ip",
        "is_answered",
        "keeps_order",
        "key",
        "peer",
        "protocol",
    )

    def __init__(
        self,
        peer: Any,
        protocol: str,
        ip: str,
        address: str,
        key: str,
        host: str,
        *,
        keeps_order: bool,
        is_answered: bool = True,
    ) -> None:
        self.peer = peer
        self.protocol = protocol
        self.ip = ip
        self.address = address
        self.key = key
        self.host = host
        self.keeps_order = keeps_order
        self.is_answered = is_answered
        self.can_wait = False


class Collected:
    """One record.

    Args:
        message: The LOG message.
        source: Where it came from.

    Raises:
        MessageError: There is no text in it, or its time is none.

    Attributes:
        get: Gives a parameter of the message.
        text: What it says.
        severity: The name of its severity.
        level: The level that Python's logging has for it.
        is_odd: Whether the severity it came with is none.
    """

    __slots__ = ("get", "is_odd", "level", "message", "severity", "source", "stamp", "text")

    def __init__(self, message: Message, source: Source) -> None:
        self.message = message
        self.source = source
        self.get: Callable[..., Any] = message.get
        get = message.get
        text = get("message")
        if not text:
            raise _mistake(message, "message", "is missing" if text is None else "is empty")
        self.text = text
        severity = get("severity")
        known = _LEVELS.get(severity) if severity is not None else _LEVELS[_UNKNOWN]
        self.is_odd = False
        if known is None:
            known = _read_severity(severity or "")
            self.is_odd = not known[0]
        self.severity, self.level = known if known[0] else _LEVELS[_UNKNOWN]
        stamp = get("timestamp")
        if stamp is None:
            now = time.time_ns()
            self.stamp = (now // _NANOSECONDS, f"{now % _NANOSECONDS:09d}")
        elif (found := _STAMP.fullmatch(stamp)) is not None:
            self.stamp = (int(found[1]), found[2] or "")
        else:
            self.stamp = _read_stamp(message)

    # --- what the forms ask for -------------------------------------------------------------------

    def timestamp(self) -> str:
        """Gives its time as of RFC 3339: local, with its offset to UTC, to the microsecond."""
        seconds, fraction = self.stamp
        date, offset = _texts.get(seconds) or _show_second(seconds)
        return f"{date}.{(fraction + '000000')[:6]}{offset}"

    def components(self) -> str:
        """Gives its components, with commas between."""
        return self.get("components") or "normal"

    def component(self) -> str:
        """Gives the first of its components that says something, ``normal`` if none does."""
        names = self.get("components", "").split(",")
        return next((one for one in names if one not in ("", "normal")), "normal")

    def host(self) -> str:
        """Gives the computer that it is from."""
        return self.get("host") or self.message.sent_from_server or self.source.host

    def fields(self) -> dict[str, str]:
        """Gives its fields by name."""
        return read_fields(self.get("fields", ""))

    def as_json(self) -> bytes:
        """Gives it as one line of JSON in ASCII, without what is empty, and without secrets."""
        get, source = self.get, self.source
        found: dict[str, Any] = {
            "timestamp": self.timestamp(),
            "severity": self.severity,
            "severity_number": severity_of(self.level),
            "message": mask(self.text),
            "components": self.components().split(","),
        }
        for name in ("filename", "function", "line", "column", "serial", "instance"):
            if value := get(name):
                is_number = name in ("line", "column") and value.isascii() and value.isdecimal()
                found[name] = int(value) if is_number and len(value) < 19 else mask(value)
        if fields := self.fields():
            found["fields"] = {mask(name): _hide(name, value) for name, value in fields.items()}
        if (get("recursive") or "").lower() in ("true", "on", "yes", "1"):
            found["recursive"] = True
        if service := self.message.sent_from_service:
            found["service"] = service
        found |= {
            "host": self.host(),
            "source_ip": source.ip,
            "source": source.address,
            "protocol": source.protocol,
        }
        return json.dumps(found, separators=(",", ":")).encode("ascii")

    def as_record(self) -> logging.LogRecord:
        """Makes a record of the standard library's of it, for its handlers."""
        line = self.get("line") or "0"
        record = logging.LogRecord(
            f"{self.host()}.{self.component()}",
            self.level,
            self.get("filename") or "-",
            int(line) if line.isascii() and line.isdecimal() and len(line) < 10 else 0,
            "%s",
            (self.text,),
            None,
            self.get("function") or None,
        )
        record.created = self.stamp[0] + int((self.stamp[1] + "0" * 9)[:9]) / _NANOSECONDS
        record.msecs = record.created % 1 * 1000
        record.connection = self.source.address
        return record


def own_record(text: str, source: Source | None = None) -> Collected:
    """Makes a record of the daemon's own.

    Args:
        text: What it says.
        source: The sender in whose file it is to be.
    """
    found = source or Source(
        None, "own", "local", "snaploggerd", "snaploggerd", "", keeps_order=True
    )
    fields = {
        "message": f"snaploggerd: {text}",
        "severity": "warning",
        "components": "snaploggerd",
    }
    return Collected(Message("LOG", fields), found)


def _hide(name: str, value: str) -> str:
    """Gives the value of a field; the mask, where the field is called a secret."""
    pair = mask(f"{name}={value}")
    return pair.removeprefix(f"{name}=") if pair.startswith(f"{name}=") else MASK


def read_fields(text: str) -> dict[str, str]:
    r"""Reads ``name:value,name:value``, where ``\`` takes the next character as it is."""
    if "\\" not in text:
        pairs = (piece.partition(":") for piece in text.split(",") if piece)
        return {name: value for name, _, value in pairs}
    fields: dict[str, str] = {}
    name: str | None = None
    piece: list[str] = []
    characters = iter(text)
    for one in characters:
        if one == "\\":
            piece.append(next(characters, ""))
        elif one == ":" and name is None:
            name, piece = "".join(piece), []
        elif one == ",":
            _add_field(fields, name, "".join(piece))
            name, piece = None, []
        else:
            piece.append(one)
    _add_field(fields, name, "".join(piece))
    return fields


def _add_field(fields: dict[str, str], name: str | None, rest: str) -> None:
    if name is not None:
        fields[name] = rest
    elif rest:
        fields[rest] = ""


def _read_severity(text: str) -> tuple[str, int]:
    """Reads a severity that is written in another way; an empty name says that it is none."""
    try:
        level = read_level(text)
    except OptionError:
        return "", 0
    return name_level(level), level


def _read_stamp(message: Message) -> tuple[int, str]:
    moment = message.timespec("timestamp")
    if not 0 <= moment < 10**11 * _NANOSECONDS:
        raise _mistake(message, "timestamp", "is no time after 1970 and before the year 5138")
    return moment // _NANOSECONDS, f"{moment % _NANOSECONDS:09d}"


def _show_second(seconds: int) -> tuple[str, str]:
    local = time.localtime(seconds)
    offset = time.strftime("%z", local)
    shown = time.strftime("%Y-%m-%dT%H:%M:%S", local), f"{offset[:3]}:{offset[3:]}"
    if len(_texts) >= _SECONDS:
        _texts.clear()
    _texts[seconds] = shown
    return shown


def _mistake(message: Message, name: str, why: str) -> MessageError:
    command = message.command
    return MessageError(f"{command}: parameter {name} {why}", command=command, parameter=name)


def one_line(text: str) -> bytes:
    """Gives a text as one line without secrets, its newline included."""
    low = text.lower()
    if "secret" in low or "passw" in low or "passphrase" in low:
        text = mask(text)
    return f"{escape(text)}\n".encode()
