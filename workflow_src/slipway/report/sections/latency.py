"""Latency: by concurrency in a closed loop; by rate, and by percentile at each rate, in an open one."""

from collections.abc import Mapping, Sequence

from slipway.report import charts, content, numbers
from slipway.report.blocks import (
    Block,
    Figure,
    Folded,
    Pair,
    Section,
    Table,
    TableCell,
    heads,
    row,
)
from slipway.report.charts import PROTOCOL_STYLES, Axis, Dot, DotRow, Line, Point
from slipway.report.content import PROTOCOL_NAMES, PROTOCOLS, CellSummary, Level, Loads, slug
from slipway.report.overlays import Limit
from slipway.report.sections.figures import distinct, identifier, measured_figure, metric_line, untrusted
from slipway.statistics import Estimate

_PERCENTILES = {"p50_us": "p50", "p90_us": "p90", "p95_us": "p95", "p99_us": "p99", "p999_us": "p99.9"}


def latency(measurement: Loads) -> Section | None:
    """Write how long answers take, closed loop and open loop apart; None if nothing was measured."""
    blocks: list[Block] = [figure] if (figure := latency_figure(measurement)) else []
    busiest = measurement.headline
    blocks += [drawn] if busiest and (drawn := _distribution(measurement, busiest)) else []
    blocks += _open_blocks(measurement)
    if not blocks:
        return None
    return Section(
        id=identifier(measurement, "latency"),
        title="Latency",
        short="Latency",
        lead="Closed loop and open loop are different questions and never share an axis. In a closed loop latency is "
        "counted from the send; in an open loop from when the request was due, so that a stalled server cannot hide "
        "the queue in front of it. A percentile that too few samples prove is not shown.",
        blocks=tuple(blocks),
    )


def _open_blocks(measurement: Loads) -> list[Block]:
    """Draw latency by offered rate where there are several, and each rate by itself; the one that stands for all is not folded."""
    pairs: dict[int, Pair] = {}
    for place, level in enumerate(measurement.open):
        figures = [figure for figure in (_open_figure(measurement, level), _distribution(measurement, level)) if figure]
        if figures:
            pairs[place] = Pair(tuple(figures))
    shown = [pair for place, pair in pairs.items() if measurement.open[place] is measurement.rated]
    folded = [pair for place, pair in pairs.items() if measurement.open[place] is not measurement.rated]
    by_rate = rate_figure(measurement)
    return [
        *([by_rate] if by_rate else []),
        *shown,
        *([Folded(f"Each of the other rates ({len(folded)})", tuple(folded))] if folded else []),
    ]


def rate_figure(measurement: Loads) -> Figure | None:
    """Draw p50 and p99 by offered rate, as panels with one scale; None where there is one rate."""
    rates = distinct([level.load.rate or 0 for level in measurement.open])
    if len(rates) < 2:
        return None
    percentiles = _lines(measurement.open, ("p50_us", "p99_us"))
    if not percentiles:
        return None
    panels = _panels(percentiles, "response latency", Axis("requests/s offered"))
    peaks = {p: cell.throughput_rps.value for p in PROTOCOLS if (cell := measurement.peak(p)) and cell.throughput_rps}
    table = Table(
        "Response latency by offered rate",
        heads("Load", "Protocol", "of its peak", *(_PERCENTILES[m] for m in percentiles), numbers_from=2),
        tuple(
            (
                TableCell(level.name),
                TableCell(cell.name),
                TableCell(numbers.percent((level.load.rate or 0) / peaks[protocol]) if protocol in peaks else "", "n"),
                *(TableCell(numbers.with_interval(getattr(cell, m), numbers.microseconds), "n") for m in percentiles),
            )
            for level in measurement.open
            for protocol in PROTOCOLS
            if (cell := level.cells.get(protocol))
        ),
    )
    return measured_figure(
        measurement,
        "latency-by-rate",
        "Latency by offered rate (open loop)",
        "Requests arrive at random (Poisson) at the same rates for both, as shares of the slower protocol's peak. Medians over "
        "repetitions with 95% intervals; both panels share one scale.",
        panels,
        charts.line_legend(next(iter(percentiles.values()))),
        table,
        [cell for level in measurement.open for cell in level.cells.values()],
        wide=True,
    )


def _lines(levels: Sequence[Level], metrics: Sequence[str]) -> dict[str, list[Line]]:
    """Make the lines of each of *metrics* that was measured, one for each protocol; in ms."""
    made = {}
    for metric in metrics:
        lines = [metric_line(levels, p, metric, numbers.microseconds, scale=1e-3) for p in PROTOCOLS]
        if drawn := [line for line in lines if line]:
            made[metric] = drawn
    return made


def _panels(
    percentiles: Mapping[str, Sequence[Line]], what: str, x: Axis, floors: Sequence[Limit] = ()
) -> list[tuple[str, charts.Drawing]]:
    """Draw a panel for each percentile, all with one scale."""
    values = [p.y for lines in percentiles.values() for line in lines for p in line.points]
    return [
        (
            f"{_PERCENTILES[metric]} {what}",
            charts.line_chart(
                lines,
                x,
                Axis(f"{_PERCENTILES[metric]}, ms (log)", log=True),
                width=400,
                height=290,
                y_values=values + [floor.value for floor in floors],
                # Half of the answers of a server that does nothing: it says nothing of the slowest ones.
                limits=floors if metric == "p50_us" else (),
            ),
        )
        for metric, lines in percentiles.items()
    ]


def latency_figure(measurement: Loads) -> Figure | None:
    """Draw p50, p95 and p99 by concurrency, as panels with one scale."""
    percentiles = _lines(measurement.closed, ("p50_us", "p95_us", "p99_us"))
    if not percentiles:
        return None
    floors = [
        Limit(
            ceiling.floor_p50_us / 1e3,
            f"floor, {PROTOCOL_NAMES[ceiling.protocol]}: {numbers.microseconds(ceiling.floor_p50_us)}",
        )
        for ceiling in measurement.record.ceilings
        if ceiling.floor_p50_us > 0
    ]
    concurrency = distinct([float(level.load.concurrency or 0) for level in measurement.closed])
    panels = _panels(percentiles, "service latency", Axis("requests in flight (log)", log=True, at=concurrency), floors)
    table = Table(
        "Service latency",
        heads("Load", "Protocol", *(_PERCENTILES[m] for m in percentiles), numbers_from=2),
        (
            *(_floor_row(floor, len(percentiles)) for floor in floors if "p50_us" in percentiles),
            *(
                (
                    TableCell(level.name),
                    TableCell(cell.name),
                    *(
                        TableCell(numbers.with_interval(getattr(cell, m), numbers.microseconds), "n")
                        for m in percentiles
                    ),
                )
                for level in measurement.closed
                for protocol in PROTOCOLS
                if (cell := level.cells.get(protocol))
            ),
        ),
    )
    return measured_figure(
        measurement,
        "latency-lines",
        "Latency by concurrency (closed loop)",
        "Half, 95% and 99% of answers come within this time. Medians over repetitions with 95% intervals; all panels "
        "share one scale."
        + (
            " Dotted: the median of a server that does nothing, with 1 request in flight; what the client and the wire "
            "take, and no server can be measured below it."
            if floors
            else ""
        ),
        panels,
        charts.line_legend(next(iter(percentiles.values()))),
        table,
        [cell for level in measurement.closed for cell in level.cells.values()],
        wide=True,
    )


def _floor_row(floor: Limit, columns: int) -> tuple[TableCell, ...]:
    name, _, shown = floor.label.partition(": ")
    return (TableCell("1 in flight"), TableCell(name), TableCell(shown, "n"), *[TableCell("", "n")] * (columns - 1))


def _open_figure(measurement: Loads, level: Level) -> Figure | None:
    rows = []
    for metric, name in _PERCENTILES.items():
        dots = [_latency_dot(cell, metric, name) for p in PROTOCOLS if (cell := level.cells.get(p))]
        if drawn := tuple(dot for dot in dots if dot):
            rows.append(DotRow(name, drawn))
    if not rows:
        return None
    rate = numbers.number(level.load.rate)
    table = Table(
        "Response latency",
        heads("Percentile", *(PROTOCOL_NAMES[p] for p in PROTOCOLS if p in level.cells)),
        tuple(
            row(
                name,
                *(
                    numbers.with_interval(getattr(level.cells[p], metric), numbers.microseconds)
                    for p in PROTOCOLS
                    if p in level.cells
                ),
            )
            for metric, name in _PERCENTILES.items()
        ),
    )
    return measured_figure(
        measurement,
        f"open-{_rate_id(level)}",
        f"Latency at {rate} requests/s (open loop)",
        "Requests arrive at random (Poisson) at the same rate for both, whatever the server does. Medians over "
        "repetitions with 95% intervals.",
        [("", charts.dot_chart(rows, Axis("response latency, ms (log)", log=True)))],
        charts.marker_legend([(PROTOCOL_NAMES[p], PROTOCOL_STYLES[p]) for p in PROTOCOLS if p in level.cells]),
        table,
        list(level.cells.values()),
    )


def _latency_dot(cell: CellSummary, metric: str, name: str) -> Dot | None:
    estimate: Estimate | None = getattr(cell, metric) if cell.trusted else untrusted(cell, metric)
    if estimate is None or estimate.value <= 0:
        return None
    return Dot(
        estimate.value / 1e3,
        PROTOCOL_STYLES[cell.protocol],
        None if estimate.low is None else estimate.low / 1e3,
        None if estimate.high is None else estimate.high / 1e3,
        f"{cell.name} {name}: {numbers.with_interval(estimate, numbers.microseconds)}",
        cell.trusted,
    )


def _rate_id(level: Level) -> str:
    return slug(f"{level.payload.id}-{level.load.rate or 0:g}")


def _distribution(measurement: Loads, level: Level) -> Figure | None:
    found = {p: content.distribution(level.cells[p]) for p in PROTOCOLS if p in level.cells}
    drawn = {p: [(q, us) for q, us in points if us > 0] for p, points in found.items()}
    lines = [
        Line(
            PROTOCOL_NAMES[p],
            PROTOCOL_STYLES[p],
            tuple(
                Point(
                    1 / (1 - q), us / 1e3, note=f"{PROTOCOL_NAMES[p]}: {_quantile(q)} within {numbers.microseconds(us)}"
                )
                for q, us in points
            ),
        )
        for p, points in drawn.items()
        if points
    ]
    if not lines:
        return None
    is_open = level.load.kind == "open"
    kind = "response" if is_open else "service"
    ticks = (1.0, 2.0, 10.0, 100.0, 1000.0, 10000.0, 100000.0)
    furthest = max(point.x for line in lines for point in line.points)
    x = Axis(
        "percentile",
        log=True,
        show=lambda v: f"{100 * (1 - 1 / v):.6g}",
        at=tuple(t for t in ticks if t <= furthest * 1.01),
    )
    samples = {p: sum(r.latency.samples for r in level.cells[p].repetitions) for p in drawn}
    told = ", ".join(f"{numbers.integer(count)} over {PROTOCOL_NAMES[p]}" for p, count in samples.items())
    table = Table(
        "Latency distribution",
        heads("Protocol", "percentile", "latency"),
        tuple(
            row(PROTOCOL_NAMES[p], f"{q * 100:.6g}", numbers.microseconds(us))
            for p, points in drawn.items()
            for q, us in points
        ),
    )
    return measured_figure(
        measurement,
        f"distribution-{_rate_id(level) if is_open else f'closed-{level.load.concurrency}'}",
        f"Latency distribution at {numbers.number(level.load.rate)} requests/s"
        if is_open
        else f"Latency distribution at {level.name} (closed loop)",
        f"All valid repetitions together ({told} answers){_of_what(level)}. Each step to the right is ten times rarer; lines end where "
        "the samples prove nothing more.",
        [("", charts.line_chart(lines, x, Axis(f"{kind} latency, ms (log)", log=True)))],
        charts.line_legend(lines),
        table,
    )


def _of_what(level: Level) -> str:
    """Say where the percentiles come from: raw samples, or the histograms of an older result."""
    exact = all(cell.cell.distribution for cell in level.cells.values() if cell.trusted)
    return ", read off every single one" if exact else ", read off histograms, to 3%"


def _quantile(quantile: float) -> str:
    return f"{quantile * 100:.6g} %"
