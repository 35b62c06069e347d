"""What the sections' figures have in common: ids, notes, lines over loads, tables of their data."""

from collections.abc import Sequence

from slipway.records import (
    ModelResult,
    Protocol,
    VersionResult,
)
from slipway.report import charts, content, numbers
from slipway.report.blocks import (
    Figure,
    Panel,
    Table,
    TableCell,
    heads,
    row,
)
from slipway.report.charts import PROTOCOL_STYLES, Bar, Line, Point
from slipway.report.content import PROTOCOL_NAMES, PROTOCOLS, CellSummary, Level, Loads, slug
from slipway.statistics import Estimate

PREDICTIONS = "predictions / s"


def identifier(measurement: Loads, name: str) -> str:
    """Make an id for something about *measurement*."""
    return f"{measurement.anchor}-{name}"


def measured_figure(
    measurement: Loads,
    name: str,
    title: str,
    caption: str,
    panels: Sequence[tuple[str, charts.Drawing]],
    legend: tuple[charts.LegendEntry, ...],
    table: Table,
    cells: Sequence[CellSummary] = (),
    *,
    wide: bool = False,
    note: str = "",
) -> Figure:
    """Put a figure together; it says so below if one of *cells* must not be trusted.

    Args:
        measurement: What it is about.
        name: Part of its id.
        title: What it shows, as a statement where there is one.
        caption: How to read it.
        panels: Title (empty: the figure's) and drawing of each.
        legend: Of all panels.
        table: The data.
        cells: Where the data come from.
        wide: As wide as the page.
        note: Said below it in any case.
    """
    id_ = identifier(measurement, name)
    untrusted = sorted({cell.name for cell in cells if not cell.trusted})
    note = (
        f"Not valid: every repetition of {' and '.join(untrusted)} at one load or more broke a rule "
        "(grey, hollow, crossed). See “Can these numbers be trusted?”."
        if untrusted
        else note
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


def metric_line(
    levels: Sequence[Level],
    protocol: Protocol,
    metric: str,
    show: charts.Show,
    *,
    peak: bool = False,
    scale: float = 1.0,
) -> Line | None:
    """Draw one protocol's *metric* over loads; None if it was not measured.

    Args:
        levels: Loads, in the order of x.
        protocol: REST or gRPC.
        metric: An estimate of CellSummary.
        show: How its values are written.
        peak: Write the highest value beside it.
        scale: From the metric's unit to the axis'.
    """
    points = []
    for level in levels:
        cell = level.cells.get(protocol)
        if cell is None or not cell.cell.repetitions:
            continue
        # What broke a rule is drawn as such, not left out: a gap would hide it.
        estimate: Estimate | None = getattr(cell, metric) if cell.trusted else untrusted(cell, metric)
        if estimate is None or estimate.value <= 0:
            continue
        # Of what is not trusted an interval would promise too much.
        low, high = (estimate.low, estimate.high) if cell.trusted else (None, None)
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


def untrusted(cell: CellSummary, metric: str) -> Estimate | None:
    """Estimate *metric* from repetitions that broke rules, to draw it as what it is."""
    forgiven = [repetition.model_copy(update={"invalid": []}) for repetition in cell.cell.repetitions]
    summary = content.summarise(cell.cell.model_copy(update={"repetitions": forgiven}))
    estimate: Estimate | None = getattr(summary, metric)
    return estimate


def distinct(values: Sequence[float]) -> tuple[float, ...]:
    """Sort *values* and drop repeated ones."""
    return tuple(sorted(set(values)))


def level_table(name: str, levels: Sequence[Level], metric: str, unit: str, show: charts.Show) -> Table:
    """List *metric* by load and protocol."""
    return Table(
        name,
        heads("Load", "Protocol", unit, "95% interval", "valid repetitions", numbers_from=2),
        tuple(
            (
                TableCell(level.name),
                TableCell(cell.name),
                *row("", metric_shown(cell, metric, show), numbers.interval(getattr(cell, metric), show), _valid(cell))[
                    1:
                ],
            )
            for level in levels
            for protocol in PROTOCOLS
            if (cell := level.cells.get(protocol))
        ),
    )


def metric_shown(cell: CellSummary, metric: str, show: charts.Show) -> str:
    """Show the median of *metric*."""
    estimate: Estimate | None = getattr(cell, metric)
    return show(estimate.value) if estimate else numbers.NOT_MEASURED


def _valid(cell: CellSummary) -> str:
    return f"{cell.valid} of {len(cell.cell.repetitions)}"


def bars_table(name: str, bars: Sequence[Bar], unit: str) -> Table:
    """List the parts of *bars*."""
    return Table(
        name,
        heads("Bar", "Part", unit, numbers_from=2),
        tuple(
            (TableCell(bar.label), TableCell(segment.name), TableCell(numbers.number(segment.value, 4), "n"))
            for bar in bars
            for segment in bar.segments
        ),
    )


def name_of(measurement: Loads) -> str:
    """Name the measured version."""
    return f"{measurement.record.model}, version {measurement.record.version}"


def model_identifier(model: ModelResult, name: str) -> str:
    """Make an id for something about *model*."""
    return f"{slug(model.model)}-{name}"


def newest_version(model: ModelResult) -> VersionResult:
    """Give the highest version."""
    return max(model.versions, key=lambda version: version.version)
