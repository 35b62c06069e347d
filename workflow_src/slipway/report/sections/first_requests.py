"""The first request of each signature and batch size at a fresh server, with warm-up records and without."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from slipway import statistics
from slipway.records import BenchmarkRecord, Protocol
from slipway.report import charts, numbers
from slipway.report.blocks import Figure, Table, TableCell, heads
from slipway.report.charts import PROTOCOL_STYLES, Axis, Line, Point, Style
from slipway.report.content import PROTOCOL_NAMES, PROTOCOLS, Loads
from slipway.report.sections.figures import distinct, measured_figure


@dataclass(frozen=True, slots=True)
class Spread:
    """Times of several starts, in µs."""

    starts: int
    median_us: float
    least_us: float
    greatest_us: float


@dataclass(frozen=True, slots=True)
class Batch:
    """
    One signature and batch size over one protocol.

    Attributes:
        signature: Which.
        rows: Rows in a request.
        protocol: Which.
        cold: The first request, on servers that replayed nothing.
        warm: The first request, on servers that had replayed the records.
        steady: Later requests on those servers; of each start their median.
    """

    signature: str
    rows: int
    protocol: Protocol
    cold: Spread
    warm: Spread
    steady: Spread

    @property
    def saved(self) -> float:
        """How many times as long the first request takes without warm-up."""
        return self.cold.median_us / self.warm.median_us


def batches(record: BenchmarkRecord) -> list[Batch]:
    """
    Group the starts of *record*; what was not measured both with and without records is left out.

    The benchmark's own signature and batch size had its first request from the load generator: that one counts.
    """
    payload = record.payloads[0]
    first: dict[tuple[str, int, Protocol, bool], list[float]] = {}
    later: dict[tuple[str, int, Protocol], list[float]] = {}
    for start in record.cold_starts:
        for asked in start.by_batch:
            is_own = (asked.signature, asked.rows) == (payload.signature, payload.rows) and start.first_requests_us
            took = start.first_requests_us[0] if is_own else asked.first_us
            first.setdefault((asked.signature, asked.rows, start.protocol, start.warmed), []).append(took)
            median = statistics.median_interval(asked.later_us) if start.warmed else None
            if median:
                later.setdefault((asked.signature, asked.rows, start.protocol), []).append(median.value)
    return [
        Batch(*kind, _spread(first[*kind, False]), _spread(first[*kind, True]), _spread(times))
        for kind, times in later.items()
        if (*kind, False) in first
    ]


def _spread(times_us: Sequence[float]) -> Spread:
    median = statistics.median_interval(times_us)
    assert median is not None  # groups are not empty
    return Spread(len(times_us), median.value, min(times_us), max(times_us))


def first_requests(measurement: Loads) -> Figure | None:
    """Show what warm-up saves at each batch size; None if that was not measured."""
    found = batches(measurement.record)
    if not found:
        return None
    signatures = list(dict.fromkeys(batch.signature for batch in found))
    # The protocol with most starts; the other is in the table.
    drawn = max(PROTOCOLS, key=lambda p: max((b.cold.starts for b in found if b.protocol == p), default=0))
    panels = []
    every = [b for b in found if b.protocol == drawn]
    reach = [t for b in every for s in (b.cold, b.warm, b.steady) for t in (s.least_us / 1e3, s.greatest_us / 1e3)]
    for signature in signatures:
        lines = _lines([batch for batch in every if batch.signature == signature], drawn)
        if lines:
            at = distinct([point.x for line in lines for point in line.points])
            axis = Axis("rows in the request (log)", log=True, at=at)
            # Panels look alike: the axis is where a reader sees which is which.
            latency = Axis(f"{signature}, ms (log)" if len(signatures) > 1 else "latency, ms (log)", log=True)
            drawing = charts.line_chart(lines, axis, latency, y_values=reach)
            panels.append((signature, drawing, lines))
    least, greatest = min(batch.saved for batch in every), max(batch.saved for batch in every)
    spread = numbers.times(least) if least == greatest else f"{numbers.times(least)} to {numbers.times(greatest)}"
    starts = numbers.counted(min(batch.cold.starts for batch in every), "start")
    return measured_figure(
        measurement,
        "first-requests",
        f"Without warm-up the first request of a batch size takes {spread} as long",
        f"First request of each signature and batch size, one after the other over {PROTOCOL_NAMES[drawn]}, on fresh servers "
        f"with and without warm-up records, and later ones; medians over {starts} of each kind, bands from the least to the "
        "greatest. The data have the other protocol, too.",
        [(title, drawing) for title, drawing, _ in panels],
        charts.line_legend(panels[0][2]),
        _table(found),
        wide=len(panels) > 1,
    )


def _lines(alike: Sequence[Batch], protocol: Protocol) -> list[Line]:
    style = PROTOCOL_STYLES[protocol]
    kinds = (
        ("first, without warm-up", Style(style.class_, style.marker, hollow=True), [b.cold for b in alike]),
        ("first, with warm-up", style, [b.warm for b in alike]),
        ("later", charts.CATEGORIES[0], [b.steady for b in alike]),
    )
    return [Line(name, look, tuple(_points(name, alike, spreads))) for name, look, spreads in kinds if spreads]


def _points(name: str, alike: Sequence[Batch], spreads: Sequence[Spread]) -> Iterable[Point]:
    placed = sorted(zip(alike, spreads, strict=True), key=lambda pair: pair[0].rows)
    for batch, spread in placed:
        note = (
            f"{batch.signature}, {numbers.counted(batch.rows, 'row')}, {name}: {numbers.microseconds(spread.median_us)}"
        )
        yield Point(batch.rows, spread.median_us / 1e3, spread.least_us / 1e3, spread.greatest_us / 1e3, note)


def _table(found: Sequence[Batch]) -> Table:
    head = (
        "Signature",
        "Protocol",
        "rows",
        "starts",
        "first, cold",
        "range",
        "first, warmed",
        "range",
        "later",
        "range",
        "saved",
    )
    return Table(
        "First requests by batch size",
        heads(*head, numbers_from=2),
        tuple(
            (
                TableCell(batch.signature),
                TableCell(PROTOCOL_NAMES[batch.protocol]),
                TableCell(str(batch.rows), "n"),
                TableCell(f"{batch.cold.starts} + {batch.warm.starts}", "n"),
                *(cell for spread in (batch.cold, batch.warm, batch.steady) for cell in _cells(spread)),
                TableCell(numbers.times(batch.saved), "n"),
            )
            for batch in sorted(found, key=lambda b: (b.signature, PROTOCOLS.index(b.protocol), b.rows))
        ),
    )


def _cells(spread: Spread) -> tuple[TableCell, TableCell]:
    span = f"{numbers.microseconds(spread.least_us)} … {numbers.microseconds(spread.greatest_us)}"
    return TableCell(numbers.microseconds(spread.median_us), "n"), TableCell(span, "n")
