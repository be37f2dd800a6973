"""How the time of a value is shown."""

from __future__ import annotations

import time


def shown_time(nanoseconds: int, *, digits: int = 3) -> str:
    """Gives a time as ``2026-03-01 12:00:00.123 UTC``.

    Args:
        nanoseconds: Since 1970.
        digits: Of the fraction, 0 to 9.
    """
    seconds, fraction = divmod(nanoseconds, 10**9)
    text = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
    return f"{text}{f'.{fraction:09}'[: digits + 1] if digits else ''} UTC"
