"""The web page of the daemon: all settings, who has set them, and a form to change them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

from ..address import Address
from ..errors import SettingError, SettingsStoreError, UnknownSettingError
from . import page
from .described import entry_fields
from .http_access import Access, Session, cookie_of
from .http_events import Events, Stream
from .http_server import UNLIMITED, Environment, HttpServer, StartResponse
from .names import ADMINISTRATOR
from .page_files import SCRIPT, STYLE
from .store import Store

logger = logging.getLogger("edgevent.fluidsettings.http")

MAX_BODY: Final = 256 * 1024
"""The longest form, in bytes: a value of 16 KiB, three bytes for each of its own, and more."""
MAX_FIELDS: Final = 20
HISTORY: Final = 20
"""So many changes of a setting are shown."""

_SAFE: Final = (
    ("Cache-Control", "no-store"),
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';"
        " img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
_REASONS: Final = {
    200: "OK",
    303: "See Other",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    411: "Length Required",
    413: "Content Too Large",
    421: "Misdirected Request",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_NOTHING: Final = "there is nothing of this kind here"
_HTML: Final = "text/html; charset=utf-8"
_FORM: Final = "application/x-www-form-urlencoded"


class _Refused(Exception):
    """A request is not answered as it wants."""

    def __init__(self, status: int, why: str, methods: Iterable[str] = ()) -> None:
        super().__init__(why)
        self.status = status
        self.methods = list(methods)


@dataclass(slots=True)
class _Request:
    environment: Environment
    query: dict[str, str] = field(default_factory=dict)
    form: dict[str, str] = field(default_factory=dict)
    session: Session | None = None
    is_program: bool = False  # it has the token itself, and no session


@dataclass(slots=True)
class _Answer:
    body: str | Stream
    status: int = 200
    kind: str = _HTML
    headers: list[tuple[str, str]] = field(default_factory=list)


class WebPage:
    """Serves the page.

    Args:
        store: The settings.
        address: Where; see :class:`HttpServer`.
        token: What those must show who change something; without one nobody can.
        hosts: Further names by which browsers know this side, such as that of a proxy before it.
        allow_remote: Whether the address may be another one than this computer's own.

    Raises:
        ListenError: It cannot listen there.

    Attributes:
        addresses: Where it listens.
        events: The pages that are open.
    """

    def __init__(
        self,
        store: Store,
        address: Address,
        *,
        token: str = "",
        hosts: Iterable[str] = (),
        allow_remote: bool = False,
    ) -> None:
        self._store = store
        self._server = HttpServer(address, self._answer, allow_remote=allow_remote)
        self.addresses = self._server.addresses
        names = [*hosts, *([] if address.is_unix or address.is_any else [_host_of(address)])]
        self._access = Access(token, names)
        self.events = Events(store)
        self._routes: dict[tuple[str, str], Callable[[_Request], _Answer]] = {
            ("GET", "/"): self._overview,
            ("GET", "/setting"): self._setting,
            ("GET", "/row"): self._row,
            ("GET", "/state"): self._state,
            ("GET", "/events"): self._events,
            ("GET", "/settings.json"): self._json,
            ("GET", "/style.css"): lambda request: _Answer(STYLE, kind="text/css; charset=utf-8"),
            ("GET", "/script.js"): lambda request: _Answer(
                SCRIPT, kind="text/javascript; charset=utf-8"
            ),
            ("GET", "/login"): self._login_page,
            ("POST", "/login"): self._login,
            ("POST", "/logout"): self._logout,
            ("POST", "/set"): self._set,
        }

    def start(self) -> None:
        """Begins to answer."""
        self._server.start()
        for address in self.addresses:
            logger.info("the web page is at %s", address)
        if not self._access.may_write:
            logger.info("the web page is for reading only: there is no --http-token-file")

    def close(self) -> None:
        """Ends it, and all connections. Idempotent; may switch greenlets."""
        self.events.close()
        self._server.close()

    # --- a request and its answer -----------------------------------------------------------------

    def _answer(self, environment: Environment, start_response: StartResponse) -> Iterable[bytes]:
        headers: list[tuple[str, str]] = []
        try:
            answer = self._find_answer(environment)
        except _Refused as error:
            if error.methods:  # RFC 9110, section 15.5.6
                headers.append(("Allow", ", ".join(error.methods)))
            if environment["REQUEST_METHOD"] == "POST":
                # Its body may not have been read: the connection is of no use any more.
                environment["wsgi.input"].content_length = 0
                environment["wsgi.input"].chunked_input = False
                headers.append(("Connection", "close"))
            answer = _Answer(f"{error}\n", error.status, "text/plain; charset=utf-8")
        except SettingsStoreError as error:
            answer = _Answer(f"{error}\n", 500, "text/plain; charset=utf-8")
        headers += [*answer.headers, *_SAFE, ("Content-Type", answer.kind)]
        status = f"{answer.status} {_REASONS[answer.status]}"
        body = answer.body
        if isinstance(body, Stream):
            start_response(status, headers)
            return body
        data = body.encode("utf-8", "backslashreplace")
        start_response(status, [*headers, ("Content-Length", str(len(data)))])
        return [b"" if environment["REQUEST_METHOD"] == "HEAD" else data]

    def _find_answer(self, environment: Environment) -> _Answer:
        access = self._access
        if not access.knows_host(environment.get("HTTP_HOST", "")):
            raise _Refused(421, "this is not the host that was asked; see --http-host")
        method, path = environment["REQUEST_METHOD"], environment["PATH_INFO"]
        asked = "GET" if method == "HEAD" else method
        route = self._routes.get((asked, path))
        if route is None:
            methods = [one for one, known in self._routes if known == path]
            raise _Refused(405 if methods else 404, _NOTHING, methods)
        request = _Request(environment, _fields(environment.get("QUERY_STRING", "")))
        request.session = access.session_of(environment)
        if method == "HEAD" and path == "/events":
            raise _Refused(405, _NOTHING, ["GET"])
        if method == "POST":
            if not access.is_own_request(environment):
                raise _Refused(403, "the request does not come from a page of this daemon")
            request.form = _read_form(environment)
        return route(request)

    def _page(
        self, request: _Request, title: str, *body: str, name: str = "", status: int = 200
    ) -> _Answer:
        text = page.whole_page(
            title,
            body,
            session=request.session,
            may_write=self._access.may_write,
            number=self.events.number,
            name=name,
        )
        return _Answer(text, status)

    # --- reading ----------------------------------------------------------------------------------

    def _overview(self, request: _Request) -> _Answer:
        start = request.query.get("start", "0")
        number = int(start) if start.isascii() and start.isdecimal() and len(start) < 9 else 0
        body = page.overview(self._store, request.query.get("namespace", ""), number)
        return self._page(request, "Settings", *body)

    def _setting(self, request: _Request) -> _Answer:
        done = request.query.get("done", "")
        return self._setting_page(request, request.query.get("name", ""), done=done)

    def _setting_page(
        self,
        request: _Request,
        name: str,
        *,
        error: str = "",
        done: str = "",
        value: str | None = None,
        priority: int = ADMINISTRATOR,
    ) -> _Answer:
        store = self._store
        definition = _known(store.definition, name)
        name = definition.name
        body = [page.setting_head(definition)]
        if error:
            body.append(page.error_text(error))
        elif done in _DONE:
            body.append(page.done_text(_DONE[done]))
        if request.session is not None:
            held = store.get(name) or "" if value is None else value
            body.append(page.edit_form(definition, request.session, held, priority))
        body.append(page.state(store, name, store.history(name, HISTORY)))
        return self._page(request, name, *body, name=name, status=422 if error else 200)

    def _row(self, request: _Request) -> _Answer:
        return _Answer(
            _known(lambda name: page.row(self._store, name), request.query.get("name", ""))
        )

    def _state(self, request: _Request) -> _Answer:
        name = _known(self._store.definition, request.query.get("name", "")).name
        return _Answer(page.state(self._store, name, self._store.history(name, HISTORY)))

    def _json(self, request: _Request) -> _Answer:
        store = self._store
        found = []
        for name in store.names():
            definition = store.definition(name)
            found.append(
                {
                    "name": name,
                    "value": store.get(name),
                    "type": page.kind_of(definition),
                    "default": definition.default,
                    "required": definition.required,
                    "help": definition.help,
                    "values": [entry_fields(entry) for entry in store.get_all(name)],
                }
            )
        return _Answer(json.dumps({"settings": found}), kind="application/json")

    def _events(self, request: _Request) -> _Answer:
        if self.events.is_full:
            raise _Refused(503, "too many pages are open")
        request.environment[UNLIMITED]()
        return _Answer(self.events.open(), kind="text/event-stream; charset=utf-8")

    # --- the token --------------------------------------------------------------------------------

    def _login_page(self, request: _Request) -> _Answer:
        if not self._access.may_write:
            raise _Refused(403, "nobody can change settings here; see --http-token-file")
        return self._page(request, "Sign in", page.login_form())

    def _login(self, request: _Request) -> _Answer:
        name = request.form.get("name", "").strip()
        self._check_token(request.form.get("token", ""), request, name)
        session = self._access.log_in(name)
        logger.info("%s has signed in", session.name or "somebody")
        return _Answer("", 303, headers=[("Location", "./"), cookie_of(session)])

    def _check_token(self, token: str, request: _Request, name: str) -> None:
        is_right = self._access.is_token(token)
        if is_right is None:
            raise _Refused(429, "too many wrong tokens: wait a minute")
        if not is_right:
            logger.warning("a wrong token was given from %s", _peer(request.environment))
            raise _Refused(403, "this is not the token")

    def _logout(self, request: _Request) -> _Answer:
        if request.session is not None:
            self._check_mark(request)
            self._access.log_out(request.session)
        return _Answer("", 303, headers=[("Location", "./"), cookie_of(None)])

    def _check_mark(self, request: _Request) -> None:
        if request.session is None:
            raise _Refused(403, "only who has signed in can change settings")
        if not self._access.has_mark(request.session, request.form):
            raise _Refused(403, "the form is not of this session: load the page again")

    # --- writing ----------------------------------------------------------------------------------

    def _set(self, request: _Request) -> _Answer:
        bearer = self._access.bearer(request.environment)
        if bearer is not None:
            self._check_token(bearer, request, "")
            request.is_program = True
        else:
            self._check_mark(request)
        form = request.form
        name, value = form.get("name", ""), form.get("value", "").replace("\r\n", "\n")
        priority = _priority(form.get("priority", str(ADMINISTRATOR)))
        _known(self._store.definition, name)
        try:
            if priority is None:
                raise SettingError("priority: a number from 0 to 99 was expected")
            what = self._change(form.get("do", "set"), name, value, priority, self._who(request))
        except SettingError as error:
            if request.is_program:
                raise _Refused(422, str(error)) from None
            shown = ADMINISTRATOR if priority is None else priority
            return self._setting_page(request, name, error=str(error), value=value, priority=shown)
        if request.is_program:
            return _Answer(f"{_DONE[what]}\n", kind="text/plain; charset=utf-8")
        where = f"{page.address_of(name)}&done={what}"
        return _Answer("", 303, headers=[("Location", where)])

    def _change(self, do: str, name: str, value: str, priority: int, who: str) -> str:
        if do == "delete":
            return "deleted" if self._store.delete(name, priority, who=who) else "nothing"
        if do != "set":
            raise SettingError(f"{do[:64]!a}: set or delete was expected")
        update = self._store.put(name, value, priority, who=who)
        return "set" if update.is_change else "same"

    def _who(self, request: _Request) -> str:
        name = request.session.name if request.session is not None else ""
        where = f"web page, {_peer(request.environment)}"
        return f"{name} ({where})" if name else where


_DONE: Final = {
    "set": "The value is set.",
    "same": "The value was the same already.",
    "deleted": "The value of this priority is deleted.",
    "nothing": "There was no value of this priority.",
}


def _known(find: Callable[[str], Any], name: str) -> Any:
    try:
        return find(name)
    except UnknownSettingError as error:
        raise _Refused(404, str(error)) from None
    except SettingError as error:
        raise _Refused(400, str(error)) from None


def _priority(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 4 else None


def _peer(environment: Environment) -> str:
    return str(environment.get("REMOTE_ADDR") or "") or "this computer"


def _host_of(address: Address) -> str:
    return f"[{address.host}]" if ":" in address.host else address.host


def _fields(text: str) -> dict[str, str]:
    try:
        return dict(
            parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
        )
    except ValueError:
        raise _Refused(400, f"at most {MAX_FIELDS} fields of UTF-8 were expected") from None


def _read_form(environment: Environment) -> dict[str, str]:
    if environment.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != _FORM:
        raise _Refused(400, f"{_FORM} was expected")
    length = environment.get("CONTENT_LENGTH") or ""
    if not (length.isascii() and length.isdecimal()):
        raise _Refused(411, "Content-Length was expected")
    if int(length) > MAX_BODY:
        raise _Refused(413, f"at most {MAX_BODY} bytes were expected")
    try:
        data = environment["wsgi.input"].read(int(length))
    except OSError as error:
        raise _Refused(400, f"the form did not come: {error}") from None
    if len(data) != int(length):
        raise _Refused(400, "the form was cut off")
    try:
        return _fields(data.decode("ascii"))
    except UnicodeDecodeError:
        raise _Refused(400, "a form in percent-encoding was expected") from None
