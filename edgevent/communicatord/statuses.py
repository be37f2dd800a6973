"""What a communicatord tells of services and of the cluster, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, cast

from ..errors import MessageError
from ..message import Message

State = Literal["up", "down", "unknown"]
_STATES: Final = ("up", "down", "unknown")


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """What is known of a service; the parameters of STATUS.

    Attributes:
        service: Its name.
        state: ``up``, ``down``, or ``unknown`` when it has never been there.
        server: The name of its computer, or an empty string.
        up_since: When it registered last, in seconds of the epoch; ``None`` when it never has.
        down_since: When it went; ``None`` when it is there, or never was.
    """

    service: str
    state: State
    server: str = ""
    up_since: int | None = None
    down_since: int | None = None

    @property
    def is_up(self) -> bool:
        """Whether it is there."""
        return self.state == "up"

    @classmethod
    def of(cls, message: Message) -> ServiceStatus:
        """Reads STATUS.

        Raises:
            MessageError: A parameter is missing or cannot be read.
        """
        state = message["status"]
        if state not in _STATES:
            raise MessageError(
                f"{message.command}: status is none of {', '.join(_STATES)}",
                command=message.command,
                parameter="status",
            )
        return cls(
            message["service"],
            cast(State, state),
            # The C++ daemon sends server_name, its definition of STATUS says server.
            message.get("server_name", "") or message.get("server", ""),
            _since(message, "up_since"),
            _since(message, "down_since"),
        )


def _since(message: Message, parameter: str) -> int | None:
    moment = message.timespec(parameter, None)
    return None if moment is None else moment // 1_000_000_000


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """What is known of the computers that belong together.

    Attributes:
        is_up: Whether a majority of them can be reached.
        is_complete: Whether all can; ``None`` when the daemon has not told it, as the C++ one over
            a Unix socket.
        computers: How many they are, this one among them.
    """

    is_up: bool
    is_complete: bool | None
    computers: int
