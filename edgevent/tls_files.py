"""Certificates, keys and authorities for TLS: from files, PEM data or objects.

cryptography is imported when the first of them is read. Nothing here switches greenlets.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from .certificate import Certificate, read_file
from .errors import CertificateFileError, UsageError

if TYPE_CHECKING:
    from cryptography import x509

PathLike: TypeAlias = "str | os.PathLike[str]"
Certificates: TypeAlias = (
    "PathLike | bytes | Certificate | x509.Certificate"
    " | Iterable[Certificate | x509.Certificate] | None"
)
"""What certificates may be given as."""

_BEGIN: Final = "-----BEGIN "


def check_source(name: str, source: Any) -> Any:
    """Gives back a source in a form that can be read again and again.

    Args:
        name: The name of the argument, for errors.
        source: A path, PEM bytes, an object, or several objects.

    Raises:
        UsageError: It is PEM data as ``str``, which would be taken for a path.
    """
    if isinstance(source, str) and _BEGIN in source:
        raise UsageError(f"{name}=: PEM data is given as bytes; a str is the path of a file")
    if isinstance(source, (str, os.PathLike, bytes)) or not hasattr(source, "__iter__"):
        return source
    return tuple(source)


def shown_source(source: Any) -> str:
    """Names a source in an error; never its content."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else "the given data"


def read_certificates(source: Any, what: str) -> list[x509.Certificate]:
    """Reads one certificate or several.

    Args:
        source: A PEM file, PEM bytes, an object, or several.
        what: What it is to be, for errors: ``certificate`` or ``authority``.

    Raises:
        CertificateFileError: There is none; the sentence names the file and what is wrong.
    """
    from cryptography import x509

    objects = (x509.Certificate, Certificate)
    if not isinstance(source, (str, os.PathLike, bytes)):
        found = source if isinstance(source, tuple) else (source,)
        if not found or not all(isinstance(one, objects) for one in found):
            raise CertificateFileError(f"the {what} is neither a file, PEM bytes nor certificates")
        return [
            x509.load_der_x509_certificate(one.der) if isinstance(one, Certificate) else one
            for one in found
        ]
    data = source if isinstance(source, bytes) else read_file(source)
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        why = "holds a private key, where a certificate was expected"
        if b"PRIVATE KEY-----" not in data:
            why = "there is no certificate in PEM form that can be read"
        raise CertificateFileError(f"{shown_source(source)}: {why}") from error


def read_authorities(source: Any) -> list[x509.Certificate]:
    """Reads authorities as :func:`read_certificates` does, or all of a folder.

    In a folder every file counts that has a certificate in PEM form, whatever its name; those of
    ``c_rehash`` (man 1 openssl-rehash) are links to others, and do no harm.

    Raises:
        CertificateFileError: There is none; the sentence names the file or folder and the reason.
    """
    if not isinstance(source, (str, os.PathLike)) or not os.path.isdir(source):
        return read_certificates(source, "authority")
    folder = os.fspath(source)
    found: list[x509.Certificate] = []
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise CertificateFileError(f"{folder}: {error.strerror}") from error
    for name in names:
        path = os.path.join(folder, name)
        if os.path.isfile(path) and b"-----BEGIN CERTIFICATE-----" in read_file(path):
            found += read_certificates(path, "authority")
    if not found:
        raise CertificateFileError(f"{folder}: there is no certificate in this folder")
    return found


def read_key(source: Any, certificate: x509.Certificate, whose: str) -> Any:
    """Reads a private key.

    Args:
        source: A PEM file that others cannot read, PEM bytes, or an object of cryptography's.
        certificate: The certificate that it must belong to.
        whose: The name of that one's source, for errors.

    Raises:
        CertificateFileError: It cannot be used; the sentence names the file and what is wrong.
    """
    key, where = source, shown_source(source)
    if isinstance(source, (str, os.PathLike, bytes)):
        key = _load_key(source if isinstance(source, bytes) else read_file(source, private=True))
        if isinstance(key, str):
            raise CertificateFileError(f"{where}: {key}")
    if not hasattr(key, "private_bytes"):
        raise CertificateFileError("the key is neither a file, PEM bytes nor a private key")
    if key.public_key() != certificate.public_key():
        subject = certificate.subject.rfc4514_string()
        raise CertificateFileError(
            f"{where}: the key does not belong to the certificate of {whose}, {subject!r}"
        )
    return key


def _load_key(data: bytes) -> Any:
    """Returns the key, or a sentence that says why there is none."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(data, None)
    except TypeError:
        return "the key is encrypted; one without a password was expected"
    except Exception:  # UnsupportedAlgorithm is no ValueError; what it says shows nothing more
        return "there is no private key in PEM form that can be read"
