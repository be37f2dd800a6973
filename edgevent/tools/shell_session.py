"""What ed-shell does with the lines that it is given, and with what comes from the service."""

from __future__ import annotations

import difflib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from ..durations import parse_duration
from ..errors import ConnectionLostError, DurationError, EdgeventError, RequestTimeout, UsageError
from ..message import Message
from .output import shown
from .shell_input import Completer, read_message
from .shell_link import ShellLink

_REFUSALS: Final = ("UNKNOWN", "INVALID")
_LAST_WORDS: Final = ("STOP", "QUITTING")
"""Commands after which the service goes, without an answer."""
_KEPT: Final = 1_000
_SERIAL: Final = "ed_shell_help"

Show = Callable[[bytes], None]


class Session:
    """One user, and one link.

    Args:
        link: Makes the link, given what it is to call; see :class:`ShellLink`.
        show: Called with each message as it is to be printed; from any thread.
        tell: Called with what the shell has to say.
        tell_link: Called with what becomes of the link.
        completer: Learns the commands of the service.
        escape: Whether it is printed to a terminal.
        asks_for_help: Whether the service is asked for its commands whenever the link is up.
        wait_timeout: The limit of ``/wait``, in seconds.
    """

    def __init__(
        self,
        link: Callable[[Session], ShellLink],
        *,
        show: Show,
        tell: Callable[[str], None],
        tell_link: Callable[[str], None] | None = None,
        completer: Completer,
        escape: bool = False,
        asks_for_help: bool = False,
        as_json: bool = False,
        with_time: bool = False,
        wait_timeout: float = 5.0,
    ) -> None:
        self._show = show
        self.tell = tell
        self.tell_link = tell_link or (lambda text: None)
        self._completer = completer
        self._escape = escape
        self._asks_for_help = asks_for_help
        self._wait_timeout = wait_timeout
        self.as_json = as_json
        self.with_time = with_time
        self.server = ""
        self.service = ""
        self._came = threading.Condition()
        self._messages: deque[tuple[int, str]] = deque(maxlen=_KEPT)  # numbers and commands
        self._count = 0
        self._mark = 0  # what came up to here was before the last message that was sent
        self._helps = 0  # how many answers to our HELP are still to come
        self._link = link(self)

    # --- called in the thread of the link ---------------------------------------------------------

    def received(self, message: Message) -> None:
        """Shows a message; the answer to our own question is not for the user."""
        if message.command == "COMMANDS":
            self._completer.learn(message.get("list", "").replace(" ", "").split(","))
        if self._is_help(message):
            return
        when = time.strftime("%H:%M:%S") + f".{time.time_ns() // 10**6 % 1000:03} "
        line = shown(message, as_json=self.as_json, escape=self._escape)
        self._show((when.encode() if self.with_time else b"") + line)
        with self._came:
            self._count += 1
            self._messages.append((self._count, message.command))
            self._came.notify_all()

    def _is_help(self, message: Message) -> bool:
        if not self._helps:
            return False
        serial = message.get("serial")
        ours = serial == _SERIAL or (
            # Of one that copies no serial.
            serial is None and (message.command == "COMMANDS" or message.get("command") == "HELP")
        )
        self._helps -= ours
        return ours

    def connected(self) -> None:
        """Asks for the commands."""
        self._helps = 0
        if self._asks_for_help:
            self._link.send_here(self._help())

    def _help(self) -> Message:
        self._helps += 1
        return read_message(f"HELP serial={_SERIAL}", server=self.server, service=self.service)

    # --- called by the user -----------------------------------------------------------------------

    def start(self) -> None:
        """Dials, and goes on."""
        self._link.start()

    def close(self) -> None:
        """Ends the link, after what was sent has left."""
        self._link.close()

    def wait_until_up(self, timeout: float) -> None:
        """Waits for the first connection; see :meth:`ShellLink.wait_until_up`."""
        self._link.wait_until_up(timeout)

    @property
    def prompt(self) -> str:
        """What stands before the line that is edited."""
        server = f"{self.server}:" if self.server else ""
        return f"{server}{self.service}> "

    def handle(self, line: str) -> bool:
        """Does what a line says.

        Returns:
            False when that was the end.

        Raises:
            EdgeventError: It could not be done.
        """
        line = line.strip()
        if line.startswith("/"):
            return self._own(line)
        if line and not line.startswith("#"):
            self.send(line)
        return True

    def send(self, line: str) -> Message:
        """Sends the message of a line.

        Raises:
            MessageError: It is none.
            NetworkError: It could not be sent.
        """
        message = read_message(line, server=self.server, service=self.service)
        with self._came:
            self._mark = self._count
        self._link.send(message)
        return message

    def ask(self, line: str, timeout: float) -> bool:
        """Sends the message of a line, and waits for what comes back.

        Returns:
            False when it was a refusal.

        Raises:
            RequestTimeout: Nothing came in time.
            ConnectionLostError: The service ended the connection before.
        """
        message = self.send(line)
        if timeout <= 0.0:
            return True
        command = self._wait_for("", timeout, message.command)
        return command not in _REFUSALS

    def _wait_for(self, wanted: str, timeout: float, asked: str = "") -> str:
        """Waits for a message, of a command if one is given, and gives its command.

        One that came since the last message was sent, or waited for, will do.
        """
        found = ""

        def has_come() -> bool:
            nonlocal found
            for number, command in self._messages:
                if number > self._mark and wanted in ("", command):
                    found, self._mark = command, number
                    return True
            return not self._link.is_up

        with self._came:
            if not self._came.wait_for(has_come, timeout):
                what = wanted or "answer"
                raise RequestTimeout(f"no {what} within {timeout:g} s")
        if not found and asked not in _LAST_WORDS:
            raise ConnectionLostError(f"the connection ended before {wanted or 'an answer'} came")
        return found

    def lost(self) -> None:
        """Called in the thread of the link when it is lost: who waits is told."""
        with self._came:
            self._came.notify_all()

    # --- the shell's own commands -----------------------------------------------------------------

    def _own(self, line: str) -> bool:
        name, *words = line.split()
        entry = OWN.get(name)
        if entry is None:
            near = difflib.get_close_matches(name, OWN, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else "; /help shows those that there are"
            raise UsageError(f"{name}: there is no such command{hint}")
        usage, _, function = entry
        least, most = usage.count(" ") - usage.count("["), usage.count(" ")
        if not least <= len(words) <= most:
            raise UsageError(f"expected {usage}")
        return function(self, *words) is not False

    def _do_help(self) -> None:
        width = max(len(usage) for usage, _, _ in OWN.values())
        for usage, what, _ in OWN.values():
            self.tell(f"{usage:{width}}  {what}")
        self.tell("all else is a message: [[SERVER:]SERVICE/]COMMAND [NAME=VALUE;...]")

    def _do_quit(self) -> bool:
        return False

    def _do_refresh(self) -> None:
        self._link.send(self._help())

    def _do_server(self, name: str = "") -> None:
        self.server = _check_name(name, "server")

    def _do_service(self, name: str = "") -> None:
        self.service = _check_name(name, "service")

    def _do_json(self, how: str = "on") -> None:
        self.as_json = _read_switch(how)

    def _do_time(self, how: str = "on") -> None:
        self.with_time = _read_switch(how)

    def _do_wait(self, command: str, duration: str = "") -> None:
        try:
            limit = parse_duration(duration) if duration else self._wait_timeout
        except DurationError as error:
            raise UsageError(str(error)) from None
        self._wait_for(command, limit)

    def _do_commands(self) -> None:
        self.tell(" ".join(self._completer.commands) or "HELP has told no commands yet")


OWN: Final[dict[str, tuple[str, str, Callable[..., bool | None]]]] = {
    "/help": ("/help", "shows this", Session._do_help),
    "/commands": ("/commands", "the commands of the service", Session._do_commands),
    "/refresh": ("/refresh", "asks the service for its commands again", Session._do_refresh),
    "/server": ("/server [NAME]", "messages to a service are for this server", Session._do_server),
    "/service": ("/service [NAME]", "messages are for this service", Session._do_service),
    "/json": ("/json [on|off]", "shows messages in their JSON form", Session._do_json),
    "/time": ("/time [on|off]", "shows when each message came", Session._do_time),
    "/wait": ("/wait COMMAND [DURATION]", "waits for a message", Session._do_wait),
    "/quit": ("/quit", "ends the shell, as Ctrl-D does", Session._do_quit),
}
"""The shell's own commands: how each is used, what it does, and the method that does it."""


def _check_name(name: str, what: str) -> str:
    try:
        if name:
            Message("X", server="x" if what == "service" else name, service=name)
    except EdgeventError:
        raise UsageError(f"{what} {name!r}: expected letters, digits and underscores") from None
    return name


def _read_switch(how: str) -> bool:
    if how not in ("on", "off"):
        raise UsageError(f"{how!r}: expected on or off")
    return how == "on"
