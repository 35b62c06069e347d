"""Two versions against each other: ratios of paired windows with their intervals, metric by metric."""

import math

from slipway.records import ScenarioRecord, ScenarioValue
from slipway.report import charts, numbers
from slipway.report.blocks import Figure, Table, heads, row
from slipway.report.charts import PROTOCOL_STYLES, Axis, Dot, DotRow
from slipway.report.content import PROTOCOL_NAMES, PROTOCOLS, Loads, slug
from slipway.report.sections.figures import measured_figure

_SUFFIX = "_ratio"
# What fits beside a drawing.
_SHORT = {
    "predictions_per_s": "predictions / s",
    "server_cpu": "CPU / prediction",
    "latency_p50": "p50",
    "latency_p99": "p99",
}
# Changes to mark on both sides of 1, the largest that the drawing has room for.
_TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 3.0, 9.0, 99.0)
_LEAST = 0.02


def version_pairs(measurement: Loads, scenario: ScenarioRecord) -> Figure | None:
    """Draw how head stands to base; None where no pair of windows counted."""
    found = [value for value in scenario.values if value.key.endswith(_SUFFIX) and value.value and value.protocol]
    if not found:
        return None
    keys = list(dict.fromkeys(value.key for value in found))
    rows = [
        DotRow(_SHORT.get(key.removesuffix(_SUFFIX), key), tuple(_dot(value) for value in found if value.key == key))
        for key in keys
    ]
    spread = max(
        abs(math.log(end)) for value in found for end in (value.value, value.low, value.high, 1 + _LEAST) if end
    )
    tick = max(change for change in _TICKS if change <= math.expm1(spread) + 1e-9)
    which = found[0].label
    drawing = charts.dot_chart(
        rows,
        Axis(f"{which} (log)", log=True, show=numbers.times, at=(1 / (1 + tick), 1.0, 1 + tick)),
        reference=1.0,
        limits=(math.exp(-1.1 * spread), math.exp(1.1 * spread)),
    )
    table = Table(
        f"{which}, from paired windows",
        heads("What", "Protocol", which, "95% low", "95% high", "A difference", numbers_from=2),
        tuple(
            row(
                value.name,
                PROTOCOL_NAMES[value.protocol],
                numbers.times(value.value),
                numbers.times(value.low),
                numbers.times(value.high),
                _verdict(value),
            )
            for value in found
            if value.protocol
        ),
    )
    return measured_figure(
        measurement,
        f"{slug(scenario.name)}-ratios",
        f"{which}, metric by metric",
        "At the line there is no difference. Dots are Hodges–Lehmann estimates over pairs of windows that were measured one "
        "right after the other, bars exact 95% intervals; where a bar crosses the line, the interval includes no difference.",
        [("", drawing)],
        charts.marker_legend([(PROTOCOL_NAMES[p], PROTOCOL_STYLES[p]) for p in PROTOCOLS if _has(found, p)]),
        table,
    )


def _has(found: list[ScenarioValue], protocol: str) -> bool:
    return any(value.protocol == protocol for value in found)


def _dot(value: ScenarioValue) -> Dot:
    assert value.value is not None  # picked by the caller
    assert value.protocol is not None  # likewise
    interval = f" [{numbers.times(value.low)}, {numbers.times(value.high)}]" if value.low and value.high else ""
    note = f"{value.name}, {PROTOCOL_NAMES[value.protocol]}: {numbers.times(value.value)}{interval}"
    return Dot(value.value, PROTOCOL_STYLES[value.protocol], value.low, value.high, note)


def _verdict(value: ScenarioValue) -> str:
    if value.low is None or value.high is None:
        return "no interval: too few pairs"
    return "not shown" if value.low <= 1 <= value.high else "shown"
