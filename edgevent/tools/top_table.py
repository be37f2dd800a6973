"""The table of ``ed-top``: columns, their order, and what stands above them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .output import printable
from .traffic import Look


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        key: The key that sorts by it, and begins its name.
        name: Its name for ``--sort``.
        title: What stands above it.
        width: How wide it is; 0 for what is left.
        value: What sorts; ``None`` comes last.
        show: Makes text of that.
        rises: Whether the least comes first.
    """

    key: str
    name: str
    title: str
    width: int
    value: Callable[[dict[str, Any]], Any]
    show: Callable[[Any], str]
    rises: bool = False


def amount(value: float | None) -> str:
    """Writes a number in five characters: ``950``, ``1.2k``, ``34M``."""
    if value is None:
        return "-"
    for unit in ("", "k", "M", "G"):
        if abs(value) < 999.5:
            return f"{value:.1f}{unit}" if value < 9.95 and value % 1 else f"{value:.0f}{unit}"
        value /= 1000.0
    return f"{value:.0f}T"


def span(seconds: float | None) -> str:
    """Writes a time by its two greatest units: ``45s``, ``3m12s``, ``4d7h``."""
    if seconds is None:
        return "-"
    left = int(seconds)
    if left < 60:
        return f"{left}s"
    minutes, rest = divmod(left, 60)
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes}m{rest}s"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours}h" if days else f"{hours}h{minutes}m"


def _lag(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return (
        "0" if not seconds else f"{seconds:.1f}s" if seconds >= 0.95 else f"{seconds * 1000:.0f}ms"
    )


def _of(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda peer: peer.get(name)


def _waiting(peer: dict[str, Any]) -> Any:
    return peer.get("queued_out", peer.get("held"))


COLUMNS: Final = (
    Column("n", "name", "SERVICE", 0, _of("name"), str, True),
    Column("s", "state", "STATE", 6, _of("state"), str, True),
    Column("u", "up", "UP", 7, _of("up_seconds"), span, True),
    Column("i", "in", "IN/s", 6, _of("messages_in_rate"), amount),
    Column("o", "out", "OUT/s", 6, _of("messages_out_rate"), amount),
    Column("b", "bytes-in", "B IN/s", 6, _of("bytes_in_rate"), amount),
    Column("B", "Bytes-out", "B OUT/s", 7, _of("bytes_out_rate"), amount),
    Column("w", "waiting", "WAITING", 7, _waiting, amount),
    Column("l", "lag", "LAG", 6, _of("lag"), _lag),
)
NAMES: Final = tuple(column.name.lower() for column in COLUMNS)
KEYS: Final = {column.key: column.name.lower() for column in COLUMNS}


def sort(peers: list[dict[str, Any]], name: str, *, reverse: bool = False) -> list[dict[str, Any]]:
    """Sorts peers by a column, and by their names where that is the same."""
    column = COLUMNS[NAMES.index(name)]
    by_name = sorted(peers, key=lambda peer: str(peer.get("name")))
    known = [peer for peer in by_name if column.value(peer) is not None]
    others = [peer for peer in by_name if column.value(peer) is None]
    known.sort(key=column.value, reverse=column.rises == reverse)
    return known + others


def table(
    look: Look, by: str, *, reverse: bool = False, width: int = 100
) -> tuple[list[str], str, list[str]]:
    """Makes the text of a look.

    Returns:
        The lines about the daemon, the titles, and a line for each peer.
    """
    date = float(look.daemon.get("date", 0.0))
    peers = [{**peer, "up_seconds": _since(date, peer.get("up_since"))} for peer in look.peers]
    peers = sort(peers, by, reverse=reverse)
    taken = sum(column.width + 1 for column in COLUMNS)
    first = max(width - taken + 1, 12)
    titles = [f"{one.title}{'*' if one.name.lower() == by else ''}" for one in COLUMNS]
    rows = [_row([_cell(column, peer) for column in COLUMNS], first) for peer in peers]
    return _about(look, date), _row(titles, first), rows


def _cell(column: Column, peer: dict[str, Any]) -> str:
    value = column.value(peer)
    return "" if value is None and column.show is str else column.show(value)


def _since(date: float, up_since: float | None) -> float | None:
    return None if up_since is None else max(date - up_since, 0.0)


def _row(texts: Sequence[str], first: int) -> str:
    shown = printable(texts[0])
    if len(shown) > first:
        shown = f"{shown[: first - 1]}+"
    rest = (text.rjust(column.width) for text, column in zip(texts[1:], COLUMNS[1:], strict=True))
    return f"{shown.ljust(first)} {' '.join(rest)}".rstrip()


def _about(look: Look, date: float) -> list[str]:
    daemon = look.daemon
    counts = daemon.get("counts", {})
    up = sum(1 for peer in look.peers if peer.get("kind") == "local" and peer["state"] != "down")
    cpu = daemon.get("cpu")
    shown = [
        f"communicatord on {printable(str(daemon.get('server', '?')))}",
        f"pid {daemon.get('pid', '?')}",
        f"up {span(_since(date, daemon.get('up_since')))}",
        f"cpu {'-' if cpu is None else f'{100 * cpu:.0f}%'}",
        f"memory {amount(daemon.get('memory_bytes'))}",
        f"lag {_lag(daemon.get('lag'))}",
    ]
    others = sum(1 for peer in look.peers if peer.get("kind") == "remote")
    words = ("undelivered", "unknown", "refused", "malformed", "expired")
    told = [f"{counts[word]} {word}" for word in words if counts.get(word)]
    services = f"{up} {'service' if up == 1 else 'services'}"
    daemons = f"{others} other {'daemon' if others == 1 else 'daemons'}"
    return [
        ", ".join(shown),
        ", ".join([services, daemons, f"{daemon.get('held', 0)} held", *told]),
    ]
