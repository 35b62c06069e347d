"""The index of all runs: the newest one's verdict and pictures, then every run with its key numbers and their trend."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from slipway.records import Digest, Protocol, Record, Result
from slipway.report import charts, numbers
from slipway.report.blocks import Pair, Part, Section, Table, TableCell, heads
from slipway.report.charts import Drawing
from slipway.report.content import PROTOCOL_NAMES, PROTOCOLS, Measurement, measurements
from slipway.report.page import page_meta, readable_time, render
from slipway.report.sections.latency import latency_figure
from slipway.report.sections.overview import overview
from slipway.report.sections.protocols import ratio_figure
from slipway.report.sections.throughput import throughput_figure
from slipway.report.verdict import SIGNS, WORDS, State, judge, worst

# A trend of fewer runs is a dot.
_TREND_RUNS = 2


class KeyNumbers(Record):
    """What a trend is drawn from: one protocol of one measured version."""

    model: str
    version: int
    protocol: Protocol
    predictions_per_s: float | None = Field(None, description="At its best closed-loop load.")
    p99_us: float | None = Field(None, description="In the open loop.")


class RunEntry(Record):
    """One line of runs.json."""

    run_id: str
    created: str
    title: str
    state: State
    headline: str
    machine: str = Field(description="Numbers of different machines are not joined by a line.")
    commit: str | None
    result_digest: Digest
    numbers: list[KeyNumbers]


class RunIndex(Record):
    """published/runs.json, newest first."""

    format: Literal[1] = 1
    runs: list[RunEntry]


@dataclass(frozen=True, slots=True)
class Trend:
    """A row of the trends: what, from when to when, as a small line."""

    name: str
    drawing: Drawing
    first: str
    last: str
    description: str


@dataclass(frozen=True, slots=True)
class IndexPage:
    """The index, ready to be written out."""

    title: str
    heading: str
    meta: tuple[str, ...]
    report: str
    parts: tuple[Part, ...]
    trends: tuple[Trend, ...]
    runs: Table


def run_entry(result: Result, run_id: str, digest: str) -> RunEntry:
    """Sum *result* up in one entry of the index."""
    measured = measurements(result)
    verdicts = [judge(measurement) for measurement in measured]
    state = worst(verdicts)
    headline = next((v.headline for v in verdicts if v.state == state), "Nothing was measured")
    where = result.environment
    return RunEntry(
        run_id=run_id,
        created=result.created,
        title=result.title,
        state=state,
        headline=headline,
        machine=" · ".join([where.cpu, numbers.counted(where.logical_cpus, "CPU"), *where.gpus]),
        commit=where.commit,
        result_digest=digest,
        numbers=[_key_numbers(measurement, protocol) for measurement in measured for protocol in PROTOCOLS],
    )


def _key_numbers(measurement: Measurement, protocol: Protocol) -> KeyNumbers:
    peak = measurement.peak(protocol)
    rated = next((level.cells[protocol] for level in measurement.open if protocol in level.cells), None)
    return KeyNumbers(
        model=measurement.model.model,
        version=measurement.version.version,
        protocol=protocol,
        predictions_per_s=peak.predictions_per_s.value if peak and peak.predictions_per_s else None,
        p99_us=rated.p99_us.value if rated and rated.p99_us else None,
    )


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
    report = f"{newest.run_id}/index.html"
    return IndexPage(
        title=f"{newest.title} – Slipway",
        heading=newest.title,
        meta=page_meta(newest),
        report=report,
        parts=tuple(_part(measurement, newest.command) for measurement in measurements(newest)),
        trends=_trends(entries),
        runs=_runs(entries),
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


# --- trends, table ---------------------------------------------------------------------------------


def _trends(entries: Sequence[RunEntry]) -> tuple[Trend, ...]:
    """Follow the key numbers of the newest run's models back over the runs on the same machine."""
    alike = [entry for entry in reversed(entries) if entry.machine == entries[0].machine]
    if len(alike) < _TREND_RUNS:
        return ()
    names = dict.fromkeys((one.model, one.protocol) for one in entries[0].numbers)
    found = (_trend(alike, model, protocol) for model, protocol in names)
    return tuple(trend for trend in found if trend)


def _trend(alike: Sequence[RunEntry], model: str, protocol: Protocol) -> Trend | None:
    values = []
    for entry in alike:
        peaks = [n for n in entry.numbers if (n.model, n.protocol) == (model, protocol) and n.predictions_per_s]
        # Of several measured versions the newest stands for the model.
        newest = max(peaks, key=lambda one: one.version, default=None)
        if newest and newest.predictions_per_s:
            values.append(newest.predictions_per_s)
    if len(values) < _TREND_RUNS:
        return None
    name = f"{model}, {PROTOCOL_NAMES[protocol]}"
    first, last = (f"{numbers.number(value)}/s" for value in (values[0], values[-1]))
    return Trend(
        name=name,
        drawing=charts.sparkline(values, charts.PROTOCOL_STYLES[protocol]),
        first=first,
        last=last,
        description=f"Predictions per second of {name}, over {numbers.counted(len(values), 'run')}: from {first} to {last}",
    )


def _runs(entries: Sequence[RunEntry]) -> Table:
    return Table(
        "All runs",
        (*heads("Run", "Verdict", "What was found", "REST", "gRPC", "Machine", "Commit", numbers_from=7),),
        tuple(_run_row(entry) for entry in entries),
    )


def _run_row(entry: RunEntry) -> tuple[TableCell, ...]:
    mark = {"proven": "ok", "unproven": "warn", "invalid": "warn"}.get(entry.state, "bad")
    return (
        TableCell(readable_time(entry.created), full=entry.run_id, link=f"{entry.run_id}/index.html"),
        TableCell(f"{SIGNS[entry.state]} {WORDS[entry.state]}", mark=mark),
        TableCell(entry.headline),
        *(TableCell(_best(entry, protocol), "n") for protocol in PROTOCOLS),
        TableCell(entry.machine),
        TableCell(entry.commit[:10] if entry.commit else numbers.NOT_MEASURED, "d"),
    )


def _best(entry: RunEntry, protocol: Protocol) -> str:
    """Give the numbers of all measured versions, one per line."""
    found = [n for n in entry.numbers if n.protocol == protocol]
    return "\n".join(
        f"{numbers.number(n.predictions_per_s)}/s" if n.predictions_per_s else numbers.NOT_MEASURED for n in found
    )
