"""The same rate for a long time: slopes of memory, latency and CPU per request, with their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats

from slipway import cpu
from slipway.load_plan import NAMES
from slipway.records import Protocol, ScenarioSeries
from slipway.scenario_settings import Soak
from slipway.scenarios.taking import Taking, Wanted

# Of fewer points a slope says nothing.
LEAST_POINTS = 6
# What a server takes to settle would grow without end, if it were drawn out to an hour.
LEAST_MINUTES = 10


@dataclass(frozen=True, slots=True)
class Slope:
    """Change per hour as a share of the median, with its 95 % interval."""

    per_hour: float
    low: float
    high: float


def slope(seconds: Sequence[float], values: Sequence[float | None]) -> Slope | None:
    """
    Estimate how *values* change over time, whatever single ones do.

    Args:
        seconds: When each was measured.
        values: What was found; None counts as not measured.

    Returns:
        The Theil–Sen slope relative to the median; None with fewer than `LEAST_POINTS` values.

    Source: Sen, Estimates of the Regression Coefficient Based on Kendall's Tau (1968), as scipy has it.
    """
    known = [(at, value) for at, value in zip(seconds, values, strict=True) if value is not None]
    if len(known) < LEAST_POINTS:
        return None
    hours, found = np.array(known).T
    middle = float(np.median(found))
    if not middle:
        return None
    estimate, _, low, high = scipy.stats.theilslopes(found / middle, hours / 3600, 0.95)
    return Slope(float(estimate), float(low), float(high))


def soak(settings: Soak, taking: Taking) -> None:
    """Load both protocols, window by window in turn."""
    bench = taking.bench
    count = max(round(settings.minutes * 60 / settings.window_s), 1)
    rates = {protocol: settings.share * bench.peak(protocol) for protocol in taking.protocols}
    seconds: dict[Protocol, list[float]] = {p: [] for p in rates}
    memory: list[float | None] = []
    memory_at: list[float] = []
    began = bench.now()
    for index in range(count):
        for protocol, rate in rates.items():
            taking.window(
                Wanted(
                    protocol,
                    "",
                    users=16,
                    window_s=settings.window_s,
                    warmup_s=min(0.2, settings.window_s),
                    rate=rate,
                    rows=bench.windows.settings.rows,
                    index=index,
                    seed=str(index),
                )
            )
            seconds[protocol].append(bench.now() - began)
            memory.append(cpu.resident_bytes(bench.server.pids()))
            memory_at.append(bench.now() - began)
            # Raw times of hours are not kept: the record has each window's histogram.
            taking.drop_samples()
    _tell_memory(settings, taking, memory_at, memory)
    for protocol in rates:
        _tell_windows(taking, protocol, seconds[protocol])


def _tell_memory(settings: Soak, taking: Taking, at: list[float], memory: list[float | None]) -> None:
    if all(value is None for value in memory):
        taking.notes.append("memory: the server's processes are not on this host, or not ours to read")
        return
    taking.series.append(ScenarioSeries(name="Memory of the server", unit="bytes", x_s=at, y=memory))
    found = slope(at, memory)
    if found is None:
        taking.notes.append(f"memory: fewer than {LEAST_POINTS} windows give no slope")
        return
    taking.value("memory_slope", "Growth of memory", "share/h", found.per_hour, low=found.low, high=found.high)
    if settings.minutes < LEAST_MINUTES:
        taking.notes.append(f"memory: {settings.minutes:g} minutes are too few to call growth a fault")
    elif found.low > settings.most_growth:
        taking.faults.append(
            f"memory grows by {found.per_hour:.1%} an hour, at least {found.low:.1%} (limit {settings.most_growth:.1%})"
        )


def _tell_windows(taking: Taking, protocol: Protocol, seconds: list[float]) -> None:
    taken = [w.repetition for w in taking.windows if w.protocol == protocol]
    valid = [not r.invalid for r in taken]
    if not any(valid):
        taking.invalid.append(f"{NAMES[protocol]}: every window broke a rule: {'; '.join(taken[-1].invalid)}")
        return
    for key, name, values in (
        ("p99_slope", "Change of the 99th percentile", [r.latency.p99_us for r in taken]),
        ("cpu_slope", "Change of server CPU per request", [r.server_cpu_us_per_request for r in taken]),
    ):
        counted = [value if good else None for value, good in zip(values, valid, strict=True)]
        found = slope(seconds, counted)
        more = {"low": found.low, "high": found.high} if found else {}
        taking.value(key, name, "share/h", found.per_hour if found else None, protocol=protocol, **more)
    p99 = [r.latency.p99_us for r in taken]
    taking.series.append(ScenarioSeries(name="p99 of each window", protocol=protocol, unit="us", x_s=seconds, y=p99))
