"""What has come and left, counted."""

from __future__ import annotations


class Traffic:
    """A sum that connections add to; see :meth:`edgevent.Connection.add_traffic_to`.

    Attributes:
        messages_in: Messages, lines, datagrams or raw pieces that have come, answers among them.
        bytes_in: Their bytes, as they were before encryption.
        messages_out: The same for what the kernel has taken, or has taken the begin of.
        bytes_out: Their bytes.
        handler_errors: How often a hook or handler has raised.
    """

    __slots__ = ("bytes_in", "bytes_out", "handler_errors", "messages_in", "messages_out")

    def __init__(self) -> None:
        self.messages_in = 0
        self.bytes_in = 0
        self.messages_out = 0
        self.bytes_out = 0
        self.handler_errors = 0

    def __repr__(self) -> str:
        return (
            f"<Traffic in {self.messages_in} ({self.bytes_in} bytes),"
            f" out {self.messages_out} ({self.bytes_out} bytes), {self.handler_errors} errors>"
        )
