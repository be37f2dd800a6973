"""What a service has for settings of the settings daemon: one method."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from .service_declared import Declared

if TYPE_CHECKING:
    from .communicator import Communicator
    from .fluidsettings.listening import Setting
    from .options import OptionParser
    from .service_settings import ServiceSettings

_T = TypeVar("_T")


class WithSettings:
    """The part of :class:`~edgevent.Service` that declares settings."""

    name: str
    options: OptionParser
    _declared: Declared
    _settings: ServiceSettings | None = None

    if TYPE_CHECKING:

        @property
        def communicator(self) -> Communicator:
            """What runs everything."""

    def setting(
        self, name: str, default: _T, type: Callable[[str], _T] | None = None
    ) -> Setting[_T]:
        """Declares a setting of the settings daemon, whose value is there before the start.

        Args:
            name: Its name; that of this service stands before one without ``::``.
            default: Its value while nobody has set it.
            type: Reads its text; by default as a ``bool``, ``int``, ``float`` or ``str``, as the
                default is one.

        Returns:
            The setting: its ``value``, and ``on_change`` for a function to call.

        Raises:
            SettingError: The name is none.
            UsageError: It is there already.
        """
        if self._settings is None:
            from .service_settings import ServiceSettings  # which few services need

            own = ServiceSettings(self.options, self.name, lambda: self.communicator)
            # Before all other hooks: they find the values.
            self._declared.hooks.setdefault("start", []).insert(0, own.start)
            self._declared.preparing.append(own.prepare)
            self._settings = own
        return self._settings.listener.add(name, default, type)
