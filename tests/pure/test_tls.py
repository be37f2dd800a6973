"""What is asked of TLS: options that contradict each other, and files that cannot be used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tls_ground import (
    Talk,
    authority,
    client_options,
    client_pair,
    server_options,
    server_pair,
)

from edgevent import Address, CertificateFileError, TlsOptions, UsageError
from edgevent.tls import options_for, reason_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of a server."""
    server_pair().write(tmp_path, "server")
    return tmp_path


def refusal(**settings: Any) -> str:
    """The sentence with which files are refused."""
    server_side = "authorities" not in settings
    with pytest.raises(CertificateFileError) as caught:
        TlsOptions(**settings).context(server_side=server_side)
    return str(caught.value)


# --- options --------------------------------------------------------------------------------------

PAIR = {"certificate": "a.crt", "key": "a.key"}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"verify": "maybe"}, "verify='maybe': 'required', 'warn' or 'none' was expected"),
        ({"minimum_version": "1.1"}, "minimum_version='1.1': '1.2' or '1.3' was expected"),
        ({"certificate": "a.crt"}, "a certificate and its key belong together"),
        ({"key": "a.key"}, "a certificate and its key belong together"),
        ({"allow_names": "alice"}, "allow_names='alice': a list of names was expected"),
        ({"allow_names": []}, "allow_names= is empty: nobody could connect"),
        ({"allow_names": ["a"], "verify": "none"}, "mutual TLS needs verify='required'"),
        ({"mutual": True, "authorities": "ca", "verify": "none"}, "mutual TLS needs verify="),
        ({"mutual": True}, "authorities= or allow_names= was expected"),
        ({"alpn": "h2"}, "alpn='h2': a tuple of names was expected"),
        ({"alpn": ("",)}, "names of 1 to 255 ASCII characters"),
        ({"alpn": ("x" * 256,)}, "names of 1 to 255 ASCII characters"),
        ({"alpn": ("é",)}, "names of 1 to 255 ASCII characters"),
        ({"verify_depth": -1}, "verify_depth= is 0 or more"),
        ({"handshake_timeout": 0.0}, "handshake_timeout= more than 0"),
        ({"server_name": "a/b"}, "server_name='a/b': a DNS name or an IP address was expected"),
        ({"server_name": "ü.example"}, "a DNS name or an IP address was expected"),
        ({"key": "-----BEGIN X-----"}, "key=: PEM data is given as bytes"),
        (
            {"by_server_name": {"b": TlsOptions(**PAIR, mutual=True, authorities="ca")}},
            "the options for 'b' have authorities=",
        ),
        ({"by_server_name": {"b": TlsOptions(**PAIR, alpn=("x",))}}, "have alpn="),
        ({"by_server_name": {"b": TlsOptions()}}, "the options for 'b' have no certificate"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_contradicts_itself_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=re.escape(sentence)) as caught:
        TlsOptions(**settings)
    assert "BEGIN" not in str(caught.value)


def test_names_are_compared_without_case_and_make_it_mutual() -> None:
    options = TlsOptions(allow_names=["Alice", "b.Example"])
    assert options.names == {"alice", "b.example"}
    assert options.mutual
    assert TlsOptions().names == frozenset()


def test_the_scope_of_an_address_is_no_part_of_a_name() -> None:
    assert TlsOptions(server_name="fe80::1%eth0").server_name == "fe80::1"


def test_keys_are_not_shown(folder: Path) -> None:
    pair = server_pair()
    options = TlsOptions(pair.certificate_pem + pair.key_pem, pair.key_pem)
    assert "BEGIN" not in repr(options)


@pytest.mark.parametrize(
    ("mode", "verify"), [("plain", None), ("secure", "warn"), ("always secure", "required")]
)
def test_the_modes_of_the_cpp_library_are_options(mode: Any, verify: str | None) -> None:
    options = TlsOptions.of_mode(mode, server_name="a.example")
    if verify is None:
        assert options is None
    else:
        assert options is not None
        assert (options.verify, options.server_name) == (verify, "a.example")


def test_other_modes_are_refused() -> None:
    text = "mode='fast': 'plain', 'secure' or 'always secure' was expected"
    with pytest.raises(UsageError, match=text):
        TlsOptions.of_mode("fast")  # type: ignore[arg-type]


ADDRESSES = {
    "tcp": "tcp://127.0.0.1:1",
    "tls": "tls://127.0.0.1:1",
    "unix": "unix:/a",
    "tls+unix": "tls+unix:/a",
    "fifo": "fifo:/a,/b",
    "fd": "fd:3",
}


@pytest.mark.parametrize("scheme", ADDRESSES)
def test_an_address_and_what_is_said_beside_it_make_options(scheme: str) -> None:
    address = Address.parse(ADDRESSES[scheme])
    options = TlsOptions()
    assert options_for(address, options) is options
    found = options_for(address, "secure")
    assert found is not None
    assert found.verify == "warn"
    if scheme.startswith("tls"):
        usual = options_for(address, None)
        assert usual is not None
        assert usual.verify == "required"
        assert options_for(address, None) is usual  # the system's authorities are read once
        with pytest.raises(UsageError, match="is an address of TLS, and tls='plain' was given"):
            options_for(address, "plain")
    else:
        assert options_for(address, None) is None
        assert options_for(address, "plain") is None


@pytest.mark.parametrize("text", ["udp://127.0.0.1:1", "unixgram:/a", "unixseq:/a"])
def test_there_is_no_tls_over_datagrams(text: str) -> None:
    with pytest.raises(UsageError, match=f"{text}: there is no TLS over datagrams or packets"):
        options_for(Address.parse(text), TlsOptions())
    assert options_for(Address.parse(text), None) is None


@pytest.mark.parametrize("value", [True, {}, "yes"])
def test_anything_else_is_no_option(value: Any) -> None:
    with pytest.raises(UsageError, match=re.escape(repr(value))):
        options_for(Address.parse("tcp://127.0.0.1:1"), value)


# --- contexts and reload --------------------------------------------------------------------------


def test_a_context_is_made_once_for_each_role() -> None:
    options = server_options()
    server, client = options.context(server_side=True), options.context(server_side=False)
    assert options.context(server_side=True) is server
    assert options.context(server_side=False) is client
    assert server is not client


def test_new_files_are_taken_up_by_reload(folder: Path) -> None:
    options = TlsOptions(folder / "server.crt", folder / "server.key")
    standing = Talk(server=options)
    new = server_pair("localhost", "new.example")
    new.write(folder, "server", force=True)
    assert Talk(server=options).client.peer_certificate == server_pair().certificate
    assert options.reload()
    assert Talk(server=options).client.peer_certificate == new.certificate
    assert standing.send(b"still there") == b"still there"


@pytest.mark.parametrize("what", ["server.crt", "server.key", "ca.crt"])
def test_what_was_in_use_stays_when_a_new_file_is_bad(
    folder: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "ca.crt").write_bytes(authority().certificate_pem)
    options = TlsOptions(
        folder / "server.crt", folder / "server.key", folder / "ca.crt", mutual=True
    )
    client = client_options(client_pair())
    assert Talk(client, options).is_up
    (folder / what).write_text("bad")
    assert not options.reload()
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    text = f"TLS: the former certificate stays in use: {folder}/{what}: there is no "
    assert record.getMessage().startswith(text)
    talk = Talk(client, options)
    assert talk.is_up
    assert talk.client.peer_certificate == server_pair().certificate


def test_the_certificates_of_other_names_are_reloaded_too(folder: Path) -> None:
    server_pair("b.example").write(folder, "b")
    other = TlsOptions(folder / "b.crt", folder / "b.key")
    options = server_options(by_server_name={"b.example": other})
    assert Talk(server=options, server_name="b.example").is_up
    new = server_pair("b.example", "new.example")
    new.write(folder, "b", force=True)
    assert options.reload()
    talk = Talk(server=options, server_name="b.example")
    assert talk.client.peer_certificate == new.certificate


def test_objects_are_there_at_every_reload() -> None:
    options = TlsOptions(authorities=iter([authority().certificate]))
    assert Talk(options).is_up
    assert options.reload()
    assert Talk(options).is_up


def test_a_reload_without_contexts_reads_nothing() -> None:
    assert TlsOptions("none.crt", "none.key").reload()


def test_errors_without_a_reason_have_none() -> None:
    from OpenSSL import SSL

    assert reason_of(SSL.Error()) == ""
    assert reason_of(SSL.Error([])) == ""
    assert reason_of(SSL.Error([("lib", "", "")])) == ""
    assert reason_of(SSL.Error([("lib", "", ""), ("lib", "function", "why")])) == "why"


def test_an_error_without_a_reason_is_a_sentence_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from OpenSSL import SSL

    def fail(*arguments: Any) -> None:
        raise SSL.Error([])

    monkeypatch.setattr(SSL.Context, "use_certificate", fail)
    pair = server_pair()
    text = refusal(certificate=pair.certificate_pem, key=pair.key_pem)
    assert text == "the given data: it cannot be used"
