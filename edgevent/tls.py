"""What is asked of TLS: certificates, authorities, versions; and the contexts made of that.

pyOpenSSL and cryptography are imported when TLS is first used. Nothing here does input or output
but the reading of certificate files, and nothing switches greenlets.
"""

from __future__ import annotations

import functools
import ipaddress
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal

from .address import Address
from .arguments import checks_arguments
from .conditions import Conditions
from .errors import CertificateFileError, HandshakeError, UsageError
from .limits import TLS_HANDSHAKE_TIMEOUT, TLS_SESSIONS, TLS_VERIFY_DEPTH
from .tls_files import (
    Certificates,
    PathLike,
    check_source,
    read_authorities,
    read_certificates,
    read_key,
    shown_source,
)

if TYPE_CHECKING:
    from OpenSSL import SSL

logger = logging.getLogger("edgevent")

Verify = Literal["required", "warn", "none"]
TlsMode = Literal["plain", "secure", "always secure"]

_VERIFY: Final = ("required", "warn", "none")
_MODES: Final = ("plain", "secure", "always secure")
_VERSIONS: Final = ("1.2", "1.3")
# Level 2 refuses RSA keys under 2048 bits, SHA-1 signatures and the like (man 3
# SSL_CTX_set_security_level); it is the default of some builds of OpenSSL only.
_CIPHERS: Final = b"DEFAULT:@SECLEVEL=2"
_NO_RENEGOTIATION: Final = 1 << 30  # SSL_OP_NO_RENEGOTIATION, which pyOpenSSL may not name
_SESSION_ID: Final = b"edgevent"
# What service_identity takes for the name of a host.
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,253}")
_REASONS: Final = {
    "ee key too small": "the key of the certificate is too weak",
    "ca key too small": "the key of an authority in it is too weak",
    "ca md too weak": "the signature in it uses a digest that is too weak",
}
_MAX_ALPN: Final = 255  # bytes of one name (RFC 7301, 3.1)
_OF_NAME: Final = ("certificate", "key")  # what counts of the options for a server's other name


class _State:
    """What is made of options when it is first needed, and kept."""

    __slots__ = ("conditions", "contexts", "sessions")

    def __init__(self) -> None:
        self.conditions = Conditions(logger)
        self.contexts: dict[bool, SSL.Context] = {}
        self.sessions: dict[str, SSL.Session] = {}


@checks_arguments
@dataclass(frozen=True, slots=True, eq=False)
class TlsOptions:
    """What one side asks of TLS. One object may serve any number of servers and clients.

    Attributes:
        certificate: This side's certificate, with the chain behind it: a PEM file, PEM bytes, or
            ``cryptography`` objects. A server needs one.
        key: Its private key: a PEM file that others cannot read, PEM bytes, or an object.
        authorities: Whom to trust: a PEM file, a folder of them, PEM bytes, or objects. ``None``
            is the system's store. A server that demands certificates of its clients names
            them, or the clients.
        verify: ``required``: the other side's certificate must be valid and its own. ``warn``: it
            is checked, and what is wrong is logged, once a minute for each cause. ``none``: anybody
            may be on the other side.
        server_name: The name or IP address that the server's certificate must have, and the name
            that is sent (SNI, RFC 6066); by default the host that is dialled, and ``localhost``
            over a Unix socket.
        mutual: Whether a server demands a certificate of its clients.
        allow_names: The names of which a client's certificate must have one: DNS names, or the
            common name of a certificate without any; upper and lower case are the same.
            Includes ``mutual``.
        minimum_version: ``1.2`` or ``1.3``.
        verify_depth: How many authorities may stand between a certificate and a trusted one.
        alpn: Protocol names, the preferred one first (RFC 7301).
        reuse_sessions: Whether a client resumes the last session with the same server.
        handshake_timeout: The limit of a server's handshake in seconds; a client's counts within
            its ``connect_timeout``.
        by_server_name: For servers: options with another certificate and key, for the clients that
            ask for these names (SNI). Nothing else may be in them: a client could resume a
            session of one name under another one.

    Raises:
        UsageError: Two things that were given contradict each other, or one is none of what is
            expected.
    """

    certificate: Certificates = field(default=None, repr=False)  # a file may have the key, too
    key: PathLike | bytes | object = field(default=None, repr=False)
    authorities: Certificates = field(default=None, repr=False)
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
        for name in ("certificate", "key", "authorities"):
            object.__setattr__(self, name, check_source(name, getattr(self, name)))
        if self.allow_names is not None:
            if isinstance(self.allow_names, str):
                raise UsageError(f"allow_names={self.allow_names!r}: a list of names was expected")
            names = frozenset(name.lower() for name in self.allow_names)
            if not names:
                raise UsageError("allow_names= is empty: nobody could connect")
            object.__setattr__(self, "allow_names", names)
            object.__setattr__(self, "mutual", True)
        if self.mutual and self.verify == "none":
            raise UsageError("mutual TLS needs verify='required'")
        if self.mutual and self.authorities is None and self.allow_names is None:
            raise UsageError(
                "mutual= with the system's authorities would admit everybody who has a certificate"
                " of theirs: authorities= or allow_names= was expected"
            )
        if (self.certificate is None) != (self.key is None):
            raise UsageError("a certificate and its key belong together: one of them is missing")
        if isinstance(self.alpn, str):
            raise UsageError(f"alpn={self.alpn!r}: a tuple of names was expected")
        if not all(name.isascii() and 0 < len(name) <= _MAX_ALPN for name in self.alpn):
            raise UsageError(f"alpn={self.alpn!r}: names of 1 to {_MAX_ALPN} ASCII characters only")
        if self.verify_depth < 0 or self.handshake_timeout <= 0.0:
            raise UsageError("verify_depth= is 0 or more, and handshake_timeout= more than 0")
        if self.server_name:
            object.__setattr__(self, "server_name", check_server_name(self.server_name))
        for name, other in self.by_server_name.items():
            _check_other(name, other)

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
        return True

    def warn(self, what: str, text: str) -> None:
        """Logs what ``verify="warn"`` lets pass: once a minute for each condition, and how often.

        Args:
            what: The condition.
            text: The sentence.
        """
        line = f"TLS: {text}; accepted, as verify='warn' says"
        self._state.conditions.say(monotonic(), what, line)

    # --- sessions ---------------------------------------------------------------------------------

    def find_session(self, server: str) -> SSL.Session | None:
        """Returns the last session with a server, or ``None``."""
        return self._state.sessions.get(server) if self.reuse_sessions else None

    def keep_session(self, server: str, session: SSL.Session | None, context: SSL.Context) -> None:
        """Keeps a session for the next connection to the same server.

        Args:
            context: Of which context it is: after :meth:`reload`, one of the former context must
                not stand for a certificate that was never judged by the new one.
        """
        state = self._state
        if session and self.reuse_sessions and state.contexts.get(False) is context:
            sessions = state.sessions
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
    if not (options is None or isinstance(options, TlsOptions)):
        raise UsageError(f"tls={tls!r}: TlsOptions was expected, or one of {', '.join(_MODES)}")
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


def check_server_name(name: str) -> str:
    """Gives back a server's name, or its IP address without the scope of a link.

    Raises:
        UsageError: No certificate could be of it.
    """
    try:
        return str(ipaddress.ip_address(name.partition("%")[0]))
    except ValueError:
        if _NAME.fullmatch(name):
            return name
    raise UsageError(f"server_name={name!r}: a DNS name or an IP address was expected")


def _check_other(name: str, other: TlsOptions) -> None:
    for one in fields(other):
        if one.init and one.name not in _OF_NAME:
            usual = one.default_factory() if callable(one.default_factory) else one.default
            if getattr(other, one.name) != usual:
                raise UsageError(
                    f"by_server_name: the options for {name!r} have {one.name}=, which is that of"
                    " the options around them: certificate= and key= were expected alone"
                )
    if other.certificate is None:
        raise UsageError(f"by_server_name: the options for {name!r} have no certificate")


# --- contexts -------------------------------------------------------------------------------------


def _make_context(options: TlsOptions, server_side: bool) -> SSL.Context:
    context = _context_with(options, options, server_side)
    if server_side and options.by_server_name:
        others = {
            name.lower(): _context_with(options, other, server_side)
            for name, other in options.by_server_name.items()
        }
        context.set_tlsext_servername_callback(_choose_by_name(others))
    return context


def _context_with(options: TlsOptions, pair: TlsOptions, server_side: bool) -> SSL.Context:
    """Makes a context of options, with the certificate and the key of ``pair``."""
    from OpenSSL import SSL

    context = SSL.Context(SSL.TLS_SERVER_METHOD if server_side else SSL.TLS_CLIENT_METHOD)
    lowest = SSL.TLS1_3_VERSION if options.minimum_version == "1.3" else SSL.TLS1_2_VERSION
    context.set_min_proto_version(lowest)
    context.set_options(SSL.OP_NO_COMPRESSION | _NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_cipher_list(_CIPHERS)
    if pair.certificate is not None:
        _use_certificate(context, pair)
    elif server_side:
        raise UsageError("a server needs a certificate and its key: TlsOptions(certificate=, key=)")
    _set_verify(context, options, server_side)
    if server_side:
        context.set_session_id(_SESSION_ID)  # without one, a resumed mutual session is refused
        # Sessions are in the tickets that the clients keep; a cache here would grow with them.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
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
        ours = ", ".join(map(repr, options.alpn))
        raise HandshakeError(f"none of the protocols offered is known here: {shown}; here: {ours}")

    if server_side:
        context.set_alpn_select_callback(choose)
    else:
        context.set_alpn_protos(protocols)


def _choose_by_name(contexts: dict[str, SSL.Context]) -> Callable[[SSL.Connection], None]:
    def choose(connection: SSL.Connection) -> None:
        name = (connection.get_servername() or b"").decode("ascii", "replace").lower()
        if name in contexts:
            connection.set_context(contexts[name])

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
    """OpenSSL asks about each certificate of a chain; the session that asks has a judge."""
    judge: Callable[[Any, int, int, bool], bool] | None = connection.get_app_data()
    return bool(accepted) if judge is None else judge(certificate, code, depth, bool(accepted))


def _use_certificate(context: Any, options: TlsOptions) -> None:
    from OpenSSL import SSL

    where = shown_source(options.certificate)
    chain = read_certificates(options.certificate, "certificate")
    key = read_key(options.key, chain[0], where)
    try:
        context.use_certificate(chain[0])
        for above in chain[1:]:
            context.add_extra_chain_cert(above)
        context.use_privatekey(key)
    except SSL.Error as error:
        reason = reason_of(error) or "it cannot be used"
        raise CertificateFileError(f"{where}: {_REASONS.get(reason, reason)}") from error


def _trust(context: SSL.Context, authorities: Certificates) -> None:
    from OpenSSL import crypto

    if authorities is None:
        context.set_default_verify_paths()
        return
    store = context.get_cert_store()
    assert store is not None
    for certificate in read_authorities(authorities):
        store.add_cert(crypto.X509.from_cryptography(certificate))


def reason_of(error: SSL.Error) -> str:
    """Returns what OpenSSL gives as the reason, or an empty string."""
    found = error.args[0] if error.args else ()
    reasons = [one[-1] for one in found if isinstance(one, tuple) and one and one[-1]]
    return str(reasons[0]) if reasons else ""
