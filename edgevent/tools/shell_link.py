"""The connection of ed-shell, in a thread of its own.

The line editors block the thread that they run in, and want the main thread: only there do SIGINT
and a change of the terminal's size reach them. So the editor has the main thread, without a hub,
and the communicator another one; what is typed is handed over by ``call_threadsafe``.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Final

import gevent

from ..communicator import Communicator
from ..defaults import default_commands
from ..dispatcher import PRIORITY_CALLBACK, Dispatcher, Match
from ..errors import ConnectError, EdgeventError, NotConnectedError, RequestTimeout
from ..links.client import Client
from ..links.message import MessageConnection
from ..links.permanent import PermanentConnection
from ..message import Message
from .peer_options import Peer

_CALL_TIMEOUT: Final = 15.0  # longer than a peer that takes nothing is kept
_JOIN_TIMEOUT: Final = 10.0
_ANSWERED: Final = ("ALIVE", "HELP")
_OF_THE_TERMINAL: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGWINCH, signal.SIGTSTP)


class _Warnings(logging.Handler):
    """Shows the warnings of the package; how the link fares is told by the shell itself."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Shows one."""
        if record.module != "report":
            self._tell(record.getMessage())


class ShellLink:
    """A permanent link (to datagram sockets, a client) that lives in a thread of its own.

    All methods are called in another thread than that one, and block it.

    Args:
        peer: Where to.
        timeout: The limit of one attempt to connect, in seconds.
        received: Called in the thread of the link with each message.
        told: Called there with what becomes of the link.
        warned: Called there with warnings, of what the peer sends for instance.
        connected: Called there whenever it is up, as soon as messages may be sent.
        lost: Called there whenever it is lost.
    """

    def __init__(
        self,
        peer: Peer,
        timeout: float,
        *,
        received: Callable[[Message], None],
        told: Callable[[str], None],
        warned: Callable[[str], None],
        connected: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        self._peer = peer
        self._timeout = timeout
        self._received = received
        self._told = told
        self._warned = warned
        self._connected = connected
        self._is_lost = lost
        self._changed = threading.Condition()
        self._made = False
        self._communicator: Communicator | None = None
        self._link: MessageConnection | None = None
        self._failure: BaseException | None = None  # what has ended the thread
        self._refusal = ""  # why the last attempt to connect has failed
        self._thread = threading.Thread(target=self._run, name="ed-shell link", daemon=True)
        self.is_up = False

    def start(self) -> None:
        """Starts the thread, which dials.

        Raises:
            EdgeventError: The link cannot be made: of the address, or of its files, none will do.
        """
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._made or self._failure is not None)
        self._check()

    def wait_until_up(self, timeout: float) -> None:
        """Waits until the first attempt to connect has ended.

        Raises:
            ConnectError: It has failed, or has not ended within ``timeout`` seconds.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self.is_up or self._refusal or self._failure is not None, timeout
            )
            self._check()
            if not self.is_up:
                why = self._refusal or f"no connection within {timeout:g} s"
                raise ConnectError(f"{self._peer.address}: {why}")

    def send(self, message: Message) -> None:
        """Sends a message.

        Raises:
            NotConnectedError: The link is down.
            NetworkError: It broke meanwhile, or the peer takes nothing.
            MessageError: The message is too long.
        """
        if not self.is_up:
            why = f": {self._refusal}" if self._refusal else ""
            raise NotConnectedError(f"not connected to {self._peer.address}{why}")
        link = self._link
        assert link is not None
        self.call(link.send, message)

    def send_here(self, message: Message) -> None:
        """Sends a message, called in the thread of the link; that it cannot is told there."""
        assert self._link is not None
        try:
            self._link.send(message)
        except EdgeventError as error:
            self._warned(str(error))

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function in a turn of the link's thread, and gives what it returns."""
        self._check()
        called: Future[Any] = Future()

        def call() -> None:
            try:
                called.set_result(function(*arguments))
            except BaseException as error:
                called.set_exception(error)

        assert self._communicator is not None
        self._communicator.call_threadsafe(call)
        try:
            return called.result(_CALL_TIMEOUT)
        except FutureTimeout:
            text = f"{self._peer.address}: it was not done within {_CALL_TIMEOUT:g} s"
            raise RequestTimeout(text) from None

    def close(self) -> None:
        """Ends the link, after what was sent has left, and its thread. Idempotent."""
        if self._communicator is not None and self._thread.is_alive():
            self._communicator.call_threadsafe(self._communicator.stop)
        if self._thread.ident is not None:
            self._thread.join(_JOIN_TIMEOUT)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    # --- in the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        # They are for the editor.
        signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_TERMINAL)
        logger = logging.getLogger("edgevent")
        handler = _Warnings(self._warned)
        logger.addHandler(handler)
        try:
            with Communicator(dispatcher=self._table()) as communicator:
                self._communicator = communicator
                self._link = communicator.add_connection(self._make())
                with self._changed:
                    self._made = True
                    self._changed.notify_all()
                if self._peer.address.is_datagram:
                    communicator.after(0.0, self._is_up_now)
                communicator.run()
        except BaseException as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()
        finally:
            logger.removeHandler(handler)
            gevent.get_hub().destroy(destroy_loop=True)

    def _make(self) -> MessageConnection:
        peer = self._peer
        name = str(peer.address)
        if peer.address.is_datagram:
            return Client(
                peer.address,
                connect_timeout=self._timeout,
                secret_code=peer.secret_code,
                auth=peer.auth,
                name=name,
            )
        link = PermanentConnection(
            peer.address, connect_timeout=self._timeout, tls=peer.tls, name=name
        )
        link.on_connected(lambda _: self._is_up_now())
        link.on_connection_failed(self._failed)
        link.on_disconnected(lambda _: self._lost())
        return link

    def _table(self) -> Dispatcher:
        """Shows all that comes; answers ALIVE and HELP, and obeys nobody."""
        table = Dispatcher(default_commands=False)
        table.add_match(
            Match(None, lambda message, peer: self._received(message), priority=PRIORITY_CALLBACK)
        )
        known = default_commands(table)
        for command in _ANSWERED:
            table.on(command)(known[command])
        table.otherwise(lambda message, peer: None)  # else it would be answered UNKNOWN
        return table

    def _is_up_now(self) -> None:
        with self._changed:
            self.is_up = True
            self._refusal = ""
            self._changed.notify_all()
        self._told(f"connected to {self._peer.address}")
        self._connected()

    def _failed(self, _: object, error: EdgeventError) -> None:
        why = str(error).removeprefix(f"{self._peer.address}: ")
        if why != self._refusal:
            self._told(f"cannot connect to {self._peer.address}: {why}; it is tried again")
        with self._changed:
            self._refusal = why
            self._changed.notify_all()

    def _lost(self) -> None:
        with self._changed:
            self.is_up = False
            self._changed.notify_all()
        self._is_lost()
        self._told(f"lost the connection to {self._peer.address}; it is dialled again")
