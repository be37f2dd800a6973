"""Whether the computer's clock is right: asked of the programs that know it, and remembered.

The programs are those of the C++ daemon: ``ntp-wait``, or else ``timedatectl`` (timedatectl(1),
``NTPSynchronized``). They run beside everything else; whoever asks is told what was found last.
"""

from __future__ import annotations

import logging
import os
import shlex
import time
from collections.abc import Callable
from typing import Final, Literal

from ..answers import Peer
from ..dispatcher import Dispatcher
from ..errors import CommandError, CommandTimeout
from ..message import Message
from ..sources.process import Process

logger = logging.getLogger("edgevent.communicatord")

State = Literal["checking", "no_ntp", "verified", "invalid"]

NTP_WAIT: Final = ("/usr/sbin/ntp-wait", "--tries=1", "--sleep=1")
TIMEDATECTL: Final = ("/usr/bin/timedatectl", "show", "--property=NTPSynchronized", "--value")

INTERVAL: Final = 3600.0
"""Between two looks at a clock that was right, in seconds."""
SHORT_INTERVAL: Final = 60.0
"""From one that was not right to the next look; each further pause is twice as long, up to that."""
LIMIT: Final = 30.0
"""So long a program may take, in seconds."""


class ClockStatus:
    """CLOCK_STATUS, and what is told to all when the state changes.

    Args:
        tell: Gives a message to all services that have listed it.
        command: A command whose exit status 0 tells that the clock is right; by default the
            programs above.
        monotonic: A clock that only moves forward, in seconds.

    Attributes:
        state: What was found last.
    """

    def __init__(
        self,
        tell: Callable[[Message], object],
        command: str = "",
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state: State = "checking"
        self._tell = tell
        self._command = shlex.split(command)
        self._monotonic = monotonic
        self._next = 0.0
        self._pause = SHORT_INTERVAL

    def add_to(self, dispatcher: Dispatcher) -> None:
        """Adds the handler to a table."""
        dispatcher.on("CLOCK_STATUS")(self.clock_status)

    def clock_status(self, message: Message, peer: Peer) -> Message:
        """Tells what was found last."""
        told = self._message()
        answer = message.reply(told.command, dict(told.parameters))
        station = getattr(peer, "station", None)
        # To a service nothing else comes over its connection than what is for it.
        return answer if station is None or station.kind == "remote" else answer.with_target("", "")

    def _message(self) -> Message:
        if self.state in ("verified", "no_ntp"):
            return Message("CLOCK_STABLE", {"cache": "no", "clock_resolution": self.state})
        return Message("CLOCK_UNSTABLE", {"cache": "no", "clock_error": self.state})

    def look(self) -> None:
        """Runs the program if it is time for that. Blocks the calling greenlet alone."""
        if self._monotonic() < self._next:
            return
        self._next = self._monotonic() + self._pause  # of which the program takes its time
        state = self._ask()
        if state == "verified":
            self._pause = SHORT_INTERVAL
            self._next = self._monotonic() + INTERVAL
        else:
            self._pause = min(2.0 * self._pause, INTERVAL)
        if state != self.state:
            logger.info("the clock: %s (it was: %s)", state, self.state)
            self.state = state
            self._tell(self._message())

    def _ask(self) -> State:
        if self._command:
            return "verified" if self._run(self._command)[0] == 0 else "invalid"
        if os.access(NTP_WAIT[0], os.X_OK):
            return "verified" if self._run(NTP_WAIT)[0] == 0 else "invalid"
        if os.access(TIMEDATECTL[0], os.X_OK):
            return "verified" if self._run(TIMEDATECTL) == (0, "yes") else "invalid"
        return "no_ntp"

    def _run(self, words: list[str] | tuple[str, ...]) -> tuple[int, str]:
        try:
            # A service manager that hangs must not be waited for at the end of the daemon.
            process = Process(
                list(words), stdin="discard", stderr="discard", new_session=True, name="clock"
            )
        except CommandError as error:
            logger.warning("the clock: %s", error)
            return -1, ""
        try:
            lines = []
            while line := process.receive_or_end(LIMIT):
                lines.append(line)
            code = process.wait(LIMIT)
        except (CommandTimeout, TimeoutError) as error:
            logger.warning("the clock: %s", error)
            return -1, ""
        finally:
            process.cut()
        text = b"\n".join(lines).decode("utf-8", "replace").strip()
        return (-1 if code is None else code), text
