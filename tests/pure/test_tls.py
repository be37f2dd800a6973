"""What is asked of TLS: options that contradict each other, and files that cannot be used."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tls_ground import (
    Talk,
    authority,
    client_options,
    client_pair,
    middle,
    server_options,
    server_pair,
)

from edgevent import Address, CertificateFileError, KeyPair, TlsOptions, UsageError
from edgevent.tls import options_for, reason_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of a server."""
    server_pair().write(tmp_path, "server")
    return tmp_path


def usable(**files: Any) -> Talk:
    """Shows that a server with these files can be talked to."""
    talk = Talk(server=TlsOptions(**files))
    assert talk.is_up, talk.errors
    return talk


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


# --- certificates and keys ------------------------------------------------------------------------


def test_a_pair_may_be_files_bytes_or_objects(folder: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    pair = server_pair()
    certificate = x509.load_der_x509_certificate(pair.certificate.der)
    key = load_pem_private_key(pair.key_pem, None)
    usable(certificate=folder / "server.crt", key=str(folder / "server.key"))
    usable(certificate=pair.certificate_pem, key=pair.key_pem)
    usable(certificate=certificate, key=key)
    usable(certificate=pair.certificate, key=key)
    usable(certificate=iter([certificate]), key=key)


def test_both_may_be_in_one_file(folder: Path) -> None:
    both = folder / "both.pem"
    both.write_bytes(server_pair().certificate_pem + server_pair().key_pem)
    both.chmod(0o600)
    usable(certificate=both, key=both)


def test_a_certificate_brings_its_chain(tmp_path: Path) -> None:
    server_pair(authority=middle()).write(tmp_path, "server")
    usable(certificate=tmp_path / "server.crt", key=tmp_path / "server.key")


def test_the_first_certificate_is_the_one_of_the_key(folder: Path) -> None:
    pair = server_pair(authority=middle())
    first, second = pair.certificate.pem, middle().certificate.pem
    text = refusal(certificate=second + first, key=pair.key_pem)
    assert text.startswith(
        "the given data: the key does not belong to the certificate of the given"
    )
    assert text.endswith("'CN=middle authority'")


@pytest.mark.parametrize("mode", [0o640, 0o644, 0o604, 0o620, 0o660])
def test_a_key_that_others_can_read_or_change_is_refused(folder: Path, mode: int) -> None:
    key = folder / "server.key"
    key.chmod(mode)
    text = refusal(certificate=folder / "server.crt", key=key) if mode != 0o640 else ""
    if mode == 0o640:  # its group may read it, as that of Debian's ssl-cert may
        usable(certificate=folder / "server.crt", key=key)
    else:
        assert text == (
            f"{key}: a private key that others can read or change (mode {mode:04o}) is not used;"
            " chmod 600 mends it"
        )


def encrypted(pair: KeyPair) -> bytes:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(pair.key_pem, None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


def dsa() -> bytes:
    """A key of a kind that no certificate of TLS has."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import x25519

    return x25519.X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: b"", "there is no private key in PEM form that can be read"),
        (lambda: b"\x00\xff" * 100, "there is no private key in PEM form that can be read"),
        (lambda: server_pair().certificate_pem, "there is no private key in PEM form"),
        (lambda: server_pair().key_pem[:100], "there is no private key in PEM form"),
        (lambda: encrypted(server_pair()), "the key is encrypted; one without a password was"),
        (lambda: client_pair().key_pem, "the key does not belong to the certificate of "),
        (dsa, "the key does not belong to the certificate of "),
    ],
)
def test_a_bad_key_is_refused_with_the_name_of_its_file(
    folder: Path, make: Callable[[], bytes], why: str
) -> None:
    key = folder / "bad.key"
    key.write_bytes(make())
    key.chmod(0o600)
    assert refusal(certificate=folder / "server.crt", key=key).startswith(f"{key}: {why}")
    data = refusal(certificate=folder / "server.crt", key=make())
    assert data.startswith(f"the given data: {why}")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "there is no certificate in PEM form that can be read"),
        (b"\x00\xff" * 100, "there is no certificate in PEM form that can be read"),
        (server_pair().certificate_pem[:200], "there is no certificate in PEM form"),
        (server_pair().certificate.der, "there is no certificate in PEM form"),
        (server_pair().key_pem, "holds a private key, where a certificate was expected"),
    ],
)
def test_a_bad_certificate_is_refused_with_the_name_of_its_file(
    folder: Path, data: bytes, why: str
) -> None:
    bad = folder / "bad.crt"
    bad.write_bytes(data)
    assert refusal(certificate=bad, key=folder / "server.key").startswith(f"{bad}: {why}")
    assert refusal(authorities=bad).startswith(f"{bad}: {why}")
    assert refusal(authorities=data).startswith(f"the given data: {why}")


@pytest.mark.parametrize("which", ["certificate", "key", "authorities"])
def test_a_file_that_is_not_there_is_named(folder: Path, which: str) -> None:
    files = {"certificate": folder / "server.crt", "key": folder / "server.key"}
    if which == "authorities":
        files = {}
    files[which] = folder / "none"
    assert refusal(**files) == f"{folder}/none: No such file or directory"


def test_a_fifo_is_no_file(folder: Path) -> None:
    os.mkfifo(folder / "fifo", 0o600)
    for which in ("certificate", "key"):
        files = {"certificate": folder / "server.crt", "key": folder / "server.key"}
        files[which] = folder / "fifo"
        assert refusal(**files) == f"{folder}/fifo: expected a regular file"


@pytest.mark.parametrize("value", [5, [], [5], object()])
def test_what_is_no_source_is_refused(value: Any) -> None:
    text = "is neither a file, PEM bytes nor certificates"
    assert refusal(authorities=value) == f"the authority {text}"
    assert refusal(certificate=value, key=b"") == f"the certificate {text}"
    key = refusal(certificate=server_pair().certificate, key=value)
    assert key == "the key is neither a file, PEM bytes nor a private key"


def test_a_weak_key_of_ones_own_is_refused() -> None:
    weak = server_pair(key="rsa:1024", allow_weak=True)
    text = refusal(certificate=weak.certificate_pem, key=weak.key_pem)
    assert text == "the given data: the key of the certificate is too weak"


def test_a_server_needs_a_certificate() -> None:
    with pytest.raises(UsageError, match="a server needs a certificate and its key"):
        TlsOptions().context(server_side=True)


# --- authorities ----------------------------------------------------------------------------------


def trusts(authorities: Any) -> bool:
    return Talk(TlsOptions(authorities=authorities), server_options()).is_up


def test_authorities_may_be_files_bytes_or_objects(tmp_path: Path) -> None:
    from cryptography import x509

    own, other = authority().certificate, authority("other authority").certificate
    (tmp_path / "ca.crt").write_bytes(other.pem + own.pem)
    found = x509.load_der_x509_certificate(own.der)
    for one in (tmp_path / "ca.crt", own.pem, own, found, [other, found], iter([own])):
        assert trusts(one)
    assert not trusts(other)


def test_a_folder_of_authorities_may_have_any_names(tmp_path: Path) -> None:
    for number, name in enumerate(("test authority", "other authority")):
        (tmp_path / f"ca{number}.pem").write_bytes(authority(name).certificate_pem)
    (tmp_path / "3e16a32c.0").symlink_to("ca0.pem")  # as c_rehash does
    (tmp_path / "README").write_text("no certificate")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "gone").symlink_to("nowhere")
    assert trusts(tmp_path)
    assert trusts(str(tmp_path))


def test_a_folder_without_authorities_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("no certificate")
    text = refusal(authorities=tmp_path)
    assert text == f"{tmp_path}: there is no certificate in this folder"
    (tmp_path / "bad.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")
    assert refusal(authorities=tmp_path).startswith(f"{tmp_path}/bad.crt: there is no certificate")


def test_a_folder_that_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may read all folders.
    monkeypatch.setattr("os.listdir", lambda name: os.open(f"{name}/none", os.O_RDONLY))
    assert refusal(authorities=tmp_path) == f"{tmp_path}: No such file or directory"


def test_the_system_is_asked_when_nobody_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not trusts(None)
    (tmp_path / "ca.crt").write_bytes(authority().certificate_pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
    assert trusts(None)


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


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) <= before
