"""The handlers that send to a log server: what they send, and what becomes of it."""

from __future__ import annotations

import logging
import logging.config
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import gevent
import pytest
from log_ground import no_switch
from log_server_ground import Kept, LogServer, arrive, logger_to, until_seen
from network_ground import PATIENCE, Ground, until
from tls_ground import client_options, server_options

from edgevent import Address, AddressError, EdgeventError, Message, OptionError, UsageError
from edgevent.errors import CertificateFileError, DurationError, ThreadStartError
from edgevent.snaplogger import sender, stream_way
from edgevent.snaplogger.entries import Entry, Ledger, write_fields
from edgevent.snaplogger.handlers import AlertLogHandler, TcpLogHandler, UdpLogHandler
from edgevent.snaplogger.network_handler import NetworkLogHandler
from edgevent.snaplogger.stream_way import StreamWay
from edgevent.testing.proxy import FaultProxy

Make = Callable[..., Any]

AWAY = "unix:/nonexistent/log.sock"


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes handlers, and closes them."""
    made: list[NetworkLogHandler] = []

    def make(kind: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
        settings = {"pauses": "0.02", "close_timeout": 0.0, "complain": print, **settings}
        handler = kind(*arguments, **settings)
        made.append(handler)
        return handler

    yield make
    for handler in made:
        handler.close()


@pytest.fixture
def server(ground: Ground, tmp_path: Path) -> LogServer:
    return LogServer(ground, f"unix:{tmp_path}/log")


# --- what is sent ---------------------------------------------------------------------------------


def test_a_record_is_a_message_as_the_cpp_library_sends_it(server: LogServer, make: Make) -> None:
    handler = make(TcpLogHandler, server.address, components=["normal", "net"])
    logger = logger_to(handler)
    before = time.time()
    logger.info("took %d ms", 7)
    logger.error("no", extra={"components": "backup", "job": "a,b:c\\", "password": "hunter2"})
    arrive(handler)
    first, second = server.messages
    assert first.head == "LOG"
    assert dict(first.parameters) | {"timestamp": "", "instance": "", "line": ""} == {
        "acknowledge": "true",
        "components": "normal,net",
        "fields": f"id:1,logger:{logger.name}",
        "filename": __file__,
        "function": "test_a_record_is_a_message_as_the_cpp_library_sends_it",
        "instance": "",
        "line": "",
        "message": "took 7 ms",
        "serial": "1",
        "severity": "information",
        "timestamp": "",
    }
    assert before - 1 <= first.timespec("timestamp") / 1e9 <= time.time() + 1
    assert first.integer("line") > 0
    assert (second["severity"], second["serial"], second["components"]) == ("error", "2", "backup")
    known = f"id:2,logger:{logger.name}"
    assert second["fields"] == f"{known},job:a\\,b\\:c\\\\,password:***"
    assert "hunter2" not in str(second)
    assert first["instance"] == second["instance"] != ""


def test_a_traceback_is_a_part_of_the_text_and_secrets_are_none(
    server: LogServer, make: Make
) -> None:
    handler = make(TcpLogHandler, server.address)
    logger = logger_to(handler)
    try:
        raise ValueError("secret_code=abc\x1b")
    except ValueError:
        logger.exception("failed")
    logger.info("%d", "none")
    logger.info("")
    arrive(handler)
    first, second = server.texts
    assert first.startswith("failed\nTraceback (most recent call last):\n")
    assert first.endswith("ValueError: secret_code=***")
    assert "cannot be formatted" in second


def test_the_record_of_a_connection_names_it(server: LogServer, make: Make) -> None:
    handler = make(TcpLogHandler, server.address)
    logger_to(handler).info("up", extra={"connection": "Server-1"})
    arrive(handler)
    assert server.messages[0]["fields"].endswith(",connection:Server-1")


@pytest.mark.parametrize(
    ("fields", "text"),
    [({}, ""), ({"a": "1", "b": ""}, "a:1,b"), ({"a,b": "c:d\\e"}, "a\\,b:c\\:d\\\\e")],
)
def test_fields_are_written_as_in_cpp(fields: dict[str, str], text: str) -> None:
    assert write_fields(fields) == text


@pytest.mark.parametrize("kind", ["tcp", "tls", "unix", "tls+unix"])
def test_every_stream(ground: Ground, make: Make, tmp_path: Path, kind: str) -> None:
    place = f"{kind}:{tmp_path}/log" if kind.endswith("unix") else f"{kind}://127.0.0.1:0"
    tls = {"tls": server_options()} if kind.startswith("tls") else {}
    server = LogServer(ground, place, **tls)
    ours = {"tls": client_options()} if tls else {}
    handler = make(TcpLogHandler, server.address, **ours)
    logger = logger_to(handler)
    for number in range(2000):
        logger.info("%d", number)
    arrive(handler)
    assert server.texts == [str(number) for number in range(2000)]
    assert server.serials == list(range(1, 2001))
    handler.close()
    assert handler.lost == 0


def test_a_text_that_is_too_long_is_cut_and_says_so(server: LogServer, make: Make) -> None:
    handler = make(TcpLogHandler, server.address)
    logger = logger_to(handler)
    logger.info("é" * 100_000)
    logger.info("x", extra={"long": "y" * 100_000})
    arrive(handler)
    assert len(bytes(server.messages[0])) <= 65_536
    assert server.texts[0].endswith("bytes are cut off)")
    assert server.texts[1] == "x"
    assert "fields" not in server.messages[1]


def test_what_is_not_asked_for_is_not_acknowledged(server: LogServer, make: Make) -> None:
    none = make(TcpLogHandler, server.address, acknowledge="none")
    some = make(
        TcpLogHandler, server.address, acknowledge="severity", acknowledge_severity="warning"
    )
    logger = logger_to(none, some)
    logger.info("a")
    logger.warning("b")
    arrive(none, some)
    until(lambda: len(server.messages) == 4)
    assert sorted((one["message"], "acknowledge" in one) for one in server.messages) == [
        ("a", False),
        ("a", False),
        ("b", False),
        ("b", True),
    ]


def test_what_is_not_acknowledged_has_arrived_when_its_last_byte_has_left(
    make: Make, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/log")
        listener.listen()
        address = f"unix:{tmp_path}/log"
        handler = make(TcpLogHandler, address, acknowledge="none", close_timeout=PATIENCE)
        logger = logger_to(handler)
        for _ in range(4):  # together they are more than what the kernel takes
            logger.info("x" * 60_000)
        peer, _ = listener.accept()
        with peer:
            assert not handler.flush(0.05)
            closing = threading.Thread(target=handler.close)
            closing.start()
            with peer.makefile("rb") as file:
                assert len(file.readlines()) == 4
            closing.join()
    assert (handler.waiting, handler.lost) == (0, 0)


# --- who logs waits for nothing -------------------------------------------------------------------


def test_emit_switches_no_greenlets(server: LogServer, make: Make) -> None:
    handler = make(TcpLogHandler, server.address)
    logger = logger_to(handler)
    with no_switch():
        for number in range(100):
            logger.info("%d", number)
    arrive(handler)
    assert len(server.messages) == 100


def test_records_of_threads(server: LogServer, make: Make) -> None:
    handler = make(TcpLogHandler, server.address)
    logger = logger_to(handler)

    def work(name: str) -> None:
        for number in range(200):
            logger.info("%s %d", name, number)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    until_seen(lambda: not any(thread.is_alive() for thread in threads))
    for thread in threads:
        thread.join()
    arrive(handler)
    for name in "abcd":
        mine = [text for text in server.texts if text[0] == name]
        assert mine == [f"{name} {number}" for number in range(200)]
    assert server.serials == list(range(1, 801))


def test_flush_waits_until_what_was_logged_has_arrived(server: LogServer, make: Make) -> None:
    handler = make(TcpLogHandler, server.address)
    assert handler.flush(0.0)
    logger_to(handler).info("a")
    # In a thread: this one serves.
    assert gevent.get_hub().threadpool.apply(handler.flush, (20.0,))
    assert server.texts == ["a"]
    away = make(TcpLogHandler, AWAY)
    logger_to(away).info("a")
    assert not away.flush(0.01)


# --- losses ---------------------------------------------------------------------------------------


def test_what_the_full_queue_does_not_take_is_counted_and_told(
    ground: Ground, make: Make, tmp_path: Path
) -> None:
    told: list[str] = []
    address = f"unix:{tmp_path}/log"
    handler = make(TcpLogHandler, address, max_records=10, complain=told.append)
    logger = logger_to(handler)
    for number in range(15):
        logger.info("%d", number)
    assert (handler.waiting, handler.lost) == (10, 5)
    until_seen(lambda: handler.is_away)
    assert "No such file or directory" in handler.trouble
    server = LogServer(ground, address)
    arrive(handler)
    logger.info("again")
    arrive(handler)
    assert server.texts[:11] == [*map(str, range(10)), "again"]
    assert f"{address}: 5 log records were lost: the queue is full" in server.texts[11]
    assert server.messages[11]["severity"] == "warning"
    assert [text.partition(": ")[0] for text in told] == [address, address]
    assert "log records are lost, and counted" in told[0]
    assert handler.lost == 5
    assert "10 records" not in repr(handler)


def test_the_bytes_of_the_queue_are_bounded(make: Make) -> None:
    handler = make(TcpLogHandler, AWAY, max_bytes=10_000)
    logger = logger_to(handler)
    logger.info("a" * 9000)
    logger.info("b" * 9000)
    assert (handler.waiting, handler.lost) == (1, 1)


def test_what_is_refused_is_lost_and_told_in_the_log(server: LogServer, make: Make) -> None:
    server.answer = lambda message: message.reply(
        "INVALID" if message["message"] == "bad" else "LOG_ACKNOWLEDGE", {"message": "no room"}
    )
    handler = make(TcpLogHandler, server.address)
    logger = logger_to(handler)
    logger.info("bad")
    logger.info("good")
    arrive(handler)
    until(lambda: len(server.messages) == 3)
    assert handler.lost == 1
    assert handler.last_loss == "refused: no room"
    assert server.texts[2] == f"{server.address}: 1 log record was lost: refused: no room"


def test_a_server_that_knows_no_records_refuses_them(ground: Ground, make: Make) -> None:
    other = ground.serve(lambda connection: [connection.send(_unknown(m)) for m in connection])
    handler = make(TcpLogHandler, other.addresses[0])
    logger_to(handler).info("a")
    until_seen(lambda: handler.lost)
    assert handler.last_loss == "refused: the server does not know LOG"


def _unknown(message: Message) -> Message:
    return message.reply("UNKNOWN", {"command": message.command})


def test_what_waits_at_the_close_is_lost_and_told(make: Make) -> None:
    told: list[str] = []
    handler = make(TcpLogHandler, AWAY, complain=told.append)
    logger = logger_to(handler)
    logger.info("a")
    handler.close()
    handler.close()
    assert told[-1] == f"{AWAY}: 1 log record was lost: No such file or directory"
    logger.info("b")
    assert handler.lost == 2
    assert handler.last_loss == "No such file or directory"


# --- a server that goes and comes -----------------------------------------------------------------


def test_what_was_not_acknowledged_is_sent_again_in_order(server: LogServer, make: Make) -> None:
    handler = make(TcpLogHandler, server.address)
    logger = logger_to(handler)
    server.answer = lambda message: (
        message.reply("LOG_ACKNOWLEDGE") if message["message"] == "1" else None
    )
    for number in range(3):
        logger.info("%d", number)
    until_seen(lambda: handler.waiting == 2)
    server.stop()
    logger.info("3")
    until_seen(lambda: handler.is_away)
    server.answer = lambda message: message.reply("LOG_ACKNOWLEDGE")
    server.start(server.address)
    arrive(handler)
    assert server.texts == ["0", "1", "2", "0", "2", "3"]
    assert server.serials == [1, 2, 3, 1, 3, 4]
    assert len({message["instance"] for message in server.messages}) == 1


def test_a_late_acknowledgement_counts(server: LogServer, make: Make) -> None:
    handler = make(TcpLogHandler, server.address)
    server.answer = lambda message: None
    logger_to(handler).info("a")
    until(lambda: server.messages)
    (peer,) = server.peers
    for line in (
        b"LOG_ACKNOWLEDGE serial=7",
        b"LOG_ACKNOWLEDGE",
        b"",
        b"{",
        b"LOG_ACKNOWLEDGE serial=1",
    ):
        peer.write(line + b"\n")
    arrive(handler)
    assert handler.lost == 0


def test_the_server_may_ask_for_a_pause(server: LogServer, make: Make) -> None:
    handler = make(TcpLogHandler, server.address)
    logger = logger_to(handler)
    logger.info("a")
    arrive(handler)
    (peer,) = server.peers
    peer.send(Message("PAUSE"))
    until_seen(lambda: "pause" in handler.trouble)
    logger.info("b")
    assert handler.waiting == 1
    peer.send(Message("UNPAUSE"))
    arrive(handler)
    assert server.texts == ["a", "b"]


@pytest.mark.parametrize("fault", ["cut", "reset"])
def test_a_broken_connection_loses_nothing(
    server: LogServer, make: Make, tmp_path: Path, fault: str
) -> None:
    with FaultProxy(server.address, f"unix:{tmp_path}/proxy") as proxy:
        handler = make(TcpLogHandler, proxy.address)
        logger = logger_to(handler)
        for batch in range(5):
            for number in range(300):
                logger.info("%d", 300 * batch + number)
            connection = proxy.wait_for_connection()
            until(lambda seen=300 * batch: len(set(server.texts)) > seen)
            getattr(connection, fault)()
        arrive(handler)
        first_seen = list(dict.fromkeys(server.texts))
        assert first_seen == [str(number) for number in range(1500)]
        assert handler.lost == 0
        handler.close()


# --- the other handler ----------------------------------------------------------------------------


def test_another_handler_has_the_records_while_the_server_is_away(
    ground: Ground, make: Make, tmp_path: Path
) -> None:
    other = Kept()
    address = f"unix:{tmp_path}/log"
    handler = make(TcpLogHandler, address, fallback=other, max_records=2)
    logger = logger_to(handler)
    for number in range(3):
        logger.info("%d", number)
    until_seen(lambda: len(other.texts) == 3)
    assert sorted(other.texts) == ["0", "1", "2"]
    server = LogServer(ground, address)
    arrive(handler)
    logger.info("here")
    arrive(handler)
    assert server.texts[:3] == ["0", "1", "here"]
    assert len(other.texts) == 3


def test_a_handler_of_that_name_is_the_other_one(make: Make) -> None:
    handler = make(TcpLogHandler, AWAY, fallback="other-of-this-test")
    other = Kept()
    other.name = "other-of-this-test"
    other.setLevel(logging.WARNING)
    try:
        raise ValueError("why")
    except ValueError:
        logger_to(handler).exception("no %s", "way")
    logger_to(handler).info("below its level")
    until_seen(lambda: other.texts)
    assert other.texts[0].startswith("no way\nTraceback")
    handler.close()
    assert len(other.texts) == 1


def test_what_is_logged_by_the_thread_that_sends_is_not_sent(make: Make) -> None:
    class Chatty(Kept):
        def emit(self, record: logging.LogRecord) -> None:
            super().emit(record)
            logger.info("about %s", record.msg)
            flushed.append(handler.flush(20.0))

    flushed: list[bool] = []
    handler = make(TcpLogHandler, AWAY, fallback=Chatty())
    logger = logger_to(handler)
    logger.info("a")
    until_seen(lambda: flushed)
    assert (flushed, handler.waiting) == ([False], 1)


def test_another_handler_that_is_not_there_is_told(make: Make) -> None:
    told: list[str] = []
    handler = make(TcpLogHandler, AWAY, fallback="no-such-handler", complain=told.append)
    logger = logger_to(handler)
    logger.info("a")
    until_seen(lambda: told)
    logger.info("b")
    handler.close()
    assert told[0] == f"{AWAY}: there is no handler 'no-such-handler' to fall back to"
    assert sum("to fall back to" in text for text in told) == 1
    assert handler.lost == 2


def test_the_console_is_the_other_one(make: Make, capfd: pytest.CaptureFixture[str]) -> None:
    handler = make(TcpLogHandler, AWAY, fallback="console")
    logger_to(handler).info("shown")
    handler.close()
    assert " information test-" in capfd.readouterr().err


# --- alerts ---------------------------------------------------------------------------------------


def test_alerts_are_sent_at_once_and_of_others_one_in_so_many(
    server: LogServer, make: Make
) -> None:
    handler = make(AlertLogHandler, server.address, standard=3, components="net")
    logger = logger_to(handler)
    for number in range(5):
        logger.info("%d", number)
    logger.info("alert", extra={"components": "alert"})
    logger.log(52, "severe")
    for number in range(5, 9):
        logger.info("%d", number)
    arrive(handler)
    assert [(one["message"], one["components"]) for one in server.messages] == [
        ("2", "alert,net"),
        ("alert", "alert"),
        ("severe", "alert,net"),
        ("7", "alert,net"),
    ]


def test_what_alerts_have_lost_is_told_whatever_the_counts_are(
    server: LogServer, make: Make
) -> None:
    server.answer = lambda message: None
    handler = make(AlertLogHandler, server.address, standard="off", alert=2, max_records=2)
    logger = logger_to(handler)

    def alert(first: int, last: int) -> None:
        for number in range(first, last + 1):
            logger.info("%d", number, extra={"components": "alert"})

    alert(1, 6)
    assert handler.lost == 1
    until(lambda: len(server.messages) == 2)
    server.peers[0].write(b"LOG_ACKNOWLEDGE serial=1\nLOG_ACKNOWLEDGE serial=2\n")
    arrive(handler)
    alert(7, 8)
    until(lambda: len(server.messages) == 4)
    assert [text for text in server.texts if text.isdecimal()] == ["2", "4", "8"]
    assert any("1 log record was lost" in text for text in server.texts)


@pytest.mark.parametrize(
    ("standard", "alert", "sent"),
    [("off", "instant", ["b"]), (0, -1, ["a"]), ("instant", 2, ["a"]), (-1, "off", [])],
)
def test_the_counts_of_alerts(
    server: LogServer, make: Make, standard: Any, alert: Any, sent: list[str]
) -> None:
    handler = make(AlertLogHandler, server.address, standard=standard, alert=alert)
    logger = logger_to(handler)
    logger.info("a")
    logger.info("b", extra={"components": ["alert"]})
    arrive(handler)
    assert server.texts == sent


# --- how they are made ----------------------------------------------------------------------------


def test_logging_config_makes_them(server: LogServer) -> None:
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {
                "server": {
                    "class": "edgevent.snaplogger.handlers.TcpLogHandler",
                    "address": server.address,
                    "acknowledge": "severity",
                    "fallback": "other",
                    "level": "INFO",
                },
                "other": {"class": "logging.NullHandler"},
            },
            "loggers": {"by-config": {"handlers": ["server"], "level": "DEBUG"}},
        }
    )
    logger = logging.getLogger("by-config")
    (handler,) = logger.handlers
    assert isinstance(handler, TcpLogHandler)
    logger.debug("not this")
    logger.error("this")
    arrive(handler)
    handler.close()
    logger.handlers.clear()
    assert server.texts == ["this"]


@pytest.mark.parametrize(
    ("kind", "settings", "error", "sentence"),
    [
        (TcpLogHandler, {"address": "udp://127.0.0.1:1"}, AddressError, "tcp, tls, unix or tls"),
        (UdpLogHandler, {"address": "tcp://127.0.0.1:1"}, AddressError, "udp or unixgram"),
        (TcpLogHandler, {"address": "tcp://127.0.0.1:0"}, AddressError, "a port from 1"),
        (TcpLogHandler, {"address": "unix:/" + "x" * 200}, AddressError, "at most 107 bytes"),
        (TcpLogHandler, {"acknowledge": "maybe"}, UsageError, "none, severity or all"),
        (TcpLogHandler, {"acknowledge_severity": "eror"}, OptionError, "did you mean 'error'"),
        (TcpLogHandler, {"max_records": 0}, UsageError, "1 or more"),
        (TcpLogHandler, {"pauses": "soon"}, DurationError, "soon"),
        (TcpLogHandler, {"tls": "plain", "address": "tls://a:1"}, UsageError, "plain"),
        (UdpLogHandler, {"retries": -1}, UsageError, "retries= and"),
        (AlertLogHandler, {"standard": "often"}, UsageError, "'instant' or 'off'"),
        (AlertLogHandler, {"alert": -2}, UsageError, "alert=-2"),
    ],
)
def test_values_that_cannot_be_used(
    kind: Any, settings: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        kind(**settings)


def test_a_certificate_that_cannot_be_read_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(CertificateFileError, match=r"none\.pem"):
        TcpLogHandler("tls://localhost:1", tls=client_options(authorities=tmp_path / "none.pem"))


# --- what goes wrong on the way -------------------------------------------------------------------


def test_answers_that_say_nothing_change_nothing(server: LogServer, make: Make) -> None:
    server.answer = lambda message: None
    handler = make(TcpLogHandler, server.address)
    logger_to(handler).info("a")
    until(lambda: server.messages)
    (peer,) = server.peers
    for line in ("LOG_ACKNOWLEDGE serial=x", "INVALID message=odd", "INVALID serial=9;message=odd"):
        peer.write(f"{line}\n".encode())
    peer.write(b"HELP\nLOG_ACKNOWLEDGE serial=1\n")
    arrive(handler)
    assert handler.lost == 0


def test_a_server_is_found_by_its_name(ground: Ground, make: Make) -> None:
    server = LogServer(ground, "tcp://127.0.0.1:0")
    port = server.address.rpartition(":")[2]
    handler = make(TcpLogHandler, f"localhost:{port}")
    logger_to(handler).info("a")
    arrive(handler)
    assert server.texts == ["a"]
    unknown = make(TcpLogHandler, "tcp://nobody.invalid:1")
    logger_to(unknown).info("a")
    until_seen(lambda: unknown.is_away)
    assert "ame" in unknown.trouble  # "Name or service not known", or as the C library has it


def test_a_port_where_nobody_listens(make: Make, free_address: Callable[..., str]) -> None:
    handler = make(TcpLogHandler, free_address("tcp"))
    logger_to(handler).info("a")
    until_seen(lambda: handler.is_away)
    assert handler.trouble == "Connection refused"


def test_tls_with_whom_it_does_not_trust(ground: Ground, make: Make, tmp_path: Path) -> None:
    server = LogServer(ground, f"tls+unix:{tmp_path}/log", tls=server_options())
    handler = make(TcpLogHandler, server.address)  # the system's authorities
    logger_to(handler).info("a")
    until_seen(lambda: handler.is_away)
    assert "not among the trusted authorities" in handler.trouble
    assert not handler.trouble.startswith("tls+unix")

    def speak(connection: Any) -> None:
        connection.write(b"no TLS\n")
        with suppress(EdgeventError):
            connection.receive()

    plain = ground.serve(speak, f"unix:{tmp_path}/plain")
    other = make(TcpLogHandler, f"tls+{plain.addresses[0]}", tls=client_options())
    logger_to(other).info("a")
    until_seen(lambda: other.is_away)
    assert "does not speak TLS" in other.trouble


def test_the_system_may_have_no_thread_for_it(
    server: LogServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(call: object) -> None:
        raise ThreadStartError("a thread could not be started")

    handler = make(TcpLogHandler, server.address)
    logger = logger_to(handler)
    with monkeypatch.context() as patch:
        patch.setattr(sender, "start_thread", refuse)
        logger.info("a")
    assert handler.lost == 1
    logger.info("b")
    arrive(handler)
    assert server.texts == [
        "b",
        f"{server.address}: 1 log record was lost: a thread could not be started",
    ]


def test_a_defect_in_the_thread_is_told_and_does_not_end_all_sending(
    server: LogServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    handler = make(TcpLogHandler, server.address, complain=told.append)
    logger = logger_to(handler)
    answer, server.answer = server.answer, lambda message: None
    logger.info("unanswered")
    until_seen(lambda: server.messages)
    server.answer = answer
    with monkeypatch.context() as patch:
        patch.setattr(StreamWay, "work", lambda way, ready: 1 / 0)
        logger.info("a")
        until_seen(lambda: told)
        assert "sending has failed" in told[0]
        assert "ZeroDivisionError" in told[0]
    # The entry that it was about waits for the next one.
    until_seen(lambda: not handler._sender.is_in_thread and handler._sender._ended is None)
    logger.info("b")
    arrive(handler)
    assert server.texts == ["unanswered", "unanswered", "a", "b"]


def test_a_server_that_says_that_it_knows_no_records_is_named_as_the_reason(
    server: LogServer, make: Make
) -> None:
    server.answer = lambda message: Message("UNKNOWN", {"command": message.command})
    handler = make(TcpLogHandler, server.address)
    logger_to(handler).info("a")
    until_seen(lambda: handler.trouble.endswith("LOG"))
    handler.close()
    assert handler.last_loss == "the server does not know LOG"


def test_a_ledger_knows_an_acknowledgement_of_what_is_to_be_sent_again() -> None:
    settled: list[int] = []
    lost: list[str] = []
    ledger = Ledger(
        "me", lambda entry: settled.append(entry.serial), lambda entry, why: lost.append(why)
    )
    entries = [Entry(number, {"message": "a"}, 1, wants_answer=True) for number in (1, 2, 3)]
    for entry in entries:
        ledger.add(entry)
        ledger.unsent.popleft()
        ledger.sent(entry, 0.0)
    ledger.again()
    assert [entry.serial for entry in ledger] == [1, 2, 3]
    assert (ledger.first, len(ledger)) == (entries[0], 3)
    for serial in (2, 2, 9):
        ledger.answered(serial)
    assert not ledger.refused(2, "why")
    ledger.lose(entries[2], "why")
    ledger.answered(1)
    assert (settled, lost, len(ledger), ledger.first) == ([2, 1], ["why"], 0, None)


def test_the_next_address_of_a_name_is_tried_at_once(
    server: LogServer, make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    good = stream_way.find_endpoints(Address.parse(server.address))
    bad = stream_way.find_endpoints(Address.parse(f"unix:{tmp_path}/none"))
    monkeypatch.setattr(stream_way, "find_endpoints", lambda address: [*bad, *good])
    handler = make(TcpLogHandler, server.address, pauses="1h")
    logger_to(handler).info("a")
    arrive(handler)
    assert server.texts == ["a"]


def test_a_server_that_does_not_accept(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_way, "CONNECT_TIMEOUT", 0.1)
    with ExitStack() as sockets:
        full = sockets.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):  # the queue is full then: further ones are not answered (tcp(7))
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        handler = make(TcpLogHandler, f"127.0.0.1:{full.getsockname()[1]}")
        logger_to(handler).info("a")
        until_seen(lambda: handler.is_away)
        assert handler.trouble == "no connection within 0.1 s"
        handler.close()


def test_what_no_line_holds_is_lost(
    server: LogServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_way, "MAX_LINE_BYTES", 60)
    handler = make(TcpLogHandler, server.address)
    logger_to(handler).info("a")
    until_seen(lambda: handler.lost)
    assert "60 bytes at most can be sent" in handler.last_loss
