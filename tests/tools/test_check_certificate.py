"""check-certificate, run as a program against servers that really speak TLS."""

from __future__ import annotations

import functools
import json
import os
import pty
import re
import resource
import signal
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from running import environment, unmeasured
from tls_ground import authority, middle, server_pair
from tool_ground import examples_of

from edgevent import Certificate, KeyPair, make_authority, make_certificate
from edgevent.tools.check_certificate import main

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "check-certificate"
PATIENCE = 30.0
NAMES = ("localhost", "127.0.0.1")
NOW = datetime.now(timezone.utc)
DAY = timedelta(days=1)
DATE = r"2\d\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC"

Talk = Callable[[socket.socket], object]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the authority's certificate, and no configuration of the machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ca.crt").write_bytes(authority().certificate_pem)
    return tmp_path


def check(*words: str, **variables: str) -> tuple[int, str, str]:
    """Runs the program; gives its exit code, its output and its error output."""
    folder = Path.cwd()
    done = subprocess.run(
        [sys.executable, SCRIPT, *words],
        env={**environment(folder), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """What the same does in this process, which is sooner done."""

    def run(*words: str) -> tuple[int, str, str]:
        try:
            code = main(words)
        except SystemExit as ended:
            code = int(str(ended.code))
        return code, *capsys.readouterr()

    return run


# --- servers --------------------------------------------------------------------------------------


class Handler(socketserver.BaseRequestHandler):
    """Talks in plain text first, if the test wants that, then shakes hands; waits for the end."""

    def handle(self) -> None:
        server: Any = self.server
        sock = self.request
        sock.settimeout(PATIENCE)
        server.arrived.set()
        try:
            server.talk(sock)
            if server.context is None:
                while sock.recv(4096):  # a close with unread input would reset the connection
                    pass
                return
            with server.context.wrap_socket(sock, server_side=True) as tls:
                server.ends.append(tls.recv(1))
        except OSError as error:
            server.ends.append(error)


class TcpServer(socketserver.ThreadingTCPServer):
    """One thread for each connection."""


class UnixServer(socketserver.ThreadingUnixStreamServer):
    """One thread for each connection."""


@contextmanager
def serving(
    pair: KeyPair | None,
    talk: Talk = lambda sock: None,
    *,
    path: str = "",
    version: ssl.TLSVersion | None = None,
    clients: bool = False,
) -> Iterator[Any]:
    """A server on loopback, or at a path; ``port`` is its port, ``ends`` how each talk ended."""
    context = None if pair is None else context_of(pair)
    if context is not None and version is not None:
        context.minimum_version = context.maximum_version = version
    if context is not None and clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=authority().certificate_pem.decode())
    server: Any = UnixServer(path, Handler) if path else TcpServer(("127.0.0.1", 0), Handler)
    server.talk = talk
    server.arrived = threading.Event()
    server.ends = []
    server.context = context
    if not path:
        server.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()  # joins the threads of the connections


def context_of(pair: KeyPair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate, key = pair.write(Path.cwd(), "served", force=True)
    context.load_cert_chain(certificate, key)
    return context


@functools.cache
def other_authority() -> KeyPair:
    return make_authority("Other authority")


@functools.cache
def five_days() -> KeyPair:
    return server_pair(not_after=NOW + 5 * DAY + timedelta(hours=1))


@functools.cache
def expired() -> KeyPair:
    return server_pair(not_before=NOW - 9 * DAY, not_after=NOW - 3 * DAY - timedelta(hours=1))


@functools.cache
def not_yet_valid() -> KeyPair:
    return server_pair(not_before=NOW + DAY)


@functools.cache
def another_name() -> KeyPair:
    return server_pair("www.example.com", "mail.example.com")


@functools.cache
def of_other_authority() -> KeyPair:
    return server_pair(authority=other_authority())


@functools.cache
def of_itself() -> KeyPair:
    return make_certificate(None, NAMES)


@functools.cache
def below_middle() -> KeyPair:
    return server_pair(authority=middle())


def unused_port() -> int:
    """A port on which nobody listens, as long as the socket of the same number is not closed."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# --- the exit code, and why -----------------------------------------------------------------------

CASES: list[tuple[Callable[[], KeyPair], int, str]] = [
    (server_pair, 0, f"valid until {DATE}, 36[45] days left"),
    (
        five_days,
        1,
        f"the certificate 'CN=localhost' expires on {DATE}, in 5 days; the limit is 14d",
    ),
    (expired, 1, f"the certificate 'CN=localhost' has expired on {DATE}, 3 days ago"),
    (not_yet_valid, 1, f"the certificate 'CN=localhost' is not valid before {DATE}"),
    (
        of_other_authority,
        1,
        "the certificate 'CN=localhost': its issuer 'CN=Other authority' is not among the trusted"
        f" authorities; it is valid until {DATE}",
    ),
    (
        of_itself,
        1,
        "the certificate 'CN=localhost': it is self-signed, and not trusted; it is valid until"
        f" {DATE}",
    ),
    (
        another_name,
        1,
        "the certificate 'CN=www.example.com' is of www.example.com, mail.example.com, not of"
        f" localhost; it is valid until {DATE}",
    ),
    (below_middle, 0, f"valid until {DATE}, 36[45] days left"),
]


@pytest.mark.parametrize(("pair", "code", "sentence"), CASES, ids=lambda one: str(one)[:20])
def test_the_exit_code_and_a_sentence_tell_what_a_server_has(
    pair: Callable[[], KeyPair], code: int, sentence: str
) -> None:
    with serving(pair()) as server:
        found = check("--ca", "ca.crt", f"localhost:{server.port}")
    assert (found[0], found[2]) == (code, "")
    assert re.fullmatch(f"localhost:{server.port}: {sentence}\n", found[1]), found[1]
    assert server.ends == [b""]  # in good order


def test_nobody_there_ends_with_2() -> None:
    port = unused_port()
    assert check(f"127.0.0.1:{port}") == (
        2,
        "",
        f"check-certificate: 127.0.0.1:{port}: Connection refused\n",
    )


def test_the_worst_of_several_is_the_exit_code_and_their_order_is_kept() -> None:
    port = unused_port()
    with serving(server_pair()) as good, serving(expired()) as bad:
        first, second = f"127.0.0.1:{good.port}", f"127.0.0.1:{bad.port}"
        assert check("--ca=ca.crt", first, second)[0] == 1
        code, out, err = check("--ca=ca.crt", second, f"127.0.0.1:{port}", first, "ca.crt")
    assert code == 2
    assert [line.partition(": ")[0] for line in out.splitlines()] == [second, first, "ca.crt"]
    assert err == f"check-certificate: 127.0.0.1:{port}: Connection refused\n"


def test_all_that_is_wrong_is_told(said: Said) -> None:
    pair = server_pair(
        "a.example", authority=other_authority(), not_before=NOW - 2 * DAY, not_after=NOW - DAY
    )
    with serving(pair) as server:
        code, out, _ = said("--ca=ca.crt", f"127.0.0.1:{server.port}")
    assert code == 1
    assert [re.sub(DATE, "DATE", line.partition(": ")[2]) for line in out.splitlines()] == [
        "the certificate 'CN=a.example': its issuer 'CN=Other authority' is not among the trusted"
        " authorities",
        "the certificate 'CN=a.example' is of a.example, not of 127.0.0.1",
        "the certificate 'CN=a.example' has expired on DATE, 24 hours ago",
    ]


def test_the_command_works_as_the_users_know_it(
    need_tool: Callable[..., str], own_namespaces: Callable[..., list[str]]
) -> None:
    """``check-certificate --info --limit 60 DOMAIN``: port 443, and the system's authorities."""
    openssl = need_tool("openssl", package="openssl")
    server_pair().write(Path.cwd(), "served")
    program = f"""
import subprocess, sys
words = [{openssl!r}, *"s_server -accept 443 -cert served.crt -key served.key -www".split()]
server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
try:
    assert any("ACCEPT" in line for line in server.stdout)
    words = [sys.executable, {str(SCRIPT)!r}, *"--info --limit 60 localhost".split()]
    code = subprocess.run(words, timeout={PATIENCE}).returncode
finally:
    server.kill()
    server.communicate()
sys.exit(code)
"""
    done = subprocess.run(
        [
            *own_namespaces("-n"),
            "sh",
            "-c",
            'ip link set lo up && exec "$0" -c "$1"',
            sys.executable,
            program,
        ],
        env={**environment(Path.cwd()), "SSL_CERT_FILE": "ca.crt"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("domain: localhost\nnot-before: ")


# --- what is printed ------------------------------------------------------------------------------


def test_info_has_the_names_of_the_other_tool(folder: Path, need_tool: Callable[..., str]) -> None:
    openssl = need_tool("openssl", package="openssl")
    subject = "/C=DE/ST=Bayern/L=Ulm/O=Our Firm/OU=Shop/CN=www.example.com/emailAddress=a@b.example"
    words = "req -x509 -newkey rsa:2048 -nodes -keyout k.key -out k.pem -days 100 -utf8"
    subprocess.run(
        [openssl, *words.split(), "-subj", subject],
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    code, out, err = check("--info", "--limit", "60", "k.pem")
    found = Certificate.read("k.pem")
    parts = {
        "common-name": "www.example.com",
        "country-name": "DE",
        "locality-name": "Ulm",
        "state-or-province-name": "Bayern",
        "organization-name": "Our Firm",
        "organizational-unit": "Shop",
        "email-address": "a@b.example",
    }
    assert (code, err) == (0, "")
    assert out.splitlines()[:-1] == [
        "domain: k.pem",
        f"not-before: {found.not_before:%Y/%m/%d %H:%M:%S}",
        f"not-after: {found.not_after:%Y/%m/%d %H:%M:%S}",
        *(f"issuer-{name}: {value}" for name, value in parts.items()),
        *(f"subject-{name}: {value}" for name, value in parts.items()),
        "key: RSA 2048",
        f"serial-number: {found.serial_number:x}",
        f"fingerprint: {found.fingerprint}",
    ]
    assert re.fullmatch(f"status: valid until {DATE}, 99 days left", out.splitlines()[-1])


def test_info_still_ends_by_the_limit_and_shows_the_chain(said: Said) -> None:
    with serving(below_middle()) as server:
        target = f"127.0.0.1:{server.port}"
        assert said("--ca=ca.crt", "-i", "-l", "60", target)[0] == 0
        code, out, _ = said("--ca=ca.crt", "-i", "-l", "400d", target, "ca.crt")
    assert code == 1
    first, second = (
        [line.partition(": ")[::2] for line in block.splitlines()] for block in out.split("\n\n")
    )
    assert ("alternative-names", "localhost, 127.0.0.1, ::1") in first
    chain = [value.partition("; not after")[0] for name, value in first if name == "chain"]
    assert chain == ["CN=middle authority; issuer CN=test authority"]
    assert first[-1][0] == "status"
    assert first[-1][1].endswith("; the limit is 400d")
    assert second[0] == ("domain", "ca.crt")


def test_json_is_one_object_a_line() -> None:
    port = unused_port()
    with serving(below_middle()) as server:
        target = f"127.0.0.1:{server.port}"
        code, out, err = check("--json", "--ca=ca.crt", target, f"127.0.0.1:{port}", "ca.crt")
    assert code == 2
    assert err.count("\n") == 1
    good, refused, file = map(json.loads, out.splitlines())
    own, above = below_middle().certificate, middle().certificate
    assert 364 < good.pop("days_left") < 366
    assert good == {
        "domain": target,
        "status": "good",
        "problems": [],
        "not_before": f"{own.not_before:%Y-%m-%dT%H:%M:%SZ}",
        "not_after": f"{own.not_after:%Y-%m-%dT%H:%M:%SZ}",
        "issuer_common_name": "middle authority",
        "subject_common_name": "localhost",
        "alternative_names": ["localhost", "127.0.0.1", "::1"],
        "key": "EC P-256",
        "serial_number": f"{own.serial_number:x}",
        "fingerprint": own.fingerprint,
        "chain": [
            {
                "subject": "CN=middle authority",
                "issuer": "CN=test authority",
                "not_before": f"{above.not_before:%Y-%m-%dT%H:%M:%SZ}",
                "not_after": f"{above.not_after:%Y-%m-%dT%H:%M:%SZ}",
                "fingerprint": above.fingerprint,
            }
        ],
    }
    assert refused == {
        "domain": f"127.0.0.1:{port}",
        "status": "unreadable",
        "problems": [],
        "error": "Connection refused",
    }
    assert (file["status"], file["subject_common_name"]) == ("good", "test authority")


def test_no_escape_sequence_reaches_the_terminal(folder: Path, said: Said) -> None:
    odd = make_certificate(None, ["aQQQQ"], days=3).certificate.der
    (folder / "odd.crt").write_bytes(odd.replace(b"aQQQQ", b"a\x1b[2J"))
    code, out, err = said("--info", "odd.crt", "\x1b[2J/x")
    assert code == 2
    assert "subject-common-name: a\\x1b[2J\n" in out
    assert "\x1b" not in out + err


def test_a_name_that_the_terminal_cannot_show_is_escaped() -> None:
    make_certificate(None, ["localhost"], common_name="Zürich").write(Path.cwd(), "odd")
    code, out, err = check("--info", "odd.crt", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (code, err) == (0, "")
    assert "subject-common-name: Z\\xfcrich\n" in out


def test_a_reader_that_has_gone_is_no_failure() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, SCRIPT, "ca.crt"],
            env=environment(Path.cwd()),
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


# --- which certificates count ---------------------------------------------------------------------


def test_an_authority_between_that_expires_sooner_is_told(said: Said) -> None:
    between = make_authority("between", parent=authority(), days=3)
    with serving(server_pair(authority=between)) as server:
        code, out, _ = said("--ca=ca.crt", f"127.0.0.1:{server.port}")
    assert code == 1
    assert "the certificate of the authority 'CN=between' expires on " in out
    assert out.count("\n") == 1


def test_an_authority_that_was_not_sent_is_told(said: Said) -> None:
    pair = below_middle()
    alone = KeyPair(pair.certificate, pair.certificate.pem, pair.key_pem)
    with serving(alone) as server:
        code, out, _ = said("--ca=ca.crt", f"127.0.0.1:{server.port}")
    assert code == 1
    assert "its issuer 'CN=middle authority' is not among the trusted authorities" in out
    assert out.count("\n") == 1


def test_authorities_come_from_a_folder_or_the_system(folder: Path) -> None:
    (folder / "trusted").mkdir()
    (folder / "ca.crt").rename(folder / "trusted" / "any-name")
    with serving(server_pair()) as server:
        target = f"127.0.0.1:{server.port}"
        assert check("--ca", "trusted", target)[0] == 0
        assert check(target, SSL_CERT_FILE="trusted/any-name")[0] == 0
        assert check(target)[0] == 1


@pytest.mark.parametrize(
    ("pair", "code"),
    [(of_other_authority, 0), (another_name, 0), (of_itself, 0), (expired, 1), (five_days, 1)],
)
def test_without_verification_the_date_alone_counts(
    pair: Callable[[], KeyPair], code: int, said: Said
) -> None:
    with serving(pair()) as server:
        assert said("--no-verify", f"127.0.0.1:{server.port}")[0] == code


def test_another_name_is_asked_for_and_checked() -> None:
    asked = []
    with serving(another_name()) as server:
        server.context.sni_callback = lambda sock, name, context: asked.append(name)
        words = ("--ca=ca.crt", "--server-name", "mail.example.com", f"127.0.0.1:{server.port}")
        assert check(*words)[0] == 0
    assert asked == ["mail.example.com"]


@pytest.mark.parametrize(
    ("limit", "code"),
    [("4", 0), ("6", 1), ("5.0", 0), ("5.5", 1), ("100h", 0), ("130h", 1), ("1 week", 1), ("0", 0)],
)
def test_a_number_alone_is_days(limit: str, code: int, said: Said) -> None:
    five_days().write(Path.cwd(), "five")
    assert said("--limit", limit, "five.crt")[0] == code


@pytest.mark.parametrize(
    ("left", "words"),
    [(DAY, "in 23 hours"), (DAY / 12, "in 119 minutes"), (DAY / 1440, r"in [1-6]\d? seconds")],
)
def test_what_is_left_is_told_in_a_unit_that_suits_it(
    left: timedelta, words: str, said: Said
) -> None:
    make_certificate(None, NAMES, not_after=datetime.now(timezone.utc) + left).write(".", "soon")
    code, out, _ = said("soon.crt")
    assert code == 1
    assert re.search(words, out), out


def test_options_come_from_a_file_and_the_environment(folder: Path) -> None:
    five_days().write(folder, "five")
    (folder / "my.conf").write_text("limit = 4\n")
    assert check("--config=my.conf", "five.crt")[0] == 0
    assert check("five.crt", EDGEVENT_CHECK_CERTIFICATE_LIMIT="4d")[0] == 0
    code, _, err = check("five.crt", EDGEVENT_CHECK_CERTIFICATE_LIMIT="four")
    assert code == 2
    assert "EDGEVENT_CHECK_CERTIFICATE_LIMIT: limit 'four': expected days, such as 14" in err


# --- ways to a server -----------------------------------------------------------------------------


def test_any_address_of_a_stream_will_do(folder: Path) -> None:
    with (
        serving(server_pair()) as tcp,
        serving(server_pair(), path=str(folder / "s.sock")),
    ):
        targets = [
            f"tls://127.0.0.1:{tcp.port}",
            f"tcp://127.0.0.1:{tcp.port}",
            f"cds://127.0.0.1:{tcp.port}",
            f"tls+unix:{folder}/s.sock",
            "unix:s.sock",
        ]
        code, out, err = check("--ca=ca.crt", *targets)
    assert (code, err) == (0, "")
    assert [line.rpartition(": valid until ")[0] for line in out.splitlines()] == targets


def test_a_server_of_openssl_and_tls_1_2_alone(need_tool: Callable[..., str]) -> None:
    openssl = need_tool("openssl", package="openssl")
    server_pair().write(Path.cwd(), "served")
    words = "s_server -tls1_2 -accept 127.0.0.1:0 -cert served.crt -key served.key -www"
    with subprocess.Popen(
        [openssl, *words.split()], stdout=subprocess.PIPE, text=True, stderr=subprocess.STDOUT
    ) as server:
        try:
            assert server.stdout is not None
            line = next(line for line in server.stdout if "ACCEPT" in line)
            assert check("--ca=ca.crt", line.split()[1])[0] == 0
        finally:
            server.kill()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_demands_a_certificate_gets_one(version: ssl.TLSVersion) -> None:
    pair = make_certificate(authority(), common_name="alice", usage="client")
    certificate, key = map(str, pair.write(Path.cwd(), "alice"))
    both = Path("both.pem")
    both.touch(0o600)
    both.write_bytes(pair.key_pem + pair.certificate_pem)
    with serving(server_pair(), version=version, clients=True) as server:
        target = f"127.0.0.1:{server.port}"
        words = ("--ca=ca.crt", f"--certificate={certificate}", f"--key={key}", target)
        assert check(*words)[0] == 0
        assert check("--ca=ca.crt", "--certificate=both.pem", target)[0] == 0
    assert server.ends == [b"", b""]


def test_a_demand_for_a_certificate_is_told(said: Said) -> None:
    stranger = make_certificate(other_authority(), common_name="eve", usage="client")
    stranger.write(Path.cwd(), "eve")
    with serving(server_pair(), version=ssl.TLSVersion.TLSv1_2, clients=True) as server:
        target = f"127.0.0.1:{server.port}"
        code, _, err = said("--ca=ca.crt", target)
        assert (code, err.count("\n")) == (2, 1)
        assert "it may demand a client's certificate: --certificate and --key" in err
        code, _, err = said("--ca=ca.crt", "--certificate=eve.crt", "--key=eve.key", target)
        assert (code, err.count("\n")) == (2, 1)
        assert "the server does not accept this side's certificate" in err


def handshake_message(kind: int, body: bytes) -> bytes:
    """A message of a TLS 1.2 handshake, in a record of its own (RFC 5246, 6.2.1 and 7.4)."""
    message = bytes([kind]) + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x03" + len(message).to_bytes(2, "big") + message


def test_a_certificate_without_a_proof_of_its_key_is_not_believed(said: Said) -> None:
    """It is public: anybody can send it, and then feign that this side's is not accepted."""
    der = server_pair().certificate.der
    listed = len(der).to_bytes(3, "big") + der
    hello = b"\x03\x03" + bytes(32) + b"\x00\xc0\x2b\x00"  # ECDHE-ECDSA-AES128-GCM-SHA256
    hello += b"\x00\x05\xff\x01\x00\x01\x00"  # renegotiation_info (RFC 5746)
    answer = handshake_message(2, hello)
    answer += handshake_message(11, len(listed).to_bytes(3, "big") + listed)
    answer += b"\x15\x03\x03\x00\x02\x02\x2a"  # the alert bad_certificate
    with serving(None, lambda sock: sock.sendall(answer)) as server:
        code, out, err = said("--ca=ca.crt", f"127.0.0.1:{server.port}")
    assert (code, out) == (2, "")
    assert "the server does not accept this side's certificate" in err


@pytest.mark.parametrize("option", ["--ca=ca.crt", "--no-verify"])
def test_a_certificate_that_cannot_be_read_ends_with_2(option: str, said: Said) -> None:
    pair = make_certificate(None, ["aQQQQ"], common_name="x")
    odd = replace(pair.certificate, der=pair.certificate.der.replace(b"aQQQQ", b"a" + b"\xff" * 4))
    with serving(KeyPair(odd, odd.pem, pair.key_pem)) as server:
        code, out, err = said(option, f"127.0.0.1:{server.port}")
    assert (code, out) == (2, "")
    assert err.endswith(": a certificate came that cannot be read\n")


@pytest.mark.parametrize(
    ("talk", "sentence"),
    [
        (lambda sock: sock.sendall(b"220 mail.example.com ESMTP\r\n"), "does not speak TLS"),
        (lambda sock: sock.shutdown(socket.SHUT_RDWR), "ended during the TLS handshake"),
        (lambda sock: None, "no TLS handshake within 300ms"),
    ],
)
def test_a_server_without_tls_ends_with_2(talk: Talk, sentence: str, said: Said) -> None:
    with serving(None, talk) as server:
        code, out, err = said("--timeout=300ms", f"127.0.0.1:{server.port}")
    assert (code, out) == (2, "")
    assert err.startswith(f"check-certificate: 127.0.0.1:{server.port}: ")
    assert sentence in err
    assert err.count("\n") == 1


# --- STARTTLS -------------------------------------------------------------------------------------


def expect(sock: socket.socket, pattern: bytes) -> None:
    """Reads up to the end of what is expected."""
    found = b""
    while not re.fullmatch(pattern, found, re.DOTALL):
        data = sock.recv(1)
        assert data, found
        found += data


REQUEST = bytes.fromhex("301d02010177188016") + b"1.3.6.1.4.1.1466.20037"


def ldap(code: int, why: bytes = b"") -> bytes:
    """An ExtendedResponse (RFC 4511, section 4.12) with the name of StartTLS."""
    body = bytes([0x0A, 1, code, 4, 0, 4, len(why)]) + why + b"\x8a\x16" + REQUEST[-22:]
    operation = bytes([0x78, len(body)]) + body
    return bytes([0x30, 0x81, len(operation) + 3, 2, 1, 1]) + operation


SCRIPTS: dict[str, list[tuple[bytes, bytes]]] = {
    "smtp": [
        (b"", b"220-mail.example.com\r\n220 ready\r\n"),
        (rb"EHLO \[127\.0\.0\.1\]\r\n", b"250-mail.example.com\r\n250-SIZE 1\r\n250 starttls\r\n"),
        (rb"STARTTLS\r\n", b"220 go ahead\r\n"),
    ],
    "imap": [
        (b"", b"* OK [CAPABILITY IMAP4rev1] ready\r\n"),
        (rb"a1 CAPABILITY\r\n", b"* CAPABILITY IMAP4rev1 STARTTLS\r\na1 OK done\r\n"),
        (rb"a2 STARTTLS\r\n", b"a2 OK begin\r\n"),
    ],
    "ldap": [(re.escape(REQUEST), ldap(0))],
}


def follow(script: list[tuple[bytes, bytes]]) -> Talk:
    """Plays the server's part of a script: what it waits for, and what it says then."""

    def talk(sock: socket.socket) -> None:
        for expected, answer in script:
            expect(sock, expected)
            for at in range(len(answer)):  # byte by byte
                sock.sendall(answer[at : at + 1])

    return talk


@pytest.mark.parametrize("protocol", SCRIPTS)
def test_tls_begins_in_the_midst_of_a_protocol(protocol: str) -> None:
    with serving(server_pair(), follow(SCRIPTS[protocol])) as server:
        target = f"127.0.0.1:{server.port}"
        code, out, err = check("--ca=ca.crt", "--starttls", protocol, target)
        assert (code, err) == (0, "")
        assert out.startswith(f"{target}: valid until ")
        code, out, err = check("--starttls", protocol, f"tcp://{target}")
        assert (code, err) == (1, "")
    assert server.ends == [b"", b""]


def test_a_server_behind_a_unix_socket_is_told_a_name(folder: Path, said: Said) -> None:
    script = [SCRIPTS["smtp"][0], (rb"EHLO localhost\r\n", SCRIPTS["smtp"][1][1])]
    script.append(SCRIPTS["smtp"][2])
    with serving(server_pair(), follow(script), path=str(folder / "s.sock")):
        assert said("--ca=ca.crt", "--starttls=smtp", "unix:s.sock")[0] == 0


def test_a_length_of_ldap_may_be_written_long(said: Said) -> None:
    """As some servers do: RFC 4511, section 5.1, wants no shortest form."""
    long = bytes.fromhex("3084000000100201017884000000070a010004000400")
    with serving(server_pair(), follow([(re.escape(REQUEST), long)])) as server:
        assert said("--ca=ca.crt", "--starttls=ldap", f"127.0.0.1:{server.port}")[0] == 0


def test_a_connection_that_breaks_before_tls_ends_with_2(said: Said) -> None:
    def reset(sock: socket.socket) -> None:
        follow([SCRIPTS["smtp"][0], (rb"EHLO .*\r\n", b"")])(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    with serving(None, reset) as server:
        code, _, err = said("--starttls=smtp", f"127.0.0.1:{server.port}")
    assert (code, err.count("\n")) == (2, 1)
    assert err.endswith(": the connection broke before TLS: Connection reset by peer\n")


HELLO = SCRIPTS["smtp"][0]
REFUSED: list[tuple[str, list[tuple[bytes, bytes]], str]] = [
    ("smtp", [(b"", b"554 no\r\n")], "the SMTP server says '554 no', where 220 was expected"),
    ("smtp", [(b"", b"220\r\n"), (b"EHLO.*\r\n", b"250 x\r\n")], "does not offer STARTTLS"),
    ("smtp", [HELLO, (b"EHLO.*\r\n", b"250-x\r\n" * 101)], "has more than 100 lines"),
    ("smtp", [(b"", b"x" * 9000)], "a line of more than 8192 bytes"),
    ("smtp", [(b"", b"2\xff\r\n")], r"says '2\\xff', where 220"),
    (
        "smtp",
        [*SCRIPTS["smtp"][:2], (b"STARTTLS\r\n", b"454 not now\r\n")],
        "the SMTP server says '454 not now', where 220 was expected",
    ),
    (
        "smtp",
        [*SCRIPTS["smtp"][:2], (b"STARTTLS\r\n", b"220 ok\r\n250 injected\r\n")],
        "has sent plain text behind its word that TLS begins",
    ),
    ("imap", [(b"", b"* BYE busy\r\n")], "the IMAP server says '* BYE busy', where * OK was"),
    ("imap", [(b"", b"* OK\r\n"), (b"a1.*\r\n", b"* CAPABILITY X\r\na1 OK\r\n")], "does not offer"),
    ("imap", [(b"", b"* OK\r\n"), (b"a1.*\r\n", b"a1 BAD what\r\n")], "says 'a1 BAD what', where"),
    ("imap", [(b"", b"* OK\r\n"), (b"a1.*\r\n", b"220 what\r\n")], "says '220 what', where a1"),
    ("imap", [(b"", b"* OK\r\n"), (b"a1.*\r\n", b"* X\r\n" * 101)], "has more than 100 lines"),
    (
        "imap",
        [*SCRIPTS["imap"][:2], (b"a2 STARTTLS\r\n", b"a2 OK\r\n* X\r\n")],
        "has sent plain text behind its word that TLS begins",
    ),
    (
        "ldap",
        [(re.escape(REQUEST), ldap(2, b"unsupported"))],
        "the LDAP server refuses StartTLS with protocolError (2): 'unsupported'",
    ),
    ("ldap", [(re.escape(REQUEST), ldap(99))], "refuses StartTLS with an error (99)\n"),
    ("ldap", [(re.escape(REQUEST), b"220 hi\r\n")], "does not speak LDAP: byte 0x32 came, not"),
    ("ldap", [(re.escape(REQUEST), b"\x30\x80\x02")], "the LDAP server's answer has no length"),
    ("ldap", [(re.escape(REQUEST), b"\x30\x84\x7f\xff\xff\xff")], "2147483647 bytes: more than"),
    ("ldap", [(re.escape(REQUEST), b"\x30\x05\x02\x01\x01\x78\x7f")], "answer is none to StartTLS"),
    ("ldap", [(re.escape(REQUEST), b"\x30\x03\x02\x01\x01")], "answer is none to StartTLS"),
    ("ldap", [(re.escape(REQUEST), ldap(0) + b"x")], "has sent plain text behind its word"),
]


@pytest.mark.parametrize(("protocol", "script", "sentence"), REFUSED)
def test_a_server_that_does_not_begin_tls_ends_with_2(
    protocol: str, script: list[tuple[bytes, bytes]], sentence: str, said: Said
) -> None:
    def talk(sock: socket.socket) -> None:
        for expected, answer in script:
            expect(sock, expected)
            sock.sendall(answer)

    with serving(None, talk) as server:
        code, out, err = said(f"--starttls={protocol}", f"127.0.0.1:{server.port}")
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("protocol", SCRIPTS)
def test_a_server_that_is_silent_or_goes_before_tls_ends_with_2(protocol: str, said: Said) -> None:
    words = ("--timeout=200ms", f"--starttls={protocol}")
    with serving(None) as server:
        code, _, err = said(*words, f"127.0.0.1:{server.port}")
    assert (code, err.count("the server did not answer in time")) == (2, 1)
    with serving(None, lambda sock: sock.shutdown(socket.SHUT_WR)) as server:
        code, _, err = said(words[1], f"127.0.0.1:{server.port}")
    assert (code, err.count("the server has ended the connection before TLS")) == (2, 1)


# --- files ----------------------------------------------------------------------------------------


def test_each_certificate_of_a_file_counts(folder: Path, said: Said) -> None:
    between = make_authority("between", parent=authority(), days=3)
    certificate, _ = make_certificate(between, ["a.example"]).write(folder, "chain")
    code, out, _ = said(str(certificate))
    assert code == 1
    assert "the certificate of the authority 'CN=between' expires on " in out
    (folder / "one.DER").write_bytes(server_pair().certificate.der)
    assert said("one.DER")[0] == 0


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("missing.pem", "missing.pem: No such file or directory"),
        ("./missing", "./missing: No such file or directory"),
        ("no/such", "no/such: No such file or directory"),
        (".", "': expected tls://host:port"),
        ("/", "/: expected a regular file"),
        ("served.key.pem", "holds a PRIVATE KEY, where a CERTIFICATE was expected"),
        ("empty.pem", "no certificate inside"),
    ],
)
def test_a_file_that_cannot_be_read_ends_with_2(
    target: str, sentence: str, folder: Path, said: Said
) -> None:
    (folder / "served.key.pem").write_bytes(server_pair().key_pem)
    (folder / "empty.pem").touch()
    code, out, err = said(target)
    assert (code, out) == (2, "")
    assert err.startswith("check-certificate: ")
    assert err.count("\n") == 1
    if target != ".":
        assert sentence in err


# --- several at once ------------------------------------------------------------------------------


def test_several_are_asked_at_once_and_told_in_order() -> None:
    with serving(server_pair()) as second:

        def wait(sock: socket.socket) -> None:
            assert second.arrived.wait(PATIENCE)

        with serving(server_pair(), wait) as first:
            targets = [f"127.0.0.1:{first.port}", f"127.0.0.1:{second.port}"]
            code, out, err = check("--ca=ca.crt", *targets)
    assert (code, err) == (0, "")
    assert [line.partition(": ")[0] for line in out.splitlines()] == targets


@pytest.mark.parametrize(("files", "is_shown"), [(["ca.crt"] * 3, True), (["ca.crt"], False)])
def test_a_terminal_sees_how_far_it_is(files: list[str], is_shown: bool) -> None:
    leader, follower = pty.openpty()
    with open(leader, "rb", buffering=0) as screen:
        done = subprocess.run(
            [sys.executable, SCRIPT, *files],
            env=environment(Path.cwd()),
            stdout=subprocess.PIPE,
            stderr=follower,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        os.write(follower, b"end")
        os.close(follower)
        seen = b""
        while not seen.endswith(b"end"):
            seen += screen.read(1000)
    assert done.returncode == 0
    assert done.stdout.count("valid until") == len(files)
    assert (b"3 of 3 checked" in seen) == is_shown
    assert seen.endswith(b"\r\x1b[Kend" if is_shown else b"end")


def test_an_interrupt_ends_it_without_a_traceback() -> None:
    with serving(None) as server:
        process = subprocess.Popen(
            [sys.executable, SCRIPT, f"127.0.0.1:{server.port}"],
            env=environment(Path.cwd()),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.arrived.wait(PATIENCE)
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=PATIENCE) == ("", "")
        finally:
            process.kill()
            process.communicate()
    assert process.returncode == -signal.SIGINT


# --- bad usage ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "the following arguments are required: DOMAIN|ADDRESS|FILE"),
        ([""], "expected tls://host:port"),
        (["::g"], "an IPv6 address stands in brackets"),
        ([":443"], "':443': expected a host before the port"),
        (["a:b"], "port 'b': expected tls://host:port"),
        (["https://example.com/"], "scheme 'https': expected one of tcp, tls,"),
        (["udp://127.0.0.1:1"], "udp://127.0.0.1:1: expected an address of scheme tls, tcp,"),
        (["fd:0"], "fd:0: expected an address of scheme tls, tcp,"),
        (["--limit=-1", "a"], "limit '-1': expected days, such as 14, or 36h, 14d or 2 weeks"),
        (["--limit=soon", "a"], "limit 'soon': expected days"),
        (["--limit=1" + "0" * 305, "a"], "expected days"),
        (["--timeout=0", "a"], "timeout '0': expected more than 0"),
        (["--limti=1", "a"], "did you mean '--limit'?"),
        (["--starttls=SMPT", "a"], "expected one of smtp, imap, ldap; did you mean smtp?"),
        (["--starttls=smtp", "tls://a"], "tls://a:25 with --starttls: expected tcp://a:25, where"),
        (["--starttls=smtp", "tls+unix:/a"], "expected unix:/a, where TLS is asked for"),
        (["--ca=missing", "a"], "missing: No such file or directory"),
        (["--ca=", "a"], "--ca is empty: expected the name of a file"),
        (["--ca=ca.crt", "--no-verify", "a"], "--ca with --no-verify: expected one of them"),
        (["--key=x", "a"], "--key without --certificate: expected both"),
        (["--certificate=missing", "a"], "missing: No such file or directory"),
        (["--server-name=a b", "a"], "server_name='a b': a DNS name or an IP address"),
    ],
)
def test_bad_usage_ends_with_2(words: list[str], sentence: str, said: Said) -> None:
    code, out, err = said(*words)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.startswith("check-certificate: ")
    assert err.count("\n") == 1


def test_bad_usage_is_told_before_anybody_is_asked(said: Said) -> None:
    with serving(server_pair()) as server:
        assert said(f"127.0.0.1:{server.port}", "a:b")[0] == 2
        assert not server.arrived.is_set()


def test_it_costs_less_than_half_a_second_of_the_processor() -> None:
    with serving(server_pair()) as server:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert check("--ca=ca.crt", f"127.0.0.1:{server.port}", **unmeasured())[0] == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.4


# --- the manual page ------------------------------------------------------------------------------


def test_the_commands_of_the_manual_page_run(folder: Path) -> None:
    lines = examples_of("check-certificate")
    assert len(lines) == 5
    (folder / "keys").mkdir()
    (folder / "ca.crt").rename(folder / "keys" / "ca.crt")
    server_pair().write(folder / "keys", "server")
    with (
        serving(server_pair()) as tls,
        serving(server_pair(), follow(SCRIPTS["smtp"])) as smtp,
    ):
        for line in lines:
            there = line.replace("mail.example.com", f"localhost:{smtp.port}")
            there = re.sub(
                r"(www|shop)\.example\.com(:443)?|localhost:3002", f"localhost:{tls.port}", there
            )
            words = there.split()[1:]
            code, out, err = check(*words, SSL_CERT_FILE="keys/ca.crt")
            assert (code, err) == (0, ""), line
            assert out
