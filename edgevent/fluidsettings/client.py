"""The blocking client of the settings daemon: needs no communicator."""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final, Protocol, TypeVar

from ..address import Address
from ..communicatord.naming import own_name
from ..errors import (
    ConnectionLostError,
    RemoteError,
    SettingError,
    SettingNotSetError,
    TransmissionError,
    UsageError,
)
from ..links.client import Client as MessageClient
from ..message import Message
from ..runtime.closing import Closing
from ..tls import TlsMode, TlsOptions
from .described import (
    CHANGES,
    DESCRIBE,
    DESCRIPTION,
    HISTORY,
    Described,
    read_changes,
    read_description,
)
from .names import ADMINISTRATOR, canonical, check_priority, check_value, joined
from .values import Entry
from .watch import SettingChange, Watch, read_update

DEFAULT_ADDRESS: Final = "tcp://127.0.0.1:4049"
"""Where the daemon listens when nothing else is said; the port is that of the C++ daemon."""
SERVICE: Final = "fluid_settings"
"""The name by which the daemon is registered with communicatord."""
TIMEOUT: Final = 10.0
"""The limit of each answer, in seconds, as in the C++ library."""

_PREFIX: Final = "FLUID_SETTINGS_"
_VALUES: Final = (f"{_PREFIX}VALUE", f"{_PREFIX}DEFAULT_VALUE")
_NOT_SET: Final = f"{_PREFIX}NOT_SET"
_UPDATED: Final = f"{_PREFIX}VALUE_UPDATED"
_REGISTERED: Final = f"{_PREFIX}REGISTERED"

_T = TypeVar("_T")


class Link(Protocol):
    """What carries the messages: a client of the daemon itself, or of communicatord."""

    def request(
        self,
        message: Message,
        reply: str | Iterable[str] | None = None,
        timeout: float = 0.0,
        *,
        serial: bool = True,
    ) -> Message:
        """Sends a message and waits for its answer."""

    def receive(self, timeout: float | None = None) -> Message:
        """Waits for the next message that is no answer."""

    def close(self) -> None:
        """Closes."""


def own_service_name(program: str = "fluid_settings_client") -> str:
    """Gives the name by which a program that is no service is answered."""
    return f"{program}{os.getpid()}"


class Client(Closing):
    """Reads and sets settings, and waits for changes, in straight-line code.

    Every call blocks the calling greenlet alone, for ``timeout`` at most; several greenlets may
    call at once.

    Args:
        address: Where the daemon listens.
        link: In place of the address, a client of communicatord, which is closed with this one:
            the messages go to the service ``fluid_settings`` then.
        name: The name of this program, which the history shows as the one who has set a value.
        timeout: The limit of each answer, in seconds.
        connect_timeout: The limit of the connecting, in seconds.
        wait: Whether it waits, within that limit, until the daemon is up.
        tls: What is asked of TLS.

    Raises:
        ConnectError: No daemon took the connection.

    Example:
        >>> with Client("tcp://127.0.0.1:4049") as settings:
        ...     settings.set("hello::greeting", "Good morning")
        ...     settings.get("hello::greeting")
        'Good morning'
    """

    __slots__ = ("_link", "_sender", "_service", "_watch", "timeout")

    def __init__(
        self,
        address: str | Address = DEFAULT_ADDRESS,
        *,
        link: Link | None = None,
        name: str = "",
        timeout: float = TIMEOUT,
        connect_timeout: float = 5.0,
        wait: bool = False,
        tls: TlsOptions | TlsMode | None = None,
    ) -> None:
        self.timeout = timeout
        self._watch: Watch | None = None
        self._sender = (own_name(), name or own_service_name())
        self._service = "" if link is None else SERVICE
        self._link: Link
        if link is None:
            self._link = MessageClient(
                address, connect_timeout=connect_timeout, wait=wait, tls=tls, name="fluid-settings"
            )
        else:
            self._link = link

    def __repr__(self) -> str:
        return f"<Client of settings {self._link!r}>"

    # --- values -----------------------------------------------------------------------------------

    def get(self, name: str, default: _T = ..., *, priority: int | None = None) -> str | _T:  # type: ignore[assignment]
        """Returns the value that holds: the one of the highest priority, or the definition's.

        Args:
            default: What is returned when there is none.
            priority: Asks for the value of this priority alone.

        Raises:
            SettingNotSetError: There is no value, and no ``default`` was given.
            SettingError: The daemon refuses the name.
        """
        fields = {"name": canonical(name)}
        if priority is not None:
            fields["priority"] = str(check_priority(priority))
        answer = self._ask("GET", fields, *_VALUES, _NOT_SET)
        if answer.command != _NOT_SET:
            return answer["value"]
        if default is not ...:
            return default
        raise SettingNotSetError(_reason(answer, name))

    def get_default(self, name: str) -> str | None:
        """Returns the value that the definition gives, whatever is set; ``None`` without one."""
        fields = {"name": canonical(name), "default_value": "true"}
        answer = self._ask("GET", fields, *_VALUES, _NOT_SET)
        return None if answer.command == _NOT_SET else answer["value"]

    def set(
        self,
        name: str,
        value: str,
        *,
        priority: int = ADMINISTRATOR,
        timestamp: int | None = None,
    ) -> str:
        """Sets a value; it is on the daemon's disk when this returns.

        Args:
            priority: 0 to 99: the value of the highest priority holds; 50 is the administrator's.
            timestamp: When it was set, in nanoseconds since 1970; now by default. An older value
                does not replace a newer one.

        Returns:
            What was done: ``new``, ``new priority``, ``changed``, ``newer`` (the same value with a
            later time) or ``unchanged``.

        Raises:
            SettingError: The daemon refuses the name, the value, the priority or the time.
        """
        fields = {
            "name": canonical(name),
            "value": check_value(value),
            "priority": str(check_priority(priority)),
        }
        if timestamp is not None:
            fields["timestamp"] = f"{timestamp // 10**9}.{timestamp % 10**9:09}"
        return self._ask("PUT", fields, f"{_PREFIX}UPDATED").get("reason", "")

    def delete(self, name: str, *, priority: int = ADMINISTRATOR) -> bool:
        """Deletes the value of a priority; those of other priorities stay.

        Returns:
            Whether there was one.

        Raises:
            SettingError: The daemon refuses the name or the priority.
        """
        fields = {"name": canonical(name), "priority": str(check_priority(priority))}
        return not self._ask("DELETE", fields, f"{_PREFIX}DELETED").get("message", "")

    # --- what there is ----------------------------------------------------------------------------

    def names(self) -> builtins.list[str]:
        """Returns the names of all settings that are defined, in order."""
        found = self._ask_parts("LIST", f"{_PREFIX}OPTIONS", "options", ",")
        return sorted(filter(None, found))

    def export(self) -> builtins.list[str]:
        """Returns all values as lines of the C++ daemon's file, without newlines.

        Raises:
            UnknownCommandError: The daemon is the C++ one, which does not tell.
        """
        return builtins.list(
            filter(None, self._ask_parts("EXPORT", f"{_PREFIX}LINES", "lines", "\n"))
        )

    def _ask_parts(
        self, command: str, reply: str, parameter: str, between: str
    ) -> builtins.list[str]:
        """Asks for a list that may be longer than a message: ``more`` says where to go on."""
        found: builtins.list[str] = []
        start = "0"
        while start:
            # The C++ daemon knows no ``start``: it tells all at once.
            fields = {"start": start} if start != "0" else {}
            answer = self._ask(command, fields, reply)
            found += answer.get(parameter, "").split(between)
            more = answer.get("more", "")
            start = more if more.isdecimal() and int(more) > int(start) else ""
        return found

    def describe(self, name: str) -> Described:
        """Returns all that is known of a setting: type, help, default, and the values.

        Raises:
            SettingError: There is no such setting.
            UnknownCommandError: The daemon is the C++ one, which does not tell.
        """
        found = read_description(self._ask(DESCRIBE, {"name": canonical(name)}, DESCRIPTION))
        if not found.cut:
            return found
        # One that was deleted meanwhile is not there any more.
        values = [
            replace(entry, value=self.get(name, None, priority=entry.priority))
            for entry in found.entries
        ]
        there = tuple(entry for entry in values if entry.value is not None)
        return replace(found, entries=there, cut=False)

    def list(self, namespace: str = "") -> builtins.list[Described]:
        """Returns all that is known of the settings.

        Args:
            namespace: Of this namespace, or of this name, alone.
        """
        prefix = namespace.replace("_", "-").removesuffix("::")
        return [
            self.describe(name)
            for name in self.names()
            if not prefix or name == prefix or name.startswith(f"{prefix}::")
        ]

    def history(self, name: str, *, limit: int = 100) -> builtins.list[Entry]:
        """Returns what was set and deleted, the newest one first; deletions have no value.

        Raises:
            SettingError: There is no such setting.
            UnknownCommandError: The daemon is the C++ one, which keeps none.
        """
        fields = {"name": canonical(name), "limit": str(limit)}
        return read_changes(self._ask(HISTORY, fields, CHANGES))

    # --- changes ----------------------------------------------------------------------------------

    def watch(self, *names: str) -> Watch:
        """Listens to settings; what it returns gives their values, then each change.

        Raises:
            SettingError: A name is none.
            UsageError: Another watch of this client is open.

        Example:
            >>> for change in settings.watch("hello::greeting"):
            ...     print(change.name, change.value)
        """
        if self._watch is not None:
            raise UsageError("watch(): another watch of this client is open")
        if not names:
            raise UsageError("watch(): the name of a setting was expected")
        found = tuple(dict.fromkeys(canonical(name) for name in names))
        watch = Watch(self, found)
        self.listen(watch.next_names())
        self._watch = watch
        return watch

    def listen(self, names: str) -> None:
        """Asks for the values of names, with commas between, and for their changes; for a watch.

        Raises:
            SettingError: The daemon refuses that.
        """
        # Without a serial: what follows the answer would have it, too, and look like late answers.
        self._ask("LISTEN", {"names": names}, _REGISTERED, serial=False)

    def forget(self, watch: Watch) -> None:
        """Ends a watch: the daemon tells of its settings no more. Idempotent."""
        if self._watch is watch:
            self._watch = None
            try:
                for names in joined(watch.names):
                    self._ask("FORGET", {"names": names}, f"{_PREFIX}FORGET", serial=False)
            except (ConnectionLostError, TransmissionError):
                pass  # the daemon forgets it then anyway

    def close(self) -> None:
        """Closes the connection. Idempotent."""
        self._watch = None
        self._link.close()

    # --- inside -----------------------------------------------------------------------------------

    def _ask(
        self, command: str, fields: dict[str, str], *replies: str, serial: bool = True
    ) -> Message:
        if not command.startswith(_PREFIX):
            command = f"{_PREFIX}{command}"
        server, service = self._sender
        message = Message(
            command,
            fields,
            service=self._service,
            sent_from_server=server if not self._service else "",
            sent_from_service=service if not self._service else "",
        )
        answer = self._link.request(message, (*replies, "INVALID"), self.timeout, serial=serial)
        if answer.command != "INVALID":
            return answer
        why = _reason(answer, fields.get("name", ""))
        if answer.get("id", ""):
            raise RemoteError(why, command=command, id=answer["id"])
        raise SettingError(why)

    def receive(self, timeout: float | None = None) -> SettingChange | None:
        """Waits for what a watch is told next; ``None`` when that is the end of the first values.

        Raises:
            ReceiveTimeout: Nothing came within ``timeout`` seconds.
            ConnectionLostError: The connection broke, or the daemon behind communicatord is gone.
        """
        while True:
            message = self._link.receive(timeout)
            if message.command == f"{_PREFIX}READY":
                return None
            if message.command == _UPDATED:
                return read_update(message)
            if (
                message.command == "STATUS"
                and message.get("service", "") == self._service
                and message.get("status", "") == "down"
            ):
                # It knows nobody who listens when it comes back.
                raise ConnectionLostError(
                    f"{SERVICE} is not registered with communicatord any more"
                )


def _reason(answer: Message, name: str) -> str:
    why: Any = answer.get("error") or answer.get("message") or "no reason was given"
    return f"{name}: {why}" if name and name not in why else str(why)
