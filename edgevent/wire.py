"""How a message is written: the pieces of its text and JSON forms, checked and cut apart.

The grammar, after the C++ library *eventdispatcher* 1.1 (its ``message.cpp``)::

    [<server:service ][[server:]service/]COMMAND[ name=value(;name=value)*[;]]

What belongs to one message object is in :mod:`edgevent.message`; what is shared by all is here.
"""

from __future__ import annotations

import base64
import decimal
import ipaddress
import math
import operator
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Union

from .address import Address
from .errors import NOT_MADE, MessageError
from .limits import MAX_PARAMETERS

Value = Union[
    str,
    int,
    float,
    bool,
    bytes,
    decimal.Decimal,
    Address,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    "os.PathLike[str]",
]
"""What may be given as a parameter's value; all of it becomes text (``bytes`` as base64)."""

BLANKS: Final = " \t\n\r\v\f"  # the wire's trim is ASCII only; str.strip() would take U+00A0 too
_NUMBERS: Final = (float, decimal.Decimal)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_COMMAND: Final = re.compile(r"[A-Z_][A-Z0-9_]*", re.ASCII)
_PLACE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[.*?]|", re.ASCII)
_SENDER: Final = re.compile(r"<([^:]*):([^:]*)", re.ASCII)
_TARGET: Final = re.compile(r"(?:(?:([^:/]+):)?([^:/]+)/|([^:/]+):)?([^:/]*)", re.ASCII)


class Header(NamedTuple):
    """All of a message but its parameters, and the text that it is written as."""

    sent_from_server: str
    sent_from_service: str
    server: str
    service: str
    command: str
    text: str


class Layout:
    """The names of a message's parameters, in the order in which they came: checked once."""

    __slots__ = ("count", "form", "index", "names", "pick", "pieces", "plus", "uses")

    compiled = 0  # of all layouts

    def __init__(self, names: tuple[str, ...], command: str) -> None:
        for name in names:
            if not _NAME.fullmatch(name):
                why = "has a bad name: letters, digits and '_' were expected, no digit first"
                raise refuse(name, command, why)
        ordered = sorted(names)
        self.names = names
        self.count = len(names)
        self.form = ";".join([f"{name}=%s" for name in ordered])
        self.pick = operator.itemgetter(*ordered) if names else None
        self.index = {name: group for group, name in enumerate(names, 1)}
        self.plus: dict[str, Layout] = {}  # what it becomes with one name more
        self.uses = 0
        self.pieces: Callable[[str], re.Match[str] | None] | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return find_layout, (self.names, "")  # neither what it grew into, nor an expression

    def extend(self, name: str, texts: dict[str, str], command: str) -> Layout:
        """Returns the layout of ``texts``, which have one name more, at their end."""
        longer = check_layout(texts, MAX_PARAMETERS, command)
        if type(name) is str and len(self.plus) < _EXTENSIONS:
            self.plus[name] = longer
        return longer

    def seen(self, prefix: str, header: Header) -> None:
        """Takes note of a line without quotes and backslashes that had this layout."""
        self.uses += 1
        if self.pieces is None:
            if (
                self.uses < _USES_TO_COMPILE
                or self.count > _COMPILED_NAMES
                or Layout.compiled >= _COMPILED
            ):
                return
            Layout.compiled += 1
            rest = "".join([f";{name}=([^;]*)" for name in self.names[1:]])
            self.pieces = re.compile(f"([^;]*){rest};?").fullmatch
        if len(prefix) <= _CACHED_CHARACTERS:
            if len(known_lines) >= _CACHED:
                known_lines.clear()
            known_lines[prefix] = (header, self, self.pieces)


# Peers send the same few headers and the same few sets of names again and again. The tables are
# cleared when they are full, so a peer that invents names costs time, never memory.
_CACHED: Final = 2048
_CACHED_CHARACTERS: Final = 256
_CACHED_NAMES: Final = 64
parsed_headers: dict[str, Header] = {}
built_headers: dict[tuple[str, str, str, str, str], Header] = {}
layouts: dict[tuple[str, ...], Layout] = {}

# What the text up to the first '=' led to last time. When the rest has the same names in the same
# order again, one expression checks it, and the values are taken from the match when they are
# read. To compile one costs as much as to parse hundreds of lines, so only a layout that was seen
# _USES_TO_COMPILE times has one, and there are at most _COMPILED: they are never thrown away, or a
# peer could have them made again and again.
_USES_TO_COMPILE: Final = 8
_COMPILED: Final = 256
_COMPILED_NAMES: Final = 16
_EXTENSIONS: Final = 8
NO_LAYOUT: Final = Layout((), "")
known_lines: dict[str, tuple[Header, Layout, Callable[[str], re.Match[str] | None]]] = {}


def _show(text: str, limit: int = 40) -> str:
    """Quotes at most ``limit`` characters of a name for an error."""
    return ascii(text if len(text) <= limit else text[:limit] + "...")


def build_header(key: tuple[str, str, str, str, str]) -> Header:
    """Checks the five names and returns their header."""
    for name in key:
        if not isinstance(name, str):
            raise MessageError(f"a name of a message must be a str, not {type(name).__name__}")
    # Plain, whatever a subclass makes of format(): that of an enumeration's member shows its class.
    from_server, from_service, server, service, command = [str.__str__(name) for name in key]
    if not _COMMAND.fullmatch(command):
        raise MessageError(
            f"{_show(command)} is no command: upper-case letters, digits and '_' were expected,"
            " a letter or '_' first",
            command=command[:64],
        )
    for what, name in (
        ("sent_from_server", from_server),
        ("sent_from_service", from_service),
        ("server", server),
        ("service", service),
    ):
        if not _PLACE.fullmatch(name):
            raise MessageError(
                f"{command}: {_show(name)} is no {what}: letters, digits and '_' were expected,"
                " or one of '.', '*', '?'",
                command=command,
            )
    sender = f"<{from_server}:{from_service} " if from_server or from_service else ""
    target = f"{server}:{service}/" if server and service else f"{service}/" if service else ""
    text = f"{sender}{target}{command}"
    header = Header(from_server, from_service, server, service, command, text)
    if len(header.text) <= _CACHED_CHARACTERS:
        if len(built_headers) >= _CACHED:
            built_headers.clear()
        built_headers[key] = header
    return header


def parse_header(text: str) -> Header:
    """Reads ``[<server:service ][[server:]service/]COMMAND``."""
    sender, target = ("", "")
    rest = text
    if text.startswith("<"):
        sender, _, rest = text.partition(" ")
        found = _SENDER.fullmatch(sender)
        if found is None:
            raise MessageError(f"the sender {_show(sender)} is not of the form '<server:service '")
        sender, target = found.groups()
    found = _TARGET.fullmatch(rest)
    if found is None:
        raise MessageError(f"{_show(rest)} is not of the form '[[server:]service/]COMMAND'")
    server, service, lone_server, command = found.groups()
    key = (sender, target, server or lone_server or "", service or "", command)
    header = built_headers.get(key) or build_header(key)
    if len(text) <= _CACHED_CHARACTERS:
        if len(parsed_headers) >= _CACHED:
            parsed_headers.clear()
        parsed_headers[text] = header
    return header


def find_layout(names: tuple[str, ...], command: str) -> Layout:
    """Returns the layout for these names."""
    layout = layouts.get(names)
    if layout is None:
        layout = Layout(names, command)
        if len(names) <= _CACHED_NAMES and sum(map(len, names)) <= 4 * _CACHED_CHARACTERS:
            if len(layouts) >= _CACHED:
                compiled = [(key, kept) for key, kept in layouts.items() if kept.pieces]
                layouts.clear()
                layouts.update(compiled)
            layouts[names] = layout
    return layout


def to_texts(parameters: Mapping[str, Any], command: str) -> tuple[dict[str, str], bool]:
    """Turns each value into a text that the wire can carry.

    Returns:
        The texts, and whether all of them are written as they are.
    """
    try:
        texts = dict(parameters)
    except (TypeError, ValueError):
        found = type(parameters).__name__
        raise MessageError(
            f"{command}: the parameters are a mapping of names to values, not a {found}",
            command=command,
        ) from None
    for value in texts.values():
        if type(value) is not str:
            for name, other in texts.items():
                if type(other) is not str:
                    texts[name] = to_text(other, name, command)
            break
    joined = "".join(texts.values())  # one look at all of them costs less than one at each
    if "\0" in joined or not joined.isascii():
        for name, text in texts.items():
            texts[name] = check_text(text, name, command)
    plain = not (
        "\\" in joined or ";" in joined or '"' in joined or "\n" in joined or "\r" in joined
    )
    return texts, plain


def to_text(value: object, name: str, command: str) -> str:
    """Turns one value into the text that stands for it."""
    if isinstance(value, str):
        text = str.__str__(value)  # plain, whatever a subclass makes of format()
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, int):
        try:
            text = str(int(value))
        except ValueError as error:  # sys.set_int_max_str_digits()
            raise refuse(name, command, "has too many digits to be written") from error
    elif isinstance(value, float) and math.isfinite(value):
        text = repr(float(value))
    elif isinstance(value, (bytes, bytearray, memoryview)):
        text = base64.b64encode(value).decode("ascii")
    elif isinstance(value, Address):
        text = value.endpoint
    elif isinstance(value, (ipaddress.IPv4Address, ipaddress.IPv6Address)) or (
        isinstance(value, decimal.Decimal) and value.is_finite()
    ):
        text = str(value)
    elif isinstance(value, os.PathLike) and isinstance(path := os.fspath(value), str):
        text = path
    else:
        kind = "not finite" if isinstance(value, _NUMBERS) else f"a {type(value).__name__}"
        expected = "str, int, float, bool, bytes, an address or a path was expected"
        raise refuse(name, command, f"is {kind} and cannot be sent as text; {expected}")
    if "\0" in text or not text.isascii():
        text = check_text(text, name, command)
    return text


def as_read(text: str) -> str:
    """Gives a text as its reader will see it.

    A lone surrogate stands for a byte that is no UTF-8 (``surrogateescape``). Several of them may
    stand for bytes that are a character together: then it is that character.

    Raises:
        UnicodeEncodeError: A surrogate stands for no byte.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    return text


def check_text(text: str, name: object, command: str) -> str:
    """Gives a text as its reader will see it, and refuses what the wire cannot carry."""
    if "\0" in text:
        raise refuse(name, command, "holds a NUL, which no message can carry")
    try:
        return as_read(text)
    except UnicodeEncodeError:
        why = "holds a lone surrogate, which no message can carry"
        raise refuse(name, command, why) from None


def refuse(name: object, command: str, why: str) -> MessageError:
    """Makes the error about one parameter, whose name may be anything."""
    if not isinstance(name, str):
        return MessageError(f"{command}: a parameter's name is a {type(name).__name__}, not a str")
    shown = _show(name)[1:-1] if _NAME.fullmatch(name) else _show(name)
    text = f"{command}: parameter {shown} {why}"
    return MessageError(text, command=command, parameter=name[:64], message=NOT_MADE)


def escape(value: str) -> str:
    value = value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    if ";" in value or value.startswith('"'):
        value = '"' + value.replace('"', '\\"') + '"'
    return value


def is_plain(text: str) -> bool:
    """Whether values that are joined to this text can all be written as they are."""
    return not ("\\" in text or ";" in text or '"' in text or "\n" in text or "\r" in text)


def escape_all(parameters: dict[str, str]) -> str:
    return ";".join([name + "=" + escape(parameters[name]) for name in sorted(parameters)])


def unescape(value: str, quoted: bool) -> str:
    # NUL never occurs in a line, so it can stand for a pair of backslashes meanwhile: a run of
    # backslashes is paired from its left, as one pass from left to right would.
    value = value.replace("\\\\", "\0").replace("\\n", "\n").replace("\\r", "\r")
    if quoted:
        value = value.replace('\\"', '"')
    return value.replace("\0", "\\")


def _refuse_parameter(command: str, piece: str) -> MessageError:
    return MessageError(
        f"{command}: 'name=value' was expected where {_show(piece.partition('=')[0])} stands",
        command=command,
        parameter=piece.partition("=")[0][:64],
        message=NOT_MADE,
    )


def _find_quote(body: str, start: int) -> int:
    """Returns where the quote is that no backslash escapes, or -1."""
    # An expression would do, but at 70 bytes of memory for each escape that it goes past.
    while (stop := body.find('"', start)) >= 0:
        if body[stop - 1] != "\\":
            break
        before = body[start:stop]
        if (len(before) - len(before.rstrip("\\"))) % 2 == 0:
            break
        start = stop + 1
    return stop


def parse_escaped(body: str, command: str) -> dict[str, str]:
    """Reads parameters of which some are quoted or hold a backslash."""
    parameters: dict[str, str] = {}
    position, end = 0, len(body)
    while position < end:
        equals = body.find("=", position)
        name = body[position:equals]
        if equals < 0 or not _NAME.fullmatch(name):
            raise _refuse_parameter(command, body[position : position + 80])
        position = equals + 1
        quoted = body.startswith('"', position)
        if quoted:
            position += 1
            stop = _find_quote(body, position)
            if stop < 0:
                raise refuse(name, command, "has no closing quote")
            value = body[position:stop]
            stop += 1
            if stop < end and body[stop] != ";":
                raise refuse(name, command, "has text after its closing quote")
        else:
            stop = body.find(";", position)
            stop = end if stop < 0 else stop
            value = body[position:stop]
        parameters[name] = unescape(value, quoted) if "\\" in value else value
        position = stop + 1
    return parameters


def parse_plain(body: str, command: str) -> dict[str, str]:
    """Reads parameters without quotes and backslashes, as nearly all are."""
    if body[-1] == ";":
        body = body[:-1]
    parameters = {}
    for piece in body.split(";"):
        name, equals, value = piece.partition("=")
        if not equals:
            raise _refuse_parameter(command, piece)
        parameters[name] = value
    return parameters


def check_layout(texts: dict[str, str], limit: int, command: str) -> Layout:
    """Checks the number of parameters and their names."""
    names = tuple(texts)
    layout = layouts.get(names)
    if layout is not None and layout.count <= limit:
        return layout
    if len(texts) > limit:
        raise MessageError(
            f"{command}: {len(texts)} parameters are more than the limit of {limit}",
            command=command,
        )
    for name in names:
        if not isinstance(name, str):
            raise refuse(name, command, "")
        if type(name) is not str:  # a subclass may have a hash and a format() of its own
            texts[str.__str__(name)] = texts.pop(name)
    return find_layout(tuple(texts), command)


def read_text(text: str, max_parameters: int) -> tuple[Header, Layout, dict[str, str]]:
    """Reads a trimmed line in the text form."""
    head, _, body = text.partition(" ")
    if head[:1] == "<":
        target, _, body = body.partition(" ")
        head = f"{head} {target}"
    header = parsed_headers.get(head) or parse_header(head)
    if not body:
        return header, NO_LAYOUT, {}
    command = header[4]
    if "\\" in body or '"' in body:
        texts = parse_escaped(body, command)
        return header, check_layout(texts, max_parameters, command), texts
    texts = parse_plain(body, command)
    layout = check_layout(texts, max_parameters, command)
    layout.seen(text[: text.index("=")], header)
    return header, layout, texts
