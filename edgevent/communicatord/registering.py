"""A permanent link that introduces itself to a communicatord each time it is up.

The protocol is that of the C++ library ``communicator`` (``communicator_connection.cpp``):
REGISTER, answered by HELP and READY; COMMANDS; UNREGISTER at the end.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from ..address import Address
from ..defaults import default_commands
from ..dispatcher import Dispatcher
from ..errors import ConnectionLostError, MessageError, NetworkError, RegistrationError
from ..links.message import fallback_dispatcher
from ..links.permanent import PermanentConnection
from ..links.request import Request
from ..message import Message, parse_text
from ..runtime.clock import Alarm
from ..runtime.native import get_ident
from ..runtime.outbox import Outbox
from ..runtime.turns import IDLE
from ..transport.base import StreamTransport
from ..transport.rights import Fds
from .arrivals import RoutedRecord, target_of_message
from .calls import RouterCalls
from .places import DAEMON, check_service_name

logger = logging.getLogger("edgevent.communicatord")

VERSION: Final = 1
"""The version of the protocol."""
REGISTRATION_TIMEOUT: Final = 10.0
"""How long a registration waits for READY, in seconds: a C++ daemon refuses without a word."""
BUSY_INTERVAL: Final = 5.0
"""So often it is looked whether a handler is at work for long, in seconds."""

_GREETED: Final = 512
"""What can be due in a turn besides: what the daemon says to a registration."""
_REFUSALS: Final = frozenset(("INVALID", "UNKNOWN"))


def register_message(service: str) -> Message:
    """Makes REGISTER."""
    return Message("REGISTER", {"service": service, "version": VERSION})


def unregister_message(service: str) -> Message:
    """Makes UNREGISTER."""
    return Message("UNREGISTER", {"service": service})


def refusal_of(message: Message, service: str, where: str) -> RegistrationError:
    """Makes an error of the answer to REGISTER."""
    why = message.get("message") or "no reason given"
    return RegistrationError(f"{where} did not register {service}: {why}")


class RegisteringConnection(RouterCalls, PermanentConnection):
    """The lower half of ``CommunicatorConnection``: the protocol."""

    __slots__ = (
        "_alarm_to_look",
        "_alarm_to_register",
        "_greeting",
        "_joining",
        "_listed",
        "_may_hurry",
        "_registered",
        "my_address",
        "refusal",
        "registration_timeout",
        "senders",
        "service_name",
    )

    def __init__(
        self,
        service_name: str,
        dispatcher: Dispatcher | None,
        address: Address,
        *,
        registration_timeout: float = REGISTRATION_TIMEOUT,
        **settings: Any,
    ) -> None:
        self.service_name = check_service_name(service_name)
        self.registration_timeout = registration_timeout
        self.my_address = ""
        self.refusal: RegistrationError | None = None
        self._alarm_to_look: Alarm | None = None
        self._alarm_to_register: Alarm | None = None
        self._greeting: list[Any] = []  # what has come before the answer to REGISTER, and that
        self._joining = False  # whether that answer is still to come
        self._registered = False
        self._may_hurry = True  # whether a loss is the end of the daemon, and no refusal
        self._listed = {"STATUS", "TRANSMISSION_REPORT"}
        super().__init__(address, dispatcher, wait_ready=True, **settings)

    @property
    def is_registered(self) -> bool:
        """Whether the daemon has registered the service."""
        return self._registered and self.is_connected

    def close(self) -> None:
        """Tells the daemon that the service goes, and ends the link for good. Idempotent."""
        turns = self._turns
        if self._registered and not turns.forked and turns.thread == get_ident():
            self._registered = False
            # Without it, the end of the connection says the same.
            if (not self._eof or self._draining) and not self.is_full:
                try:
                    self.outbox.write(unregister_message(self.service_name).to_line())
                except NetworkError as error:
                    logger.debug("%s: not unregistered: %s", self.name, error)
        super().close()

    # --- registering ------------------------------------------------------------------------------

    def open(self, transport: StreamTransport) -> None:
        """Takes a transport that was dialled: the registration comes first."""
        super().open(transport)
        self._record = RoutedRecord()
        self._joining = self._filters = self._may_hurry = True

    def _begin(self) -> None:
        try:
            self.outbox.write(register_message(self.service_name).to_line())
        except NetworkError as error:  # its end follows
            logger.debug("%s: not registered: %s", self.name, error)
            return
        self._alarm_to_register = self._use_clock.call_later(
            self.registration_timeout, self._not_registered
        )

    def _not_registered(self) -> None:
        try:
            self._alarm_to_register = None
            self._may_hurry = False
            text = f"{self.name}: no READY within {self.registration_timeout:g} s of REGISTER"
            self.ended(ConnectionLostError(text))
        except BaseException as error:
            self._turns.failed(error)

    def take_units(self, units: list[Any]) -> list[Any]:
        """Keeps apart what the daemon says up to its answer to REGISTER, whoever receives."""
        left = super().take_units(units)
        if self._joining:
            if left:
                left = self._take_greeting(left)
                self._mark_due(_GREETED)
        elif self.ticket != IDLE or self.senders:
            left = [unit for unit in left if not self._asks_for_life(unit)]
        return left

    def _take_greeting(self, units: list[Any]) -> list[Any]:
        for index, unit in enumerate(units):
            self._greeting.append(unit)
            if self._answers_registration(unit):
                self._joining = False
                self._filters = self._requests is not None
                return units[index + 1 :]
        return []

    def _answers_registration(self, unit: Any) -> bool:
        if unit.__class__ is str:
            try:
                unit = parse_text(unit)
            except MessageError:
                return False
        message: Message = unit
        if message.command == "READY":
            return True
        return message.command in _REFUSALS and message.get("command") == "REGISTER"

    def _work(self) -> None:
        if self._due & _GREETED:
            self._due &= ~_GREETED
            greeting, self._greeting = self._greeting, []
            for unit in greeting:
                message = self.unpack(unit)
                if message is not None and not self._closed:
                    self._greet(message)
        super()._work()

    def _greet(self, message: Message) -> None:
        if message.command == "HELP":
            self._tell(message)
        elif message.command == "READY":
            self._welcomed(message)
        elif self._answers_registration(message):
            self._refused(message)
        else:
            self.handle(message)

    def _tell(self, message: Message) -> None:
        try:
            self._answer_help(message)
        except NetworkError as error:
            logger.debug("%s: HELP was not answered: %s", self.name, error)

    def _answer_help(self, message: Message) -> None:
        names = self._listed.union(self.dispatcher.commands())
        answer = message.reply("COMMANDS", {"list": ",".join(sorted(names))})
        self.outbox.write(self._signed(answer).to_line())

    def _welcomed(self, message: Message) -> None:
        self._stop_waiting()
        if self._eof and not self._draining:
            return  # the daemon is gone again
        self._registered = True
        self.refusal = None
        self.my_address = message.get("my_address", "")
        logger.debug("%s: %s is registered", self.name, self.service_name)
        self._alarm_to_look = self._use_clock.call_later(BUSY_INTERVAL, self._look)
        self.handle(message)
        super()._begin()

    def _refused(self, message: Message) -> None:
        self._stop_waiting()
        self.refusal = refusal_of(message, self.service_name, str(self._target))
        self._report.say(self._use_clock, logging.ERROR, str(self.refusal))
        self._up.wake()
        self._may_hurry = False
        self.ended(self.refusal)

    def _stop_waiting(self) -> None:
        alarm, self._alarm_to_register = self._alarm_to_register, None
        if alarm is not None:
            alarm.stop()

    # --- while a handler is at work ---------------------------------------------------------------

    def _look(self) -> None:
        # A handler may block for minutes, and the daemon's ALIVE would wait behind it until the
        # daemon takes the service for dead. Only then each line is looked at when it comes.
        try:
            self._alarm_to_look = self._use_clock.call_later(BUSY_INTERVAL, self._look)
            is_busy = self.ticket != IDLE or bool(self.senders)
            self._filters = is_busy or self._requests is not None
        except BaseException as error:
            self._turns.failed(error)

    def _asks_for_life(self, unit: Any) -> bool:
        """Answers the daemon's own ALIVE at once; returns whether it was that."""
        if unit.__class__ is str:
            if "ALIVE" not in unit:
                return False
            try:
                unit = parse_text(unit)
            except MessageError:
                return False
        message: Message = unit
        if message.command != "ALIVE" or message.sent_from_service != DAEMON:
            return False
        answer = default_commands(fallback_dispatcher())["ALIVE"](message, self)
        assert answer is not None
        return self.outbox.write_soon(self._signed(answer).to_line())

    # --- what has arrived -------------------------------------------------------------------------

    def ask(
        self,
        message: Message,
        replies: frozenset[str],
        timeout: float,
        serial: bool,
        fds: Fds | None = None,
    ) -> Request:
        """Sends a request; its answer shows that what was sent before to the same has arrived."""
        request = super().ask(message, replies, timeout, serial, fds)
        request.target = target_of_message(message)
        return request

    def _confirm(self, request: Request) -> None:
        # A report of the daemon in the service's place shows nothing of what the service has had.
        answer = request.answer
        if isinstance(answer, Message) and answer.sent_from_service in (
            (request.service,) if request.service else ("", DAEMON)
        ):
            assert isinstance(request.record, RoutedRecord)
            request.record.answered(request.target, request.position)

    # --- the loss ---------------------------------------------------------------------------------

    end_waits_for_handlers = False  # their answers leave by the next link

    def finish(self) -> None:
        """The link is lost: a local daemon that ends may be back before anybody can see that."""
        if self._may_hurry and self._listener is not None:
            self._backoff.reset()
        super().finish()

    def _catch_end(self) -> None:
        if not (self._draining and self.senders):
            super()._catch_end()

    def sort_out(self, outbox: Outbox) -> None:
        """Takes note that the service is not registered any more."""
        self._forget_registration()
        super().sort_out(outbox)

    def _shut(self) -> None:
        self._forget_registration()
        super()._shut()

    def _forget_registration(self) -> None:
        self._stop_waiting()
        if self._alarm_to_look is not None:
            self._alarm_to_look.stop()
            self._alarm_to_look = None
        self._registered = self._joining = False
        self._greeting = []
        self._due &= ~_GREETED
