"""Certificates for tests: an authority of one's own, and good and bad ones that it has signed.

Each is made when it is first asked for, and the same for the same arguments from then on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Hashable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final, TypeVar

from ..keymaking import make_authority, make_certificate
from ..keypair import KeyPair
from ..tls import TlsOptions

_T = TypeVar("_T")

HOSTS: Final = ("localhost", "127.0.0.1", "::1")
"""What a server's certificate is for, if nothing else is said."""

_DAY: Final = timedelta(days=1)


class IssuedCertificate:
    """A certificate with its key, in memory and as files.

    Attributes:
        pair: The certificate and its key.
    """

    def __init__(self, pair: KeyPair, home: Certificates, stem: str) -> None:
        self.pair = pair
        self._home = home
        self._stem = stem

    def __repr__(self) -> str:
        return f"<IssuedCertificate of {', '.join(self.pair.certificate.names) or self._stem}>"

    @property
    def certificate(self) -> str:
        """The path of the certificate, with the chain behind it, in PEM form."""
        return self._path("crt", self.pair.certificate_pem)

    @property
    def key(self) -> str:
        """The path of the key, in PEM form, which only this user can read."""
        return self._path("key", self.pair.key_pem)

    def options(self, **settings: Any) -> TlsOptions:
        """What :class:`~edgevent.TlsOptions` asks with it; the authority is the one trusted."""
        settings.setdefault("authorities", self._home.authority)
        return TlsOptions(self.certificate, self.key, **settings)

    def _path(self, kind: str, data: bytes) -> str:
        return self._home.file(f"{self._stem}.{kind}", data)


class Certificates:
    """An authority, and what it signs.

    Args:
        name: The name of the authority.
        key: The kind of its key; see :data:`edgevent.keymaking.KEYS`.

    Example:
        >>> certificates = Certificates()
        >>> server = Server("tls://127.0.0.1:0", service, tls=certificates.server().options())
        >>> client = Client(server.addresses[0], tls=certificates.options())
    """

    def __init__(self, name: str = "test authority", *, key: str = "ec:P-256") -> None:
        self.name = name
        self.pair = make_authority(name, key=key)
        self._made: dict[Hashable, Any] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files: dict[str, str] = {}

    @property
    def authority(self) -> str:
        """The path of the authority's certificate, in PEM form: whom the other side is to trust."""
        return self.file("ca.crt", self.pair.certificate_pem)

    @property
    def authority_key(self) -> str:
        """The path of the authority's key, in PEM form, for tools that sign with it."""
        return self.file("ca.key", self.pair.key_pem)

    def options(self, **settings: Any) -> TlsOptions:
        """What :class:`~edgevent.TlsOptions` asks of a client that shows no certificate."""
        return TlsOptions(authorities=self.authority, **settings)

    def server(self, *names: str, **settings: Any) -> IssuedCertificate:
        """Returns a certificate of a server.

        Args:
            names: What it is for; :data:`HOSTS` by default.
            settings: As for :func:`~edgevent.make_certificate`.
        """
        return self._make(names or HOSTS, {"usage": "server", **settings})

    def client(self, name: str = "alice", **settings: Any) -> IssuedCertificate:
        """Returns a certificate of a client."""
        return self._make((name,), {"usage": "client", **settings})

    def expired(self, *names: str, **settings: Any) -> IssuedCertificate:
        """Returns one that was valid for five days, until five days ago."""
        return self._dated(names, -10, -5, settings)

    def early(self, *names: str, **settings: Any) -> IssuedCertificate:
        """Returns one that becomes valid in five days."""
        return self._dated(names, 5, 10, settings)

    def ending(self, days: int, *names: str, **settings: Any) -> IssuedCertificate:
        """Returns one that is valid for so many days more, and an hour."""
        return self._dated(names, -1, days, settings, timedelta(hours=1))

    def self_signed(self, *names: str, **settings: Any) -> IssuedCertificate:
        """Returns one that no authority has signed."""
        return self.server(*names, authority=None, **settings)

    def weak(self, *names: str, **settings: Any) -> IssuedCertificate:
        """Returns one whose key is too short for OpenSSL's second level of security."""
        return self.server(*names, key="rsa:1024", allow_weak=True, **settings)

    def other_authority(self, name: str = "other authority") -> Certificates:
        """Returns certificates of another authority, which those of this one do not trust.

        Even one of the same name is another one.
        """
        return self._once(("other", name), lambda: Certificates(name))

    def middle_authority(self, name: str = "middle authority") -> KeyPair:
        """Returns an authority below this one, to be given as ``authority=``."""
        return self._once(("middle", name), lambda: make_authority(name, parent=self.pair))

    def make(self, names: tuple[str, ...], **settings: Any) -> KeyPair:
        """Returns a certificate as :func:`~edgevent.make_certificate` makes it, of this authority
        unless another one is named."""
        settings.setdefault("authority", self.pair)
        key = (names, *sorted(settings.items(), key=lambda item: item[0]))
        return self._once(key, lambda: make_certificate(names=names, **settings))

    def file(self, name: str, data: bytes) -> str:
        """Returns the path of a file with this text, which only this user can read."""
        if name not in self._files:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="ed-keys-")
            path = Path(self._folder.name, name)
            path.touch(0o600)
            path.write_bytes(data)
            self._files[name] = str(path)
        return self._files[name]

    def close(self) -> None:
        """Removes the files. Idempotent."""
        for found in self._made.values():
            if isinstance(found, Certificates):
                found.close()
        self._files.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _make(self, names: tuple[str, ...], settings: dict[str, Any]) -> IssuedCertificate:
        pair = self.make(names, **settings)
        return self._once(id(pair), lambda: IssuedCertificate(pair, self, f"{len(self._made)}"))

    def _dated(
        self,
        names: tuple[str, ...],
        begin: int,
        end: int,
        settings: dict[str, Any],
        more: timedelta = timedelta(),
    ) -> IssuedCertificate:
        def make() -> IssuedCertificate:
            now = datetime.now(timezone.utc)
            dates = {"not_before": now + begin * _DAY, "not_after": now + end * _DAY + more}
            return self._make(names or HOSTS, {"usage": "both", **dates, **settings})

        return self._once(("dated", names, begin, end, *sorted(settings.items())), make)

    def _once(self, key: Hashable, make: Callable[[], _T]) -> _T:
        if key not in self._made:
            self._made[key] = make()
        found: _T = self._made[key]
        return found
