"""What an X.509 certificate says (RFC 5280): its owner, issuer, dates, names and key.

The library cryptography is imported when a certificate is first read. Nothing here switches
greenlets; only the reading of files can wait, for the disk.
"""

from __future__ import annotations

import base64
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from .errors import CertificateFileError, UsageError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
"""The largest file of certificates or keys, in bytes; that of all authorities has about 0.3 MiB."""

# RFC 7468; "X509 CERTIFICATE" is an old name. What OpenSSL calls "TRUSTED CERTIFICATE" has data of
# its own behind the certificate, and is not read.
_BEGIN: Final = re.compile(rb"^-----BEGIN ([A-Z0-9 ]{1,60})-----[ \t]*\r?$", re.MULTILINE)
_LABELS: Final = (b"CERTIFICATE", b"X509 CERTIFICATE")
_PEM_LINE: Final = 64
_SHOWN: Final = 100
_OTHERS: Final = stat.S_IRWXO | stat.S_IWGRP
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

# The attributes of a name that have a short name here, by object identifier (RFC 4519, RFC 5280).
_FIELDS: Final = {
    "2.5.4.3": "common_name",
    "2.5.4.4": "surname",
    "2.5.4.5": "serial_number",
    "2.5.4.6": "country",
    "2.5.4.7": "locality",
    "2.5.4.8": "state",
    "2.5.4.9": "street",
    "2.5.4.10": "organization",
    "2.5.4.11": "organizational_unit",
    "2.5.4.12": "title",
    "2.5.4.42": "given_name",
    "0.9.2342.19200300.100.1.1": "user_id",
    "0.9.2342.19200300.100.1.25": "domain_component",
    "1.2.840.113549.1.9.1": "email_address",
}
# The names that people use, where they are not those of Python's library.
_CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


@dataclass(frozen=True, slots=True)
class Certificate:
    """The facts of one X.509 certificate; two are equal when their bytes are.

    Made by :meth:`read`, :meth:`read_chain` and :meth:`parse`. A fact is what the certificate
    says of itself: whether it is to be believed is not looked at here.

    Attributes:
        der: The certificate in its binary form.
        subject: Whose it is, as one line (RFC 4514), such as ``CN=www,O=Example``.
        issuer: Who signed it, in the same form.
        subject_fields: The parts of the subject by short name: ``common_name``,
            ``organization``, ``organizational_unit``, ``country``, ``state``, ``locality``,
            ``street``, ``email_address``, ``domain_component``, ``user_id``, ``serial_number``,
            ``title``, ``surname``, ``given_name``. Of several of one kind it is the last, which
            is the most specific (RFC 6125, section 1.8). A part that is missing is not there.
        issuer_fields: Those of the issuer.
        not_before: Valid from this time on, with a time zone.
        not_after: Valid up to this time, with a time zone.
        serial_number: The number that its issuer gave it.
        names: The DNS names that it is for, wildcards among them.
        addresses: The IP addresses that it is for.
        key: The kind of its public key, such as ``EC P-256`` or ``RSA 2048``.
        fingerprint: The SHA-256 of its bytes, as 64 lower-case hexadecimal digits.
        is_authority: It may sign others.
        self_signed: Its own key has signed it.
    """

    der: bytes = field(repr=False)
    subject: str = field(compare=False)
    issuer: str = field(compare=False)
    subject_fields: Mapping[str, str] = field(compare=False, repr=False)
    issuer_fields: Mapping[str, str] = field(compare=False, repr=False)
    not_before: datetime = field(compare=False)
    not_after: datetime = field(compare=False)
    serial_number: int = field(compare=False, repr=False)
    names: tuple[str, ...] = field(compare=False)
    addresses: tuple[IPv4Address | IPv6Address, ...] = field(compare=False)
    key: str = field(compare=False)
    fingerprint: str = field(compare=False, repr=False)
    is_authority: bool = field(compare=False)
    self_signed: bool = field(compare=False)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Certificate:
        """Read the first certificate of a file.

        Args:
            path: A file in PEM form (RFC 7468), or with one certificate in DER form.

        Returns:
            The facts of the first certificate in it; the others are not looked at.

        Raises:
            CertificateFileError: The file cannot be read, or holds no certificate that can be
                used; the sentence names the file and the reason.
        """
        return next(_each(read_file(path), os.fspath(path)))

    @classmethod
    def read_chain(cls, path: str | os.PathLike[str]) -> tuple[Certificate, ...]:
        """Read all certificates of a file, in its order.

        Args:
            path: A file in PEM form (RFC 7468), or with one certificate in DER form.

        Returns:
            The facts of each certificate, one at least.

        Raises:
            CertificateFileError: The file cannot be read, or one of its certificates cannot be
                used; the sentence names the file and the reason.
        """
        return tuple(_each(read_file(path), os.fspath(path)))

    @classmethod
    def parse(cls, data: bytes) -> Certificate:
        """Read a certificate from bytes.

        Args:
            data: A text in PEM form, of which the first certificate is read, or one certificate
                in DER form.

        Returns:
            The facts.

        Raises:
            CertificateFileError: There is no certificate in it that can be used.
        """
        return next(_each(data, "what was given"))

    @property
    def subject_common_name(self) -> str:
        """The common name of the subject, or an empty string."""
        return self.subject_fields.get("common_name", "")

    @property
    def issuer_common_name(self) -> str:
        """The common name of the issuer, or an empty string."""
        return self.issuer_fields.get("common_name", "")

    @property
    def pem(self) -> bytes:
        """The certificate in PEM form (RFC 7468), with a newline at its end."""
        text = base64.b64encode(self.der)
        lines = [text[at : at + _PEM_LINE] for at in range(0, len(text), _PEM_LINE)]
        return b"\n".join([b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----\n"])

    def remaining(self, now: datetime | None = None) -> float:
        """Tell how long it is still valid.

        Args:
            now: The time to count from, with a time zone; the present by default.

        Returns:
            Seconds until ``not_after``, negative behind it.

        Raises:
            UsageError: The time has no time zone.
        """
        when = datetime.now(timezone.utc) if now is None else with_zone(now)
        return (self.not_after - when).total_seconds()

    def is_valid_at(self, when: datetime) -> bool:
        """Tell whether a time lies within its two dates, both included (RFC 5280, 4.1.2.5).

        Args:
            when: The time, with a time zone.

        Raises:
            UsageError: The time has no time zone.
        """
        return self.not_before <= with_zone(when) <= self.not_after


def read_file(path: str | os.PathLike[str], *, private: bool = False) -> bytes:
    """Read a file of certificates or keys.

    Args:
        path: A regular file of at most :data:`MAX_FILE_BYTES`.
        private: It holds a key: that others may read it, or its group write it, is an error.

    Returns:
        Its content.

    Raises:
        CertificateFileError: It cannot be read, or is something else; the sentence names it.
    """
    name = os.fspath(path)
    if "\0" in name:
        raise CertificateFileError(f"{shown(name)}: expected a name without NUL")
    try:
        # Without O_NONBLOCK the open of a FIFO would wait for a writer.
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode):
                raise CertificateFileError(f"{name}: expected a regular file")
            if private and mode & _OTHERS:
                raise CertificateFileError(
                    f"{name}: a private key that others can read or change (mode"
                    f" {stat.S_IMODE(mode):04o}) is not used; chmod 600 mends it"
                )
            # Not closed by open(), so that it is closed in one place alone.
            with open(fd, "rb", closefd=False) as file:
                data = file.read(MAX_FILE_BYTES + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise CertificateFileError(f"{name}: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise CertificateFileError(f"{name}: expected {MAX_FILE_BYTES} bytes at most")
    return data


def with_zone(when: datetime) -> datetime:
    """Give a time back if it has a time zone.

    Args:
        when: The time.

    Raises:
        UsageError: It has none; local time and UTC would be hours apart.
    """
    if when.utcoffset() is None:
        raise UsageError(f"time {when.isoformat()} has no time zone: expected one, such as UTC")
    return when


def shown(text: str) -> str:
    """Give a text as it may stand in an error: escaped and cut."""
    quoted = repr(text[: _SHOWN + 1])
    return quoted if len(quoted) <= _SHOWN else f"{quoted[: _SHOWN - 3]}..."


def describe_key(key: PublicKeyTypes) -> str:
    """Name the kind of a public key.

    Args:
        key: A public key of the library cryptography.

    Returns:
        A text such as ``EC P-256``, ``RSA 2048`` or ``Ed25519``.
    """
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {_CURVES.get(key.curve.name, key.curve.name)}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, dsa.DSAPublicKey):
        return f"DSA {key.key_size}"
    # Ed25519, Ed448 and the like have one size each; the classes are named after them.
    return type(key).__name__.removesuffix("PublicKey").removeprefix("_")


def _each(data: bytes, where: str) -> Iterator[Certificate]:
    """Give the facts of each certificate in a file's content; raises when there is none."""
    from cryptography import x509

    begins = list(_BEGIN.finditer(data))
    if not begins:
        yield _one(x509.load_der_x509_certificate, data, where)
        return
    number = 0
    ends = [*(found.start() for found in begins[1:]), len(data)]
    for found, end in zip(begins, ends, strict=True):
        if found[1] in _LABELS:
            number += 1
            block = data[found.start() : end]
            # The library tells a cut one from a broken one by its English sentence alone.
            if b"\n-----END " not in block:
                raise CertificateFileError(f"{where}: certificate {number} has no end")
            yield _one(x509.load_pem_x509_certificate, block, f"{where}: certificate {number}")
    if not number:
        label = begins[0][1].decode()
        raise CertificateFileError(f"{where}: holds a {label}, where a CERTIFICATE was expected")


def _one(load: Callable[[bytes], x509.Certificate], data: bytes, where: str) -> Certificate:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return _facts(load(data))
    except (
        ValueError,
        TypeError,  # for a name of a type that names do not have
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ) as error:
        # The library reads an extension, a name or a date only when it is asked for.
        why = f"{where} is broken"
        if data[:1] != b"\x30" and not data.startswith(b"-----BEGIN"):
            why = f"{where}: no certificate inside: expected -----BEGIN CERTIFICATE----- or DER"
        raise CertificateFileError(why) from error


def _facts(found: x509.Certificate) -> Certificate:
    from cryptography.hazmat.primitives.hashes import SHA256

    names, addresses = _alternative_names(found)
    return Certificate(
        der=_der(found),
        subject=_line(found.subject),
        issuer=_line(found.issuer),
        subject_fields=_fields(found.subject),
        issuer_fields=_fields(found.issuer),
        not_before=found.not_valid_before_utc,
        not_after=found.not_valid_after_utc,
        serial_number=found.serial_number,
        names=names,
        addresses=addresses,
        key=_key(found),
        fingerprint=found.fingerprint(SHA256()).hex(),
        is_authority=_is_authority(found),
        self_signed=_is_self_signed(found),
    )


def _der(found: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return found.public_bytes(Encoding.DER)


def _line(name: x509.Name) -> str:
    from cryptography.x509.oid import NameOID

    text = name.rfc4514_string({NameOID.EMAIL_ADDRESS: "emailAddress"})
    # RFC 4514, section 2.4: any character may be written as "\" and its UTF-8 bytes in
    # hexadecimal. A newline or an escape sequence must not reach a log or a terminal.
    return _CONTROL.sub(lambda odd: "".join(f"\\{byte:02X}" for byte in odd[0].encode()), text)


def _fields(name: x509.Name) -> Mapping[str, str]:
    return MappingProxyType(
        {
            _FIELDS[part.oid.dotted_string]: part.value
            for part in name
            if part.oid.dotted_string in _FIELDS and isinstance(part.value, str)
        }
    )


def _alternative_names(
    found: x509.Certificate,
) -> tuple[tuple[str, ...], tuple[IPv4Address | IPv6Address, ...]]:
    from cryptography import x509

    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return (), ()
    # The type of this extension's addresses has networks as well, which only constraints hold.
    addresses = names.get_values_for_type(x509.IPAddress)
    return (
        tuple(names.get_values_for_type(x509.DNSName)),
        tuple(one for one in addresses if isinstance(one, (IPv4Address, IPv6Address))),
    )


def _is_authority(found: x509.Certificate) -> bool:
    from cryptography import x509

    try:
        return found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _key(found: x509.Certificate) -> str:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return describe_key(found.public_key())
    except (UnsupportedAlgorithm, ValueError):
        return "unknown"


def _is_self_signed(found: x509.Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        found.verify_directly_issued_by(found)
    except (InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError):
        return False
    return True
