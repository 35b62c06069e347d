"""cells.csv: one line per repetition, with every number that the page summarises."""

import csv
import io
from collections.abc import Sequence

from slipway.records import BenchmarkRecord, Cell, Repetition, Result

_LATENCY = ("samples", "mean_us", "p50_us", "p90_us", "p95_us", "p99_us", "p999_us", "max_us")
_MEASURED = (
    "throughput_rps",
    "predictions_per_s",
    "slip_p99_us",
    "offered",
    "bytes_sent_per_request",
    "bytes_received_per_request",
    "server_cpu_us_per_request",
    "generator_cpu_us_per_request",
    "generator_utilisation",
    "foreign_cpu_cores",
    "disturbed_slots",
    "stolen_share",
    "clock_share",
    "throttled_share",
    "trend",
    "in_flight",
    "server_in_flight",
    "reconnects",
    "sent_again_share",
)
COLUMNS = (
    *("model", "version", "cell", "protocol", "payload", "load", "concurrency", "rate", "repetition", "order"),
    *("window_s", "completed", "errors", "checked_answers", "wrong_answers", *_MEASURED, *_LATENCY, "broken_rules"),
)


def cells_csv(result: Result) -> str:
    """Write all repetitions as CSV (RFC 4180, but with line feeds); what was not measured is empty."""
    return csv_of([record for model in result.models for record in model.benchmarks])


def csv_of(records: Sequence[BenchmarkRecord]) -> str:
    """Write the repetitions of *records* as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for record in records:
        writer.writerows(_line(record, cell, r) for cell in record.cells for r in cell.repetitions)
    return text.getvalue()


def _line(record: BenchmarkRecord, cell: Cell, repetition: Repetition) -> list[object]:
    return [
        record.model,
        record.version,
        cell.id,
        cell.protocol,
        cell.payload,
        cell.load.kind,
        cell.load.concurrency,
        cell.load.rate,
        repetition.index,
        repetition.order,
        repetition.window_s,
        repetition.completed,
        sum(repetition.errors.values()),
        repetition.checked_answers,
        repetition.wrong_answers,
        *(getattr(repetition, name) for name in _MEASURED),
        *(getattr(repetition.latency, name) for name in _LATENCY),
        "; ".join(repetition.invalid),
    ]
