"""
What a server counts with: counters, histograms, summaries, by label values; and their text form for Prometheus.

Written by hand, not with prometheus_client: TF Serving's names begin with a colon, its counters carry no `_total`, and
dashboards look for exactly those. What is counted with them stands in `metrics`.
"""

import math
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

MAX_MEMBERS = 2000
"""Combinations of label values a metric has at most; then the one that was made first is forgotten."""


class Counter:
    """A number that only grows; as a gauge it may also shrink."""

    __slots__ = ("_lock", "value")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.value = 0.0

    def add(self, amount: float = 1.0) -> None:
        """Count *amount* more; a gauge may also count down."""
        with self._lock:
            self.value += amount


class Histogram:
    """Counts by upper bound, with sum and count."""

    __slots__ = ("_lock", "bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._lock = threading.Lock()
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one *value*."""
        place = bisect_left(self.bounds, value)
        with self._lock:
            self.counts[place] += 1
            self.sum += value

    def observe_all(self, values: Sequence[float]) -> None:
        """Count all *values*, taking the lock once."""
        bounds = self.bounds
        places = [bisect_left(bounds, value) for value in values]
        counts = self.counts
        with self._lock:
            for place in places:
                counts[place] += 1
            self.sum += sum(values)

    def merge(self, more: "Histogram") -> None:
        """Add what *more*, which has the same bounds, has counted; whoever calls sees to it that nobody else counts."""
        self.counts = [own + other for own, other in zip(self.counts, more.counts, strict=True)]
        self.sum += more.sum


class Summary:
    """Sum and count."""

    __slots__ = ("_lock", "count", "sum")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sum = 0.0
        self.count = 0

    def observe(self, value: float) -> None:
        """Count one *value*."""
        with self._lock:
            self.sum += value
            self.count += 1


Value = float | Counter | Histogram | Summary
Rows = Iterable[tuple[tuple[object, ...], Value]]
"""Label values, in the order of the family's labels, and what there is to tell."""

M = TypeVar("M", Counter, Histogram, Summary)


@dataclass(frozen=True, slots=True)
class Description:
    """What the catalogue says of a metric."""

    name: str
    kind: str
    labels: Sequence[str]
    help: str


class Family(Generic[M]):
    """All metrics of one name, one for each combination of label values."""

    def __init__(
        self,
        name: str,
        kind: str,
        labels: Sequence[str],
        make: type[M],
        *arguments: Sequence[float],
        help: str = "",  # noqa: A002  # Prometheus' word
    ) -> None:
        """
        Begin without members.

        Args:
            name: In TF Serving's form (it begins with a colon) or in Prometheus' own.
            kind: `counter`, `gauge`, `histogram` or `summary`.
            labels: Names.
            make: Makes a member.
            *arguments: What *make* is called with.
            help: One sentence, with the unit.
        """
        self.description = Description(name, kind, labels, help)
        self._make: type[M] = make
        self._arguments = arguments
        self._members: dict[tuple[object, ...], M] = {}
        self._lock = threading.Lock()

    def of(self, *values: object) -> M:
        """Return the metric with these label values, in the order of the family's labels and always of the same types."""
        member = self._members.get(values)
        if member is None:
            with self._lock:
                member = self._members.setdefault(values, self._make(*self._arguments))
                if len(self._members) > MAX_MEMBERS:
                    del self._members[next(iter(self._members))]
        return member

    def rows(self) -> Rows:
        """List what there is."""
        return sorted(self._members.copy().items(), key=lambda item: tuple(map(str, item[0])))


class View:
    """A metric that is worked out when somebody looks."""

    def __init__(
        self,
        name: str,
        kind: str,
        labels: Sequence[str],
        rows: Callable[[], Rows],
        help: str = "",  # noqa: A002  # Prometheus' word
    ) -> None:
        self.description = Description(name, kind, labels, help)
        self.rows = rows


def size(value: Value) -> float:
    """Return the number that *value* is: of histograms and summaries the count."""
    if isinstance(value, Counter):
        return value.value
    if isinstance(value, Histogram):
        return sum(value.counts)
    return value.count if isinstance(value, Summary) else value


def exposition(family: Family[Any] | View) -> list[str]:
    """Write one family; TF Serving's have no HELP line, because its own have none."""
    about = family.description
    lines = [] if about.name.startswith(":") else [f"# HELP {about.name} {about.help}"]
    lines.append(f"# TYPE {about.name} {about.kind}")
    for values, value in family.rows():
        labels = ",".join(
            f'{name}="{_escape(text)}"' for name, text in zip(about.labels, map(str, values), strict=True)
        )
        if isinstance(value, Histogram):
            lines += _buckets(about.name, value, labels)
        elif isinstance(value, Summary):
            lines.append(f"{about.name}_sum{{{labels}}} {_number(value.sum)}")
            lines.append(f"{about.name}_count{{{labels}}} {value.count}")
        else:
            lines.append(f"{about.name}{{{labels}}} {_number(value.value if isinstance(value, Counter) else value)}")
    return lines


def _buckets(name: str, histogram: Histogram, labels: str) -> list[str]:
    lines = []
    total = 0
    comma = "," if labels else ""
    for bound, count in zip((*histogram.bounds, math.inf), histogram.counts, strict=True):
        total += count
        # Six significant digits, as TF Serving writes them: a bound is part of a series' name.
        text = "+Inf" if bound == math.inf else f"{bound:g}"
        lines.append(f'{name}_bucket{{{labels}{comma}le="{text}"}} {total}')
    lines.append(f"{name}_sum{{{labels}}} {_number(histogram.sum)}")
    lines.append(f"{name}_count{{{labels}}} {total}")
    return lines


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
