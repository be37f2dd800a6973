"""File events as turns: files, symbolic links and folders, watched without thread and polling."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from .. import limits
from ..arguments import checks_arguments
from ..errors import UsageError
from ..runtime.clock import Alarm
from ..runtime.turns import IDLE
from .file_changes import Changes
from .file_event import DEFAULT_EVENTS, FileEvent, FileKind, Report, bits_of, mask_of
from .file_ledger import Ledger
from .file_roots import Roots
from .file_tree import Tree
from .inotify import Inotify
from .queued import QueuedSource

AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]


@checks_arguments
class FileWatch(QueuedSource):
    """Tells what happens to files and folders, by the kernel's inotify.

    The kinds of events: ``created`` and ``deleted`` (a name has come, or is no more), ``updated``
    (written and closed, or moved here: the content is complete), ``moved`` (renamed inside of what
    is watched: one event with both names, which is ``created``, ``updated`` or both as well),
    ``attributes`` (mode, owner, times), ``write``, ``read``, ``access`` (opened or closed; these
    two of files alone), and ``exists`` (once for each that is there at the start). ``lost_sync``
    comes unasked: the kernel's queue was full, and what follows was found by a comparison, which
    tells what was created, deleted and updated, but not how often.

    Events of one kind for one file that follow each other are one when nobody has read them yet. A
    file that is found rather than told of, in a folder that has just come or by a comparison, may
    still be written: ``updated`` comes when it is closed, or when it was quiet for 0.1 s. Two names
    that were exchanged (man 2 renameat2) are ``deleted`` and ``created``.

    Args:
        paths: A path or several. Of a folder all entries are watched. A file is followed by its
            name: it may be replaced, deleted and made again, as editors do.
        callback: Called in a turn with each :class:`FileEvent`, in order; it may block.
            :meth:`process_event` may be overridden instead.
        events: The kinds that are wanted; ``created``, ``updated``, ``deleted`` and ``moved`` by
            default.
        pattern: A shell pattern, or several, for the names of entries in watched folders.
        recursive: Whether folders in watched folders are watched, too. Links to folders are not
            followed there.
        follow_symlinks: Whether a path that is a link stands for what it leads to; the way there is
            watched as well.
        must_exist: Whether each path has to be there at the start. One that is not, or that goes
            away later (which is told as ``gone``), is watched again when it comes.

    Raises:
        FileWatchError: A path does not exist or cannot be watched; the sentence names it, and the
            sysctl when it is a limit.

    Attributes:
        max_events: Past so many events that wait for the callback, no more are read from the
            kernel, whose own queue (``fs.inotify.max_queued_events``) then fills.

    It watches from the moment at which it is made. While it is disabled, and before it is added,
    the kernel keeps what happens, up to the length of its queue. Not told are a mount over a
    watched folder, and what is written through another hard link of a file, or into memory that it
    is mapped to (man 7 inotify). A tree is looked through in one go, at the start and after events
    were lost: the process does nothing else for as long as that takes.
    """

    __slots__ = (
        "_changes",
        "_inotify",
        "_ledger",
        "_pair_alarm",
        "_paths",
        "_paused",
        "_report",
        "_settle_alarm",
    )

    def __init__(
        self,
        paths: AnyPath | Iterable[AnyPath],
        callback: Callable[[FileEvent], Any] | None = None,
        *,
        events: FileKind | Iterable[FileKind] = DEFAULT_EVENTS,
        pattern: str | Iterable[str] | None = None,
        recursive: bool = False,
        follow_symlinks: bool = True,
        must_exist: bool = True,
        name: str = "",
        priority: int = limits.DEFAULT_PRIORITY,
        keep_running: bool = True,
    ) -> None:
        super().__init__(
            callback, has_hook=True, name=name, priority=priority, keep_running=keep_running
        )
        wanted = bits_of(events)
        matches = _matcher(pattern)
        self._paths = _whole_paths(paths, recursive)
        self._paused = True
        self._pair_alarm: Alarm | None = None
        self._settle_alarm: Alarm | None = None
        self._report = Report(wanted)
        self._ledger = Ledger(self._report)
        self._inotify = Inotify()
        try:
            tree = Tree(self._inotify, self._ledger, matches, recursive)
            roots = Roots(tree, self._paths, mask_of(wanted), follow_symlinks)
            self._changes = Changes(tree, roots)
            roots.start(must_exist)
        except BaseException:
            self._inotify.close()
            raise
        self._events.extend(self._report.take())

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths that are watched, each in full."""
        return tuple(self._paths)

    @property
    def lost_syncs(self) -> int:
        """How often events were lost, because the kernel's queue was full."""
        return self._changes.lost

    def process_event(self, event: FileEvent) -> None:
        """Called in a turn with each event; calls the callback."""
        if self._callback is not None:
            self._callback(event)

    def _state(self) -> str:
        more = f" and {len(self._paths) - 1} more" if len(self._paths) > 1 else ""
        return f"{super()._state()} {self._paths[0]!r}{more}"

    # --- in the hub -------------------------------------------------------------------------------

    def _enabled_changed(self, enabled: bool) -> None:
        if enabled:
            self._resume()
            self._set_alarms()
        else:
            self._pause()
            self._clear_alarms()

    def _resume(self) -> None:
        if self._paused and self._inotify.is_open:
            self._paused = False
            self._inotify.start(self._readable)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._inotify.stop()

    def _readable(self) -> None:
        try:
            try:
                records = self._inotify.read()
            except BlockingIOError:
                return
            self._changes.feed(records)
            self._take()
        except BaseException as error:  # gevent would stop the watcher without a word
            self._turns.failed(error)

    def _take(self) -> None:
        self._events.extend(self._report.take())
        if self._events:
            if self.ticket == IDLE and self._enabled and self._communicator is not None:
                self._turns.event(self)
            if len(self._events) >= self.max_events:
                self._pause()
        self._set_alarms()

    def _set_alarms(self) -> None:
        if self._changes.held and self._pair_alarm is None:
            delay = limits.FILE_PAIR_TIMEOUT
            self._pair_alarm = self._clock.call_later(delay, self._no_second_half)
        if self._ledger.settling and self._settle_alarm is None:
            delay = limits.FILE_QUIET_TIME
            self._settle_alarm = self._clock.call_later(delay, self._settle)

    def _clear_alarms(self) -> None:
        for alarm in (self._pair_alarm, self._settle_alarm):
            if alarm is not None:
                alarm.stop()
        self._pair_alarm = self._settle_alarm = None

    def _no_second_half(self) -> None:
        self._pair_alarm = None
        self._go_on(partial(self._changes.conclude, self._changes.held))

    def _settle(self) -> None:
        self._settle_alarm = None
        self._go_on(self._ledger.settle)

    def _go_on(self, work: Callable[[], None]) -> None:
        if self._turns.forked or self._paused:
            return  # what is waiting goes first; then it is looked at again
        try:
            self._readable()  # what has come meanwhile may be what was waited for
            if not self._closed:
                work()
                self._take()
        except BaseException as error:
            self._turns.failed(error)

    # --- turns ------------------------------------------------------------------------------------

    def handle(self, event: FileEvent) -> None:
        """Calls the hook."""
        self.call_hook(self.process_event, event)

    def _work(self) -> None:
        super()._work()
        if (
            self._paused
            and len(self._events) < self.max_events
            and self._enabled
            and self._communicator is not None
            and not self._draining
        ):
            self._enabled_changed(True)

    def _stop_listening(self) -> None:
        self._pause()
        self._clear_alarms()

    def _release(self) -> bool:
        self._stop_listening()
        self._inotify.close()
        return super()._release()


def _matcher(pattern: str | Iterable[str] | None) -> Callable[[str], object] | None:
    """Makes what says whether a name is wanted."""
    if pattern is None:
        return None
    patterns = [pattern] if isinstance(pattern, str) else list(pattern)
    for one in patterns:
        if not isinstance(one, str) or not one or "/" in one:
            raise UsageError(f"{one!r} is no pattern of names: one such as '*.conf' was expected")
    return re.compile("|".join(map(fnmatch.translate, patterns))).match


def _whole_paths(paths: AnyPath | Iterable[AnyPath], recursive: bool) -> list[str]:
    """Returns the paths in full, each once; those in a folder that is watched anyway left out."""
    given = [paths] if isinstance(paths, str | bytes | os.PathLike) else paths
    if not isinstance(given, Iterable):
        raise UsageError(f"{paths!r} is no path")
    whole: dict[str, None] = {}
    for path in given:
        text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if not text or "\0" in text:
            raise UsageError(f"{path!r} is no path")
        whole[os.path.abspath(text)] = None
    if not whole:
        raise UsageError("no path was given that is to be watched")
    if recursive:
        for path in tuple(whole):
            above = (other for other in whole if path.startswith(f"{other.rstrip('/')}/"))
            if path != "/" and any(map(os.path.isdir, above)) and os.path.isdir(path):
                del whole[path]
    return list(whole)
