"""The judgement of the certificates that the other side of a TLS conversation sends.

OpenSSL checks chain, dates, signatures and purpose, service_identity the name. Nothing here
switches greenlets.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from .certificate import shown
from .errors import CertificateError, IdentityError
from .tls import TlsOptions

if TYPE_CHECKING:
    from cryptography import x509

# What X509_verify_cert(3) finds, as sentences; the codes are those of x509_vfy.h.
_CAUSES: Final = {
    2: "its issuer is not among the trusted authorities",
    7: "its signature is wrong",
    9: "it is not valid before {not_before}",
    10: "it has expired on {not_after}",
    18: "it is self-signed, and not trusted",
    19: "an authority in its chain is self-signed, and not trusted",
    20: "its issuer {issuer} is not among the trusted authorities",
    21: "its issuer was not sent, or is not among the trusted authorities",
    22: "its chain is too long: more than {depth} authorities below the trusted one",
    23: "it is revoked",
    25: "its chain is longer than one of its authorities allows",
    26: "it is not made for this purpose",
    27: "it is not trusted",
    28: "it is rejected",
    47: "an authority in its chain may not sign for this name",
    48: "an authority in its chain may not sign for this name",
    66: "its key is too weak",
    67: "the key of an authority in its chain is too weak",
    68: "its signature uses a digest that is too weak",
    79: "an authority in its chain must not issue certificates",
}
_SHOWN_NAMES: Final = 5
_SHOWN_NAME: Final = 64


class Judge:
    """Judges, for one handshake, the certificates that the other side sends.

    Args:
        options: What is asked of them.
        peer: The other side, as text for errors.
        server_side: Whether this side is the server, and the certificates are a client's.
        server_name: For a client: the name or IP address that the server's must have.

    Attributes:
        was_asked: Whether there was one to judge; there is none when a session is resumed.
    """

    __slots__ = ("_options", "_server_name", "_server_side", "_verdict", "peer", "was_asked")

    def __init__(
        self, options: TlsOptions, peer: str, *, server_side: bool, server_name: str = ""
    ) -> None:
        self.peer = peer
        self._verdict: CertificateError | None = None
        self.was_asked = False
        self._options = options
        self._server_side = server_side
        self._server_name = server_name

    def __call__(self, certificate: Any, code: int, depth: int, accepted: bool) -> bool:
        """Judges one certificate of a chain; that of the other side itself is the last one.

        Args:
            certificate: An ``X509`` of pyOpenSSL's.
            code: What OpenSSL has found, as in ``x509_vfy.h``.
            depth: How far the certificate is from the other side's own, which has 0.
            accepted: Whether OpenSSL accepts it.
        """
        self.was_asked = True
        if self._options.verify == "none":
            return True
        try:
            why = self._look_at(certificate.to_cryptography(), code, depth, accepted)
        except Exception as error:  # OpenSSL reads what cryptography does not, and would drop it
            why = CertificateError(
                f"{self.peer}: the certificate cannot be read: {shown(str(error))}"
            )
        if why is None:
            return True
        if self._options.verify == "warn":
            # Anybody may come, as often as he likes; a client itself chooses with whom it talks.
            cause = why.__class__.__name__ if accepted else f"{code} {bool(depth)}"
            self._options.warn(cause if self._server_side else f"{self.peer} {cause}", str(why))
            return True
        self._verdict = self._verdict or why
        return False

    def take_verdict(self) -> CertificateError | None:
        """Hands over why they were not accepted; kept here, it would be a cycle of references."""
        verdict, self._verdict = self._verdict, None
        return verdict

    def _look_at(
        self, certificate: x509.Certificate, code: int, depth: int, accepted: bool
    ) -> CertificateError | None:
        if not accepted:
            whose = f"the certificate{' of the authority' if depth else ''}"
            return CertificateError(
                f"{self.peer}: {whose} {_subject(certificate)}: {self._cause(certificate, code)}"
            )
        if depth:
            return None
        return self._check_client(certificate) if self._server_side else self._check(certificate)

    def _cause(self, certificate: x509.Certificate, code: int) -> str:
        text = _CAUSES.get(code)
        if text is None:
            return f"it is not valid (OpenSSL's verify error {code})"
        return text.format(
            not_before=f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC",
            not_after=f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC",
            issuer=shown(certificate.issuer.rfc4514_string()),
            depth=self._options.verify_depth,
        )

    def _check(self, certificate: x509.Certificate) -> IdentityError | None:
        """Checks the name of a server as RFC 6125 says."""
        from service_identity import VerificationError
        from service_identity import cryptography as identity
        from service_identity.exceptions import CertificateError as NoNamesError

        name = self._server_name
        try:
            if as_ip(name) is not None:
                identity.verify_certificate_ip_address(certificate, name)
            else:
                identity.verify_certificate_hostname(certificate, name)
        except (VerificationError, NoNamesError, ValueError):
            # ValueError: service_identity before 26 about a name without a dot and a wildcard.
            names = alternative_names(certificate)
            whose = f"{self.peer}: the certificate {_subject(certificate)}"
            if not names:
                return IdentityError(f"{whose} has no alternative name, as that of {name} must")
            return IdentityError(f"{whose} is of {_listed(names)}, not of {name}")
        return None

    def _check_client(self, certificate: x509.Certificate) -> IdentityError | None:
        allowed = self._options.names
        if not allowed:
            return None
        names = alternative_names(certificate) or common_names(certificate)
        if not allowed.isdisjoint(name.lower() for name in names):
            return None
        return IdentityError(
            f"{self.peer}: the certificate {_subject(certificate)} is of"
            f" {_listed(names) or 'nobody'}, who is not allowed here"
        )


def as_ip(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Returns a name as the IP address that it is, or ``None``."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def alternative_names(certificate: x509.Certificate) -> list[str]:
    """Returns the DNS names and IP addresses that a certificate is of (subjectAltName)."""
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = found.get_values_for_type(x509.IPAddress)
    return [*found.get_values_for_type(x509.DNSName), *map(str, addresses)]


def common_names(certificate: x509.Certificate) -> list[str]:
    """Returns the common names of a certificate's subject, of which there is one as a rule."""
    from cryptography import x509

    found = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return [str(one.value) for one in found]


def _subject(certificate: x509.Certificate) -> str:
    return shown(certificate.subject.rfc4514_string())


def _listed(names: Iterable[str]) -> str:
    """Lists names of a foreign certificate: any number of them, with anything in them."""
    listed = [name[:_SHOWN_NAME].encode("unicode_escape").decode() for name in names]
    more = len(listed) - _SHOWN_NAMES
    return ", ".join(listed[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")
