"""Who listens to which settings. In memory alone, as in the C++ daemon."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from ..errors import SettingError
from ..links.many import broadcast
from ..links.message import MessageConnection
from ..message import Message
from .definitions import SettingDefinitions
from .store import Notice, Store

logger = logging.getLogger("edgevent.fluidsettings")

MAX_LISTENED: Final = 500_000
"""The most names that all listeners together listen to."""
UPDATED: Final = "FLUID_SETTINGS_VALUE_UPDATED"


class Listener(NamedTuple):
    """One who listens: a connection, and who is behind it when it goes to communicatord."""

    peer: MessageConnection
    server: str
    service: str


class Listeners:
    """Tells each listener of each change, once.

    Args:
        store: Where changes come from.

    Attributes:
        told: How many messages have told of a change.
    """

    def __init__(self, store: Store) -> None:
        self.told = 0
        self._store = store
        self._of_name: dict[str, dict[Listener, None]] = {}
        self._count = 0
        store.subscribe(self._changed)

    def __len__(self) -> int:
        return self._count

    def add(self, listener: Listener, names: Iterable[str]) -> bool:
        """Notes that somebody listens to some names.

        Returns:
            Whether one of them is new.

        Raises:
            SettingError: There are too many listeners.
        """
        before = self._count
        for name in names:
            if self._count >= MAX_LISTENED:
                raise SettingError(f"{MAX_LISTENED} names are listened to already")
            of_name = self._of_name.setdefault(name, {})
            if listener not in of_name:
                of_name[listener] = None
                self._count += 1
        return self._count > before

    def remove(self, listener: Listener, names: Iterable[str]) -> bool:
        """Notes that somebody does not listen any more; returns whether he did."""
        before = self._count
        for name in names:
            self._drop(name, [listener])
        return self._count < before

    def forget(self, peer: object, server: str = "", service: str = "") -> None:
        """Drops all listeners of a connection, or those of a service behind it."""
        for name, of_name in tuple(self._of_name.items()):
            gone = [
                one
                for one in of_name
                if one.peer is peer
                and (not service or (one.server, one.service) == (server, service))
            ]
            self._drop(name, gone)

    def forget_closed(self) -> None:
        """Drops the listeners whose connections have ended."""
        for name, of_name in tuple(self._of_name.items()):
            self._drop(name, [one for one in of_name if one.peer.is_closed])

    def _drop(self, name: str, gone: Iterable[Listener]) -> None:
        of_name = self._of_name.get(name, {})
        for one in gone:
            if one in of_name:
                del of_name[one]
                self._count -= 1
        if not of_name:
            self._of_name.pop(name, None)

    # --- changes ----------------------------------------------------------------------------------

    def _changed(self, notice: Notice) -> None:
        name = notice.entry.name
        if notice.is_change and name in self._of_name and name in self._store.definitions:
            self._tell(name)

    def redefine(self, definitions: SettingDefinitions) -> None:
        """Has other definitions count, and tells of the values that are others thereby."""
        before = {name: self._value(name) for name in self._of_name}
        self._store.definitions = definitions
        for name, value in before.items():
            if self._value(name) != value:
                self._tell(name)

    def _value(self, name: str) -> str | None:
        return self._store.get(name) if name in self._store.definitions else None

    def _tell(self, name: str) -> None:
        of_name, value = self._of_name[name], self._value(name)
        fields = {"reason": "value undefined"} if value is None else {"value": value}
        message = Message(UPDATED, {"name": name, **fields})
        direct: list[MessageConnection] = []
        for one in tuple(of_name):
            if one.service:
                self.told += broadcast((one.peer,), message.with_target(one.server, one.service))
            elif not one.peer.is_closed:
                direct.append(one.peer)
        self.told += broadcast(direct, message)


def first_value(store: Store, name: str) -> Message:
    """Makes what a new listener is told of one name: its value, or why it has none."""
    try:
        current = store.current(name)
        value = store.get(name)
    except SettingError as error:
        return Message(UPDATED, {"name": name, "error": str(error)})
    if value is None:
        return Message(UPDATED, {"name": name, "error": "this setting is not set"})
    fields: dict[str, Any] = {"name": name, "value": value, "message": "current value"}
    if current is None:
        fields["default"] = "true"
    return Message(UPDATED, fields)
