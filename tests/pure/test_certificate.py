"""Certificates: the facts, files in every state, and bytes that are none."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import NameOID, ObjectIdentifier

from edgevent import Certificate, CertificateFileError, UsageError, make_authority, make_certificate
from edgevent import certificate as module
from edgevent.certificate import describe_key, read_file

BEGIN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
END = datetime(2027, 1, 2, tzinfo=timezone.utc)
AUTHORITY = make_authority("Test authority", not_before=BEGIN, not_after=END)
PAIR = make_certificate(
    AUTHORITY,
    ["www.example.com", "*.example.org", "127.0.0.1", "::1"],
    not_before=BEGIN,
    not_after=END,
)


def sign(
    subject: list[tuple[ObjectIdentifier, str]], *extensions: x509.ExtensionType
) -> x509.Certificate:
    """A certificate as others make them, signed by a key that is not its own."""
    name = x509.Name([x509.NameAttribute(kind, value) for kind, value in subject])
    builder = x509.CertificateBuilder(
        issuer_name=x509.Name([]),
        subject_name=name,
        public_key=ed25519.Ed25519PrivateKey.generate().public_key(),
        serial_number=7,
        not_valid_before=BEGIN,
        not_valid_after=END,
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())


def der(found: x509.Certificate) -> bytes:
    return found.public_bytes(serialization.Encoding.DER)


# --- facts ----------------------------------------------------------------------------------------


def test_the_facts_of_a_certificate() -> None:
    facts = PAIR.certificate
    assert facts.subject == "CN=www.example.com"
    assert facts.issuer == "CN=Test authority"
    assert facts.subject_common_name == "www.example.com"
    assert facts.issuer_common_name == "Test authority"
    assert (facts.not_before, facts.not_after) == (BEGIN, END)
    assert facts.names == ("www.example.com", "*.example.org")
    assert facts.addresses == (ip_address("127.0.0.1"), ip_address("::1"))
    assert facts.key == "EC P-256"
    assert not facts.is_authority
    assert not facts.self_signed
    assert AUTHORITY.certificate.is_authority
    assert AUTHORITY.certificate.self_signed


def test_openssl_says_the_same(tmp_path: Path, need_tool: Callable[..., str]) -> None:
    path = tmp_path / "a.crt"
    path.write_bytes(PAIR.certificate.pem)
    openssl = need_tool("openssl", package="openssl")
    wanted = ["-serial", "-fingerprint", "-sha256", "-subject", "-issuer", "-nameopt", "RFC2253"]
    said = subprocess.run(
        [openssl, "x509", "-noout", "-in", path, *wanted],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    facts = PAIR.certificate
    digits = f"{facts.serial_number:X}"
    assert said.splitlines() == [
        f"serial={digits.zfill(len(digits) + len(digits) % 2)}",
        f"sha256 Fingerprint={bytes.fromhex(facts.fingerprint).hex(':').upper()}",
        f"subject={facts.subject}",
        f"issuer={facts.issuer}",
    ]


def test_two_are_equal_when_their_bytes_are() -> None:
    same = Certificate.parse(PAIR.certificate_pem)
    assert same == PAIR.certificate
    assert hash(same) == hash(PAIR.certificate)
    assert same != AUTHORITY.certificate


def test_the_parts_of_a_name_by_their_short_names() -> None:
    parts = [
        (NameOID.COUNTRY_NAME, "CH"),
        (NameOID.STATE_OR_PROVINCE_NAME, "Bern"),
        (NameOID.LOCALITY_NAME, "Thun"),
        (NameOID.ORGANIZATION_NAME, "Example, Inc."),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "Wide"),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "Narrow"),
        (NameOID.EMAIL_ADDRESS, "a@example.com"),
        (NameOID.JURISDICTION_COUNTRY_NAME, "CH"),
        (NameOID.COMMON_NAME, "one"),
    ]
    facts = Certificate.parse(der(sign(parts)))
    assert dict(facts.subject_fields) == {
        "country": "CH",
        "state": "Bern",
        "locality": "Thun",
        "organization": "Example, Inc.",
        "organizational_unit": "Narrow",
        "email_address": "a@example.com",
        "common_name": "one",
    }
    assert facts.subject.startswith("CN=one,1.3.6.1.4.1.311.60.2.1.3=CH,emailAddress=a@example.com")
    assert "O=Example\\, Inc." in facts.subject
    assert (facts.issuer, facts.issuer_common_name) == ("", "")


def test_control_characters_are_escaped_in_the_line() -> None:
    name = [(NameOID.COMMON_NAME, "a\n\x1b[2Jb\u2028c\u0085")]
    facts = Certificate.parse(der(sign(name)))
    assert facts.subject == "CN=a\\0A\\1B[2Jb\\E2\\80\\A8c\\C2\\85"
    assert facts.subject_common_name == name[0][1]


def test_a_certificate_without_extensions() -> None:
    facts = Certificate.parse(der(sign([(NameOID.COMMON_NAME, "one")])))
    assert (facts.names, facts.addresses, facts.is_authority) == ((), (), False)
    assert facts.key == "Ed25519"
    assert not facts.self_signed


def test_the_kinds_of_keys() -> None:
    assert describe_key(ec.generate_private_key(ec.SECP256K1()).public_key()) == "EC secp256k1"
    assert describe_key(ec.generate_private_key(ec.SECP384R1()).public_key()) == "EC P-384"
    assert describe_key(rsa.generate_private_key(65_537, 2048).public_key()) == "RSA 2048"
    assert describe_key(dsa.generate_private_key(1024).public_key()) == "DSA 1024"


def test_a_key_of_an_unknown_kind() -> None:
    data = der(sign([(NameOID.COMMON_NAME, "one")]))
    # 1.3.101.112 is Ed25519; 1.3.101.99 is nothing.
    ed25519_oid = bytes.fromhex("06032b6570")
    assert data.count(ed25519_oid) == 1
    assert (
        Certificate.parse(data.replace(ed25519_oid, bytes.fromhex("06032b6563"))).key == "unknown"
    )


# --- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "valid"),
    [
        (BEGIN - timedelta(seconds=1), False),
        (BEGIN, True),
        (END, True),
        (END.astimezone(timezone(timedelta(hours=5))), True),
        (END + timedelta(seconds=1), False),
    ],
)
def test_both_dates_are_included(when: datetime, valid: bool) -> None:
    assert PAIR.certificate.is_valid_at(when) is valid


def test_what_remains() -> None:
    assert PAIR.certificate.remaining(END - timedelta(days=5)) == 5 * 86_400.0
    assert PAIR.certificate.remaining(END + timedelta(hours=1)) == -3_600.0
    fresh = make_certificate(AUTHORITY, ["a"], days=2).certificate
    assert 86_400.0 < fresh.remaining() <= 2 * 86_400.0


def test_a_time_without_a_zone_is_refused() -> None:
    naive = datetime(2026, 6, 1)
    for ask in (PAIR.certificate.remaining, PAIR.certificate.is_valid_at):
        with pytest.raises(UsageError, match="2026-06-01T00:00:00 has no time zone"):
            ask(naive)


# --- files ----------------------------------------------------------------------------------------


def test_a_file_may_hold_a_chain_text_and_keys(tmp_path: Path) -> None:
    path = tmp_path / "all.pem"
    old = AUTHORITY.certificate_pem.replace(b" CERTIFICATE", b" X509 CERTIFICATE")
    path.write_bytes(PAIR.key_pem + b"some text\r\n" + PAIR.certificate_pem + old)
    assert Certificate.read(path) == PAIR.certificate
    assert Certificate.read_chain(path) == (PAIR.certificate, AUTHORITY.certificate)


def test_a_file_may_be_in_der_form_or_have_other_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.der"
    path.write_bytes(PAIR.certificate.der)
    assert Certificate.read_chain(path) == (PAIR.certificate,)
    path.write_bytes(PAIR.certificate_pem.replace(b"\n", b"\r\n"))
    assert Certificate.read(path) == PAIR.certificate


def broken(pem: bytes) -> bytes:
    lines = pem.split(b"\n")
    return b"\n".join([lines[0], b"MIIB" + lines[1][5:], *lines[2:]])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", ": no certificate inside: expected -----BEGIN CERTIFICATE----- or DER"),
        (b"hello\n", ": no certificate inside: expected -----BEGIN CERTIFICATE----- or DER"),
        (PAIR.key_pem, ": holds a PRIVATE KEY, where a CERTIFICATE was expected"),
        (PAIR.certificate.der[:-1], " is broken"),
        (broken(PAIR.certificate_pem), ": certificate 1 is broken"),
        (PAIR.certificate_pem + AUTHORITY.certificate_pem[:200], ": certificate 2 has no end"),
        (
            PAIR.certificate_pem[:200] + b"\n" + AUTHORITY.certificate_pem,
            ": certificate 1 has no end",
        ),
        (
            PAIR.certificate_pem.replace(b" CERT", b" TRUSTED CERT"),
            ": holds a TRUSTED CERTIFICATE, where a CERTIFICATE was expected",
        ),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.crt"
    path.write_bytes(content)
    with pytest.raises(CertificateFileError) as caught:
        Certificate.read_chain(path)
    assert str(caught.value) == f"{path}{reason}"


def test_the_first_is_read_from_a_file_whose_second_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "a.crt"
    path.write_bytes(PAIR.certificate_pem + broken(AUTHORITY.certificate_pem))
    assert Certificate.read(path) == PAIR.certificate
    with pytest.raises(CertificateFileError, match="certificate 2 is broken"):
        Certificate.read_chain(path)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, reason in {
        "missing": "No such file or directory",
        ".": "expected a regular file",
        "fifo": "expected a regular file",
        "a\0b": "expected a name without NUL",
    }.items():
        with pytest.raises(CertificateFileError, match=reason):
            Certificate.read(tmp_path / name)


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1_000)
    path = tmp_path / "a.crt"
    path.write_bytes(b"\n" * 1_000)
    assert len(read_file(path)) == 1_000
    path.write_bytes(b"\n" * 1_001)
    with pytest.raises(CertificateFileError, match=r"a\.crt: expected 1000 bytes at most"):
        read_file(path)


@pytest.mark.parametrize(
    ("mode", "used"), [(0o600, True), (0o400, True), (0o640, True), (0o660, False), (0o604, False)]
)
def test_a_private_file_is_for_its_owner(tmp_path: Path, mode: int, used: bool) -> None:
    path = tmp_path / "a.key"
    path.write_bytes(PAIR.key_pem)
    path.chmod(mode)
    if used:
        assert read_file(path, private=True) == PAIR.key_pem
    else:
        with pytest.raises(CertificateFileError, match=f"mode {mode:04o}.*chmod 600 mends it"):
            read_file(path, private=True)


# --- bytes that are none --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "extension",
    [
        # A name of X.400, which the library cannot represent.
        bytes.fromhex("3005a3033001ff"),
        b"\x30\x03\x82\x05a",
        b"not asn.1",
    ],
)
def test_an_extension_that_cannot_be_read(extension: bytes) -> None:
    odd = x509.UnrecognizedExtension(ObjectIdentifier("2.5.29.17"), extension)
    with pytest.raises(CertificateFileError, match="what was given is broken"):
        Certificate.parse(der(sign([(NameOID.COMMON_NAME, "one")], odd)))


def test_a_name_of_a_type_that_names_do_not_have() -> None:
    data = der(sign([(NameOID.COMMON_NAME, "one")]))
    text, bits = b"\x0c\x03one", b"\x03\x03\x00ne"
    assert data.count(text) == 1
    with pytest.raises(CertificateFileError, match="what was given is broken"):
        Certificate.parse(data.replace(text, bits))


def test_an_unknown_version() -> None:
    data = bytearray(PAIR.certificate.der)
    at = data.index(bytes.fromhex("a003020102"))
    data[at + 4] = 9
    with pytest.raises(CertificateFileError, match="what was given is broken"):
        Certificate.parse(bytes(data))


# The library warns of numbers that are not positive.
@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize(
    "count", [2_000, pytest.param(200_000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
@pytest.mark.parametrize("form", [PAIR.certificate.der, PAIR.certificate_pem], ids=["der", "pem"])
def test_changed_bytes_give_facts_or_the_error(form: bytes, count: int) -> None:
    chance = random.Random(3)
    accepted = 0
    for _ in range(count):
        data = bytearray(form)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data))
            data[at : at + chance.randint(0, 2)] = chance.randbytes(chance.randint(0, 2))
        try:
            accepted += isinstance(Certificate.parse(bytes(data)), Certificate)
        except CertificateFileError:
            pass
    assert 0 < accepted < count
