"""Settings that are the same on all computers: the client, and the daemon that keeps them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .client import Client
    from .described import Described
    from .listening import Setting, SettingsListener
    from .watch import SettingChange, Watch

__all__ = ["Client", "Described", "Setting", "SettingChange", "SettingsListener", "Watch"]

_LATER: Final = {
    "Client": "client",
    "Described": "described",
    "Setting": "listening",
    "SettingChange": "watch",
    "SettingsListener": "listening",
    "Watch": "watch",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Imports what is asked for: the daemon needs no client, and a client no daemon."""
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f".{_LATER[name]}", __name__), name)
        return value

    def __dir__() -> list[str]:
        """Lists them too."""
        return sorted({*globals(), *_LATER})
