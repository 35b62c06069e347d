"""The index of all runs: the newest one's verdict and pictures, the history of its numbers, then every run."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from slipway.records import Protocol, Result
from slipway.report import history, numbers
from slipway.report.blocks import Pair, Part, Section, Table, TableCell, heads
from slipway.report.content import PROTOCOLS, Measurement, measurements
from slipway.report.history import METRICS
from slipway.report.page import page_meta, render
from slipway.report.runs import RunEntry
from slipway.report.sections.history import history as history_part
from slipway.report.sections.latency import latency_figure
from slipway.report.sections.overview import overview
from slipway.report.sections.protocols import ratio_figure
from slipway.report.sections.throughput import throughput_figure
from slipway.report.verdict import SIGNS, WORDS, judge

# The page stays quick to open; the others are in runs.json and runs.csv.
_MOST_LISTED = 300
COLUMNS = (
    *("run_id", "created", "commit", "state", "machine", "model", "version", "series", "metric", "protocol"),
    *("value", "unit"),
)


@dataclass(frozen=True, slots=True)
class IndexPage:
    """The index, ready to be written out."""

    title: str
    heading: str
    meta: tuple[str, ...]
    report: str
    parts: tuple[Part, ...]
    runs: Table
    left_out: str


def render_index(newest: Result, entries: Sequence[RunEntry]) -> str:
    """
    Draw the index.

    Args:
        newest: The run whose verdict and pictures it opens with.
        entries: All runs, newest first; the first is *newest*.
    """
    return render("runs.html", page=build_index(newest, entries))


def build_index(newest: Result, entries: Sequence[RunEntry]) -> IndexPage:
    """Lay out the index."""
    told = history_part(entries)
    older = len(entries) - _MOST_LISTED
    return IndexPage(
        title=f"{newest.title} – Slipway",
        heading=newest.title,
        meta=page_meta(newest.created, newest.environment),
        report=f"{newest.run_id}/index.html",
        parts=(
            *(_part(measurement, newest.command) for measurement in measurements(newest)),
            *((told,) if told else ()),
        ),
        runs=_runs(entries[:_MOST_LISTED]),
        left_out=f"{numbers.counted(older, 'older run')} are in runs.csv and runs.json." if older > 0 else "",
    )


def _part(measurement: Measurement, command: str) -> Part:
    figures = []
    if measurement.closed:
        figures.append(throughput_figure(measurement))
    if ratios := ratio_figure(measurement):
        figures.append(ratios)
    latency = latency_figure(measurement)
    pictures = Section(
        id=f"{measurement.anchor}-pictures",
        title="REST and gRPC in pictures",
        short="Pictures",
        lead="The same values over both protocols, one load after the other, on one server started from the image.",
        blocks=(*((Pair(tuple(figures)),) if figures else ()), *((latency,) if latency else ())),
    )
    return Part(
        id=measurement.anchor,
        title=f"{measurement.model.model}, version {measurement.version.version}",
        subtitle=measurement.version.checkpoint.description,
        sections=(overview(measurement, judge(measurement), command), *((pictures,) if pictures.blocks else ())),
    )


# --- table -----------------------------------------------------------------------------------------


def _runs(entries: Sequence[RunEntry]) -> Table:
    return Table(
        "All runs",
        (*heads("Run", "Verdict", "What was found", "REST", "gRPC", "Machine", "Commit", numbers_from=7),),
        tuple(_run_row(entry) for entry in entries),
    )


def _run_row(entry: RunEntry) -> tuple[TableCell, ...]:
    mark = {"proven": "ok", "unproven": "warn", "invalid": "warn"}.get(entry.state, "bad")
    return (
        TableCell(numbers.moment(entry.created), full=entry.run_id, link=f"{entry.run_id}/index.html"),
        TableCell(f"{SIGNS[entry.state]} {WORDS[entry.state]}", mark=mark),
        TableCell(entry.headline),
        *(TableCell(_best(entry, protocol), "n") for protocol in PROTOCOLS),
        TableCell(entry.machine),
        TableCell(entry.commit[:10] if entry.commit else numbers.NOT_MEASURED, "c"),
    )


def _best(entry: RunEntry, protocol: Protocol) -> str:
    """Give the numbers of all measured versions, one per line."""
    found = [one for measured in entry.measured for one in measured.numbers if one.protocol == protocol]
    return "\n".join(
        f"{numbers.number(one.predictions_per_s)}/s" if one.predictions_per_s else numbers.NOT_MEASURED for one in found
    )


# --- runs.csv --------------------------------------------------------------------------------------


def runs_csv(entries: Sequence[RunEntry]) -> str:
    """
    Write every number of every run as CSV (RFC 4180, but with line feeds), one a line, oldest run first.

    Args:
        entries: All runs, newest first.

    Returns:
        Lines of the same model and *series* (A is the newest one) may be compared, others may not.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    letters = history.series_of_runs(entries)
    for entry in reversed(entries):
        for measured in entry.measured:
            what = (entry.run_id, entry.created, entry.commit, entry.state, entry.machine)
            where = (measured.model, measured.version, letters[history.kind(measured)])
            run = history.Run(entry, measured)
            for metric in METRICS:
                for protocol in PROTOCOLS if metric.by_protocol else (None,):
                    value = history.value(run, metric, protocol)
                    if value is not None:
                        writer.writerow((*what, *where, metric.id, protocol, value, metric.unit))
    return text.getvalue()
