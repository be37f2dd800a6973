"""A pipe between a parent and its child."""

from __future__ import annotations

import _socket
import os
import socket
from typing import Final, Literal

from ..errors import ClosedError, UsageError
from ..runtime.closing import Closing
from ..runtime.guards import REGISTRY
from .base import StreamTransport, close_quietly
from .fd import FdTransport
from .stream import SocketTransport

PipeKind = Literal["both", "child-input", "child-output"]
"""Who writes: both, the parent (to the child's input), or the child (its output)."""

_KINDS: Final = ("both", "child-input", "child-output")


class Pipe(Closing):
    """A pipe between this process and a child that it is about to start.

    Make it, start the child, then :meth:`open` it, in both processes if the child was forked. A
    program is given ``pass_fds=pipe.child_fds`` and :attr:`child_address` on its command line.
    Children that are started once the parent has opened its end hold no copy of it.

    Args:
        kind: ``both`` (a pair of Unix sockets), ``child-input`` (the parent writes, the child
            reads) or ``child-output`` (the child writes, the parent reads).

    Raises:
        UsageError: The kind is none of these.
    """

    __slots__ = ("_child", "_parent", "_process", "kind")

    def __init__(self, kind: PipeKind = "both") -> None:
        if kind not in _KINDS:
            raise UsageError(f"{kind!r} is no kind of pipe: {', '.join(_KINDS)} were expected")
        self.kind: Final = kind
        self._process = os.getpid()
        if kind == "both":
            one, other = socket.socketpair()
            self._parent, self._child = one.detach(), other.detach()
        elif kind == "child-input":
            self._child, self._parent = os.pipe()
        else:
            self._parent, self._child = os.pipe()
        REGISTRY.descriptors.add(self)

    def __repr__(self) -> str:
        state = "made" if self._parent >= 0 or self._child >= 0 else "opened or closed"
        return f"<Pipe {self.kind} {state}>"

    @property
    def child_fds(self) -> tuple[int, ...]:
        """The child's descriptor, for ``subprocess`` (``pass_fds``, ``stdin`` or ``stdout``).

        Raises:
            ClosedError: It is not here any more.
        """
        return (self._check(self._child),)

    @property
    def child_address(self) -> str:
        """The address of the child's end, in a child that was given :attr:`child_fds`: ``fd:N``."""
        return f"fd:{self._check(self._child)}"

    def _check(self, descriptor: int) -> int:
        if descriptor < 0:
            raise ClosedError("this end of the pipe was opened or closed already")
        return descriptor

    @property
    def is_parent(self) -> bool:
        """Whether this is the process that made the pipe."""
        return os.getpid() == self._process

    def open(self) -> StreamTransport:
        """Returns the transport of this process's end, and closes the other end here.

        Raises:
            ClosedError: It was opened or closed already.
        """
        is_parent = self.is_parent
        own = self._check(self._parent if is_parent else self._child)
        if is_parent:
            self._parent = -1
        else:
            self._child = -1
        self.close()
        other = "child" if is_parent else "parent"
        os.set_blocking(own, False)
        if self.kind == "both":
            return SocketTransport(_socket.socket(fileno=own))
        if is_parent == (self.kind == "child-output"):
            return FdTransport(own, -1, peer=f"pipe:{other}")
        return FdTransport(-1, own, peer=f"pipe:{other}")

    def close(self) -> None:
        """Closes what was not opened, in this process. Idempotent."""
        REGISTRY.descriptors.discard(self)
        for descriptor in (self._parent, self._child):
            if descriptor >= 0:
                close_quietly(descriptor)
        self._parent = self._child = -1

    def abandon(self) -> None:
        """Closes the parent's end in a forked child; the child's own stays until it is opened."""
        parent, self._parent = self._parent, -1
        if parent >= 0:
            close_quietly(parent)
