"""Daemons of several computers keep each other equal.

Each dials those that it is told of. Over a link that is up both say what they have as one number;
where that differs, each sends all that it has, values and deletions, and takes over what wins. From
then on changes go to all that are there, and are handed on by those that they are new to. The
comparison is repeated now and then: what was lost in between, with a full disk for example, is made
good by it.

``FLUID_SETTINGS_GOSSIP`` with ``my_ip``, ``id``, ``digest``, ``horizon`` and ``keep_deletions``
(see :mod:`~edgevent.fluidsettings.deletions`) begins it, ``VALUE_CHANGED`` carries the values of
one setting (``new=true``: which no other daemon has had), and ``FLUID_SETTINGS_CONNECTED`` ends
the answer.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any, Final

from gevent.event import AsyncResult

from ..answers import refuse
from ..communicator import Communicator
from ..dispatcher import Dispatcher
from ..errors import ConnectionLostError, EdgeventError, NetworkError, RequestTimeout, SettingError
from ..limits import MAX_LINE_BYTES
from ..links.many import broadcast, request_many
from ..links.message import MessageConnection
from ..links.permanent import PermanentConnection
from ..message import Message
from .commands import PREFIX
from .deletions import IMPORT
from .peer import SettingsPeer
from .store import Notice, Store
from .values import Entry, read_entries, write_entries

logger = logging.getLogger("edgevent.fluidsettings")

GOSSIP: Final = f"{PREFIX}GOSSIP"
CONNECTED: Final = f"{PREFIX}CONNECTED"
CHANGED: Final = "VALUE_CHANGED"
PAUSES: Final = "0.1,0.2,0.5,1"
"""The pauses between attempts: a computer that can be reached again is so within two seconds."""
DIAL_TIMEOUT: Final = 1.0
"""The limit of an attempt, in seconds: one that began before can be of no use after."""
ASK_INTERVAL: Final = 1.0
"""How often a daemon is asked whether it is there, in seconds."""
MAX_PENDING: Final = 256
"""So many messages with values of one peer are being stored at most; then its connection waits."""

_MAX_DIGITS: Final = 19  # of a time
_ROOM: Final = MAX_LINE_BYTES // 4  # on the line a character may become three


class Replication:
    """The other daemons, and what goes to and fro.

    Args:
        store: The settings.
        communicator: Runs the links.
        my_address: What is told as ``my_ip``; the other side logs it.
        routers: The connections that go to communicatord, from which no daemon may come.
        peer_timeout: The connection to a daemon that does not answer for so many seconds ends; who
            has dialled it does so anew.

    Attributes:
        counts: ``merged`` (entries), ``synced`` (all that there is was sent), ``refused`` and
            ``failed`` (messages).
    """

    def __init__(
        self,
        store: Store,
        communicator: Communicator,
        *,
        my_address: str = "",
        routers: Iterable[object] = (),
        peer_timeout: float = 3.0,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.peer_timeout = peer_timeout
        self._store = store
        self._communicator = communicator
        self._my_address = my_address
        self._routers = routers
        self._links: dict[str, PermanentConnection] = {}
        # By the name of their stores: two daemons that dial each other have two links.
        self._peers: dict[str, list[MessageConnection]] = {}
        self._sending: set[MessageConnection] = set()
        self._pending: Counter[int] = Counter()
        self._asking = False
        store.subscribe(self._changed)

    def add_to(self, dispatcher: Dispatcher) -> None:
        """Adds the handlers to the table of those who talk to the daemon."""
        dispatcher.on(GOSSIP)(self.gossip)
        dispatcher.on(CONNECTED)(self.connected)
        dispatcher.on(CHANGED)(self.value_changed)

    # --- links ------------------------------------------------------------------------------------

    def set_links(self, addresses: Iterable[str], dispatcher: Dispatcher) -> None:
        """Dials these addresses, and no other ones of those it was told of before."""
        wanted = list(addresses)
        for address in set(self._links) - set(wanted):
            self._links.pop(address).close()
        for address in wanted:
            if address not in self._links:
                link = PermanentConnection(
                    address,
                    dispatcher,
                    name=f"peer-{address}",
                    pauses=PAUSES,
                    connect_timeout=DIAL_TIMEOUT,
                    keep_running=False,
                )
                link.on_connected(self.introduce)
                self._links[address] = self._communicator.add_connection(link)

    @property
    def peers(self) -> list[MessageConnection]:
        """One connection for each daemon that is there: the newest one that is up."""
        found = []
        for name, connections in tuple(self._peers.items()):
            alive = [one for one in connections if not one.is_closed and one.is_connected]
            if alive:
                self._peers[name] = alive
                found.append(alive[-1])
            else:
                del self._peers[name]
        return found

    def introduce(self, link: MessageConnection) -> None:
        """Tells a daemon what is here; called when a link to it is up."""
        link.send(self._greeting(GOSSIP))

    def _greeting(self, command: str) -> Message:
        store = self._store
        deletions = store.deletions
        fields = {"id": store.id, "digest": store.digest, "horizon": str(deletions.horizon)}
        fields["keep_deletions"] = str(int(deletions.keep))
        # The C++ definition has my_ip as required, and not empty.
        return Message(command, {"my_ip": self._my_address or "0.0.0.0:4049", **fields})

    def compare(self) -> None:
        """Tells all that are there what is here; a timer calls it now and then."""
        broadcast(self.peers, self._greeting(GOSSIP))

    def ask(self) -> None:
        """Asks all daemons whether they are there; a timer calls it. It may block."""
        if self._asking:
            return
        links = [one for one in self._known() if one.is_connected]
        self._asking = True
        try:
            answers = request_many(
                links, Message("ALIVE"), self.peer_timeout, reply=("ABSOLUTELY", "UNKNOWN")
            )
        finally:
            self._asking = False
        for link, answer in zip(links, answers, strict=True):
            if isinstance(answer, RequestTimeout):
                why = f"{link.name}: no answer within {self.peer_timeout:g} s"
                link.ended(ConnectionLostError(why))

    def _known(self) -> Iterator[MessageConnection]:
        known: dict[MessageConnection, None] = dict.fromkeys(self._links.values())
        for connections in self._peers.values():
            known.update(dict.fromkeys(connections))
        yield from known

    # --- what comes from them ---------------------------------------------------------------------

    def gossip(self, message: Message, peer: Any) -> Message | None:
        """A daemon tells what it has: it is told what is here, after all that it may lack."""
        if not self._meet(message, peer):
            return None
        if message.get("digest") == self._store.digest:
            self._agree(message)
            return message.reply(CONNECTED, self._greeting(CONNECTED).parameters)
        self._send_all(peer, closing=CONNECTED)
        return None

    def connected(self, message: Message, peer: Any) -> None:
        """A daemon has told all that it has: it is sent what is here if that is not the same."""
        if not self._meet(message, peer):
            return
        theirs = message.get("digest", "")

        def compare(found: Any, error: EdgeventError | None) -> None:
            if theirs == self._store.digest:
                self._agree(message)
            else:
                self._send_all(peer)

        self._store.after_writes(compare)

    def _agree(self, message: Message) -> None:
        """Both have the same: what was dropped there is known here, too."""
        self._store.agree(_number(message, "horizon") or 0)

    def value_changed(self, message: Message, peer: Any) -> None:
        """A daemon tells the values of a setting; of its lines those are taken that can be read."""
        if not self._may(message, peer):
            return
        wrong: list[SettingError] = []
        entries: list[Entry] = []
        try:
            name, values, who = message["name"], message["values"], message.get("who", "")
            entries = read_entries(name, values, who, wrong.append)
        except SettingError as error:
            wrong.append(error)
        if wrong:
            self.counts["refused"] += 1
            others = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            refuse(message, peer, f"{wrong[0]}{others}")
        if not entries:
            return
        key = id(peer)
        result: AsyncResult[None] = AsyncResult()

        def done(merged: int, error: EdgeventError | None) -> None:
            self._pending[key] -= 1
            if not self._pending[key]:
                del self._pending[key]
            if error is None:
                self.counts["merged"] += merged
            else:  # the store has logged it; the next comparison brings it again
                self.counts["failed"] += 1
            result.set()

        waits = self._pending[key] >= MAX_PENDING
        self._pending[key] += 1
        try:
            is_new = message.get("new", "") == "true"
            self._store.merge_soon(entries, peer, done, is_new=is_new)
        except EdgeventError as error:
            done(0, error)
            refuse(message, peer, str(error))
            return
        if waits:
            result.wait()

    def _may(self, message: Message, peer: Any) -> bool:
        if isinstance(peer, MessageConnection) and peer not in self._routers:
            return True
        self.counts["refused"] += 1
        refuse(message, peer, f"{message.command} is for a connection between daemons")
        return False

    def _meet(self, message: Message, peer: MessageConnection) -> bool:
        if not self._may(message, peer):
            return False
        name = message.get("id", "") or f"unnamed {message['my_ip']}"
        if name == self._store.id:
            logger.warning("%s: this address is of this daemon itself", peer.name)
            return False
        keep = _number(message, "keep_deletions")
        if keep is not None:
            self._store.deletions.heard(name, keep)
        connections = self._peers.setdefault(name, [])
        if peer not in connections:
            connections.append(peer)
            logger.info("%s: the daemon of %s", peer.name, message.get("my_ip", "another computer"))
        return True

    # --- what goes to them ------------------------------------------------------------------------

    def _changed(self, notice: Notice) -> None:
        source = notice.source
        behind = next((name for name, found in self._peers.items() if source in found), None)
        if notice.entry.value is None and not notice.is_change:
            behind = None  # it may be for what the sender has kept for too long
        others = [one for one in self.peers if behind is None or one not in self._peers[behind]]
        self._store.deletions.stands(
            notice.entry, is_shared=bool(others) or (source is not None and source != IMPORT)
        )
        if others:
            broadcast(others, _message([notice.entry]))

    def _send_all(self, peer: MessageConnection, closing: str = "") -> None:
        """Sends all that is here, in a turn of its own: the peer may send as much meanwhile."""

        def send() -> None:
            try:
                store = self._store
                for message in _messages(store.entries(), store.deletions.is_new):
                    peer.send(message)
                if closing:
                    peer.send(self._greeting(closing))
                self.counts["synced"] += 1
            except NetworkError as error:
                logger.info("%s: not all settings could be sent: %s", peer.name, error)
            finally:
                self._sending.discard(peer)
                if isinstance(peer, SettingsPeer):
                    peer.answered()

        if peer not in self._sending:
            self._sending.add(peer)
            if isinstance(peer, SettingsPeer):
                peer.pending += 1
            # What has come before belongs to it.
            self._store.after_writes(
                lambda found, error: self._communicator.after(0.0, send, keep_running=False)
            )


def _number(message: Message, parameter: str) -> int | None:
    text = message.get(parameter, "")
    is_number = text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS
    return int(text) if is_number else None


def _message(entries: list[Entry], is_new: bool = False) -> Message:
    new = {"new": "true"} if is_new else {}
    return Message(CHANGED, {"name": entries[0].name, **write_entries(entries), **new})


def _messages(entries: Iterable[Entry], is_new: Callable[[Entry], bool]) -> Iterator[Message]:
    """Puts as many entries of one setting into a message as have room.

    Args:
        is_new: Says of which ones nobody else can know; these are in messages of their own.
    """
    for (_, new), of_name in groupby(entries, lambda one: (one.name, is_new(one))):
        part: list[Entry] = []
        size = 0
        for one in of_name:
            length = len((one.value or "").encode("utf-8")) + len(one.who.encode("utf-8")) + 64
            if part and size + length > _ROOM:
                yield _message(part, new)
                part, size = [], 0
            part.append(one)
            size += length
        if part:
            yield _message(part, new)
