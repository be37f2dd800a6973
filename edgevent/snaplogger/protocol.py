"""What a sender of log records and snaploggerd say to each other.

``LOG`` is that of the C++ library *snaplogger* (its ``base_network_appender.cpp``), with two
parameters more: ``serial``, which the sender counts up, and ``instance``, a text of its own that is
the same as long as it counts on, so that a record which is sent once more is known again over
another connection or from another port.

A record with ``acknowledge=true`` is answered ``LOG_ACKNOWLEDGE`` with its ``serial``, once it is
written; ``INVALID`` with its ``serial`` means that it is refused and never will be.
"""

from __future__ import annotations

from typing import Final, Literal

LOG: Final = "LOG"
"""A record."""
LOGGER: Final = "LOGGER"
"""The same, as the C++ daemon calls it."""
LOG_ACKNOWLEDGE: Final = "LOG_ACKNOWLEDGE"
"""The record of this serial is written."""
PAUSE: Final = "PAUSE"
"""From the daemon: send no records until UNPAUSE."""
UNPAUSE: Final = "UNPAUSE"

DEFAULT_PORT: Final = 4043
"""The port of records, TCP and UDP."""
SOCKET_NAME: Final = "snaploggerd.sock"
"""The file of the Unix socket, in the folder that is the daemon's own."""

Acknowledge = Literal["none", "severity", "all"]
"""Of which records a sender wants to know that they are written."""
ACKNOWLEDGE: Final = ("none", "severity", "all")
"""The values of that."""
