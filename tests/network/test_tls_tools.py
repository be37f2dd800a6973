"""TLS with the openssl command on the other side, as client and as server, in both versions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import subprocess
from network_ground import PATIENCE, Ground, echo, until
from tls_ground import authority, client_options, client_pair, server_options, server_pair

from edgevent import (
    Client,
    ConnectionLostError,
    HandshakeError,
    Message,
    PermanentConnection,
    Server,
    StreamConnection,
    TruncatedError,
    connect,
)

TLS = "tls://127.0.0.1:0"
VERSIONS = ("1.2", "1.3")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of a server and of a client."""
    authority().write(tmp_path, "ca")
    server_pair().write(tmp_path, "server")
    client_pair().write(tmp_path, "client")
    return tmp_path


class Tool:
    """The openssl command, with what it prints."""

    def __init__(self, words: list[str], folder: Path) -> None:
        self.printed = b""
        self.process = subprocess.Popen(
            words,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = gevent.spawn(self._read)

    def _read(self) -> None:
        while data := self.process.stdout.read1(65536):
            self.printed += data

    def say(self, text: str) -> None:
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def wait_for(self, text: str) -> None:
        until(lambda: text.encode() in self.printed or self._reader.ready())
        assert text.encode() in self.printed, self.printed

    def end(self) -> None:
        """Waits until it has ended by itself."""
        self._reader.get(timeout=PATIENCE)
        self.process.wait(timeout=PATIENCE)


@pytest.fixture
def openssl(need_tool: Callable[..., str], folder: Path) -> Callable[..., Any]:
    """Runs the tool for as long as a block lasts."""
    path = need_tool("openssl", package="openssl")

    @contextmanager
    def run(*words: str) -> Iterator[Tool]:
        tool = Tool([path, *words], folder)
        try:
            yield tool
        finally:
            tool.process.kill()
            tool.end()
            tool.process.stdin.close()
            tool.process.stdout.close()

    return run


def dialled(server: Server, version: str, *words: str) -> tuple[str, ...]:
    """The words for a client that checks all that is to be checked."""
    return (
        "s_client",
        *("-connect", f"127.0.0.1:{server.port}", "-CAfile", "ca.crt", "-verify_return_error"),
        *("-verify_ip", "127.0.0.1", f"-tls{version.replace('.', '_')}"),
        *words,
    )


# --- as a client ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mutual", [False, True])
def test_a_client_talks_line_by_line(
    version: str, mutual: bool, ground: Ground, openssl: Callable[..., Any]
) -> None:
    options = server_options(allow_names=["alice"]) if mutual else server_options()
    server = ground.serve(echo(), TLS, tls=options)
    own = ("-cert", "client.crt", "-key", "client.key") if mutual else ()
    with openssl(*dialled(server, version, "-quiet", *own)) as tool:
        for text in ("one", "two", "three"):
            tool.say(f"ECHO text={text}\n")
            tool.wait_for(f"ECHOED text={text}\n")
        (peer,) = server.peers
        assert peer.tls is not None
        assert peer.tls.version == f"TLSv{version}"
        assert peer.authenticated == mutual


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_sees_what_is_promised(
    version: str, ground: Ground, openssl: Callable[..., Any]
) -> None:
    server = ground.serve(echo(), TLS, tls=server_options())
    with openssl(*dialled(server, version)) as tool:
        tool.wait_for("Verify return code: 0 (ok)")
        tool.wait_for("Compression: NONE")
        tool.say("Q\n")  # which ends in good order
        tool.end()
    until(lambda: not server.peers)
    assert server.counts["lost"] == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_that_is_killed_has_cut_its_stream_off(
    version: str, ground: Ground, openssl: Callable[..., Any]
) -> None:
    errors: list[Exception] = []

    class Noting(StreamConnection):
        def process_error(self, error: Exception) -> None:
            errors.append(error)

    server = ground.serve(Noting, TLS, tls=server_options())
    with openssl(*dialled(server, version)) as tool:
        tool.wait_for("Verify return code")
        until(lambda: server.peers)
        tool.process.kill()
        until(lambda: errors)
    # A program that dies with something unread, such as session tickets, resets the connection.
    assert isinstance(errors[0], ConnectionLostError)


def test_nobody_can_negotiate_anew(
    ground: Ground, openssl: Callable[..., Any], logged: Callable[[str], list[str]]
) -> None:
    server = ground.serve(echo(), TLS, tls=server_options())
    with openssl(*dialled(server, "1.2")) as tool:
        tool.wait_for("Verify return code")
        tool.say("ECHO text=before\n")
        tool.wait_for("ECHOED text=before\n")
        tool.say("R\n")
        tool.wait_for("RENEGOTIATING")
        tool.end()
    assert b"no renegotiation" in tool.printed
    until(lambda: not server.peers)


@pytest.mark.parametrize("command", ["K", "k"])
def test_a_key_update_of_the_peer_is_followed(
    command: str, ground: Ground, openssl: Callable[..., Any]
) -> None:
    """``k`` is an update of the peer's keys, ``K`` asks for one of ours as well."""
    server = ground.serve(echo(), TLS, tls=server_options())
    with openssl(*dialled(server, "1.3")) as tool:
        tool.wait_for("Verify return code")
        for number in range(5):
            tool.say(f"{command}\n")
            until(lambda: tool.printed.count(b"KEYUPDATE") > number)  # noqa: B023
            tool.say(f"ECHO text={number}\n")
            tool.wait_for(f"ECHOED text={number}\n")


def test_an_old_client_is_refused_with_a_sentence(
    ground: Ground, openssl: Callable[..., Any], logged: Callable[[str], list[str]]
) -> None:
    server = ground.serve(echo(), TLS, tls=server_options(minimum_version="1.3"))
    with openssl(*dialled(server, "1.2")) as tool:
        tool.wait_for("alert protocol version")
        tool.end()
    until(lambda: logged("no TLS with"))
    assert "the TLS handshake failed: unsupported protocol" in logged("no TLS with")[0]


def test_a_client_chooses_by_name_and_protocol(ground: Ground, openssl: Callable[..., Any]) -> None:
    server = ground.serve(echo(), TLS, tls=server_options(alpn=("edgevent/1",)))
    with openssl(*dialled(server, "1.3", "-alpn", "x,edgevent/1", "-servername", "b")) as tool:
        tool.wait_for("ALPN protocol: edgevent/1")
    with openssl(*dialled(server, "1.3", "-alpn", "x")) as tool:
        tool.wait_for("alert no application protocol")
        tool.end()


# --- as a server ----------------------------------------------------------------------------------


@contextmanager
def serving(openssl: Callable[..., Any], *words: str) -> Iterator[tuple[Tool, str]]:
    """A server that sends each line back, the other way round; gives its address."""
    pair = ("-cert", "server.crt", "-key", "server.key")
    with openssl("s_server", "-accept", "127.0.0.1:0", *pair, "-rev", *words) as tool:
        tool.wait_for("ACCEPT 127.0.0.1:")
        until(lambda: tool.printed.partition(b"ACCEPT ")[2].endswith(b"\n"))
        yield tool, "tls://" + tool.printed.partition(b"ACCEPT ")[2].split()[0].decode()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_is_talked_to_and_its_session_resumed(
    version: str, openssl: Callable[..., Any]
) -> None:
    ours = client_options()
    with serving(openssl, f"-tls{version.replace('.', '_')}") as (_, address):
        for resumed in (False, True, True):
            stream = StreamConnection(address, tls=ours)
            assert stream.tls is not None
            assert stream.tls.version == f"TLSv{version}"
            stream.write(b"abc\n")
            assert stream.receive(PATIENCE) == b"cba\n"
            assert stream.tls.was_resumed == resumed
            stream.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_asks_for_a_certificate(version: str, openssl: Callable[..., Any]) -> None:
    words = ("-Verify", "2", "-verify_return_error", "-CAfile", "ca.crt")
    with (
        serving(openssl, f"-tls{version.replace('.', '_')}", *words) as (_, address),
        connect(address, tls=client_options(client_pair())) as stream,
    ):
        stream.write(b"abc\n")
        assert stream.read_line(PATIENCE) == b"cba\n"


def test_a_server_with_another_certificate_is_refused(openssl: Callable[..., Any]) -> None:
    other = client_options(authorities=authority("other authority").certificate)
    with serving(openssl) as (_, address):
        text = "its issuer 'CN=test authority' is not among the trusted authorities"
        with pytest.raises(HandshakeError, match=text):
            connect(address, tls=other)
        with pytest.raises(HandshakeError, match=r"not of b\.example"):
            connect(address, tls=client_options(server_name="b.example"))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_that_is_killed_has_cut_its_stream_off(
    version: str, openssl: Callable[..., Any]
) -> None:
    with (
        serving(openssl, f"-tls{version.replace('.', '_')}") as (tool, address),
        connect(address, tls=client_options()) as stream,
    ):
        stream.write(b"abc\n")
        assert stream.read_line(PATIENCE) == b"cba\n"
        tool.process.kill()
        with pytest.raises(TruncatedError):
            stream.read(timeout=PATIENCE)


def test_messages_go_both_ways_with_a_server(openssl: Callable[..., Any]) -> None:
    with serving(openssl) as (_, address), Client(address, tls=client_options()) as client:
        client.send(Message.parse("ABBA"))
        assert client.receive(PATIENCE).command == "ABBA"


def test_a_link_is_up_to_a_server(ground: Ground, openssl: Callable[..., Any]) -> None:
    with serving(openssl) as (_, address):
        link = PermanentConnection(address, tls=client_options())
        ground.communicator.add_connection(link)
        link.wait_until_up(PATIENCE)
        link.send(Message.parse("ABBA"))
        assert link.receive(PATIENCE).command == "ABBA"
        link.close()
