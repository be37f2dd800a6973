"""Prometheus metrics over HTTP: the page, who may ask for it, and what bad requests get."""

from __future__ import annotations

import logging
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
from gevent import socket, subprocess
from network_ground import PATIENCE, Ground, MovedClock, ask, echo, read_all, until

from edgevent import (
    Communicator,
    Message,
    MetricsListener,
    PermanentConnection,
    UsageError,
    snapshot,
)
from edgevent.exposition import Exposition

SAMPLE = re.compile(r'([a-z_0-9]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)+)\})? (\S+)')
"""A sample of the text format, strictly."""


@pytest.fixture
def counted() -> Iterator[Ground]:
    """A running communicator that measures all there is."""
    with Ground(Communicator(count_handlers=True)) as ground:
        yield ground


@pytest.fixture
def listener(counted: Ground, tmp_path: Path) -> MetricsListener:
    return counted.communicator.add_connection(MetricsListener(f"unix:{tmp_path}/metrics"))


def fetch(ground: Ground, listener: MetricsListener, request: bytes) -> tuple[str, str]:
    """Sends a request and reads to the end; gives the head and the body of the answer."""
    sock = ground.dial(listener)
    sock.sendall(request)
    head, _, body = read_all(sock).decode().partition("\r\n\r\n")
    return head, body


def samples(page: str) -> dict[str, float]:
    """The samples of a page, which must keep to the format."""
    found: dict[str, float] = {}
    kinds: dict[str, str] = {}
    last = ""
    assert page.endswith("\n")
    for line in page.splitlines():
        if line.startswith("# HELP "):
            last = line.split(" ")[2]
            assert last not in kinds, "a metric stands in two places"
        elif line.startswith("# TYPE "):
            _, _, name, kinds[last] = line.split(" ")
            assert name == last
        else:
            match = SAMPLE.fullmatch(line)
            assert match is not None, line
            base = match[1]
            if kinds[last] == "summary":
                base = re.sub("_(sum|count)$", "", base)
            assert base == last
            assert (kinds[last] == "counter") == base.endswith("_total")
            key = line.rpartition(" ")[0]
            assert key not in found
            found[key] = float(match[3])
    return found


# --- the page -------------------------------------------------------------------------------------


def test_curl_gets_the_page(
    counted: Ground, listener: MetricsListener, need_tool: Callable[..., str]
) -> None:
    curl = need_tool("curl", package="curl")
    server = counted.serve(echo(), name="echo")
    for text in "ab":
        ask(counted.dial(server), text)
    link = PermanentConnection(server.addresses[0], name="link")
    counted.communicator.add_connection(link)
    link.wait_until_up(PATIENCE)
    link.request(Message("ECHO", {"text": "c"}))
    words = [curl, "-sS", "--fail", "--include", "--max-time", "30", "--noproxy", "*"]
    words += ["--unix-socket", str(listener.address.path), "http://localhost/metrics"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    head, _, page = done.stdout.partition("\n\n")
    assert "content-type: text/plain; version=0.0.4; charset=utf-8" in head.lower()
    found = samples(page)
    assert found["edgevent_received_messages_total"] == 4
    assert found['edgevent_connection_sent_messages_total{connection="link"}'] == 1
    assert found['edgevent_connection_up{connection="link"}'] == 1
    assert found['edgevent_connections{class="MessageConnection",state="connected"}'] == 3
    assert found['edgevent_server_peers{connection="echo"}'] == 3
    assert found['edgevent_server_events_total{connection="echo",event="accepted"}'] == 3
    assert found['edgevent_connection_up{connection="echo"}'] == 1
    assert found['edgevent_handler_seconds_count{command="ECHO"}'] == 3
    assert found['edgevent_handler_failures_total{command="ECHO"}'] == 0
    assert 0.0 <= found["edgevent_hub_lag_p99_seconds"] <= found["edgevent_hub_lag_max_seconds"]


@pytest.mark.parametrize("path", ["/metrics", "/", "/metrics?x=1"])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_what_is_asked_for(counted: Ground, listener: MetricsListener, path: str, end: str) -> None:
    request = f"GET {path} HTTP/1.1{end}Host: x{end}Accept: */*{end}{end}"
    head, page = fetch(counted, listener, request.encode())
    assert head.startswith("HTTP/1.0 200 OK\r\n")
    assert f"Content-Length: {len(page.encode())}\r\n" in head
    assert samples(page)


def test_head_gets_the_head(counted: Ground, listener: MetricsListener) -> None:
    head, body = fetch(counted, listener, b"HEAD /metrics HTTP/1.0\r\n\r\n")
    assert head.startswith("HTTP/1.0 200 OK\r\n")
    assert body == ""


def test_another_communicators_counters(counted: Ground, tmp_path: Path) -> None:
    with Communicator(name="other") as other:
        other.every(60.0, lambda: None)
        listener = MetricsListener(f"unix:{tmp_path}/metrics", other)
        counted.communicator.add_connection(listener)
        _, page = fetch(counted, listener, b"GET / HTTP/1.0\r\n\r\n")
    assert samples(page)['edgevent_connections{class="Timer",state="waiting"}'] == 1


@pytest.mark.parametrize("value", ['a"b', "a\\b", "a\nb", "\u00e4", '\\"\n'])
def test_labels_are_escaped(value: str) -> None:
    page = Exposition("x_")
    page.gauge("y", "Two\nlines \\ of help.", 1.5, {"name": value})
    assert list(samples(str(page)).values()) == [1.5]
    (shown,) = re.findall(r'name="(.*)"}', str(page))
    back = re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), shown)
    assert back == value


def test_what_is_no_unicode_does_not_break_the_page() -> None:
    page = Exposition()
    page.counter("y", "Help.", 1, {"name": "\udcff"})
    assert str(page).encode()


def test_samples_of_one_metric_stand_together() -> None:
    page = Exposition()
    for name in "ab":
        page.gauge("one", "First.", 1, {"name": name})
        page.summary("two", "Second.", 3, 0.5, {"name": name})
    assert samples(str(page)) == {
        'one{name="a"}': 1.0,
        'one{name="b"}': 1.0,
        'two_sum{name="a"}': 0.5,
        'two_count{name="a"}': 3.0,
        'two_sum{name="b"}': 0.5,
        'two_count{name="b"}': 3.0,
    }


# --- bad requests ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"DELETE / HTTP/1.0\r\n\r\n", 405),
        (b"GET /other HTTP/1.0\r\n\r\n", 404),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET  /metrics HTTP/1.0\r\n\r\n", 400),
        (b"GET /metrics HTTP/2.0\r\n\r\n", 400),
        (b"\r\n", 400),
        (b"\x16\x03\x01\x02\n", 400),
        (b"G(T / HTTP/1.0\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n" + b"X: y\r\n" * 200, 400),
    ],
)
def test_bad_requests(
    counted: Ground, listener: MetricsListener, request_: bytes, status: int
) -> None:
    head, body = fetch(counted, listener, request_)
    assert head.startswith(f"HTTP/1.0 {status} ")
    assert body.endswith("\n")
    assert ("Allow: GET, HEAD" in head) == (status == 405)
    until(lambda: not listener.peers)


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"GET / HTTP/1.0\r\nHost: x\r\n"])
def test_who_does_not_ask_in_time_is_cut(
    moved: Ground, clock: MovedClock, tmp_path: Path, begun: bytes
) -> None:
    listener = moved.communicator.add_connection(MetricsListener(f"unix:{tmp_path}/m"))
    sock = moved.dial(listener)
    sock.sendall(begun)
    until(lambda: listener.peers)
    (peer,) = listener.peers
    until(lambda: peer.traffic.bytes_in == len(begun))
    clock.advance(5.1)
    assert read_all(sock) == b""
    until(lambda: not listener.peers)


def test_an_endless_line_is_cut(counted: Ground, listener: MetricsListener) -> None:
    sock = counted.dial(listener)
    without_end = iter(lambda: sock.sendall(b"x" * 65_536), False)
    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        list(without_end)
    assert not listener.peers


def test_who_leaves_without_a_word_disturbs_nobody(
    counted: Ground, listener: MetricsListener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "edgevent")
    for begun in (b"", b"GET /metrics HT", b"GET /metrics HTTP/1.0\r\n\r\n"):
        sock = counted.dial(listener)
        sock.sendall(begun)
        sock.close()
    until(lambda: listener.counts["accepted"] == 3 and not listener.peers)
    assert fetch(counted, listener, b"GET / HTTP/1.0\r\n\r\n")[0].startswith("HTTP/1.0 200")
    assert not caplog.records


# --- beside the service ---------------------------------------------------------------------------


def test_many_scrapers_see_the_same(counted: Ground, listener: MetricsListener) -> None:
    ask(counted.dial(counted.serve(echo())), "a")

    def scrape() -> dict[str, float]:
        _, page = fetch(counted, listener, b"GET /metrics HTTP/1.0\r\n\r\n")
        return samples(page)

    scrapers = [gevent.spawn(scrape) for _ in range(40)]
    pages = [scraper.get(timeout=PATIENCE) for scraper in scrapers]
    assert {page["edgevent_received_messages_total"] for page in pages} == {1.0}
    assert {page['edgevent_handler_seconds_count{command="ECHO"}'] for page in pages} == {1.0}


def test_what_it_does_itself_is_not_counted(counted: Ground, listener: MetricsListener) -> None:
    fetch(counted, listener, b"GET /metrics HTTP/1.0\r\n\r\n")
    until(lambda: not listener.peers)
    found = snapshot(counted.communicator)
    assert [one.kind for one in found.connections] == ["Timer"]
    assert (found.totals.messages_in, found.totals.ended_connections) == (0, 0)


def test_it_does_not_keep_run_and_nobody_else_gets_in(tmp_path: Path) -> None:
    with Communicator() as communicator:
        communicator.add_connection(MetricsListener(f"unix:{tmp_path}/m"))
        assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o600
        assert communicator.run() is True


def test_over_tcp(counted: Ground) -> None:
    listener = counted.communicator.add_connection(MetricsListener("tcp://127.0.0.1:0"))
    sock = socket.create_connection(("127.0.0.1", listener.port))
    sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert read_all(sock).startswith(b"HTTP/1.0 200 OK\r\n")
    sock.close()


@pytest.mark.parametrize("name", ["handler", "dispatcher"])
def test_it_has_its_own_handler(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}= was given"):
        MetricsListener("unix:@never", **{name: echo()})
