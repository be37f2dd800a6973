"""Binding to all addresses of a name that this machine has."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable
from typing import Final, Protocol, TypeVar

from ..address import Address
from ..errors import ListenError
from .resolve import Endpoint

# A machine without IPv6 may still have "::1 localhost" in its hosts file.
_NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

logger = logging.getLogger("edgevent")


class Bound(Protocol):
    """A socket that is bound."""

    @property
    def port(self) -> int:
        """The port that was chosen."""

    def close(self) -> None:
        """Releases it."""


_B = TypeVar("_B", bound=Bound)


def bind_everywhere(
    address: Address, endpoints: Iterable[Endpoint], bind: Callable[[Endpoint, int], _B]
) -> list[_B]:
    """Binds to all endpoints of a name that are addresses of this machine, at least to one.

    Args:
        bind: Binds to one, with a port; raises ``OSError``. Port 0 is the same port for all, which
            the first one finds.

    Raises:
        ListenError: It names the address and the reason; what was bound is closed.
    """
    endpoints = list(endpoints)
    bound: list[_B] = []
    failure: OSError | None = None
    try:
        for endpoint in endpoints:
            port = address.port or (bound[0].port if bound else 0)
            try:
                bound.append(bind(endpoint, port))
            except OSError as error:
                failure = error
                if error.errno not in _NOT_HERE:
                    break
                if len(endpoints) > 1:
                    logger.info("%s: %s: %s", address, endpoint.sockaddr[0], error.strerror)
        if failure is not None and (not bound or failure.errno not in _NOT_HERE):
            raise ListenError(
                f"{address}: {failure.strerror or failure}", failure.errno
            ) from failure
        return bound
    except BaseException:
        for one in bound:
            one.close()
        raise
