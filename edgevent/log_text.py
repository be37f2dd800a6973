r"""What a log record says, on one line and without secrets.

Every character that is not printable (controls, escapes, line ends, marks that change the direction
of writing) is shown as in a Python string: a newline as ``\n``, an escape as ``\x1b``. A traceback
follows its message after such a ``\n``, so ``sed 's/\\n/\n/g'`` shows it over several lines again.

The value of whatever is called a secret or a password is shown as ``***``: parameters of messages
(``secret_code=...``), options (``--secret-code ...``), keys of JSON and of Python dictionaries.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from typing import Final

from .log_levels import name_level, syslog_priority

MASK: Final = "***"
"""What stands in place of a secret."""

STANDARD_FORMAT: Final = "%(asctime)s %(severity)s %(name)s: %(message)s"
"""The form of a line that has its time."""
TIMELESS_FORMAT: Final = "%(severity)s %(name)s: %(message)s"
"""The form of a line for those who add the time: syslog and the journal."""

_SHORTEST: Final = 4  # to hide each "a" because somebody's code is "a" would hide the text
_SECRET: Final = r"(?:secret|passw|passphrase)"
_HINT: Final = re.compile(_SECRET, re.IGNORECASE)
_QUOTED: Final = r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|' + r"'(?:[^'\\]|\\.)*(?:'|\\?\Z)"
# What stands before the word does not matter; what follows is bounded, for else a text of many such
# words takes a time that grows with the square of its length. What names a file is no secret.
_WORD: Final = rf"{_SECRET}[\w-]{{0,64}}(?<!file)(?![\w-])"
# What is not quoted ends as in a message; that it may end sooner cannot be told.
_NAMED: Final = re.compile(
    rf"""
    (?P<name> {_WORD} (?: \s?=\s? | (?P<key> ["']\s*:\s* ) ) )
    (?: {_QUOTED} | (?(key) [^,}}\]\n]* | [^;\n]* ) )
    """,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_OPTION: Final = re.compile(
    rf"(?P<name>(?<![\w-])--[\w-]{{0,64}}?{_WORD}(?:\s+|['\"],\s*))(?:{_QUOTED}|\S+)",
    re.IGNORECASE | re.DOTALL,
)


def mask(text: str, values: Iterable[str] = ()) -> str:
    """Returns a text with ``***`` for every secret in it.

    Args:
        text: Any text.
        values: Secrets that are known, and are hidden wherever they stand.

    Example:
        >>> mask("sent STOP secret_code=hunter2;delay=5")
        'sent STOP secret_code=***;delay=5'
    """
    for value in values:
        text = text.replace(value, MASK)
    if _HINT.search(text) is None:
        return text
    text = _OPTION.sub(_cover, text)
    return _NAMED.sub(_cover, text)


def _cover(found: re.Match[str]) -> str:
    return found["name"] + MASK


def hideable(values: Iterable[str]) -> list[str]:
    """Chooses the secrets that can be hidden wherever they stand: those of 4 characters or more.

    The longest comes first, as one may be part of another.
    """
    return sorted(
        {one for one in values if len(one) >= _SHORTEST}, key=lambda one: (-len(one), one)
    )


def escape(text: str, keep: str = "") -> str:
    """Returns a text on one line, with every character that is not printable as in a Python string.

    Args:
        text: Any text.
        keep: Characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else ascii(one)[1:-1] for one in text)


class LineFormatter(logging.Formatter):
    """Makes of a record one line without secrets.

    Args:
        form: A format in the style of ``%(message)s``, with the fields of ``logging`` and with
            ``%(severity)s``, the name of the severity as the C++ library has it.
        priorities: Whether ``<6>`` or another number of RFC 5424 stands before the line, as
            systemd's journal reads it (sd-daemon(3)).
        keep: Characters that are not escaped.
        secrets: Values to hide wherever they stand, beside those that mask() finds; the list itself
            is kept, and may change.

    Raises:
        ValueError: The format cannot be used.

    Attributes:
        secrets: The same.
    """

    def __init__(
        self,
        form: str = STANDARD_FORMAT,
        *,
        priorities: bool = False,
        keep: str = "",
        secrets: list[str] | None = None,
    ) -> None:
        super().__init__(form)
        self.secrets = [] if secrets is None else secrets
        self._priorities = priorities
        self._keep = keep

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line; of what cannot be formatted it shows the format and the error."""
        try:
            # Not that of logging: it keeps the text in the record, for other handlers as well.
            record.message = record.getMessage()
        except Exception as error:
            where = f"{record.pathname}:{record.lineno}"
            record.message = f"{record.msg!r} of {where} cannot be formatted: {error}"
        if self.usesTime():
            record.asctime = self.formatTime(record)
        text = self._format_message(record)
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        elif record.exc_text:
            text = f"{text}\n{record.exc_text}"
        if record.stack_info:
            text = f"{text}\n{self.formatStack(record.stack_info)}"
        line = escape(mask(text, self.secrets), self._keep)
        return f"<{syslog_priority(record.levelno)}>{line}" if self._priorities else line

    def _format_message(self, record: logging.LogRecord) -> str:
        given = record.__dict__.get("severity")
        record.severity = name_level(record.levelno)
        try:
            return self.formatMessage(record)
        finally:  # what extra= has given stays, for other handlers
            if given is None:
                del record.__dict__["severity"]
            else:
                record.severity = given

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """Returns the time of a record as of RFC 3339, in local time with its offset to UTC."""
        local = time.localtime(record.created)
        offset = time.strftime("%z", local)
        milliseconds = min(int(record.created % 1 * 1000), 999)
        date = time.strftime("%Y-%m-%dT%H:%M:%S", local)
        return f"{date}.{milliseconds:03d}{offset[:3]}:{offset[3:]}"
