"""One side of one TLS conversation, between two buffers: no input or output of its own.

Encrypted bytes are fed and taken; plain bytes are written and read. Nothing here switches
greenlets. OpenSSL works on a memory BIO: it never touches a descriptor.
"""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING, Any, Final

from .certificate import Certificate
from .errors import CertificateError, ClosedError, ConnectionLostError, HandshakeError
from .tls import TlsOptions, reason_of
from .tls_verify import Judge, as_ip

if TYPE_CHECKING:
    from OpenSSL import SSL

logger = logging.getLogger("edgevent")

RECORD_BYTES: Final = 16 * 1024
"""The most plain bytes of one record (RFC 8446, 5.1)."""
_OVERHEAD: Final = 256  # what a record has beside them, at the most (RFC 8446, 5.2), in one read
_TAKE: Final = RECORD_BYTES + _OVERHEAD
_HEADER: Final = 5  # a type, a version and the length of what follows (RFC 8446, 5.1)

_NOT_TLS: Final = (
    "wrong version number",
    "http request",
    "https proxy request",
    "packet length too long",
    "unknown protocol",
    "bad record type",
    "record too small",
)
_ABOUT_CERTIFICATES: Final = ("certificate", "unknown ca", "access denied")
# What OpenSSL says when pyOpenSSL's callback has refused a certificate that is valid, as one of
# another name; and when something fails.
_INTERNAL: Final = "alert internal error"


class TlsSession:
    """A TLS conversation, as client or as server.

    Args:
        options: What is asked of it.
        peer: The other side, as text for errors.
        server_side: Whether this side is the server.
        server_name: For a client: the name or IP address that the certificate must have.
        session_key: For a client: under which name a session is kept to be resumed.
        judge: Who judges the other side's certificates; by default as the options say.

    Attributes:
        is_ready: Whether the handshake is done.
        was_resumed: Whether this client has resumed a former session.
        has_ended: Whether the other side has said that nothing more comes (``close_notify``).
        failure: What has ended the conversation in place of that, as a sentence.
        has_news: Whether something beside plain bytes has come: the end, a failure, or a message
            of TLS that may have an answer, to be taken.
    """

    __slots__ = (
        "_connection",
        "_context",
        "_errors",
        "_header",
        "_is_drained",
        "_is_even",
        "_judge",
        "_key",
        "_missing",
        "_options",
        "_server_side",
        "failure",
        "has_ended",
        "has_news",
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
        judge: Judge | None = None,
    ) -> None:
        from OpenSSL import SSL

        self.peer = peer
        self.server_name = server_name.rstrip(".")
        self.is_ready = False
        self.has_ended = False
        self.was_resumed = False
        self.failure = ""
        self.has_news = False
        self._options = options
        self._server_side = server_side
        self._key = session_key
        self._errors = SSL
        self._is_drained = False  # whether OpenSSL holds no whole record, for certain
        self._is_even = False  # and no part of one either
        self._missing = 0  # so many bytes complete the record that has begun
        self._header = b""  # what has come of the header of the next one
        self._context = options.context(server_side=server_side)
        connection = SSL.Connection(self._context, None)
        self._connection: SSL.Connection | _Released = connection
        if judge is None:
            judge = Judge(options, peer, server_side=server_side, server_name=self.server_name)
        self._judge: Judge | None = judge
        connection.set_app_data(judge)
        if server_side:
            connection.set_accept_state()
            return
        connection.set_connect_state()
        if self.server_name and as_ip(self.server_name) is None:
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
        errors, judge = self._errors, self._judge
        assert judge is not None
        try:
            self._connection.do_handshake()
        except errors.WantReadError:
            return False
        except HandshakeError as error:  # of ALPN
            self._dismiss()
            raise HandshakeError(f"{self.peer}: {error}") from None
        except errors.Error as error:
            self._dismiss()
            raise judge.take_verdict() or self._handshake_error(error) from error
        self._dismiss()
        self.is_ready = True
        self.was_resumed = self.was_resumed and not judge.was_asked
        if self._options.verify == "warn" and self._has_no_certificate():
            self._options.warn("none", f"{self.peer}: the client has sent no certificate")
        return True

    def _dismiss(self) -> None:
        """The judge has done its work; an error in its hands would keep this session alive."""
        self._judge = None
        self._connection.set_app_data(None)

    def _has_no_certificate(self) -> bool:
        options = self._options
        return self._server_side and options.mutual and not self._connection.get_peer_certificate()

    def ended_early(self) -> HandshakeError:
        """Makes the error for an other side that went away during the handshake."""
        return HandshakeError(f"{self.peer}: the connection ended during the TLS handshake")

    def _handshake_error(self, error: SSL.Error) -> HandshakeError:
        reason = reason_of(error)
        if isinstance(error, self._errors.ZeroReturnError):
            return self.ended_early()
        if any(text in reason for text in _NOT_TLS):
            return HandshakeError(f"{self.peer}: the other side does not speak TLS ({reason})")
        if "did not return a certificate" in reason:
            return CertificateError(f"{self.peer}: the client has sent no certificate")
        refused = self._refused(reason)
        if refused:
            return CertificateError(f"{self.peer}: {refused}")
        why = reason or "OpenSSL gives no reason"
        return HandshakeError(f"{self.peer}: the TLS handshake failed: {why}")

    def _refused(self, reason: str) -> str:
        """Says that the other side has refused this side's certificate, if that is the reason."""
        whose = "the client" if self._server_side else "the server"
        said = reason.rpartition("alert ")[2]
        if "alert" in reason and any(text in said for text in _ABOUT_CERTIFICATES):
            return f"{whose} does not accept this side's certificate: {said}"
        if _INTERNAL in reason and (self._server_side or self._options.certificate is not None):
            return f"{whose} does not accept this side's certificate, or has failed: {said}"
        return ""

    # --- what is known ----------------------------------------------------------------------------

    @property
    def peer_certificate(self) -> Certificate | None:
        """The other side's certificate, or ``None`` when it has sent none."""
        found = self._connection.get_peer_certificate()
        if found is None:
            return None
        from cryptography.hazmat.primitives.serialization import Encoding

        return Certificate.parse(found.to_cryptography().public_bytes(Encoding.DER))

    @property
    def peer_chain(self) -> tuple[Certificate, ...]:
        """The certificates that a server has sent, its own first; a resumed session may have none.

        Raises:
            CertificateFileError: One of them cannot be read, although OpenSSL has taken it.
        """
        from OpenSSL import crypto

        sent = self._connection.get_peer_cert_chain() or ()
        return tuple(
            Certificate.parse(crypto.dump_certificate(crypto.FILETYPE_ASN1, one)) for one in sent
        )

    @property
    def is_mutual(self) -> bool:
        """Whether this server has checked the certificate of its client."""
        options = self._options
        return self._server_side and options.mutual and options.verify == "required"

    @property
    def is_verified(self) -> bool:
        """Whether this side has checked the other side's certificate, and a server's name."""
        options = self._options
        return options.verify == "required" and (options.mutual or not self._server_side)

    @property
    def version(self) -> str:
        """The protocol version, as ``TLSv1.3``."""
        return str(self._connection.get_protocol_version_name())

    @property
    def awaits_tickets(self) -> bool:
        """Whether a word of the server follows the handshake, as a rule (RFC 8446, 4.6.1)."""
        return self.is_ready and not self._server_side and self.version == "TLSv1.3"

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

    def take(self, size: int = _TAKE) -> bytes:
        """Returns the encrypted bytes that are to leave; an empty string when there are none.

        Args:
            size: More than they will be, as a rule.
        """
        bio_read, found = self._connection.bio_read, b""
        try:
            found = bio_read(size)
            if len(found) < size:
                return found
            while True:
                found += bio_read(_TAKE)
        except self._errors.WantReadError:
            return found

    def decrypt(self, data: bytes) -> bytes:
        """Takes encrypted bytes, and returns all plain bytes that they complete.

        Raises:
            ConnectionLostError: The other side has sent an alert, or what came is corrupt. What
                came before that is returned first.
        """
        if self.failure:
            raise ConnectionLostError(self.failure)
        errors, connection = self._errors, self._connection
        size = len(data)
        found: list[bytes] = []
        try:
            if self._is_even and size > _HEADER and size == _HEADER + (data[3] << 8) + data[4]:
                connection.bio_write(data)  # one whole record, as most are
                return connection.recv(size)
            # Each call gives one record at the most: to call no more often than records are
            # complete saves the exception of the call that finds nothing.
            count = self._feed(data)
            for _ in range(count) if self._is_drained else itertools.count():
                found.append(connection.recv(RECORD_BYTES))
        except errors.WantReadError:
            self.has_news = True  # at least one record had no plain bytes in it
        except errors.ZeroReturnError:
            self.has_ended = self.has_news = True
        except errors.Error as error:
            self.failure, self.has_news = self._broken(error), True
            if not found:
                # The error may be kept with its frames, and those would keep all of OpenSSL's.
                del connection
                raise ConnectionLostError(self.failure) from error.with_traceback(None)
        self._is_drained = True
        return found[0] if len(found) == 1 else b"".join(found)

    def _feed(self, data: bytes) -> int:
        """Hands encrypted bytes to OpenSSL; returns how many records they complete."""
        if data:
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
        self._is_even = self._is_drained and position == size
        return count

    def _broken(self, error: SSL.Error) -> str:
        reason = reason_of(error)
        refused = self._refused(reason)
        if refused:
            return f"{self.peer}: {refused}"
        return f"receiving from {self.peer} failed: TLS: {reason or repr(error)}"

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
        return self.take(len(data) + _OVERHEAD)

    def end(self) -> None:
        """Says that nothing more comes from this side: ``close_notify``, to be taken."""
        try:
            self._connection.shutdown()
        except self._errors.Error as error:  # in the middle of a handshake, or after a failure
            logger.debug("TLS: %s: no close_notify: %s", self.peer, reason_of(error) or error)

    def release(self) -> None:
        """Ends the conversation; its session is kept for the next one with the same server.

        Idempotent. What is asked of it afterwards raises :class:`ClosedError`.
        """
        if isinstance(self._connection, _Released):
            return
        self._dismiss()
        if self._key and self.is_ready:
            session = self._connection.get_session()
            self._options.keep_session(self._key, session, self._context)
        # 30 KiB that must not wait for the garbage collector, as a connection may.
        self._connection = _Released(self.peer)


class _Released:
    """Takes the place of what is over."""

    __slots__ = ("_peer",)

    def __init__(self, peer: str) -> None:
        self._peer = peer

    def __getattr__(self, name: str) -> Any:
        raise ClosedError(f"the TLS connection to {self._peer} is closed")
