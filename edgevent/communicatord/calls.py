"""What can be asked of a communicatord, and of services by way of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final, Literal, overload

from .. import limits
from ..durations import parse_duration
from ..errors import (
    MessageError,
    RequestTimeout,
    ServiceUnavailableError,
    TransmissionError,
    UsageError,
    no_message,
)
from ..links.request import Request, reply_set
from ..links.senders import SenderStream
from ..message import Message, parse_text
from ..transport.rights import Fds
from .places import DAEMON, read_target
from .statuses import ClusterStatus, ServiceStatus

logger = logging.getLogger("edgevent.communicatord")

Hold = bool | float | str
"""Whether a communicatord holds a message for a service that is not there, or how long."""
Where = Literal["local", "private", "public"]
"""How far a broadcast goes: this computer, those of private networks too, or all."""

HOLD_TIMES: Final = (10, 86_400)
"""The least and the greatest time that a communicatord holds a message for, in seconds."""

_SERVICES: Final = {"local": ".", "private": "?", "public": "*"}
_ALL: Final = frozenset(_SERVICES.values())
_TO_NONE: Final = _ALL | {"", DAEMON}  # what is for no single service
_AT_ONCE: Final = {"cache": "no;reply", "transmission_report": "failure"}
_REPORT: Final = "TRANSMISSION_REPORT"
_REPORTS: Final = frozenset(("SERVICE_UNAVAILABLE", _REPORT))
_CLUSTER_UP: Final = frozenset(("CLUSTER_UP", "CLUSTER_DOWN"))
_CLUSTER_COMPLETE: Final = frozenset(("CLUSTER_COMPLETE", "CLUSTER_INCOMPLETE"))
# A C++ daemon that logs at the level debug ends when a list lacks one of these.
_NEEDED: Final = frozenset(("HELP", "QUITTING", "READY", "STOP", "UNKNOWN"))
_SECOND_TIMEOUT: Final = 1.0  # of the second of two answers


def rules_of(hold: Hold) -> str:
    """Gives the ``cache`` parameter that says whether a message is held, and for how long.

    Args:
        hold: ``False`` for no, ``True`` for the daemon's own time, or the time, in seconds or as
            text. In each case the sender is told when the message is not held.

    Raises:
        UsageError: The time is less than 10 seconds, or more than a day.
        DurationError: It is none.
    """
    if hold is True:
        return "reply"
    if hold is False:
        return "no;reply"
    seconds, (least, most) = parse_duration(hold), HOLD_TIMES
    if not least <= seconds <= most:
        raise UsageError(f"hold={hold!r}: a time from {least} s to {most} s was expected")
    return f"reply;ttl={round(seconds)}"


def commands_message(names: Iterable[str]) -> Message:
    """Makes COMMANDS for the daemon, with what it wants of every list."""
    return Message("COMMANDS", {"list": ",".join(sorted(_NEEDED.union(names)))}, service=DAEMON)


def _error_of(report: Message, request: Request) -> TransmissionError:
    command, service = request.command, request.service
    if report.command == _REPORT:
        text = f"{command} for {service} was not delivered"
        return TransmissionError(text, command=command)
    service = report.get("destination_service", service)
    return ServiceUnavailableError(f"{command}: there is no service {service}", command=command)


class RouterCalls(SenderStream):
    """The calls that all connections to a communicatord have; they block their greenlet alone.

    Attributes:
        service_name: The name that this side registers.
    """

    __slots__ = ()

    service_name: str
    _listed: set[str]  # the commands that the daemon was told besides the dispatcher's

    # --- one service ------------------------------------------------------------------------------

    @overload
    def request(
        self,
        message: Message,
        reply: str | Iterable[str] | None = None,
        timeout: float = limits.REQUEST_TIMEOUT,
        *,
        serial: bool = True,
        idempotent: bool = False,
        fds: Fds | None = None,
        hold: Hold | None = None,
    ) -> Message: ...

    @overload
    def request(
        self,
        target: str,
        message: Message,
        reply: str | Iterable[str] | None = None,
        timeout: float = limits.REQUEST_TIMEOUT,
        *,
        serial: bool = True,
        idempotent: bool = False,
        hold: Hold | None = None,
    ) -> Message: ...

    def request(self, *words: Any, **settings: Any) -> Message:
        """Asks a service by way of the communicatord, or that itself, and waits for the answer.

        Blocks the calling greenlet alone; several may ask at once.

        Args:
            target: ``service``, or ``server:service``; without it the message says for whom it is,
                and one for nobody is for the communicatord.
            message: What is asked.
            reply: The command, or commands, of the answer; needed for services that copy no
                serial, as those in C++.
            timeout: The limit in seconds, for both ways.
            serial: Whether a ``serial`` is added, which the answer copies.
            idempotent: Whether it may be sent a second time when the connection is lost and comes
                back within the limit.
            hold: Whether, or how long, the communicatord holds it while the service is not there;
                by default it does not, and the request fails at once.

        Raises:
            ServiceUnavailableError: The service is not there.
            TransmissionError: The message could not be delivered for another reason.
            UnknownCommandError: The service has not listed the command, or does not know it.
            InvalidMessageError: The service, or the communicatord, refused it.
            RemoteError: The service failed; ``id`` finds the traceback in its log.
            RequestTimeout: No answer came in time.
            ConnectionLostError: The connection ended before the answer came.
            UsageError: The target is none.
        """
        if words and isinstance(words[0], str):
            return self._ask_service(*words, **settings)
        if "target" in settings:
            return self._ask_service(settings.pop("target"), *words, **settings)
        return self._ask(*words, **settings)

    def _ask_service(self, target: str, message: Message, *words: Any, **settings: Any) -> Message:
        server, service = read_target(target)
        if not isinstance(message, Message):
            raise no_message(message)
        return self._ask(message.with_target(server, service), *words, **settings)

    def _ask(
        self,
        message: Message,
        reply: str | Iterable[str] | None = None,
        timeout: float = limits.REQUEST_TIMEOUT,
        *,
        serial: bool = True,
        idempotent: bool = False,
        fds: Fds | None = None,
        hold: Hold | None = None,
    ) -> Message:
        replies = reply_set(reply)
        if not isinstance(message, Message):
            raise no_message(message)
        if message.service not in ("", DAEMON):
            if fds:
                raise UsageError(f"{message.command}: file descriptors do not pass a communicatord")
            self._list(replies)
            if hold is not None:
                message = message.with_parameters(cache=rules_of(hold))
            elif "cache" not in message and message.service not in _ALL:
                # The C++ daemon tells of a name that it does not know by a report alone.
                message = message.with_parameters(_AT_ONCE)
        else:
            self._list_answers(replies)
        message = self._signed(message)
        return super().request(
            message, replies or None, timeout, serial=serial, idempotent=idempotent, fds=fds
        )

    def _list(self, replies: frozenset[str]) -> None:
        """Lists the answers that are awaited: a daemon may give a service nothing else."""
        if not replies <= self._listed:
            new = (replies | {_REPORT}) - self._listed
            self._listed.update(new)
            if self.is_connected:  # else it is told with all others
                self.send(commands_message(new))

    def _list_answers(self, replies: frozenset[str]) -> None:
        """Lists the answers of the daemon itself: one in C++ sends only what is listed."""
        if replies:
            self._list(replies)

    def _signed(self, message: Message) -> Message:
        # As the C++ library has it; a daemon puts what it knows in its place.
        if message.sent_from_service or message.sent_from_server:
            return message
        return message.with_sender("", self.service_name)

    def _routed(self, message: Message, hold: Hold | None, report: bool) -> Message:
        """The message as it goes out, with the rules that the communicatord is to follow."""
        if not isinstance(message, Message):
            raise no_message(message)
        if hold is not None:
            message = message.with_parameters(cache=rules_of(hold))
        if report:
            message = message.with_parameters(transmission_report="failure")
        return self._signed(message)

    def ask(
        self,
        message: Message,
        replies: frozenset[str],
        timeout: float,
        serial: bool,
        fds: Fds | None = None,
    ) -> Request:
        """Sends a request without the wait for its answer; see :meth:`answer`."""
        request = super().ask(message, replies, timeout, serial, fds)
        if message.service not in _TO_NONE:
            request.service = message.service
        return request

    def answer(self, request: Request) -> Message:
        """Waits for the answer to what :meth:`ask` has sent; a report in its place is an error."""
        found = super().answer(request)
        if found.command in _REPORTS and found.command not in request.replies:
            raise _error_of(found, request)
        return found

    # --- in the hub -------------------------------------------------------------------------------

    def take_units(self, units: list[Any]) -> list[Any]:
        """Gives reports without a serial, as a C++ daemon has them, to the requests they end."""
        table = self._requests
        if table is None or not table.count:
            return super().take_units(units)
        left: list[Any] = []
        begin = 0
        # An answer without a serial is for the first that awaits it: the order is to be kept.
        for index, unit in enumerate(units):
            if unit.__class__ is str and any(name in unit for name in _REPORTS):
                left += super().take_units(units[begin:index])
                begin = index if not self._ends_request(unit) else index + 1
        return left + super().take_units(units[begin:])

    def _ends_request(self, line: str) -> bool:
        assert self._requests is not None
        try:
            message = parse_text(line)
        except MessageError:
            return False
        command = message.command
        if command not in _REPORTS or message.sent_from_service != DAEMON or "serial" in message:
            return False
        if command == _REPORT:
            failed = message.get("status") == "failed"
            about, service = message.get("command", ""), ""
        else:
            failed = True
            about = message.get("unsent_command", "")
            service = message.get("destination_service", "")
        return failed and self._requests.take_report(message, about, service)

    # --- the daemon -------------------------------------------------------------------------------

    def service_status(
        self, service: str, timeout: float = limits.REQUEST_TIMEOUT
    ) -> ServiceStatus:
        """Asks whether a service of this computer is there.

        Args:
            service: Its name.
            timeout: The limit in seconds.

        Raises:
            RequestTimeout: No answer came in time.
            EdgeventError: As of :meth:`request`.
        """
        clock = self._use_clock
        end = clock.now() + timeout
        message = Message("SERVICE_STATUS", {"service": service})
        while True:
            answer = self._ask(message, "STATUS", max(end - clock.now(), 0.0))
            found = ServiceStatus.of(answer)
            if found.service == service:
                return found
            self.handle(answer)  # it tells what has just become of another one

    def services(self, timeout: float = limits.REQUEST_TIMEOUT) -> list[str]:
        """Asks for the names of the services of this computer that are registered, sorted.

        The C++ daemon does not answer this. Names that do not fit one answer are asked for again,
        within the limit each time.

        Raises:
            RequestTimeout: No answer came in time.
            EdgeventError: As of :meth:`request`.
        """
        found: list[str] = []
        offset = ""
        while True:
            question = Message("LIST_SERVICES", {"offset": offset} if offset else None)
            answer = self._ask(question, "SERVICES", timeout)
            found += filter(None, answer["list"].split(","))
            following = answer.get("next", "")
            if following in ("", offset):
                return found
            offset = following

    def cluster_status(self, timeout: float = limits.REQUEST_TIMEOUT) -> ClusterStatus:
        """Asks whether the computers that belong together can reach each other.

        Raises:
            RequestTimeout: No answer came in time.
            EdgeventError: As of :meth:`request`.
        """
        self._list_answers(_CLUSTER_UP | _CLUSTER_COMPLETE)
        table = self._requests or self._open_table()
        message = self._signed(Message("CLUSTER_STATUS"))
        # Two messages are the answer; the second one is awaited before the first one is asked for.
        other = Message("CLUSTER_COMPLETE")
        complete: bool | None = None
        second = table.add(other, _CLUSTER_COMPLETE, None, timeout)
        try:
            up = self.answer(self.ask(message, _CLUSTER_UP, timeout, True))
            if second.answer is None:
                table.remove(second)
                second = table.add(other, _CLUSTER_COMPLETE, None, _SECOND_TIMEOUT)
            try:
                complete = table.wait(second).command == "CLUSTER_COMPLETE"
            except RequestTimeout:
                pass  # a C++ daemon does not tell it over a Unix socket
        finally:
            table.remove(second)
        return ClusterStatus(
            up.command == "CLUSTER_UP",
            complete,
            up.integer("neighbors_count", 1),
        )

    def broadcast(self, message: Message, where: Where = "local") -> None:
        """Has a message given to all services that have listed its command, this one included.

        Args:
            message: What is told.
            where: ``local`` for the services of this computer, ``private`` for those of all
                computers on private networks, ``public`` for all.

        Raises:
            UsageError: ``where`` is none of these.
            EdgeventError: As of :meth:`send`.
        """
        service = _SERVICES.get(where)
        if service is None:
            raise UsageError(f"where={where!r}: 'local', 'private' or 'public' was expected")
        self.send(message.with_target("", service))
