"""The log of a program: the standard library's logging, set up from the program's options.

Handlers stand at the root logger, so that the records of all libraries go the same way.
"""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Callable
from types import TracebackType
from typing import Final

from .errors import EdgeventError, OptionError
from .log_file import LogFileHandler
from .log_handler import RecordHandler
from .log_journal import KEPT, JournalHandler
from .log_options import LogSettings, Target, add_logging_options, read_log_settings
from .log_stream import StderrHandler, reads_journal
from .log_syslog import SyslogHandler
from .log_text import STANDARD_FORMAT, TIMELESS_FORMAT, LineFormatter, hideable

__all__ = ["Logs", "add_logging_options", "set_up_logging"]

logger = logging.getLogger("edgevent")

_SECRET: Final = re.compile(r"secret|passw|passphrase", re.IGNORECASE)


def set_up_logging(options: argparse.Namespace, name: str) -> Logs:
    """Starts to log as the options say.

    Args:
        options: What a parser with :func:`add_logging_options` gave. The values of its options that
            are called a secret or a password are hidden wherever they appear.
        name: The program's name, for syslog and the journal.

    Raises:
        OptionError: The options contradict each other, or the file cannot be opened.

    Example:
        >>> logs = set_up_logging(parser.parse(), "hello")
    """
    return Logs(options, name)


class Logs:
    """Where the records of this process go; :func:`set_up_logging` makes it.

    Nothing here switches greenlets.

    Args:
        options: As of :func:`set_up_logging`.
        name: The same.

    Attributes:
        also_reopened: Functions that open further files anew, and are called by :meth:`reopen`;
            each returns whether that was possible, and logs it if not.
        name: The program's name.
        settings: The settings that are in force.
    """

    def __init__(self, options: argparse.Namespace, name: str) -> None:
        self.name = name
        self._secrets: list[str] = []
        self._handlers: dict[tuple[object, ...], logging.Handler] = {}
        self._levels: dict[str, int] = {}  # of loggers, as they were before
        self._is_open = True
        self.also_reopened: list[Callable[[], bool]] = []
        self.settings = self._use(options)

    def __repr__(self) -> str:
        """Names the program, and where its records go."""
        targets = ", ".join(self.settings.targets) or "nowhere"
        return f"<{type(self).__name__} {self.name}: {targets if self._is_open else 'closed'}>"

    def __enter__(self) -> Logs:
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes it."""
        self.close()

    @property
    def lost(self) -> int:
        """How many records could not be written by the handlers that there are now."""
        return sum(one.lost for one in self._handlers.values() if isinstance(one, RecordHandler))

    def apply(self, options: argparse.Namespace) -> None:
        """Logs from now on as other options say; what has not changed stays open.

        Args:
            options: As of :func:`set_up_logging`.

        Raises:
            OptionError: They cannot be used; the former ones stay in force.
        """
        if self._is_open:
            self.settings = self._use(options)

    def reopen(self) -> bool:
        """Opens the log file anew, as after a rotation.

        Returns:
            Whether that was possible. If not, that is logged, and the former file stays.
        """
        reasons = [
            reason
            for one in self._handlers.values()
            if isinstance(one, LogFileHandler) and (reason := one.reopen())
        ]
        for reason in reasons:
            logger.error("%s: the log goes on in the file that was there before", reason)
        return all([not reasons, *(function() for function in self.also_reopened)])

    def reopen_logs(self) -> None:
        """The same for LOG_ROTATE, of a ``Dispatcher(control=logs)``."""
        self.reopen()

    def hide(self, *values: str) -> None:
        """Hides secrets wherever they appear from now on, if they have 4 characters or more."""
        self._secrets[:] = hideable([*self._secrets, *values])

    def close(self) -> None:
        """Ends it: logging is again as it was before; may be called again."""
        if self._is_open:
            self._is_open = False
            self._replace_handlers({})
            self._set_levels({})

    def _use(self, options: argparse.Namespace) -> LogSettings:
        settings = read_log_settings(options)
        handlers = self._open(settings)
        self.hide(*_secrets_of(options))
        for key, handler in handlers.items():
            handler.setFormatter(self._formatter(key[0], settings))
        self._replace_handlers(handlers)
        self._set_levels({"": settings.level, **settings.loggers})
        return settings

    def _open(self, settings: LogSettings) -> dict[tuple[object, ...], logging.Handler]:
        """Gives the handlers of some settings: those that there are, and new ones."""
        handlers: dict[tuple[object, ...], logging.Handler] = {}
        try:
            for target in settings.targets or ("none",):
                key = _key(target, settings)
                handlers[key] = self._handlers.get(key) or self._make(target, settings)
        except OptionError:
            for handler in handlers.values():
                if handler not in self._handlers.values():
                    handler.close()
            raise
        return handlers

    def _make(self, target: Target, settings: LogSettings) -> logging.Handler:
        formatter = self._formatter(target, settings)
        if target == "file":
            return LogFileHandler(settings.file, formatter)
        if target == "journal":
            return JournalHandler(self.name, formatter, path=settings.journal_socket)
        if target == "syslog":
            return SyslogHandler(
                self.name,
                formatter,
                path=settings.syslog_socket,
                facility=settings.facility,
                form=settings.syslog_form,
            )
        if target == "server":
            assert settings.server is not None
            try:
                return settings.server.make(fallback="console" if _is_alone(settings) else None)
            except EdgeventError as error:
                raise OptionError(f"log server {settings.server.address}: {error}") from None
        # With no handler at all, logging would write warnings to the error output.
        return StderrHandler(formatter) if target == "stderr" else logging.NullHandler()

    def _formatter(self, target: object, settings: LogSettings) -> LineFormatter:
        if target == "server":
            return LineFormatter("%(message)s", keep=KEPT, secrets=self._secrets)
        form, priorities, keep = settings.form or STANDARD_FORMAT, False, ""
        if target == "journal":
            form, keep = settings.form or "%(message)s", KEPT
        elif target == "syslog":
            form = settings.form or TIMELESS_FORMAT
        elif target == "stderr" and reads_journal():
            form, priorities = settings.form or TIMELESS_FORMAT, True
        return LineFormatter(form, priorities=priorities, keep=keep, secrets=self._secrets)

    def _replace_handlers(self, handlers: dict[tuple[object, ...], logging.Handler]) -> None:
        root = logging.getLogger()
        for key, handler in handlers.items():
            if key not in self._handlers:
                root.addHandler(handler)
        for key, handler in self._handlers.items():
            if key not in handlers:
                root.removeHandler(handler)
                handler.close()
        self._handlers = handlers

    def _set_levels(self, levels: dict[str, int]) -> None:
        for name, former in list(self._levels.items()):
            if name not in levels:
                logging.getLogger(name).setLevel(former)
                del self._levels[name]
        for name, level in levels.items():
            self._levels.setdefault(name, logging.getLogger(name).level)
            logging.getLogger(name).setLevel(level)


def _is_alone(settings: LogSettings) -> bool:
    """Whether records go to the log server and nowhere else: to stderr as well while it is away."""
    return settings.targets == ("server",)


def _key(target: Target, settings: LogSettings) -> tuple[object, ...]:
    """Tells whether a handler may stay: what else it needs is its formatter's."""
    of_target: dict[str, tuple[object, ...]] = {
        "file": (settings.file,),
        "syslog": (settings.syslog_socket, settings.facility, settings.syslog_form),
        "journal": (settings.journal_socket,),
        "server": (settings.server, _is_alone(settings)),
    }
    return (target, *of_target.get(target, ()))


def _secrets_of(options: argparse.Namespace) -> list[str]:
    return [
        value
        for name, value in vars(options).items()
        if isinstance(value, str) and _SECRET.search(name) and not name.endswith("_file")
    ]
