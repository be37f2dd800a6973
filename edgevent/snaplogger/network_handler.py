"""The handler that sends log records to a server: what those of all addresses have in common."""

from __future__ import annotations

import copy
import errno
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from ..errors import UsageError
from ..log_handler import RecordHandler
from ..log_journal import KEPT, connection_of
from ..log_levels import name_level, read_level
from ..log_record import MOST_TIME, show
from ..log_stream import StderrHandler
from ..log_text import MASK, STANDARD_FORMAT, LineFormatter, escape, mask
from .entries import Entry, write_fields
from .protocol import ACKNOWLEDGE, Acknowledge
from .sender import LogSender, MakeWay

MAX_RECORDS: Final = 10_000
"""The most records that wait, or have no answer."""
MAX_BYTES: Final = 16 * 1024 * 1024
"""The most bytes of them."""
CLOSE_TIMEOUT: Final = 2.0
"""How long the close of a handler waits for what has not arrived, in seconds."""

_CONSOLE: Final = "console"
_NEVER: Final = 1 << 30
_MOST_NAMES: Final = 1000
_JUST_BEFORE: Final = 0.5
_LOOK_INTERVAL: Final = 0.02
_TRACEBACKS: Final = logging.Formatter()

_OWN_FIELDS: Final = {"id": "extra_id", "logger": "extra_logger", "severity": "extra_severity"}
# What every record has; what else is there was given by extra=, or added by a formatter.
_USUAL: Final = frozenset(
    [
        *vars(logging.makeLogRecord({})),
        *("message", "asctime", "taskName", "components", "connection"),
    ]
)


class TextFormatter(LineFormatter):
    """Makes the text of a record, with its traceback, and without secrets.

    Args:
        secrets: Values to hide wherever they stand; see :class:`~edgevent.log_text.LineFormatter`.
    """

    def __init__(self, *, secrets: list[str] | None = None) -> None:
        super().__init__("%(message)s", keep=KEPT, secrets=secrets)

    def format(self, record: logging.LogRecord) -> str:
        """Returns the text, line ends and all: the server writes it on one line."""
        if not (record.exc_info or record.exc_text or record.stack_info):
            try:  # most are so, and this is the shorter way
                return escape(mask(record.getMessage(), self.secrets), KEPT)
            except Exception:  # it cannot be formatted: shown as such
                pass
        return super().format(record)


class NetworkLogHandler(RecordHandler):
    """Sends records to a log server: what the handlers have in common.

    Nothing in it switches greenlets, and nothing but :meth:`flush` and :meth:`close` waits. What
    the full queue does not take is lost, counted, and told in the log as soon as there is room. A
    record has as its fields ``id`` (it counts the records of this handler), ``logger``,
    ``connection`` where it is about one, and what it was given by ``extra=``: an ``id``, a
    ``logger`` or a ``severity`` of that is ``extra_id``, ``extra_logger`` or ``extra_severity``.
    Its components are those of ``extra={"components": [...]}``, or the handler's.

    Args:
        target: The server, for sentences.
        make_way: Makes the way to it.
        acknowledge: Of which records the server is to say that they are written: ``none``, those of
            a ``severity`` or above, or ``all``. What it has not acknowledged is sent again.
        acknowledge_severity: That severity: a name or a number of the C++ library.
        components: The components of records that name none; a list, or a text with commas.
        fallback: What gets the records while the server is away, and those that are lost to it: a
            handler, or the name of one; ``console`` is the error output unless a handler has this
            name. It is called in the thread that sends, so it must not switch greenlets.
        max_records: The most records that wait, or have no answer.
        max_bytes: The most bytes of them.
        close_timeout: How long the close waits for what is left, in seconds.
        complain: Is told, in a sentence, that the server is away and that records are lost, each
            once a minute at the most; by default that is a line on the error output.
        level: The least level.

    Raises:
        OptionError: A severity is none.
        UsageError: Another value cannot be used.
    """

    def __init__(
        self,
        target: str,
        make_way: MakeWay,
        *,
        acknowledge: Acknowledge = "all",
        acknowledge_severity: str | int = "error",
        components: Iterable[str] | str = (),
        fallback: logging.Handler | str | None = None,
        max_records: int = MAX_RECORDS,
        max_bytes: int = MAX_BYTES,
        close_timeout: float = CLOSE_TIMEOUT,
        complain: Callable[[str], None] | None = None,
        level: int | str = logging.NOTSET,
    ) -> None:
        if acknowledge not in ACKNOWLEDGE:
            raise UsageError(f"acknowledge={acknowledge!r}: one of {listed(ACKNOWLEDGE)} expected")
        if max_records < 1 or max_bytes < 1 or close_timeout < 0.0:
            raise UsageError("max_records= and max_bytes= are 1 or more, close_timeout= 0 or more")
        asked = {"none": _NEVER, "severity": read_level(str(acknowledge_severity)), "all": 0}
        self._answer_level = asked[acknowledge]
        self._components = _join(components)
        self._numbers = itertools.count(1)
        self._names: dict[str, str] = {}
        self._refused = 0
        self._close_timeout = close_timeout
        self._waited = float("-inf")  # when a flush has ended that waited in vain
        self._complain = complain
        self._given = fallback
        self._fallback = fallback if isinstance(fallback, logging.Handler) else None
        self._own: logging.Handler | None = None  # that of the console
        self._has_looked = False
        self._sender = LogSender(
            target,
            make_way,
            max_records=max_records,
            max_bytes=max_bytes,
            complain=self.complain,
            fallback=None if fallback is None else self._find_fallback,
        )
        super().__init__(target, TextFormatter())
        self.setLevel(level)

    def __repr__(self) -> str:
        """Names the server, and says what waits and what is lost."""
        return (
            f"<{type(self).__name__} {self.target}: {self.waiting} records wait, {self.lost} lost>"
        )

    @property
    def lost(self) -> int:
        """How many records were lost."""
        return self._refused + self._sender.lost

    @lost.setter
    def lost(self, count: int) -> None:
        # What the base class counts are those that were refused here; the thread counts the others.
        self._refused += 1 if count else 0

    @property
    def waiting(self) -> int:
        """How many records have neither arrived nor been lost."""
        return self._sender.waiting

    @property
    def is_away(self) -> bool:
        """Whether the server was not there when it was last tried."""
        return self._sender.is_away

    @property
    def trouble(self) -> str:
        """Why records wait, for a sentence."""
        return self._sender.trouble

    @property
    def last_loss(self) -> str:
        """Why the last record that is lost was lost, or an empty string."""
        return self._sender.last_loss or self._reason

    def complain(self, text: str) -> None:
        """Tells the user what is wrong."""
        if self._complain is not None:
            try:
                return self._complain(text)
            except Exception as error:  # else it would reach who logs, or end the thread
                text = f"{text} (and complain= has failed: {show(error)})"
        return super().complain(text)

    def handle(self, record: logging.LogRecord) -> bool:
        """Takes a record, but not of the thread that sends: each would make another one."""
        return not self._sender.is_in_thread and bool(super().handle(record))

    def write_record(self, record: logging.LogRecord) -> None:
        """Puts a record into the queue; switches no greenlets, and does not wait.

        One without any text is left out, as the C++ library does.

        Raises:
            OSError: It is full.
        """
        text = self.format(record)
        if not text:
            return
        sender, size = self._sender, len(text)
        kept = _keep(record) if sender.has_fallback else None
        wants_answer = record.levelno >= self._answer_level
        has_room = sender.has_room(size)
        parameters = self._parameters(record, text) if has_room else {}
        number = next(self._numbers)  # not before: what cannot be read as it is comes once more
        entry = Entry(number, parameters, size, wants_answer=wants_answer, record=kept)
        if not has_room:
            if kept is not None:
                sender.show(entry)
            raise OSError(errno.ENOBUFS, f"the queue is full: {sender.trouble}")
        parameters["fields"] = f"id:{number},{parameters['fields']}"
        sender.put(entry)

    def flush(self, timeout: float | None = None) -> bool:  # type: ignore[override]
        """Waits until the records before it have arrived or are lost.

        It blocks the whole thread, with all its greenlets.

        Args:
            timeout: The limit in seconds; by default that of the close, and a server that is away
                is not waited for.

        Returns:
            Whether none of them waits any longer.
        """
        if timeout is not None:
            return self._sender.flush(timeout)
        end = time.monotonic() + self._close_timeout
        while not self._sender.flush(min(end - time.monotonic(), _LOOK_INTERVAL)):
            if self.is_away:  # logging.shutdown() comes here, and the close tries it once more
                return False
            if time.monotonic() >= end:
                self._waited = end
                return False
        return True

    def release_resources(self) -> None:
        """Sends what waits, within the limit, and ends the thread."""
        # logging.shutdown() flushes just before it closes: both together wait once.
        has_waited = time.monotonic() < self._waited + _JUST_BEFORE
        self._sender.close(0.0 if has_waited else self._close_timeout)
        if self._own is not None:
            self._own.close()

    def _parameters(self, record: logging.LogRecord, text: str) -> dict[str, str]:
        values = record.__dict__
        fields = {}
        if connection := connection_of(record):
            fields["connection"] = connection
        if not _USUAL.issuperset(values):
            for name in [one for one in values if one not in _USUAL]:
                is_secret = mask(f"{name}=0") != f"{name}=0"
                shown = MASK if is_secret else str(values[name])
                fields[_OWN_FIELDS.get(name, name)] = shown
        known = self._named(record.name)
        created = record.created
        if not 0.0 <= created < MOST_TIME:
            raise ValueError(f"it is of {created!r} seconds after 1970")
        found = {
            "severity": name_level(record.levelno),
            "timestamp": f"{created:.6f}",
            "message": text,
            "fields": f"{known},{self._clean(write_fields(fields))}" if fields else known,
        }
        if record.pathname:
            found["filename"] = escape(record.pathname)
        if record.funcName:
            found["function"] = escape(record.funcName)
        if record.lineno:
            found["line"] = str(record.lineno)
        if components := self._components_of(record):
            found["components"] = components
        return found

    def _named(self, name: str) -> str:
        """Writes the field that holds the name of a logger."""
        names = self._names
        if name not in names:
            if len(names) >= _MOST_NAMES:
                names.clear()
            names[name] = self._clean(write_fields({"logger": name}))
        return names[name]

    def _components_of(self, record: logging.LogRecord) -> str:
        given = record.__dict__.get("components")
        return self._clean(_join(given)) if given else self._components

    def _clean(self, text: str) -> str:
        formatter = self.formatter
        secrets = formatter.secrets if isinstance(formatter, LineFormatter) else ()
        return escape(mask(text, secrets))

    def _find_fallback(self) -> logging.Handler | None:
        """Gives the other handler; one that is named may be made after this one."""
        if self._fallback is None and isinstance(self._given, str) and not self._has_looked:
            self._has_looked = True
            # Python 3.12 has getHandlerByName() for it.
            handlers: Mapping[str, logging.Handler] = vars(logging)["_handlers"]
            self._fallback = handlers.get(self._given)
            if self._fallback is None and self._given == _CONSOLE:
                self._fallback = self._own = StderrHandler(LineFormatter(STANDARD_FORMAT))
            elif self._fallback is None:
                self.complain(f"{self.target}: there is no handler {self._given!r} to fall back to")
        return None if self._fallback is self else self._fallback


def _keep(record: logging.LogRecord) -> logging.LogRecord:
    """Copies a record for another thread: its text is made now, and no frames are held."""
    kept = copy.copy(record)
    try:
        kept.msg, kept.args = record.getMessage(), None
    except Exception:  # its formatter says what is wrong with it
        pass
    if record.exc_info and not record.exc_text:
        kept.exc_text = _TRACEBACKS.formatException(record.exc_info)
    kept.exc_info = None
    return kept


def _join(components: Iterable[str] | str) -> str:
    names = components.split(",") if isinstance(components, str) else map(str, components)
    return ",".join(filter(None, (name.strip() for name in names)))


def listed(names: Iterable[str]) -> str:
    """Writes names as a sentence has them: ``a, b or c``."""
    *most, last = names
    return f"{', '.join(most)} or {last}"
