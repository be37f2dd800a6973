"""A certificate and its private key: how they are kept in two files.

The library cryptography is imported when a key is first loaded. Nothing here switches greenlets.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .certificate import Certificate, read_file, shown
from .drafts import write_together
from .errors import CertificateFileError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

# The draft's name is longer by 18 characters, and the kernel takes 255 bytes.
_STEM: Final = re.compile(r"(?!\.)[^/\x00]+")
_MAX_STEM: Final = 230


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and the private key that belongs to it.

    Attributes:
        certificate: What the certificate says.
        certificate_pem: The certificate in PEM form, and behind it those of the authorities
            between it and the one at the root, if there are any: what a server has to send.
        key_pem: The private key in PEM form (PKCS #8, RFC 5958), not encrypted.
    """

    certificate: Certificate
    certificate_pem: bytes = field(repr=False)
    key_pem: bytes = field(repr=False)

    @classmethod
    def read(cls, folder: str | os.PathLike[str], stem: str) -> KeyPair:
        """Read what :meth:`write` has written.

        Args:
            folder: The folder of the two files.
            stem: Their name without ``.crt`` and ``.key``.

        Returns:
            The pair.

        Raises:
            CertificateFileError: A file cannot be used, others may read the key, or the key is
                not that of the certificate; the sentence names the file and the reason.
        """
        crt, key = _paths(folder, stem)
        pem, key_pem = read_file(crt), read_file(key, private=True)
        certificate = Certificate.read(crt)
        load_key(key_pem, certificate, str(key))
        return cls(certificate, pem, key_pem)

    def write(
        self, folder: str | os.PathLike[str], stem: str, *, force: bool = False
    ) -> tuple[Path, Path]:
        """Write the two files ``stem.crt`` (mode 0644) and ``stem.key`` (mode 0600).

        Each appears whole or not at all, and nobody else can read the key at any moment.

        Args:
            folder: Where to; it is made if it is not there.
            stem: The name of both without the ending.
            force: Replace files that are there already.

        Returns:
            The paths of certificate and key.

        Raises:
            CertificateFileError: A file is there already, or cannot be written; then neither is
                new.
            UsageError: The stem is no name of a file.
        """
        crt, key = _paths(folder, stem)
        # A service that watches the certificate finds the new key when it sees it change.
        contents = {key: (self.key_pem, 0o600), crt: (self.certificate_pem, 0o644)}
        try:
            os.makedirs(folder, exist_ok=True)
            for path in contents:
                if os.path.isdir(path) or (os.path.lexists(path) and not force):
                    raise FileExistsError(
                        0, "is there already, and without force is not replaced", str(path)
                    )
            write_together(contents, replace=force)
        except OSError as error:
            where = error.filename2 or error.filename or folder
            raise CertificateFileError(f"{os.fspath(where)}: {error.strerror}") from error
        return crt, key


def load_key(pem: bytes, certificate: Certificate, where: str) -> PrivateKey:
    """Load the private key of a certificate.

    Args:
        pem: The key in PEM form.
        certificate: The certificate that it must belong to.
        where: Where the key comes from, for errors.

    Returns:
        The key, as the library cryptography has it.

    Raises:
        CertificateFileError: It cannot be read, or is another one's.
    """
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, None)
    except TypeError as error:
        raise CertificateFileError(f"{where}: expected a key without a password") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateFileError(f"{where}: there is no private key that can be read") from error
    if key.public_key() != x509.load_der_x509_certificate(certificate.der).public_key():
        raise CertificateFileError(f"{where}: the key is not that of the certificate")
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise CertificateFileError(f"{where}: expected a key of the kind EC or RSA")
    return key


def _paths(folder: str | os.PathLike[str], stem: str) -> tuple[Path, Path]:
    if not _STEM.fullmatch(stem) or len(os.fsencode(stem)) > _MAX_STEM:
        raise UsageError(
            f"file name {shown(stem)}: expected {_MAX_STEM} bytes at most, no '/', no '.' first"
        )
    return Path(folder, f"{stem}.crt"), Path(folder, f"{stem}.key")
