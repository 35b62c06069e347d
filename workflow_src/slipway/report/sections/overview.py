"""The first screen: the verdict, the picture that says the same, the big numbers."""

from collections.abc import Sequence

from slipway.report import charts, numbers
from slipway.report.blocks import (
    Figure,
    Section,
    Table,
    Tile,
    Tiles,
    VerdictBlock,
    heads,
    row,
)
from slipway.report.charts import PROTOCOL_STYLES, Axis, Bar, Segment
from slipway.report.content import PROTOCOL_NAMES, PROTOCOLS, CellSummary, ColdGroup, Level, Measurement
from slipway.report.sections.figures import PREDICTIONS, identifier, measured_figure, metric_shown
from slipway.report.verdict import Verdict, inverse
from slipway.statistics import Estimate


def overview(measurement: Measurement, verdict: Verdict, command: str) -> Section:
    """Write the verdict, the picture that says the same, and the big numbers."""
    return Section(
        id=identifier(measurement, "verdict"),
        title="Verdict",
        short="Verdict",
        lead="",
        blocks=(
            VerdictBlock(verdict, command, _peak_figures(measurement, verdict)),
            Tiles(_tiles(measurement)),
        ),
    )


def _peak_figures(measurement: Measurement, verdict: Verdict) -> tuple[Figure, ...]:
    """Draw each protocol's highest throughput as a bar; nothing without a valid closed loop."""
    peaks = [peak for protocol in PROTOCOLS if (peak := measurement.peak(protocol)) and peak.predictions_per_s]
    if not peaks:
        return ()
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
                metric_shown(peak, "predictions_per_s", numbers.number),
                numbers.interval(peak.predictions_per_s),
            )
            for peak in peaks
        ),
    )
    at = {peak.cell.load.concurrency for peak in peaks}
    where = f"at {at.pop()} in flight" if len(at) == 1 else "each at its best load"
    note = "From the few repetitions that count: nothing to rely on." if verdict.state == "invalid" else ""
    figure = measured_figure(
        measurement,
        "peak",
        "Highest throughput",
        f"Median over repetitions, {where}; the dark line is the 95% interval.",
        [("", charts.bar_chart(bars, Axis(PREDICTIONS), width=440))],
        (),
        table,
        note=note,
    )
    return (figure,)


def _tiles(measurement: Measurement) -> tuple[Tile, ...]:
    tiles = [tile for protocol in reversed(PROTOCOLS) if (tile := _peak_tile(measurement.peak(protocol)))]
    headline = measurement.headline
    if headline:
        ratio = headline.ratios["throughput"]
        shown, label = (ratio, "gRPC ÷ REST") if ratio.value >= 1 else (inverse(ratio), "REST ÷ gRPC")
        tiles.append(
            Tile(numbers.times(shown.value), f"{label}, predictions/s", numbers.interval(shown, numbers.ratio))
        )
    if open_level := measurement.rated:
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
