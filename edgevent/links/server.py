"""Listening: a server accepts peers and gives each a connection of its own."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any

from .. import limits
from ..address import Address
from ..arguments import checks_arguments
from ..conditions import Conditions
from ..connection import FAILURES, Owner
from ..dispatcher import Dispatcher
from ..errors import UsageError
from ..runtime.room import WhenFull
from ..runtime.turns import Turns
from ..tls import TlsMode, TlsOptions, options_for
from ..transport.base import StreamTransport
from ..transport.inherited import Inherited, served_address
from ..transport.listen import listen
from ..transport.rights import check_carrier
from ..transport.secure import with_tls
from .accepting import Accepting
from .admission import Admission
from .ending import START
from .handler import Handler, check_handler, check_outbox, make_connection, set_outbox
from .raw import check_line_bytes
from .stream import BaseStream

logger = logging.getLogger("edgevent")


@checks_arguments
class Server(Accepting):
    """Listens on an address. Closing it ends no peer's connection.

    Args:
        address: Where; a name with several addresses listens on all of them, port 0 on a free port.
            It may be left out beside ``socket``.
        handler: A dispatcher for its messages, a function of the connection that has a greenlet of
            its own, or a class of connections; by default the communicator's dispatcher.
        dispatcher: The table for a handler that is a class of message connections, or a function
            that hands messages on with ``connection.dispatch``; by default the communicator's.
        allow_remote: Whether addresses that are neither loopback nor private may be listened to.
        allow_control: Whether STOP and the like are obeyed from peers that are neither local nor
            authenticated.
        keep_running: Whether ``run`` goes on while the server or one of its peers is there.
        allow_users: Names or numbers of the users that may connect to a Unix socket.
        allow_groups: Names or numbers of groups whose members may, too.
        mode: The mode of a Unix socket's file or a FIFO, 0600 by default.
        group: The group of a Unix socket's file or a FIFO; makes the default mode 0660.
        max_connections: The most peers at a time; others wait in the queue, until one leaves.
        must_introduce: Whether a peer that has not sent a complete line in time is closed although
            it has sent nothing at all; one that has begun a line always is.
        introduction_timeout: That time in seconds.
        max_line_bytes: The longest line of a peer.
        max_fds: The most file descriptors that a message of a peer may bring, over a Unix socket;
            none are taken by default.
        peer_priority: The priority of the peers' connections, where it is not their class's.
        when_full: What a send to a peer does when too much waits for it: ``wait``, ``raise`` or
            ``drop``; where it is not their class's, as the next two.
        slow_timeout: For so many seconds a peer may take nothing of what was sent to it.
        max_outbox_bytes: So much may wait for a peer before ``when_full`` holds.
        tls: What is asked of TLS: this side's certificate and key at least; needed for an address
            of TLS.
        socket: A socket that listens already, or its descriptor, as a service manager hands it
            over: it is the server's from now on, unless this raises, and has the address. One that
            is given beside it says which kind is expected, and whether there is TLS.

    A class of connections is called with the transport and with ``max_line_bytes``, ``max_fds``,
    ``allow_control``, ``dispatcher`` and ``keep_running`` as far as its layer has them; its own
    ``__init__``, if any, takes ``(transport, **settings)`` and passes them on.

    Raises:
        ListenError: It cannot listen there; the sentence says why.
        AddressError: The address cannot be read.
        UsageError: The handler is none, or what is asked for needs a Unix socket.

    Attributes:
        counts: How often what happened: ``accepted``, ``refused``, ``lost``.
    """

    __slots__ = (
        "_dispatcher",
        "_handler",
        "_max_fds",
        "_max_line_bytes",
        "address",
        "allow_control",
        "introduction_timeout",
        "max_outbox_bytes",
        "must_introduce",
        "peer_priority",
        "slow_timeout",
        "when_full",
    )

    def __init__(
        self,
        address: str | Address | None = None,
        handler: Handler = None,
        *,
        dispatcher: Dispatcher | None = None,
        name: str = "",
        priority: int = limits.DEFAULT_PRIORITY,
        keep_running: bool = True,
        allow_remote: bool = False,
        allow_control: bool = False,
        allow_users: Iterable[str | int] | None = None,
        allow_groups: Iterable[str | int] | None = None,
        mode: int | None = None,
        group: str | int | None = None,
        backlog: int = limits.BACKLOG,
        max_connections: int = limits.MAX_CONNECTIONS,
        must_introduce: bool = False,
        introduction_timeout: float = limits.INTRODUCTION_TIMEOUT,
        max_line_bytes: int = limits.MAX_LINE_BYTES,
        max_fds: int = 0,
        peer_priority: int | None = None,
        when_full: WhenFull | None = None,
        slow_timeout: float | None = None,
        max_outbox_bytes: int | None = None,
        tls: TlsOptions | TlsMode | None = None,
        socket: Inherited | None = None,
    ) -> None:
        super().__init__(name=name, priority=priority, keep_running=keep_running)
        self.address = served_address(address, socket)
        self._tls = options_for(self.address, tls)
        if self._tls is not None:
            self._tls.context(server_side=True)  # files that cannot be used are told here
        self._handler = check_handler(handler)
        self._max_fds = check_carrier(self.address, max_fds, is_encrypted=self._tls is not None)
        if isinstance(handler, Dispatcher):
            if dispatcher is not None:
                raise UsageError("a server has one dispatcher: as its handler, or as dispatcher=")
            dispatcher = handler
        self._dispatcher = dispatcher
        self._turns = Turns.current()
        self.allow_control = allow_control
        if not self.address.is_unix and not (allow_users is None and allow_groups is None):
            raise UsageError(f"{self.address}: users and groups are known of Unix sockets only")
        self._admission = None
        if not (allow_users is None and allow_groups is None):
            self._admission = Admission(allow_users or (), allow_groups or ())
        self.max_connections = max_connections
        self.must_introduce = must_introduce
        self.introduction_timeout = introduction_timeout
        self._max_line_bytes = check_line_bytes(max_line_bytes)
        self.peer_priority = peer_priority
        check_outbox(when_full, slow_timeout, max_outbox_bytes)
        self.when_full, self.slow_timeout = when_full, slow_timeout
        self.max_outbox_bytes = max_outbox_bytes
        self.counts = Counter()
        self._peers, self._greetings = set(), set()
        self._pause = None
        self._waits, self._full = 0, False
        self._conditions = Conditions(logger)
        self._listeners = listen(
            self.address,
            backlog=backlog,
            allow_remote=allow_remote or self._tls is not None,
            mode=mode,
            group=group,
            inherited=socket,
        )

    # --- what users see ---------------------------------------------------------------------------

    @property
    def addresses(self) -> list[str]:
        """The addresses that are listened to, with the ports that were chosen."""
        found = [listener.local for listener in self._listeners]
        return found if self._tls is None else [with_tls(address) for address in found]

    @property
    def port(self) -> int:
        """The port that is listened to; 0 for a Unix socket, or when closed."""
        return self._listeners[0].port if self._listeners else 0

    @property
    def peers(self) -> tuple[BaseStream[Any], ...]:
        """The connections to those that were accepted and are still there."""
        return tuple(self._peers)

    def reload(self) -> bool:
        """Reads the files of certificates again; connections that stand are not touched.

        Returns:
            Whether they can be used. If not, that is logged, and what was in use stays.
        """
        return self._tls is None or self._tls.reload()

    def process_accept(self, connection: Any) -> None:
        """Called in a turn with each new connection, before it is added."""

    def _state(self) -> str:
        where = ", ".join(self.addresses) or str(self.address)
        return f"{super()._state()} {where}, {len(self._peers)} peers"

    # --- accepting --------------------------------------------------------------------------------

    def attach(self, communicator: Owner) -> None:
        """Called by the communicator."""
        super().attach(communicator)
        logger.info("%s: listening on %s", self.name, ", ".join(self.addresses))

    def welcome(self, transport: StreamTransport) -> None:
        """Gives a peer its connection."""
        try:
            connection = make_connection(
                self._handler,
                transport,
                self._dispatcher,
                max_line_bytes=self._max_line_bytes,
                max_fds=self._max_fds,
                allow_control=self.allow_control,
                keep_running=self.keep_running,
            )
        except FAILURES as error:
            transport.close()
            self.handler_failed(error, "making a connection")
            return
        connection._server = self
        if self.peer_priority is not None:
            connection.priority = self.peer_priority
        if connection._outbox is not None:
            found = connection._outbox
            set_outbox(found, self.when_full, self.slow_timeout, self.max_outbox_bytes)
        connection._introduction = None
        self._peers.add(connection)
        if type(self).process_accept is not Server.process_accept:
            self.call_hook(self.process_accept, connection)
        self._add(connection)

    def _add(self, connection: BaseStream[Any]) -> None:
        communicator = self._communicator
        if connection.is_closed or connection.communicator is not None:
            return
        if communicator is None:  # the hook has closed this server
            connection.close()
            return
        if (
            connection._conversation is not None
            or type(connection).process_connected is not BaseStream.process_connected
        ):
            connection._due |= START
        communicator.add_connection(connection)  # type: ignore[attr-defined]
        if self.must_introduce and connection._introduction is None and not connection.is_closed:
            connection.expect_introduction(self.introduction_timeout)

    def peer_ended(self, connection: BaseStream[Any]) -> None:
        """Called by a peer's connection when it has given everything back."""
        if connection in self._peers:
            self._peers.discard(connection)
            if connection._error is not None:
                self.counts["lost"] += 1
            self._has_room()
