"""What the tests of turns and communicators share."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hub_ground import Lines, Log, MakeLines, make_lines_in

from edgevent import Communicator


@pytest.fixture
def lines(communicator: Communicator) -> Iterator[MakeLines]:
    """Adds line connections to the communicator; the test holds their far ends."""
    made: list[Lines] = []
    yield make_lines_in(communicator, made)
    for one in made:
        one.cut()
        one.far.close()


@pytest.fixture
def log() -> Iterator[Log]:
    """What is logged during the test, at any level."""
    logger = logging.getLogger("edgevent")
    log, level, propagate = Log(), logger.level, logger.propagate
    logger.addHandler(log)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield log
    logger.removeHandler(log)
    logger.setLevel(level)
    logger.propagate = propagate
