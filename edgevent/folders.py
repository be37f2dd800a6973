"""Where a program keeps what it has, when nobody says it: as a service, as root, and as a user.

Of a service of systemd's it is the folder that the unit asks for, whose path is in a variable; see
systemd.exec(5), and file-hierarchy(7) for those of users.
"""

from __future__ import annotations

import os
from typing import Final, Literal

Kind = Literal["runtime", "state", "logs"]
"""What a folder is for: sockets; what outlives a restart of the computer; log files."""

_KINDS: Final[dict[Kind, tuple[str, str]]] = {
    "runtime": ("RUNTIME_DIRECTORY", "/run"),
    "state": ("STATE_DIRECTORY", "/var/lib"),
    "logs": ("LOGS_DIRECTORY", "/var/log"),
}


def own_folder(kind: Kind, name: str) -> str:
    """Gives the path of a program's own folder, which need not be there.

    Args:
        kind: What it is for.
        name: Its name below the folder of its kind; that of systemd's stands for itself.
    """
    variable, system = _KINDS[kind]
    folder = os.environ.get(variable, "").partition(":")[0]
    if folder:
        return folder
    if os.geteuid() == 0:
        return f"{system}/{name}"
    state = os.environ.get("XDG_STATE_HOME", "") or os.path.expanduser("~/.local/state")
    if kind == "runtime":
        state = os.environ.get("XDG_RUNTIME_DIR", "") or os.path.expanduser("~/.local/state")
    return f"{state}/log/{name}" if kind == "logs" else f"{state}/{name}"
