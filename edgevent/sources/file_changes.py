"""What the kernel tells, turned into what has happened to files and folders."""

from __future__ import annotations

from typing import Final

from .file_event import ATTRIBUTES, CREATED, UPDATED, WRITE, content_bits
from .file_folders import Folder, Root
from .file_ledger import Holder, Look
from .file_roots import Roots
from .file_tree import Tree
from .inotify import (
    IN_ATTRIB,
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_IGNORED,
    IN_ISDIR,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_Q_OVERFLOW,
    IN_UNMOUNT,
    Record,
)

# man 7 inotify: the two halves of a rename usually follow each other, but others may come between,
# and the second may not be there yet when the first is read.
_NEAR: Final = 64
_DONE: Final[Record] = (-2, 0, 0, "")
_MOVES: Final = IN_MOVED_FROM | IN_MOVED_TO
_NAMES: Final = IN_CREATE | IN_DELETE | _MOVES
_ENDS: Final = IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED

Place = tuple[Holder, str]


class Changes:
    """Follows the events of one queue.

    Attributes:
        lost: How often events were lost.
    """

    def __init__(self, tree: Tree, roots: Roots) -> None:
        self._tree = tree
        self._roots = roots
        self._held: list[Record] = []
        self._doubts = False  # whether all is to be compared, once everything was read
        self.lost = 0

    @property
    def held(self) -> int:
        """The cookie of a rename whose second half is waited for; 0 for none."""
        return self._held[0][2] if self._held else 0

    def feed(self, records: list[Record]) -> None:
        """Takes what was read."""
        if self._held:
            records, self._held = self._held + records, []
        self._follow(records, False)

    def conclude(self, cookie: int) -> None:
        """Gives up the wait for the second half of a rename."""
        if self.held == cookie:
            records, self._held = self._held, []
            self._follow(records, True)

    def _follow(self, records: list[Record], is_lone: bool) -> None:
        tree, roots = self._tree, self._roots
        folders = tree.folders
        for index, (watch, mask, cookie, name) in enumerate(records):
            folder = folders.get(watch)
            if folder is None:
                if mask & IN_Q_OVERFLOW:
                    self.lost += 1
                    roots.tell_lost()
                    roots.compare()
                # Else the watch was ended meanwhile.
            elif not name:
                self._folder_itself(folder, mask)
            elif not mask & _NAMES:
                self._content(folder, name, mask)
            elif mask & IN_MOVED_FROM:
                other = _other_half(records, index + 1, cookie)
                if other < 0 and not is_lone and len(records) - index < _NEAR:
                    self._held = records[index:]
                    break
                is_lone = False
                if other >= 0:
                    self._second_half(folder, records, index, other)
                else:
                    self._moved(folder, name, None, "", bool(mask & IN_ISDIR))
            elif mask & IN_DELETE:
                self._deleted(folder, name, bool(mask & IN_ISDIR))
            else:
                bits = CREATED if mask & IN_CREATE else CREATED | UPDATED
                self._arrived(folder, name, bool(mask & IN_ISDIR), bits)
        if (tree.missed or tree.unseen) and not self._held:
            tree.retry()
        if self._doubts and not self._held and tree.inotify.is_empty:
            self._doubts = False
            roots.compare()

    def _second_half(self, source: Folder, records: list[Record], one: int, other: int) -> None:
        """Follows a rename of which both halves are there, or two that are an exchange."""
        watch, mask, _, name = records[one]
        target, new_name = self._tree.folders.get(records[other][0]), records[other][3]
        records[other] = _DONE
        back = _named(records, other + 1)
        if target is not None and len(back) == 2:
            (_, there), (last, here) = back
            is_back = there[1] & IN_MOVED_FROM and here[1] & IN_MOVED_TO and there[2] == here[2]
            is_same = (there[0], there[3], here[0], here[3]) == (
                target.watch,
                new_name,
                watch,
                name,
            )
            places = [
                (source, name, bool(there[1] & IN_ISDIR)),
                (target, new_name, bool(mask & IN_ISDIR)),
            ]
            if is_back and is_same:
                # What was exchanged first can be told for certain when nothing else was moved.
                self._doubts = self._doubts or sum(bool(r[1] & _MOVES) for r in records) > 3
            if is_back and is_same and self._exchanged(places):
                records[last] = records[back[0][0]] = _DONE
                return
        self._moved(source, name, target, new_name, bool(mask & IN_ISDIR))

    def _places(self, folder: Folder, name: str) -> list[Place]:
        """Who wants to know of an entry."""
        tree = self._tree
        places: list[Place] = []
        if folder.whole and (tree.matches is None or tree.matches(name)):
            places.append((folder, name))
        if folder.roles is not None:
            for root in folder.roles.names.get(name, ()):
                if not places or root.path != places[0][0].shown(name):
                    places.append((root, ""))
        return places

    # --- what was written, read, and the like -----------------------------------------------------

    def _content(self, folder: Folder, name: str, mask: int) -> None:
        tree = self._tree
        wanted = tree.report.wanted
        is_folder = bool(mask & IN_ISDIR)
        bits = content_bits(mask & ~IN_ISDIR) & wanted
        if is_folder:
            bits &= ATTRIBUTES  # a look into one of them would count as read: those of ours, too
        if not bits:
            return
        for holder, key in self._places(folder, name):
            known = holder.known.get(key)
            look: Look | None = None
            if known is None or (bits & (ATTRIBUTES | UPDATED | WRITE)):
                look = tree.ledger.look(holder.real(key))
            told = bits
            if known is None:
                if look is None:
                    continue  # its end has been told
                told |= CREATED
                known = look._replace(content=0)
            if look is None or look.folder != known.folder:  # it has gone on
                look = Look(known.folder, known.regular, 0, 0)
            if bits & UPDATED:
                tree.ledger.settling.pop((holder, key), None)
            elif not bits & WRITE or wanted & UPDATED:
                look = look._replace(content=known.content)
            holder.known[key] = look
            tree.report.tell(holder.shown(key), told, folder=is_folder)

    # --- names that come and go -------------------------------------------------------------------

    def _arrived(self, folder: Folder, name: str, is_folder: bool, bits: int) -> None:
        tree = self._tree
        for holder, key in self._places(folder, name):
            if not is_folder or holder is folder:
                tree.ledger.arrive(holder, key, is_folder, bits)
        if folder.whole and tree.recursive:
            there = folder.folders.get(name)
            if not is_folder:
                if there is not None:  # a file took its place
                    tree.drop(there)
            elif there is None or there.watch < 0 or bits & UPDATED:
                tree.enter(folder, name)
        self._resolve(folder, name, is_folder)

    def _deleted(self, folder: Folder, name: str, is_folder: bool) -> None:
        tree = self._tree
        child = folder.folders.get(name) if is_folder else None
        if child is not None:
            now = tree.watch(child.path, tree.whole)
            if now is child:
                return  # another one of that name is meant, which was there before
            tree.drop(child)
            if now is not None:
                tree.narrow(now)  # of its coming the kernel will tell
        tree.missed.pop((folder, name), None)
        for holder, key in self._places(folder, name):
            tree.ledger.forget(holder, key)
        self._resolve(folder, name, is_folder)

    def _moved(
        self, source: Folder, name: str, target: Folder | None, new_name: str, is_folder: bool
    ) -> None:
        """Follows a rename; ``target`` is ``None`` when it led to where nothing is watched."""
        tree = self._tree
        child = source.folders.get(name)
        if target is not None:
            replaced = target.folders.get(new_name)
            if replaced is not None and replaced is not child:
                tree.drop(replaced)
                if source.folders.get(name) is not child:  # where it is, has been exchanged since
                    child, self._doubts = None, True
        olds = [(holder, key) for holder, key in self._places(source, name) if key in holder.known]
        news = [] if target is None else self._places(target, new_name)
        if child is not None and (target is None or not target.whole):
            tree.drop(child)
            child = None
        if len(olds) == len(news) == 1 and (not is_folder or news[0][0] is target):
            self._renamed(olds[0], news[0], is_folder)
        else:
            for holder, key in olds:
                tree.ledger.forget(holder, key)
            for holder, key in news:
                if not is_folder or holder is target:
                    tree.ledger.arrive(holder, key, is_folder, CREATED | UPDATED)
        tree.missed.pop((source, name), None)
        if is_folder and tree.recursive and target is not None and target.whole:
            self._tree_moved(child, target, new_name)
        if target is None:
            for holder, key in olds:
                self._look_behind(source, name, holder, key)
        self._resolve(source, name, is_folder)
        if target is not None:
            self._resolve(target, new_name, is_folder)

    def _look_behind(self, folder: Folder, name: str, holder: Holder, key: str) -> None:
        """Tells of what is there although something has moved away from there.

        When it was exchanged with something outside, that may have been told before, as if it had
        overwritten what then moved away.
        """
        tree = self._tree
        look = tree.ledger.look(holder.real(key))
        if look is None or (look.folder and holder.is_lone) or not tree.is_at_its_place(folder):
            return
        tree.ledger.compare(holder, key, look)
        if look.folder and tree.recursive:
            tree.enter(folder, name)

    def _exchanged(self, places: list[tuple[Folder, str, bool]]) -> bool:
        """Follows an exchange (man 2 renameat2), if it was one; both are told as new then.

        It looks like two renames, of which the first has overwritten its target and the second has
        brought it back. But a file never overwrites a folder, nor the other way; a watched folder
        that is overwritten has an end, which would be told in between; and what was brought back
        has left nothing where it came from.
        """
        tree = self._tree
        (_, _, is_folder), (target, new_name, was_folder) = places
        is_sure = is_folder != was_folder or (is_folder and new_name in target.folders)
        if not is_sure and not tree.ledger.look(target.real(new_name)):
            return False
        for folder, name, _ in places:
            child = folder.folders.get(name)
            if child is not None:
                tree.drop(child)
            tree.missed.pop((folder, name), None)
            for holder, key in self._places(folder, name):
                tree.ledger.forget(holder, key)
        # Where folders have been moved on since, they are not followed any further.
        self._doubts = self._doubts or is_folder or was_folder
        for folder, name, is_folder in places:
            self._arrived(folder, name, is_folder, CREATED | UPDATED)
        return True

    def _renamed(self, old: Place, new: Place, is_folder: bool) -> None:
        tree = self._tree
        (source, name), (target, new_name) = old, new
        moving = source.known.pop(name)
        tree.ledger.settling.pop((source, name), None)
        tree.ledger.settling.pop((target, new_name), None)
        is_new = new_name not in target.known
        look = tree.ledger.look(target.real(new_name))
        target.known[new_name] = moving if look is None or look.folder != is_folder else look
        bits = (CREATED if is_new else 0) | (0 if is_folder else UPDATED)
        tree.report.moved(source.shown(name), target.shown(new_name), bits, is_folder)

    def _tree_moved(self, child: Folder | None, target: Folder, name: str) -> None:
        tree = self._tree
        if child is None or self._stays(child, target, name):
            tree.enter(target, name)
        else:
            tree.move(child, target, name)

    def _stays(self, child: Folder, target: Folder, name: str) -> bool:
        """Whether it was not this folder that moved, but one that was there before it.

        When a folder was made and moved at once, the one that is found at its path may be the next
        one of that name. One that is found nowhere has moved on, as the kernel will tell.
        """
        tree = self._tree
        for path in (target.real(name), child.path):
            now = tree.watch(path, tree.whole)
            if now is child:
                return path == child.path
            if now is not None:
                tree.narrow(now)
        return False

    def _resolve(self, folder: Folder, name: str, is_folder: bool) -> None:
        """Looks anew at the paths that an entry has to do with, where they may lead elsewhere."""
        roles = folder.roles
        if roles is None:
            return
        found: list[Root] = list(roles.links.get(name, ()))
        for root in roles.names.get(name, ()):
            known = root.known.get("")
            if is_folder or (known is not None and not known.regular):
                found.append(root)
        for root in found:
            self._roots.resolve(root)

    # --- a folder itself --------------------------------------------------------------------------

    def _folder_itself(self, folder: Folder, mask: int) -> None:
        tree, roots = self._tree, self._roots
        if mask & IN_ATTRIB and not mask & _ENDS:
            for root in roots.all:
                if root.top is folder:
                    tree.report.tell(root.path, ATTRIBUTES, folder=True)
        if not mask & _ENDS:
            return
        if mask & IN_IGNORED:
            tree.ended(folder)
        if folder.roles is not None:
            for root in tuple(folder.roles.guards):
                roots.resolve(root, unmounted=bool(mask & IN_UNMOUNT))
        if mask & IN_UNMOUNT and folder.parent is not None:
            self._unmounted(folder, folder.parent)

    def _unmounted(self, folder: Folder, parent: Folder) -> None:
        """Goes on with the folder that the file system had been mounted on."""
        tree, name = self._tree, folder.name
        is_top = tree.ledger.look(folder.path) is not None
        tree.drop(folder, tells=is_top)
        if is_top:
            tree.report.tell(folder.told, 0, folder=True, unmounted=True)
            tree.enter(parent, name)


def _named(records: list[Record], start: int) -> list[tuple[int, Record]]:
    """Gives the next two events of entries, unless they stand behind the end of a folder."""
    found: list[tuple[int, Record]] = []
    for index in range(start, len(records)):
        record = records[index]
        if record[3]:
            found.append((index, record))
        if len(found) == 2 or not (record[3] or record[1] & (IN_MOVE_SELF | IN_ATTRIB)):
            break
    return found


def _other_half(records: list[Record], start: int, cookie: int) -> int:
    """Finds where a folder or file was moved to; -1 if that is not there."""
    for index in range(start, len(records)):
        _, mask, other, _ = records[index]
        if mask & IN_MOVED_TO and other == cookie:
            return index
    return -1
