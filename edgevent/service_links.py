"""The links and the timers of a service, as its configuration file has them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from .communicator import Communicator
from .dispatcher import Dispatcher
from .errors import QueueFullError
from .links.permanent import PermanentConnection
from .service_places import Place
from .service_sets import Change, PlaceSet
from .timer import Timer

logger = logging.getLogger("edgevent.service")


class Links:
    """All permanent links of a service.

    Args:
        communicator: Runs them.
        dispatcher: Takes what comes over them.
        functions: Gives the functions to call when the link of a name is up.
    """

    def __init__(
        self,
        communicator: Communicator,
        dispatcher: Dispatcher,
        functions: Callable[[str], list[Callable[[Any], Any]]],
    ) -> None:
        self._dispatcher = dispatcher
        self._functions = functions
        self._set: PlaceSet[PermanentConnection] = PlaceSet(
            "link",
            communicator,
            self._make,
            check=lambda name, place: None,
            retire=_retire,
            one_an_address=False,
        )

    @property
    def running(self) -> Mapping[str, PermanentConnection]:
        """The links by name."""
        return self._set.running

    def prepare(self, places: Mapping[str, Place]) -> Change[PermanentConnection]:
        """Makes what is new; see :meth:`PlaceSet.prepare`."""
        return self._set.prepare(places)

    def commit(self, change: Change[PermanentConnection]) -> None:
        """Exchanges the links."""
        self._set.commit(change)
        for name, link in self.running.items():
            if name not in change.made:
                link.reload()

    def _make(self, name: str, place: Place) -> PermanentConnection:
        settings = {**place.settings, "name": name}
        options = place.tls_options()
        if options is not None:
            settings["tls"] = options
        link = PermanentConnection(place.address, self._dispatcher, **settings)
        for function in self._functions(name):
            link.on_connected(function)
        return link


def _retire(former: PermanentConnection, link: PermanentConnection | None) -> None:
    """Closes a link, and hands on what it has kept; what is lost is said."""
    if link is None:
        former.close()
        return
    kept = former.take_kept()
    former.close()
    for number, message in enumerate(kept):
        try:
            link.send(message, cache=True)
        except QueueFullError as error:
            lost = len(kept) - number
            logger.error("link %s: %d kept messages are lost: %s", former.name, lost, error)
            return
    if kept:
        logger.info("link %s: %d kept messages are handed on", former.name, len(kept))


class Timers:
    """All timers of a service that have a name."""

    def __init__(
        self,
        communicator: Communicator,
        functions: Mapping[str, tuple[Callable[[], Any], float | None]],
    ) -> None:
        self._communicator = communicator
        self._functions = functions
        self.running: dict[str, Timer] = {}

    def set(self, intervals: Mapping[str, float]) -> list[str]:
        """Has each timer call its function so often; those that are not there call it no more.

        Returns:
            The names of those that are not as before.
        """
        changed = []
        for name in set(self.running) - set(intervals):
            self.running.pop(name).close()
            changed.append(name)
        for name, interval in intervals.items():
            timer = self.running.get(name)
            if timer is None:
                timer = Timer(interval, name=name)
                timer.function = self._functions[name][0]
                self.running[name] = self._communicator.add_connection(timer)
                changed.append(name)
            elif timer.timeout_delay != interval:
                timer.timeout_delay = interval
                changed.append(name)
        return sorted(changed)
