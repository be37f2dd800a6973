"""Log records in datagrams: sent again, cut, signed, and lost only when that is told."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from log_server_ground import LogServer, arrive, logger_to, until_seen
from network_ground import Ground, until

from edgevent import Message, SigningKeyError
from edgevent.snaplogger.datagram_way import WINDOW
from edgevent.snaplogger.handlers import UdpLogHandler

Make = Callable[..., UdpLogHandler]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes handlers, and closes them."""
    made: list[UdpLogHandler] = []

    def make(server: LogServer | str, **settings: Any) -> UdpLogHandler:
        address = server if isinstance(server, str) else server.address
        settings = {
            "pauses": "0.02",
            "close_timeout": 0.0,
            "complain": print,
            "answer_timeout": 0.05,
            "retries": 100,
            **settings,
        }
        made.append(UdpLogHandler(address, **settings))
        return made[-1]

    yield make
    for handler in made:
        handler.close()


def place(kind: str, folder: Path) -> str:
    return "udp://127.0.0.1:0" if kind == "udp" else f"unixgram:{folder}/log"


@pytest.fixture(params=["udp", "unixgram"])
def server(request: pytest.FixtureRequest, ground: Ground, tmp_path: Path) -> LogServer:
    return LogServer(ground, place(request.param, tmp_path))


def acknowledged(message: Message) -> Message:
    return message.reply("LOG_ACKNOWLEDGE")


def test_all_arrive(server: LogServer, make: Make) -> None:
    handler = make(server, answer_timeout=20.0)
    logger = logger_to(handler)
    for number in range(500):
        logger.info("%d", number)
    arrive(handler)
    assert server.texts == [str(number) for number in range(500)]
    assert handler.lost == 0


def test_what_is_not_acknowledged_is_sent_again(server: LogServer, make: Make) -> None:
    handler = make(server)
    seen: dict[str, int] = {}

    def answer(message: Message) -> Message | None:
        """The first two of each are lost, or their answers are."""
        seen[message["serial"]] = seen.get(message["serial"], 0) + 1
        return acknowledged(message) if seen[message["serial"]] > 2 else None

    server.answer = answer
    logger = logger_to(handler)
    for number in range(2 * WINDOW):
        logger.info("%d", number)
    arrive(handler)
    assert set(server.texts) == {str(number) for number in range(2 * WINDOW)}
    assert min(seen.values()) == 3
    assert handler.lost == 0


def test_after_the_last_try_a_record_is_lost_and_told(server: LogServer, make: Make) -> None:
    server.answer = lambda message: None
    handler = make(server, answer_timeout=0.01, retries=2)
    logger = logger_to(handler)
    logger.info("a")
    until_seen(lambda: handler.lost and handler.is_away and len(server.texts) >= 3)
    assert server.texts == ["a"] * 3
    assert handler.last_loss == "the server has not acknowledged it, sent 3 times"
    server.answer = acknowledged
    logger.info("b")
    until_seen(lambda: len(server.texts) == 5)
    assert server.texts[3] == "b"
    assert server.texts[4].endswith("sent 3 times")
    arrive(handler)


@pytest.mark.parametrize("answer", ["UNKNOWN", "INVALID", "UNKNOWN serial=x", "LOG_ACKNOWLEDGE"])
def test_an_answer_that_says_nothing_is_no_defect(
    server: LogServer, make: Make, answer: str
) -> None:
    told: list[str] = []
    answers = iter([Message.parse(answer)])
    server.answer = lambda message: next(answers, acknowledged(message))
    handler = make(server, complain=told.append)
    logger_to(handler).info("arrives")
    arrive(handler)
    assert (handler.lost, told) == (0, [])


def test_a_window_waits_for_answers(server: LogServer, make: Make) -> None:
    server.answer = lambda message: None
    handler = make(server, answer_timeout=60.0)
    logger = logger_to(handler)
    for number in range(WINDOW + 5):
        logger.info("%d", number)
    until(lambda: len(server.messages) == WINDOW)
    server.answer = acknowledged
    for message in server.messages[:5]:
        server.peers[0].send(acknowledged(message))
    until(lambda: len(server.messages) == WINDOW + 5)
    until_seen(lambda: handler.waiting == WINDOW - 5)


def test_a_receiver_that_is_not_there_costs_no_try(
    ground: Ground, make: Make, server: LogServer
) -> None:
    address = server.address
    server.stop()
    handler = make(address, answer_timeout=5.0, retries=0)
    logger = logger_to(handler)
    for number in range(10):
        logger.info("%d", number)
    until_seen(lambda: handler.is_away)
    server.start(address)
    arrive(handler)
    assert server.texts == [str(number) for number in range(10)]
    assert handler.lost == 0


def test_without_acknowledgement_it_is_sent_once(server: LogServer, make: Make) -> None:
    handler = make(server, acknowledge="none")
    logger = logger_to(handler)
    for number in range(20):
        logger.info("%d", number)
    arrive(handler)
    until(lambda: len(server.messages) == 20)
    assert "acknowledge" not in server.messages[0]


@pytest.mark.parametrize(("kind", "limit"), [("udp", 1024), ("unixgram", 65_536)])
def test_a_text_is_cut_to_a_datagram(
    ground: Ground, make: Make, tmp_path: Path, kind: str, limit: int
) -> None:
    server = LogServer(ground, place(kind, tmp_path))
    handler = make(server)
    logger = logger_to(handler)
    logger.info('"%s"', "\\\n" * limit)
    logger.info("b", extra={"long": "c" * limit})
    arrive(handler)
    assert limit - 150 < len(bytes(server.messages[0])) <= limit
    assert server.texts[0].endswith("bytes are cut off)")
    assert server.texts[1] == "b"


def test_what_no_datagram_holds_is_lost(server: LogServer, make: Make) -> None:
    handler = make(server, max_datagram_bytes=60)
    logger_to(handler).info("a")
    until_seen(lambda: handler.lost)
    assert "60 bytes at most can be sent" in handler.last_loss
    assert server.messages == []


def test_a_datagram_that_the_kernel_does_not_take_is_lost(ground: Ground, make: Make) -> None:
    server = LogServer(ground, "udp://127.0.0.1:0")
    handler = make(server, max_datagram_bytes=1 << 20)
    logger = logger_to(handler)
    logger.info("a" * 70_000)
    logger.info("b")
    arrive(handler)
    assert "Message too long" in handler.last_loss
    assert server.texts[0] == "b"


def test_a_secret_code(ground: Ground, make: Make) -> None:
    server = LogServer(ground, "udp://127.0.0.1:0", secret_code="hunter2")
    good, bad = make(server, secret_code="hunter2"), make(server, secret_code="other", retries=0)
    logger = logger_to(good, bad)
    logger.info("a")
    arrive(good, bad)
    assert (good.lost, bad.lost) == (0, 1)
    assert server.texts == ["a"]


def test_signed_records_and_answers(ground: Ground, make: Make, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("0123456789abcdef\n")
    keys.chmod(stat.S_IRUSR | stat.S_IWUSR)
    server = LogServer(ground, "udp://127.0.0.1:0", auth=keys)
    handler = make(server, auth=keys)
    logger = logger_to(handler)
    for number in range(50):
        logger.info("%d", number)
    arrive(handler)
    assert server.texts == [str(number) for number in range(50)]
    keys.chmod(0o644)
    with pytest.raises(SigningKeyError, match="0600 was expected"):
        UdpLogHandler(server.address, auth=keys)
