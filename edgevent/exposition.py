"""The text exposition format of Prometheus, version 0.0.4.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""What HTTP calls the format."""

_NONE: Final[Mapping[str, str]] = {}


class Exposition:
    """A page of metrics; ``str`` gives its text.

    All samples of one metric stand together, whatever the order in which they were added; its help
    is that of the first one. Names of metrics and labels are the caller's to get right.

    Args:
        prefix: What stands before the name of each metric.

    Example:
        >>> page = Exposition("my_")
        >>> page.counter("jobs", "Jobs done.", 3, {"queue": "a"})
        >>> print(page, end="")
        # HELP my_jobs_total Jobs done.
        # TYPE my_jobs_total counter
        my_jobs_total{queue="a"} 3
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._metrics: dict[str, list[str]] = {}

    def counter(
        self, name: str, help: str, value: float, labels: Mapping[str, str] = _NONE
    ) -> None:
        """Adds a sample of what only grows; ``_total`` is added to its name."""
        self._add(f"{name}_total", "counter", help, [("", value)], labels)

    def gauge(self, name: str, help: str, value: float, labels: Mapping[str, str] = _NONE) -> None:
        """Adds a sample of what goes up and down."""
        self._add(name, "gauge", help, [("", value)], labels)

    def summary(
        self, name: str, help: str, count: int, total: float, labels: Mapping[str, str] = _NONE
    ) -> None:
        """Adds a sum of values, and how many they were."""
        self._add(name, "summary", help, [("_sum", total), ("_count", count)], labels)

    def _add(
        self,
        name: str,
        kind: str,
        help: str,
        values: list[tuple[str, float]],
        labels: Mapping[str, str],
    ) -> None:
        name = self._prefix + name
        lines = self._metrics.get(name)
        if lines is None:
            text = help.replace("\\", "\\\\").replace("\n", "\\n")
            lines = self._metrics[name] = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        shown = ",".join(f'{label}="{_escape(value)}"' for label, value in labels.items())
        braces = f"{{{shown}}}" if shown else ""
        lines += [f"{name}{suffix}{braces} {value!r}" for suffix, value in values]

    def __str__(self) -> str:
        return "".join(f"{line}\n" for lines in self._metrics.values() for line in lines)


def _escape(value: str) -> str:
    # What is no Unicode, as the path of a socket may be, would make the whole page unreadable.
    value = value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
