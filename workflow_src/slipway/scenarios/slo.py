"""
The highest rate at which 99 of 100 answers come within a bound: MLPerf's Server scenario, with its proof.

The search and the proof are pure; `server_slo` feeds them with windows.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.stats

from slipway import repetitions
from slipway.load_plan import NAMES
from slipway.records import Protocol
from slipway.repetitions import Window, in_window
from slipway.scenario_settings import ServerSlo
from slipway.scenarios.taking import FAILING, Taking, Wanted

Proof = Literal["proven", "refuted", "open"]
QUANTILE = 0.99
CONFIDENCE = 0.99
# One window of a probe has about as many requests as prove something with two of them over the bound (838).
_REQUESTS_A_WINDOW = 900
# The queue of a rate that is too high needs time to show: after 0.3 s, 3 % too many requests have made 9 ms of it.
_SHORTEST_S, _LONGEST_S = 1.0, 10.0
# As few as prove a percentile, with none of them over the bound.
LEAST_REQUESTS = 459
STEP = 1.5
_FIRST_SHARE = 0.5
# Further down there is no rate worth having.
_LEAST_SHARE = 0.01
# Requests left late, the machine was busy: the window says nothing about the server.
_SPOILED = repetitions.ONLY_WALL_CLOCK
_MOST_SPOILED = 3
# Answers fell behind what was offered, or failed: however quick the others were, the rate is not one that the server sustains.
_UNSUSTAINED = frozenset({repetitions.OFF_RATE, repetitions.FAILED_REQUESTS})


def prove(requests: int, over: int, quantile: float = QUANTILE, confidence: float = CONFIDENCE) -> Proof:
    """
    Say whether a percentile lies within its bound.

    Args:
        requests: Number of requests.
        over: How many of them took longer than the bound, or failed.
        quantile: The percentile as a share, 0..1.
        confidence: Of either answer, 0..1.

    Returns:
        `proven` once so few over the bound would be that unlikely if the percentile lay above it, `refuted` once so many
        would be, if it lay below; `open` between.

    Source: MLPerf Inference rules, appendix on early stopping, restated with both tails.
    """
    if requests and scipy.stats.binom.cdf(over, requests, 1 - quantile) <= 1 - confidence:
        return "proven"
    if over and scipy.stats.binom.sf(over - 1, requests, 1 - quantile) <= 1 - confidence:
        return "refuted"
    return "open"


def round_up(value: float) -> float:
    """Round up to 1, 2 or 5 times a power of ten: 0.7 gives 1, 3.1 gives 5."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if value <= step * power * (1 + 1e-9))


@dataclass
class Search:
    """
    The highest rate that keeps the bound: upwards by half while it does, then bisected on the logarithm.

    Args:
        rate: The first to try, requests per second.
        resolution: Ends when the highest good rate and the lowest bad one are this close, as a share.
        least: Ends when not even this rate keeps the bound.
        most: The generator's own limit; no rate above it is tried.
    """

    rate: float
    resolution: float
    least: float
    most: float = math.inf
    good: float | None = None
    bad: float | None = None

    def __post_init__(self) -> None:
        self.rate = min(self.rate, self.most)

    def next(self) -> float | None:
        """Give the rate to try now; None: the search is over, and `good` is its answer."""
        if self.good is not None and self.bad is not None and self.bad / self.good <= 1 + self.resolution:
            return None
        if self.good is not None and self.good >= self.most:
            return None
        if self.bad is not None and self.bad <= self.least:
            return None
        return self.rate

    def tell(self, *, kept: bool) -> None:
        """Say whether the rate that `next` gave kept the bound."""
        if kept:
            self.good = self.rate if self.good is None else max(self.good, self.rate)
        else:
            self.bad = self.rate if self.bad is None else min(self.bad, self.rate)
            if self.good is not None and self.good >= self.bad:
                # What was proven before was luck: begin again below.
                self.good = None
        if self.good is None:
            self.rate = max(self.rate / STEP, self.least)
        elif self.bad is None:
            self.rate = min(self.rate * STEP, self.most)
        else:
            self.rate = math.sqrt(self.good * self.bad)


def judge(requests: int, over: int, invalid: Iterable[str]) -> Proof:
    """
    Say whether a server sustains a rate with its percentile within the bound.

    Args:
        requests: Number of requests.
        over: How many of them took longer than the bound, or failed.
        invalid: Rules that the last window broke.

    Returns:
        As `prove`; but a rate that a window fell behind by more than 1 %, or at which a request failed, is `refuted`: a
        queue that grows slowly keeps its bound for a while.
    """
    return "refuted" if _UNSUSTAINED & set(invalid) else prove(requests, over)


def is_spoiled(invalid: list[str], proof: Proof) -> bool:
    """
    Say whether a window that broke rules says nothing about the server.

    Requests that left late because every connection was waiting for the server are the server's own slowness: such a
    window may refute a rate, but never prove it.
    """
    broken = _SPOILED & set(invalid)
    return bool(broken) and not (broken == {repetitions.LATE} and proof == "refuted")


def over_bound(window: Window, bound_us: float) -> tuple[int, int]:
    """Count the requests that were due in the window, and those of them that failed or were answered after *bound_us*."""
    due = in_window(window.samples)
    late = (window.samples.slip_us + window.samples.service_us > bound_us) | window.samples.failed
    return int(due.sum()), int((late & due).sum())


def bound_us(taking: Taking, slo_ms: float | None) -> float:
    """Give the bound in microseconds: as it was set, or ten times the slower protocol's median, rounded up."""
    if slo_ms is not None:
        return slo_ms * 1000
    slowest = max(taking.bench.single_p50_us(protocol) for protocol in taking.protocols)
    return round_up(10 * slowest)


def server_slo(settings: ServerSlo, taking: Taking) -> None:
    """Find and prove the rate, one protocol after the other, with the same bound."""
    bound = bound_us(taking, settings.slo_ms)
    taking.value("slo", "Bound of the 99th percentile", "us", bound)
    for protocol in taking.protocols:
        _Finder(settings, taking, protocol, bound).run()


@dataclass
class _Finder:
    settings: ServerSlo
    taking: Taking
    protocol: Protocol
    bound_us: float
    probes: int = 0
    spoiled: int = 0

    def run(self) -> None:
        bench, peak = self.taking.bench, self.taking.bench.peak(self.protocol)
        ceiling = bench.windows.ceilings.get(self.protocol)
        # Above that a window would not count.
        most = 0.95 * repetitions.MOST_OF_CEILING * ceiling.throughput_rps if ceiling else math.inf
        first, provable = _FIRST_SHARE * peak, LEAST_REQUESTS / self.settings.probe_s
        if first < provable:
            self.taking.invalid.append(
                f"{NAMES[self.protocol]}: {self.settings.probe_s:g} s at {first:.3g} requests/s are fewer than the "
                f"{LEAST_REQUESTS} that prove something: set {self.taking.name}.probe_s to "
                f"{math.ceil(LEAST_REQUESTS / first)} or more"
            )
            self._tell(None, most, peak, first)
            return
        search = Search(first, self.settings.resolution, max(_LEAST_SHARE * peak, provable), most)
        while (rate := search.next()) is not None:
            search.tell(kept=self._probe(rate) == "proven")
            if self._is_spoiled:
                break
        found, step = search.good, 1
        while found is not None and not self._is_spoiled and not self._confirmed(found):
            # Where it is not one step too high but many, each costs as long as a confirmation: so they grow.
            lower = found / (1 + self.settings.resolution) ** step
            found, step = lower if lower > search.least else None, 2 * step
        # What was not confirmed was not proven.
        self._tell(None if self._is_spoiled else found, most, peak, search.least)

    @property
    def _is_spoiled(self) -> bool:
        return self.spoiled > _MOST_SPOILED

    def _confirmed(self, rate: float) -> bool:
        return all(self._confirm(rate, number + 1) for number in range(self.settings.confirmations))

    def _confirm(self, rate: float, number: int) -> bool:
        """Offer *rate* for as long as was settled beforehand, and look once: many looks would find a moment of luck."""
        self.probes += 1
        spoiled = 0
        while spoiled <= _MOST_SPOILED:
            due, late, invalid = self._offer(rate, f"confirmation {number}", self.settings.probe_s, f"again{spoiled}")
            found = judge(due, late, invalid)
            if not is_spoiled(invalid, found):
                return found == "proven"
            spoiled += 1
        self.spoiled = spoiled
        return False

    def _probe(self, rate: float) -> Proof:
        """Offer *rate* until it is decided; a rate that stays open to the end is not proven."""
        self.probes += 1
        window_s = min(max(_REQUESTS_A_WINDOW / rate, _SHORTEST_S), _LONGEST_S, self.settings.probe_s)
        requests = over = spoiled = 0
        spent_s = 0.0
        state: Proof = "open"
        while state == "open" and spent_s < self.settings.probe_s and spoiled <= _MOST_SPOILED:
            due, late, invalid = self._offer(rate, f"probe {self.probes}", window_s, f"{spent_s:.3f}")
            spent_s += window_s
            if is_spoiled(invalid, judge(due, late, invalid)):
                spoiled += 1
                continue
            requests, over = requests + due, over + late
            state = judge(requests, over, invalid)
        if spoiled > _MOST_SPOILED or (spoiled and not requests):
            self.spoiled = max(spoiled, _MOST_SPOILED + 1)
            return "open"
        return state

    def _offer(self, rate: float, label: str, window_s: float, seed: str) -> tuple[int, int, list[str]]:
        """Measure one window: requests that were due, those of them over the bound, rules that were broken."""
        window, repetition = self.taking.window(
            Wanted(
                self.protocol,
                label,
                users=min(self._users(rate), 64),
                window_s=window_s,
                warmup_s=self.taking.bench.windows.settings.warmup_s,
                rate=rate,
                rows=self.taking.bench.windows.settings.rows,
                forgiven=FAILING - {repetitions.LATE} - _UNSUSTAINED,
                retry=False,
                may_fail=True,
                seed=f"{self.probes}/{seed}",
            )
        )
        return *over_bound(window, self.bound_us), repetition.invalid

    def _users(self, rate: float) -> int:
        return max(4, math.ceil(2 * rate * self.bound_us / 1e6))

    def _tell(self, found: float | None, most: float, peak: float, least: float) -> None:
        taking, name = self.taking, NAMES[self.protocol]
        rows = taking.bench.windows.settings.rows
        taking.value("rate_at_slo", "Highest rate within the bound", "1/s", found, protocol=self.protocol)
        taking.value(
            "predictions_at_slo",
            "Predictions per second at that rate",
            "rows/s",
            None if found is None else found * rows,
            protocol=self.protocol,
        )
        share = None if found is None else found / peak
        taking.value("share_of_peak", "Of the closed loop's peak", "share", share, protocol=self.protocol)
        taking.value("probes", "Rates tried", "count", float(self.probes), protocol=self.protocol)
        if self._is_spoiled:
            taking.invalid.append(
                f"{name}: the machine or the load generator spoiled {self.spoiled} windows of one rate"
            )
        elif found is None and self.probes:
            told = f"{name}: not even {least / peak:.0%} of the peak rate keeps the bound"
            if self.settings.slo_ms is None:
                taking.notes.append(told)
            else:
                # Somebody has asked for it; a bound that was only derived is nobody's promise.
                taking.faults.append(f"{told} of {self.settings.slo_ms:g} ms")
        elif found is not None and found >= most:
            taking.notes.append(f"{name}: the load generator can offer no more; the server's own rate is higher")


def percentile_series(
    planned_us: np.ndarray, response_us: np.ndarray, slot_us: int, end_us: int
) -> tuple[list[float], list[float | None]]:
    """Give the 99th percentile (the worst, where there are fewer than 100) of the requests due in each slot, and its end in seconds."""
    at: list[float] = []
    worst: list[float | None] = []
    for begin in range(0, max(end_us - slot_us // 2, 1), slot_us):
        chosen = response_us[(planned_us >= begin) & (planned_us < begin + slot_us)]
        at.append((begin + slot_us) / 1e6)
        worst.append(float(np.percentile(chosen, 99, method="higher")) if len(chosen) else None)
    return at, worst
