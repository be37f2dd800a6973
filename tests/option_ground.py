"""Options for tests: without the settings of this machine's user, and what a parser says."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgevent.address import Address
from edgevent.errors import OptionError
from edgevent.options import OptionParser


def clean_environment(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Removes the variables that a parser could read."""
    monkeypatch.setenv("HOME", str(home))
    for name in os.environ:
        if name.startswith("EDGEVENT_") or name in ("HELLO", "CREDENTIALS_DIRECTORY"):
            monkeypatch.delenv(name)


def read_address(key: str, text: str) -> Address:
    """Converts a key of a section."""
    return Address.parse(text)


def error_of(parser: OptionParser, words: Sequence[str] = ()) -> str:
    """The sentence of a reading that fails."""
    with pytest.raises(OptionError) as raised:
        parser.read(words)
    return str(raised.value)


def ending(parser: OptionParser, *words: str) -> int:
    """The exit status of a parser that ends the program."""
    with pytest.raises(SystemExit) as raised:
        parser.parse(words)
    assert isinstance(raised.value.code, int)
    return raised.value.code
