"""One side of one TLS conversation, between two buffers: no input or output of its own.

Encrypted bytes are fed and taken; plain bytes are written and read. Nothing here switches
greenlets. OpenSSL works on a memory BIO: it never touches a descriptor.
"""

from __future__ import annotations

import ipaddress
import logging
from typing import TYPE_CHECKING, Any, Final

from .errors import (
    CertificateError,
    ConnectionLostError,
    HandshakeError,
    IdentityError,
    NetworkError,
)
from .tls import TlsOptions, reason_of

if TYPE_CHECKING:
    from cryptography import x509

    from .certificate import Certificate

logger = logging.getLogger("edgevent")

RECORD_BYTES: Final = 16 * 1024
"""The most plain bytes of one record (RFC 8446, 5.1)."""
_OVERHEAD: Final = 256  # what a record has beside them, at the most (RFC 8446, 5.2), in one read
_TAKE: Final = RECORD_BYTES + _OVERHEAD
_HEADER: Final = 5  # a type, a version and the length of what follows (RFC 8446, 5.1)

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
    22: "its chain is too long",
    23: "it is revoked",
    24: "an authority in its chain must not issue certificates",
    26: "it is not made for this purpose",
    27: "it is not trusted",
    28: "it is rejected",
    66: "its key is too weak",
    67: "the key of an authority in its chain is too weak",
    68: "its signature uses a digest that is too weak",
}
_NOT_TLS: Final = (
    "wrong version number",
    "http request",
    "https proxy request",
    "packet length too long",
    "unknown protocol",
    "unexpected message",
    "bad record type",
    "record too small",
)
_ABOUT_CERTIFICATES: Final = ("certificate", "unknown ca", "access denied", "unknown_ca")


class TlsSession:
    """A TLS conversation, as client or as server.

    Args:
        options: What is asked of it.
        peer: The other side, as text for errors.
        server_side: Whether this side is the server.
        server_name: For a client: the name or IP address that the certificate must have.
        session_key: For a client: under which name a session is kept to be resumed.

    Attributes:
        is_ready: Whether the handshake is done.
        was_resumed: Whether this client has resumed a former session.
        has_ended: Whether the other side has said that nothing more comes (``close_notify``).
    """

    __slots__ = (
        "_connection",
        "_errors",
        "_header",
        "_key",
        "_missing",
        "_options",
        "_server_side",
        "_undrained",
        "_verdict",
        "has_ended",
        "is_ready",
        "peer",
        "server_name",
        "was_resumed",
    )

    def __init__(
        self,
        options: TlsOptions,
        peer: str,
        *,
        server_side: bool,
        server_name: str = "",
        session_key: str = "",
    ) -> None:
        from OpenSSL import SSL

        self.peer = peer
        self.server_name = server_name.rstrip(".")
        self.is_ready = False
        self.has_ended = False
        self.was_resumed = False
        self._options = options
        self._server_side = server_side
        self._key = session_key
        self._verdict: NetworkError | None = None
        self._errors = SSL
        self._undrained = True  # whether OpenSSL may hold whole records that were not read
        self._missing = 0  # so many bytes complete the record that has begun
        self._header = b""  # what has come of the header of the next one
        connection = SSL.Connection(options.context(server_side=server_side), None)
        self._connection = connection
        if server_side:
            connection.set_accept_state()
            if options.mutual:
                connection.set_app_data(self._judge_client)
            return
        connection.set_connect_state()
        connection.set_app_data(self._judge_server)
        if self.server_name and _ip(self.server_name) is None:
            connection.set_tlsext_host_name(self.server_name.encode("ascii"))
        session = options.find_session(session_key) if session_key else None
        if session is not None:
            connection.set_session(session)
            self.was_resumed = True

    # --- the handshake ----------------------------------------------------------------------------

    def handshake(self) -> bool:
        """Goes on with the handshake; returns whether it is done. What is to leave is in ``take``.

        Raises:
            CertificateError: A certificate is not accepted, by this side or by the other one.
            IdentityError: It is valid, but another one's.
            HandshakeError: There is no common version or cipher, or the other side speaks no TLS.
        """
        errors = self._errors
        try:
            self._connection.do_handshake()
        except errors.WantReadError:
            return False
        except HandshakeError as error:  # of ALPN
            raise HandshakeError(f"{self.peer}: {error}") from None
        except errors.Error as error:
            self._connection.set_app_data(None)  # a cycle, with this session as its other end
            raise self._handshake_error(error) from error
        self.is_ready = True
        self._connection.set_app_data(None)
        return True

    def ended_early(self) -> HandshakeError:
        """Makes the error for an other side that went away during the handshake."""
        return HandshakeError(f"{self.peer}: the connection ended during the TLS handshake")

    def _handshake_error(self, error: Any) -> HandshakeError:
        if isinstance(self._verdict, HandshakeError):
            return self._verdict
        reason = reason_of(error)
        if any(text in reason for text in _NOT_TLS):
            return HandshakeError(f"{self.peer}: the other side does not speak TLS ({reason})")
        if "did not return a certificate" in reason:
            return CertificateError(f"{self.peer}: the client has sent no certificate")
        if "alert" in reason and any(text in reason for text in _ABOUT_CERTIFICATES):
            return CertificateError(f"{self.peer}: {self._refused(reason)}")
        return HandshakeError(f"{self.peer}: the TLS handshake failed: {reason or error!r}")

    def _refused(self, reason: str) -> str:
        whose = "the client" if self._server_side else "the server"
        return f"{whose} does not accept this side's certificate: {reason.rpartition('alert ')[2]}"

    # --- certificates -----------------------------------------------------------------------------

    def _judge_server(self, certificate: Any, code: int, depth: int, accepted: bool) -> bool:
        return self._judge(certificate, code, depth, accepted, self._check_server_name)

    def _judge_client(self, certificate: Any, code: int, depth: int, accepted: bool) -> bool:
        return self._judge(certificate, code, depth, accepted, self._check_client_name)

    def _judge(self, certificate: Any, code: int, depth: int, accepted: bool, check: Any) -> bool:
        self.was_resumed = False  # else there would be no certificate to judge
        if self._options.verify == "none":
            return True
        found = certificate.to_cryptography()
        why: CertificateError | None = None
        if not accepted:
            why = CertificateError(f"{self.peer}: {_whose(found, depth)}: {_cause(found, code)}")
        elif depth == 0:
            why = check(found)
        if why is None:
            return True
        if self._options.verify == "warn":
            logger.warning("TLS: %s; accepted, as verify='warn' says", why)
            return True
        self._verdict = self._verdict or why
        return False

    def _check_server_name(self, certificate: x509.Certificate) -> IdentityError | None:
        from service_identity import VerificationError
        from service_identity import cryptography as identity
        from service_identity.exceptions import CertificateError as NoNamesError

        name = self.server_name
        try:
            if _ip(name) is not None:
                identity.verify_certificate_ip_address(certificate, name)
            else:
                identity.verify_certificate_hostname(certificate, name)
        except (VerificationError, NoNamesError):
            names = ", ".join(_names(certificate)) or "nobody"
            return IdentityError(
                f"{self.peer}: {_whose(certificate, 0)} is of {names}, not of {name}"
            )
        return None

    def _check_client_name(self, certificate: x509.Certificate) -> IdentityError | None:
        allowed = self._options.names
        names = _names(certificate)
        if not allowed or not allowed.isdisjoint(name.lower() for name in names):
            return None
        shown = ", ".join(names) or "nobody"
        return IdentityError(
            f"{self.peer}: {_whose(certificate, 0)} is of {shown}, who is not allowed here"
        )

    @property
    def peer_certificate(self) -> Certificate | None:
        """The other side's certificate, or ``None`` when it has sent none."""
        found = self._connection.get_peer_certificate()
        if found is None:
            return None
        from cryptography.hazmat.primitives.serialization import Encoding

        from .certificate import Certificate

        return Certificate.parse(found.to_cryptography().public_bytes(Encoding.DER))

    @property
    def is_mutual(self) -> bool:
        """Whether this server has checked the certificate of its client."""
        options = self._options
        return self._server_side and options.mutual and options.verify == "required"

    @property
    def version(self) -> str:
        """The protocol version, as ``TLSv1.3``."""
        return str(self._connection.get_protocol_version_name())

    @property
    def cipher(self) -> str:
        """The name of the cipher suite."""
        return self._connection.get_cipher_name() or ""

    @property
    def alpn(self) -> str:
        """The protocol that was agreed on (ALPN), or an empty string."""
        return self._connection.get_alpn_proto_negotiated().decode("ascii", "replace")

    # --- bytes ------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Takes encrypted bytes from the other side, during the handshake."""
        self._feed(data)

    def take(self) -> bytes:
        """Returns the encrypted bytes that are to leave; an empty string when there are none."""
        found = []
        bio_read, want = self._connection.bio_read, self._errors.WantReadError
        try:
            while True:
                part = bio_read(_TAKE)
                found.append(part)
                if len(part) < _TAKE:
                    break
        except want:
            pass
        return found[0] if len(found) == 1 else b"".join(found)

    def decrypt(self, data: bytes) -> bytes:
        """Takes encrypted bytes, and returns all plain bytes that they complete.

        Raises:
            ConnectionLostError: The other side has sent an alert, or what came is corrupt.
        """
        errors, recv = self._errors, self._connection.recv
        left = self._feed(data) if data else 0
        if self._undrained:  # what came behind the handshake
            self._undrained = False
            left = -1
        found = []
        try:
            # Each call gives one record at the most: to call no more often than records are
            # complete saves the exception of the call that finds nothing.
            while left:
                found.append(recv(RECORD_BYTES))
                left -= 1
        except errors.WantReadError:
            pass
        except errors.ZeroReturnError:
            self.has_ended = True
        except errors.Error as error:
            raise self._broken(error) from error
        return found[0] if len(found) == 1 else b"".join(found)

    def _feed(self, data: bytes) -> int:
        """Hands encrypted bytes to OpenSSL; returns how many records they complete."""
        self._connection.bio_write(data)
        if self._header:
            data, self._header = self._header + data, b""
        position, size = self._missing, len(data)
        count = 1 if 0 < position <= size else 0
        while position + _HEADER <= size:
            position += _HEADER + (data[position + 3] << 8) + data[position + 4]
            if position <= size:
                count += 1
        if position > size:
            self._missing = position - size
        else:
            self._missing = 0
            self._header = data[position:]
        return count

    def _broken(self, error: Any) -> ConnectionLostError:
        reason = reason_of(error)
        if "alert" in reason and any(text in reason for text in _ABOUT_CERTIFICATES):
            return ConnectionLostError(f"{self.peer}: {self._refused(reason)}")
        return ConnectionLostError(f"receiving from {self.peer} failed: TLS: {reason or error!r}")

    def encrypt(self, data: bytes | memoryview) -> bytes:
        """Takes plain bytes, at most ``RECORD_BYTES``, and returns them as one record.

        Raises:
            ConnectionLostError: This side has said that nothing more comes.
        """
        try:
            self._connection.send(data)
        except self._errors.Error as error:
            reason = reason_of(error) or repr(error)
            raise ConnectionLostError(f"sending to {self.peer} failed: TLS: {reason}") from error
        return self.take()

    def end(self) -> None:
        """Says that nothing more comes from this side: ``close_notify``, to be taken."""
        try:
            self._connection.shutdown()
        except self._errors.Error as error:  # in the middle of a handshake, or after a failure
            logger.debug("TLS: %s: no close_notify: %s", self.peer, reason_of(error) or error)

    def release(self) -> None:
        """Ends the conversation; its session is kept for the next one with the same server."""
        self._connection.set_app_data(None)
        if self._key and self.is_ready and not self._server_side:
            session = self._connection.get_session()
            if session is not None:
                self._options.keep_session(self._key, session)


def _ip(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _whose(certificate: x509.Certificate, depth: int) -> str:
    subject = certificate.subject.rfc4514_string()
    return f"the certificate{' of the authority' if depth else ''} {subject!r}"


def _cause(certificate: x509.Certificate, code: int) -> str:
    text = _CAUSES.get(code)
    if text is None:
        return f"it is not valid (OpenSSL's verify error {code})"
    return text.format(
        not_before=f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC",
        not_after=f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC",
        issuer=repr(certificate.issuer.rfc4514_string()),
    )


def _names(certificate: x509.Certificate) -> list[str]:
    """The names that a certificate is of: those for the purpose, or else its common name."""
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        pass
    else:
        names = found.get_values_for_type(x509.DNSName)
        addresses = found.get_values_for_type(x509.IPAddress)
        if names or addresses:
            return [*names, *map(str, addresses)]
    common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return [str(one.value) for one in common]
