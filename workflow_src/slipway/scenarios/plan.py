"""How many windows a benchmark will take and how long they last: what progress is told by. Pure."""

import math
from collections.abc import Sequence
from typing import Any

from slipway.records import Protocol
from slipway.scenarios.slo import STEP
from slipway.settings import BenchmarkSettings
from slipway.windows import OVERHEAD_S

# A search is over its bound with about so many rates, and each rate of it is decided in about so long.
_RATES_UPWARDS, _PROBE_S = 3, 1.5


def length(settings: BenchmarkSettings, protocols: Sequence[Protocol]) -> tuple[int, float]:
    """Count the windows that *settings* ask for on a running server, and the seconds they take; searches are guessed."""
    window_s = settings.warmup_s + settings.window_s + OVERHEAD_S
    closed = len(settings.concurrency) * settings.wants("saturation")
    cells = len(protocols) * (closed + settings.open_loop_rates * settings.wants("open_loop"))
    windows, seconds = cells * settings.repetitions, cells * settings.repetitions * window_s
    for name, scenario in settings.scenarios.items():
        if settings.wants(name):
            shared = len([p for p in protocols if p in scenario.protocols])
            count, each_s = _length(scenario)
            windows, seconds = windows + count * shared, seconds + count * shared * (each_s + OVERHEAD_S)
    return windows, seconds


def common_rows(settings: BenchmarkSettings) -> int | None:
    """Give how many rows every request has; None where scenarios ask for other numbers than the rest does."""
    asked = {settings.rows}
    for name, scenario in settings.scenarios.items():
        if settings.wants(name) and hasattr(scenario, "rows"):
            asked |= set(scenario.rows) if isinstance(scenario.rows, list | dict) else {scenario.rows or 0}
    return settings.rows if asked == {settings.rows} else None


def _length(scenario: Any) -> tuple[int, float]:
    """Count the windows of a scenario per protocol, and the seconds of one of them."""
    match scenario.kind:
        case "server_slo":
            probes, again = _probes(scenario.resolution), scenario.confirmations
            return probes + again, (probes * _PROBE_S + again * scenario.probe_s) / (probes + again)
        case "payload":
            return scenario.repetitions * len(scenario.rows), scenario.window_s
        case "serialization":
            return scenario.repetitions * 4, scenario.window_s
        case "clients":
            return scenario.repetitions * len(scenario.tiers), scenario.window_s
        case "mixed":
            return 2 * scenario.repetitions, scenario.window_s
        case "row_mix":
            # A closed loop, to know the peak.
            return 1 + scenario.repetitions, scenario.window_s
        case "ab_versions":
            # Both versions, under two loads.
            return 4 * scenario.pairs, scenario.window_s
        case "overload":
            return 1, 1.0 + scenario.overload_s + scenario.recovery_s
        case "soak":
            return max(round(scenario.minutes * 60 / scenario.window_s), 1), scenario.window_s
        case "hot_reload":
            return 1, scenario.window_s
        case "offline":
            return 1, 10.0
        case _:
            return scenario.repetitions, scenario.window_s


def _probes(resolution: float) -> int:
    """Count the rates of a search that ends when it knows its rate to *resolution*, a share."""
    return _RATES_UPWARDS + max(math.ceil(math.log2(math.log(STEP) / math.log1p(resolution))), 0)
