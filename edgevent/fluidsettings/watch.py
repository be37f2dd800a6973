"""What a client is told of changes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from ..message import Message
from ..runtime.closing import Closing
from .names import canonical, joined


@dataclass(frozen=True, slots=True)
class SettingChange:
    """What a listener is told of a setting.

    Attributes:
        name: The setting, ``-`` in place of ``_``.
        value: The value that holds now; ``None`` when there is none any more.
        is_default: Whether that is the default of its definition.
        is_first: Whether it is the value that was there when the listening began.
    """

    name: str
    value: str | None
    is_default: bool = False
    is_first: bool = False


def read_update(message: Message, *, is_first: bool = False) -> SettingChange:
    """Reads ``FLUID_SETTINGS_VALUE_UPDATED``.

    Raises:
        MessageError: It has no name.
    """
    return SettingChange(
        canonical(message["name"]),
        message.get("value"),
        message.get("default", "") == "true",
        is_first or message.get("message", "") == "current value",
    )


class Receiver(Protocol):
    """The client of a watch."""

    def receive(self, timeout: float | None = None) -> SettingChange | None:
        """Waits for what is told next; ``None`` when that is the end of the first values."""

    def listen(self, names: str, /) -> None:
        """Asks for the values of names, and for their changes."""

    def forget(self, watch: Watch, /) -> None:
        """Ends the watch."""


class Watch(Closing):
    """The values of settings, then each change; made by :meth:`Client.watch`.

    Attributes:
        names: The settings.
        is_ready: Whether the first values are all there.
    """

    __slots__ = ("_client", "_left", "is_ready", "names")

    def __init__(self, client: Receiver, names: tuple[str, ...]) -> None:
        self._client = client
        self.names = names
        self.is_ready = False
        self._left = deque(joined(names))

    def next_names(self) -> str:
        """Gives the names that are to be asked for next: as many as one message holds."""
        return self._left.popleft()

    def __iter__(self) -> Iterator[SettingChange]:
        while True:
            yield self.next()

    def next(self, timeout: float | None = None) -> SettingChange:
        """Waits for the next value or change, and returns it.

        Raises:
            ReceiveTimeout: Nothing came within ``timeout`` seconds.
            ConnectionLostError: The connection broke: what changes from now on is not told.
            SettingError: The daemon refuses to tell of more names.
        """
        while (change := self._client.receive(timeout)) is None:
            self._go_on()
        return change

    def _go_on(self) -> None:
        # Not before: the values of one message after the other are what has room on the way.
        if self._left:
            self._client.listen(self.next_names())
        else:
            self.is_ready = True

    def first(self, timeout: float | None = None) -> dict[str, SettingChange]:
        """Returns the values that are there now, by name, once all are there.

        Raises:
            ReceiveTimeout: They were not there in time.
        """
        found: dict[str, SettingChange] = {}
        while not self.is_ready:
            change = self._client.receive(timeout)
            if change is None:
                self._go_on()
            else:
                found[change.name] = change
        return found

    def close(self) -> None:
        """Listens no more. Idempotent."""
        self._client.forget(self)
