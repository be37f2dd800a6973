"""The options of the daemon of settings."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..address import Address
from ..errors import AddressError, EdgeventError, OptionError, SettingsStoreError
from ..folders import own_folder
from ..option_groups import add_definition_options
from ..option_values import whole_number
from ..options import OptionParser
from .definitions import SettingDefinitions

logger = logging.getLogger("edgevent.fluidsettings")

DEFAULT_LISTEN: Final = "tcp://127.0.0.1:4049"
PORT: Final = 4049
"""The port of the C++ daemon."""
FOLDERS: Final = (
    "/usr/share/fluid-settings/definitions",
    "/var/lib/fluid-settings/definitions",
)
"""The folders of definitions that are always looked into, as by the C++ daemon."""
STATE_FOLDER: Final = "/var/lib/fluid-settings"
DATABASE: Final = "settings.db"
MAX_HISTORY: Final = 1_000
KEEP_DELETIONS: Final = 90 * 86_400.0
"""How long deletions are kept, in seconds."""

UNUSED: Final = (
    "permanent-connection-retries",
    "save-timeout",
    "settings",
)
"""Options of the C++ daemon that a file may have, and that this one does nothing with."""


def default_database() -> str:
    """Gives the path of the file: in the unit's StateDirectory, or in a folder of the user's.

    That of the superuser is where the C++ daemon has its own.
    """
    return f"{own_folder('state', 'fluid-settings')}/{DATABASE}"


def make_folder(database: str) -> None:
    """Makes the folder of a file that nobody has named, if it is not there.

    Raises:
        SettingsStoreError: It cannot be made.
    """
    folder = os.path.dirname(database)
    if database != default_database() or os.path.isdir(folder):
        return
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as error:
        text = f"{database}: its folder cannot be made: {error.strerror}"
        raise SettingsStoreError(text, error.errno) from None


def add_options(parser: OptionParser) -> None:
    """Adds the options of the daemon, and what ``--check-config`` looks at."""
    parser.add(
        "--definitions",
        default="",
        metavar="FOLDERS",
        help="further folders of definitions *.ini, with colons between; those of"
        f" {' and '.join(FOLDERS)} come first",
    )
    add_definition_options(parser)
    parser.add(
        "--database",
        default=default_database(),
        metavar="FILE",
        help=f"the file of the settings (default: {DATABASE} in StateDirectory, or in"
        f" {STATE_FOLDER}, or in a folder of the user's)",
    )
    parser.add(
        "--history",
        type=whole_number(0, MAX_HISTORY),
        default=100,
        metavar="N",
        help=f"how many changes of each setting are kept, up to {MAX_HISTORY} (default: 100)",
    )
    parser.add_duration(
        "--keep-deletions",
        default=KEEP_DELETIONS,
        minimum=3_600.0,
        help="how long it is known that a value was deleted; of daemons that are linked the longest"
        " counts. Values of a daemon that was away for longer are deleted where the others have"
        " none",
    )
    parser.add(
        "--peers",
        action="append",
        type=_addresses,
        to_text=",".join,
        metavar="ADDRESSES",
        help="where the daemons of other computers are, with commas between; may be repeated",
    )
    parser.add_duration(
        "--gossip-timeout",
        default=60.0,
        minimum=0.1,
        help="how often daemons compare what they have",
    )
    parser.add_duration(
        "--peer-timeout",
        default=3.0,
        minimum=0.2,
        help="a daemon that does not answer for so long is dialled anew",
    )
    parser.add("--export", metavar="FILE", help="write the settings as text, - for output, and end")
    parser.add("--import", metavar="FILE", help="take the settings of such a text, and end")
    for name in UNUSED:
        parser.add(f"--{name}", help=argparse.SUPPRESS)
    parser.add_check(_problems)


def folders_of(options: argparse.Namespace) -> list[str]:
    """Gives the folders of definitions, in the order in which they count."""
    return [*FOLDERS, *(one for one in options.definitions.split(":") if one)]


def peers_of(options: argparse.Namespace) -> list[str]:
    """Gives the addresses of the daemons of other computers."""
    return list(dict.fromkeys(one for some in options.peers or () for one in some))


def tell_of_unused(options: argparse.Namespace) -> None:
    """Logs which options of the C++ daemon are given, and have no effect."""
    for name in UNUSED:
        if getattr(options, name.replace("-", "_"), None) is not None:
            hint = "; --import takes its text" if name == "settings" else ""
            logger.warning("option %s: this daemon has no use for it%s", name, hint)


def _addresses(text: str) -> tuple[str, ...]:
    found = []
    for one in filter(None, (part.strip() for part in text.split(","))):
        try:
            address = Address.parse(one, default_port=PORT)
        except AddressError as error:
            raise OptionError(str(error)) from None
        if address.is_datagram or address.scheme not in ("tcp", "tls", "unix", "tls+unix"):
            raise OptionError(f"{one}: a stream was expected, such as 10.0.0.5:{PORT}")
        found.append(str(address))
    return tuple(found)


def _problems(options: argparse.Namespace) -> Iterator[str]:
    try:
        SettingDefinitions.load(folders_of(options))
    except EdgeventError as error:
        yield str(error)
    for folder in filter(None, options.definitions.split(":")):
        if not os.path.isdir(folder):
            yield f"definitions: there is no folder {folder}"
    folder = str(Path(options.database).absolute().parent)
    if options.database == default_database():  # it is made at the start
        while not os.path.lexists(folder) and os.path.dirname(folder) != folder:
            folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        yield f"database: there is no folder {folder}"
    elif not os.access(folder, os.W_OK):
        yield f"database: nothing can be written to {folder}"
