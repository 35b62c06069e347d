"""Keep a report and its data under its run id, whole, and list it in the index of all runs."""

import argparse
import contextlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from slipway import files
from slipway.baseline import CONTRACTS
from slipway.errors import SourceError, StorageError
from slipway.locks import waiting_lock
from slipway.records import Result
from slipway.report.badge import BADGE_FILE, badge_svg
from slipway.report.index import render_index, runs_csv
from slipway.report.runs import RunEntry, RunIndex, run_entry

# What a report consists of; the samples lie beside it.
REPORT_FILES = ("result.json", "index.html", "summary.md", "cells.csv", "junit.xml", BADGE_FILE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is kept, and where."""
    parser.add_argument("--report", type=Path, required=True, metavar="DIR", help="what `slipway report` wrote")
    parser.add_argument(
        "--samples", type=Path, nargs="*", default=[], metavar="DIR", help="raw samples: …/MODEL/VERSION/samples"
    )
    parser.add_argument(
        "--directory", type=Path, default=Path("published"), metavar="DIR", help="gets one folder per run"
    )


def run(arguments: argparse.Namespace) -> None:
    """Keep the run, then write the index again."""
    result = Result.read(arguments.report / "result.json")
    directory: Path = arguments.directory
    with files.readable_disk_faults(directory), waiting_lock(directory / ".lock", _say_who):
        files.remove_partials(directory)
        keep(result, arguments.report, arguments.samples, directory / result.run_id)
        write_index(directory)


def _say_who(holder: str) -> None:
    sys.stderr.write(f"slipway publish: waiting for another publish (process {holder}) to end\n")


def keep(result: Result, report: Path, samples: Sequence[Path], target: Path) -> None:
    """
    Copy *report* and *samples* to *target*, whole or not at all.

    A run that is there already stays as it is, or gets its pages drawn again by this version of Slipway;
    what was measured never changes under the same run id.

    Raises:
        StorageError: If *target* holds other measurements.
        SourceError: If a file of the report is missing.
    """
    wanted = _contents(report, samples)
    contracts = _contracts(result)
    if target.exists():
        _refuse_other_data(result, wanted, target)
        of_contracts = {name: files.sha256_bytes(content) for name, content in contracts.items()}
        if _digests(wanted) | of_contracts == _digests(files.tree_files(target)):
            return
    with files.new_directory(target) as directory:
        for name, source in wanted.items():
            copy = directory / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
        for name, content in contracts.items():
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_bytes(content)


def _contracts(result: Result) -> dict[str, bytes]:
    """Give the contract of each model, for the next one to be compared with: path below the run's folder -> JSON."""
    newest = {model.model: max(model.versions, key=lambda version: version.version) for model in result.models}
    return {
        f"{CONTRACTS}/{model}.json": files.canonical_json(version.validation.contract)
        for model, version in newest.items()
        if version.validation.contract is not None
    }


def _contents(report: Path, samples: Sequence[Path]) -> dict[str, Path]:
    """Name all files of a run: path below its folder -> where it lies now."""
    for name in REPORT_FILES:
        if not (report / name).is_file():
            raise SourceError(f"{report / name}: not there. Run `slipway report`, or `snakemake --cores all`.")
    contents = {name: report / name for name in REPORT_FILES}
    contents |= {f"api/{name}": path for name, path in files.tree_files(report / "api").items()}
    for directory in samples:
        if not directory.is_dir():
            raise SourceError(f"{directory}: no directory of samples. Run the benchmark that writes it.")
        # …/MODEL/VERSION/samples
        place = "/".join(("samples", *directory.parts[-3:-1]))
        for name, path in files.tree_files(directory).items():
            if f"{place}/{name}" in contents:
                raise SourceError(f"{directory}: samples of {'/'.join(directory.parts[-3:-1])} are given twice")
            contents[f"{place}/{name}"] = path
    return dict(sorted(contents.items()))


def _digests(contents: dict[str, Path]) -> dict[str, str]:
    return {name: files.sha256_file(path) for name, path in contents.items()}


def _refuse_other_data(result: Result, wanted: dict[str, Path], target: Path) -> None:
    kept = files.tree_files(target)
    if Result.read(target / "result.json").models != result.models:
        raise StorageError(f"{target}: holds other measurements under this run id. Move it away, or publish elsewhere.")
    for name in sorted(name for name in wanted.keys() | kept.keys() if name.startswith("samples/")):
        same = name in wanted and name in kept and files.sha256_file(wanted[name]) == files.sha256_file(kept[name])
        if not same:
            how = "differs from" if name in wanted and name in kept else "is not in both this run and"
            raise StorageError(
                f"{name} {how} what {target} holds under this run id. Move it away, or publish elsewhere."
            )


# --- index -----------------------------------------------------------------------------------------


def write_index(directory: Path) -> None:
    """Write runs.json, runs.csv, index.html and the newest run's badge from the runs that *directory* holds, each in one step."""
    entries = sorted(_entries(directory), key=lambda entry: (entry.created, entry.run_id), reverse=True)
    newest = Result.read(directory / entries[0].run_id / "result.json") if entries else None
    files.write_bytes(directory / "runs.json", files.canonical_json(RunIndex(runs=entries).jsonable()))
    files.write_text(directory / "runs.csv", runs_csv(entries))
    if newest:
        files.write_text(directory / "index.html", render_index(newest, entries))
        # A README that shows this address shows the newest run.
        files.write_text(directory / BADGE_FILE, badge_svg(newest))


def _entries(directory: Path) -> Iterator[RunEntry]:
    """One entry for each run that is there; those listed already are not read again."""
    listed: dict[str, RunEntry] = {}
    # A damaged list is made anew: the runs themselves are what counts.
    with contextlib.suppress(SourceError):
        listed = {entry.run_id: entry for entry in RunIndex.read(directory / "runs.json").runs}
    for path in sorted(directory.glob("*/result.json")):
        run_id, digest = path.parent.name, files.sha256_file(path)
        if run_id in listed and listed[run_id].result_digest == digest:
            yield listed[run_id]
            continue
        try:
            yield run_entry(Result.read(path), run_id, digest)
        except SourceError as error:
            # One old or damaged run must not keep all later ones out.
            sys.stderr.write(f"slipway publish: left out of the index: {error}\n")
