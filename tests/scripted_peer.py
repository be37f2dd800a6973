"""A scripted peer that has as much patience as the other waits of these tests."""

from __future__ import annotations

from network_ground import PATIENCE

from edgevent.testing.scripted import ScriptedPeer


def scripted_peer(address: str = "tcp://127.0.0.1:0") -> ScriptedPeer:
    """Returns a peer that listens, and is gone after a ``with``."""
    return ScriptedPeer(address, within=PATIENCE)
