"""Takes records of all senders, writes what has come together, and acknowledges what is written."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Final, NamedTuple, Protocol
from zlib import crc32

from ..message import Message
from ..runtime.turns import Turns
from .collected import Collected, Source, own_record
from .durable import Durable
from .protocol import LOG_ACKNOWLEDGE
from .repeats import MAX_NAME, AllRepeats, Repeats
from .repeats_file import RepeatsFile
from .sender_limits import Limits
from .store import Store

logger = logging.getLogger("edgevent.snaplogger")

_TRUE: Final = frozenset({"true", "on", "yes", "1"})
_COUNTED: Final = (
    "records",
    "repeats",
    "filtered",
    "limited",
    "refused",
    "malformed",
    "acknowledged",
)
_TELL_INTERVAL: Final = 10.0  # seconds between two lines about a sender that sends too much
_WARN_INTERVAL: Final = 60.0


class Answering(Protocol):
    """Who is told that records are written."""

    def send_lines(self, lines: Sequence[bytes], /) -> None:
        """Sends lines, each with its newline; never waits and never raises."""

    def send_again(self, lines: Sequence[bytes], /) -> None:
        """Has the sender send the records again that these lines would have acknowledged."""


class Receipt(NamedTuple):
    """What is to be done when a record is written, or will never be."""

    peer: Answering
    line: bytes
    repeats: Repeats | None
    serial: str
    mark: int = 0


class Collector:
    """The middle of the daemon.

    What comes within one pass of the hub is written at its end, by one call for each file, and
    then acknowledged. Nothing here switches greenlets; a disk that is slow makes the thread wait.

    Args:
        store: The files; ``None`` when there are none.
        on_full: Called with True when there is little room left for what waits for a disk, and with
            False when nothing waits any more.

    Attributes:
        counts: How often what happened: ``records``, ``repeats``, ``filtered``, ``limited``,
            ``refused`` (no record), ``malformed`` (no message), ``acknowledged``.
        limits: What each sender may send.
        level: The least level of Python's logging that is written.
        store: The same.
    """

    def __init__(
        self,
        store: Store | None,
        *,
        on_full: Callable[[bool], object] = lambda is_full: None,
    ) -> None:
        self._durable = Durable(self._acknowledge, self._not_durable)
        self.limits = Limits()
        self.level = 0
        self._handlers: list[logging.Handler] = []
        self._on_full = on_full
        self.counts: Counter[str] = Counter()
        self.repeats = AllRepeats()
        self._turns = Turns.current()
        self._receipts: list[Receipt] = []  # of records that go to no file
        self._joined = False
        self._is_closed = False
        self._told = monotonic()
        self._warned = -_WARN_INTERVAL
        self._file: RepeatsFile | None = None  # of what is remembered
        self._use_store(store)

    # --- taking -----------------------------------------------------------------------------------

    def take(self, message: Message, source: Source) -> None:
        """Takes a record, which is written at the end of the pass.

        Raises:
            MessageError: It is none; the sentence says why.
        """
        counts = self.counts
        entry = Collected(message, source)
        counts["records"] += 1
        if entry.is_odd:
            self._warn_of(entry)
        get = entry.get
        serial = get("serial")
        wanted = get("acknowledge")
        wants_receipt = wanted is not None and (wanted == "true" or wanted.lower() in _TRUE)
        repeats: Repeats | None = None
        mark = 0
        if serial is not None:
            instance = get("instance")
            if instance is not None:
                source.can_wait = True
            is_short = len(serial) <= MAX_NAME and len(instance or "") <= MAX_NAME
            if is_short and (instance is not None or not source.keeps_order):
                key = (source.ip, instance) if instance is not None else (source.key, "")
                repeats = self.repeats.of(key)
                mark = _mark(get("timestamp") or "", entry.text)
                if repeats.has(serial, mark):
                    counts["repeats"] += 1
                    if wants_receipt:
                        self._note(entry, self._receipt(entry, None, serial))
                    return
        if self.limits and not self._admits(entry, wants_receipt):
            return
        if entry.level < self.level:
            counts["filtered"] += 1
        elif not self._write(entry):
            if wants_receipt:
                self.refuse(entry.message, source, "there is no room for it")
            return
        if repeats is not None and serial is not None:
            self.repeats.add(repeats, serial, mark)
        if wants_receipt:
            self._note(entry, self._receipt(entry, repeats, serial or "", mark))

    def _write(self, entry: Collected) -> bool:
        store = self.store
        is_taken = True
        if store is not None:
            is_taken = store.add(entry, store.file_of(entry))
        if self._handlers:
            record = entry.as_record()
            for handler in self._handlers:
                handler.handle(record)
        if not self._joined:
            self._joined = True
            self._turns.join(self)
        return is_taken

    def _receipt(
        self, entry: Collected, repeats: Repeats | None, serial: str | None, mark: int = 0
    ) -> Receipt:
        message = entry.message
        if serial and serial.isalnum() and serial.isascii() and not message.sent_from_service:
            line = f"{LOG_ACKNOWLEDGE} serial={serial}\n".encode("ascii")
        else:
            line = message.reply(LOG_ACKNOWLEDGE).to_line()
        return Receipt(entry.source.peer, line, repeats, serial or "", mark)

    def _note(self, entry: Collected, receipt: Receipt) -> None:
        store = self.store
        if store is None or entry.level < self.level:
            self._receipts.append(receipt)
        else:
            file = store.file_of(entry)
            if not file.note(receipt):
                self._send_again([receipt])
            store.wait_for(file)
        if not self._joined:
            self._joined = True
            self._turns.join(self)

    def _admits(self, entry: Collected, wants_receipt: bool) -> bool:
        key = entry.source.key
        why = self.limits.refuse(key, len(entry.text), monotonic())
        if why:
            self.counts["limited"] += 1
            if wants_receipt:
                self.refuse(entry.message, entry.source, f"{key} has sent {why}")
            return False
        dropped, why = self.limits.take_dropped(key, monotonic())
        if dropped:
            self._tell_dropped(key, dropped, why, entry.source)
        return True

    def refuse(self, message: Message, source: Source, why: str) -> None:
        """Tells a sender that a record will never be written."""
        fields = {"command": message.command, "message": why}
        source.peer.send_lines([message.reply("INVALID", fields).to_line()])

    def _tell_dropped(self, key: str, dropped: int, why: str, source: Source | None = None) -> None:
        count = "1 log record" if dropped == 1 else f"{dropped} log records"
        text = f"dropped {count} of {key}: {why}"
        logger.warning("%s", text)
        self._write(own_record(text, source))

    def _warn_of(self, entry: Collected) -> None:
        now = monotonic()
        if now >= self._warned + _WARN_INTERVAL:
            self._warned = now
            severity = str(entry.get("severity"))[:64]
            logger.warning("%s: %a is no severity: error is taken", entry.source.address, severity)

    # --- writing ----------------------------------------------------------------------------------

    def flush(self) -> None:
        """Writes what has come, and acknowledges it; called at the end of a pass."""
        self._joined = False
        try:
            self._flush()
        except Exception as error:
            self._turns.failed(error)

    def _flush(self, *, now: bool = False) -> None:
        receipts, self._receipts = self._receipts, []
        store = self.store
        if store is not None:
            for file in store.write(now=now):
                own = list(file.receipts())
                self._remember(own)
                if store.settings.sync:
                    self._durable.add(file, own)
                else:
                    receipts.extend(own)
        self._acknowledge(receipts)
        self._durable.start()
        if store is not None:
            settings = store.settings
            if not settings.waiting_bytes:
                self._on_full(False)
            elif settings.waiting_bytes > settings.kept_bytes // 2:
                self._on_full(True)

    def _acknowledge(self, receipts: Iterable[Receipt]) -> None:
        lines: dict[Answering, list[bytes]] = {}
        for peer, line, *_ in receipts:
            try:
                lines[peer].append(line)
            except KeyError:
                lines[peer] = [line]
        for peer, own in lines.items():
            self.counts["acknowledged"] += len(own)
            peer.send_lines(own)

    def _remember(self, receipts: list[Receipt]) -> None:
        if receipts and self._file is not None:
            self._file.add(receipts)

    def _not_durable(self, receipts: Iterable[Receipt]) -> None:
        """What may not be durable stands in the files, and will come once more."""
        found = list(receipts)
        count = "1 log record" if len(found) == 1 else f"{len(found)} log records"
        if not self._is_closed:
            self._write(own_record(f"{count} before may not be durable, and may come once more"))
        self._forget(found)

    def _forget(self, receipts: list[Receipt]) -> None:
        """What came to nothing is sent again, and taken for new then."""
        if not receipts:
            return
        for receipt in receipts:
            if receipt.repeats is not None:
                self.repeats.forget(receipt.repeats, receipt.serial)
        if self._file is not None:
            self._file.forget(receipts)
        self._send_again(receipts)

    def _send_again(self, receipts: list[Receipt]) -> None:
        lines: dict[Answering, list[bytes]] = {}
        for receipt in receipts:
            lines.setdefault(receipt.peer, []).append(receipt.line)
        for peer, own in lines.items():
            peer.send_again(own)

    def look(self) -> None:
        """Tries again what did not work, and tells of senders that sent too much; each second."""
        now = monotonic()
        if now >= self._told + _TELL_INTERVAL:
            self._told = now
            self.tell_dropped()
        self._flush(now=True)

    def tell_dropped(self) -> None:
        """Writes a line for each sender of which records were dropped."""
        for key, dropped, why in self.limits.all_dropped(monotonic()):
            self._tell_dropped(key, dropped, why)

    def reopen(self) -> bool:
        """Leaves files that were renamed; called for LOG_ROTATE."""
        if self.store is not None:
            self._flush(now=True)
            self.store.reopen()
        return True

    def exchange(self, store: Store | None) -> None:
        """Writes to other files from now on."""
        former = self.store
        self._use_store(store)
        if former is not None:
            self._close(former)

    def _use_store(self, store: Store | None) -> None:
        self.store = store
        if store is not None:
            store.settings.not_durable = self._durable.doubt
        former = self._file
        folder = None if store is None else store.folder
        if former is not None and former.folder == folder:
            return
        if former is not None:
            former.close()
        self._file = None if folder is None else RepeatsFile(folder, self.repeats)
        if self._file is not None:
            self._file.load()

    def all_counts(self) -> dict[str, int]:
        """Gives all that is counted, by name."""
        found = {name: self.counts[name] for name in _COUNTED}
        return found if self.store is None else {**found, **self.store.counts()}

    def wait(self) -> None:
        """Waits until what is written is durable, where that is asked for; switches greenlets."""
        self._flush(now=True)
        self._durable.wait()

    def use_limits(self, limits: Limits) -> None:
        """Has senders keep to other limits from now on."""
        self.tell_dropped()
        self.limits = limits

    def use_handlers(self, handlers: Iterable[logging.Handler]) -> None:
        """Gives records to these handlers of the standard library's as well, from now on."""
        for handler in self._handlers:
            handler.close()
        self._handlers = list(handlers)

    def close(self) -> None:
        """Writes what waits for the last time, and says what is lost."""
        self.tell_dropped()
        self._is_closed = True
        if self.store is not None:
            self._close(self.store)
        if self._file is not None:
            self._file.close()
        self.use_handlers(())

    def _close(self, store: Store) -> None:
        receipts = [receipt for file in store.write(now=True) for receipt in file.receipts()]
        self._remember(receipts)
        self._forget(store.close())
        if self._durable.is_in_doubt:
            self._forget(receipts)
        else:
            self._acknowledge(receipts)
        self._durable.start()


def _mark(timestamp: str, text: str) -> int:
    """Gives what tells records of one serial apart; it is the same in every process."""
    errors = "surrogatepass"
    return crc32(text.encode("utf-8", errors), crc32(timestamp.encode("utf-8", errors)))
