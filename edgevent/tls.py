"""What is asked of TLS: certificates, authorities, versions; and the contexts made of that.

pyOpenSSL and cryptography are imported when TLS is first used. Nothing here does input or output
but the reading of certificate files, and nothing switches greenlets.
"""

from __future__ import annotations

import functools
import logging
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from .address import Address
from .errors import CertificateFileError, HandshakeError, UsageError
from .limits import TLS_HANDSHAKE_TIMEOUT, TLS_SESSIONS, TLS_VERIFY_DEPTH

if TYPE_CHECKING:
    from cryptography import x509
    from OpenSSL import SSL

logger = logging.getLogger("edgevent")

Verify = Literal["required", "warn", "none"]
TlsMode = Literal["plain", "secure", "always secure"]
PathLike = str | os.PathLike[str]

_VERIFY: Final = ("required", "warn", "none")
_MODES: Final = ("plain", "secure", "always secure")
_VERSIONS: Final = ("1.2", "1.3")
# Level 2 refuses RSA keys under 2048 bits, SHA-1 signatures and the like (man 3
# SSL_CTX_set_security_level); it is the default of some builds of OpenSSL only.
_CIPHERS: Final = b"DEFAULT:@SECLEVEL=2"
_NO_RENEGOTIATION: Final = 1 << 30  # SSL_OP_NO_RENEGOTIATION, which pyOpenSSL may not name
_SESSION_ID: Final = b"edgevent"
_OTHERS: Final = stat.S_IRWXO | stat.S_IWGRP


class _State:
    """What is made of options when it is first needed, and kept."""

    __slots__ = ("contexts", "sessions")

    def __init__(self) -> None:
        self.contexts: dict[bool, SSL.Context] = {}
        self.sessions: dict[str, SSL.Session] = {}


@dataclass(frozen=True, slots=True, eq=False)
class TlsOptions:
    """What one side asks of TLS. One object may serve any number of servers and clients.

    Attributes:
        certificate: This side's certificate, with the chain behind it: a PEM file, PEM bytes, or
            ``cryptography`` objects. A server needs one.
        key: Its private key: a PEM file that others cannot read, PEM bytes, or an object.
        authorities: Whom to trust: a PEM file, a folder of them, PEM bytes, or objects. ``None``
            is the system's store.
        verify: ``required``: the other side's certificate must be valid and its own. ``warn``: it
            is checked, and what is wrong is logged. ``none``: anybody may be on the other side.
        server_name: The name or IP address that the server's certificate must have, and the name
            that is sent (SNI, RFC 6066); by default the host that is dialled, and ``localhost``
            over a Unix socket.
        mutual: Whether a server demands a certificate of its clients.
        allow_names: The names of which a client's certificate must have one: DNS names, or the
            common name of a certificate without any. Includes ``mutual``.
        minimum_version: ``1.2`` or ``1.3``.
        verify_depth: How many authorities may stand between a certificate and a trusted one.
        alpn: Protocol names, the preferred one first (RFC 7301).
        reuse_sessions: Whether a client resumes the last session with the same server.
        handshake_timeout: The limit of a server's handshake in seconds; a client's counts within
            its ``connect_timeout``.
        by_server_name: For servers: other options, for the clients that ask for these names.
    """

    certificate: PathLike | bytes | x509.Certificate | Iterable[x509.Certificate] | None = None
    key: PathLike | bytes | Any = field(default=None, repr=False)
    authorities: PathLike | bytes | x509.Certificate | Iterable[x509.Certificate] | None = None
    verify: Verify = "required"
    server_name: str = ""
    mutual: bool = False
    allow_names: Iterable[str] | None = None
    minimum_version: Literal["1.2", "1.3"] = "1.2"
    verify_depth: int = TLS_VERIFY_DEPTH
    alpn: tuple[str, ...] = ()
    reuse_sessions: bool = True
    handshake_timeout: float = TLS_HANDSHAKE_TIMEOUT
    by_server_name: Mapping[str, TlsOptions] = field(default_factory=dict)
    _state: _State = field(default_factory=_State, init=False, repr=False)

    def __post_init__(self) -> None:
        _check("verify", self.verify, _VERIFY)
        _check("minimum_version", self.minimum_version, _VERSIONS)
        if self.allow_names is not None:
            if isinstance(self.allow_names, str):
                raise UsageError(f"allow_names={self.allow_names!r}: a list of names was expected")
            names = frozenset(name.lower() for name in self.allow_names)
            object.__setattr__(self, "allow_names", names)
            object.__setattr__(self, "mutual", True)
        if self.mutual and self.verify == "none":
            raise UsageError("mutual TLS needs verify='required'")
        if (self.certificate is None) != (self.key is None):
            raise UsageError("a certificate and its key belong together: one of them is missing")
        if isinstance(self.alpn, str):
            raise UsageError(f"alpn={self.alpn!r}: a tuple of names was expected")

    @classmethod
    def of_mode(cls, mode: TlsMode, **options: Any) -> TlsOptions | None:
        """Returns the options for a mode of the C++ library.

        ``plain`` is no TLS; ``secure`` is TLS that goes on with a certificate that is not valid,
        after a warning; ``always secure`` is TLS with all its checks.

        Args:
            options: As for :class:`TlsOptions`, without ``verify``.
        """
        _check("mode", mode, _MODES)
        if mode == "plain":
            return None
        return cls(verify="warn" if mode == "secure" else "required", **options)

    @property
    def names(self) -> frozenset[str]:
        """The names that are allowed, in lower case; empty when all are."""
        return self.allow_names if isinstance(self.allow_names, frozenset) else frozenset()

    def context(self, *, server_side: bool) -> SSL.Context:
        """Returns the context for one role; it is made once, and anew by :meth:`reload`.

        Raises:
            CertificateFileError: A file cannot be used; the sentence names it and says why.
            UsageError: A server has no certificate.
        """
        contexts = self._state.contexts
        if server_side not in contexts:
            contexts[server_side] = _make_context(self, server_side)
        return contexts[server_side]

    def reload(self) -> bool:
        """Reads the files again; connections that stand are not touched.

        Returns:
            Whether what was read can be used. If not, that is logged, and what was in use stays.
        """
        state = self._state
        try:
            made = {role: _make_context(self, role) for role in state.contexts}
        except CertificateFileError as error:
            logger.error("TLS: the former certificate stays in use: %s", error)
            return False
        state.contexts.update(made)
        state.sessions.clear()
        others = [other.reload() for other in self.by_server_name.values()]
        return all(others)

    # --- sessions ---------------------------------------------------------------------------------

    def find_session(self, server: str) -> SSL.Session | None:
        """Returns the last session with a server, or ``None``."""
        return self._state.sessions.get(server) if self.reuse_sessions else None

    def keep_session(self, server: str, session: SSL.Session) -> None:
        """Keeps a session for the next connection to the same server."""
        if self.reuse_sessions:
            sessions = self._state.sessions
            sessions.pop(server, None)
            if len(sessions) >= TLS_SESSIONS:
                del sessions[next(iter(sessions))]
            sessions[server] = session


def options_for(address: Address, tls: TlsOptions | TlsMode | None) -> TlsOptions | None:
    """Returns the options that an address and what was said beside it make together.

    Options, or a mode that is not ``plain``, ask for TLS on a ``tcp:`` or ``unix:`` address too.

    Raises:
        UsageError: The address asks for TLS and ``tls`` forbids it, or its transport has none.
    """
    if tls is None:
        return _usual_options() if address.is_tls else None
    options = TlsOptions.of_mode(tls) if isinstance(tls, str) else tls
    if options is None:
        if address.is_tls:
            raise UsageError(f"{address} is an address of TLS, and tls='plain' was given")
        return None
    if address.is_datagram or address.scheme == "unixseq":
        raise UsageError(f"{address}: there is no TLS over datagrams or packets")
    return options


@functools.lru_cache(maxsize=1)
def _usual_options() -> TlsOptions:
    """Those of all clients that say nothing: the system's authorities are read once."""
    return TlsOptions()


def _check(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        expected = ", ".join(map(repr, known[:-1]))
        raise UsageError(f"{name}={value!r}: {expected} or {known[-1]!r} was expected")


# --- contexts -------------------------------------------------------------------------------------


def _make_context(options: TlsOptions, server_side: bool) -> SSL.Context:
    from OpenSSL import SSL

    context = SSL.Context(SSL.TLS_SERVER_METHOD if server_side else SSL.TLS_CLIENT_METHOD)
    lowest = SSL.TLS1_3_VERSION if options.minimum_version == "1.3" else SSL.TLS1_2_VERSION
    context.set_min_proto_version(lowest)
    context.set_options(SSL.OP_NO_COMPRESSION | _NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_cipher_list(_CIPHERS)
    if options.certificate is not None:
        _use_certificate(context, options)
    elif server_side:
        raise UsageError("a server needs a certificate and its key: TlsOptions(certificate=, key=)")
    _set_verify(context, options, server_side)
    if server_side:
        context.set_session_id(_SESSION_ID)  # without one, a resumed mutual session is refused
        if options.by_server_name:
            context.set_tlsext_servername_callback(_choose_by_name(options))
    if options.alpn:
        _set_alpn(context, options, server_side)
    return context


def _set_alpn(context: SSL.Context, options: TlsOptions, server_side: bool) -> None:
    protocols = [name.encode("ascii") for name in options.alpn]

    def choose(connection: SSL.Connection, offered: list[bytes]) -> bytes:
        for protocol in protocols:
            if protocol in offered:
                return protocol
        shown = ", ".join(repr(name)[1:] for name in offered)
        raise HandshakeError(f"none of the offered protocols is known here: {shown}")

    if server_side:
        context.set_alpn_select_callback(choose)
    else:
        context.set_alpn_protos(protocols)


def _choose_by_name(options: TlsOptions) -> Callable[[SSL.Connection], None]:
    others = {name.lower(): other for name, other in options.by_server_name.items()}
    for other in others.values():
        other.context(server_side=True)

    def choose(connection: SSL.Connection) -> None:
        name = (connection.get_servername() or b"").decode("ascii", "replace").lower()
        if name in others:
            connection.set_context(others[name].context(server_side=True))

    return choose


def _set_verify(context: SSL.Context, options: TlsOptions, server_side: bool) -> None:
    from OpenSSL import SSL

    if options.verify == "none" or (server_side and not options.mutual):
        context.set_verify(SSL.VERIFY_NONE, _judge)
        return
    level = SSL.VERIFY_PEER
    if options.verify == "required":
        level |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    context.set_verify(level, _judge)
    context.set_verify_depth(options.verify_depth)
    _trust(context, options.authorities)


def _judge(
    connection: SSL.Connection, certificate: Any, code: int, depth: int, accepted: int
) -> bool:
    """OpenSSL asks about each certificate of a chain; the session that asks has the answer."""
    judge: Callable[[Any, int, int, bool], bool] | None = connection.get_app_data()
    return judge is None or judge(certificate, code, depth, bool(accepted))


# --- files ----------------------------------------------------------------------------------------


def _use_certificate(context: Any, options: TlsOptions) -> None:
    from OpenSSL import SSL

    chain = _certificates(options.certificate, "certificate")
    key = _private_key(options.key)
    try:
        context.use_certificate(chain[0])
        for above in chain[1:]:
            context.add_extra_chain_cert(above)
        context.use_privatekey(key)
        context.check_privatekey()
    except SSL.Error as error:
        reason = reason_of(error)
        where = f"{_shown(options.certificate)} with {_shown(options.key)}"
        raise CertificateFileError(f"{where}: {reason or 'they cannot be used'}") from error


def _trust(context: SSL.Context, authorities: Any) -> None:
    from OpenSSL import crypto

    if authorities is None:
        context.set_default_verify_paths()
        return
    store = context.get_cert_store()
    assert store is not None
    for certificate in _authorities(authorities):
        store.add_cert(crypto.X509.from_cryptography(certificate))


def _authorities(source: Any) -> list[x509.Certificate]:
    if not isinstance(source, (str, os.PathLike)) or not os.path.isdir(source):
        return _certificates(source, "authority")
    folder, found = os.fspath(source), []
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise CertificateFileError(f"{folder}: {error.strerror}") from error
    for name in names:
        path = os.path.join(folder, name)
        if os.path.isfile(path) and b"-----BEGIN CERTIFICATE-----" in _read(path):
            found += _certificates(path, "authority")
    if not found:
        raise CertificateFileError(f"{folder}: there is no certificate in this folder")
    return found


def _certificates(source: Any, what: str) -> list[x509.Certificate]:
    from cryptography import x509

    if isinstance(source, x509.Certificate):
        return [source]
    if not isinstance(source, (str, os.PathLike, bytes)):
        found = list(source)
        if not found or not all(isinstance(one, x509.Certificate) for one in found):
            raise CertificateFileError(f"the {what} is neither a file, PEM bytes nor certificates")
        return found
    data = source if isinstance(source, bytes) else _read(source)
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        why = "holds a private key, where a certificate was expected"
        if b"PRIVATE KEY-----" not in data:
            why = "there is no certificate in PEM form that can be read"
        raise CertificateFileError(f"{_shown(source)}: {why}") from error


def _private_key(source: Any) -> Any:
    if not isinstance(source, (str, os.PathLike, bytes)):
        return source
    if not isinstance(source, bytes):
        mode = _mode(source)
        if mode & _OTHERS:
            raise CertificateFileError(
                f"{_shown(source)}: a private key that others can read or change (mode"
                f" {mode:04o}) is not used; chmod 600 mends it"
            )
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = source if isinstance(source, bytes) else _read(source)
    try:
        return load_pem_private_key(data, None)
    except TypeError as error:
        raise CertificateFileError(
            f"{_shown(source)}: the key is encrypted; one without a password was expected"
        ) from error
    except Exception as error:  # UnsupportedAlgorithm is no ValueError
        why = "there is no private key in PEM form that can be read"
        raise CertificateFileError(f"{_shown(source)}: {why}") from error


def _mode(path: PathLike) -> int:
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except OSError as error:
        raise CertificateFileError(f"{os.fspath(path)}: {error.strerror}") from error


def _read(path: PathLike) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise CertificateFileError(f"{os.fspath(path)}: {error.strerror}") from error


def _shown(source: Any) -> str:
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else "the given data"


def reason_of(error: SSL.Error) -> str:
    """Returns what OpenSSL gives as the reason, or an empty string."""
    found = error.args[0] if error.args else ()
    reasons = [one[-1] for one in found if isinstance(one, tuple) and one and one[-1]]
    return str(reasons[0]) if reasons else ""
