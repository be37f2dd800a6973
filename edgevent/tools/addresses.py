"""Where a tool sends to: an address, a host alone, or a variable of a configuration file."""

from __future__ import annotations

import difflib
import ipaddress
import os
import stat
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from ..address import SCHEMES, Address
from ..definitions import read_ini
from ..errors import AddressError, DefinitionError, OptionError

_FILES: Final = ("/", "./", "../")
_MAX_FILE_BYTES: Final = 1024 * 1024


def read_place(text: str, *, default_scheme: str, default_port: int) -> Address:
    """Reads what a user gives as the place of a service.

    Args:
        text: An address; a host, with a port or without; or ``FILE@NAME``, of which the file
            begins with ``/``, ``./`` or ``../``. ``NAME`` is a variable of that file, and
            ``SECTION::NAME`` one of a section.
        default_scheme: The scheme of a text without one.
        default_port: The port of a text without one.

    Returns:
        The address. Where the file's address stands for all addresses of this machine, it is that
        of its loopback.

    Raises:
        AddressError: The text, or the value in the file, is no address.
        OptionError: The file cannot be read, or has no such variable.
    """
    is_path = default_scheme.startswith("unix")
    if text.startswith(_FILES) and ("@" in text or not is_path):
        return _read_variable(text, default_scheme, default_port)
    return _parse(text, default_scheme, default_port)


def _parse(text: str, scheme: str, port: int) -> Address:
    try:
        text = f"[{ipaddress.IPv6Address(text)}]"  # an address of IPv6 alone has no brackets
    except ValueError:
        pass
    if scheme.startswith("unix") and ":" not in text and "/" not in text and text[:1] != "@":
        # A host was meant more likely than a file in the working folder.
        raise AddressError(f"address {text!r}: expected {scheme}:/path, ./path or @name")
    if not scheme.startswith("unix") and ":" not in text and _is_socket(text):
        raise AddressError(f"address {text!r}: a socket here has this name; expected unix:{text}")
    return Address.parse(text, default_scheme=scheme, default_port=port)


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def _read_variable(text: str, scheme: str, port: int) -> Address:
    path, at, name = text.rpartition("@")
    if not at or not path or not name:
        raise OptionError(f"{text!r}: expected FILE@NAME, or an address such as unix:{text}")
    variables = _read_variables(path)
    found = variables.get(_plain(name))
    if found is None:
        raise OptionError(f"{path}: there is no variable {name!r}{_nearest(name, variables)}")
    where, value = found
    try:
        address = _parse(value, scheme, port)
    except AddressError as error:
        raise AddressError(f"{where}: {name}: {error}") from None
    if address.is_any:
        address = replace(address, host="::1" if ":" in address.host else "127.0.0.1")
    if address.is_inet and address.port == 0:
        raise AddressError(f"{where}: {name}: {str(address)!r}: a port other than 0 was expected")
    return address


def _read_variables(path: str) -> dict[str, tuple[str, str]]:
    """Reads the variables of a file: to each name, where it stands last and its value."""
    try:
        # Without O_NONBLOCK the open of a FIFO would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            data = os.read(descriptor, _MAX_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
        if len(data) > _MAX_FILE_BYTES:
            raise OptionError(f"{path}: is longer than {_MAX_FILE_BYTES} bytes")
        return {
            _plain(f"{section}::{key}" if section else key): (where, value)
            for where, section, key, value in read_ini(data.decode(), path)
        }
    except (OSError, ValueError) as error:
        if isinstance(error, (DefinitionError, OptionError)):
            raise OptionError(str(error)) from None
        why = getattr(error, "strerror", None) or "expected UTF-8 text"
        raise OptionError(f"{path}: {why}") from None


def _plain(name: str) -> str:
    return name.replace("-", "_").lower()


def _nearest(name: str, variables: Iterable[str]) -> str:
    known = list(variables)
    plain = _plain(name)
    same = [one for one in known if one.rpartition("::")[2] == plain.rpartition("::")[2]]
    near = same or difflib.get_close_matches(plain, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def with_tls(address: Address) -> Address:
    """Gives the address with TLS.

    Raises:
        AddressError: There is no TLS over its transport.
    """
    if address.is_tls:
        return address
    scheme = {"tcp": "tls", "unix": "tls+unix"}.get(address.scheme)
    if scheme is None:
        known = ", ".join(one for one in SCHEMES if one in ("tcp", "tls", "unix", "tls+unix"))
        raise AddressError(f"{str(address)!r}: there is no TLS over it; expected one of {known}")
    return replace(address, scheme=scheme)
