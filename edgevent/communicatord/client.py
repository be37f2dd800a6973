"""A service's connection to its communicatord: registered by itself, whenever that is there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from greenlet import getcurrent

from ..address import Address
from ..arguments import checks_arguments
from ..backoff import Backoff
from ..dispatcher import Dispatcher
from ..errors import RegistrationError, no_message
from ..links.undelivered import Entry
from ..message import Message
from ..runtime.native import get_ident
from ..transport.rights import Fds
from .calls import Hold
from .places import DAEMON, default_daemon, parse_daemon
from .registering import REGISTRATION_TIMEOUT, RegisteringConnection
from .statuses import ServiceStatus

logger = logging.getLogger("edgevent.communicatord")

_F = TypeVar("_F", bound=Callable[..., Any])

MAX_PAUSE: Final = 60.0
"""The longest pause between attempts, in seconds, when nothing else is said."""

_TOLD: Final = frozenset(
    (
        "CLUSTER_COMPLETE",
        "CLUSTER_DOWN",
        "CLUSTER_INCOMPLETE",
        "CLUSTER_UP",
        "SERVICES",
        "STATUS",
        "TRANSMISSION_REPORT",
    )
)
"""What a daemon may send that is not answered UNKNOWN, though no handler takes it."""


@checks_arguments
class CommunicatorConnection(RegisteringConnection):
    """A permanent link to a communicatord, which registers a service each time it is up.

    HELP is answered with the dispatcher's commands. What services send comes to the dispatcher;
    so does READY, once the service is registered. Until then the link counts as down. Messages of
    one sender are handled one after another; a handler that waits holds up no other sender.

    Args:
        service_name: The name to register: letters, digits and ``_``.
        dispatcher: The table for what services send; by default that of the communicator.
        address: Where the daemon is, as of :func:`~edgevent.communicatord.places.parse_daemon`; by
            default that of this computer.
        pauses: The pauses between attempts; by default they double from one second to a minute. A
            local daemon is dialled within a second of its listening, besides.
        registration_timeout: How long READY may take, in seconds.
        allow_control: Whether STOP and the like are obeyed that come by way of the daemon: who may
            send those is for the daemon to say.
        settings: Those of :class:`~edgevent.PermanentConnection`, and ``max_senders`` and
            ``max_sender_bytes``: of how many senders handlers may wait at a time, and how many
            bytes may wait for the handler of one. Past that, or 8 MiB of all senders, the link
            takes nothing more but answers that are awaited, until there is room again.

    Raises:
        UsageError: The name is none, or a bound.
        AddressError: The address is none of a communicatord.

    Attributes:
        senders: Those whose handlers wait: how many (``len``), and what waits behind them
            (``waiting`` messages, ``size`` bytes).
        my_address: The daemon's address for other daemons, which READY has told.
        refusal: Why the daemon did not register the service at the last attempt, or ``None``. A
            link that is refused is closed, and made anew after a pause.
    """

    __slots__ = ("_prefix",)

    def __init__(
        self,
        service_name: str,
        dispatcher: Dispatcher | None = None,
        *,
        address: str | Address | None = None,
        pauses: str | Sequence[float] | Backoff | None = None,
        registration_timeout: float = REGISTRATION_TIMEOUT,
        wait_for_listener: bool | None = None,
        allow_control: bool = True,
        **settings: Any,
    ) -> None:
        self._prefix = f"<:{service_name} ".encode()
        where = default_daemon() if address is None else parse_daemon(address)
        if pauses is None:
            pauses = Backoff(maximum=MAX_PAUSE)
            if wait_for_listener is None:
                wait_for_listener = where.is_unix or where.is_loopback
        super().__init__(
            service_name,
            dispatcher,
            where,
            pauses=pauses,
            registration_timeout=registration_timeout,
            wait_for_listener=wait_for_listener,
            allow_control=allow_control,
            **settings,
        )

    # --- what users see ---------------------------------------------------------------------------

    def wait_until_ready(self, timeout: float) -> None:
        """Waits until the service is registered, or refused. Blocks the calling greenlet alone.

        :meth:`wait_until_up` goes on waiting when it is refused.

        Raises:
            RegistrationError: The daemon does not register it: the name is taken, for example.
            NotConnectedError: It was not registered within ``timeout`` seconds.
            ClosedError: The link was closed for good.
        """
        end = self._use_clock.now() + timeout
        while not (self.is_registered and (self._begun or self._beginner is getcurrent())):
            if self.refusal is not None:
                raise RegistrationError(*self.refusal.args)
            left = end - self._use_clock.now()
            if left <= 0.0 or self._closed:
                raise self.down_error()
            self._up.wait(self._use_clock, left)

    def on_ready(self, function: _F) -> _F:
        """Adds a function of the link, called in a turn when the service is registered.

        It may block; what was kept leaves after it. :meth:`on_connected` is the same.
        """
        return self.on_connected(function)

    def on_status(self, function: _F) -> _F:
        """Adds a function of the link and a :class:`ServiceStatus`, for services that come and go.

        It is called in a turn; see :meth:`process_status`.
        """
        return self._on("status", function, "link", "status")

    def process_status(self, status: ServiceStatus) -> None:
        """Called in a turn when a service of this computer has come or gone.

        The daemon tells it of all of them, this one included; a handler of STATUS in the dispatcher
        takes the place of both.
        """

    def send(
        self,
        message: Message,
        *,
        json: bool = False,
        cache: bool = False,
        fds: Fds | None = None,
        hold: Hold | None = None,
        report: bool = False,
    ) -> None:
        """Sends a message by way of the daemon, or keeps it until the service is registered.

        Blocks the calling greenlet while the link is up and too much waits for the daemon.

        Args:
            message: It says for which service, and on which server, it is.
            json: Whether it is written in its JSON form.
            cache: Whether this side keeps it, in order, while the daemon is not there.
            fds: File descriptors are for the daemon itself alone.
            hold: Whether the daemon is to hold it while the service is not there, or how long (10
                to 86,400 seconds, also as text); if it does not, ``SERVICE_UNAVAILABLE`` comes to
                the dispatcher. By default the daemon holds it for a time, and tells nothing.
            report: Whether ``TRANSMISSION_REPORT`` is to come, ``status=failed`` or ``cached``.

        Raises:
            NotConnectedError: The link is down, and the message was not to be kept.
            ConnectionLostError: The link broke meanwhile, and the message was not to be kept.
            QueueFullError: No more can be kept.
            MessageError: The line would be longer than ``max_line_bytes``.
            ClosedError: The link was closed for good.
            UsageError: The descriptors cannot be passed, ``hold`` is out of its limits, or this is
                no message.
        """
        try:
            header = message._header
        except AttributeError:
            raise no_message(message) from None
        names_sender = header.sent_from_server or header.sent_from_service
        if json or cache or fds or hold is not None or report or names_sender:
            message = self._routed(message, hold, report)
            super().send(message, json=json, cache=cache, fds=fds)
            return
        turns = self._turns
        if turns.thread != get_ident() or turns.forked:
            turns.check()
        outbox = self._outbox
        if (
            outbox is None
            or (self._eof and not self._draining)
            or self._closed
            or outbox.error is not None
        ):
            raise self.down_error()
        # What _routed() would do at this place takes ten times as long.
        line = self._prefix + message.to_line()
        if len(line) > self.max_line_bytes:
            self.check_size(message, line)
        dropped = outbox.dropped
        outbox.write(line)
        if outbox.dropped == dropped:
            self._note(outbox, Entry(line))

    def send_commands(self) -> None:
        """Lists the dispatcher's commands once more, for a table that has grown since HELP came.

        Raises:
            EdgeventError: As of :meth:`send`.
        """
        self._answer_help(Message("HELP", sent_from_service=DAEMON))

    def unregister(self) -> None:
        """Tells the daemon that the service goes, once what is kept has left, and ends the link."""
        self.mark_done()

    # --- what the daemon tells --------------------------------------------------------------------

    def process_message(self, message: Message) -> bool:
        """Takes STATUS, and what else a daemon tells, when no handler has."""
        if message.command not in _TOLD or message.sent_from_service != DAEMON:
            return False
        if message.command == "STATUS":
            status = ServiceStatus.of(message)
            self.call_hook(self.process_status, status)
            self._call_back("status", status)
        elif message.command == "TRANSMISSION_REPORT" and message.get("status") == "failed":
            about = message.get("command", "")[:64]
            logger.warning("%s: %a was not delivered", self.name, about)
        return True
