"""Whether the computers that belong together can reach each other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..drafts import write_together
from .computer import Cluster
from .router import Router

logger = logging.getLogger("edgevent.communicatord")

FILE_NAME: Final = "cluster-status.txt"

_MODE: Final = 0o644


class ClusterWatch:
    """Tells the services of this computer what becomes of the cluster.

    It is up while this computer reaches more than half of all, itself among them, and complete
    while it reaches all.

    Args:
        router: Knows who is linked, and broadcasts.
        known: Gives how many other computers are known.
        folder: Where the state is written; ``None`` writes it nowhere.
    """

    def __init__(
        self, router: Router, known: Callable[[], int], folder: Path | None = None
    ) -> None:
        self._router = router
        self._known = known
        self._path = None if folder is None else folder / FILE_NAME
        self._told: Cluster | None = None

    @property
    def count(self) -> int:
        """How many computers are linked, this one among them."""
        return len(self._router.remotes) + 1

    @property
    def total(self) -> int:
        """How many computers are known, this one among them."""
        return max(self._known() + 1, self.count)

    @property
    def quorum(self) -> int:
        """How many have to be linked for the cluster to be up."""
        return self.total // 2 + 1

    @property
    def state(self) -> Cluster:
        """The state just now."""
        return Cluster(self.count >= self.quorum, self.count == self.total, self.total)

    def update(self) -> None:
        """Tells the services what has changed. May wait a moment for one that does not read."""
        now, before = self.state, self._told
        if now == before:
            return
        self._told = now
        texts = []
        for index, message in enumerate(now.messages()):
            texts.append(f"{message.command}\n")
            if before is None or before.total != now.total or before[index] != now[index]:
                self._router.broadcast(message)
        logger.info(
            "cluster: %d of %d computers, %s",
            self.count,
            now.total,
            ", ".join(text[len("CLUSTER_") : -1].lower() for text in texts),
        )
        if self._path is not None:
            try:
                write_together({self._path: ("".join(texts).encode(), _MODE)}, replace=True)
            except OSError as error:
                logger.error("%s: it cannot be written: %s", self._path, error.strerror)
