"""Certificates, keys and authorities of TLS: which files can be used, and why others cannot."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tls_ground import (
    Talk,
    authority,
    client_pair,
    middle,
    server_options,
    server_pair,
)

from edgevent import CertificateFileError, KeyPair, TlsOptions, UsageError


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


def x25519_key() -> bytes:
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
        (x25519_key, "the key does not belong to the certificate of "),
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


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) <= before
