"""How a message is written: the pieces of its text and JSON forms, checked and cut apart.

The grammar, after the C++ library *eventdispatcher* 1.1 (its ``message.cpp``)::

    [<server:service ][[server:]service/]COMMAND[ name=value(;name=value)*[;]]

What belongs to one message object is in :mod:`edgevent.message`; what is shared by all is here.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from .errors import NOT_MADE, MessageError
from .limits import MAX_PARAMETERS
from .values import NAME, check_text, refuse, show_name, to_text

BLANKS: Final = " \t\n\r\v\f"  # the wire's trim is ASCII only; str.strip() would take U+00A0 too
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

    __slots__ = (
        "_form",
        "_pick",
        "count",
        "index",
        "last",
        "names",
        "pieces",
        "plus",
        "uses",
        "write",
        "writes",
    )

    compiled = 0  # of all layouts
    writers = 0

    write: Callable[[dict[str, str]], str]
    """Gives what is written of texts that need no escapes, sorted."""

    def __init__(self, names: tuple[str, ...], command: str) -> None:
        for name in names:
            if not NAME.fullmatch(name):
                why = "has a bad name: letters, digits and '_' were expected, no digit first"
                raise refuse(name, command, why)
        ordered = sorted(names)
        self.names = names
        self.count = len(names)
        self.last = ordered[-1] if names else ""  # what is written last
        self._form = ";".join([f"{name}=%s" for name in ordered])
        self._pick: Any = operator.itemgetter(*ordered) if names else None
        self.write = self._write
        self.writes = 0
        self.index = {name: group for group, name in enumerate(names, 1)}
        self.plus: dict[str, Layout] = {}  # what it becomes with one name more
        self.uses = 0
        self.pieces: Callable[[str], re.Match[str] | None] | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return find_layout, (self.names, "")  # neither what it grew into, nor an expression

    def _write(self, texts: dict[str, str]) -> str:
        """What :attr:`write` is for the first few times: to compile a function takes longer."""
        self.writes += 1
        if (
            self.writes >= _USES_TO_COMPILE
            and 0 < self.count <= _COMPILED_NAMES
            and Layout.writers < _COMPILED
        ):
            Layout.writers += 1
            # The names are letters, digits and "_", see __init__: nothing else is evaluated.
            fields = ";".join([f"{name}={{texts['{name}']}}" for name in sorted(self.names)])
            self.write = eval(f'lambda texts: f"{fields}"', {})
        return self._form % self._pick(texts) if self.count else ""

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


def build_header(key: tuple[str, str, str, str, str]) -> Header:
    """Checks the five names and returns their header."""
    for name in key:
        if not isinstance(name, str):
            raise MessageError(f"a name of a message must be a str, not {type(name).__name__}")
    # Plain, whatever a subclass makes of format(): that of an enumeration's member shows its class.
    from_server, from_service, server, service, command = [str.__str__(name) for name in key]
    if not _COMMAND.fullmatch(command):
        raise MessageError(
            f"{show_name(command)} is no command: upper-case letters, digits and '_' were expected,"
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
                f"{command}: {show_name(name)} is no {what}: letters, digits and '_' were expected,"
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
            raise MessageError(
                f"the sender {show_name(sender)} is not of the form '<server:service '"
            )
        sender, target = found.groups()
    found = _TARGET.fullmatch(rest)
    if found is None:
        raise MessageError(f"{show_name(rest)} is not of the form '[[server:]service/]COMMAND'")
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


def check_parameters(
    parameters: Mapping[str, Any], command: str, serial: str | None = None
) -> tuple[dict[str, str], Layout, str | None]:
    """Turns each value into a text that the wire can carry, and checks the names.

    Args:
        serial: Becomes a parameter too, when there is none of that name.

    Returns:
        The texts, their layout, and what is written of them; ``None`` in its place when that is
        not yet known, see :func:`write_parameters`.
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
    if serial is not None and "serial" not in texts:
        texts["serial"] = serial
    layout = layouts.get(tuple(texts)) or check_layout(texts, MAX_PARAMETERS, command)
    body = layout.write(texts)  # one look at all of them costs less than one at each
    if "\0" in body or not body.isascii():
        for name, text in texts.items():
            texts[name] = check_text(text, name, command)
        return texts, layout, None
    # As write_parameters does, without the cost of a call.
    if "\\" in body or '"' in body or "\n" in body or "\r" in body:
        return texts, layout, None
    return texts, layout, body if body.count(";") < layout.count or not body else None


def escape(value: str) -> str:
    value = value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    if ";" in value or value.startswith('"'):
        value = '"' + value.replace('"', '\\"') + '"'
    return value


def write_parameters(layout: Layout, texts: dict[str, str]) -> str:
    """Returns what is written of texts that were checked: sorted, and escaped where need be."""
    body = layout.write(texts)
    if not (
        "\\" in body
        or '"' in body
        or "\n" in body
        or "\r" in body
        or body.count(";") >= layout.count > 0  # one of them stands in a value
    ):
        return body
    return ";".join([name + "=" + escape(texts[name]) for name in sorted(texts)])


def unescape(value: str, quoted: bool) -> str:
    # NUL never occurs in a line, so it can stand for a pair of backslashes meanwhile: a run of
    # backslashes is paired from its left, as one pass from left to right would.
    value = value.replace("\\\\", "\0").replace("\\n", "\n").replace("\\r", "\r")
    if quoted:
        value = value.replace('\\"', '"')
    return value.replace("\0", "\\")


def _refuse_parameter(command: str, piece: str) -> MessageError:
    return MessageError(
        f"{command}: 'name=value' was expected where {show_name(piece.partition('=')[0])} stands",
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
        if equals < 0 or not NAME.fullmatch(name):
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
