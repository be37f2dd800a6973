"""What can be closed is a context manager: one way for all."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

_C = TypeVar("_C", bound="Closing")


class Closing:
    """Closes itself at the end of a ``with`` block."""

    __slots__ = ()

    def close(self) -> None:
        """Gives back what is held. Idempotent."""

    def __enter__(self: _C) -> _C:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
