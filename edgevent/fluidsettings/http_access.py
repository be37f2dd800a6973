"""Who may do what on the web page: hosts, the token, sessions, and forms of other pages.

A page of another site can have a browser send requests here, and a name that it owns may stand for
127.0.0.1 (DNS rebinding). So the ``Host`` must be one that this side knows, and what changes
something must come from a page of this side: by the session's own mark in the form, and by what
the browser says of the request (``Origin``, RFC 6454; ``Sec-Fetch-Site``, W3C Fetch Metadata).
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final

COOKIE: Final = "fluid_settings"
MAX_SESSIONS: Final = 100
SESSION_TIME: Final = 12 * 3600.0
"""How long a session lasts, in seconds."""
MAX_FAILURES: Final = 10
"""So many wrong tokens a minute are looked at."""

_LOCAL: Final = frozenset(("localhost", "127.0.0.1", "[::1]"))
_OWN: Final = ("same-origin", "none")
_MAX_NAME: Final = 64
_MINUTE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who has shown the token.

    Attributes:
        id: What his cookie holds.
        mark: What his forms hold.
        name: How he calls himself.
        until: When it ends.
    """

    id: str
    mark: str
    name: str
    until: float


class Access:
    """What is asked of requests.

    Args:
        token: What must be shown by those who change something; empty when nobody may.
        hosts: Further names of this side, in the ``Host`` of requests.
        now: A clock, in seconds.
    """

    def __init__(
        self, token: str, hosts: Iterable[str] = (), now: Callable[[], float] = time.monotonic
    ) -> None:
        self.token = token
        self._hosts = _LOCAL | {host.lower() for host in hosts}
        self._now = now
        self._sessions: dict[str, Session] = {}
        self._failures: deque[float] = deque(maxlen=MAX_FAILURES)

    @property
    def may_write(self) -> bool:
        """Whether there is a token at all."""
        return bool(self.token)

    def knows_host(self, host: str) -> bool:
        """Whether a ``Host`` is one of this side's names, with any port."""
        name, colon, port = host.lower().rpartition(":")
        if not colon or not (port.isascii() and port.isdecimal()):
            name = host.lower()
        return name in self._hosts

    def is_own_request(self, environment: dict[str, Any]) -> bool:
        """Whether a request that changes something is of this side's own pages, or of no page."""
        if environment.get("HTTP_SEC_FETCH_SITE", "none") not in _OWN:
            return False
        origin = environment.get("HTTP_ORIGIN")
        if origin is None:
            return True
        scheme, _, host = origin.partition("://")
        return scheme in ("http", "https") and host == environment.get("HTTP_HOST", "")

    # --- the token --------------------------------------------------------------------------------

    def is_token(self, given: str) -> bool | None:
        """Whether a text is the token; ``None`` when too many were not, a while ago."""
        now = self._now()
        full = len(self._failures) == MAX_FAILURES
        if full and now - self._failures[0] < _MINUTE:
            return None
        if self.token and hmac.compare_digest(_bytes(given), _bytes(self.token)):
            return True
        self._failures.append(now)
        return False

    def log_in(self, name: str) -> Session:
        """Makes the session of somebody who has shown the token; the oldest one goes."""
        self._drop_old()
        while len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        found = Session(
            secrets.token_urlsafe(24),
            secrets.token_urlsafe(24),
            "".join(one for one in name[:_MAX_NAME] if one.isprintable()),
            self._now() + SESSION_TIME,
        )
        self._sessions[found.id] = found
        return found

    def log_out(self, session: Session) -> None:
        """Ends a session."""
        self._sessions.pop(session.id, None)

    def session_of(self, environment: dict[str, Any]) -> Session | None:
        """Gives the session of a request, if there is one."""
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(environment.get("HTTP_COOKIE", ""))
        except CookieError:
            return None
        morsel = cookies.get(COOKIE)
        self._drop_old()
        return None if morsel is None else self._sessions.get(morsel.value)

    def has_mark(self, session: Session, form: dict[str, str]) -> bool:
        """Whether a form is one that was made for this session."""
        return hmac.compare_digest(_bytes(form.get("mark", "")), _bytes(session.mark))

    def bearer(self, environment: dict[str, Any]) -> str | None:
        """Gives the token of a program's request (RFC 6750), if it has one."""
        kind, _, token = environment.get("HTTP_AUTHORIZATION", "").partition(" ")
        return token.strip() if kind.lower() == "bearer" else None

    def _drop_old(self) -> None:
        now = self._now()
        for session in tuple(self._sessions.values()):
            if session.until > now:
                break  # they are in the order in which they end
            del self._sessions[session.id]


def cookie_of(session: Session | None) -> tuple[str, str]:
    """Makes the header that sets a session's cookie, or with ``None`` takes it away."""
    value, age = ("", 0) if session is None else (session.id, int(SESSION_TIME))
    text = f"{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}"
    return ("Set-Cookie", text)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
