"""Messages on their way to and from the wire, with the file descriptors that they carry."""

from __future__ import annotations

from typing import Any

from ..errors import MessageError, NetworkError, UsageError
from ..message import Message, parse_text
from ..transport.base import StreamTransport
from ..transport.rights import Fds, PassedFds, check_max_fds, fd_numbers
from .fds import CarryingMessage, MessageFds, taken_from, weight, with_count
from .stream import BaseStream


class CarryingStream(BaseStream[Message]):
    """The lower half of ``MessageConnection``: lines, and descriptors that go or come with them."""

    __slots__ = ("_fds",)

    max_line_bytes: int

    def __init__(self, address: Any, *, max_fds: int = 0, **settings: Any) -> None:
        self._fds = MessageFds(check_max_fds(max_fds)) if max_fds else None
        super().__init__(address, **settings)

    def take_fds(self, message: Message) -> list[int]:
        """Takes the file descriptors that a message of this connection has brought.

        What nobody takes is closed: when the handler of the message returns, when the message is
        gone, or when the connection is closed.

        Returns:
            Their numbers, in the order in which they were sent; the caller is to close them. They
            are not inherited by programs that are started.

        Raises:
            UsageError: They are closed already.
        """
        return taken_from(message)

    # --- for the message layer --------------------------------------------------------------------

    def encode(self, message: Message, json: bool = False) -> bytes:
        """Returns the line that stands for a message, newline included; errors as in ``send``."""
        if json:
            line = message.to_json().encode("utf-8", "surrogateescape") + b"\n"
        else:
            line = message.to_line()
        self.check_size(message, line)
        return line

    def check_size(self, message: Message, line: bytes) -> None:
        """Refuses a line over the limit; its newline does not count."""
        if len(line) > self.max_line_bytes + 1:
            raise MessageError(
                f"{message.command}: a line of {len(line) - 1} bytes is over the limit of"
                f" {self.max_line_bytes}",
                command=message.command,
            )

    def encode_with(
        self, message: Message, json: bool, fds: Fds | None
    ) -> tuple[bytes, tuple[int, ...]]:
        """Returns the line for a message, and the descriptors that go with it."""
        numbers = fd_numbers(fds) if fds else ()
        if numbers:
            message = with_count(message, len(numbers))
        return self.encode(message, json), numbers

    def give(self, line: bytes, fds: tuple[int, ...]) -> None:
        """Gives a line to the outbox, and the descriptors that go with it."""
        outbox, transport = self.outbox, self._transport
        if fds and transport is not None:
            outbox.write_with_fds(line, PassedFds(transport, fds))
        else:
            outbox.write(line)

    def takes_answer(self, message: Message) -> bool:
        """Gives a message to the request that it answers, if it answers one."""
        raise NotImplementedError

    def take_carrying(self, units: list[Any]) -> list[Any]:
        """Gives messages the descriptors that came with them, and answers to their requests."""
        left = []
        for unit in self.assign_fds(units):
            try:
                message = parse_text(unit) if unit.__class__ is str else unit
            except MessageError:
                left.append(unit)  # its turn says what is wrong with it
            else:
                if not self.takes_answer(message):
                    left.append(message)
        self.weigh(left)
        return left

    def assign_fds(self, units: list[Any]) -> list[Any]:
        """Gives messages the descriptors that came with them, in the order of both."""
        fds, framer = self._fds, self._framer
        if fds is None or framer is None:
            return units
        units, error = fds.assign(units, framer.held > 0)
        if error is not None:
            self.ended(error)
        return units

    def weigh(self, units: list[Any]) -> None:
        """Lets the descriptors of what goes into the inbox count there, as bytes do."""
        self._inbox.weigh(weight(units))

    def handle_carrying(self, message: CarryingMessage) -> None:
        """Handles a message, and closes the descriptors that its handler has not taken."""
        if not self._inbox.units:
            self._inbox.clear()  # a message that never was in the inbox had its weight there
        try:
            self.handle(message)
        finally:
            message.descriptors.close()

    def handle(self, message: Message) -> None:
        """Dispatches a message in a turn."""
        raise NotImplementedError

    # --- the begin and the end --------------------------------------------------------------------

    def open(self, transport: StreamTransport) -> None:
        """Takes a connected transport."""
        if self._fds is not None:
            try:
                self._fds.attach(transport)
            except UsageError:
                transport.close()
                raise
            self._filters = True
        super().open(transport)

    def ended(self, error: NetworkError | None) -> None:
        """Closes the descriptors of a message that is not complete."""
        super().ended(error)
        if self._fds is not None:
            self._fds.drop()

    def _release(self) -> bool:
        if self._fds is not None:
            self._fds.drop()  # what is still read now, is read to be dropped
        return super()._release()

    def has_ended(self) -> None:
        """Closes the descriptors that nobody took."""
        if self._fds is not None:
            self._fds.close()
        super().has_ended()
