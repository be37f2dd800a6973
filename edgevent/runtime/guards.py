"""Guards against use in a forked child.

A hub belongs to one thread of one process. A child that was forked shares the parent's
descriptors: its copy of each is closed at once, so that the parent's peers see the end of a
connection when the parent closes it, and the child runs none of the parent's turns.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Inherited(Protocol):
    """What a forked child must let go of."""

    def abandon(self) -> None:
        """Lets go of it in the child, without a word to the peer or to the parent."""


class Registry:
    """All that a forked child must let go of, in this process."""

    def __init__(self) -> None:
        self.descriptors: set[Inherited] = set()  # and what else keeps the loop waiting
        self.hubs: WeakSet[Inherited] = WeakSet()

    def after_fork(self) -> None:
        """Lets go of everything; runs in the child, before any code of the user."""
        for held in (*self.descriptors, *self.hubs):
            held.abandon()
        self.descriptors.clear()


REGISTRY = Registry()
os.register_at_fork(after_in_child=REGISTRY.after_fork)
