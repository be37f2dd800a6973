"""Which message has brought which file descriptors.

A message says in its parameter ``unix_fds`` how many come with it, as the header field UNIX_FDS of
D-Bus does. They are sent with the first byte of the message; each message takes as many of those
that have come as it names, in the order of both.
"""

from __future__ import annotations

from typing import Any, Final

from ..errors import DescriptorError, MessageError, UsageError
from ..limits import FD_BYTES
from ..message import Message, parse_text
from ..transport.rights import Descriptors, FdReader

UNIX_FDS: Final = "unix_fds"
"""The parameter of a message that counts its descriptors."""


class CarryingMessage(Message):
    """A message that has brought descriptors; the parameter that counts them is taken out."""

    __slots__ = ("descriptors",)

    descriptors: Descriptors

    @classmethod
    def make(cls, message: Message, descriptors: Descriptors) -> CarryingMessage:
        """Makes of a message one that has brought descriptors."""
        plain = message.without_parameters(UNIX_FDS)
        made = cls.__new__(cls)
        for name in Message.__slots__:
            if hasattr(plain, name):  # what is made when it is asked for may not be there yet
                setattr(made, name, getattr(plain, name))
        made.descriptors = descriptors
        return made


def with_count(message: Message, count: int) -> Message:
    """Returns a message that says how many descriptors come with it.

    Raises:
        UsageError: It says something of descriptors already.
    """
    if UNIX_FDS in message:
        raise UsageError(
            f"{message.command}: the parameter {UNIX_FDS} counts what is given as fds="
        )
    return message.with_parameters({UNIX_FDS: str(count)})


def taken_from(message: Message) -> list[int]:
    """Returns the descriptors that a message has brought; see ``CarryingStream.take_fds``."""
    if not isinstance(message, CarryingMessage):
        return []
    if message.descriptors.closed:
        raise UsageError(
            f"{message.command}: its descriptors are closed: they are to be taken before the"
            " handler returns or the connection is closed"
        )
    return message.descriptors.take()


def weight(units: list[Any]) -> int:
    """Returns how many bytes the descriptors of what waits in an inbox count for."""
    return FD_BYTES * sum(
        unit.descriptors.count for unit in units if unit.__class__ is CarryingMessage
    )


class MessageFds(FdReader):
    """Gives each message the descriptors that it names."""

    __slots__ = ()

    def assign(self, units: list[Any], begun: bool) -> tuple[list[Any], DescriptorError | None]:
        """Gives descriptors to the messages that have come.

        Args:
            units: Lines, as text.
            begun: Whether a further message has begun.

        Returns:
            The units, those that have brought descriptors as messages, up to the first one with
            which something is wrong; and what that is.
        """
        given: list[Any] = []
        try:
            for unit in units:
                given.append(self._assign_to(unit) if UNIX_FDS in unit else unit)
            self.check(begun=begun)
        except DescriptorError as error:
            return given, error
        return given, None

    def _assign_to(self, unit: str) -> str | Message:
        try:
            message = parse_text(unit)
            count = message.integer(UNIX_FDS, None)
        except MessageError:
            return unit  # its turn says what is wrong with it; if any came with it, check does
        if not count:
            return unit
        return CarryingMessage.make(message, self.take(count))
