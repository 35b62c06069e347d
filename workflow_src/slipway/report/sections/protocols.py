"""REST against gRPC: ratios with their intervals, loads side by side, bytes on the wire."""

from collections.abc import Sequence

from slipway.records import (
    Protocol,
)
from slipway.report import charts, numbers
from slipway.report.blocks import (
    Figure,
    Pair,
    Section,
    Table,
    TableCell,
    heads,
    row,
)
from slipway.report.charts import GRPC, PROTOCOL_STYLES, REST, Axis, Bar, Dot, DotRow, Segment, Style
from slipway.report.content import PROTOCOL_NAMES, PROTOCOLS, Level, Loads, slug
from slipway.report.sections.figures import bars_table, identifier, measured_figure
from slipway.statistics import Estimate


def protocols(measurement: Loads) -> Section | None:
    """Write both protocols against each other; None if no load was measured on both."""
    ratios = ratio_figure(measurement)
    if ratios is None:
        return None
    return Section(
        id=identifier(measurement, "protocols"),
        title="REST against gRPC",
        short="REST vs gRPC",
        lead="Same values, same server, same number of connections and requests in flight, one load-generator engine "
        "for both (the wire tier: clients that cost the load generator alike). REST and gRPC are compared within each repetition, then over repetitions.",
        blocks=(Pair((ratios, *_bytes_figures(measurement))), comparison_table(measurement)),
    )


_RATIOS = {
    "throughput": "predictions / s",
    "p50": "p50 latency",
    "p95": "p95 latency",
    "p99": "p99 latency",
    "server_cpu": "server CPU / request",
    "bytes": "bytes / request",
}


def ratio_figure(measurement: Loads) -> Figure | None:
    """Draw how many times one protocol is ahead of the other, metric by metric; None without a load measured on both."""
    listed = _ratio_rows(measurement)
    if not listed:
        return None
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
            numbers.times(_either_way(ratio.value)),
        )
        for label, ratio in listed
    ]
    drawing = charts.dot_chart(
        rows,
        Axis(
            "times as good (log)",
            log=True,
            show=lambda ratio: numbers.times_tick(_either_way(ratio)),
            at=_ratio_ticks(listed),
        ),
        reference=1.0,
        sides=("REST ahead", "gRPC ahead"),
    )
    table = Table(
        "gRPC against REST",
        heads("What", "gRPC ahead by (below 1: behind)", "95% low", "95% high", "pairs"),
        tuple(
            row(label, numbers.times(r.value), numbers.times(r.low), numbers.times(r.high), str(r.n))
            for label, r in listed
        ),
    )
    return measured_figure(
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


# Leads to mark on both sides of 1, by the greatest lead: few enough to be told apart.
_TICKS = {
    2.0: (1.2, 1.5, 2.0),
    5.0: (1.5, 2.0, 3.0, 5.0),
    10.0: (2.0, 5.0, 10.0),
    1e3: (3.0, 10.0, 30.0, 100.0, 300.0, 1e3),
}


def _ratio_ticks(listed: Sequence[tuple[str, Estimate]]) -> tuple[float, ...]:
    furthest = max(_either_way(value) for _, ratio in listed for value in (ratio.value, ratio.low, ratio.high) if value)
    leads = next((ticks for most, ticks in _TICKS.items() if furthest <= most), (10.0, 100.0, 1e3, 1e4, 1e5, 1e6))
    return (*(1 / lead for lead in reversed(leads)), 1.0, *leads)


def _either_way(ratio: float) -> float:
    """Give the size of a lead, whoever has it."""
    return ratio if ratio >= 1 else 1 / ratio


_UNDECIDED = Style("tool", "diamond", hollow=True)


def _side(ratio: Estimate) -> Style:
    if ratio.low is None or ratio.high is None or ratio.low <= 1 <= ratio.high:
        return _UNDECIDED
    return GRPC if ratio.value > 1 else REST


def _ratio_rows(measurement: Loads) -> list[tuple[str, Estimate]]:
    """Throughput at every load; everything else where it matters: CPU and bytes at the peak, latency at a fixed rate."""
    listed = [
        (f"{_RATIOS['throughput']}, {level.load.concurrency} in flight", level.ratios["throughput"])
        for level in measurement.closed
        if "throughput" in level.ratios
    ]
    rated = measurement.rated if measurement.rated and "p50" in measurement.rated.ratios else None
    if level := rated or measurement.headline:
        where = f"{numbers.number(level.load.rate)}/s" if rated else f"{level.load.concurrency} in flight"
        listed += [(f"{_RATIOS[m]}, {where}", level.ratios[m]) for m in ("p50", "p99") if m in level.ratios]
    if headline := measurement.headline:
        listed += [(_RATIOS[m], headline.ratios[m]) for m in ("server_cpu", "bytes") if m in headline.ratios]
    return listed


def comparison_table(measurement: Loads) -> Table:
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


def _bytes_figures(measurement: Loads) -> list[Figure]:
    figures = [_bytes_figure(measurement, level) for level in _one_per_payload(measurement)]
    return [figure for figure in figures if figure]


def _one_per_payload(measurement: Loads) -> list[Level]:
    chosen: dict[str, Level] = {}
    for level in (*([measurement.headline] if measurement.headline else []), *measurement.levels):
        chosen.setdefault(level.payload.id, level)
    return list(chosen.values())


# Most sizes of JSON that are told elsewhere are of this kind: how far gRPC is ahead depends on digits alone.
_PLAIN = "REST, doubles' digits"
_BODY, _OVERHEAD, _RESPONSE = "request body", "request headers and framing", "response"


_SEGMENTS = ((_OVERHEAD, charts.CATEGORIES[2]), (_RESPONSE, charts.CATEGORIES[0]))


def _bytes_figure(measurement: Loads, level: Level) -> Figure | None:
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
        plain = level.payload.rest_plain_body_bytes
        if protocol == "rest" and plain is not None:
            segments = [Segment(_BODY, plain, PROTOCOL_STYLES[protocol]), *segments[1:]]
            bars.append(Bar(_PLAIN, tuple(segments), numbers.size(sum(s.value for s in segments))))
    if not bars:
        return None
    rows = numbers.counted(level.payload.rows, "row")
    digits = (
        f" {_PLAIN}: computed, not sent; `json.dumps` spells each number out like a double."
        if any(bar.label == _PLAIN for bar in bars)
        else ""
    )
    measured = all(len(bar.segments) > 1 for bar in bars)
    return measured_figure(
        measurement,
        f"bytes-{slug(level.payload.id)}",
        f"Bytes for a request of {rows}",
        (
            "JSON spells numbers out, gRPC sends them as they lie in memory; the values are the same. Bodies as the load "
            "generator made them, mean over the distinct payloads; the rest counted on its sockets."
            if measured
            else "Bodies as the load generator made them, mean over the distinct payloads. What the sockets carried was not measured."
        )
        + digits,
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
        bars_table("Bytes per request", bars, "bytes"),
    )
