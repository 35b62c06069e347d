"""Throughput by concurrency, and over the seconds of one repetition."""

from slipway.records import (
    Repetition,
)
from slipway.report import charts, numbers
from slipway.report.blocks import (
    Figure,
    Pair,
    Section,
    Table,
    heads,
    row,
)
from slipway.report.charts import PROTOCOL_STYLES, Axis, Line, Point
from slipway.report.content import PROTOCOL_NAMES, PROTOCOLS, CellSummary, Measurement
from slipway.report.sections.figures import PREDICTIONS, distinct, identifier, level_table, measured_figure, metric_line

# A small slot at the end of a repetition is cut off by its end, not by the server.
_SLOT_S = 0.25


def throughput(measurement: Measurement) -> Section | None:
    """Write how many predictions per second come back; None without a closed loop."""
    if not measurement.closed:
        return None
    blocks = (throughput_figure(measurement), _inside_one_repetition(measurement))
    return Section(
        id=identifier(measurement, "throughput"),
        title="Throughput",
        short="Throughput",
        lead="Closed loop: each user has one connection and one request in flight, and sends the next when the answer is there.",
        blocks=(Pair(tuple(block for block in blocks if block)),),
    )


def throughput_figure(measurement: Measurement) -> Figure:
    """Draw predictions per second by concurrency."""
    lines = [
        line
        for protocol in PROTOCOLS
        if (line := metric_line(measurement.closed, protocol, "predictions_per_s", numbers.number, peak=True))
    ]
    peaks = [
        peak for protocol in reversed(PROTOCOLS) if (peak := measurement.peak(protocol)) and peak.predictions_per_s
    ]
    told = ", ".join(f"{p.name} at {numbers.number(p.predictions_per_s.value)}/s" for p in peaks if p.predictions_per_s)
    concurrency = tuple(float(level.load.concurrency or 0) for level in measurement.closed)
    return measured_figure(
        measurement,
        "throughput-lines",
        f"Throughput peaks: {told}" if told else "Throughput by concurrency",
        "Predictions per second by requests in flight. Points are medians over repetitions, bands their 95% intervals.",
        [
            (
                "",
                charts.line_chart(
                    lines, Axis("requests in flight (log)", log=True, at=distinct(concurrency)), Axis(PREDICTIONS)
                ),
            )
        ],
        charts.line_legend(lines),
        level_table("Throughput", measurement.closed, "predictions_per_s", PREDICTIONS, numbers.number),
        [cell for level in measurement.closed for cell in level.cells.values()],
    )


def _inside_one_repetition(measurement: Measurement) -> Figure | None:
    level = measurement.headline
    chosen = {p: _median_repetition(cell) for p, cell in level.cells.items()} if level else {}
    told = {protocol: repetition for protocol, repetition in chosen.items() if repetition and repetition.per_slot}
    if not level or not told:
        return None
    rows = level.payload.rows
    lines = [
        Line(
            PROTOCOL_NAMES[protocol],
            PROTOCOL_STYLES[protocol],
            tuple(
                Point((place + 1) * _SLOT_S, count / _SLOT_S * rows)
                for place, count in enumerate(told[protocol].per_slot)
            ),
            markers=False,
        )
        for protocol in PROTOCOLS
        if protocol in told
    ]
    discarded = max(repetition.discarded_s for repetition in told.values())
    bands = [charts.Band(_SLOT_S, discarded, "warm-up that does not count")] if discarded > _SLOT_S else []
    table = Table(
        "Completions by time",
        heads("Protocol", "seconds", PREDICTIONS),
        tuple(row(line.name, numbers.number(p.x), numbers.number(p.y)) for line in lines for p in line.points),
    )
    return measured_figure(
        measurement,
        "slots",
        "Inside one repetition",
        f"Predictions completed at {level.name}, in slots of 250 ms, in the repetition with the median throughput. "
        "Shaded: warm-up that does not count.",
        [("", charts.line_chart(lines, Axis("seconds since the load began"), Axis(PREDICTIONS), bands=bands))],
        charts.line_legend(lines),
        table,
    )


def _median_repetition(cell: CellSummary) -> Repetition | None:
    ordered = sorted(cell.repetitions, key=lambda r: (r.throughput_rps, r.index))
    return ordered[(len(ordered) - 1) // 2] if ordered else None
