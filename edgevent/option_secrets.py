"""Secrets that stand in files of their own: those of ``--NAME-file``, and systemd's credentials."""

from __future__ import annotations

import os
import stat
from typing import Final

from .errors import OptionError

MAX_SECRET_BYTES: Final = 64 * 1024
"""The longest secret that is read from a file, in bytes."""

_OTHERS: Final = 0o077


def read_secret(path: str, where: str) -> str:
    """Read a secret: the one line of a file.

    Args:
        path: A regular file that its owner alone can read. In the folder of the credentials it
            may have an access list, of which systemd makes what looks like a right of the group.
        where: The place and name of the option, for errors.

    Raises:
        OptionError: The file cannot be used; the sentence names it and says why, never its content.
    """
    try:
        # Without O_NONBLOCK the open of a FIFO would wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode):
                raise OptionError(f"{where}: {path}: expected a regular file")
            if mode & _OTHERS and not _is_credential(path):
                raise OptionError(
                    f"{where}: {path}: a secret that others can read or change (mode"
                    f" {stat.S_IMODE(mode):04o}) is not used; chmod 600 mends it"
                )
            data = os.read(fd, MAX_SECRET_BYTES + 1)
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:
        if isinstance(error, OptionError):
            raise
        why = getattr(error, "strerror", None) or "expected a name without NUL"
        raise OptionError(f"{where}: {path!r}: {why}") from None
    if len(data) > MAX_SECRET_BYTES:
        raise OptionError(f"{where}: {path}: expected {MAX_SECRET_BYTES} bytes at most")
    try:
        secret = data.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise OptionError(f"{where}: {path}: expected UTF-8 text") from None
    if not secret:
        raise OptionError(f"{where}: {path}: the file is empty, and a secret was expected")
    if any(mark in secret for mark in "\n\r\0"):
        raise OptionError(f"{where}: {path}: expected one line with the secret, and nothing else")
    return secret


def find_credential(program: str, option: str) -> str:
    """Give the path of a credential that systemd hands over (man 5 systemd.exec, CREDENTIALS).

    Args:
        program: The name of the program.
        option: The option, with ``-`` between words.

    Returns:
        That of ``PROGRAM.OPTION``, else that of ``OPTION``, in ``$CREDENTIALS_DIRECTORY``; an empty
        string when there is none.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    for name in (f"{program}.{option}", option):
        path = os.path.join(folder, name)
        if folder and os.path.exists(path):
            return path
    return ""


def others_can_read(path: str) -> str:
    """Tell what is wrong with the mode of a configuration file that holds a secret.

    Returns:
        A sentence, or an empty string; also for a file that is gone.
    """
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return ""
    if mode & stat.S_IROTH:
        return f"others can read the secret in it (mode {mode:04o}); chmod 600 mends it"
    return ""


def _is_credential(path: str) -> bool:
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    return bool(folder) and os.path.dirname(os.path.realpath(path)) == os.path.realpath(folder)
