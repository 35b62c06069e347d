"""What is compared between two servers, by how much it may get worse, and which pairs of windows count. Pure."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from slipway import repetitions
from slipway.compare.gate import LOOKS, Decision, decide
from slipway.compare.plan import enough_s
from slipway.compare.records import ComparedCell, MetricResult, WindowPair
from slipway.records import Repetition
from slipway.statistics import hodges_lehmann, samples_needed

# What a head that cannot keep up breaks by itself: the rate is half of what base can take, and base did. Its latencies count
# from the planned time, so that they say by how much it fell behind. That requests left late is no fault of a server: forgiven
# in head alone, it would let a hiccup of the load generator count against head, and void the pair if it hit base.
_OVERRUN = {repetitions.OFF_RATE, repetitions.UNSTEADY}
# A load generator that is late makes latencies longer, which count from the planned time. What it may have added, by sending
# late and by reading late, is taken off head's alone. So a head that is worse all the same is worse.
_SENT_LATE = {repetitions.LATE, repetitions.LAGGING}
# Where more pairs than this do not count, times on the wall are told but decide nothing.
MOST_VOID = 0.25


@dataclass(frozen=True, slots=True)
class Cause:
    """
    Why pairs do not count.

    Attributes:
        words: What they did, after their number.
        excuses: Whether it is the machine's doing: then what CPU time says is enough.
    """

    words: str
    excuses: bool = False


_NOT_QUIET = Cause("were disturbed: the host was not quiet", excuses=True)
# What a rule says by itself...
_CAUSES = (
    (
        {repetitions.SATURATED, repetitions.NEAR_CEILING},
        Cause("came near to the most that the load generator can do: it may be what was measured", excuses=True),
    ),
    (
        {repetitions.THROTTLED},
        Cause("had a CPU quota that the server or the load generator had to wait for", excuses=True),
    ),
    ({repetitions.SLOWED, repetitions.GPU_SLOWED}, Cause("had CPUs or a GPU that were slowed down", excuses=True)),
    ({repetitions.DISTURBED, repetitions.STOLEN}, _NOT_QUIET),
)
# ... and what may follow from that, so that it is told only where there is nothing else.
_SYMPTOMS = (
    ({repetitions.LATE, repetitions.LAGGING, repetitions.SENT_AGAIN}, _NOT_QUIET),
    ({repetitions.OFF_RATE}, Cause("did not keep the rate that was offered")),
    ({repetitions.UNSTEADY}, Cause("had not settled, for which a longer --window leaves more time")),
)
_NO_CPU_TIME = Cause("had no CPU time of the server that could be read")
_NO_VALUE = Cause("had nothing to measure")


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
        quantile: Which percentile of latency it is, 0..1; None: it is none.
    """

    id: str
    name: str
    unit: str
    margin: float
    kind: str
    read: Callable[[Repetition], float | None]
    more_is_worse: bool = True
    is_cpu: bool = False
    quantile: float | None = None

    def counts(self, pair: WindowPair) -> bool:
        """Say whether both windows of *pair* are good enough for this metric, and have it."""
        return not self._broken(pair) and bool(self.read(pair.base)) and bool(self.read(pair.head))

    def why_void(self, pair: WindowPair, rate: float | None) -> list[Cause]:
        """Say why *pair*, measured at *rate* requests per second if that was offered, does not count; [] if it does."""
        if self.counts(pair):
            return []
        broken = self._broken(pair)
        found = [cause for rules, cause in _CAUSES if broken & rules]
        found = found or [cause for rules, cause in _SYMPTOMS if broken & rules][:1]
        if broken and not found:
            found = [Cause(f"broke a rule: {', '.join(sorted(map(_short, broken)))}")]
        if self.quantile and rate and None in {self.read(pair.base), self.read(pair.head)}:
            # Told beside a broken rule, too: without that it would still be so.
            found.append(self._too_few(pair, self.quantile, rate))
        return found or [_NO_CPU_TIME if self.is_cpu else _NO_VALUE]

    def _broken(self, pair: WindowPair) -> set[str]:
        broken = {*pair.base.invalid, *(() if _is_overrun(pair.head) else pair.head.invalid)}
        return broken - repetitions.ONLY_WALL_CLOCK if self.is_cpu else broken

    def _too_few(self, pair: WindowPair, quantile: float, rate: float) -> Cause:
        # Not how many there were in this very window: the same words for all windows, so that they can be counted.
        length_s = pair.base.window_s
        return Cause(
            f"had too few requests: some {rate * length_s:.0f} in a window of {length_s:g} s, {self.id} needs "
            f"{samples_needed(quantile)}, which --open-window {enough_s(quantile, rate):g} gives"
        )

    def worse(self, pair: WindowPair) -> float:
        """Give the logarithm of head ÷ base, positive if head is worse; the pair must count."""
        base, head = self.read(pair.base), self.read(pair.head)
        assert base
        assert head
        change = math.log(head / base)
        return change if self.more_is_worse else -change

    def at_least_worse(self, pair: WindowPair) -> float | None:
        """Give what is left of `worse` if all lateness of the load generator was in head's latency; None: it cannot be told."""
        if self.counts(pair):
            return self.worse(pair)
        base, head, late_us = self.read(pair.base), self.read(pair.head), pair.head.slip_p99_us
        if self.quantile is None or self._broken(pair) - _SENT_LATE or not base or not head or late_us is None:
            return None
        late_us += pair.head.loop_lag_p99_us or 0.0
        return math.log(max(head - late_us, 1.0) / base)


def _is_overrun(repetition: Repetition) -> bool:
    fell_behind = repetition.offered is not None and repetition.completed < repetition.offered
    return fell_behind and repetitions.OFF_RATE in repetition.invalid and _OVERRUN.issuperset(repetition.invalid)


def _cpu(repetition: Repetition) -> float | None:
    used = repetition.server_cpu_us_per_request
    return None if used is None else used * repetition.throughput_rps / max(repetition.predictions_per_s, 1e-9)


METRICS = (
    Metric("cpu", "server CPU per prediction", "µs", 0.03, "closed", _cpu, is_cpu=True),
    Metric("throughput", "predictions per second", "1/s", 0.05, "closed", lambda r: r.predictions_per_s, False),
    Metric("p50", "p50 response latency", "µs", 0.05, "open", lambda r: r.latency.p50_us, quantile=0.5),
    Metric("p99", "p99 response latency", "µs", 0.15, "open", lambda r: r.latency.p99_us, quantile=0.99),
)


def results(cells: Sequence[ComparedCell], looks: Sequence[int] = LOOKS) -> list[MetricResult]:
    """Judge every metric of every cell by what was measured so far."""
    return [_result(metric, cell, looks) for metric in METRICS for cell in cells if cell.load.kind == metric.kind]


def _result(metric: Metric, cell: ComparedCell, looks: Sequence[int]) -> MetricResult:
    counted = [pair for pair in cell.pairs if metric.counts(pair)]
    worse = [metric.worse(pair) for pair in counted]
    decision = decide(worse, metric.margin, looks)
    used = counted[: decision.pairs]
    void = len(cell.pairs) - len(counted)
    most_void = MOST_VOID * len(cell.pairs)
    gates = metric.is_cpu or void <= most_void
    late = 0
    if not gates and (surely := _surely_worse(metric, cell.pairs, looks)) is not None:
        judged, worse, decision = surely
        gates, used = True, judged[: decision.pairs]
        late = sum(not metric.counts(pair) for pair in used)
    estimate = hodges_lehmann(worse[: decision.pairs])
    causes = [metric.why_void(pair, cell.load.rate) for pair in cell.pairs]
    without_excuse = sum(bool(why) and not any(cause.excuses for cause in why) for why in causes)
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
        gates=gates,
        why_not="" if gates else _told(causes),
        unjudged=not gates and without_excuse > most_void,
        state=decision.state,
        confirming=decision.confirming,
        late=late,
    )


def _surely_worse(
    metric: Metric, pairs: Sequence[WindowPair], looks: Sequence[int]
) -> tuple[list[WindowPair], list[float], Decision] | None:
    """
    Judge pairs of which too many do not count because the load generator was late.

    Returns:
        Those that say something, by how much head is worse at least, and where that stands; None unless it is worse, or looks so
        and more pairs are to show it.
    """
    told = [(pair, value) for pair in pairs if (value := metric.at_least_worse(pair)) is not None]
    if len(pairs) - len(told) > MOST_VOID * len(pairs):
        return None
    judged, worse = [pair for pair, _ in told], [value for _, value in told]
    decision = decide(worse, metric.margin, looks)
    estimate = hodges_lehmann(worse)
    looks_worse = estimate is not None and estimate.value >= math.log1p(metric.margin)
    is_worse = decision.state == "fail" or (decision.state == "open" and (decision.confirming or looks_worse))
    return (judged, worse, decision) if is_worse else None


def _told(causes: Sequence[Sequence[Cause]]) -> str:
    """Say how many of the pairs did what: `6 of 6 pairs were disturbed: …`."""
    counts = Counter(cause for why in causes for cause in why)
    return "; ".join(f"{count} of {len(causes)} pairs {cause.words}" for cause, count in counts.most_common())


def _short(rule: str) -> str:
    return repetitions.SHORT.get(rule, rule)


def _change(metric: Metric, worse: float) -> float:
    return math.exp(worse if metric.more_is_worse else -worse)


def _median(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.median(there)) if there else None
