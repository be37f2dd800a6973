"""The JSON form of a message: an object on one line.

The C++ library reads it as well; it unescapes strings twice and writes numbers in a form of its
own. This side follows the JSON standard (RFC 8259).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, cast

from .errors import MessageError
from .values import check_text, refuse
from .wire import Header, Layout, build_header, check_layout

JSON_KEYS: Final = ("sent-from-server", "sent-from-service", "server", "service", "command")


class _Number(str):
    """The digits of a JSON number, told apart from a JSON string."""

    __slots__ = ()


def _refuse_constant(name: str) -> str:
    raise MessageError(f"the JSON message holds {name}, which is no JSON")


def read_json(text: str, max_parameters: int) -> tuple[Header, Layout, dict[str, str]]:
    """Reads the JSON form. Numbers keep the digits that they were written with."""
    try:
        members = json.loads(
            text, parse_int=_Number, parse_float=_Number, parse_constant=_refuse_constant
        )
    except MessageError:
        raise
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise MessageError(f"the line is no JSON: {reason}") from None
    names = []
    for key in JSON_KEYS:
        value = members.get(key, "")
        if type(value) is not str:
            raise MessageError(f"the JSON message's {key!r} is not a string")
        names.append(value)
    command = names[4]
    found = members.get("parameters", {})
    if not isinstance(found, dict):
        raise MessageError("the JSON message's 'parameters' is not an object", command=command[:64])
    header = build_header(cast("tuple[str, str, str, str, str]", tuple(names)))
    texts = {}
    for name, value in found.items():
        if value is None:
            texts[name] = ""
        elif isinstance(value, (str, bool)):
            text = str(value).lower() if isinstance(value, bool) else str(value)
            texts[name] = check_text(text, name, command)
        else:
            kind = "object" if isinstance(value, dict) else "array"
            raise refuse(name, command, f"is a JSON {kind}, not a string or a number")
    return header, check_layout(texts, max_parameters, command), texts


def write_json(header: Header, parameters: Mapping[str, str]) -> str:
    """Writes the JSON form; what is empty is left out."""
    members: dict[str, object] = {
        key: value
        for key, value in zip(JSON_KEYS, header, strict=False)
        if value or key == "command"
    }
    if parameters:
        members["parameters"] = dict(sorted(parameters.items()))
    text = json.dumps(members, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # bytes that are no UTF-8 survive as escapes only
        text = json.dumps(members, separators=(",", ":"))
    return text
