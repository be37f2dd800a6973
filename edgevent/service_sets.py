"""The listeners or the links of a service by name, and how they become those of another file.

A change has two steps. :meth:`PlaceSet.prepare` makes all that is new and can fail while the former
ones still run; :meth:`PlaceSet.commit` exchanges them.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from .communicator import Communicator
from .connection import Connection
from .errors import EdgeventError
from .service_places import LIVE, Place

logger = logging.getLogger("edgevent.service")

_C = TypeVar("_C", bound=Connection)

_ALL: Final = frozenset({"address", "tls"})


@dataclass(slots=True)
class Change(Generic[_C]):
    """What is to become of a set; made by :meth:`PlaceSet.prepare`."""

    places: dict[str, Place]
    made: dict[str, _C] = field(default_factory=dict)
    in_place: dict[str, set[str]] = field(default_factory=dict)  # settings that only are set
    anew: list[str] = field(default_factory=list)  # made when the former one is gone
    gone: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The names of all that is not as before."""
        return sorted({*self.made, *self.in_place, *self.anew, *self.gone})

    def undo(self) -> None:
        """Closes what was made, and leaves all as it was."""
        for connection in self.made.values():
            connection.close()


class PlaceSet(Generic[_C]):
    """Connections of one kind, each by its name in the configuration file.

    Args:
        kind: ``listener`` or ``link``, for log lines.
        communicator: Runs them.
        make: Makes one, without adding it.
        check: Raises what a place that is made later would raise already, as far as that can be
            known while the former one is there.
        retire: Closes one; called with what is to stand in its place as well, or ``None``.
        one_an_address: Whether two cannot have the same address at the same time.
    """

    def __init__(
        self,
        kind: str,
        communicator: Communicator,
        make: Callable[[str, Place], _C],
        *,
        check: Callable[[str, Place], None],
        retire: Callable[[_C, _C | None], None],
        one_an_address: bool,
    ) -> None:
        self.kind = kind
        self.places: dict[str, Place] = {}
        self.running: dict[str, _C] = {}
        self._communicator = communicator
        self._make = make
        self._check = check
        self._retire = retire
        self._one_an_address = one_an_address

    def prepare(
        self, places: Mapping[str, Place], anew: frozenset[str] = frozenset()
    ) -> Change[_C]:
        """Makes what is new in these places; may switch greenlets for the look-up of names.

        Args:
            anew: The names of those that are to be made anew although nothing differs.

        Raises:
            EdgeventError: One cannot be made; then none is, and all stay as they are.
        """
        change: Change[_C] = Change(dict(places))
        change.gone = [name for name in self.running if name not in places]
        taken = {self.places[name].address for name in self.running}
        try:
            for name, place in places.items():
                former = self.places.get(name) if name in self.running else None
                differs = set(_ALL) if former is None else former.differs_in(place)
                if differs and differs <= LIVE and name not in anew:
                    change.in_place[name] = differs
                elif differs or name in anew:
                    if self._one_an_address and place.address in taken:
                        self._check(name, place)
                        change.anew.append(name)
                    else:
                        change.made[name] = self._make(name, place)
        except BaseException:
            change.undo()
            raise
        return change

    def commit(self, change: Change[_C]) -> None:
        """Exchanges the connections. What cannot be made now is logged, and stays as it was."""
        former = dict(self.places)
        closed = {
            name: self.running.pop(name)
            for name in (*change.gone, *change.made, *change.anew)
            if name in self.running
        }
        for name, connection in closed.items():
            self._retire(connection, change.made.get(name))
        for name in change.anew:
            try:
                change.made[name] = self._make(name, change.places[name])
            except EdgeventError as error:
                logger.error("%s %s: the former one stays: %s", self.kind, name, error)
                self._bring_back(name, former, change)
        for name, connection in change.made.items():
            self.running[name] = self._communicator.add_connection(connection)
        for name, settings in change.in_place.items():
            for setting in settings:
                value = change.places[name].settings.get(setting, _DEFAULT)
                if value is _DEFAULT:
                    value = _default(self.running[name], setting)
                setattr(self.running[name], setting, value)
        self.places = change.places

    def _bring_back(self, name: str, former: Mapping[str, Place], change: Change[_C]) -> None:
        change.places.pop(name, None)
        if name in former:
            try:
                change.made[name] = self._make(name, former[name])
                change.places[name] = former[name]
            except EdgeventError as error:
                logger.error("%s %s is lost: %s", self.kind, name, error)


_DEFAULT: Final = object()


def _default(connection: Connection, setting: str) -> Any:
    """Gives the default of an argument, which stands in the class that takes it."""
    for kind in type(connection).__mro__[:-1]:
        parameter = inspect.signature(kind).parameters.get(setting)
        if parameter is not None:
            return parameter.default
    raise AttributeError(setting)
