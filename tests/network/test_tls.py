"""Servers and clients that speak TLS: who is let in, who is refused, and what is said of it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from network_ground import PATIENCE, Ground, echo, until
from tls_ground import (
    Case,
    careless,
    client_cases,
    client_options,
    client_pair,
    only_12,
    server_cases,
    server_options,
    server_pair,
)

from edgevent import (
    CertificateError,
    CertificateFileError,
    Client,
    Communicator,
    ConnectionLostError,
    Dispatcher,
    HandshakeError,
    IdentityError,
    InvalidMessageError,
    LineConnection,
    Message,
    MessageConnection,
    Server,
    StreamConnection,
    TlsOptions,
    UsageError,
    connect,
)

TLS = "tls://127.0.0.1:0"


def at_localhost(server: Server) -> str:
    """The address of a server, by name."""
    return server.addresses[0].replace("127.0.0.1", "localhost")


def asks(client: Client) -> str:
    return client.request(Message("ECHO", {"text": "hello"}), timeout=PATIENCE)["text"]


# --- certificates ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", server_cases(), ids=str)
def test_a_client_dials_a_server_with_a_certificate(
    case: Case, ground: Ground, logged: Callable[[str], list[str]]
) -> None:
    options = careless(server_options(case.make()), server_side=True)
    server = ground.serve(echo(), TLS, tls=options)
    if case.error is None:
        with Client(server.addresses[0], tls=client_options()) as client:
            assert asks(client) == "hello"
        return
    for address in (server.addresses[0], at_localhost(server)):
        with pytest.raises(HandshakeError) as caught:
            Client(address, tls=client_options())
        assert type(caught.value) is case.error
        assert case.sentence in str(caught.value)
        assert str(caught.value).startswith(f"{address}: the certificate ")
    until(lambda: server.counts["lost"] == 2 and not server._greetings)
    (line,) = logged("no TLS with")  # one for both: it is the same peer, in the same minute
    assert "the client does not accept this side's certificate" in line
    assert server.peers == ()


@pytest.mark.parametrize("case", client_cases(), ids=str)
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_server_is_dialled_by_a_client_with_a_certificate(
    case: Case, version: str, ground: Ground, logged: Callable[[str], list[str]]
) -> None:
    options = server_options(allow_names=["alice", "localhost"])
    if version == "1.2":
        only_12(options, server_side=True)
    server = ground.serve(echo(), TLS, tls=options)
    shown = careless(client_options(case.make()), server_side=False)
    if case.error is None:
        with Client(server.addresses[0], tls=shown) as client:
            assert asks(client) == "hello"
            (peer,) = server.peers
            assert peer.authenticated
        return
    # With TLS 1.3 the client has shaken hands before the server looks at its certificate.
    with (
        pytest.raises((HandshakeError, ConnectionLostError)) as caught,
        Client(server.addresses[0], tls=shown) as client,
    ):
        asks(client)
    if case.name == "none":
        assert re.search(r"handshake failure|certificate required", str(caught.value))
    else:
        text = f"{server.addresses[0]}: the server does not accept this side's certificate"
        assert str(caught.value).startswith(text)
    until(lambda: not server._greetings)
    (line,) = logged("no TLS with")
    assert re.fullmatch(
        rf".*: no TLS with tls://127\.0\.0\.1:\d+: .*{re.escape(case.sentence)}.*", line
    )


def test_a_failed_handshake_is_logged_once_a_peer_and_minute(
    moved: Ground, clock: Any, logged: Callable[[str], list[str]]
) -> None:
    server = moved.serve(echo(), TLS, tls=server_options())
    for minute in (1, 2):
        for _ in range(5):
            with moved.dial(server) as sock:
                sock.sendall(b"no TLS at all\n")
                sock.recv(100)
        until(lambda: not server.counts["lost"] % 5)
        assert server.counts["lost"] == 5 * minute
        assert len(logged("no TLS with")) == minute
        clock.advance(61.0)


@pytest.mark.parametrize("verify", ["warn", "none"])
def test_a_client_may_take_what_is_not_valid(
    verify: Any, ground: Ground, logged: Callable[[str], list[str]]
) -> None:
    pair = server_pair("a.example", authority=None)
    server = ground.serve(echo(), TLS, tls=server_options(pair))
    with Client(server.addresses[0], tls=TlsOptions(verify=verify)) as client:
        assert asks(client) == "hello"
    assert len(logged("accepted, as verify='warn' says")) == (2 if verify == "warn" else 0)


def test_a_certificate_error_is_not_tried_again(ground: Ground) -> None:
    server = ground.serve(echo(), TLS, tls=server_options(server_pair("a.example")))
    with pytest.raises(IdentityError):
        Client(server.addresses[0], tls=client_options(), wait=True, connect_timeout=PATIENCE)
    assert server.counts["accepted"] == 1


# --- addresses and modes --------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["tcp", "tls", "unix", "tls+unix", "tls+abstract"])
def test_tls_on_any_address(scheme: str, ground: Ground, tmp_path: Path) -> None:
    address = {
        "unix": f"unix:{tmp_path}/s",
        "tls+unix": f"tls+unix:{tmp_path}/s",
        "tls+abstract": f"tls+unix:@{tmp_path}",
    }.get(scheme, f"{scheme}://127.0.0.1:0")
    server = ground.serve(echo(), address, tls=server_options())
    assert server.addresses[0].startswith("tls")
    with Client(server.addresses[0], tls=client_options()) as client:
        assert asks(client) == "hello"
        (peer,) = server.peers
        assert client.tls is not None
        assert peer.tls is not None
    plain = server.addresses[0].replace("tls+", "").replace("tls:", "tcp:")
    with Client(plain, tls=client_options()) as client:
        assert asks(client) == "hello"


def test_the_name_of_a_server_on_a_unix_socket_is_localhost_or_said(
    ground: Ground, tmp_path: Path
) -> None:
    pair = server_pair("b.example")
    server = ground.serve(echo(), f"tls+unix:{tmp_path}/s", tls=server_options(pair))
    with pytest.raises(IdentityError, match=r"is of b\.example, not of localhost"):
        Client(server.addresses[0], tls=client_options())
    with Client(server.addresses[0], tls=client_options(server_name="b.example")) as client:
        assert asks(client) == "hello"
        (peer,) = server.peers
        assert peer.credentials == client.credentials


def test_the_modes_of_the_cpp_library(ground: Ground, logged: Callable[[str], list[str]]) -> None:
    server = ground.serve(echo(), TLS, tls=server_options())
    tcp = server.addresses[0].replace("tls:", "tcp:")
    with Client(tcp, tls="secure") as client:
        assert asks(client) == "hello"
        assert client.tls is not None
    assert logged("is not among the trusted authorities; accepted")
    with pytest.raises(CertificateError, match="is not among the trusted authorities"):
        Client(tcp, tls="always secure")
    with pytest.raises(UsageError, match="tls='plain' was given"):
        Client(server.addresses[0], tls="plain")
    plain = ground.serve(echo())
    with Client(plain.addresses[0], tls="plain") as client:
        assert asks(client) == "hello"
        assert client.tls is None
    with pytest.raises(UsageError, match="a server needs a certificate"):
        Server("tcp://127.0.0.1:0", tls="secure")


def test_bad_files_are_told_when_the_object_is_made(tmp_path: Path) -> None:
    options = TlsOptions(tmp_path / "none.crt", tmp_path / "none.key", tmp_path / "none.crt")
    for make in (Server, Client, connect):
        with pytest.raises(CertificateFileError, match=r"none\.crt: No such file"):
            make("tls://127.0.0.1:0", tls=options)  # type: ignore[operator]


def test_tls_may_listen_beyond_loopback() -> None:
    with Communicator() as communicator:
        server = communicator.add_connection(Server("tls://0.0.0.0:0", tls=server_options()))
        assert server.port
        server.close()


# --- layers ---------------------------------------------------------------------------------------


def test_all_layers_speak_tls(ground: Ground) -> None:
    class Lines(LineConnection):
        def process_line(self, line: bytes) -> None:
            self.write(line[::-1] + b"\n")

    class Raw(StreamConnection):
        def process_read(self, data: bytes) -> None:
            self.write(data.upper())

    lines = ground.serve(Lines, TLS, tls=server_options())
    raw = ground.serve(Raw, TLS, tls=server_options())
    with connect(lines.addresses[0], tls=client_options()) as stream:
        stream.write(b"abc\n")
        assert stream.read_line(PATIENCE) == b"cba\n"
    stream = StreamConnection(raw.addresses[0], tls=client_options())
    stream.write(b"abc")
    assert stream.receive(PATIENCE) == b"ABC"
    stream.close()
    messages = ground.serve(echo(), TLS, tls=server_options())
    connection = MessageConnection(messages.addresses[0], tls=client_options())
    assert connection.request(Message("ECHO", {"text": "x"}))["text"] == "x"
    connection.close()


def test_straight_line_code_over_tls(ground: Ground) -> None:
    def conversation(connection: Any) -> None:
        connection.send(Message("HI", {"version": connection.tls.version}))
        for message in connection:
            connection.send(message.reply("SAME"))

    server = ground.serve(conversation, TLS, tls=server_options())
    with Client(server.addresses[0], tls=client_options()) as client:
        assert client.receive(PATIENCE)["version"] == "TLSv1.3"
        assert client.request(Message("X")).command == "SAME"
    until(lambda: not server.peers)
    assert server.counts["lost"] == 0


# --- who is on the other side ---------------------------------------------------------------------


def test_both_sides_know_each_others_certificate(ground: Ground) -> None:
    service = Dispatcher()

    @service.on("WHO")
    def who(message: Message, peer: Any) -> Message:
        certificate = peer.tls.peer_certificate
        return message.reply(
            "YOU", {"name": certificate.names[0], "proved": str(peer.authenticated)}
        )

    server = ground.serve(service, TLS, tls=server_options(mutual=True, alpn=("edgevent",)))
    for _ in range(2):  # the second session is resumed
        with Client(
            server.addresses[0], tls=client_options(client_pair(), alpn=("edgevent",))
        ) as client:
            answer = client.request(Message("WHO"))
            assert (answer["name"], answer["proved"]) == ("alice", "True")
            assert client.tls is not None
            assert client.tls.peer_certificate == server_pair().certificate
            assert client.tls.alpn == "edgevent"
            assert not client.authenticated  # a client is not asked to obey anybody


@pytest.mark.parametrize("mutual", [False, True])
def test_stop_is_obeyed_from_those_who_have_proved_who_they_are(
    mutual: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgevent.transport.stream.is_loopback", lambda sockaddr: False)
    with Communicator() as communicator, Ground(communicator) as ground:
        options = server_options(allow_names=["alice"]) if mutual else server_options()
        server = ground.serve(echo(), TLS, tls=options)
        with Client(server.addresses[0], tls=client_options(client_pair())) as client:
            if not mutual:
                with pytest.raises(InvalidMessageError):
                    client.request(Message("STOP"), reply="X")
                assert asks(client) == "hello"
            else:
                client.send(Message("STOP"))
                ground.runner.join(PATIENCE)
        assert ground.runner.ready() == mutual


# --- sessions, names, reload ----------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_client_resumes_its_session(version: str, ground: Ground) -> None:
    options, ours = server_options(), client_options()
    if version == "1.2":
        only_12(options, server_side=True)
    server = ground.serve(echo(), TLS, tls=options)
    other = ground.serve(echo(), TLS, tls=server_options())
    resumed = []
    for _ in range(3):
        with Client(server.addresses[0], tls=ours) as client:
            assert client.tls is not None
            resumed.append(client.tls.was_resumed)
            assert asks(client) == "hello"
    assert resumed == [False, True, True]
    with Client(other.addresses[0], tls=ours) as client:
        assert client.tls is not None
        assert not client.tls.was_resumed


def test_a_server_shows_the_certificate_of_the_name_that_is_asked_for(ground: Ground) -> None:
    pair = server_pair("b.example")
    by_name = {"b.example": TlsOptions(pair.certificate_pem, pair.key_pem)}
    server = ground.serve(echo(), TLS, tls=server_options(by_server_name=by_name))
    for name in ("b.example", "localhost"):
        with Client(server.addresses[0], tls=client_options(server_name=name)) as client:
            assert client.tls is not None
            assert client.tls.peer_certificate is not None
            assert name in client.tls.peer_certificate.names


def test_a_reload_holds_for_new_connections_and_leaves_the_others(
    ground: Ground, tmp_path: Path, logged: Callable[[str], list[str]]
) -> None:
    server_pair().write(tmp_path, "server")
    files = TlsOptions(tmp_path / "server.crt", tmp_path / "server.key")
    server = ground.serve(echo(), TLS, tls=files)
    ours = client_options()
    with Client(server.addresses[0], tls=ours) as standing:
        assert asks(standing) == "hello"
        new = server_pair("localhost", "127.0.0.1", "new.example")
        new.write(tmp_path, "server", force=True)
        assert server.reload()
        with Client(server.addresses[0], tls=ours) as client:
            assert client.tls is not None
            assert client.tls.peer_certificate == new.certificate
        (tmp_path / "server.key").write_bytes(b"rubbish")
        assert not server.reload()
        assert logged("the former certificate stays in use: ")
        with Client(server.addresses[0], tls=ours) as client:
            assert asks(client) == "hello"
        assert asks(standing) == "hello"
    assert ground.serve(echo()).reload()  # where there is nothing to be read


def test_a_minimum_version_is_a_sentence(ground: Ground) -> None:
    server = ground.serve(echo(), TLS, tls=only_12(server_options(), server_side=True))
    with pytest.raises(HandshakeError, match=r"the TLS handshake failed: .*version"):
        Client(server.addresses[0], tls=client_options(minimum_version="1.3"))


def test_no_protocol_in_common(ground: Ground, logged: Callable[[str], list[str]]) -> None:
    server = ground.serve(echo(), TLS, tls=server_options(alpn=("a",)))
    with pytest.raises(HandshakeError, match=r"no (application protocol|reason)"):
        Client(server.addresses[0], tls=client_options(alpn=("b",)))
    until(lambda: logged("none of the protocols offered is known here: 'b'; here: 'a'"))


def test_nothing_is_logged_of_what_goes_well(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    server = ground.serve(echo(), TLS, tls=server_options(mutual=True))
    with Client(server.addresses[0], tls=client_options(client_pair())) as client:
        assert asks(client) == "hello"
    until(lambda: not server.peers)
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []
