"""The settings of a service: their values now, and calls when they change."""

from __future__ import annotations

import difflib
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar, cast

import gevent

from ..arguments import check_callable
from ..binding import describe
from ..communicatord.naming import own_name
from ..connection import FAILURES
from ..dispatcher import PRIORITY_CALLBACK, Dispatcher, Match
from ..errors import EdgeventError, NetworkError, OptionError, SettingsCopyError, UsageError
from ..links.permanent import PermanentConnection
from ..message import Message
from ..runtime.clock import SYSTEM_CLOCK, Clock
from ..runtime.waits import Waiters
from .client import SERVICE
from .local_copy import read_copy, write_copy
from .names import joined, qualify
from .watch import SettingChange, read_update

logger = logging.getLogger("edgevent.fluidsettings")

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])

Origin = str
"""Where a value comes from: ``code``, ``copy``, ``daemon``, or ``option``."""

_TRUE: Final = frozenset(("true", "yes", "on", "1"))
_FALSE: Final = frozenset(("false", "no", "off", "0"))
_SHOWN: Final = 64


def read_boolean(text: str) -> bool:
    """Reads a boolean as the daemon's validator takes it.

    Raises:
        ValueError: It is none.
    """
    word = text.strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError(f"{text[:_SHOWN]!a} is no boolean: true or false was expected")


def converter_of(default: object) -> Callable[[str], Any]:
    """Gives what reads a value of the kind of a default."""
    if isinstance(default, bool):
        return read_boolean
    if isinstance(default, (int, float)):
        return type(default)
    return str


class Setting(Generic[_T]):
    """One setting of a service; made by :meth:`SettingsListener.add` or ``Service.setting``.

    Attributes:
        name: Its full name, ``namespace::name``.
        default: Its value while nobody has set it.
        value: Its value now.
        origin: Where that comes from: ``code`` (the default), ``copy``, ``daemon`` or ``option``.
    """

    __slots__ = ("_convert", "_functions", "default", "name", "origin", "text", "value")

    def __init__(self, name: str, default: _T, convert: Callable[[str], _T]) -> None:
        self.name = name
        self.default = default
        self.value: _T = default
        self.text: str | None = None
        self.origin: Origin = "code"
        self._convert = convert
        self._functions: list[Callable[[_T], object]] = []

    def __repr__(self) -> str:
        return f"<Setting {self.name} {self.value!r} ({self.origin})>"

    def on_change(self, function: _F) -> _F:
        """A decorator: called with the value in a turn whenever it is another one; may block."""
        check_callable(function, f"on_change of {self.name}", ("value",))
        self._functions.append(function)
        return function

    def read(self, text: str) -> _T:
        """Reads a text as a value of this setting; raises what ``type`` raises."""
        return self._convert(text)

    def take(self, text: str | None, origin: Origin) -> bool:
        """Takes a value as text, ``None`` for that of the code; returns whether it is another one.

        A text that cannot be read is logged, and the value stays.
        """
        value = self.default
        if text is not None:
            try:
                value = self.read(text)
            except (EdgeventError, ValueError, TypeError) as error:
                logger.warning("%s: the value stays %r: %s", self.name, self.value, error)
                return False
        is_other = value != self.value
        self.value, self.text = value, text
        self.origin = "code" if text is None else origin
        return is_other

    def tell(self) -> None:
        """Calls the functions of :meth:`on_change`; what they raise is logged."""
        for function in tuple(self._functions):
            try:
                function(self.value)
            except FAILURES:
                logger.exception("%s: %s failed", self.name, describe(function))


class SettingsListener:
    """The settings of one service, kept up to date over a link to the daemon or to communicatord.

    Args:
        namespace: The name of the service, which stands before names that have none.
        clock: Counts the limit of :meth:`start`.

    Attributes:
        settings: The settings by full name.
        is_ready: Whether the daemon has told all values since the link is up.
        counts: ``changes`` taken, ``refused`` values, ``copies`` written, ``copy_failures``.
        copy: The path of the copy on disk; empty for none.
    """

    def __init__(self, namespace: str, *, copy: str = "", clock: Clock = SYSTEM_CLOCK) -> None:
        self.namespace = namespace
        self.settings: dict[str, Setting[Any]] = {}
        self.is_ready = False
        self.copy = copy
        self.counts: Counter[str] = Counter(changes=0, refused=0, copies=0, copy_failures=0)
        self._clock = clock
        self._link: PermanentConnection | None = None
        self._service = ""
        self._started = False
        self._failed = False
        self._awaited = 0  # so many READY are still to come
        self._fixed: set[str] = set()
        self._waiters: Waiters | None = None
        self._copied: dict[str, str] = {}
        self._copying = False

    def add(self, name: str, default: _T, type: Callable[[str], _T] | None = None) -> Setting[_T]:
        """Adds a setting.

        Args:
            name: Its name; that of this service stands before a name without ``::``.
            default: Its value while nobody has set it.
            type: Reads its text; by default that of a ``bool``, ``int``, ``float`` or ``str``, as
                the default is.

        Raises:
            SettingError: The name is none.
            UsageError: It is there already, or the values have been asked for.
        """
        full = qualify(name, self.namespace)
        if full in self.settings:
            raise UsageError(f"setting {full!r} is there already")
        if self._link is not None:
            raise UsageError(f"setting {full!r}: the values were asked for already")
        convert = cast("Callable[[str], _T]", converter_of(default) if type is None else type)
        found = self.settings[full] = Setting(full, default, convert)
        return found

    def read_option(self, name: str, text: str) -> str:
        """Checks the value that an option of this computer gives a setting, and returns it.

        Raises:
            OptionError: There is no such setting, or the value cannot be read.
        """
        try:
            setting = self.settings[qualify(name, self.namespace)]
            setting.read(text)
        except KeyError:
            near = difflib.get_close_matches(name, list(self.settings), n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise OptionError(f"this service has no setting {name!r}{hint}") from None
        except (EdgeventError, ValueError, TypeError) as error:
            raise OptionError(f"setting {name!r}: {error}") from None
        return text

    def fix(self, values: Mapping[str, str]) -> None:
        """Gives settings the values of this computer's options, whatever the daemon says.

        Called again it is for other options: those that name a setting no more leave it to the
        daemon, or, while that is away, to the copy. Functions of ``on_change`` are called here.
        """
        texts = {qualify(name, self.namespace): text for name, text in values.items()}
        released, self._fixed = sorted(self._fixed - set(texts)), set(texts)
        for name, text in texts.items():
            self._give(name, text, "option")
        if not released:
            return
        if not self.is_ready:
            copied = self._read_copy()
            for name in released:
                self._give(name, copied.get(name), "copy")
        if self._link is not None and self._link.is_connected:
            self._ask(released)

    def _give(self, name: str, text: str | None, origin: Origin) -> None:
        setting = self.settings[name]
        if setting.take(text, origin) and self._started:
            logger.info("%s has changed", name)
            setting.tell()

    def keep_copy(self, path: str) -> None:
        """Has the copy in another file from now on; may switch greenlets while it is written."""
        if path != self.copy:
            self.copy, self._copied = path, {}
            if self.is_ready:
                self._write_copy()

    # --- the link ---------------------------------------------------------------------------------

    def attach(self, link: PermanentConnection, dispatcher: Dispatcher, service: str = "") -> None:
        """Has the settings kept up to date over a link.

        Args:
            link: To the daemon, or to communicatord; it need not be up.
            dispatcher: What takes the messages of the link.
            service: The name of the daemon with communicatord; empty for a link of its own.
        """
        self._link, self._service = link, service
        self._waiters = Waiters(link._turns)
        for command, callback in (
            ("FLUID_SETTINGS_REGISTERED", self._registered),
            ("FLUID_SETTINGS_VALUE_UPDATED", self._updated),
            ("FLUID_SETTINGS_READY", self._ready),
        ):
            dispatcher.add_match(Match(command, callback, tag="settings"))
        if service:
            for command, callback in (
                ("STATUS", self._status),
                ("SERVICE_UNAVAILABLE", self._unavailable),
            ):
                match = Match(command, callback, priority=PRIORITY_CALLBACK, tag="settings")
                dispatcher.add_match(match)
        link.on_connected(self._listen)
        link.on_connection_failed(self._not_connected)
        link.on_disconnected(self._lost)
        if link.is_connected:
            self._listen(link)

    def start(self, timeout: float) -> bool:
        """Waits until all values are there; blocks the calling greenlet alone.

        Without an answer the values of the copy count, and those of the code where it has none.
        With a copy it does not wait for a daemon that nobody can connect to.

        Args:
            timeout: The limit in seconds.

        Returns:
            Whether the daemon has told the values.
        """
        assert self._waiters is not None
        copied = self._read_copy()
        end = self._clock.now() + timeout
        while not self.is_ready and not (copied and self._failed):
            left = end - self._clock.now()
            if left <= 0.0:
                break
            self._waiters.wait(self._clock, left)
        self._started = True
        if self.is_ready:
            return True
        for name, text in copied.items():
            if name in self.settings and name not in self._fixed:
                self.settings[name].take(text, "copy")
        what = "those of the copy" if copied else "those of the program"
        logger.warning("no settings daemon has answered: the values are %s", what)
        return False

    def _listen(self, link: PermanentConnection) -> None:
        names = [name for name in self.settings if name not in self._fixed]
        if not names:
            self.is_ready = True
            self._wake()
            return
        self._awaited = 0
        self._ask(names)

    def _ask(self, names: list[str]) -> None:
        assert self._link is not None
        parts = list(joined(names))
        self._awaited += len(parts)
        try:
            for part in parts:
                self._link.send(self._question(part))
        except NetworkError as error:  # it is lost again; the next one asks
            logger.debug("the settings were not asked for: %s", error)

    def _question(self, names: str) -> Message:
        return Message(
            "FLUID_SETTINGS_LISTEN",
            {"names": names, "cache": "no;reply"},
            service=self._service,
            sent_from_server="" if self._service else own_name(),
            sent_from_service="" if self._service else self.namespace.replace("-", "_"),
        )

    def _not_connected(self, link: object, error: object) -> None:
        self._failed = True
        self._wake()

    def _lost(self, link: object) -> None:
        self.is_ready = False

    def _wake(self) -> None:
        if self._waiters is not None:
            self._waiters.wake()

    # --- what the daemon says ---------------------------------------------------------------------

    def _registered(self, message: Message, peer: object) -> None:
        logger.debug("the settings daemon has taken the names")

    def _status(self, message: Message, peer: object) -> None:
        if message.get("service", "") != SERVICE or self._link is None:
            return
        if message.get("status", "") != "up":
            self.is_ready = False
        elif not self.is_ready:
            self._listen(self._link)

    def _unavailable(self, message: Message, peer: object) -> None:
        if message.get("destination_service", "") == SERVICE:
            self._not_connected(peer, None)

    def _updated(self, message: Message, peer: object) -> None:
        if "error" in message:
            logger.warning("setting %.200s", message["error"])
        change = read_update(message)
        setting = self.settings.get(change.name)
        if setting is None or change.name in self._fixed:
            return
        self._take(setting, change)

    def _take(self, setting: Setting[Any], change: SettingChange) -> None:
        is_other = setting.take(change.value, "daemon")
        if setting.text != change.value:
            self.counts["refused"] += 1
            return
        self.counts["changes"] += is_other
        if self._started:
            if is_other:
                logger.info("%s has changed", setting.name)
                setting.tell()
            if self.is_ready:
                self._write_copy()

    def _ready(self, message: Message, peer: object) -> None:
        self._awaited -= 1
        if self._awaited > 0:
            return
        self.is_ready = True
        self._wake()
        self._write_copy()

    # --- the copy ---------------------------------------------------------------------------------

    def _read_copy(self) -> dict[str, str]:
        if self.copy:
            try:
                return read_copy(self.copy)
            except SettingsCopyError as error:
                logger.warning("%s", error)
        return {}

    def _texts(self) -> dict[str, str]:
        found = {}
        for name, setting in self.settings.items():
            if setting.text is not None and setting.origin in ("daemon", "copy"):
                found[name] = setting.text
        return found

    def _write_copy(self) -> None:
        if not self.copy or self._copying:
            return  # the one that writes looks once more
        self._copying = True
        try:
            while (texts := self._texts()) != self._copied:
                gevent.get_hub().threadpool.apply(write_copy, (self.copy, texts))
                self._copied = texts
                self.counts["copies"] += 1
        except SettingsCopyError as error:
            self.counts["copy_failures"] += 1
            logger.error("%s", error)
        finally:
            self._copying = False
