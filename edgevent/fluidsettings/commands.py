"""What clients ask of the daemon, and what they are answered.

PUT and DELETE are answered when they are on the disk. The connection does not wait for that: other
messages of other senders go on, and what the same sender asks meanwhile comes after.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from gevent.event import AsyncResult

from ..dispatcher import Dispatcher
from ..errors import (
    ClosedError,
    EdgeventError,
    MessageError,
    NetworkError,
    SettingError,
    SettingsStoreError,
    UnknownSettingError,
)
from ..limits import MAX_LINE_BYTES
from ..links.many import broadcast
from ..links.message import MessageConnection
from ..message import Message
from .committing import Done
from .described import Described, write_changes, write_description
from .listeners import Listener, Listeners, first_value
from .names import ADMINISTRATOR, HIGHEST, canonical, check_priority
from .peer import SettingsPeer
from .store import Store
from .values import Update, write_line

logger = logging.getLogger("edgevent.fluidsettings")

PREFIX: Final = "FLUID_SETTINGS_"
MAX_PENDING: Final = 256
"""So many writes of one sender are under way at most; for more the connection waits."""
MAX_HISTORY: Final = 1_000
"""The most changes that one answer tells."""

_ROOM: Final = MAX_LINE_BYTES - 2_048  # for the head and the other parameters of an answer
_SHOWN: Final = 100
_NOT_SET: Final = "this setting is not set"

_Key = tuple[int, str, str]
_Answer = Callable[[Any], Message]


class SettingsCommands:
    """PUT, GET, DELETE, LIST, LISTEN, FORGET, and those that C++ lacks: DESCRIBE, HISTORY, EXPORT.

    Args:
        store: The settings.
        listeners: Who listens.

    Attributes:
        routers: The connections that go to communicatord; others come from clients directly.
        counts: Messages by what became of them.
    """

    def __init__(self, store: Store, listeners: Listeners) -> None:
        self.store = store
        self.listeners = listeners
        self.routers: set[object] = set()
        self.counts: Counter[str] = Counter()
        self._pending: dict[_Key, int] = {}

    def add_to(self, dispatcher: Dispatcher) -> None:
        """Adds the handlers to the table of those who talk to the daemon."""
        for command, handler in (
            ("PUT", self.put),
            ("DELETE", self.delete),
            ("GET", self._in_order(self.get)),
            ("LIST", self._in_order(self.list_names)),
            ("FORGET", self._in_order(self.forget)),
            ("DESCRIBE", self._in_order(self.describe)),
            ("EXPORT", self._in_order(self.export)),
            ("LISTEN", self.listen),
            ("HISTORY", self.history),
        ):
            dispatcher.on(f"{PREFIX}{command}")(handler)
        dispatcher.on("STATUS")(self.status)

    # --- writing ----------------------------------------------------------------------------------

    def put(self, message: Message, peer: Any) -> Message | None:
        """Sets a value: UPDATED with a ``reason``, or INVALID."""
        try:
            name, value = message["name"], message["value"]
            priority = message.integer("priority", ADMINISTRATOR)
            timestamp = message.timespec("timestamp", None)
        except MessageError as error:
            return self._refuse(message, peer, error)
        who = self.who(message, peer)

        def answer(update: Update) -> Message:
            self.counts[f"put {update.reason}"] += 1
            fields = {"name": update.name, "reason": update.reason}
            return message.reply(f"{PREFIX}UPDATED", fields)

        try:
            known = canonical(name)
            check_priority(priority)
            try:
                self.store.definition(known).check(value)
            except SettingError as error:
                shown = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}..."
                told = f'put named setting "{known}" to value "{shown}" failed: {error}'
                unknown = isinstance(error, UnknownSettingError)
                why = str(error) if unknown else f"a value of {known} is none of its definition's"
                return self._refuse(message, peer, why, told)
        except SettingError as error:
            return self._refuse(message, peer, error)

        def begin(done: Done) -> None:
            self.store.put_soon(known, value, priority, timestamp, who, done)

        return self._write(message, peer, begin, answer)

    def delete(self, message: Message, peer: Any) -> Message | None:
        """Deletes the value of a priority: DELETED, with a ``message`` when there was none."""
        try:
            name = message["name"]
            priority = message.integer("priority", ADMINISTRATOR)
        except MessageError as error:
            return self._refuse(message, peer, error)
        who = self.who(message, peer)

        def answer(deleted: bool) -> Message:
            self.counts["deleted" if deleted else "nothing deleted"] += 1
            fields = {"name": canonical(name)}
            if not deleted:
                fields["message"] = "nothing was deleted"
            return message.reply(f"{PREFIX}DELETED", fields)

        return self._write(
            message,
            peer,
            lambda done: self.store.delete_soon(name, priority, who, done),
            answer,
        )

    def _write(
        self, message: Message, peer: Any, begin: Callable[[Done], None], answer: _Answer
    ) -> Message | None:
        """Begins a write; answers when it is done."""
        key = self._key(message, peer)
        waits = (
            not isinstance(peer, MessageConnection)
            or peer.is_full
            or self._pending.get(key, 0) >= MAX_PENDING
        )
        result: AsyncResult[Message] = AsyncResult()

        def done(found: Any, error: EdgeventError | None) -> None:
            if error is None:
                reply = answer(found)
            else:
                self.counts["failed"] += 1
                reply = self._invalid(message, error)
            if waits:
                result.set(reply)
            else:
                broadcast((peer,), reply)
            self._end(key, peer)

        try:
            begin(done)
        except (SettingError, ClosedError) as error:
            return self._refuse(message, peer, error)
        self._begin(key, peer)
        return result.get() if waits else None

    def _begin(self, key: _Key, peer: Any) -> None:
        self._pending[key] = self._pending.get(key, 0) + 1
        if isinstance(peer, SettingsPeer):
            peer.pending += 1

    def _end(self, key: _Key, peer: Any) -> None:
        left = self._pending[key] - 1
        if left:
            self._pending[key] = left
        else:
            del self._pending[key]
        if isinstance(peer, SettingsPeer):
            peer.answered()

    # --- reading ----------------------------------------------------------------------------------

    def get(self, message: Message, peer: Any) -> Message:
        """Tells a value: VALUE, DEFAULT_VALUE, ALL_VALUES or NOT_SET."""
        shown = message["name"]
        name = canonical(shown)
        asks_default = message.boolean("default_value", False)
        asks_all = message.boolean("all", False)
        priority = message.integer("priority", None)
        if asks_default + asks_all + (priority is not None) > 1:
            raise SettingError("default_value, all and priority: at most one was expected")
        if priority is not None and priority != HIGHEST:
            check_priority(priority)
        try:
            default = self.store.get_default(name)
            if asks_all and (entries := self.store.get_all(name)):
                values = ",".join((one.value or "").replace(",", "\\,") for one in entries)
                return self._fitting(message, "ALL_VALUES", name, {"values": values})
            if not (asks_default or asks_all or priority in (None, HIGHEST)):
                value = self.store.get(name, priority)
                if value is None:
                    return self._not_set(message, name, "no value at the requested priority")
                return self._found(message, "VALUE", name, value)
            current = None if asks_default else self.store.current(name)
        except UnknownSettingError as error:
            return self._not_set(message, name, str(error))
        if current is not None and current.value is not None:
            return self._found(message, "VALUE", name, current.value)
        if default is not None:
            return self._found(message, "DEFAULT_VALUE", name, default)
        return self._not_set(message, name, _NOT_SET)

    def _found(self, message: Message, command: str, name: str, value: str) -> Message:
        return message.reply(f"{PREFIX}{command}", {"name": name, "value": value})

    def _not_set(self, message: Message, name: str, why: str) -> Message:
        return message.reply(f"{PREFIX}NOT_SET", {"name": name, "error": why})

    def _fitting(
        self, message: Message, command: str, name: str, fields: dict[str, str]
    ) -> Message:
        reply = message.reply(f"{PREFIX}{command}", {"name": name, **fields})
        if len(reply.to_line()) > _ROOM:
            return self._not_set(message, name, "its values do not fit one message")
        return reply

    def list_names(self, message: Message, peer: Any) -> Message:
        """Names the settings; ``more`` says from which number on a further LIST has the rest."""
        start = message.integer("start", 0)
        options, after = _join(self.store.names(), start, ",")
        more = {"more": after} if after else {}
        return message.reply(f"{PREFIX}OPTIONS", {"options": options, **more})

    def export(self, message: Message, peer: Any) -> Message:
        """Gives all values as lines of the C++ daemon's file; ``more`` as of LIST."""
        start = message.integer("start", 0)
        lines = [write_line(one) for one in self.store.entries() if one.value is not None]
        text, after = _join(lines, start, "\n")
        more = {"more": after} if after else {}
        return message.reply(f"{PREFIX}LINES", {"lines": text, **more})

    def describe(self, message: Message, peer: Any) -> Message:
        """Tells all that is known of a setting."""
        definition = self.store.definition(message["name"])
        kind = definition.validator.text or ("" if definition.type == "string" else definition.type)
        return write_description(
            message,
            Described(
                definition.name,
                kind,
                definition.help,
                definition.default,
                definition.required,
                tuple(self.store.get_all(definition.name)),
            ),
        )

    def history(self, message: Message, peer: Any) -> Message | None:
        """Tells the changes of a setting, the last one first; it waits for the file."""
        self._wait_for_writes(message, peer)
        try:
            limit = max(1, min(message.integer("limit", 100), MAX_HISTORY))
            found = self.store.history(message["name"], limit)
            name = self.store.definition(message["name"]).name
        except (SettingError, SettingsStoreError, MessageError) as error:
            return self._refuse(message, peer, error)
        return write_changes(message, name, [one.entry for one in found])

    # --- listening --------------------------------------------------------------------------------

    def listen(self, message: Message, peer: Any) -> Message | None:
        """Somebody wants to know of changes: he is told the values as they are, and READY.

        The values may be more than may wait for him: it goes on as he reads them.
        """
        self._wait_for_writes(message, peer)
        try:
            listener = self._listener(message, peer)
            names = self._names(message)
            is_new = self.listeners.add(listener, names)
        except (SettingError, MessageError) as error:
            return self._refuse(message, peer, error)
        fields = {} if is_new else {"message": "already registered"}
        # Of the answers the last one has the serial: then all values are told.
        head = message.without_parameters("serial")
        missing = 0
        try:
            peer.send(head.reply(f"{PREFIX}REGISTERED", fields))
            for name in names:
                first = first_value(self.store, name)
                missing += "error" in first
                peer.send(first.with_target(message.sent_from_server, message.sent_from_service))
        except NetworkError as error:
            logger.info("%s: not all values could be sent: %s", peer.name, error)
            return None
        return message.reply(f"{PREFIX}READY", {"errcnt": missing} if missing else {})

    def forget(self, message: Message, peer: Any) -> Message:
        """Somebody does not want to know it any more."""
        names = self._names(message)
        did = self.listeners.remove(self._listener(message, peer), names)
        fields = {"names": ",".join(names)}
        if not did:
            fields["message"] = "not listening"
        return message.reply(f"{PREFIX}FORGET", fields)

    def status(self, message: Message, peer: Any) -> None:
        """communicatord tells of a service that is gone: it does not listen any more."""
        if peer in self.routers and message.get("status") == "down":
            server = message.get("server_name") or message.get("server") or ""
            self.listeners.forget(peer, server, message.get("service", ""))

    def _names(self, message: Message) -> list[str]:
        found = [one.strip() for one in message["names"].split(",")]
        names = list(dict.fromkeys(canonical(one) for one in found if one))
        if not names:
            raise SettingError("names: at least one name was expected")
        return names

    def _listener(self, message: Message, peer: Any) -> Listener:
        if not isinstance(peer, MessageConnection):
            raise SettingError("to listen needs a stream, and this came by a datagram")
        server, service = message.sent_from_server, message.sent_from_service
        if peer in self.routers:
            if not server or not service:
                raise SettingError("who listens? The message has no sender")
            return Listener(peer, server, service)
        return Listener(peer, server, service) if service else Listener(peer, "", "")

    # --- answering --------------------------------------------------------------------------------

    def _in_order(
        self, make: Callable[[Message, Any], Message | None]
    ) -> Callable[[Message, Any], Message | None]:
        """Has a handler run after the writes that the same sender has begun."""

        def handle(message: Message, peer: Any) -> Message | None:
            key = self._key(message, peer)
            if key not in self._pending:
                try:
                    return make(message, peer)
                except (SettingError, MessageError) as error:
                    return self._refuse(message, peer, error)

            def done(found: Any, error: EdgeventError | None) -> None:
                try:
                    reply = make(message, peer)
                except (SettingError, MessageError) as refused:
                    self.counts["refused"] += 1
                    reply = self._invalid(message, refused)
                if reply is not None:
                    self._tell(peer, reply)
                self._end(key, peer)

            self._begin(key, peer)
            self.store.after_writes(done)
            return None

        handle.__qualname__ = make.__qualname__
        return handle

    def _wait_for_writes(self, message: Message, peer: Any) -> None:
        """Waits for the writes that the same sender has begun."""
        if self._key(message, peer) in self._pending:
            written: AsyncResult[None] = AsyncResult()
            self.store.after_writes(lambda found, error: written.set())
            written.wait()

    def _key(self, message: Message, peer: Any) -> _Key:
        return id(peer), message.sent_from_server, message.sent_from_service

    def _tell(self, peer: Any, message: Message) -> None:
        # Not by send(), which may wait: it is called where nothing may.
        if isinstance(peer, MessageConnection):
            broadcast((peer,), message)
        else:
            peer.send(message)

    def _refuse(
        self, message: Message, peer: Any, why: EdgeventError | str, told: str = ""
    ) -> Message | None:
        """Answers INVALID, after what the same sender is still to be answered.

        Args:
            why: What the log says: never a value.
            told: What the sender is told in its place.
        """
        self.counts["refused"] += 1
        logger.warning("%s: refused %s: %s", peer.name, message.command, why)
        answer = self._invalid(message, told or str(why))
        key = self._key(message, peer)
        if key in self._pending:

            def done(found: Any, none: EdgeventError | None) -> None:
                self._tell(peer, answer)
                self._end(key, peer)

            self._begin(key, peer)
            self.store.after_writes(done)
            return None
        if peer.answers_errors:
            self._tell(peer, answer)
        return None

    def _invalid(self, message: Message, why: EdgeventError | str) -> Message:
        return message.reply("INVALID", {"command": message.command, "message": str(why)})

    def who(self, message: Message, peer: Any) -> str:
        """Names who has sent a message, for the history."""
        claimed = ":".join(filter(None, (message.sent_from_server, message.sent_from_service)))
        if peer in self.routers and claimed:
            return claimed
        credentials = getattr(peer, "credentials", None)
        uid = getattr(credentials, "uid", None)
        where = f"uid {uid}" if uid is not None else str(getattr(peer, "address", "") or peer.name)
        return f"{claimed} ({where})" if claimed else where


def _join(parts: list[str], start: int, between: str) -> tuple[str, int]:
    """Joins what fits one message; returns it, and the number of the first that does not, or 0."""
    size = 0
    found: list[str] = []
    for number in range(max(start, 0), len(parts)):
        # What is escaped on the line is so at most to twice its size.
        size += 2 * len(parts[number].encode("utf-8")) + 2
        if size > _ROOM and found:
            return between.join(found), number
        found.append(parts[number])
    return between.join(found), 0
