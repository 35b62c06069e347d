"""Throughput by concurrency, and over the seconds of one repetition."""

from collections.abc import Sequence

from slipway import repetitions as rules
from slipway.records import (
    Repetition,
)
from slipway.report import charts, numbers, overlays
from slipway.report.blocks import (
    Figure,
    Pair,
    Section,
    Table,
    TableCell,
    heads,
    row,
)
from slipway.report.charts import PROTOCOL_STYLES, Axis, Line, Point
from slipway.report.content import PROTOCOL_NAMES, PROTOCOLS, CellSummary, Loads
from slipway.report.overlays import Limit
from slipway.report.sections.figures import PREDICTIONS, distinct, identifier, level_table, measured_figure, metric_line

# A small slot at the end of a repetition is cut off by its end, not by the server.
_SLOT_S = 0.25


def throughput(measurement: Loads) -> Section | None:
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


def throughput_figure(measurement: Loads) -> Figure:
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
    limits = _limits(measurement, lines)
    caption = (
        "Predictions per second by requests in flight. Points are medians over repetitions, bands their 95% intervals."
    )
    if limits:
        caption += (
            " Dotted: the ceiling, which is what the load generator gets from a server that does nothing, and the share of it "
            "up to which a measurement counts; ▲ is such a limit that lies above the picture."
        )
    listed = level_table("Throughput", measurement.closed, "predictions_per_s", PREDICTIONS, numbers.number)
    return measured_figure(
        measurement,
        "throughput-lines",
        f"Throughput peaks: {told}" if told else "Throughput by concurrency",
        caption,
        [
            (
                "",
                charts.line_chart(
                    lines,
                    Axis("requests in flight (log)", log=True, at=distinct(concurrency)),
                    Axis(PREDICTIONS),
                    limits=limits,
                ),
            )
        ],
        charts.line_legend(lines),
        Table(listed.name, listed.head, (*listed.rows, *_limit_rows(measurement))),
        [cell for level in measurement.closed for cell in level.cells.values()],
    )


def _limits(measurement: Loads, lines: Sequence[Line]) -> list[Limit]:
    """Say up to where each protocol's numbers are believed; and what the generator can do at most, where that can be seen."""
    rows = measurement.closed[0].payload.rows
    share = rules.MOST_OF_CEILING
    limits = []
    for ceiling in measurement.record.ceilings:
        most, name = ceiling.throughput_rps * rows, PROTOCOL_NAMES[ceiling.protocol]
        believed = Limit(
            most * share,
            f"{name} is believed up to {numbers.number(most * share)}/s, {numbers.percent(share)} of the ceiling",
        )
        limits.append(believed)
        if lines and overlays.is_near(believed, [point.y for line in lines for point in line.points]):
            limits.append(Limit(most, f"the generator's ceiling, {name}: {numbers.number(most)}/s"))
    return limits


def _limit_rows(measurement: Loads) -> list[tuple[TableCell, ...]]:
    rows = measurement.closed[0].payload.rows
    share = rules.MOST_OF_CEILING
    return [
        (
            TableCell(what),
            TableCell(PROTOCOL_NAMES[ceiling.protocol]),
            *(TableCell(text, "n") for text in (shown, "", "")),
        )
        for ceiling in measurement.record.ceilings
        for what, shown in (
            ("the load generator's ceiling", numbers.number(ceiling.throughput_rps * rows)),
            (f"{numbers.percent(share)} of it", numbers.number(ceiling.throughput_rps * rows * share)),
        )
    ]


def _inside_one_repetition(measurement: Loads) -> Figure | None:
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
