"""What the tools print: messages of peers, and what happens when nobody reads it."""

from __future__ import annotations

import errno
import re
import sys
from typing import Final

from ..errors import ConnectError, EdgeventError, OptionError
from ..message import Message
from ..option_output import discard_output

_COUNT: Final = re.compile(r"[0-9]{1,9}", re.ASCII)


def shown(message: Message, *, as_json: bool = False, escape: bool) -> bytes:
    """Gives a message as it is printed, without a newline.

    Args:
        as_json: In its JSON form.
        escape: Whether it goes to a terminal, which would obey the escape sequences of a peer.
    """
    data = message.to_json().encode() if as_json else bytes(message)
    return printable(data.decode("utf-8", "backslashreplace")).encode() if escape else data


def printable(text: str) -> str:
    """Escapes what a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def print_bytes(data: bytes) -> None:
    """Prints a line at once, as bytes: those of messages need not be UTF-8."""
    sys.stdout.buffer.write(data + b"\n")
    sys.stdout.flush()


def output_failed(name: str, error: OSError) -> None:
    """Tells that the standard output cannot be written to; a closed pipe is no news.

    Args:
        name: The tool's.
    """
    discard_output()
    if not isinstance(error, BrokenPipeError):
        print(f"{name}: standard output: {error.strerror}", file=sys.stderr)


def not_there(error: EdgeventError, who: str) -> str:
    """Says of an error that a daemon does not run, where the system says no more than that.

    Args:
        who: The daemon that was dialled.
    """
    if isinstance(error, ConnectError) and error.errno in (errno.ENOENT, errno.ECONNREFUSED):
        return f"no {who} listens at {error}"
    return str(error)


def parse_count(text: str) -> int:
    """Reads a number from 1 to 999,999,999.

    Raises:
        OptionError: It is none.
    """
    if not _COUNT.fullmatch(text) or not int(text):
        raise OptionError(f"value {text!r}: expected a number from 1 on")
    return int(text)
