"""Sections about one measurement: how this version performs over REST and over gRPC."""

from collections.abc import Sequence

from slipway import statistics
from slipway.records import Protocol, Repetition
from slipway.report import charts, content, numbers
from slipway.report.blocks import (
    Block,
    Figure,
    Pair,
    Panel,
    Section,
    Table,
    TableCell,
    Tile,
    Tiles,
    VerdictBlock,
    heads,
    row,
)
from slipway.report.charts import GRPC, PROTOCOL_STYLES, REST, Axis, Bar, Dot, DotRow, Line, Point, Segment, Style
from slipway.report.content import PROTOCOL_NAMES, PROTOCOLS, CellSummary, ColdGroup, Level, Measurement
from slipway.report.verdict import Verdict, inverse
from slipway.statistics import Estimate

PREDICTIONS = "predictions / s"
# A small slot at the end of a repetition is cut off by its end, not by the server.
_SLOT_S = 0.25


def sections(measurement: Measurement, verdict: Verdict, command: str) -> tuple[Section, ...]:
    """Write all sections about *measurement*."""
    written = (
        overview(measurement, verdict, command),
        _comparison(measurement),
        _throughput(measurement),
        _latency(measurement),
        _cold_start(measurement),
        _inside(measurement),
    )
    return tuple(section for section in written if section)


def _id(measurement: Measurement, name: str) -> str:
    return f"{measurement.anchor}-{name}"


def _figure(
    measurement: Measurement,
    name: str,
    title: str,
    caption: str,
    panels: Sequence[tuple[str, charts.Drawing]],
    legend: tuple[charts.LegendEntry, ...],
    table: Table,
    cells: Sequence[CellSummary] = (),
    *,
    wide: bool = False,
) -> Figure:
    id_ = _id(measurement, name)
    untrusted = sorted({cell.name for cell in cells if not cell.trusted})
    note = (
        f"Not valid: every repetition of {' and '.join(untrusted)} at one load or more broke a rule "
        "(grey, hollow, crossed). See “Can these numbers be trusted?”."
        if untrusted
        else ""
    )
    return Figure(
        id=id_,
        title=title,
        caption=caption,
        panels=tuple(
            Panel(f"{id_}-{place}", panel_title or title, caption, drawing)
            for place, (panel_title, drawing) in enumerate(panels)
        ),
        legend=legend,
        table=table,
        note=note,
        class_="wide" if wide else "",
    )


# --- overview --------------------------------------------------------------------------------------


def overview(measurement: Measurement, verdict: Verdict, command: str) -> Section:
    """Write the verdict, the picture that says the same, and the big numbers."""
    return Section(
        id=_id(measurement, "verdict"),
        title="Verdict",
        short="Verdict",
        lead="",
        blocks=(
            VerdictBlock(verdict, command, tuple(f for f in (peak_figure(measurement),) if f)),
            Tiles(_tiles(measurement)),
        ),
    )


def peak_figure(measurement: Measurement) -> Figure | None:
    """Draw each protocol's highest throughput as a bar."""
    peaks = [peak for protocol in PROTOCOLS if (peak := measurement.peak(protocol)) and peak.predictions_per_s]
    if not peaks:
        return None
    bars = [
        Bar(
            peak.name,
            (Segment(PREDICTIONS, peak.predictions_per_s.value, PROTOCOL_STYLES[peak.protocol]),),
            f"{numbers.number(peak.predictions_per_s.value)}/s",
            peak.predictions_per_s.low,
            peak.predictions_per_s.high,
        )
        for peak in peaks
        if peak.predictions_per_s
    ]
    table = Table(
        "Highest throughput",
        heads("Protocol", "in flight", PREDICTIONS, "95% interval"),
        tuple(
            row(
                peak.name,
                str(peak.cell.load.concurrency),
                _shown(peak, "predictions_per_s", numbers.number),
                numbers.interval(peak.predictions_per_s),
            )
            for peak in peaks
        ),
    )
    at = {peak.cell.load.concurrency for peak in peaks}
    where = f"at {at.pop()} in flight" if len(at) == 1 else "each at its best load"
    return _figure(
        measurement,
        "peak",
        "Highest throughput",
        f"Median over repetitions, {where}; the dark line is the 95% interval.",
        [("", charts.bar_chart(bars, Axis(PREDICTIONS), width=440))],
        (),
        table,
    )


def _tiles(measurement: Measurement) -> tuple[Tile, ...]:
    tiles = [tile for protocol in reversed(PROTOCOLS) if (tile := _peak_tile(measurement.peak(protocol)))]
    headline = measurement.headline
    if headline:
        ratio = headline.ratios["throughput"]
        shown, label = (ratio, "gRPC ÷ REST") if ratio.value >= 1 else (inverse(ratio), "REST ÷ gRPC")
        tiles.append(Tile(numbers.times(shown.value), f"{label}, predictions/s", numbers.interval(shown)))
    if open_level := next(iter(measurement.open), None):
        tiles += [
            Tile(
                numbers.microseconds(cell.p99_us.value),
                f"{cell.name} p99 at {numbers.number(open_level.load.rate)}/s offered",
                numbers.interval(cell.p99_us, numbers.microseconds),
                cell.protocol,
            )
            for protocol in reversed(PROTOCOLS)
            if (cell := open_level.cells.get(protocol)) and cell.p99_us
        ]
    if headline:
        tiles += _cost_tiles(headline)
    tiles += _first_answer_tile(measurement.cold)
    served = [answer.accuracy for answer in measurement.answers if answer.accuracy is not None]
    if served:
        offline = measurement.version.checkpoint.metrics.get("accuracy")
        detail = "" if offline is None else f"{numbers.percent(offline)} offline"
        tiles.append(Tile(numbers.percent(min(served)), "accuracy through the endpoint", detail))
    tiles.append(Tile(numbers.size(measurement.model.image.bytes), "image, as a registry stores it"))
    return tuple(tiles)


def _peak_tile(peak: CellSummary | None) -> Tile | None:
    if peak is None or peak.predictions_per_s is None:
        return None
    return Tile(
        f"{numbers.number(peak.predictions_per_s.value)}/s",
        f"{peak.name} predictions at {peak.cell.load.concurrency} in flight",
        numbers.interval(peak.predictions_per_s),
        peak.protocol,
    )


def bytes_per_request(cell: CellSummary) -> Estimate | None:
    """Give the bytes of a request and its answer together; deterministic but for the packets around them."""
    if cell.bytes_sent is None or cell.bytes_received is None:
        return None
    return Estimate(cell.bytes_sent.value + cell.bytes_received.value, None, None, cell.valid, None)


def _cost_tiles(level: Level) -> list[Tile]:
    """What the slower protocol costs more: CPU and bytes, as ratios with both values beside."""
    tiles = []
    for metric, what, value, show in (
        ("server_cpu", "server CPU per request", lambda cell: cell.server_cpu_us, numbers.microseconds),
        ("bytes", "bytes per request", bytes_per_request, numbers.size),
    ):
        ratio, both = level.ratios.get(metric), {p: value(cell) for p, cell in level.cells.items()}
        if ratio is None or not all(both.values()):
            continue
        shown, label = (ratio, "REST ÷ gRPC") if ratio.value >= 1 else (inverse(ratio), "gRPC ÷ REST")
        detail = ", ".join(f"{PROTOCOL_NAMES[p]} {show(e.value)}" for p, e in both.items() if e)
        tiles.append(Tile(numbers.times(shown.value), f"{label}, {what}", detail))
    return tiles


def _first_answer_tile(groups: Sequence[ColdGroup]) -> list[Tile]:
    for group in reversed(groups):
        if group.warmed:
            without = next((g for g in groups if g.protocol == group.protocol and not g.warmed), None)
            detail = f"{numbers.microseconds(without.median_us[0])} without warm-up" if without else ""
            label = f"first {PROTOCOL_NAMES[group.protocol]} answer after start"
            return [Tile(numbers.microseconds(group.median_us[0]), label, detail)]
    return []


# --- REST against gRPC -----------------------------------------------------------------------------

_RATIOS = {
    "throughput": "predictions / s",
    "p50": "p50 latency",
    "p95": "p95 latency",
    "p99": "p99 latency",
    "server_cpu": "server CPU / request",
    "bytes": "bytes / request",
}


def _comparison(measurement: Measurement) -> Section | None:
    if not any(level.ratios for level in measurement.levels):
        return None
    return Section(
        id=_id(measurement, "protocols"),
        title="REST against gRPC",
        short="REST vs gRPC",
        lead="Same values, same server, same number of connections and requests in flight, one load-generator engine "
        "for both. REST and gRPC are compared within each repetition, then over repetitions.",
        blocks=(Pair((ratio_figure(measurement), *_bytes_figures(measurement))), comparison_table(measurement)),
    )


def ratio_figure(measurement: Measurement) -> Figure:
    """Draw how many times one protocol is ahead of the other, metric by metric."""
    listed = _ratio_rows(measurement)
    rows = [
        DotRow(
            label,
            (
                Dot(
                    ratio.value,
                    _side(ratio),
                    ratio.low,
                    ratio.high,
                    f"{label}: {numbers.with_interval(ratio, numbers.times)}",
                ),
            ),
            numbers.times(ratio.value),
        )
        for label, ratio in listed
    ]
    drawing = charts.dot_chart(
        rows,
        Axis("times as good (log)", log=True, show=numbers.times),
        reference=1.0,
        sides=("REST ahead", "gRPC ahead"),
    )
    table = Table(
        "gRPC against REST",
        heads("What", "gRPC ahead by", "95% low", "95% high", "pairs"),
        tuple(
            row(label, numbers.times(r.value), numbers.times(r.low), numbers.times(r.high), str(r.n))
            for label, r in listed
        ),
    )
    return _figure(
        measurement,
        "ratio",
        "How far one protocol is ahead of the other",
        "Right of the line gRPC is ahead, left of it REST: more predictions per second, or less time, CPU or bytes. "
        "Dots are Hodges–Lehmann estimates over paired repetitions, bars exact 95% intervals; a grey dot's interval "
        "includes 1×.",
        [("", drawing)],
        charts.marker_legend([("gRPC ahead", GRPC), ("REST ahead", REST), ("not told apart", _UNDECIDED)]),
        table,
    )


_UNDECIDED = Style("tool", "diamond", hollow=True)


def _side(ratio: Estimate) -> Style:
    if ratio.low is None or ratio.high is None or ratio.low <= 1 <= ratio.high:
        return _UNDECIDED
    return GRPC if ratio.value > 1 else REST


def _ratio_rows(measurement: Measurement) -> list[tuple[str, Estimate]]:
    """Throughput at every load; everything else where it matters: CPU and bytes at the peak, latency at a fixed rate."""
    listed = [
        (f"{_RATIOS['throughput']}, {level.load.concurrency} in flight", level.ratios["throughput"])
        for level in measurement.closed
        if "throughput" in level.ratios
    ]
    rated = next((level for level in measurement.open if "p50" in level.ratios), None)
    if level := rated or measurement.headline:
        where = f"{numbers.number(level.load.rate)}/s" if rated else f"{level.load.concurrency} in flight"
        listed += [(f"{_RATIOS[m]}, {where}", level.ratios[m]) for m in ("p50", "p99") if m in level.ratios]
    if headline := measurement.headline:
        listed += [(_RATIOS[m], headline.ratios[m]) for m in ("server_cpu", "bytes") if m in headline.ratios]
    return listed


def comparison_table(measurement: Measurement) -> Table:
    """List both protocols load by load."""
    head = (
        "Load",
        "REST /s",
        "gRPC /s",
        "gRPC ÷ REST",
        "REST p50",
        "gRPC p50",
        "REST p99",
        "gRPC p99",
    )
    return Table("REST and gRPC by load", heads(*head), tuple(map(_comparison_row, measurement.levels)))


def _comparison_row(level: Level) -> tuple[TableCell, ...]:
    def shown(protocol: Protocol, metric: str, show: charts.Show) -> str:
        cell = level.cells.get(protocol)
        estimate: Estimate | None = getattr(cell, metric) if cell else None
        return show(estimate.value) if estimate else numbers.NOT_MEASURED

    return row(
        f"{level.name}, {numbers.counted(level.payload.rows, 'row')}",
        shown("rest", "predictions_per_s", numbers.number),
        shown("grpc", "predictions_per_s", numbers.number),
        numbers.with_interval(level.ratios.get("throughput"), numbers.times)
        if level.load.kind == "closed"
        else "same rate",
        shown("rest", "p50_us", numbers.microseconds),
        shown("grpc", "p50_us", numbers.microseconds),
        shown("rest", "p99_us", numbers.microseconds),
        shown("grpc", "p99_us", numbers.microseconds),
    )


# --- throughput ------------------------------------------------------------------------------------


def _throughput(measurement: Measurement) -> Section | None:
    if not measurement.closed:
        return None
    blocks = (throughput_figure(measurement), _inside_one_repetition(measurement))
    return Section(
        id=_id(measurement, "throughput"),
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
        if (line := _metric_line(measurement.closed, protocol, "predictions_per_s", numbers.number, peak=True))
    ]
    peaks = [
        peak for protocol in reversed(PROTOCOLS) if (peak := measurement.peak(protocol)) and peak.predictions_per_s
    ]
    told = ", ".join(f"{p.name} at {numbers.number(p.predictions_per_s.value)}/s" for p in peaks if p.predictions_per_s)
    concurrency = tuple(float(level.load.concurrency or 0) for level in measurement.closed)
    return _figure(
        measurement,
        "throughput-lines",
        f"Throughput peaks: {told}" if told else "Throughput by concurrency",
        "Predictions per second by requests in flight. Points are medians over repetitions, bands their 95% intervals.",
        [
            (
                "",
                charts.line_chart(
                    lines, Axis("requests in flight (log)", log=True, at=_distinct(concurrency)), Axis(PREDICTIONS)
                ),
            )
        ],
        charts.line_legend(lines),
        _level_table("Throughput", measurement.closed, "predictions_per_s", PREDICTIONS, numbers.number),
        [cell for level in measurement.closed for cell in level.cells.values()],
    )


def _distinct(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(sorted(set(values)))


def _metric_line(
    levels: Sequence[Level],
    protocol: Protocol,
    metric: str,
    show: charts.Show,
    *,
    peak: bool = False,
    scale: float = 1.0,
) -> Line | None:
    points = []
    for level in levels:
        cell = level.cells.get(protocol)
        if cell is None or not cell.cell.repetitions:
            continue
        # What broke a rule is drawn as such, not left out: a gap would hide it.
        estimate: Estimate | None = getattr(cell, metric) if cell.trusted else _untrusted(cell, metric)
        if estimate is None or estimate.value <= 0:
            continue
        low, high = (None, None) if estimate.low is None or estimate.high is None else (estimate.low, estimate.high)
        points.append(
            Point(
                x=float(level.load.concurrency or level.load.rate or 0),
                y=estimate.value * scale,
                low=None if low is None else max(low, 0) * scale,
                high=None if high is None else high * scale,
                note=f"{cell.name}, {level.name}: {show(estimate.value)} {numbers.interval(estimate, show)}",
                trusted=cell.trusted,
            )
        )
    if not points:
        return None
    if peak:
        best = max(range(len(points)), key=lambda i: points[i].y)
        points[best] = _labelled(points[best], show(points[best].y / scale))
    return Line(PROTOCOL_NAMES[protocol], PROTOCOL_STYLES[protocol], tuple(points))


def _labelled(point: Point, label: str) -> Point:
    return Point(point.x, point.y, point.low, point.high, point.note, point.trusted, label if point.trusted else "")


def _untrusted(cell: CellSummary, metric: str) -> Estimate | None:
    forgiven = [repetition.model_copy(update={"invalid": []}) for repetition in cell.cell.repetitions]
    summary = content.summarise(cell.cell.model_copy(update={"repetitions": forgiven}))
    estimate: Estimate | None = getattr(summary, metric)
    return estimate


def _level_table(name: str, levels: Sequence[Level], metric: str, unit: str, show: charts.Show) -> Table:
    return Table(
        name,
        heads("Load", "Protocol", unit, "95% interval", "valid repetitions", numbers_from=2),
        tuple(
            (
                TableCell(level.name),
                TableCell(cell.name),
                *row("", _shown(cell, metric, show), numbers.interval(getattr(cell, metric), show), _valid(cell))[1:],
            )
            for level in levels
            for protocol in PROTOCOLS
            if (cell := level.cells.get(protocol))
        ),
    )


def _shown(cell: CellSummary, metric: str, show: charts.Show) -> str:
    estimate: Estimate | None = getattr(cell, metric)
    return show(estimate.value) if estimate else numbers.NOT_MEASURED


def _valid(cell: CellSummary) -> str:
    return f"{cell.valid} of {len(cell.cell.repetitions)}"


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
    return _figure(
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


# --- latency ---------------------------------------------------------------------------------------

_PERCENTILES = {"p50_us": "p50", "p90_us": "p90", "p95_us": "p95", "p99_us": "p99", "p999_us": "p99.9"}


def _latency(measurement: Measurement) -> Section | None:
    by_rate = tuple(
        figure
        for level in measurement.open
        for figure in (_open_figure(measurement, level), _distribution(measurement, level))
        if figure
    )
    blocks: list[Block] = [figure] if (figure := latency_figure(measurement)) else []
    blocks += [Pair(by_rate)] if by_rate else []
    if not blocks:
        return None
    return Section(
        id=_id(measurement, "latency"),
        title="Latency",
        short="Latency",
        lead="Closed loop and open loop are different questions and never share an axis. In a closed loop latency is "
        "counted from the send; in an open loop from when the request was due, so that a stalled server cannot hide "
        "the queue in front of it. A percentile that too few samples prove is not shown.",
        blocks=tuple(blocks),
    )


def latency_figure(measurement: Measurement) -> Figure | None:
    """Draw p50, p95 and p99 by concurrency, as panels with one scale."""
    percentiles = {}
    for metric in ("p50_us", "p95_us", "p99_us"):
        lines = [_metric_line(measurement.closed, p, metric, numbers.microseconds, scale=1e-3) for p in PROTOCOLS]
        if drawn := [line for line in lines if line]:
            percentiles[metric] = drawn
    if not percentiles:
        return None
    values = [p.y for lines in percentiles.values() for line in lines for p in line.points]
    concurrency = _distinct([float(level.load.concurrency or 0) for level in measurement.closed])
    panels = [
        (
            f"{_PERCENTILES[metric]} service latency",
            charts.line_chart(
                lines,
                Axis("requests in flight (log)", log=True, at=concurrency),
                Axis(f"{_PERCENTILES[metric]}, ms (log)", log=True),
                width=400,
                height=290,
                y_values=values,
            ),
        )
        for metric, lines in percentiles.items()
    ]
    table = Table(
        "Service latency",
        heads("Load", "Protocol", *(_PERCENTILES[m] for m in percentiles), numbers_from=2),
        tuple(
            (
                TableCell(level.name),
                TableCell(cell.name),
                *(TableCell(numbers.with_interval(getattr(cell, m), numbers.microseconds), "n") for m in percentiles),
            )
            for level in measurement.closed
            for protocol in PROTOCOLS
            if (cell := level.cells.get(protocol))
        ),
    )
    return _figure(
        measurement,
        "latency-lines",
        "Latency by concurrency (closed loop)",
        "Half, 95% and 99% of answers come within this time. Medians over repetitions with 95% intervals; all panels "
        "share one scale.",
        panels,
        charts.line_legend(next(iter(percentiles.values()))),
        table,
        [cell for level in measurement.closed for cell in level.cells.values()],
        wide=True,
    )


def _open_figure(measurement: Measurement, level: Level) -> Figure | None:
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
    return _figure(
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
    estimate: Estimate | None = getattr(cell, metric) if cell.trusted else _untrusted(cell, metric)
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
    return content.slug(f"{level.payload.id}-{level.load.rate or 0:g}")


def _distribution(measurement: Measurement, level: Level) -> Figure | None:
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
    return _figure(
        measurement,
        f"distribution-{_rate_id(level)}",
        f"Latency distribution at {numbers.number(level.load.rate)} requests/s",
        f"All valid repetitions together ({told} answers). Each step to the right is ten times rarer; lines end where "
        "the samples prove nothing more.",
        [("", charts.line_chart(lines, x, Axis("response latency, ms (log)", log=True)))],
        charts.line_legend(lines),
        table,
    )


def _quantile(quantile: float) -> str:
    return f"{quantile * 100:.6g} %"


# --- bytes -----------------------------------------------------------------------------------------


def _bytes_figures(measurement: Measurement) -> list[Figure]:
    figures = [_bytes_figure(measurement, level) for level in _one_per_payload(measurement)]
    return [figure for figure in figures if figure]


def _one_per_payload(measurement: Measurement) -> list[Level]:
    chosen: dict[str, Level] = {}
    for level in (*([measurement.headline] if measurement.headline else []), *measurement.levels):
        chosen.setdefault(level.payload.id, level)
    return list(chosen.values())


_BODY, _OVERHEAD, _RESPONSE = "request body", "request headers and framing", "response"


def _bytes_figure(measurement: Measurement, level: Level) -> Figure | None:
    body = {"rest": level.payload.rest_body_bytes, "grpc": level.payload.grpc_message_bytes}
    bars = []
    for protocol in PROTOCOLS:
        cell = level.cells.get(protocol)
        if cell is None:
            continue
        sent = cell.bytes_sent.value if cell.bytes_sent else None
        received = cell.bytes_received.value if cell.bytes_received else None
        segments = [Segment(_BODY, body[protocol], PROTOCOL_STYLES[protocol])]
        if sent is not None and sent > body[protocol]:
            segments.append(Segment(_OVERHEAD, sent - body[protocol], charts.CATEGORIES[2]))
        if received is not None:
            segments.append(Segment(_RESPONSE, received, charts.CATEGORIES[0]))
        bars.append(Bar(PROTOCOL_NAMES[protocol], tuple(segments), numbers.size(sum(s.value for s in segments))))
    if not bars:
        return None
    rows = numbers.counted(level.payload.rows, "row")
    measured = all(len(bar.segments) > 1 for bar in bars)
    return _figure(
        measurement,
        f"bytes-{content.slug(level.payload.id)}",
        f"Bytes for a request of {rows}",
        (
            "JSON spells numbers out, gRPC sends them as they lie in memory; the values are the same. Bodies as the load "
            "generator made them, mean over the distinct payloads; the rest counted on its sockets."
            if measured
            else "Bodies as the load generator made them, mean over the distinct payloads. What the sockets carried was not measured."
        ),
        [("", charts.bar_chart(bars, Axis("bytes")))],
        charts.fill_legend(
            [
                ("REST request body", REST),
                ("gRPC request message", GRPC),
                *(
                    (name, style)
                    for name, style in _SEGMENTS
                    if any(s.name == name for bar in bars for s in bar.segments)
                ),
            ]
        ),
        _bars_table("Bytes per request", bars, "bytes"),
    )


_SEGMENTS = ((_OVERHEAD, charts.CATEGORIES[2]), (_RESPONSE, charts.CATEGORIES[0]))


def _bars_table(name: str, bars: Sequence[Bar], unit: str) -> Table:
    return Table(
        name,
        heads("Bar", "Part", unit, numbers_from=2),
        tuple(
            (TableCell(bar.label), TableCell(segment.name), TableCell(numbers.number(segment.value, 4), "n"))
            for bar in bars
            for segment in bar.segments
        ),
    )


# --- cold start ------------------------------------------------------------------------------------


def _cold_start(measurement: Measurement) -> Section | None:
    if not measurement.cold:
        return None
    groups = measurement.cold
    title, told = _warm_up_effect(groups)
    return Section(
        id=_id(measurement, "cold"),
        title="Cold start and warm-up",
        short="Cold start",
        lead=told,
        blocks=(Pair((_first_requests(measurement, title), _ready_figure(measurement))),),
    )


def _warm_up_effect(groups: Sequence[ColdGroup]) -> tuple[str, str]:
    """Say what replaying warm-up records saves on the first request, and what it costs before AVAILABLE."""
    lead = "Fresh servers, their first requests one after the other, with and without warm-up records."
    for protocol in reversed(PROTOCOLS):
        found = {group.warmed: group for group in groups if group.protocol == protocol}
        if len(found) == 2:
            cold, warm = found[False].median_us[0], found[True].median_us[0]
            name = PROTOCOL_NAMES[protocol]
            title = f"Warm-up takes the first {name} answer from {numbers.microseconds(cold)} to {numbers.microseconds(warm)}"
            added = _median(found[True].ready_s) - _median(found[False].ready_s)
            cost = (
                f"and adds {numbers.duration(added)} before the server is ready"
                if added > 0
                else "at no cost before the server is ready"
            )
            return title, f"{lead} Replaying them makes the first answer {numbers.times(cold / warm)} as fast {cost}."
    return "First requests after start", lead


def _median(values: Sequence[float]) -> float:
    estimate = statistics.median_interval(values)
    assert estimate is not None  # groups are not empty
    return estimate.value


def _group_style(group: ColdGroup) -> Style:
    style = PROTOCOL_STYLES[group.protocol]
    return style if group.warmed else Style(style.class_, style.marker, hollow=True)


def _group_name(group: ColdGroup) -> str:
    return f"{PROTOCOL_NAMES[group.protocol]}, {'with' if group.warmed else 'without'} warm-up"


# Equally far apart on a logarithmic axis, so that a hundred markers do not become a smear.
_SHOWN_REQUESTS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)


def _first_requests(measurement: Measurement, title: str) -> Figure:
    groups = measurement.cold
    lines = [
        Line(
            _group_name(group),
            _group_style(group),
            tuple(
                Point(
                    number,
                    group.median_us[number - 1] / 1e3,
                    group.low_us[number - 1] / 1e3 if group.warmed else None,
                    group.high_us[number - 1] / 1e3 if group.warmed else None,
                    f"{_group_name(group)}, request {number}: {numbers.microseconds(group.median_us[number - 1])}",
                )
                for number in _SHOWN_REQUESTS
                if number <= len(group.median_us)
            ),
        )
        for group in groups
    ]
    last = max(point.x for line in lines for point in line.points)
    ticks = tuple(float(n) for n in (1, 2, 5, 10, 20, 50, 100) if n <= last)
    table = Table(
        "First requests",
        heads("Server", "request", "median", "least", "greatest"),
        tuple(
            row(
                _group_name(group),
                str(number),
                *(
                    numbers.microseconds(column[number - 1])
                    for column in (group.median_us, group.low_us, group.high_us)
                ),
            )
            for group in groups
            for number in _SHOWN_REQUESTS
            if number <= len(group.median_us)
        ),
    )
    starts = numbers.counted(min(group.starts for group in groups), "start")
    return _figure(
        measurement,
        "cold-lines",
        title,
        f"Latency of the first requests after the server says it is ready; medians over {starts} of each kind.",
        [
            (
                "",
                charts.line_chart(
                    lines, Axis("request number (log)", log=True, at=ticks), Axis("latency, ms (log)", log=True)
                ),
            )
        ],
        charts.line_legend(lines),
        table,
    )


def _ready_figure(measurement: Measurement) -> Figure:
    bars = [
        Bar(
            f"{PROTOCOL_NAMES[group.protocol]}, {'warmed' if group.warmed else 'not warmed'}",
            (Segment("until ready", _median(group.ready_s), _faded(group)),),
            numbers.duration(_median(group.ready_s)),
            min(group.ready_s),
            max(group.ready_s),
        )
        for group in measurement.cold
    ]
    return _figure(
        measurement,
        "ready",
        "From start to ready",
        "Median time from the start of the container until the version is AVAILABLE; the dark line spans all starts.",
        [("", charts.bar_chart(bars, Axis("seconds")))],
        (),
        _bars_table("Time until ready", bars, "seconds"),
    )


def _faded(group: ColdGroup) -> Style:
    return PROTOCOL_STYLES[group.protocol] if group.warmed else charts.CATEGORIES[0]


# --- inside the server -----------------------------------------------------------------------------


def _inside(measurement: Measurement) -> Section | None:
    figures = (_stages_figure(measurement), _batch_figure(measurement), _cpu_figure(measurement))
    drawn = tuple(figure for figure in figures if figure)
    if not drawn:
        return None
    return Section(
        id=_id(measurement, "server"),
        title="Inside the server",
        short="Server",
        lead="",
        blocks=(Pair(drawn),),
    )


_REMAINDER = "client, wire, scheduling"


def _stages_figure(measurement: Measurement) -> Figure | None:
    """A request's mean latency, split by the server's own clocks; what they do not explain is a part of its own."""
    level = next((one for one in measurement.closed if any(map(content.stages, one.cells.values()))), None)
    if level is None:
        return None
    bars, names = [], dict[str, Style]()
    for protocol in PROTOCOLS:
        cell = level.cells.get(protocol)
        found = content.stages(cell) if cell else {}
        if cell is None or cell.mean_us is None or not found:
            continue
        segments = [
            Segment(name, us, names.setdefault(name, charts.CATEGORIES[1 + len(names) % (len(charts.CATEGORIES) - 1)]))
            for name, us in found.items()
        ]
        rest = max(cell.mean_us.value - sum(found.values()), 0.0)
        segments.append(Segment(_REMAINDER, rest, charts.CATEGORIES[0]))
        bars.append(Bar(PROTOCOL_NAMES[protocol], tuple(segments), numbers.microseconds(cell.mean_us.value)))
    if not bars:
        return None
    return _figure(
        measurement,
        "stages",
        f"Where a request spends its time, at {level.name}",
        "Mean time per request by stage, as the server's own clocks tell it; the grey remainder is what they do not see: "
        "the client, the wire, and waiting for a turn.",
        [("", charts.bar_chart(bars, Axis("µs")))],
        charts.fill_legend([*names.items(), (_REMAINDER, charts.CATEGORIES[0])]),
        _bars_table("Time by stage", bars, "µs"),
    )


def _cpu_figure(measurement: Measurement) -> Figure | None:
    bars, cells = [], []
    for level in measurement.closed:
        for protocol in PROTOCOLS:
            cell = level.cells.get(protocol)
            if cell is None or cell.server_cpu_us is None:
                continue
            cells.append(cell)
            bars.append(
                Bar(
                    f"{cell.name}, {level.name}",
                    (Segment("server CPU", cell.server_cpu_us.value, PROTOCOL_STYLES[protocol]),),
                    numbers.microseconds(cell.server_cpu_us.value),
                    cell.server_cpu_us.low,
                    cell.server_cpu_us.high,
                )
            )
    if not bars:
        return None
    return _figure(
        measurement,
        "cpu",
        "Server CPU per request",
        "CPU time of the whole server process divided by requests: what a prediction costs, and the number that a busy "
        "machine disturbs least. Medians with 95% intervals.",
        [("", charts.bar_chart(bars, Axis("CPU µs per request")))],
        charts.fill_legend([(PROTOCOL_NAMES[p], PROTOCOL_STYLES[p]) for p in PROTOCOLS]),
        _bars_table("Server CPU per request", bars, "µs"),
        cells,
    )


def _batch_figure(measurement: Measurement) -> Figure | None:
    level = measurement.headline
    if level is None:
        return None
    found = {p: content.batch_sizes(level.cells[p]) for p in PROTOCOLS}
    if not any(found.values()):
        return None
    ranges = _ranges(sorted({size for sizes in found.values() for size in sizes}))
    series = [
        charts.Columns(PROTOCOL_NAMES[p], PROTOCOL_STYLES[p], tuple(_share(sizes, low, high) for low, high in ranges))
        for p, sizes in found.items()
    ]
    names = [str(low) if low == high else f"{low}–{high}" for low, high in ranges]
    means = ", ".join(
        f"{sum(s * n for s, n in sizes.items()) / sum(sizes.values()):.1f} rows over {PROTOCOL_NAMES[p]}"
        for p, sizes in found.items()
        if sizes
    )
    table = Table(
        "Batches by size",
        heads("Rows in batch", *(f"{PROTOCOL_NAMES[p]} batches" for p in found)),
        tuple(
            row(
                name,
                *(numbers.integer(sum(n for s, n in sizes.items() if low <= s <= high)) for sizes in found.values()),
            )
            for name, (low, high) in zip(names, ranges, strict=True)
        ),
    )
    return _figure(
        measurement,
        "batches",
        f"Batches that the server put together, at {level.name}",
        f"Share of executed batches by their rows, before padding; on average {means}.",
        [("", charts.column_chart(names, series, "rows in batch", Axis("% of batches")))],
        charts.fill_legend([(PROTOCOL_NAMES[p], PROTOCOL_STYLES[p]) for p in PROTOCOLS]),
        table,
    )


def _share(sizes: dict[int, int], low: int, high: int) -> float:
    total = sum(sizes.values())
    return 100 * sum(count for size, count in sizes.items() if low <= size <= high) / total if total else 0.0


def _ranges(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Take each size by itself while they are few, else ranges that end at powers of two: 1, 2, 3–4, 5–8, …."""
    if len(sizes) <= 10:
        return [(size, size) for size in sizes]
    ranges = [(1, 1)]
    while ranges[-1][1] < sizes[-1]:
        ranges.append((ranges[-1][1] + 1, ranges[-1][1] * 2))
    return ranges
