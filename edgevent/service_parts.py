"""What a service has one of, and how it becomes that of another configuration.

As with the listeners a change has two steps: what is new is opened while the former one still
holds, and only then they are exchanged.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .communicator import Communicator
from .definitions import Definitions
from .dispatcher import Dispatcher
from .errors import DefinitionError
from .links.dialled import DialledConnection
from .pid_file import PidFile
from .service_places import Place
from .service_sets import PlaceSet

if TYPE_CHECKING:
    from .logs import Logs

COMMUNICATOR: Final = "communicator_"
"""What the options of the communicatord begin with, in the result of the parser."""
DEFINITIONS: Final = "path_to_message_definitions"
"""The option for the folders of message definitions, in programs that have it."""

_DAEMON: Final = "communicator_listen"
_ROTATION: Final = "LogRotateListener"


def _nothing() -> None:
    """What there is to do where nothing was opened."""


@dataclass(frozen=True, slots=True)
class Step:
    """A change that is prepared.

    Attributes:
        commit: Exchanges the former one for what was opened; refuses nothing any more.
        undo: Closes what was opened, and leaves all as it was.
        fixed: The names of options whose value stays what it was at the start.
    """

    commit: Callable[[], object] = _nothing
    undo: Callable[[], object] = _nothing
    fixed: frozenset[str] = frozenset()


class PidFiles:
    """The file with the process id: one at most."""

    def __init__(self) -> None:
        self._held: PidFile | None = None

    def prepare(self, path: str | None) -> Step:
        """Takes the file of this path, unless it is held already.

        Raises:
            PidFileError: As of :class:`~edgevent.PidFile`.
        """
        held = self._held
        if held is not None and path and os.path.abspath(path) == held.path:
            return Step()
        taken = PidFile(path) if path else None
        return Step(lambda: self._exchange(taken), taken.close if taken else _nothing)

    def close(self) -> None:
        """Removes the file."""
        self._exchange(None)

    def _exchange(self, taken: PidFile | None) -> None:
        former, self._held = self._held, taken
        if former is not None:
            former.close()


class Rotation:
    """The listener for LOG_ROTATE: one at most.

    Args:
        communicator: Runs it.
        logs: What is reopened.
    """

    def __init__(self, communicator: Communicator, logs: Logs) -> None:
        self._logs = logs
        self._set: PlaceSet[Any] = PlaceSet(
            "listener",
            communicator,
            self._make,
            check=lambda name, place: None,
            retire=lambda former, new: former.close(),
            one_an_address=True,
        )

    def prepare(self, options: argparse.Namespace) -> Step:
        """Opens another one, if the options ask for another one.

        Raises:
            ListenError: It cannot receive there.
        """
        address, code = options.logrotate_listen, options.logrotate_secret or None
        place = Place(address, {"secret_code": code}) if address is not None else None
        change = self._set.prepare({} if place is None else {_ROTATION: place})
        return Step(lambda: self._set.commit(change), change.undo)

    def _make(self, name: str, place: Place) -> Any:
        from .logrotate import LogRotateListener

        return LogRotateListener(place.address, self._logs, name=name, **place.settings)


def prepare_definitions(dispatcher: Dispatcher, options: argparse.Namespace) -> Step:
    """Reads the message definitions anew, if the program has the option for their folders.

    Those of the dispatcher's own commands are read at once, others when they are asked for.

    Raises:
        DefinitionError: A file of them, or a folder that is new, cannot be used.
    """
    folders: str | None = getattr(options, DEFINITIONS, None)
    if folders is None:
        return Step()
    found = Definitions(folders)
    for folder in found.folders:
        if folder not in dispatcher.definitions.folders and not os.path.isdir(folder):
            raise DefinitionError(f"{folder}: there is no such folder of message definitions")
    for command in sorted(dispatcher.commands()):
        found.get(command)
    return Step(lambda: setattr(dispatcher, "definitions", found))


def prepare_communicator(
    link: DialledConnection | None, former: argparse.Namespace, options: argparse.Namespace
) -> Step:
    """Has a link with the communicatord go to another one, if the options name another one.

    The link itself stays, with its functions and what it has kept. What was off at the start stays
    off, as the program has begun without it; and what is there is not turned off.

    Raises:
        EdgeventError: The address, or what is asked of TLS, cannot be used.
    """
    if not hasattr(options, _DAEMON):
        return Step()
    from .communicatord.client_options import communicator_address, communicator_tls

    address = communicator_address(options)
    if link is None or address is None:
        is_fixed = link is not None or address is not None
        return Step(fixed=frozenset((_DAEMON,) if is_fixed else ()))
    if _of_communicator(former) == _of_communicator(options):
        return Step(link.reload)
    return Step(link.prepare_move(address, communicator_tls(options, address)))


def _of_communicator(options: argparse.Namespace) -> dict[str, object]:
    return {name: value for name, value in vars(options).items() if name.startswith(COMMUNICATOR)}
