"""
What the server counts, and its text form for Prometheus.

Written by hand, not with prometheus_client: TF Serving's names begin with a colon, its counters carry no `_total`, and
dashboards look for exactly those. Aggregates only; nothing here grows with the number of requests.
"""

import bisect
import math
import threading
from collections.abc import Sequence
from typing import Generic, TypeVar


class Counter:
    """A number that only grows."""

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
        place = bisect.bisect_left(self.bounds, value)
        with self._lock:
            self.counts[place] += 1
            self.sum += value

    def observe_all(self, values: Sequence[float]) -> None:
        """Count all *values*, taking the lock once."""
        places = [bisect.bisect_left(self.bounds, value) for value in values]
        with self._lock:
            for place in places:
                self.counts[place] += 1
            self.sum += sum(values)


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


M = TypeVar("M", Counter, Histogram, Summary)


class Family(Generic[M]):
    """All metrics of one name, one for each combination of label values."""

    def __init__(self, name: str, kind: str, labels: Sequence[str], make: type[M], *arguments: Sequence[float]) -> None:
        self.name = name
        self.kind = kind
        self._labels = labels
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
        return member

    def exposition(self) -> list[str]:
        """Return the lines of this family in Prometheus' text format, as TF Serving writes them."""
        lines = [f"# TYPE {self.name} {self.kind}"]
        for values, member in sorted(self._members.copy().items(), key=lambda item: tuple(map(str, item[0]))):
            labels = ",".join(
                f'{name}="{_escape(value)}"' for name, value in zip(self._labels, map(str, values), strict=True)
            )
            if isinstance(member, Counter):
                lines.append(f"{self.name}{{{labels}}} {_number(member.value)}")
            elif isinstance(member, Histogram):
                lines += self._buckets(member, labels)
            else:
                lines.append(f"{self.name}_sum{{{labels}}} {_number(member.sum)}")
                lines.append(f"{self.name}_count{{{labels}}} {member.count}")
        return lines

    def _buckets(self, histogram: Histogram, labels: str) -> list[str]:
        lines = []
        total = 0
        comma = "," if labels else ""
        for bound, count in zip((*histogram.bounds, math.inf), histogram.counts, strict=True):
            total += count
            # Six significant digits, as TF Serving writes them: a bound is part of a series' name.
            text = "+Inf" if bound == math.inf else f"{bound:g}"
            lines.append(f'{self.name}_bucket{{{labels}{comma}le="{text}"}} {total}')
        lines.append(f"{self.name}_sum{{{labels}}} {_number(histogram.sum)}")
        lines.append(f"{self.name}_count{{{labels}}} {total}")
        return lines


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


# Source of the bounds: the monitoring::Buckets::Exponential calls in tensorflow_serving/servables/tensorflow/util.cc.
LATENCY_BOUNDS_US = tuple(10 * 1.8**i for i in range(33))
# Source: the same calls in tensorflow_serving/batching/batching_session.cc and .h.
QUEUING_BOUNDS_US = tuple(100 * 1.2**i for i in range(52))
BATCH_SIZE_BOUNDS = tuple(2**i for i in range(14))
# From 100 µs to 13 s.
WAIT_BOUNDS_S = tuple(1e-4 * 2**i for i in range(18))

# Batch sizes up to this are told one by one, larger ones by the next power of two: labels must not grow with requests.
_EXACT_SIZES = 1024


class Metrics:
    """Every metric of the server; made once, passed to whoever counts."""

    def __init__(self) -> None:
        self.request_count = Family(":tensorflow:serving:request_count", "counter", ("model_name", "status"), Counter)
        self.request_latency_us = Family(
            ":tensorflow:serving:request_latency",
            "histogram",
            ("model_name", "API", "entrypoint"),
            Histogram,
            LATENCY_BOUNDS_US,
        )
        self.requests = Family(
            "slipway_requests_total", "counter", ("model", "version", "signature", "protocol", "status"), Counter
        )
        self.stages_s = Family("slipway_stage_seconds", "summary", ("model", "protocol", "stage"), Summary)
        self.batches = Family("slipway_batches_total", "counter", ("model", "size", "reason"), Counter)
        self.batch_padding_rows = Family("slipway_batch_padding_rows_total", "counter", ("model",), Counter)
        self.batch_rows = Family("slipway_batch_rows", "histogram", ("model",), Histogram, BATCH_SIZE_BOUNDS)
        self.batch_wait_s = Family("slipway_batch_wait_seconds", "histogram", ("model",), Histogram, WAIT_BOUNDS_S)
        self.batch_reruns = Family("slipway_batch_reruns_total", "counter", ("model",), Counter)
        self.queued = Family("slipway_queued_requests", "gauge", ("model",), Counter)
        self.not_run = Family("slipway_requests_not_run_total", "counter", ("model", "reason"), Counter)
        session = ":tensorflow:serving:batching_session"
        self.queuing_latency_us = Family(
            f"{session}:queuing_latency", "histogram", ("thread_pool_name",), Histogram, QUEUING_BOUNDS_US
        )
        self.wrapped_run_count = Family(f"{session}:wrapped_run_count", "counter", (), Counter)
        self.padding_size = Family(
            f"{session}:padding_size", "histogram", ("execution_batch_size",), Histogram, BATCH_SIZE_BOUNDS
        )
        self.input_batch_size = Family(f"{session}:input_batch_size", "histogram", (), Histogram, BATCH_SIZE_BOUNDS)
        self.processed_batch_size = Family(
            f"{session}:processed_batch_size", "histogram", (), Histogram, BATCH_SIZE_BOUNDS
        )
        self.model_loads = Family("slipway_model_loads_total", "counter", ("model", "version", "status"), Counter)
        self.in_flight = Family("slipway_in_flight", "gauge", (), Counter)

    def stage(self, model: str, protocol: str, stage: str, seconds: float) -> None:
        """Count *seconds* that one request spent in *stage*: parse, queue, compute or encode."""
        self.stages_s.of(model, protocol, stage).observe(seconds)

    def batch(self, model: str, rows: int, padding_rows: int, reason: str) -> None:
        """Count one executed batch of *rows* rows that were asked for, and the rows added to them."""
        self.batches.of(model, size_label(rows), reason).add()
        self.batch_rows.of(model).observe(rows)
        if padding_rows:
            self.batch_padding_rows.of(model).add(padding_rows)

    def session_run(self, rows: int, padding_rows: int) -> None:
        """Count one run of a batch under TF Serving's names: *rows* that were asked for, and the rows added to them."""
        self.wrapped_run_count.of().add()
        self.padding_size.of(size_label(rows + padding_rows)).observe(padding_rows)
        self.processed_batch_size.of().observe(rows + padding_rows)

    def exposition(self) -> str:
        """Return all metrics in Prometheus' text format."""
        families = [family for family in vars(self).values() if isinstance(family, Family)]
        return "".join(line + "\n" for family in families for line in family.exposition())


def size_label(rows: int) -> int:
    """Return *rows* itself, or the next power of two if it is so large that each size of its own would be too many."""
    return rows if rows <= _EXACT_SIZES else 1 << (rows - 1).bit_length()
