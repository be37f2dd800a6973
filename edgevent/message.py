"""The message: a value with a command, parameters, and where it comes from and goes to.

Nothing here switches greenlets or opens anything. The text form is in :mod:`edgevent.wire`.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar, overload

from .address import Address
from .durations import parse_timespec
from .errors import AddressError, DurationError, MessageError
from .json_form import read_json, write_json
from .limits import MAX_PARAMETERS
from .values import as_read, to_text
from .wire import (
    BLANKS,
    NO_LAYOUT,
    Header,
    Layout,
    build_header,
    built_headers,
    check_layout,
    check_parameters,
    known_lines,
    read_text,
    write_parameters,
)

_D = TypeVar("_D")

_MISSING: Final[Any] = object()
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,40}", re.ASCII)
_FLOAT: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_TRUTH: Final = dict.fromkeys(("true", "on", "yes", "1"), True)
_TRUTH.update(dict.fromkeys(("false", "off", "no", "0"), False))
_new = object.__new__


class Message:
    """A command with parameters: the unit that peers send each other. A value: it never changes.

    Args:
        command: Upper-case letters, digits and ``_``.
        parameters: Names (letters, digits, ``_``) and values; see :data:`Value` for what becomes
            text how. NUL cannot be sent, nor more than 256 parameters.
        server: The computer that it goes to; ``.``, ``*`` and ``?`` have a meaning to routers.
        service: The service that it goes to. A server without a service is not written.
        sent_from_server: The computer that it comes from.
        sent_from_service: The service that it comes from.

    Attributes:
        match: What the expression of the handler's pattern matched (a ``re.Match``), set before
            the handler runs; ``None`` elsewhere.

    Raises:
        MessageError: A name or a value that no message can carry; it names the parameter.

    Example:
        >>> str(Message("ADD", {"a": 2, "b": 40}, service="sums"))
        'sums/ADD a=2;b=40'
    """

    __slots__ = ("_body", "_found", "_header", "_layout", "_line", "_parameters", "match")

    # The values stand in _parameters, or, until they are first asked for, in _found.
    _header: Header
    _layout: Layout
    _parameters: dict[str, str] | None
    _found: re.Match[str] | None
    _body: str | None  # the parameters as written, if that is as they are; not beside _line
    _line: bytes | None  # the text form with its newline, once it was made
    match: re.Match[str] | None

    def __init__(
        self,
        command: str,
        parameters: Mapping[str, Any] | None = None,
        /,
        *,
        server: str = "",
        service: str = "",
        sent_from_server: str = "",
        sent_from_service: str = "",
    ) -> None:
        key = (sent_from_server, sent_from_service, server, service, command)
        self._header = built_headers.get(key) or build_header(key)
        if parameters:
            self._parameters, self._layout, self._body = check_parameters(parameters, command)
        else:
            self._parameters, self._layout, self._body = {}, NO_LAYOUT, ""
        self._found = self._line = self.match = None

    @classmethod
    def parse(
        cls, line: bytes | bytearray | str, *, max_parameters: int = MAX_PARAMETERS
    ) -> Message:
        """Reads one line or datagram, in the text or the JSON form.

        Args:
            line: The text, without or with its newline; bytes need not be valid UTF-8.
            max_parameters: The most parameters that are accepted.

        Raises:
            MessageError: The line is malformed. Nothing else is ever raised.
        """
        if isinstance(line, str):
            text = line.strip(BLANKS)
            if not text.isascii():
                try:
                    text = as_read(text)
                except UnicodeEncodeError:
                    raise MessageError("the line holds a lone surrogate") from None
        else:
            text = line.strip().decode("utf-8", "surrogateescape")
        if max_parameters == MAX_PARAMETERS:
            return parse_text(text)
        return _read(text, max_parameters)

    # --- reading ----------------------------------------------------------------------------------

    @property
    def head(self) -> str:
        """The text form without the parameters."""
        return self._header[5]

    @property
    def command(self) -> str:
        """The command."""
        return self._header[4]

    @property
    def server(self) -> str:
        """The server that it goes to, or an empty string."""
        return self._header[2]

    @property
    def service(self) -> str:
        """The service that it goes to, or an empty string."""
        return self._header[3]

    @property
    def sent_from_server(self) -> str:
        """The server that it comes from, or an empty string."""
        return self._header[0]

    @property
    def sent_from_service(self) -> str:
        """The service that it comes from, or an empty string."""
        return self._header[1]

    @property
    def parameters(self) -> Mapping[str, str]:
        """All parameters, as a read-only mapping of names to texts."""
        return MappingProxyType(self._all())

    def __contains__(self, name: object) -> bool:
        return name in self._layout.index

    def __getitem__(self, name: str) -> str:
        """Returns a parameter's text, or raises :class:`MessageError` when it is not there."""
        found = self._found
        try:
            if found is not None:
                return found[self._layout.index[name]]
            return self._all()[name]
        except KeyError:
            raise self._error(name, "is missing") from None

    @overload
    def get(self, name: str) -> str | None: ...

    @overload
    def get(self, name: str, default: _D) -> str | _D: ...

    def get(self, name: str, default: _D | None = None) -> str | _D | None:
        """Returns a parameter's text, or ``default`` when it is not there."""
        found = self._found
        if found is not None:
            group = self._layout.index.get(name)
            return default if group is None else found[group]
        return self._all().get(name, default)

    def integer(self, name: str, default: int | _D = _MISSING) -> int | _D:
        """Returns a parameter as a 64-bit signed integer, or ``default`` when it is not there."""
        text = self.get(name)
        if text is None:
            return self._default(name, default)
        if _INTEGER.fullmatch(text) and -(2**63) <= int(text) < 2**63:
            return int(text)
        raise self._error(name, "is no integer of 64 bits")

    def number(self, name: str, default: float | _D = _MISSING) -> float | _D:
        """Returns a parameter as a finite float, or ``default`` when it is not there."""
        text = self.get(name)
        if text is None:
            return self._default(name, default)
        if _FLOAT.fullmatch(text) and math.isfinite(float(text)):
            return float(text)
        raise self._error(name, "is no finite number")

    def boolean(self, name: str, default: bool | _D = _MISSING) -> bool | _D:
        """Returns a parameter as a truth value (true, on, yes, 1; false, off, no, 0)."""
        text = self.get(name)
        if text is None:
            return self._default(name, default)
        if (truth := _TRUTH.get(text.lower())) is not None:
            return truth
        raise self._error(name, "is no truth value: true, on, yes, 1, false, off, no or 0")

    def address(
        self,
        name: str,
        default: Address | _D = _MISSING,
        *,
        default_scheme: str = "tcp",
        default_port: int | None = None,
    ) -> Address | _D:
        """Returns a parameter as an address; a bare ``ip:port`` is of ``default_scheme``."""
        text = self.get(name)
        if text is None:
            return self._default(name, default)
        try:
            return Address.parse(text, default_scheme=default_scheme, default_port=default_port)
        except AddressError as error:
            raise self._error(name, "is no address: expected ip:port") from error

    def timespec(self, name: str, default: int | _D = _MISSING) -> int | _D:
        """Returns a parameter of the form ``seconds[.fraction]`` in nanoseconds, exactly."""
        text = self.get(name)
        if text is None:
            return self._default(name, default)
        try:
            return parse_timespec(text)
        except DurationError as error:
            raise self._error(name, "is no time: expected seconds[.fraction]") from error

    def binary(self, name: str, default: bytes | _D = _MISSING) -> bytes | _D:
        """Returns the bytes that were given as a parameter's value (base64 on the wire)."""
        text = self.get(name)
        if text is None:
            return self._default(name, default)
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise self._error(name, "is no base64") from error

    # --- making others ----------------------------------------------------------------------------

    def reply(self, command: str, parameters: Mapping[str, Any] | None = None) -> Message:
        """Makes an answer: it goes to this message's sender, and copies its ``serial``."""
        key = ("", "", self._header[0], self._header[1], command)
        header = built_headers.get(key) or build_header(key)
        serial = self.get("serial")
        texts, layout, body = check_parameters(parameters or {}, command, serial)
        message = _make(header, layout, texts)
        message._body = body
        return message

    def with_parameters(
        self, parameters: Mapping[str, Any] | None = None, /, **more: Any
    ) -> Message:
        """Makes the same message with some parameters added or changed."""
        changes = {**parameters, **more} if parameters and more else parameters or more
        texts = (self._parameters or self._all()).copy()
        plain = self._body is not None
        for name, value in changes.items():
            if type(value) is not str or not value.isalnum():  # what is, the wire can carry
                value = to_text(value, name, self._header[4])
                plain = False
            texts[name] = value
        layout = self._layout
        if len(texts) != layout.count:
            if len(changes) == 1:
                longer = layout.plus.get(name)
                layout = longer or layout.extend(name, texts, self._header[4])
            else:
                layout = check_layout(texts, MAX_PARAMETERS, self._header[4])
        message = _new(Message)  # as _make does, without the cost of a call
        message._header = self._header
        message._layout = layout
        message._parameters = texts
        message._body = layout.write(texts) if plain else None
        message._found = message._line = message.match = None
        return message

    def without_parameters(self, *names: str) -> Message:
        """Makes the same message without some parameters."""
        kept = {name: text for name, text in self._all().items() if name not in names}
        return _make(self._header, check_layout(kept, len(kept), self._header[4]), kept)

    def with_sender(self, server: str, service: str) -> Message:
        """Makes the same message, sent from ``server`` and ``service``."""
        key = (server, service, *self._header[2:5])
        header = built_headers.get(key) or build_header(key)
        return _make(header, self._layout, self._all())

    def with_target(self, server: str, service: str) -> Message:
        """Makes the same message, on its way to ``server`` and ``service``."""
        key = (*self._header[:2], server, service, self._header[4])
        header = built_headers.get(key) or build_header(key)
        return _make(header, self._layout, self._all())

    # --- writing ----------------------------------------------------------------------------------

    def __bytes__(self) -> bytes:
        """The canonical text form, UTF-8, without a newline."""
        return (self._line or self.to_line())[:-1]

    def to_line(self) -> bytes:
        """The canonical text form with its newline, as streams carry it; made once."""
        line = self._line
        if line is None:
            body = self._body
            if body is None:
                body = write_parameters(self._layout, self._parameters or self._all())
            if not body:
                text = f"{self._header[5]}\n"
            elif (
                body[-1] <= " " and body[-1] in BLANKS
            ):  # else the reader would trim the last value
                text = f"{self._header[5]} {body};\n"
            else:
                text = f"{self._header[5]} {body}\n"
            line = self._line = text.encode("utf-8", "surrogateescape")
            self._body = None
        return line

    def line_with(self, name: str, text: str) -> bytes:
        """The line of the same message with one more parameter, without making that message.

        Args:
            name: A name that the message does not have.
            text: Letters and digits only.
        """
        layout = self._layout
        if layout.last < name:  # it is written behind all others
            body = self._body
            if body is None:
                body = write_parameters(layout, self._parameters or self._all())
            between = ";" if body else ""
            line = f"{self._header[5]} {body}{between}{name}={text}\n"
        else:
            texts = {**(self._parameters or self._all()), name: text}
            longer = layout.plus.get(name) or layout.extend(name, texts, self._header[4])
            body = write_parameters(longer, texts)
            end = ";" if body[-1] in BLANKS else ""
            line = f"{self._header[5]} {body}{end}\n"
        return line.encode("utf-8", "surrogateescape")

    def __str__(self) -> str:
        return bytes(self).decode("utf-8", "surrogateescape")

    def to_json(self) -> str:
        """The JSON form, on one line; what is empty is left out."""
        return write_json(self._header, self._all())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return self._header[:5] == other._header[:5] and self._all() == other._all()

    def __hash__(self) -> int:
        return hash((self._header[:5], frozenset(self._all().items())))

    def __reduce__(self) -> tuple[object, ...]:
        return _make, (self._header, self._layout, self._all())

    def __repr__(self) -> str:
        """Names the header and the parameters, never a value: messages carry secrets."""
        names = ", ".join(sorted(self._layout.names))
        return f"<Message {self._header.text}{' ' if names else ''}{names}>"

    # --- inside -----------------------------------------------------------------------------------

    def _all(self) -> dict[str, str]:
        parameters = self._parameters
        if parameters is None:
            found = self._found
            assert found is not None
            parameters = dict(zip(self._layout.names, found.groups(), strict=True))
            self._parameters = parameters
            self._found = None
        return parameters

    def _error(self, name: str, why: str) -> MessageError:
        text = f"{self._header[4]}: parameter {name} {why}"
        return MessageError(text, command=self._header[4], parameter=name, message=self)

    def _default(self, name: str, default: _D) -> _D:
        if default is _MISSING:
            raise self._error(name, "is missing")
        return default


def _make(header: Header, layout: Layout, texts: dict[str, str]) -> Message:
    """Makes a message of parts that were checked."""
    message = _new(Message)
    message._header = header
    message._layout = layout
    message._parameters = texts
    message._body = message._found = message._line = message.match = None
    return message


def parse_text(text: str) -> Message:
    """Reads a line that was decoded already (UTF-8, other bytes as ``surrogateescape``).

    Raises:
        MessageError: The line is malformed.
    """
    prefix, equals, rest = text.partition("=")
    known = known_lines.get(prefix)
    if (
        known is not None
        and equals
        and text[-1] > " "  # else there may be something to trim
        and "\\" not in rest
        and '"' not in rest
        and "\0" not in rest
    ):
        header, layout, pieces = known
        found = pieces(rest)
        if found is not None:
            message = _new(Message)
            message._header = header
            message._layout = layout
            message._found = found
            message._body = message._parameters = message._line = message.match = None
            return message
    return _read(text, MAX_PARAMETERS)


def _read(text: str, max_parameters: int) -> Message:
    text = text.strip(BLANKS)
    if "\0" in text:
        raise MessageError("the line holds a NUL")
    read = read_json if text[:1] == "{" else read_text
    return _make(*read(text, max_parameters))
