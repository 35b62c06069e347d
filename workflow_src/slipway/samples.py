"""Write raw samples as CSV, a line for each request: `slipway samples published/RUN/samples > samples.csv`."""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from slipway.errors import SourceError
from slipway.repetitions import in_window
from slipway_wire import samples

COLUMNS = ("file", "in_window", "planned_us", "slip_us", "service_us", "failed")
_SUFFIX = ".npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is read."""
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="PATH", help="a sample file (.npz), or a directory with some below it"
    )


def run(arguments: argparse.Namespace) -> None:
    """Write all samples to standard output, file after file."""
    write_csv(sample_files(arguments.files), sys.stdout)


def sample_files(paths: Sequence[Path]) -> list[Path]:
    """
    Find the sample files that *paths* name, in the order of their names below each.

    Raises:
        SourceError: There is none in one of them.
    """
    found: list[Path] = []
    for path in paths:
        below = sorted(path.rglob(f"*{_SUFFIX}")) if path.is_dir() else [path]
        if not below:
            raise SourceError(f"{path}: no sample file (*{_SUFFIX}) is in it. The benchmark writes them.")
        found += below
    return found


def write_csv(found: Sequence[Path], out: TextIO) -> None:
    """
    Write the samples of *found* as CSV (RFC 4180, but with line feeds); one file is in memory at a time.

    Raises:
        SourceError: A file is missing or is none of samples.
    """
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for path in found:
        try:
            read = samples.read(path)
        except FileNotFoundError as error:
            raise SourceError(f"{path}: not there") from error
        except ValueError as error:
            raise SourceError(str(error)) from error
        columns = (in_window(read), read.planned_us, read.slip_us, read.service_us, read.failed)
        rows = zip(*(column.astype(int).tolist() for column in columns), strict=True)
        writer.writerows((path.name, *row) for row in rows)
