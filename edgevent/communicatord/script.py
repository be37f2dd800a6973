"""The blocking client of a communicatord: for scripts, which need no communicator."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final

from .. import limits
from ..address import Address
from ..arguments import checks_arguments
from ..dispatcher import Dispatcher
from ..errors import (
    ConnectionLostError,
    InvalidMessageError,
    NetworkError,
    RegistrationError,
    RequestTimeout,
    UnknownCommandError,
)
from ..links.client import Client
from ..message import Message
from ..runtime.native import get_ident
from ..transport.rights import Fds
from .calls import Hold, RouterCalls, commands_message
from .places import (
    ANY_COMMAND,
    DAEMON,
    check_service_name,
    default_daemon,
    parse_daemon,
    script_name,
)
from .registering import register_message, unregister_message

logger = logging.getLogger("edgevent.communicatord")

_NEWS: Final = frozenset(
    (
        "CLOCK_STABLE",
        "CLOCK_UNSTABLE",
        "CLUSTER_COMPLETE",
        "CLUSTER_DOWN",
        "CLUSTER_INCOMPLETE",
        "CLUSTER_UP",
        "STATUS",
    )
)
"""What a daemon tells unasked, and in answer to a question as well."""


@checks_arguments
class CommunicatorClient(RouterCalls, Client):
    """Registers with a communicatord, and asks services by way of it, in straight-line code.

    Args:
        service_name: The name to register; by default one of the program and its process, which no
            other has.
        dispatcher: The table for what services send of their own accord; without it that waits for
            :meth:`receive`.
        address: Where the daemon is, as of :func:`~edgevent.communicatord.places.parse_daemon`; by
            default that of this computer.
        connect_timeout: The limit of connecting and registering, in seconds.
        commands: The commands that it says it takes, besides those of a dispatcher: broadcasts of
            these come. Without any, and without a dispatcher, it gets all that services send to it,
            and no broadcasts; once it has asked the daemon itself, whose answers are listed then
            (one in C++ wants that), those of STOP and QUITTING as well.
        settings: Those of :class:`~edgevent.Client`, and ``max_senders`` and ``max_sender_bytes``
            as of :class:`~edgevent.CommunicatorConnection`.

    Raises:
        ConnectError: The daemon is not there.
        RegistrationError: It does not register the name.
        UsageError: The name is none.
        AddressError: The address is none of a communicatord.

    Example:
        >>> with CommunicatorClient() as client:
        ...     client.request("stock", Message("TAKE", {"item": "pen"}))["left"]
    """

    __slots__ = ("_listed", "_lists", "_registered", "senders", "service_name")

    def __init__(
        self,
        service_name: str = "",
        dispatcher: Dispatcher | None = None,
        *,
        address: str | Address | None = None,
        connect_timeout: float = limits.CONNECT_TIMEOUT,
        commands: Iterable[str] = (),
        **settings: Any,
    ) -> None:
        self.service_name = check_service_name(service_name or script_name())
        self._listed = set(commands)
        self._lists = bool(self._listed) or dispatcher is not None
        self._registered = False
        where = default_daemon() if address is None else parse_daemon(address)
        super().__init__(where, dispatcher, connect_timeout=connect_timeout, **settings)

    @property
    def is_registered(self) -> bool:
        """Whether the daemon has registered the name."""
        return self._registered and self.is_connected

    def send(
        self,
        message: Message,
        *,
        json: bool = False,
        fds: Fds | None = None,
        hold: Hold | None = None,
        report: bool = False,
    ) -> None:
        """Sends a message by way of the daemon.

        Args:
            message: It says for which service, and on which server, it is.
            json: Whether it is written in its JSON form.
            fds: File descriptors are for the daemon itself alone.
            hold: As of :meth:`CommunicatorConnection.send
                <edgevent.communicatord.client.CommunicatorConnection.send>`.
            report: Likewise. What the daemon tells waits for :meth:`receive`.

        Raises:
            EdgeventError: As of :meth:`Client.send <edgevent.Client.send>`.
            UsageError: ``hold`` is out of its limits.
        """
        super().send(self._routed(message, hold, report), json=json, fds=fds)

    def close(self) -> None:
        """Tells the daemon that the name is free, and closes as :class:`Client` does."""
        turns = self._turns
        if self.is_registered and not turns.forked and turns.thread == get_ident():
            self._registered = False
            if not self.is_full:
                try:
                    self.outbox.write(unregister_message(self.service_name).to_line())
                except NetworkError as error:
                    logger.debug("%s: not unregistered: %s", self.name, error)
        super().close()

    # --- registering ------------------------------------------------------------------------------

    def _connect(self, timeout: float) -> None:
        end = self._use_clock.now() + timeout
        super()._connect(timeout)
        try:
            self._register(max(end - self._use_clock.now(), 0.0), timeout)
        except BaseException:
            self.cut()
            raise
        self._registered = True
        if self._listed:
            self.send(commands_message(self._listed))

    def _list(self, replies: frozenset[str]) -> None:
        if self._lists:
            super()._list(replies)

    def _list_answers(self, replies: frozenset[str]) -> None:
        if replies and not self._lists:
            RouterCalls._list(self, replies | {ANY_COMMAND})
        else:
            super()._list_answers(replies)

    def take_units(self, units: list[Any]) -> list[Any]:
        """Leaves out the news that come because an answer of the same name was listed."""
        left = super().take_units(units)
        if self._listed and not (self._lists or self._takes_turns()):
            left = [one for one in left if not self._is_news(one)]
        return left

    def handle(self, message: Message) -> None:
        """Handles a message in a turn; those news are dropped."""
        if not self._is_news(message):
            super().handle(message)

    def _is_news(self, message: Message) -> bool:
        is_daemons = message.sent_from_service == DAEMON and message.command in _NEWS
        return is_daemons and not self._lists and message.command in self._listed

    def _answer_default(self, message: Message) -> None:
        # Who has listed nothing is given everything, which receive() is for.
        if message.command != "HELP" or self._lists or message.sent_from_service != DAEMON:
            super()._answer_default(message)

    def _register(self, left: float, limit: float) -> None:
        where = f"{self._target} did not register {self.service_name}"
        message = register_message(self.service_name)
        try:
            self.answer(self.ask(message, frozenset(("READY",)), left, False))
        except (InvalidMessageError, UnknownCommandError) as error:
            text = str(error).removeprefix("REGISTER was refused by the peer: ")
            raise RegistrationError(f"{where}: {text}") from error
        except RequestTimeout as error:
            raise RegistrationError(f"{where} within {limit:g} s") from error
        except ConnectionLostError as error:
            raise RegistrationError(f"{where}: {error}") from error
