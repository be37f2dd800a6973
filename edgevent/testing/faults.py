"""What a fault proxy does to the bytes that pass: the value, and the calls that set it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Protocol

from ..errors import UsageError

Direction = Literal["up", "down"]
"""``up`` is from the client to the server, ``down`` is back."""

Directions = Literal["up", "down", "both"]
"""One direction, or the two."""

DIRECTIONS: Final[tuple[Direction, Direction]] = ("up", "down")

Mark = Literal["end", "cut", "reset"]
"""What can follow the bytes of one direction: their end, or that of the whole connection."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What happens to the bytes of one direction; offsets are counted from its first byte.

    Attributes:
        delay: For so many seconds each byte is held.
        rate: So many bytes leave in a second; ``None`` is without a limit.
        sizes: The sizes of the writes, the last one repeats; nothing is split when it is empty.
        randomly: Whether each of them is only the most bytes of a write.
        swallows: Whether bytes are taken and forgotten.
        is_deaf: Whether nothing is read.
        corrupt_at: The offsets of the bytes that are changed.
        corrupt_chance: How likely any other byte is changed, from 0 to 1.
        corrupt_mask: The bits of it that are flipped; one bit at random when it is 0.
        stop_at: The offset behind which ``stop_with`` comes; ``None`` is never.
    """

    delay: float = 0.0
    rate: float | None = None
    sizes: tuple[int, ...] = ()
    randomly: bool = False
    swallows: bool = False
    is_deaf: bool = False
    corrupt_at: frozenset[int] = frozenset()
    corrupt_chance: float = 0.0
    corrupt_mask: int = 0
    stop_at: int | None = None
    stop_with: Mark = "end"

    def corrupt(self, data: bytes, offset: int, chance: random.Random) -> tuple[bytes, int]:
        """Returns the bytes that begin at an offset as they leave, and how many were changed."""
        if not self.corrupt_at and not self.corrupt_chance:
            return data, 0
        found = {at - offset for at in self.corrupt_at if 0 <= at - offset < len(data)}
        if self.corrupt_chance:
            found.update(n for n in range(len(data)) if chance.random() < self.corrupt_chance)
        changed = bytearray(data)
        for index in sorted(found):
            changed[index] ^= self.corrupt_mask or 1 << chance.randrange(8)
        return bytes(changed), len(found)


NONE: Final = Faults()
"""No fault at all."""


class Faulty(Protocol):
    """Something with faults that can be changed: a direction, or those of connections to come."""

    @property
    def arrived(self) -> int:
        """How many bytes have come, which is the offset of the next one."""

    def change(self, **values: Any) -> None:
        """Changes some of the faults from now on."""

    def stop(self, mark: Mark) -> None:
        """Puts a mark behind what has come."""


class Controls:
    """The faults of a whole proxy, or of one of its connections.

    Each call holds from now on, on the connections that are there and on those to come, and takes
    the place of an earlier one of its kind (:meth:`cut`, :meth:`reset` and :meth:`half_close` are
    one kind). ``direction`` is ``"up"`` (what clients send), ``"down"`` (what the server sends) or
    ``"both"``. Offsets and ``after`` count, on each connection, the bytes that reach the proxy from
    the call on; what it holds already passes before them. None of the calls switches greenlets.
    """

    __slots__ = ()

    def _each(self, direction: Directions) -> Iterator[Faulty]:
        """Gives what a call is to change."""
        raise NotImplementedError

    def delay(self, seconds: float, direction: Directions = "both") -> None:
        """Holds each byte for so many seconds, also those that are held now; 0 ends it.

        No more than 128 KiB are held at a time: what comes after them waits with its sender.
        """
        _check("seconds", seconds, seconds >= 0.0, "0 or more")
        self._change(direction, delay=float(seconds))

    def throttle(self, rate: float | None, direction: Directions = "both") -> None:
        """Lets no more than ``rate`` bytes a second leave, the first of them at once.

        Args:
            rate: More than 0; ``None`` ends it.
        """
        _check("rate", rate, rate is None or rate > 0.0, "more than 0, or None,")
        self._change(direction, rate=rate)

    def split(
        self,
        sizes: int | Sequence[int],
        direction: Directions = "both",
        *,
        randomly: bool = False,
    ) -> None:
        """Hands on at most so many bytes in one write.

        The next write comes two polls later, so that a reader in this process has read one piece
        before the next one is there. Any other reader may find several pieces at once.

        Args:
            sizes: The size of all writes, or of one after another; the last one repeats.
            randomly: Whether each write has a random size, from 1 to the given one.
        """
        found = (sizes,) if isinstance(sizes, int) else tuple(sizes)
        good = bool(found) and min(found) >= 1
        _check("sizes", sizes, good, "1 or more, or a list of such numbers,")
        self._change(direction, sizes=found, randomly=randomly)

    def swallow(self, direction: Directions = "both") -> None:
        """Takes bytes and forgets them. The end of a stream passes."""
        self._change(direction, swallows=True)

    def deafen(self, direction: Directions = "both") -> None:
        """Reads nothing: not the bytes, nor the end. Connections are taken as before."""
        self._change(direction, is_deaf=True)

    def corrupt(
        self,
        at: int | Iterable[int] | None = None,
        direction: Directions = "both",
        *,
        chance: float = 0.0,
        mask: int = 0,
    ) -> None:
        """Changes bytes.

        Args:
            at: The offset, or the offsets, of the bytes; 0 is the next one to come. By default it
                is that one, unless there is a ``chance``.
            chance: How likely each byte is changed, from 0 to 1; drawn with the proxy's ``seed``.
            mask: The bits that are flipped, 1 to 255; by default one at random.
        """
        _check("chance", chance, 0.0 <= chance <= 1.0, "0 to 1")
        _check("mask", mask, 0 <= mask <= 255, "0 to 255")
        if at is None:
            offsets = frozenset[int]() if chance else frozenset({0})
        else:
            offsets = frozenset({at}) if isinstance(at, int) else frozenset(at)
        _check("at", at, min(offsets, default=0) >= 0, "0 or more")
        for found in self._each(direction):
            found.change(
                corrupt_at=frozenset(found.arrived + offset for offset in offsets),
                corrupt_chance=chance,
                corrupt_mask=mask,
            )

    def half_close(self, direction: Directions, after: int | None = None) -> None:
        """Ends the stream in one direction: its reader sees the end, its sender nothing.

        What is sent afterwards is forgotten. :meth:`heal` does not bring the direction back.

        Args:
            after: Behind so many bytes; ``None`` is now.
        """
        self._stop("end", direction, after)

    def cut(self, after: int | None = None, direction: Directions = "both") -> None:
        """Closes the connections on both sides, as a process that ends does.

        Args:
            after: Behind so many bytes in one of the directions, on connections that come later as
                well; 0 is the begin. ``None`` is now, and what is held is lost.
        """
        self._stop("cut", direction, after)

    def reset(self, after: int | None = None, direction: Directions = "both") -> None:
        """Breaks the connections on both sides: TCP sends a reset (SO_LINGER 0, man 7 socket).

        A Unix socket has none: its peer sees a reset if it has sent something that was not read,
        else an end.

        Args:
            after: As in :meth:`cut`.
        """
        self._stop("reset", direction, after)

    def heal(self) -> None:
        """Ends all faults. What was cut, reset, half-closed or swallowed stays so."""
        for found in self._each("both"):
            found.change(**asdict(NONE))

    def _change(self, direction: Directions, **values: Any) -> None:
        for found in self._each(direction):
            found.change(**values)

    def _stop(self, mark: Mark, direction: Directions, after: int | None) -> None:
        _check("after", after, after is None or after >= 0, "0 or more, or None,")
        for found in self._each(direction):
            if after is None:
                found.stop(mark)
            else:
                found.change(stop_at=found.arrived + after, stop_with=mark)


def each_direction(direction: Directions) -> tuple[Direction, ...]:
    """Returns the directions that one word stands for.

    Raises:
        UsageError: It is no such word.
    """
    known = (*DIRECTIONS, "both")
    _check("direction", direction, direction in known, "'up', 'down' or 'both'")
    return tuple(one for one in DIRECTIONS if direction in (one, "both"))


def _check(name: str, value: object, is_right: bool, expected: str) -> None:
    if not is_right:
        raise UsageError(f"{name}={value!r}: {expected} was expected")
