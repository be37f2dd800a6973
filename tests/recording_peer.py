"""A peer for the tests of what handles messages."""

from __future__ import annotations

from edgevent.message import Message


class RecordingPeer:
    """An ``edgevent.answers.Peer`` that keeps what it is sent and what is asked of it."""

    def __init__(self, *, may_control: bool = True, answers_errors: bool = True) -> None:
        self.name = "peer-1"
        self.may_control = may_control
        self.answers_errors = answers_errors
        self.sent: list[Message] = []
        self.stops: list[bool] = []
        self.times_alive_was_logged = 0

    def send(self, message: Message, /) -> None:
        self.sent.append(message)

    def stop_requested(self, quitting: bool, /) -> None:
        self.stops.append(quitting)

    def log_alive(self) -> None:
        self.times_alive_was_logged += 1

    def take(self) -> list[str]:
        """What was sent since the last call, as text."""
        texts = [str(message) for message in self.sent]
        self.sent.clear()
        return texts
