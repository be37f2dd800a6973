"""The folders that are watched: their paths, their roles, and what is known to be in them."""

from __future__ import annotations

from collections.abc import Iterator

from .file_ledger import Look


class Root:
    """A path that is watched, and what it leads to.

    Attributes:
        path: As it was given, but absolute.
        target: Where the file is, if it is one; the last part of the way may be missing.
        top: The folder, if it is one.
        known: What is known of the file.
        uses: The folders on the way, with the role of each and the name if there is one.
    """

    __slots__ = ("known", "path", "target", "top", "uses")

    is_lone = True

    def __init__(self, path: str) -> None:
        self.path = path
        self.target = ""
        self.top: Folder | None = None
        self.known: dict[str, Look] = {}
        self.uses: set[tuple[Folder, str, str]] = set()

    def shown(self, key: str) -> str:
        """The path that is told."""
        return self.path

    def real(self, key: str) -> str:
        """The path that is given to the kernel."""
        return self.target


class Roles:
    """What a folder is watched for, beside its entries: the paths that lead through it.

    Attributes:
        guards: Those that end, or lead elsewhere, when the folder is moved or deleted.
        links: Those that lead elsewhere when an entry of that name comes or goes.
        names: Those that lead to the entry of that name.
    """

    __slots__ = ("guards", "links", "names")

    def __init__(self) -> None:
        self.guards: dict[Root, None] = {}
        self.links: dict[str, dict[Root, None]] = {}
        self.names: dict[str, dict[Root, None]] = {}

    def __bool__(self) -> bool:
        return bool(self.guards or self.links or self.names)


class Folder:
    """A folder that is watched.

    Attributes:
        watch: The number of the watch; -1 when the kernel has ended it.
        path: The path that is given to the kernel.
        told: The path that is told.
        parent, name: Where it hangs in a tree that is watched; none for its top.
        folders: Those that hang in it.
        known: What is known of its entries, as far as they are wanted.
        whole: Whether all its entries are watched.
    """

    __slots__ = (
        "folders",
        "known",
        "name",
        "parent",
        "path",
        "roles",
        "told",
        "watch",
        "whole",
    )

    is_lone = False

    def __init__(self, watch: int, path: str) -> None:
        self.watch = watch
        self.path = path
        self.told = path
        self.parent: Folder | None = None
        self.name = ""
        self.folders: dict[str, Folder] = {}
        self.known: dict[str, Look] = {}
        self.whole = False
        self.roles: Roles | None = None

    def shown(self, key: str) -> str:
        """The path of an entry that is told."""
        return f"{self.told}/{key}" if self.told != "/" else f"/{key}"

    def real(self, key: str) -> str:
        """The path of an entry that is given to the kernel."""
        return f"{self.path}/{key}" if self.path != "/" else f"/{key}"

    def below(self) -> Iterator[Folder]:
        """Gives the folder and all that hang in it, each after its parent."""
        todo = [self]
        while todo:
            folder = todo.pop()
            yield folder
            todo += folder.folders.values()

    def place(self, parent: Folder, name: str) -> None:
        """Hangs it into another one, with all that hangs in it."""
        self.parent, self.name = parent, name
        parent.folders[name] = self
        for folder in self.below():
            if folder.parent is not None:
                folder.path = folder.parent.real(folder.name)
                folder.told = folder.parent.shown(folder.name)
