"""Two sides of a TLS conversation, byte by byte, without a socket."""

from __future__ import annotations

import gc
import logging
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from tls_ground import (
    Talk,
    client_options,
    client_pair,
    middle,
    only_12,
    server_options,
    server_pair,
)

from edgevent import (
    ClosedError,
    ConnectionLostError,
    HandshakeError,
    TlsOptions,
    UsageError,
)
from edgevent.limits import TLS_SESSIONS
from edgevent.tls_session import RECORD_BYTES, TlsSession

VERSIONS = ("1.2", "1.3")


def dial(client: TlsOptions, server: TlsOptions, version: str = "1.3", **settings: Any) -> Talk:
    if version == "1.2":
        only_12(server, server_side=True)
    return Talk(client, server, **settings)


# --- what is known of a conversation --------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_both_sides_know_what_was_agreed(version: str) -> None:
    talk = dial(client_options(client_pair()), server_options(mutual=True), version)
    for side in (talk.client, talk.server):
        assert side.version == f"TLSv{version}"
        assert "AES" in side.cipher or "CHACHA" in side.cipher
        assert side.alpn == ""
    assert talk.client.peer_certificate == server_pair().certificate
    assert talk.server.peer_certificate == client_pair().certificate
    assert Talk().server.peer_certificate is None


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_knows_the_chain_that_has_come(version: str) -> None:
    pair = server_pair(authority=middle())
    talk = dial(client_options(), server_options(pair), version)
    assert talk.client.peer_chain == (pair.certificate, middle().certificate)


def test_nothing_is_known_before_the_handshake() -> None:
    session = TlsSession(client_options(), "tls://server", server_side=False)
    assert session.peer_chain == ()
    assert session.cipher == ""
    assert session.peer_certificate is None
    assert not session.awaits_tickets


def test_tickets_follow_the_handshake_of_a_client_with_tls_13() -> None:
    assert [
        dial(client_options(), server_options(), one).client.awaits_tickets for one in VERSIONS
    ] == [
        False,
        True,
    ]
    assert not Talk().server.awaits_tickets


def test_the_first_protocol_of_the_server_is_agreed() -> None:
    talk = Talk(client_options(alpn=("a", "b", "c")), server_options(alpn=("x", "c", "b")))
    assert (talk.client.alpn, talk.server.alpn) == ("c", "c")
    assert Talk(client_options(alpn=("a",)), server_options()).client.alpn == ""
    assert Talk(client_options(), server_options(alpn=("a",))).client.alpn == ""


def test_no_protocol_in_common_is_an_error_on_both_sides() -> None:
    talk = Talk(client_options(alpn=("a", "b")), server_options(alpn=("c",)))
    assert str(talk.errors[talk.server]) == (
        "tls://client: none of the protocols offered is known here: 'a', 'b'; here: 'c'"
    )
    assert isinstance(talk.errors[talk.client], HandshakeError)
    assert re.search(r"no (application protocol|reason)", str(talk.errors[talk.client]))


def test_a_minimum_version_is_an_error_on_both_sides() -> None:
    for client, server in (
        (only_12(client_options(), server_side=False), server_options(minimum_version="1.3")),
        (
            client_options(minimum_version="1.3"),
            only_12(server_options(), server_side=True),
        ),
    ):
        talk = Talk(client, server)
        for side in (talk.client, talk.server):
            error = talk.errors[side]
            assert type(error) is HandshakeError
            assert re.search(r"the TLS handshake failed: .*(protocol|version)", str(error))


# --- names of a server ----------------------------------------------------------------------------


@pytest.mark.parametrize("mutual", [False, True])
def test_a_server_chooses_its_certificate_by_the_name_it_is_asked_for(mutual: bool) -> None:
    other = server_pair("b.example")
    by_name = {"B.example": TlsOptions(other.certificate_pem, other.key_pem)}
    server = server_options(mutual=mutual, by_server_name=by_name, alpn=("p",))
    client = client_options(client_pair(), alpn=("p",))
    for name, pair in (("localhost", server_pair()), ("b.example", other)):
        talk = Talk(client, server, server_name=name)
        assert talk.is_up, talk.errors
        assert talk.client.peer_certificate == pair.certificate
        assert talk.client.alpn == "p"
        assert talk.server.is_mutual == mutual
    assert Talk(client, server, server_name="127.0.0.1").is_up  # an address is no server name
    if mutual:
        bad = Talk(client_options(), server, server_name="b.example")
        assert "has sent no certificate" in str(bad.errors[bad.server])


# --- sessions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mutual", [False, True])
def test_a_client_resumes_its_last_session(version: str, mutual: bool) -> None:
    client, server = client_options(client_pair()), server_options(mutual=mutual)
    if version == "1.2":
        only_12(client, server_side=False)
    resumed = []
    for _ in range(3):
        talk = Talk(client, server, key="a")
        assert talk.is_up
        assert talk.send(b"x") == b"x"
        assert talk.client.peer_certificate == server_pair().certificate
        found = talk.server.peer_certificate
        assert (found == client_pair().certificate) if mutual else (found is None)
        assert talk.server.is_mutual == mutual
        resumed.append(talk.client.was_resumed)
        talk.end()
    assert resumed == [False, True, True]
    assert not Talk(client, server, key="b").client.was_resumed
    assert not Talk(client, server).client.was_resumed


def test_a_session_of_another_server_is_offered_in_vain() -> None:
    client = client_options()
    Talk(client, server_options(), key="a").end()
    talk = Talk(client, server_options(), key="a")
    assert talk.is_up
    assert not talk.client.was_resumed


def test_sessions_are_not_kept_when_that_is_not_wanted() -> None:
    client, server = client_options(reuse_sessions=False), server_options()
    for _ in range(2):
        talk = Talk(client, server, key="a")
        assert not talk.client.was_resumed
        talk.end()


def test_the_last_sessions_are_kept() -> None:
    client, server = client_options(), server_options()
    talk = Talk(client, server, key="0")
    session: Any = talk.client._connection.get_session()
    context = client.context(server_side=False)
    for number in range(TLS_SESSIONS + 1):
        client.keep_session(str(number), session, context)
    client.keep_session("1", session, context)
    client.keep_session("x", session, context)
    client.keep_session("y", None, context)
    kept = [n for n in range(TLS_SESSIONS + 1) if client.find_session(str(n)) is not None]
    assert kept == [1, *range(3, TLS_SESSIONS + 1)]


def test_no_session_is_resumed_after_a_reload() -> None:
    client, server = client_options(), server_options()
    Talk(client, server, key="a").end()
    standing = Talk(client, server, key="a")
    assert standing.client.was_resumed
    assert client.reload()
    standing.end()  # it is of the former context, and must not come back by this door
    assert not Talk(client, server, key="a").client.was_resumed


def test_a_ticket_is_worth_nothing_after_the_reload_of_its_server() -> None:
    client, server = client_options(), server_options()
    Talk(client, server, key="a").end()
    assert server.reload()
    talk = Talk(client, server, key="a")
    assert talk.is_up
    assert not talk.client.was_resumed


# --- bytes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_handshake_and_data_come_byte_by_byte(version: str) -> None:
    talk = dial(client_options(client_pair()), server_options(mutual=True), version, size=1)
    assert talk.is_up
    for back in (False, True):
        data = random.Random(5).randbytes(500)
        assert talk.send(data, back=back, cuts=range(1, 600)) == data


@pytest.mark.parametrize("version", VERSIONS)
def test_a_record_may_be_cut_anywhere(version: str) -> None:
    talk = dial(client_options(), server_options(), version)
    size = len(talk.client.encrypt(b"message\n"))
    assert talk.server.decrypt(b"") == b""
    talk = dial(client_options(), server_options(), version)
    for cut in range(size + 1):
        assert talk.send(b"message\n", cuts=[cut]) == b"message\n"


def test_records_may_be_cut_at_random_1000_times() -> None:
    rng = random.Random(6)
    talk = Talk()
    for turn in range(1000):
        parts = [rng.randbytes(rng.choice((1, 20, 300, 5000))) for _ in range(rng.randint(1, 5))]
        back = bool(turn & 1)
        sender, receiver = (talk.server, talk.client) if back else (talk.client, talk.server)
        records = b"".join(map(sender.encrypt, parts))
        cuts = sorted(rng.sample(range(len(records)), min(rng.randint(0, 6), len(records))))
        found = b""
        for start, end in zip([0, *cuts], [*cuts, len(records)], strict=True):
            found += receiver.decrypt(records[start:end])
        assert found == b"".join(parts)


def test_what_comes_with_the_last_bytes_of_the_handshake_is_not_lost() -> None:
    client = TlsSession(client_options(), "s", server_side=False, server_name="localhost")
    server = TlsSession(server_options(), "c", server_side=True)
    client.handshake()
    server.feed(client.take())
    server.handshake()
    client.feed(server.take())
    assert client.handshake()
    server.feed(client.take() + client.encrypt(b"first") + client.encrypt(b"second")[:20])
    assert server.handshake()
    assert server.decrypt(b"") == b"first"
    assert server.decrypt(b"") == b""


def test_a_record_has_all_that_fits() -> None:
    talk = Talk()
    data = random.Random(7).randbytes(RECORD_BYTES)
    assert talk.send(data) == data
    assert talk.send(memoryview(data)[5:]) == data[5:]  # type: ignore[arg-type]
    assert talk.client.take() == b""


# --- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_an_end_mark_comes_after_all_data(version: str) -> None:
    talk = dial(client_options(), server_options(), version)
    last = talk.client.encrypt(b"last")
    talk.client.end()
    last += talk.client.take()
    assert talk.server.decrypt(last) == b"last"
    assert talk.server.has_ended
    assert talk.send(b"answer", back=True) == b"answer"  # the other direction goes on
    with pytest.raises(
        ConnectionLostError, match=r"sending to tls://server failed: TLS: .*shutdown"
    ):
        talk.client.encrypt(b"more")


def test_an_end_mark_alone_is_the_end() -> None:
    talk = Talk()
    assert talk.send(b"x") == b"x"
    talk.client.end()
    assert talk.server.decrypt(talk.client.take()) == b""
    assert talk.server.has_ended
    assert talk.server.decrypt(b"") == b""


def test_a_session_that_has_not_begun_has_no_end_mark(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "edgevent")
    session = TlsSession(client_options(), "tls://server", server_side=False)
    session.handshake()
    session.take()
    session.end()
    assert session.take() == b""
    assert "tls://server: no close_notify" in caplog.text


def test_a_corrupt_record_is_an_error_and_what_was_before_it_is_not_lost() -> None:
    talk = Talk()
    good, bad = talk.client.encrypt(b"good"), bytearray(talk.client.encrypt(b"bad"))
    bad[-1] ^= 1
    assert talk.server.decrypt(good + bytes(bad)) == b"good"
    assert talk.server.failure.startswith("receiving from tls://client failed: TLS: ")
    for _ in range(2):
        with pytest.raises(ConnectionLostError, match=r"decryption failed|bad record mac"):
            talk.server.decrypt(b"")
    alert = talk.server.take()
    with pytest.raises(ConnectionLostError, match="alert bad record mac"):
        talk.client.decrypt(alert)


def test_every_changed_byte_of_a_record_is_noticed() -> None:
    size = len(Talk().client.encrypt(b"message"))
    for at in range(size):
        talk = Talk()
        record = bytearray(talk.client.encrypt(b"message"))
        record[at] ^= 0x41
        try:
            found = talk.server.decrypt(bytes(record))
        except ConnectionLostError:
            continue
        assert found == b""  # its length has grown, and more is awaited
        assert at in (3, 4)


@pytest.mark.parametrize(
    "text", [b"GET / HTTP/1.0\r\n\r\n", b"ALIVE serial=1\n", b"HI\n" * 10, bytes(100)]
)
@pytest.mark.parametrize("server_side", [False, True])
def test_text_in_the_clear_is_no_tls(text: bytes, server_side: bool) -> None:
    options = server_options() if server_side else client_options()
    session = TlsSession(options, "tls://peer", server_side=server_side)
    session.handshake()
    session.feed(text)
    with pytest.raises(HandshakeError, match="tls://peer: the other side does not speak TLS"):
        session.handshake()


def test_an_end_mark_in_the_handshake_is_an_end() -> None:
    session = TlsSession(client_options(), "tls://peer", server_side=False)
    session.handshake()
    session.feed(b"\x15\x03\x01\x00\x02\x01\x00")  # an alert: close_notify
    with pytest.raises(HandshakeError, match="the connection ended during the TLS handshake"):
        session.handshake()


def test_what_is_released_is_closed() -> None:
    talk = Talk()
    for _ in range(2):
        talk.client.release()
    for use in (
        lambda: talk.client.encrypt(b"x"),
        lambda: talk.client.decrypt(b"x"),
        lambda: talk.client.version,
        lambda: talk.client.peer_certificate,
    ):
        with pytest.raises(ClosedError, match="the TLS connection to tls://server is closed"):
            use()


def test_nothing_holds_a_session_that_is_over() -> None:
    from OpenSSL import SSL

    def connections() -> int:
        return sum(isinstance(one, SSL.Connection) for one in gc.get_objects())

    makers: list[Callable[[], object]] = [
        lambda: Talk().end(),
        lambda: Talk(server_name="b.example"),
        lambda: Talk(client_options(alpn=("a",)), server_options(alpn=("b",))),
        lambda: TlsSession(client_options(), "x", server_side=False).release(),
    ]
    for make in makers:
        make()
    gc.collect()
    before = connections()
    gc.disable()
    try:
        for make in makers:
            make()
            assert connections() == before
        talk = Talk()
        record = bytearray(talk.client.encrypt(b"bad"))
        record[-1] ^= 1
        with pytest.raises(ConnectionLostError):
            talk.server.decrypt(bytes(record))
        talk.end()
    finally:
        gc.enable()


def test_names_that_no_certificate_has_are_refused() -> None:
    with pytest.raises(UsageError, match="server_name='a b': a DNS name or an IP address"):
        client_options(server_name="a b")
