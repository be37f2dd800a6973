"""The daemon of settings as a process, and how tests talk to it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from running import talk
from tool_ground import SCRIPTS

from edgevent.fluidsettings.definitions import SettingDefinitions, parse_definitions
from edgevent.testing.starting import StartedService

DEFINITIONS = """\
# The settings of a service.
[testsvc::port]
help=The port to listen on
default=4040
validator=integer(1...65535)
required

[testsvc::name]
help=What it is called

[testsvc::time_out]
help=How long it waits
validator=duration(1s...1h)
default=10s
"""


def defined(text: str = DEFINITIONS) -> SettingDefinitions:
    """The definitions of this text."""
    return SettingDefinitions(parse_definitions(text))


def write_definitions(folder: Path, text: str = DEFINITIONS) -> Path:
    """Writes them where the daemon finds them by ``--definitions=FOLDER/defs``."""
    path = folder / "defs"
    path.mkdir(exist_ok=True)
    (path / "testsvc.ini").write_text(text, encoding="utf-8")
    return path


def words_of(folder: Path, *words: str) -> list[str]:
    """The command line of the daemon, with its files in a folder."""
    return [
        sys.executable,
        str(SCRIPTS / "fluid-settings"),
        f"--definitions={write_definitions(folder)}",
        f"--database={folder}/settings.db",
        "--communicator-listen=off",
        *words,
    ]


def start(
    folder: Path,
    *words: str,
    before: tuple[str, ...] = (),
    ready: str = "notify",
    **settings: Any,
) -> StartedService:
    """Starts the daemon, listening on a Unix socket; the caller closes it."""
    listen = [] if any(one.startswith("--listen") for one in words) else ["--listen=unix:s.sock"]
    return StartedService(
        [*before, *words_of(folder, *listen, *words)],
        ready=ready,
        folder=folder,
        timeout=30.0,
        **settings,
    )


def tell(address: str | Path, *lines: str) -> list[str]:
    """Sends lines, ends the sending side, and gives all that is answered."""
    text = str(address)
    if text.startswith("/"):
        # The path of a socket is short; that of a test's folder need not be.
        folder, name = os.path.split(text)
        before = os.getcwd()
        os.chdir(folder)
        try:
            return tell(f"unix:{name}", *lines)
        finally:
            os.chdir(before)
    data = "".join(f"{line}\n" for line in lines).encode()
    return talk(text, data).decode().splitlines()


def counts(address: str | Path) -> dict[str, str]:
    """What the daemon counts."""
    (line,) = tell(address, "FLUID_SETTINGS_COUNTS")
    return dict(item.split("=", 1) for item in line.partition(" ")[2].split(";"))
