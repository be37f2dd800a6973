"""The paths that are watched, wherever they lead just now."""

from __future__ import annotations

import errno
import logging
import os

from ..errors import FileWatchError
from .file_event import CREATED, DELETED, EXISTS, LOST_SYNC
from .file_folders import Folder, Roles, Root
from .file_path import Way, trace
from .file_tree import NAMES, SELF, Tree
from .inotify import IN_MASK_ADD

logger = logging.getLogger("edgevent")

_TRIES = 10

Use = tuple[Folder, str, str]


class Roots:
    """All paths of one watch.

    Args:
        mask: What inotify is asked for of files, beside their names.
        follow_symlinks: Whether a path that is a link stands for what it leads to.
    """

    def __init__(self, tree: Tree, paths: list[str], mask: int, follow_symlinks: bool) -> None:
        self._tree = tree
        self._mask = mask
        self._follow = follow_symlinks
        self.all = [Root(path) for path in paths]

    def start(self, must_exist: bool) -> None:
        """Begins to watch, and tells what exists.

        Raises:
            FileWatchError: A path does not exist, or cannot be watched.
        """
        for root in self.all:
            self.resolve(root, EXISTS)
            if root.top is None and not root.known and must_exist:
                reason = os.strerror(errno.ENOENT)
                text = f"{root.path!r} cannot be watched: {reason}"
                raise FileWatchError(text, errno.ENOENT)
        self._tree.is_starting = False

    def resolve(self, root: Root, bits: int = CREATED, unmounted: bool = False) -> None:
        """Looks where a path leads, and tells what has changed with that."""
        tree = self._tree
        way = self._attach(root)
        path = "" if way is None else way.folder
        top = tree.watch(path, tree.whole, "must") if path else None
        former = root.top
        if former is not None and former is not top:
            root.top = None
            tree.drop(former, tells=False)
            tree.report.tell(root.path, DELETED, folder=True, gone=True, unmounted=unmounted)
            top = tree.watch(path, tree.whole, "must") if path else None
        if top is not None and root.top is None and top.whole:
            self._refuse(f"{root.path!r} is watched already, as {top.told!r}", errno.EEXIST)
        elif top is not None:
            tree.ledger.forget(root, "")
            tree.plant(top, path, root.path)
            if root.top is None:
                root.top = top
                if bits != EXISTS:
                    tree.report.tell(root.path, bits, folder=True)
                tree.scan(top, bits)
        elif way is None or way.last is None:
            tree.ledger.forget(root, "", gone=True, unmounted=unmounted)
        else:
            root.target = os.path.join(*way.last)
            tree.ledger.compare(root, "", tree.ledger.look(root.target), bits)

    def _refuse(self, text: str, number: int | None) -> None:
        if self._tree.is_starting:
            raise FileWatchError(text, number)
        logger.warning("%s", text)

    def _attach(self, root: Root) -> Way | None:
        """Watches what could make a path lead elsewhere; returns where it leads."""
        way: Way | None = None
        for _ in range(_TRIES):
            try:
                found = trace(root.path, self._follow)
            except OSError as error:
                self._refuse(f"{root.path!r} cannot be watched: {error.strerror}", error.errno)
                return None
            if found == way:
                break
            # What was changed before the watches were there has told nobody: it is traced again.
            # On a way that changes all the time they will tell of the next change.
            way = found
            uses = self._watch(root, way)
            former, root.uses = root.uses, uses
            self._release(root, former - uses)
        return way

    def _watch(self, root: Root, way: Way) -> set[Use]:
        uses: set[Use] = set()
        places = [(path, SELF | IN_MASK_ADD, "guard", "") for path in way.folders[1:]]
        places += [(folder, NAMES, "link", name) for folder, name in way.links]
        if way.last is not None:
            if way.folder:
                places.append((way.last[0], NAMES, "link", way.last[1]))
            else:
                mask = NAMES | self._mask
                places.append((way.last[0], mask, "name", way.last[1]))
        for path, mask, role, name in places:
            folder = self._tree.watch(path, mask, "must" if role == "name" else "may")
            if folder is None:
                continue
            roles = folder.roles = folder.roles or Roles()
            if role == "guard":
                roles.guards[root] = None
            else:
                names = roles.links if role == "link" else roles.names
                names.setdefault(name, {})[root] = None
            uses.add((folder, role, name))
        return uses

    def _release(self, root: Root, uses: set[Use]) -> None:
        for folder, role, name in uses:
            roles = folder.roles
            if roles is not None:
                if role == "guard":
                    roles.guards.pop(root, None)
                else:
                    names = roles.links if role == "link" else roles.names
                    named = names.get(name, {})
                    named.pop(root, None)
                    if not named:
                        names.pop(name, None)
                if not roles:
                    folder.roles = None
            self._tree.narrow(folder)

    def tell_lost(self) -> None:
        """Tells that events were lost; a comparison follows."""
        for root in self.all:
            self._tree.report.tell(root.path, LOST_SYNC, folder=root.top is not None)

    def compare(self) -> None:
        """Compares all that is watched with what is known, and tells the difference."""
        for root in self.all:
            former = root.top
            self.resolve(root)
            if root.top is not None and root.top is former:
                self._tree.scan(root.top, CREATED)
