"""Print what was made of which source: kind, signatures, parity, bytes, export time; a line for each version."""

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from slipway import files
from slipway.errors import SourceError
from slipway.provenance import environment
from slipway.records import CheckpointRecord, Environment, ExportRecord, ValidationRecord
from slipway.report import numbers
from slipway.report.gather import stage_times

_COLUMNS = ("model", "source", "signatures", "parity", "accuracy", "source files", "SavedModel", "export", "CPU")
# What of a Markdown file is replaced.
BEGIN, END = "<!-- slipway overview -->", "<!-- end of slipway overview -->"


@dataclass(frozen=True, slots=True)
class Made:
    """One version: what it was made from, and what came out."""

    model: str
    version: int
    kind: str
    signatures: tuple[str, ...]
    max_abs: float | None
    """Largest difference between the SavedModel's golden answers and the source's own; None where none were compared."""
    rows: int
    """Golden rows that were compared."""
    accuracy: float | None
    """0..1."""
    source_bytes: int
    export_bytes: int
    export_s: float | None
    """Seconds from the start of the process, the import of TensorFlow included."""
    export_cpu_s: float | None = None
    """Seconds of CPU time of the same: what other work on the machine does not lengthen."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the tool reads and writes."""
    parser.add_argument("models", nargs="*", metavar="MODEL", help="models to list; without any: all")
    parser.add_argument("--records", type=Path, default=Path("results"), metavar="DIR", help="results of the line")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help=f"put the table into this Markdown file, between {BEGIN} and {END}"
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the table, or write it."""
    made = list(gather(arguments.records, arguments.models))
    if arguments.write:
        try:
            text = arguments.write.read_text(encoding="utf-8")
        except OSError as error:
            raise SourceError(f"{arguments.write}: cannot be read ({error.strerror}).") from error
        files.write_text(arguments.write, between(text, markdown(made, environment()), str(arguments.write)))
        return
    # A log has no width of its own: nothing is folded there.
    Console(width=None if sys.stdout.isatty() else 200).print(table(made))


def table(made: Sequence[Made]) -> Table:
    """Draw the table for a terminal."""
    drawn = Table(box=None, pad_edge=False)
    for column in _COLUMNS:
        drawn.add_column(column, overflow="fold")
    for one in made:
        drawn.add_row(*cells(one))
    return drawn


def gather(records: Path, models: Sequence[str] = ()) -> Iterator[Made]:
    """
    Read what the line has left below *records*, by model and version.

    Args:
        records: The line's `results`.
        models: Which models; empty: all that are there.

    Raises:
        SourceError: If one of *models* has not been validated, there is none at all, or a record is damaged.
    """
    there = sorted({path.parent.name for path in (records / "validation").glob("*/*.json")})
    if missing := [model for model in models if model not in there]:
        raise SourceError(f"{records}: nothing was made of {missing[0]}; there are: {', '.join(there) or 'none'}")
    if not there:
        raise SourceError(f"{records}: nothing was made yet. Run `snakemake --cores all servables`.")
    seconds = {(time.stage, time.job): time.seconds for time in stage_times(records / "usage")}
    for model in models or there:
        found = [p.stem for p in (records / "validation" / model).glob("*.json") if p.stem.isdigit()]
        for version in sorted(found, key=int):
            checkpoint = CheckpointRecord.read(records / "checkpoints" / model / version / "checkpoint.json")
            export = ExportRecord.read(records / "exports" / model / f"{version}.json")
            validation = ValidationRecord.read(records / "validation" / model / f"{version}.json")
            yield Made(
                model=model,
                version=int(version),
                kind=checkpoint.kind,
                signatures=tuple(export.signatures),
                max_abs=max((parity.max_abs for parity in validation.parity if not parity.why_not), default=None),
                rows=checkpoint.golden_rows,
                accuracy=validation.accuracy,
                source_bytes=sum(entry.bytes for entry in checkpoint.tree.files.values()),
                export_bytes=sum(entry.bytes for entry in export.tree.files.values()),
                export_s=seconds.get(("export", f"{model}/{version}")),
                export_cpu_s=_cpu_s(records / "usage/export" / model / f"{version}.tsv"),
            )


def _cpu_s(usage: Path) -> float | None:
    """Read the column `cpu_time` (s) of Snakemake's benchmark file; jobs too short to be sampled have `NA` there, or 0."""
    try:
        with usage.open(encoding="utf-8", newline="") as file:
            return max(float(line["cpu_time"]) for line in csv.DictReader(file, delimiter="\t")) or None
    except (OSError, KeyError, ValueError, TypeError):
        return None


def cells(made: Made) -> list[str]:
    """Give what stands in one line of the table."""
    if made.max_abs is None:
        parity = numbers.NOT_MEASURED
    else:
        parity = f"{numbers.number(made.max_abs)} on {numbers.counted(made.rows, 'row')}"
    return [
        f"{made.model} {made.version}",
        made.kind,
        ", ".join(made.signatures),
        parity,
        numbers.percent(made.accuracy),
        numbers.size(made.source_bytes),
        numbers.size(made.export_bytes),
        numbers.duration(made.export_s),
        numbers.duration(made.export_cpu_s),
    ]


def markdown(made: Sequence[Made], where: Environment) -> str:
    """Give the table as Markdown, and below it the machine that its times are of."""
    lines = [_COLUMNS, ["---"] * len(_COLUMNS), *map(cells, made)]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    tensorflow = where.packages.get("tensorflow-cpu") or where.packages.get("tensorflow") or "none"
    machine = f"{where.cpu}, {numbers.counted(where.logical_cpus, 'logical CPU')}, TensorFlow {tensorflow}"
    return (
        f"{rows}\n\nTimes are of one run on one machine ({machine}), and include the start of TensorFlow. CPU is what the "
        "export computes; other work on the machine lengthens the wall time beside it."
    )


def between(text: str, written: str, name: str) -> str:
    """
    Put *written* between the two marks in *text*.

    Raises:
        SourceError: If *text*, which errors call *name*, has not both of them, once each and in order.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise SourceError(f"{name}: expected the lines {BEGIN} and {END}, the table goes between them.")
    return f"{head}{BEGIN}\n\n{written}\n\n{END}{tail}"
