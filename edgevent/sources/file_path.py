"""The way that a path leads (man 7 path_resolution), with all that could make it lead elsewhere."""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from typing import Final, NamedTuple

_MOST_LINKS: Final = 40  # as in the kernel (man 7 path_resolution)


class Way(NamedTuple):
    """What was met on the way to a file or a folder.

    Attributes:
        folders: The folders that were passed, the last one included if the path leads to one.
        links: Each symbolic link that was followed, as folder and name; and the name that was
            missing, if one was.
        last: The folder and the name that the path leads to in the end; ``None`` when one of the
            folders on the way is missing, or when it leads to the root folder.
        folder: The folder that the path leads to; empty when it leads to something else.
        is_found: Whether there is something at the end.
        identities: Device and inode of each step, by which another way of the same names is told.
    """

    folders: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    last: tuple[str, str] | None
    folder: str
    is_found: bool
    identities: tuple[tuple[int, int], ...]


def trace(path: str, follow_symlinks: bool) -> Way:
    """Follows an absolute path.

    Args:
        follow_symlinks: Whether the last part, too, is followed when it is a link.

    Raises:
        OSError: There are too many links, or a folder on the way may not be searched.
    """
    todo = path.split("/")[::-1]
    here, followed = "/", 0
    folders, links = ["/"], []
    identities: list[tuple[int, int]] = []
    last: tuple[str, str] | None = None
    while todo:
        name = todo.pop()
        if name in ("", "."):
            continue
        if name == "..":
            here = posixpath.dirname(here)
            last = None
            continue
        place = posixpath.join(here, name)
        is_last = not any(todo)
        try:
            found = os.lstat(place)
            if not is_last and not stat.S_ISLNK(found.st_mode) and not stat.S_ISDIR(found.st_mode):
                raise NotADirectoryError
        except (FileNotFoundError, NotADirectoryError):
            links.append((here, name))
            last = (here, name) if is_last else None
            return Way(tuple(folders), tuple(links), last, "", False, tuple(identities))
        identities.append((found.st_dev, found.st_ino))
        if stat.S_ISLNK(found.st_mode) and (follow_symlinks or not is_last):
            followed += 1
            if followed > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            links.append((here, name))
            target = os.readlink(place)
            here = "/" if target.startswith("/") else here
            todo += target.split("/")[::-1]
            continue
        last = (here, name)
        if not stat.S_ISDIR(found.st_mode):
            return Way(tuple(folders), tuple(links), last, "", True, tuple(identities))
        folders.append(place)
        here = place
    return Way(tuple(folders), tuple(links), last, here, True, tuple(identities))
