"""What a trace shows of a line, and the globs that choose it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edgevent.communicatord.taps import watchers
from edgevent.communicatord.tracing import (
    MAX_GLOBS,
    Head,
    TraceFilter,
    head_bytes,
    read_head,
    shown_text,
)
from edgevent.errors import OptionError


@pytest.mark.parametrize(
    ("line", "head", "names"),
    [
        (b"STOP", b"STOP", ("", "", "", "", "STOP")),
        (b"<a:b c:d/STOP x=1 2", b"<a:b c:d/STOP", ("a", "b", "c", "d", "STOP")),
        (b"<:b d/STOP x=<y z/Z", b"<:b d/STOP", ("", "b", "", "d", "STOP")),
        (b"*/NEWS a=b", b"*/NEWS", ("", "", "", "*", "NEWS")),
        (b"snap:STOP", b"snap:STOP", ("", "", "snap", "", "STOP")),
    ],
)
def test_the_head_of_a_line(line: bytes, head: bytes, names: tuple[str, ...]) -> None:
    assert head_bytes(line) == head
    assert read_head(line) == Head(*names)


@pytest.mark.parametrize(
    ("glob", "matches"),
    [
        ("stock", True),
        ("till", True),
        ("st*/TAKE", True),
        ("snap:stock", True),
        ("snap:*/T?KE", True),
        ("/TAKE", True),
        ("/TAK", False),
        ("other:stock", False),
        ("tock", False),
        ("till/GIVE", False),
    ],
)
def test_a_glob_is_of_the_sender_or_the_target(glob: str, matches: bool) -> None:
    chosen = TraceFilter(["nobody", glob])
    assert chosen
    assert chosen.matches("snap:till", "snap:stock", "TAKE") is matches


def test_peers_without_a_name_are_chosen_by_that_of_their_connection() -> None:
    assert TraceFilter(["Relay-*"]).matches("Relay-3", "snap:stock", "TAKE")
    assert not TraceFilter(["x:*"]).matches("Relay-3", "snap:stock", "TAKE")


@pytest.mark.parametrize("glob", ["", "a/b/c", "a:b:c", "ä", "a b", "/"])
def test_what_is_no_glob(glob: str) -> None:
    with pytest.raises(OptionError, match="SERVER:SERVICE/COMMAND"):
        TraceFilter([glob])


def test_globs_are_not_too_many() -> None:
    with pytest.raises(OptionError, match=f"{MAX_GLOBS} at the most"):
        TraceFilter(["a"] * (MAX_GLOBS + 1))


def test_secrets_and_values_are_not_shown() -> None:
    line = b'<a:b c/SET password="x;y";user=me'
    assert shown_text(line) == "<a:b c/SET password=***;user=me"
    assert shown_text(line, False) == "<a:b c/SET password=...;user=..."
    assert shown_text(b"a/SET 1", False) == "a/SET"
    assert shown_text(b"A x=\xff") == "A x=\udcff"


def test_who_may_see_what_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1234)

    def peer(uid: int, gid: int, *groups: int) -> SimpleNamespace:
        return SimpleNamespace(credentials=SimpleNamespace(uid=uid, gid=gid), groups=groups)

    own, other = watchers(), watchers("77")
    assert own(peer(1234, 5))
    assert own(peer(0, 0))
    assert not own(peer(1235, 77))
    assert other(peer(1235, 77))
    assert other(peer(1235, 5, 77))
    assert not other(peer(1235, 5))
    assert not other(SimpleNamespace(credentials=None))
    with pytest.raises(OptionError, match="no group 'no-such'"):
        watchers("no-such")
