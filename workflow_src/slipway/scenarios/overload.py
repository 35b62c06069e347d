"""More than the server can do, then little: goodput, how the rest is turned away, and how long until all is well again."""

from dataclasses import dataclass

import numpy as np

from slipway import repetitions
from slipway.load_plan import NAMES
from slipway.records import Protocol, ScenarioSeries
from slipway.scenario_settings import Overload
from slipway.scenarios.slo import bound_us, percentile_series
from slipway.scenarios.taking import FAILING, Taking, Wanted
from slipway_wire.samples import Samples

# How a server says that it is too busy, and what our own generator gave up before it was sent.
REFUSALS = frozenset({"HTTP 429", "HTTP 503", "grpc-status 8", "grpc-status 14", "overload"})
_CALM_S = 1.0
_SLOT_US = 250_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What became of requests during an overload and after it.

    Attributes:
        offered: Requests due during the overload.
        goodput_rps: Answered in time during it, requests per second.
        in_time: Of all offered, 0..1.
        refused: Of all offered, those that got an error or nothing, 0..1.
        refusal_p99_us: How long an error took from when its request was due; None: there was none.
        recovery_s: From the end of the overload until every request is answered in time; None: it never was.
    """

    offered: int
    goodput_rps: float
    in_time: float
    refused: float
    refusal_p99_us: float | None
    recovery_s: float | None


def outcome(samples: Samples, begin_us: int, end_us: int, slo_us: float) -> Outcome:
    """
    Sum up an overload.

    Args:
        samples: Of the whole load.
        begin_us: Where the overload begins, µs after the origin.
        end_us: Where it ends; what is due later is the recovery.
        slo_us: What is in time, from when a request was due.
    """
    response = samples.slip_us + samples.service_us
    good = ~samples.failed & (response <= slo_us)
    during = (samples.planned_us >= begin_us) & (samples.planned_us < end_us)
    offered = int(during.sum())
    refused = response[during & samples.failed]
    after = samples.planned_us >= end_us
    bad = samples.planned_us[after & ~good]
    last = samples.planned_us[after]
    recovery: float | None = 0.0
    if len(bad):
        # The last quarter of a second of the load must be good, or nothing is over yet.
        recovered = len(last) and bad.max() < last.max() - _SLOT_US
        recovery = float(bad.max() - end_us) / 1e6 if recovered else None
    return Outcome(
        offered=offered,
        goodput_rps=int((good & during).sum()) / ((end_us - begin_us) / 1e6),
        in_time=int((good & during).sum()) / max(offered, 1),
        refused=len(refused) / max(offered, 1),
        refusal_p99_us=float(np.percentile(refused, 99)) if len(refused) else None,
        recovery_s=recovery,
    )


def overload(settings: Overload, taking: Taking) -> None:
    """Overload each protocol once."""
    bound = bound_us(taking, settings.slo_ms)
    taking.value("slo", "What is in time", "us", bound)
    for protocol in taking.protocols:
        _overload(settings, taking, protocol, bound)


def _overload(settings: Overload, taking: Taking, protocol: Protocol, bound: float) -> None:
    bench, peak = taking.bench, taking.bench.peak(protocol)
    calm, high = settings.recovery_share * peak, settings.factor * peak
    ceiling = bench.ceiling(protocol, bench.windows.settings.rows)
    steps = [(calm, _CALM_S), (high, settings.overload_s), (calm, settings.recovery_s)]
    window, repetition = taking.window(
        Wanted(
            protocol,
            f"{settings.factor:g} × the peak",
            users=64,
            window_s=settings.overload_s + settings.recovery_s,
            warmup_s=_CALM_S,
            rate=high,
            steps=steps,
            rows=bench.windows.settings.rows,
            forgiven=FAILING,
            retry=False,
            may_fail=True,
        )
    )
    begin, end = round(_CALM_S * 1e6), round((_CALM_S + settings.overload_s) * 1e6)
    found = outcome(window.samples, begin, end, bound)
    taking.value("offered", "Offered", "1/s", high, protocol=protocol)
    taking.value("goodput", "Answered in time", "1/s", found.goodput_rps, protocol=protocol)
    taking.value("goodput_of_peak", "… of the peak", "share", found.goodput_rps / peak, protocol=protocol)
    taking.value("in_time", "Of all offered, answered in time", "share", found.in_time, protocol=protocol)
    taking.value("refused", "Of all offered, not answered", "share", found.refused, protocol=protocol)
    taking.value("refusal_p99", "Time to an error, 99th percentile", "us", found.refusal_p99_us, protocol=protocol)
    taking.value("recovery", "Until all answers are in time again", "s", found.recovery_s, protocol=protocol)
    samples = window.samples
    at, worst = percentile_series(samples.planned_us, samples.slip_us + samples.service_us, _SLOT_US, samples.end_us)
    taking.series.append(ScenarioSeries(name="p99 of each 250 ms", protocol=protocol, unit="us", x_s=at, y=worst))
    name = NAMES[protocol]
    if ceiling and high > repetitions.MOST_OF_CEILING * ceiling:
        taking.invalid.append(
            f"{name}: {high:.0f}/s offered is over {repetitions.MOST_OF_CEILING:.0%} of the {ceiling:.0f}/s that the load "
            "generator can do: it may be what was overloaded"
        )
    elif repetition.invalid:
        taking.invalid.append(f"{name}: {'; '.join(repetition.invalid)}")
    others = {kind: count for kind, count in window.outcome.errors.items() if kind not in REFUSALS}
    if others:
        told = ", ".join(f"{count} × {kind}" for kind, count in sorted(others.items()))
        taking.faults.append(f"{name}: under overload requests ended otherwise than by a refusal: {told}")
    if found.recovery_s is None and not repetition.invalid:
        taking.faults.append(f"{name}: {settings.recovery_s:g} s after the overload answers still were not in time")
    taking.notes.append(
        f"{name}: what was too much was {'turned away' if found.refused > 0.01 else 'queued: every request was answered, late'}"
    )
