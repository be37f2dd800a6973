"""The last descriptors of a process, which no peer is to have."""

from __future__ import annotations

import os
import resource

from ..limits import RESERVED_DESCRIPTORS


def first_held_back() -> int:
    """The first descriptor of those that are held back."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft - min(RESERVED_DESCRIPTORS, soft // 4)


def has_descriptor(descriptor: int, held_back: int) -> bool:
    """Whether the next descriptor is none of those that are held back.

    Args:
        descriptor: One that is open.
        held_back: What :func:`first_held_back` has returned.
    """
    lowest = os.dup(descriptor)  # the lowest free one, as accept would give
    os.close(lowest)
    return lowest < held_back
