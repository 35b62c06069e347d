"""The report of a run that was cut short: what its benchmarks had measured by then. Snakemake's `onerror` draws it."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from slipway import files, report
from slipway.errors import SlipwayError
from slipway.report.gather import FAILED_SUFFIX, gather


def draw_unfinished(
    models: Mapping[str, Sequence[int]],
    benchmarked: Mapping[str, Sequence[int]],
    title: str,
    since: float,
    records: Path = Path("results"),
) -> None:
    """
    Draw what benchmarks below *records* left that were cut short, into `unfinished` there, and say so; nothing if none was.

    Args:
        models: Name -> versions.
        benchmarked: Name -> versions that are measured.
        title: Of the report.
        since: Seconds since the epoch: what was left before is of another run.
        records: The workflow's results.
    """
    left = [
        records / "benchmarks" / name / str(version) / f"benchmark{FAILED_SUFFIX}"
        for name, versions in benchmarked.items()
        for version in versions
    ]
    out = records / "unfinished"
    try:
        if not any(path.exists() and path.stat().st_mtime >= since for path in left):
            return
        result = gather(
            records, models, benchmarked, title=f"{title} (cut short)", usage=None, partial=True, since=since
        )
        with files.new_directory(out) as directory:
            report.write_report(result, directory, records / "api")
    except (SlipwayError, OSError) as error:
        sys.stderr.write(f"No report of what was measured until then: {error}\n")
        return
    sys.stderr.write(f"What was measured until then: {out / 'index.html'}\n")
