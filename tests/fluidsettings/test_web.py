"""The web page over HTTP: what it shows, who may write, and what is refused."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import gevent
import pytest
from gevent import socket
from network_ground import PATIENCE, until
from settings_ground import defined
from settings_near import HELLO

from edgevent import Address, ListenError
from edgevent.errors import OptionError, SettingsStoreError
from edgevent.fluidsettings import http_events, http_server, page
from edgevent.fluidsettings.http_access import MAX_SESSIONS, SESSION_TIME, Access
from edgevent.fluidsettings.http_options import add_http_options
from edgevent.fluidsettings.http_server import MAX_HEAD_BYTES, HttpServer
from edgevent.fluidsettings.store import Store
from edgevent.fluidsettings.web import MAX_BODY, WebPage
from edgevent.options import OptionParser

TOKEN = "sesame open"
FORM = "application/x-www-form-urlencoded"


class Answer:
    def __init__(self, data: bytes) -> None:
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1]) if lines[0] else 0
        self.headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])
        }
        self.body = body.decode()

    @property
    def cookie(self) -> str:
        return self.headers["set-cookie"].partition(";")[0]


class Site:
    """A page that is served, and one who asks it."""

    def __init__(self, folder: Path, text: str = HELLO, **settings: Any) -> None:
        self.store = Store(folder / "settings.db", defined(text))
        address = Address.parse(settings.pop("address", "tcp://127.0.0.1:0"))
        self.web = WebPage(self.store, address, **{"token": TOKEN, **settings})
        self.web.start()
        self.address = self.web.addresses[0]

    def connect(self) -> socket.socket:
        place = Address.parse(self.address)
        if place.is_unix:
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(place.path)
        else:
            sock = socket.create_connection((place.host, place.port))
        sock.settimeout(PATIENCE)
        return sock

    def raw(self, data: bytes) -> bytes:
        """Sends bytes, and gives all that is answered."""
        with self.connect() as sock:
            sock.sendall(data)
            found = []
            while piece := sock.recv(65536):
                found.append(piece)
            return b"".join(found)

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> Answer:
        fields = {"Host": "localhost", "Connection": "close"}
        if body is not None:
            fields.update({"Content-Type": FORM, "Content-Length": str(len(body))})
        fields.update({name.replace("_", "-"): value for name, value in headers.items()})
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
        return Answer(self.raw(f"{method} {path} HTTP/1.1\r\n{head}\r\n{body or ''}".encode()))

    def get(self, path: str = "/", **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, fields: dict[str, str], **headers: str) -> Answer:
        return self.ask("POST", path, urlencode(fields), **headers)

    def sign_in(self, name: str = "Ann") -> tuple[str, str]:
        """Gives the cookie and the mark of a session."""
        answer = self.post("/login", {"name": name, "token": TOKEN})
        assert answer.status == 303, answer.body
        shown = self.get("/setting?name=hello::pause", Cookie=answer.cookie).body
        mark = re.search('name="mark" value="([^"]+)"', shown)
        assert mark is not None
        return answer.cookie, mark[1]

    def close(self) -> None:
        self.web.close()
        self.web.close()
        self.store.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Makes a site with settings of its own."""
    sites = []

    def make(**settings: Any) -> Site:
        sites.append(Site(tmp_path, **settings))
        return sites[-1]

    yield make
    for one in sites:
        one.close()


# --- what is shown --------------------------------------------------------------------------------


def test_the_overview_has_each_setting_with_its_value_and_who_set_it(site: Site) -> None:
    site.store.put("hello::name", "a <b> & \"c\"\n'd'", 70, who="<i>cli</i>")
    answer = site.get()
    assert answer.status == 200
    assert "a &lt;b&gt; &amp; &quot;c&quot;\n&#x27;d&#x27;" in answer.body
    assert "&lt;i&gt;cli&lt;/i&gt;" in answer.body
    assert "<td>70</td>" in answer.body
    assert "integer(1...60)" in answer.body
    assert "How long it rests, in seconds" in answer.body
    assert "not set, but required" in answer.body
    assert 'id="s:mail::relay::host"' in answer.body
    assert "<b>" not in answer.body
    assert "<i>" not in answer.body
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


def test_a_namespace_is_shown_alone(site: Site) -> None:
    body = site.get("/?namespace=mail%3A%3Arelay").body
    assert 'id="s:mail::relay::host"' in body
    assert 'id="s:hello::pause"' not in body
    assert 'aria-current="page"' in body
    assert "there is no namespace" in site.get("/?namespace=%3Cx").body


def test_many_settings_are_shown_by_pages(made: Callable[..., Site]) -> None:
    count = page.MAX_ROWS + 2
    site = made(text="".join(f"[n::s{number:04}]\ndefault=1\n" for number in range(count)))
    assert f"{count} settings: choose a namespace" in site.get().body
    first, second = site.get("/?namespace=n").body, site.get(f"/?namespace=n&start={page.MAX_ROWS}")
    assert first.count("<tr id=") == page.MAX_ROWS
    assert f"start={page.MAX_ROWS}" in first
    assert second.body.count("<tr id=") == 2
    assert site.get("/?namespace=n&start=x").body.count("<tr id=") == page.MAX_ROWS


def test_without_definitions_it_says_so(made: Callable[..., Site]) -> None:
    assert "No setting is defined." in made(text="").get().body


def test_one_setting_has_its_values_and_history(site: Site) -> None:
    site.store.put("hello::pause", "7", 90, who="ann")
    site.store.put("hello::pause", "8", who="bob")
    site.store.delete("hello::pause", who="eve")
    body = site.get("/setting?name=hello::pause").body
    assert "90 (holds)" in body
    assert "deleted" in body
    assert all(name in body for name in ("ann", "bob", "eve"))
    assert "<form" not in body
    state = site.get("/state?name=hello::pause").body
    assert state.startswith('<div id="state" data-value="7">')
    assert state in body
    row = site.get("/row?name=hello::pause").body
    assert row.startswith('<tr id="s:hello::pause"')
    assert row in site.get().body


def test_all_settings_are_there_as_json(site: Site) -> None:
    site.store.put("hello::pause", "7")
    answer = site.get("/settings.json")
    assert answer.headers["content-type"] == "application/json"
    found = {one["name"]: one for one in json.loads(answer.body)["settings"]}
    assert found["hello::pause"]["value"] == "7"
    assert found["hello::loud"]["required"] is True


def test_style_and_script_are_files_of_their_own(site: Site) -> None:
    assert site.get("/style.css").headers["content-type"].startswith("text/css")
    assert "EventSource" in site.get("/script.js").body
    answer = site.ask("HEAD", "/")
    assert (answer.status, answer.body) == (200, "")


def test_several_requests_share_a_connection(site: Site) -> None:
    line = "GET /row?name=hello::pause HTTP/1.1\r\nHost: localhost\r\n"
    found = site.raw(f"{line}\r\n{line}Connection: close\r\n\r\n".encode())
    assert found.count(b"HTTP/1.1 200 OK") == 2


# --- who may write --------------------------------------------------------------------------------


def test_who_has_signed_in_sets_and_deletes(site: Site) -> None:
    cookie, mark = site.sign_in("Ann\x07")
    fields = {"mark": mark, "name": "hello::pause", "value": "9", "priority": "60"}
    answer = site.post("/set", fields, Cookie=cookie)
    assert answer.status == 303
    where = answer.headers["location"]
    assert "The value is set." in site.get(f"/{where}", Cookie=cookie).body
    entry = site.store.current("hello::pause")
    assert entry is not None
    assert (entry.value, entry.priority) == ("9", 60)
    assert entry.who == "Ann (web page, 127.0.0.1)"
    again = site.post("/set", fields, Cookie=cookie)
    assert again.headers["location"].endswith("done=same")
    gone = site.post("/set", {**fields, "do": "delete"}, Cookie=cookie)
    assert gone.headers["location"].endswith("done=deleted")
    assert site.store.current("hello::pause") is None
    none = site.post("/set", {**fields, "do": "delete"}, Cookie=cookie)
    assert none.headers["location"].endswith("done=nothing")
    assert "HttpOnly; SameSite=Strict" in site.post(
        "/login", {"token": TOKEN}
    ).headers["set-cookie"]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"value": "<99>"}, "an integer from 1 to 60 was expected"),
        ({"priority": "100"}, "priority 100: 0 to 99 was expected"),
        ({"priority": "x"}, "priority: a number from 0 to 99 was expected"),
        ({"do": "burn"}, "&#x27;burn&#x27;: set or delete was expected"),
    ],
)
def test_what_is_refused_is_shown_with_the_form(
    site: Site, change: dict[str, str], sentence: str
) -> None:
    cookie, mark = site.sign_in()
    fields = {"mark": mark, "name": "hello::pause", "value": "<9>", **change}
    answer = site.post("/set", fields, Cookie=cookie)
    assert answer.status == 422
    assert sentence in answer.body
    assert f'value="{fields["value"]}"'.replace("<", "&lt;").replace(">", "&gt;") in answer.body
    assert site.store.current("hello::pause") is None
    program = site.post("/set", fields, Authorization=f"Bearer {TOKEN}")
    assert program.status == 422
    assert "<form" not in program.body


def test_forms_fit_the_kind_of_a_setting(site: Site) -> None:
    cookie, _ = site.sign_in()
    assert "<select" in site.get("/setting?name=hello::loud", Cookie=cookie).body
    assert "<input id=" in site.get("/setting?name=hello::name", Cookie=cookie).body
    site.store.put("hello::name", "\none\ntwo")
    body = site.get("/setting?name=hello::name", Cookie=cookie).body
    assert ">\n\none\ntwo</textarea>" in body
    site.store.put("hello::name", "a\rb")  # of which <input> would drop a part
    assert "</textarea>" in site.get("/setting?name=hello::name", Cookie=cookie).body
    cookie, mark = site.sign_in()
    lines = {"mark": mark, "name": "hello::name", "value": "a\r\nb"}
    assert site.post("/set", lines, Cookie=cookie).status == 303
    assert site.store.get("hello::name") == "a\nb"


def test_a_program_shows_the_token_with_each_request(site: Site) -> None:
    fields = {"name": "hello::pause", "value": "9"}
    answer = site.post("/set", fields, Authorization=f"Bearer {TOKEN}")
    assert (answer.status, answer.body) == (200, "The value is set.\n")
    assert site.post("/set", fields, Authorization="Bearer no").status == 403
    assert site.post("/set", fields, Authorization="Basic x").status == 403


def test_without_the_session_and_its_mark_nothing_is_set(site: Site) -> None:
    cookie, mark = site.sign_in()
    fields = {"name": "hello::pause", "value": "9"}
    for headers, more in (
        ({}, {"mark": mark}),
        ({"Cookie": "fluid_settings=guess"}, {"mark": mark}),
        ({"Cookie": "a b;;=\x01"}, {"mark": mark}),
        ({"Cookie": cookie}, {}),
        ({"Cookie": cookie}, {"mark": "guess"}),
        ({"Cookie": cookie, "Origin": "http://evil.example"}, {"mark": mark}),
        ({"Cookie": cookie, "Origin": "null"}, {"mark": mark}),
        ({"Cookie": cookie, "Sec-Fetch-Site": "cross-site"}, {"mark": mark}),
    ):
        answer = site.post("/set", {**fields, **more}, **headers)
        assert answer.status == 403, headers
    assert site.post("/logout", {}, Cookie=cookie).status == 403
    assert site.store.current("hello::pause") is None
    own = {"Cookie": cookie, "Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert site.post("/set", {**fields, "mark": mark}, **own).status == 303


def test_who_has_signed_out_is_out(site: Site) -> None:
    cookie, mark = site.sign_in()
    assert "Max-Age=0" in site.post("/logout", {"mark": mark}, Cookie=cookie).headers["set-cookie"]
    assert site.post("/set", {"mark": mark, "name": "x"}, Cookie=cookie).status == 403
    assert site.post("/logout", {}).status == 303


def test_wrong_tokens_are_looked_at_ten_times_a_minute(site: Site) -> None:
    statuses = [site.post("/login", {"token": "guess"}).status for _ in range(11)]
    assert statuses == [403] * 10 + [429]
    assert site.post("/login", {"token": TOKEN}).status == 429


def test_without_a_token_it_is_for_reading_only(made: Callable[..., Site]) -> None:
    site = made(token="")
    assert "for reading only" in site.get().body
    assert site.get("/login").status == 403
    assert site.post("/login", {"token": ""}).status == 403
    assert site.post("/set", {"name": "hello::pause"}, Authorization="Bearer ").status == 403


def test_sessions_end_and_are_not_too_many() -> None:
    now = [0.0]
    access = Access("t", now=lambda: now[0])
    sessions = [access.log_in(str(number)) for number in range(MAX_SESSIONS + 1)]

    def of(session: Any) -> object:
        return access.session_of({"HTTP_COOKIE": f"fluid_settings={session.id}"})

    assert of(sessions[0]) is None
    assert of(sessions[1]) is sessions[1]
    now[0] = SESSION_TIME + 1
    assert of(sessions[-1]) is None


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:80", 200),
        ("127.0.0.1:8765", 200),
        ("[::1]:1", 200),
        ("settings.example", 200),
        ("evil.example", 421),
        ("localhost.evil.example:80", 421),
        ("localhost:80:80", 421),
        ("", 421),
    ],
)
def test_only_hosts_that_are_known_are_answered(
    made: Callable[..., Site], host: str, status: int
) -> None:
    assert made(hosts=["Settings.example"]).get(Host=host).status == status


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/../etc/passwd", 404),
        ("GET", "/setting?name=no::such", 404),
        ("GET", "/row?name=..%2F..%2Fx", 400),
        ("GET", "/row?name=a%00b", 400),
        ("GET", "/setting", 400),
        ("GET", "/row?name=%ff", 400),
        ("GET", "/?" + "a=b&" * 30, 400),
        ("PUT", "/set", 405),
        ("GET", "/set", 405),
        ("HEAD", "/events", 405),
    ],
)
def test_what_is_not_there_is_refused(site: Site, method: str, path: str, status: int) -> None:
    answer = site.ask(method, path)
    assert answer.status == status
    assert "content-security-policy" in answer.headers
    allowed = {"/set": "POST", "/events": "GET"}.get(path) if status == 405 else None
    assert allowed is None or answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Length": str(MAX_BODY + 1)}, 413),
        ({"Content-Length": ""}, 411),
        ({"Content-Length": "", "Transfer-Encoding": "chunked"}, 411),
        ({"Content-Type": "text/plain"}, 400),
        ({"Content-Type": ""}, 400),
    ],
)
def test_forms_that_are_none_are_refused(site: Site, headers: dict[str, str], status: int) -> None:
    answer = site.ask("POST", "/login", "token=x", **headers)
    assert answer.status == status
    assert answer.headers["connection"] == "close"


def test_a_form_that_is_no_text_or_is_cut_off_is_refused(site: Site) -> None:
    head = "POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
    head += f"Content-Type: {FORM}\r\n\r\n"
    assert site.raw(f"{head}token=\xe9\r".encode()).startswith(b"HTTP/1.1 400")
    with site.connect() as sock:
        sock.sendall(f"{head}to".encode())
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(65536).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\r\n\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"y" * MAX_HEAD_BYTES + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 200 + b"\r\n",
        b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused_without_a_word_on_the_terminal(
    site: Site, data: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with site.connect() as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        try:
            found = sock.recv(65536)
        except ConnectionResetError:  # more had come than was read
            found = b""
    assert not found or found.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), found
    assert capfd.readouterr() == ("", "")
    assert site.get().status == 200


def test_refused_requests_are_logged_once_a_minute(
    made: Callable[..., Site], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "edgevent.fluidsettings.http")
    site = made()

    def ask_wrongly() -> None:
        with site.connect() as sock:
            sock.sendall(b"nothing\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 400")

    for _ in range(3):
        ask_wrongly()
    now = time.monotonic() + 60.0
    monkeypatch.setattr(http_server, "monotonic", lambda: now)
    ask_wrongly()
    told = [text for text in caplog.messages if "refused" in text]
    assert [text.partition(",")[0] for text in told] == [
        "1 request was refused",
        "3 requests were refused",
    ]


def test_who_says_nothing_is_cut(
    made: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "PATIENCE", 0.05)
    site = made()
    for begin in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: lo"):
        with site.connect() as sock:
            sock.sendall(begin)
            assert sock.recv(1) in (b"", b"H")


def test_who_asks_for_nothing_makes_room(
    made: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(http_server, "PATIENCE", 3600.0)
    site = made()
    with ExitStack() as stack:
        socks = [stack.enter_context(site.connect()) for _ in range(3)]
        for _ in range(5):
            assert site.get().status == 200
        assert socks[0].recv(1) == b""


def test_a_failure_of_the_disk_is_answered(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise SettingsStoreError("settings.db: No space left on device", 28)

    monkeypatch.setattr(site.store, "put", fail)
    fields = {"name": "hello::pause", "value": "9"}
    answer = site.post("/set", fields, Authorization=f"Bearer {TOKEN}")
    assert (answer.status, answer.body) == (500, "settings.db: No space left on device\n")


def test_a_mistake_of_ours_is_logged_and_told_nobody(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail() -> list[str]:
        raise RuntimeError("of the test")

    monkeypatch.setattr(site.store, "names", fail)
    answer = site.get()
    assert answer.status == 500
    assert "of the test" not in answer.body
    assert "of the test" in caplog.text
    assert capfd.readouterr() == ("", "")


# --- where it listens -----------------------------------------------------------------------------


def test_a_unix_socket_is_for_its_owner_alone(
    made: Callable[..., Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    site = made(address="unix:page.sock")
    assert stat.S_IMODE(os.stat("page.sock").st_mode) == 0o600
    assert site.get().status == 200
    site.post("/set", {"name": "hello::pause", "value": "9"}, Authorization=f"Bearer {TOKEN}")
    entry = site.store.current("hello::pause")
    assert entry is not None
    assert entry.who == "web page, this computer"
    site.close()
    assert not os.path.exists("page.sock")


@pytest.mark.parametrize(
    "address", ["tcp://0.0.0.0:0", "tcp://10.1.2.3:0", "udp://127.0.0.1:0", "fifo:/x"]
)
def test_other_computers_are_let_in_only_in_words(address: str) -> None:
    with pytest.raises(ListenError, match=r"unless --http-allow-remote|tcp: or unix: was expected"):
        HttpServer(Address.parse(address), lambda *_: [])
    if address.startswith("tcp://0"):
        HttpServer(Address.parse(address), lambda *_: [], allow_remote=True).close()


@pytest.mark.parametrize("host", ["settings.example", "10.0.0.5", "[::1]"])
def test_names_of_hosts_are_options(host: str) -> None:
    parser = OptionParser("test", "Tests.")
    add_http_options(parser)
    assert parser.read([f"--http-host={host}"]).http_host == [host]
    with pytest.raises(OptionError, match="the name of a host, without a port, was expected"):
        parser.read([f"--http-host={host}:80"])


# --- events ---------------------------------------------------------------------------------------


def begin_events(site: Site) -> socket.socket:
    sock = site.connect()
    sock.sendall(b"GET /events HTTP/1.0\r\nHost: localhost\r\n\r\n")
    found = b""
    while b"hello" not in found or not found.endswith(b"\n\n"):
        found += sock.recv(65536)
    assert b"Content-Type: text/event-stream" in found
    return sock


def test_changes_are_events(site: Site) -> None:
    with begin_events(site) as sock:
        site.store.put("hello::pause", "9")
        assert sock.recv(65536).decode() == (
            'event: change\ndata: {"number": 1, "name": "hello::pause"}\n\n'
        )
        site.store.delete("hello::pause")
        assert '"number": 2' in sock.recv(65536).decode()
        assert 'data-number="2"' in site.get().body
        site.web.events.close()
        assert sock.recv(65536) in (b"", b"\n\n")
    until(lambda: not len(site.web.events))


def test_a_slow_page_is_told_each_name_once(site: Site) -> None:
    stream = site.web.events.open()
    next(stream)
    for number in range(50):
        site.store.put("hello::pause", str(number + 1))
        site.store.put("hello::name", str(number))
    assert next(iter(stream)).count(b"event: change") == 2
    stream.close()
    stream.close()


def test_pages_beyond_the_limit_are_refused_and_gone_ones_are_noticed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_events, "MAX_STREAMS", 2)
    site.web.events.heartbeat = 0.02
    first, second = begin_events(site), begin_events(site)
    assert site.get("/events").status == 503
    first.close()
    until(lambda: len(site.web.events) == 1)
    assert b": nothing new" in second.recv(65536)
    second.close()
    until(lambda: not len(site.web.events))
    gevent.sleep(0)
