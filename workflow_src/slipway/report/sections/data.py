"""Every cell, the data's files, and what is not in them."""

from collections.abc import Sequence

from slipway.records import (
    Result,
)
from slipway.report import charts, numbers
from slipway.report.blocks import (
    Block,
    Heading,
    Items,
    Link,
    Links,
    Section,
    Table,
    TableCell,
    heads,
)
from slipway.report.content import PROTOCOLS, CellSummary, Loads
from slipway.report.sections.figures import name_of

# Files beside the page.
DATA = (
    Link("result.json", "result.json", "everything on this page was drawn from this file"),
    Link("cells.csv", "cells.csv", "one line per repetition"),
    Link("summary.md", "summary.md", "the verdict in a few lines, for a pull request"),
    Link("junit.xml", "junit.xml", "what was checked, for CI systems that show such files"),
    Link("badge.svg", "badge.svg", "the verdict, for a README"),
)


NOT_COVERED = (
    ("Networks", "everything went over loopback: no round-trip time, no loss, no TLS"),
    ("Other clients", "one load generator for both protocols; clients in other languages cost more or less"),
    ("Several hosts", "one server, one machine"),
    ("Comparison with an earlier version of the code", "no base was given"),
    ("History", "the index of runs beside this report shows how the key numbers moved"),
)


def cells(measured: Sequence[Loads]) -> Section:
    """Write every cell, one line each."""
    blocks: list[Block] = []
    for measurement in measured:
        if len(measured) > 1:
            blocks.append(Heading(name_of(measurement)))
        blocks.append(_cells_table(measurement))
    lead = "Medians over valid repetitions. Click a column's name to sort by it."
    return Section("cells", "All cells", "", lead, tuple(blocks))


_COLUMNS: tuple[tuple[str, str, charts.Show], ...] = (
    ("predictions / s", "predictions_per_s", numbers.number),
    ("p50", "p50_us", numbers.microseconds),
    ("p90", "p90_us", numbers.microseconds),
    ("p95", "p95_us", numbers.microseconds),
    ("p99", "p99_us", numbers.microseconds),
    ("p99.9", "p999_us", numbers.microseconds),
    ("server CPU", "server_cpu_us", numbers.microseconds),
    ("generator CPU", "generator_cpu_us", numbers.microseconds),
    ("sent", "bytes_sent", numbers.size),
    ("received", "bytes_received", numbers.size),
)


def _cells_table(measurement: Loads) -> Table:
    rows = [
        (
            TableCell(cell.cell.id),
            TableCell(cell.name),
            TableCell(level.name),
            *(_metric(cell, attribute, show) for _, attribute, show in _COLUMNS),
            TableCell(numbers.integer(sum(sum(r.errors.values()) for r in cell.cell.repetitions)), "n"),
            TableCell(f"{cell.valid} of {len(cell.cell.repetitions)}", "n"),
        )
        for level in measurement.levels
        for protocol in PROTOCOLS
        if (cell := level.cells.get(protocol))
    ]
    names = (*(name for name, _, _ in _COLUMNS), "errors", "valid")
    head = (*heads("Cell", "Protocol", "Load", numbers_from=3), *heads(*names, numbers_from=0))
    return Table(f"Cells of {name_of(measurement)}", head, tuple(rows), sortable=True)


def _metric(cell: CellSummary, attribute: str, show: charts.Show) -> TableCell:
    estimate = getattr(cell, attribute)
    if estimate is None:
        return TableCell(numbers.NOT_MEASURED, "n")
    return TableCell(show(estimate.value), "n", full=numbers.interval(estimate, show), value=estimate.value)


def data(result: Result, measured: Sequence[Loads]) -> Section:
    """Write where the data are, how to redo them, and what was not measured."""
    missing = [(what, why) for measurement in measured for what, why in sorted(measurement.record.not_measured.items())]
    blocks: tuple[Block, ...] = (
        Links(DATA),
        Items((("Redo it", result.command), ("Run", result.run_id))),
        *((Heading("Not measured in this run"), Items(tuple(dict.fromkeys(missing)))) if missing else ()),
        Heading("Not covered"),
        Items(NOT_COVERED),
    )
    return Section("data", "Data, and what is not in them", "Data", "", blocks)
