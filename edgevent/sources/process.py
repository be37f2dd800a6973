"""A command that runs beside this program: its output as lines, lines to its input, its end."""

from __future__ import annotations

import logging
import os
import shlex
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from greenlet import getcurrent

from .. import limits
from ..arguments import checks_arguments
from ..connection import Owner
from ..errors import UsageError
from ..links.ending import END
from ..links.flow import Flow
from ..links.raw import LineConnection
from ..runtime.clock import SYSTEM_CLOCK, Alarm, Clock
from ..runtime.signal_names import signal_number
from ..transport.fd import FdTransport
from .commands import Commands
from .process_pipes import ChildPipes, ErrorOutput
from .queued import check_callback
from .reaping import ChildEvent, Reaper
from .spawning import Command, Redirection, Way, check_command, redirection, spawn

logger = logging.getLogger("edgevent")

_P = TypeVar("_P", bound="Process")


class _Chain(tuple[Command, ...]):
    """Commands with pipes between them, on their way to the constructor."""

    __slots__ = ()


@checks_arguments
class Process(LineConnection):
    """Runs a command (no shell), and handles what it writes, line by line.

    It starts at once. In a communicator its lines are handled in turns, then its end is told, once,
    and the connection is gone. A handler that is slow, or waits, makes the command wait in turn as
    soon as its pipe is full. Without a communicator ``receive`` and iteration give the lines.

    The command gets only the descriptors that are named here, the default action of SIGPIPE, and
    none of the signals blocked that this package blocks. What it leaves running in the background
    with its output still open is waited for, too.

    Args:
        command: The program and its arguments, a list.
        callback: Called with the process and each line of standard output;
            :meth:`process_line` may be overridden instead.
        on_error_line: The same for standard error (:meth:`process_error_line`). The two do not wait
            for each other.
        on_exit: Called with the process once it has ended and all lines are handled
            (:meth:`process_exit`).
        stdin: ``lines`` (what :meth:`write_line` writes), ``discard``, ``inherit``, or a file.
        stdout: ``lines``, ``discard``, ``inherit``, or a file.
        stderr: The same, or ``merge`` (with standard output). ``inherit`` unless somebody handles
            its lines.
        cwd: The folder that it runs in.
        env: Its whole environment; this process's by default.
        pass_fds: Further descriptors that it gets, under the same numbers.
        new_session: Whether it has a session, and a process group, of its own; signals then go to
            the whole group.
        close_timeout: How many seconds it has to end when it is told to, before it is killed.
        slow_timeout: For so many seconds it may take nothing of what was written to it.

    Raises:
        CommandError: It could not be started: it is not there, may not be run ...
        UsageError: An argument that makes no sense, or a thread that is not the main one.
    """

    __slots__ = (
        "_callback",
        "_children",
        "_commands",
        "_errors",
        "_has_failed",
        "_has_input",
        "_has_output",
        "_kill_alarm",
        "_on_error_line",
        "_on_exit",
        "close_timeout",
    )

    def __init__(
        self,
        command: Command | _Chain,
        callback: Callable[[Process, bytes], Any] | None = None,
        *,
        on_error_line: Callable[[Process, bytes], Any] | None = None,
        on_exit: Callable[[Process], Any] | None = None,
        stdin: Way | Redirection = "lines",
        stdout: Way | Redirection = "lines",
        stderr: Way | Redirection | None = None,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        new_session: bool = False,
        close_timeout: float = limits.CLOSE_TIMEOUT,
        slow_timeout: float = limits.SLOW_CONSUMER_TIMEOUT,
        max_line_bytes: int = limits.MAX_LINE_BYTES,
        clock: Clock = SYSTEM_CLOCK,
        name: str = "",
        priority: int = limits.DEFAULT_PRIORITY,
        keep_running: bool = True,
    ) -> None:
        commands = command if isinstance(command, _Chain) else (command,)
        self._commands = [check_command(one) for one in commands]
        shown = name or self._commands[0][0]
        for function in (callback, on_error_line):
            check_callback(function, shown, ("process", "line"), may_miss=True)
        check_callback(on_exit, shown, ("process",), may_miss=True)
        settings: dict[str, Any] = {"max_line_bytes": max_line_bytes, "clock": clock}
        super().__init__(None, name=name, priority=priority, keep_running=keep_running, **settings)
        self._callback = callback
        self._on_error_line = on_error_line
        self._on_exit = on_exit
        self.close_timeout = close_timeout
        self._kill_alarm: Alarm | None = None
        self._has_failed = False
        if stderr is None:
            overridden = type(self).process_error_line is not Process.process_error_line
            stderr = "lines" if on_error_line is not None or overridden else "inherit"
        reaper = Reaper.current()
        reaper.open()  # what ends at once is not to be missed
        try:
            spawned = spawn(
                self._commands,
                stdin=redirection("stdin", stdin, 0),
                stdout=redirection("stdout", stdout, 1),
                stderr=redirection("stderr", stderr, 2),
                cwd=cwd,
                env=env,
                pass_fds=pass_fds,
                new_session=new_session,
            )
            pids = tuple(spawned.pids)
            self._children = Commands(
                pids, self._turns, group=new_session, on_end=self._children_ended
            )
        finally:
            reaper.close()
        self._has_input = spawned.input >= 0
        self._has_output = spawned.output >= 0
        peer = " | ".join(
            f"{os.path.basename(words[0])}[{pid}]"
            for words, pid in zip(self._commands, pids, strict=True)
        )
        self.open(ChildPipes(spawned.output, spawned.input, peer=peer, watches_readers=False))
        self.outbox.slow_timeout = slow_timeout
        self._errors: ErrorOutput | None = None
        if spawned.errors >= 0:
            transport = FdTransport(spawned.errors, -1, peer=peer)
            self._errors = ErrorOutput(self, transport, priority=priority, **settings)

    @classmethod
    def chain(
        cls: type[_P],
        commands: Iterable[Command],
        callback: Callable[[Process, bytes], Any] | None = None,
        **settings: Any,
    ) -> _P:
        """Runs several commands, each one's output being the next one's input: ``a | b | c``.

        Between them are pipes of the kernel, which this process does not read. What is written
        goes to the first one, the lines are those of the last one, and those of standard error
        are of all. It has ended when all have.

        Args:
            commands: Lists, the first command first.
            callback: As for one command, and so are the others.
        """
        found = _Chain(commands)
        if not found:
            raise UsageError("a chain without a command")
        return cls(found, callback, **settings)

    # --- what users see ---------------------------------------------------------------------------

    @property
    def command(self) -> str:
        """The command, or the chain, as a shell would have it; for log lines."""
        return " | ".join(map(shlex.join, self._commands))

    @property
    def pid(self) -> int:
        """The process id of the last command."""
        return self._children.pids[-1]

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of all commands of the chain."""
        return self._children.pids

    @property
    def exits(self) -> tuple[ChildEvent | None, ...]:
        """What became of each command of the chain; ``None`` while it runs."""
        return self._children.exits

    @property
    def is_alive(self) -> bool:
        """Whether a command of it runs still."""
        return bool(self._children.running)

    @property
    def exit_code(self) -> int | None:
        """That of the last command; -9 if it was killed by signal 9; ``None`` while it runs."""
        return self.exit_codes[-1]

    @property
    def exit_codes(self) -> tuple[int | None, ...]:
        """Those of all commands of the chain."""
        return tuple(None if exit is None else exit.returncode for exit in self.exits)

    @property
    def error_output(self) -> LineConnection | None:
        """The lines of standard error, for ``receive``; ``None`` if they go somewhere else."""
        return self._errors

    def process_line(self, line: bytes) -> None:
        """Called in a turn with each line of standard output; calls the callback."""
        if self._callback is not None:
            self._callback(self, line)

    def process_error_line(self, line: bytes) -> None:
        """Called in a turn with each line of standard error; calls ``on_error_line``."""
        if self._on_error_line is not None:
            self._on_error_line(self, line)

    def process_exit(self) -> None:
        """Called in a turn, once: all have ended, all lines are handled. Calls ``on_exit``."""
        if self._on_exit is not None:
            self._on_exit(self)

    def write(self, data: bytes) -> None:
        """Writes to its input. Blocks the calling greenlet while too much waits for it.

        Raises:
            ConnectionLostError: It does not read any more.
            ClosedError: Its input was ended, or the process closed.
            UsageError: Its input is no pipe.
        """
        if not self._has_input:
            raise UsageError(f"{self.name}: its input is no pipe; give it stdin='lines'")
        super().write(data)

    def end_input(self) -> None:
        """Lets it see the end of its input, once all that was written has left. Idempotent."""
        self._turns.check()
        if self._has_input and self._transport is not None:
            self.outbox.seal()

    def send_signal(self, signal: str | int) -> None:
        """Sends a signal, by name or number, to all commands that run still.

        Raises:
            UsageError: There is no such signal.
        """
        self._turns.check()
        self._children.send_signal(signal_number(signal), self.name)

    def terminate(self) -> None:
        """Asks it to end (SIGTERM)."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it (SIGKILL)."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int | None:
        """Waits until all commands have ended. Blocks the calling greenlet alone.

        Lines that nobody takes make a command wait, and so this.

        Args:
            timeout: The limit in seconds, or ``None``.

        Returns:
            The exit code of the last command, negative for a signal; ``None`` if somebody else has
            waited for it.

        Raises:
            CommandTimeout: It runs still.
        """
        self._children.wait(self._clock, timeout, self.name)
        return self.exit_code

    def mark_done(self) -> None:
        """Ends its input; the connection ends when the command does."""
        self.end_input()

    # --- in the hub -------------------------------------------------------------------------------

    def _children_ended(self) -> None:
        for event in self._children.exits:
            unknown = event is None or event.kind == "collected"
            logger.log(logging.WARNING if unknown else logging.INFO, "%s: %s", self.name, event)
        self._stop_killing()
        if self._closed:
            self._leave()
            return
        if not self._has_output:
            self.ended(None)
        self.part_ended()

    def part_ended(self) -> None:
        """Looks whether that was the last thing that the end has waited for."""
        if not self._closed:
            self._catch_up()

    # --- with the communicator --------------------------------------------------------------------

    def attach(self, communicator: Owner) -> None:
        """Called by the communicator."""
        super().attach(communicator)
        errors = self._errors
        if errors is not None and not errors.is_closed:
            if not errors.is_named:
                errors.name = f"{self.name}.stderr"
            errors.enabled = self._enabled
            self.communicator.add_connection(errors)

    def detach(self) -> None:
        """Called by the communicator."""
        communicator = self.communicator
        super().detach()
        if self._errors is not None:
            communicator.remove_connection(self._errors)

    def _enabled_changed(self, enabled: bool) -> None:
        super()._enabled_changed(enabled)
        errors = self._errors
        if errors is not None and not errors.is_closed:
            errors.enabled = enabled

    # --- the end ----------------------------------------------------------------------------------

    def _end_waits(self) -> bool:
        if self._error is not None and not self._has_failed:
            return False
        errors = self._errors
        return (
            bool(self._children.running)
            or (errors is not None and not errors.is_closed)
            or super()._end_waits()
        )

    def finish(self) -> None:
        """Tells the end in a turn; a process that must be ended first ends before that is told."""
        if self._error is not None and not self._has_failed:
            self._has_failed = True
            self.call_hook(self.process_error, self._error)
            if self._children.running and not self._closed:
                self._begin_end()
                self._close_pipes()
                self._due |= END
                return
        if not self._closed:
            self.call_hook(self.process_exit)
            self.close()

    def _close_pipes(self) -> None:
        self.outbox.close()
        if self._transport is not None:
            self._transport.close()
        if self._errors is not None:
            self._errors.cut()

    def drain(self) -> bool:
        """Asks it to end; what it writes until then is handled, and its end is told."""
        if self._closed:
            return True
        if self._transport is None or not self._enabled or not self._takes_turns():
            self.close()
        else:
            self._begin_end()
        return self._closed

    def _begin_end(self) -> None:
        if self._children.running and self._kill_alarm is None:
            self.terminate()
            self._kill_alarm = self._clock.call_later(self.close_timeout, self._end_now)

    def _end_now(self) -> None:
        self._kill_alarm = None
        if self._children.running:
            logger.warning("%s: killed, it did not end within %g s", self.name, self.close_timeout)
            self.kill()

    def _stop_killing(self) -> None:
        alarm, self._kill_alarm = self._kill_alarm, None
        if alarm is not None:
            alarm.stop()

    def close(self) -> None:
        """Closes its pipes and asks it to end; kills it when ``close_timeout`` is over. Idempotent.

        A process in a communicator stays there until it has ended. Without one this waits for
        that, and blocks the calling greenlet alone.
        """
        super().close()
        turns = self._turns
        if turns.forked or self._communicator is not None:
            return
        if getcurrent() is not turns.hub:  # which never waits; the loop does the rest
            self._children.wait(self._clock, None, self.name)

    def _release(self) -> bool:
        self._begin_end()
        Flow.cut(self)
        return False

    def cut(self) -> None:
        """Kills it at once, and waits for that, which blocks the process for a moment."""
        self._stop_killing()
        self.kill()
        self._children.collect()
        Flow.cut(self)

    def _shut(self) -> None:
        super()._shut()
        if self._errors is not None:
            self._errors.cut()

    def _leave(self) -> None:
        if not self._children.running:
            super()._leave()
