"""Log records whose attributes are not what logging makes them, such as those of other programs.

``logging.makeLogRecord`` takes whatever it is given, a subclass may leave out what it likes, and
the ``__str__`` of an argument may fail. What can be told of such a record is told.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any, Final

MOST_TIME: Final = 1e11
"""No record is later, in seconds since 1970: in the year 5138 the seconds have a digit more."""

_TEXTS: Final = ("name", "pathname", "filename", "module", "funcName", "processName", "threadName")
_NUMBERS: Final = ("lineno", "process", "thread")
_DONE: Final = frozenset(
    [
        *_TEXTS,
        *_NUMBERS,
        *("args", "created", "exc_info", "exc_text", "levelname", "levelno", "msecs", "msg"),
    ]
)
_FORMATTER: Final = logging.Formatter()


def mended(record: logging.LogRecord) -> logging.LogRecord:
    """Copies a record that cannot be written as it is: each attribute has the kind that it should.

    The text is made, the traceback too, and what was given by ``extra=`` is text. Without a level
    it is an error; without a time that could be, it is of now. Nothing switches greenlets.
    """
    given: dict[Any, Any] = dict(vars(record))
    found: dict[str, Any] = {}
    for name in _TEXTS:
        value = given.get(name)
        found[name] = "" if value is None else show(value)
    for name in _NUMBERS:
        value = given.get(name)
        found[name] = value if isinstance(value, int) else 0
    level = _level_of(given)
    found |= {"levelno": level, "levelname": logging.getLevelName(level)}
    found |= {"msg": _text_of(record, given), "args": None, "exc_info": None}
    found["exc_text"] = _traceback_of(given)
    for name, value in given.items():
        if name == "components" and isinstance(value, (list, tuple, set, frozenset)):
            found[name] = [show(one) for one in value]
        elif name not in _DONE:
            found[show(name)] = None if value is None else show(value)
    made = logging.makeLogRecord(found)
    made.created = _time_of(given)
    made.msecs = made.created % 1 * 1000
    return made


def show(value: object) -> str:
    """Gives any value as text; one that has none is named by its type."""
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__} without a text>"


def _level_of(given: Mapping[Any, Any]) -> int:
    level = given.get("levelno")
    if isinstance(level, (int, float, str)):
        try:
            return int(level)
        except (ValueError, OverflowError):
            pass
    named = logging.getLevelName(show(given.get("levelname")))
    return named if isinstance(named, int) else logging.ERROR


def _time_of(given: Mapping[Any, Any]) -> float:
    try:
        created = float(given["created"])
    except (KeyError, TypeError, ValueError, OverflowError):
        created = math.nan
    return created if 0.0 <= created < MOST_TIME else time.time()


def _text_of(record: logging.LogRecord, given: Mapping[Any, Any]) -> str:
    try:
        return record.getMessage()
    except Exception as error:
        if "msg" not in given:
            return "a record without a text"
        where = f"{show(given.get('pathname'))}:{show(given.get('lineno'))}"
        return f"{show(given['msg'])!r} of {where} cannot be formatted: {show(error)}"


def _traceback_of(given: Mapping[Any, Any]) -> str | None:
    known, error = given.get("exc_text"), given.get("exc_info")
    if known:
        return show(known)
    if not error:
        return None
    if isinstance(error, BaseException):
        error = type(error), error, error.__traceback__
    try:
        return _FORMATTER.formatException(error)
    except Exception:
        return f"exc_info: {show(error)}"
