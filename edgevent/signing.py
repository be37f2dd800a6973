"""What a datagram carries to show whose it is: a shared code in the clear, or a signature.

**A shared code** is the C++ library's: the parameter ``secret_code`` holds it as it is. Whoever can
read one datagram can send others.

**A signature** proves that the sender has a key, that nothing was changed on the way, and that the
datagram is not the copy of an earlier one. The sender:

1. adds ``auth_time``, milliseconds since 1970 as a decimal number, and ``auth_nonce``, at least 16
   letters or digits that it never uses twice (here: 16 random bytes in hexadecimal);
2. writes the message in its canonical text form (parameters sorted by name, UTF-8, no newline);
3. computes HMAC-SHA256 (RFC 2104, RFC 6234) of these bytes, with the bytes of the key as they stand
   in its file;
4. adds the result as ``auth_signature``, 64 lower-case hexadecimal digits, and sends the message.

The receiver takes ``auth_signature`` off, writes what is left in its canonical form, and compares.
It accepts times that are at most 30 seconds away from its own, and no signature twice. What the
handler sees has none of the three parameters, nor the secret code. A server also refuses what was
signed before it started: the process before it may have received it already.

A signature says nothing of who is meant: within those 30 seconds, what was sent to one receiver is
accepted once by every other one that has the same key.
"""

from __future__ import annotations

import hmac
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from .errors import MessageError, SigningKeyError, no_message
from .limits import (
    MAX_SIGNATURES,
    MAX_SIGNING_KEYS,
    MIN_SIGNING_KEY_BYTES,
    SIGNATURE_WINDOW,
)
from .message import Message

logger = logging.getLogger("edgevent")

SECRET_CODE: Final = "secret_code"
TIME: Final = "auth_time"
NONCE: Final = "auth_nonce"
SIGNATURE: Final = "auth_signature"

_PROOFS: Final = (SIGNATURE, TIME, NONCE)
_MAX_FILE_BYTES: Final = 64 * 1024
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_MILLISECONDS: Final = re.compile(r"[0-9]{1,15}", re.ASCII)
_NONCE: Final = re.compile(r"[0-9A-Za-z]{16,64}", re.ASCII)
_KEPT_BYTES: Final = 16  # of a signature: more than enough to tell two of them apart


class SigningKeys:
    """The keys that datagrams are signed and verified with.

    Args:
        keys: At least one, of 16 bytes or more each; text stands for its UTF-8 bytes. The first
            one signs, all of them verify: during a change, put the new key behind the old one at
            every receiver, then in front of it at every sender, then take the old one away.

    Raises:
        SigningKeyError: There is none, there are more than 8, or one is too short.
    """

    __slots__ = ("_keys",)

    def __init__(self, *keys: bytes | str) -> None:
        self._keys = tuple(key.encode() if isinstance(key, str) else bytes(key) for key in keys)
        if not 1 <= len(keys) <= MAX_SIGNING_KEYS:
            raise SigningKeyError(f"{len(keys)} keys: 1 to {MAX_SIGNING_KEYS} were expected")
        for number, key in enumerate(self._keys, 1):
            if len(key) < MIN_SIGNING_KEY_BYTES:
                raise SigningKeyError(
                    f"key {number} has {len(key)} bytes: at least {MIN_SIGNING_KEY_BYTES} were"
                    " expected"
                )

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> SigningKeys:
        """Reads keys from a file: one a line, without blanks around it; empty lines are skipped.

        Raises:
            SigningKeyError: The file cannot be read or used, or others than its owner can read it.
        """
        name = os.fspath(path)
        try:
            # Without O_NONBLOCK the open of a FIFO would wait for a writer.
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                mode = os.fstat(descriptor).st_mode
                data = os.read(descriptor, _MAX_FILE_BYTES + 1) if stat.S_ISREG(mode) else b""
            finally:
                os.close(descriptor)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise SigningKeyError(f"{name!r}: {why}") from error
        if not stat.S_ISREG(mode):
            raise SigningKeyError(f"{name!r}: a regular file was expected")
        if mode & _OTHERS:
            raise SigningKeyError(
                f"{name!r}: others can read or change it (mode {stat.S_IMODE(mode):04o}); 0600 was"
                " expected"
            )
        if len(data) > _MAX_FILE_BYTES:
            raise SigningKeyError(f"{name!r}: {_MAX_FILE_BYTES} bytes at most were expected")
        try:
            return cls(*filter(None, map(bytes.strip, data.splitlines())))
        except SigningKeyError as error:
            raise SigningKeyError(f"{name!r}: {error}") from None

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        """Says how many there are, and shows none."""
        return f"<SigningKeys {len(self._keys)} keys>"

    def sign(self, text: bytes) -> str:
        """Returns the signature of a canonical text, with the first key."""
        return hmac.digest(self._keys[0], text, "sha256").hex()

    def verify(self, text: bytes, signature: str) -> bool:
        """Whether it is the signature of a canonical text with any of the keys."""
        given = signature.encode("utf-8", "surrogateescape")
        found = False
        for key in self._keys:  # all of them: the time must not tell which one it was
            expected = hmac.digest(key, text, "sha256").hex().encode()
            found |= hmac.compare_digest(expected, given)
        return found


class Dates(Protocol):
    """The clock that a guard asks."""

    @property
    def now(self) -> Callable[[], float]:
        """The monotonic time in seconds."""

    @property
    def date(self) -> Callable[[], float]:
        """The date in seconds since 1970."""


class _SystemDates:
    now = staticmethod(time.monotonic)
    date = staticmethod(time.time)


class ReplayCache:
    """The signatures that were seen, for as long as their time is inside the window.

    Args:
        most: So many are kept; when it is full it takes no more, rather than forget one.
        window: Seconds that a time may be off.
        dates: Which clock says what time it is.
    """

    __slots__ = ("_dates", "_most", "_pruned", "_seconds", "_window", "count")

    def __init__(self, most: int, window: float, dates: Dates) -> None:
        self._most = most
        self._window = window
        self._dates = dates
        # To each second of which there were some: the signatures, and when they may be forgotten.
        self._seconds: dict[int, tuple[set[bytes], list[float]]] = {}
        self._pruned = float("-inf")
        self.count = 0

    def add(self, signature: bytes, at: float) -> bool | None:
        """Takes note of a signature.

        Args:
            signature: Its first bytes.
            at: The date in it, inside the window.

        Returns:
            False when it was there already, ``None`` when there is no room for it.
        """
        now, date = self._dates.now(), self._dates.date()
        if now - self._pruned >= 1.0 or self.count >= self._most:
            self._prune(now, date)
        entry = self._seconds.get(int(at))
        if entry is not None and signature in entry[0]:
            return False
        if self.count >= self._most:
            return None
        if entry is None:
            entry = self._seconds[int(at)] = (set(), [now])
        entry[0].add(signature)
        # The date may be set forward and back again: the monotonic time has to pass as well.
        entry[1][0] = max(entry[1][0], now + at + 1.0 + self._window - date)
        self.count += 1
        return True

    def _prune(self, now: float, date: float) -> None:
        self._pruned = now
        for second, (signatures, until) in tuple(self._seconds.items()):
            if second + 1.0 + self._window < date and until[0] < now:
                self.count -= len(signatures)
                del self._seconds[second]


class Opened(NamedTuple):
    """What a guard makes of a datagram.

    Attributes:
        message: The message without what proved its sender; ``None`` when it is to be dropped.
        authenticated: Whether the sender has proved that it knows the code or a key.
        reason: Why it is dropped, one of :data:`REASONS`, or an empty string.
    """

    message: Message | None
    authenticated: bool
    reason: str


REASONS: Final = {
    "malformed": "it is no message",
    "unsigned": "it has no signature",
    "forged": "its signature is wrong",
    "expired": "its time is off, or before this start",
    "replayed": "it was received before",
    "too_many": "more signed ones came than can be remembered",
    "no_secret": "it has no secret code",
    "wrong_secret": "its secret code is wrong",
}
"""Why a datagram is dropped, to each reason a sentence."""


class Guard:
    """Writes messages so that they prove their sender, and judges those that come.

    Args:
        secret_code: The code in the clear that the C++ side knows; empty for none.
        auth: The keys of signatures, or the path of their file. Where there are some, nothing
            that is not signed is accepted, whatever code it has.
        window: Seconds that the time of a signed message may be off.
        max_signatures: So many signatures of the window are remembered.
        only_new: Whether what was signed before this guard was made is refused.
        dates: Which clock says what time it is.
        name: Whose name stands in the log line about a code that is not asked for.

    Raises:
        SigningKeyError: The file of keys cannot be used.
    """

    __slots__ = (
        "_code",
        "_dates",
        "_keys",
        "_replays",
        "_secret",
        "_start",
        "_warned",
        "name",
        "window",
    )

    def __init__(
        self,
        *,
        secret_code: str | None = None,
        auth: SigningKeys | str | os.PathLike[str] | None = None,
        window: float = SIGNATURE_WINDOW,
        max_signatures: int = MAX_SIGNATURES,
        only_new: bool = False,
        dates: Dates = _SystemDates,
        name: str = "datagrams",
    ) -> None:
        self._secret = secret_code or ""
        self._code = self._secret.encode("utf-8", "surrogateescape")
        if auth is not None and not isinstance(auth, SigningKeys):
            auth = SigningKeys.read(auth)
        self._keys = auth
        self._dates = dates
        self._replays = ReplayCache(max_signatures, window, dates)
        self._start = int(dates.date() * 1000) / 1000 if only_new else float("-inf")
        self._warned = False
        self.window = window
        self.name = name

    def rekey(self, keys: SigningKeys) -> None:
        """Takes other keys in place of those that it has."""
        self._keys = keys

    @property
    def asks(self) -> bool:
        """Whether a sender has to prove itself."""
        return self._keys is not None or self._secret != ""

    def seal(self, message: Message) -> bytes:
        """Returns the datagram for a message. Two of the same message are not the same.

        Raises:
            MessageError: It has too many parameters for what is to be added.
            UsageError: It is no message.
        """
        if not isinstance(message, Message):
            raise no_message(message)
        if self._secret:
            message = message.with_parameters({SECRET_CODE: self._secret})
        if self._keys is None:
            return bytes(message)
        date = self._dates.date()
        fields = {TIME: str(int(date * 1000)), NONCE: secrets.token_hex(16)}
        message = message.without_parameters(SIGNATURE).with_parameters(fields)
        signature = self._keys.sign(bytes(message))
        # One's own message is no answer to it, if somebody sends it back.
        self._replays.add(bytes.fromhex(signature)[:_KEPT_BYTES], int(date * 1000) / 1000)
        return bytes(message.with_parameters({SIGNATURE: signature}))

    def open(self, data: bytes) -> Opened:
        """Reads a datagram, and judges who sent it. Never raises."""
        try:
            message = Message.parse(data)
        except MessageError:
            return Opened(None, False, "malformed")
        if self._keys is not None:
            reason = self._judge_signature(message)
            if reason:
                return Opened(None, False, reason)
        if self._secret:
            given = message.get(SECRET_CODE)
            if given is None:
                return Opened(None, False, "no_secret")
            if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._code):
                return Opened(None, False, "wrong_secret")
        elif self._keys is None:
            if SECRET_CODE in message or SIGNATURE in message:
                self._warn()
                message = message.without_parameters(SECRET_CODE, *_PROOFS)
            return Opened(message, False, "")
        return Opened(message.without_parameters(SECRET_CODE, *_PROOFS), True, "")

    def _judge_signature(self, message: Message) -> str:
        assert self._keys is not None
        signature, at, nonce = map(message.get, _PROOFS)
        if signature is None or at is None or nonce is None:
            return "unsigned"
        if not _MILLISECONDS.fullmatch(at) or not _NONCE.fullmatch(nonce):
            return "forged"
        if not self._keys.verify(bytes(message.without_parameters(SIGNATURE)), signature):
            return "forged"
        date = int(at) / 1000
        if abs(date - self._dates.date()) > self.window or date < self._start:
            return "expired"
        added = self._replays.add(bytes.fromhex(signature)[:_KEPT_BYTES], date)
        return "" if added else "too_many" if added is None else "replayed"

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "%s: a secret code or a signature came, and none is asked for here", self.name
            )
