"""The two streams between a process and its parent: input and output, and standard error."""

from __future__ import annotations

from typing import Any, Protocol

from ..errors import NetworkError
from ..links.raw import LineConnection
from ..transport.fd import FdTransport


class ChildPipes(FdTransport):
    """The pipes to and from a child: the end of what is written is the end of its input."""

    __slots__ = ()

    def finish(self) -> None:
        """Closes the child's input, after all that was written has left."""
        self.shutdown_write()


class Parent(Protocol):
    """What standard error asks of its process."""

    def process_error_line(self, line: bytes, /) -> None:
        """Handles a line in a turn."""

    def handler_failed(self, error: BaseException, where: str) -> str:
        """Logs and counts a failure of the user's code."""

    def ended(self, error: NetworkError | None) -> None:
        """Takes note of an error that ends the process."""

    def part_ended(self) -> None:
        """Takes note that standard error has ended."""


class ErrorOutput(LineConnection):
    """What a process writes to standard error; it comes and goes with its process."""

    __slots__ = ("_process",)

    def __init__(self, process: Parent, transport: FdTransport, **settings: Any) -> None:
        super().__init__(transport, keep_running=False, **settings)
        self._process = process

    def process_line(self, line: bytes) -> None:
        """Hands it to the process."""
        self._process.process_error_line(line)

    def handler_failed(self, error: BaseException, where: str) -> str:
        """The process's handler it was."""
        return self._process.handler_failed(error, where)

    def process_error(self, error: Exception) -> None:
        """Ends the process for it, as an error of its output does."""
        if isinstance(error, NetworkError):
            self._process.ended(error)

    def drain(self) -> bool:
        """Goes on until the process has ended."""
        return self._closed

    def has_ended(self) -> None:
        """Tells the process, which may have waited for that."""
        self._process.part_ended()
