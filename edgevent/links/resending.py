"""Requests over datagrams, which get lost: sent again and again until they are answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .. import limits
from ..errors import ConnectionLostError, RequestTimeout
from ..message import Message
from ..runtime.clock import Alarm, Clock
from ..runtime.turns import Turns, wait
from .request import Request

if TYPE_CHECKING:
    from .message import MessageConnection


class Resends:
    """Has a request sent again after each interval, until it is answered.

    Args:
        request: What waits for the answer.
        interval: In seconds.
        resend: Sends once more; called in the hub, must not wait.
    """

    __slots__ = ("_alarm", "_clock", "_interval", "_request", "_resend", "_turns")

    def __init__(
        self,
        turns: Turns,
        clock: Clock,
        request: Request,
        interval: float,
        resend: Callable[[], object],
    ) -> None:
        self._turns = turns
        self._clock = clock
        self._request = request
        self._interval = interval
        self._resend = resend
        self._alarm: Alarm = clock.call_later(interval, self._go)

    def _go(self) -> None:
        try:
            if self._request.answer is None:
                self._alarm = self._clock.call_later(self._interval, self._go)
                self._resend()
        except BaseException as error:
            self._turns.failed(error)

    def stop(self) -> None:
        """Sends no more."""
        self._alarm.stop()


def request_until_answered(
    connection: MessageConnection,
    message: Message,
    replies: frozenset[str],
    timeout: float,
    serial: bool,
    interval: float = limits.RESEND_INTERVAL,
) -> Message:
    """Sends a request over datagrams, again and again until it is answered or ``timeout`` is over.

    Raises:
        RequestTimeout: No answer came in time.
        ConnectionLostError: Nobody receives at the address, to the end.
        RemoteError: The peer refused it or failed.
    """
    turns, clock = connection._turns, connection._use_clock
    end = clock.now() + timeout
    if serial and "serial" not in message:  # all of them have the same
        table = connection._requests or connection._open_table()
        message = message.with_parameters(serial=table.next_serial())
    line = message.to_line()
    while True:
        left = max(end - clock.now(), 0.0)
        try:
            request = connection.ask(message, replies, left, serial)
            resends = Resends(
                turns, clock, request, interval, lambda: connection.outbox.write_soon(line)
            )
            try:
                return connection.answer(request)
            finally:
                resends.stop()
        except ConnectionLostError:
            if connection.is_closed or clock.now() + interval >= end:
                raise
        except RequestTimeout:
            text = f"{connection.name}: no answer to {message.command} within {timeout:g} s"
            raise RequestTimeout(text) from None
        wait(turns, clock, interval)
