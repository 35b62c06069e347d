"""What is compared between two servers, by how much it may get worse, and which pairs of windows count. Pure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from slipway import repetitions
from slipway.compare.gate import LOOKS, decide
from slipway.compare.records import ComparedCell, MetricResult, WindowPair
from slipway.records import Repetition
from slipway.statistics import hodges_lehmann

# What a head that cannot keep up breaks by itself: the rate is half of what base can take, and base did. Its latencies count
# from the planned time, so that they say by how much it fell behind. That requests left late is no fault of a server: forgiven
# in head alone, it would let a hiccup of the load generator count against head, and void the pair if it hit base.
_OVERRUN = {repetitions.OFF_RATE, repetitions.UNSTEADY}
# On a host where more pairs than this were disturbed, times on the wall are told but decide nothing.
MOST_VOID = 0.25


@dataclass(frozen=True, slots=True)
class Metric:
    """
    One number of a window.

    Attributes:
        id: Its short name.
        name: Its name.
        unit: Its unit.
        margin: By which share it may get worse.
        kind: Of the load it is read from.
        read: From a repetition; None where it could not be measured.
        more_is_worse: Whether a larger value is worse.
        is_cpu: Whether only CPU time counts, so that a busy host leaves it valid.
    """

    id: str
    name: str
    unit: str
    margin: float
    kind: str
    read: Callable[[Repetition], float | None]
    more_is_worse: bool = True
    is_cpu: bool = False

    def counts(self, pair: WindowPair) -> bool:
        """Say whether both windows of *pair* are good enough for this metric, and have it."""
        broken = {*pair.base.invalid, *(() if _is_overrun(pair.head) else pair.head.invalid)}
        if self.is_cpu:
            broken -= repetitions.ONLY_WALL_CLOCK
        return not broken and bool(self.read(pair.base)) and bool(self.read(pair.head))

    def worse(self, pair: WindowPair) -> float:
        """Give the logarithm of head ÷ base, positive if head is worse; the pair must count."""
        base, head = self.read(pair.base), self.read(pair.head)
        assert base
        assert head
        change = math.log(head / base)
        return change if self.more_is_worse else -change


def _is_overrun(repetition: Repetition) -> bool:
    fell_behind = repetition.offered is not None and repetition.completed < repetition.offered
    return fell_behind and repetitions.OFF_RATE in repetition.invalid and _OVERRUN.issuperset(repetition.invalid)


def _cpu(repetition: Repetition) -> float | None:
    used = repetition.server_cpu_us_per_request
    return None if used is None else used * repetition.throughput_rps / max(repetition.predictions_per_s, 1e-9)


METRICS = (
    Metric("cpu", "server CPU per prediction", "µs", 0.03, "closed", _cpu, is_cpu=True),
    Metric("throughput", "predictions per second", "1/s", 0.05, "closed", lambda r: r.predictions_per_s, False),
    Metric("p50", "p50 response latency", "µs", 0.05, "open", lambda r: r.latency.p50_us),
    Metric("p99", "p99 response latency", "µs", 0.15, "open", lambda r: r.latency.p99_us),
)


def results(cells: Sequence[ComparedCell], looks: Sequence[int] = LOOKS) -> list[MetricResult]:
    """Judge every metric of every cell by what was measured so far."""
    return [_result(metric, cell, looks) for metric in METRICS for cell in cells if cell.load.kind == metric.kind]


def _result(metric: Metric, cell: ComparedCell, looks: Sequence[int]) -> MetricResult:
    counted = [pair for pair in cell.pairs if metric.counts(pair)]
    worse = [metric.worse(pair) for pair in counted]
    decision = decide(worse, metric.margin, looks)
    used = counted[: decision.pairs]
    estimate = hodges_lehmann(worse[: decision.pairs])
    void = len(cell.pairs) - len(counted)
    quiet = metric.is_cpu or void <= MOST_VOID * len(cell.pairs)
    # What is told is head ÷ base, whichever direction is worse.
    low, high = (None, None) if estimate is None else (estimate.low, estimate.high)
    ends = sorted(_change(metric, end) for end in (low, high) if end is not None)
    return MetricResult(
        id=f"{cell.id}/{metric.id}",
        metric=metric.id,
        name=metric.name,
        unit=metric.unit,
        protocol=cell.protocol,
        cell=cell.id,
        margin=metric.margin,
        more_is_worse=metric.more_is_worse,
        base=_median([metric.read(pair.base) for pair in used]),
        head=_median([metric.read(pair.head) for pair in used]),
        ratio=None if estimate is None else _change(metric, estimate.value),
        low=ends[0] if ends else None,
        high=ends[-1] if ends else None,
        pairs=len(used),
        void=void,
        gates=quiet,
        why_not="" if quiet else f"{void} of {len(cell.pairs)} pairs were disturbed: the host was not quiet",
        state=decision.state,
        confirming=decision.confirming,
    )


def _change(metric: Metric, worse: float) -> float:
    return math.exp(worse if metric.more_is_worse else -worse)


def _median(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.median(there)) if there else None
