"""What keeps a server from accepting: errors, and the last descriptors, which no peer gets."""

from __future__ import annotations

import errno
import os
import resource
from typing import Final

from ..limits import RESERVED_DESCRIPTORS

# man 2 accept: that one peer is gone, and is in the queue no more. After any other error (want of
# descriptors or memory, as a rule) the peers wait in the queue: trying again at once would only
# burn CPU.
_PEER_GONE: Final = frozenset(
    {
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENONET,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.EPROTO,
    }
)


def is_peer_gone(error: OSError) -> bool:
    """Whether an error of ``accept`` is that of one peer, and others can be accepted."""
    return error.errno in _PEER_GONE


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
