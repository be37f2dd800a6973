"""What a computer is called, and where its communicatord listens, when nobody says it."""

from __future__ import annotations

import re
import socket
from typing import Final

from ..folders import own_folder

SOCKET_NAME: Final = "communicatord.sock"
SYSTEM_FOLDER: Final = "/run/communicator"
"""The folder of the Unix socket, as the units and the C++ daemon have it."""


def own_name() -> str:
    """Gives this computer's name as the server of messages.

    It is the host name up to its first dot, in lower case; what no such name may hold becomes an
    underscore.
    """
    host = socket.gethostname().partition(".")[0].lower()
    name = re.sub(r"[^a-z0-9_]", "_", host) or "localhost"
    return f"_{name}" if name[0].isdigit() else name


def socket_path() -> str:
    """Gives the path of the Unix socket of a communicatord that this process is, or would start.

    Of a service of systemd's it is in its RuntimeDirectory (systemd.exec(5)), of the superuser in
    :data:`SYSTEM_FOLDER`, of another user in the folder that $XDG_RUNTIME_DIR names, or else in
    the home folder.
    """
    return f"{own_folder('runtime', 'communicator')}/{SOCKET_NAME}"


def socket_paths() -> tuple[str, ...]:
    """Gives the paths at which a client finds a communicatord: the system's, and its own user's."""
    system = f"{SYSTEM_FOLDER}/{SOCKET_NAME}"
    return tuple(dict.fromkeys((system, socket_path())))
