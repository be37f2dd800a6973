"""Makes small authorities and certificates signed by them (RFC 5280), for TLS without openssl.

For services of one's own and for tests. The keys of an authority that strangers are to trust
belong on no machine of the network. cryptography is imported when a key is first made.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final, Literal

from .certificate import Certificate, shown, with_zone
from .errors import UsageError
from .keypair import KeyPair, load_key

if TYPE_CHECKING:
    from cryptography import x509

    from .keypair import PrivateKey

Usage = Literal["server", "client", "both"]

AUTHORITY_DAYS: Final = 3_650
"""For how many days an authority is valid."""
CERTIFICATE_DAYS: Final = 365
"""For how many days a certificate is valid."""
KEYS: Final = ("ec:P-256", "ec:P-384", "ec:P-521", "rsa:2048", "rsa:3072", "rsa:4096")
"""The kinds of keys that can be made."""
WEAK_KEYS: Final = ("rsa:1024",)
"""Kinds that are made for tests alone: OpenSSL refuses them from security level 1 or 2 on."""

_USAGES: Final = ("server", "client", "both")
# A clock that is a little behind must not find a new certificate not yet valid.
_BACKDATED: Final = timedelta(hours=1)
# RFC 5280, appendix A.1: ub-common-name.
_MAX_COMMON_NAME: Final = 64
# RFC 1035, section 2.3.4; "_" is no letter of a host's name, but is met in names of services.
_MAX_NAME: Final = 253
_LABEL: Final = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_NAME: Final = re.compile(rf"(\*\.)?({_LABEL}\.)*{_LABEL}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# X.509 writes years before 1950 in another way, which the library cryptography refuses.
_FIRST_YEAR: Final = 1950


def make_authority(
    name: str = "edgevent authority",
    *,
    parent: KeyPair | None = None,
    days: int | None = None,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    key: str = "ec:P-256",
    allow_weak: bool = False,
) -> KeyPair:
    """Make an authority: a certificate that may sign others.

    Args:
        name: Its common name, 64 characters at most.
        parent: The authority that signs it; by default it signs itself.
        days: For how long it is valid; :data:`AUTHORITY_DAYS` by default.
        not_before: When that begins, with a time zone; an hour ago by default.
        not_after: When that ends, with a time zone, in place of ``days``.
        key: One of :data:`KEYS`.
        allow_weak: Take one of :data:`WEAK_KEYS` too, for tests.

    Returns:
        Its certificate and key.

    Raises:
        UsageError: An argument is not what it should be, or the parent may not sign.
    """
    from cryptography import x509

    if not name:
        raise UsageError("an authority without a name: expected one")
    private = _make_key(key, allow_weak)
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (_key_usage("key_cert_sign", "crl_sign"), True),
    ]
    dates = _dates(AUTHORITY_DAYS if days is None else days, not_before, not_after)
    return _sign(parent, private, _subject(name), dates, extensions)


def make_certificate(
    authority: KeyPair | None,
    names: Iterable[str] = (),
    *,
    common_name: str | None = None,
    usage: Usage = "both",
    days: int | None = None,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    key: str = "ec:P-256",
    allow_weak: bool = False,
) -> KeyPair:
    """Make a certificate for a server or a client.

    Args:
        authority: Who signs it; with ``None`` it signs itself, and nobody has a reason to trust
            it.
        names: What it is for: DNS names, also with a wildcard first (``*.example.com``), and IP
            addresses.
        common_name: Any text of up to 64 characters; by default the first of the names, if it is
            not too long.
        usage: Whether it is good for a ``server``, a ``client``, or ``both``.
        days: For how long it is valid; :data:`CERTIFICATE_DAYS` by default.
        not_before: When that begins, with a time zone; an hour ago by default.
        not_after: When that ends, with a time zone, in place of ``days``; may be past.
        key: One of :data:`KEYS`.
        allow_weak: Take one of :data:`WEAK_KEYS` too, for tests.

    Returns:
        The certificate and its key.

    Raises:
        UsageError: An argument is not what it should be, or the authority may not sign.

    Example:
        >>> authority = make_authority()
        >>> make_certificate(authority, ["localhost", "127.0.0.1"]).certificate.names
        ('localhost',)
    """
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    if isinstance(names, str):
        raise UsageError(f"names {names!r}: expected a list of names, not one text")
    listed = list(names)
    if not listed and not common_name:
        raise UsageError("a certificate without a name: expected names or a common name")
    if usage not in _USAGES:
        raise UsageError(f"usage {usage!r}: expected one of {', '.join(_USAGES)}")
    if common_name is None:
        common_name = listed[0] if len(listed[0]) <= _MAX_COMMON_NAME else ""
    alternatives = [_alternative(one) for one in dict.fromkeys(listed)]
    private = _make_key(key, allow_weak)
    purposes = {
        "server": [ExtendedKeyUsageOID.SERVER_AUTH],
        "client": [ExtendedKeyUsageOID.CLIENT_AUTH],
        "both": [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
    }
    # In TLS before 1.3 an RSA key may encrypt the secret; other keys only sign.
    used = ("digital_signature", *(["key_encipherment"] if key.startswith("rsa:") else []))
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_key_usage(*used), True),
        (x509.ExtendedKeyUsage(purposes[usage]), False),
    ]
    if alternatives:
        # RFC 5280, section 4.2.1.6: critical when the subject is empty.
        extensions.append((x509.SubjectAlternativeName(alternatives), not common_name))
    dates = _dates(CERTIFICATE_DAYS if days is None else days, not_before, not_after)
    return _sign(authority, private, _subject(common_name), dates, extensions)


def is_name(text: str) -> bool:
    """Tell whether a certificate may be for a name.

    Args:
        text: A DNS name, perhaps with a wildcard first, or an IP address.
    """
    if _address(text) is not None:
        return True
    # No top-level domain is a number (RFC 3696, section 2): 127.0.0.256 is a slip of the pen.
    numeric = text.rpartition(".")[2].isdigit()
    return len(text) <= _MAX_NAME and not numeric and _NAME.fullmatch(text) is not None


def _make_key(kind: str, allow_weak: bool) -> PrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    kinds = (*KEYS, *WEAK_KEYS) if allow_weak else KEYS
    if kind not in kinds:
        near = difflib.get_close_matches(str(kind), kinds, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"key {shown(kind)}: expected one of {', '.join(kinds)}{hint}")
    family, _, size = kind.partition(":")
    if family == "rsa":
        return rsa.generate_private_key(public_exponent=65_537, key_size=int(size))
    curves = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
    return ec.generate_private_key(curves[size])


def _subject(common_name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    if len(common_name.encode()) > _MAX_COMMON_NAME or _CONTROL.search(common_name):
        raise UsageError(
            f"common name {shown(common_name)}: expected {_MAX_COMMON_NAME} bytes at most,"
            " without control characters"
        )
    if not common_name:
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(text: str) -> x509.GeneralName:
    from cryptography import x509

    address = _address(text)
    if address is not None:
        return x509.IPAddress(address)
    if not is_name(text):
        raise UsageError(
            f"name {shown(text)}: expected a DNS name such as www.example.com or *.example.com,"
            " or an IP address such as 127.0.0.1 or ::1"
        )
    return x509.DNSName(text)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # A certificate has no place for the scope of an IPv6 address.
    return None if getattr(address, "scope_id", None) else address


def _key_usage(*used: str) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature="digital_signature" in used,
        content_commitment=False,
        key_encipherment="key_encipherment" in used,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign="key_cert_sign" in used,
        crl_sign="crl_sign" in used,
        encipher_only=False,
        decipher_only=False,
    )


def _dates(
    days: int, not_before: datetime | None, not_after: datetime | None
) -> tuple[datetime, datetime]:
    if days <= 0:
        raise UsageError(f"{days} days: expected 1 or more")
    now = datetime.now(timezone.utc)
    try:
        length = timedelta(days=days)
        end = (now if not_before is None else with_zone(not_before)) + length
        if not_after is not None:
            end = with_zone(not_after)
        begin = min(now - _BACKDATED, end - length) if not_before is None else not_before
    except OverflowError:
        raise UsageError(f"{days} days: expected an end before the year 10000") from None
    if begin.year < _FIRST_YEAR or begin > end:
        raise UsageError(
            f"valid from {begin.isoformat()} to {end.isoformat()}: expected dates from"
            f" {_FIRST_YEAR} on, the earlier one first"
        )
    return begin, end


def _identifier(authority: x509.Certificate) -> x509.SubjectKeyIdentifier:
    from cryptography import x509

    try:
        return authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.SubjectKeyIdentifier.from_public_key(authority.public_key())


def _sign(
    authority: KeyPair | None,
    private: PrivateKey,
    subject: x509.Name,
    dates: tuple[datetime, datetime],
    extensions: Iterable[tuple[x509.ExtensionType, bool]],
) -> KeyPair:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    public = private.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    issuer, signer, above = subject, private, b""
    parent = identifier
    if authority is not None:
        if not authority.certificate.is_authority:
            raise UsageError(f"{authority.certificate.subject} is no authority: it may not sign")
        found = x509.load_der_x509_certificate(authority.certificate.der)
        issuer = found.subject
        signer = load_key(authority.key_pem, authority.certificate, "the authority")
        parent = _identifier(found)
        # The root is what the other side has already, and trusts (RFC 8446, section 4.4.2).
        above = b"" if authority.certificate.self_signed else authority.certificate_pem
    builder = x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=public,
        serial_number=x509.random_serial_number(),
        not_valid_before=dates[0],
        not_valid_after=dates[1],
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    builder = builder.add_extension(identifier, False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(parent), False
    )
    signed = builder.sign(signer, hashes.SHA256())
    certificate = Certificate.parse(signed.public_bytes(serialization.Encoding.DER))
    key_pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return KeyPair(certificate, certificate.pem + above, key_pem)
