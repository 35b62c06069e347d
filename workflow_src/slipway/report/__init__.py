"""Draw the report from what was measured: result.json, index.html, summary.md, cells.csv, junit.xml and badge.svg in one directory."""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from slipway import files
from slipway.arguments import section
from slipway.errors import SettingsError
from slipway.prices import Prices
from slipway.records import Result, TargetResult
from slipway.report import annotations
from slipway.report.badge import BADGE_FILE, badge_svg
from slipway.report.cells import cells_csv
from slipway.report.gather import gather
from slipway.report.junit import junit_xml
from slipway.report.page import render_report, result_bytes
from slipway.report.summary import summary_markdown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where the records are and where the report goes."""
    parser.add_argument("--from", type=Path, dest="source", metavar="FILE", help="draw this result.json again")
    parser.add_argument("--title", default="Slipway", help="title of the page")
    parser.add_argument("--records", type=Path, default=Path("results"), metavar="DIR", help="records of all stages")
    parser.add_argument("--model", nargs="+", default=[], metavar="NAME=V1,V2", help="models and their versions")
    parser.add_argument("--benchmarked", nargs="+", default=[], metavar="NAME=V", help="versions that were measured")
    parser.add_argument(
        "--partial", action="store_true", help="of a run that was cut short: draw what was measured until then"
    )
    parser.add_argument("--usage", type=Path, metavar="DIR", help="Snakemake's benchmark files: stage/job.tsv")
    parser.add_argument("--prices", default="null", metavar="JSON", help="report.prices of the settings, as JSON")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets the report, whole")


def run(arguments: argparse.Namespace) -> None:
    """Gather the records (or read a result again) and draw the report."""
    if arguments.source and is_of_target(arguments.source):
        from slipway.bench import page  # noqa: PLC0415 - it draws with this package

        seen = TargetResult.read(arguments.source)
        with files.new_directory(arguments.out) as directory:
            page.write(seen, directory)
        return
    if arguments.source:
        result = Result.read(arguments.source)
    elif arguments.model:
        models = parse_versions(arguments.model, "--model")
        benchmarked = parse_versions(arguments.benchmarked, "--benchmarked")
        if unknown := sorted(benchmarked.keys() - models.keys()):
            raise SettingsError(f"--benchmarked: no model {unknown[0]}; there are: {', '.join(models)}")
        result = gather(
            arguments.records,
            models,
            benchmarked,
            title=arguments.title,
            usage=arguments.usage,
            prices=read_prices(arguments.prices),
            partial=arguments.partial,
        )
    else:
        raise SettingsError("nothing to draw: give --model NAME=V1,V2 with --benchmarked NAME=V, or --from result.json")
    # Beside a result that is drawn again lie the files of its report, beside the records those of the line.
    api = (arguments.source.parent if arguments.source else arguments.records) / "api"
    with files.new_directory(arguments.out) as directory:
        write_report(result, directory, api)
    if annotations.is_github():
        sys.stdout.write(annotations.of_result(result))


def write_report(result: Result, directory: Path, api: Path) -> None:
    """
    Write the report of *result* into *directory*: the same result, the same bytes.

    Args:
        result: What is drawn.
        directory: Gets the files.
        api: Has a directory for each model with the files of its ApiRecord.

    Raises:
        SourceError: If those files are missing or have changed.
    """
    for model in result.models:
        if model.api:
            model.api.tree.verify(api / model.api.model)
            for name, source in files.tree_files(api / model.api.model).items():
                copy = directory / "api" / model.api.model / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)
    files.write_bytes(directory / "result.json", result_bytes(result))
    files.write_text(directory / "index.html", render_report(result))
    files.write_text(directory / "summary.md", summary_markdown(result))
    files.write_text(directory / "cells.csv", cells_csv(result))
    files.write_text(directory / "junit.xml", junit_xml(result))
    files.write_text(directory / BADGE_FILE, badge_svg(result))


def read_prices(text: str) -> Prices | None:
    """Read `report.prices` of the settings, or raise SettingsError with one line per fault."""
    return None if text == "null" else section(Prices, text, "report.prices")


def is_of_target(path: Path) -> bool:
    """Say whether *path* is a result of `slipway bench`; whatever else it is, its reader will tell."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and str(document.get("schema", "")).startswith("slipway.bench/")


def parse_versions(words: Sequence[str], option: str) -> dict[str, list[int]]:
    """Read `NAME=V1,V2` words; a name that comes twice gathers its versions."""
    found: dict[str, list[int]] = {}
    for word in words:
        name, _, versions = word.partition("=")
        parts = versions.split(",")
        if not name or not all(part.isascii() and part.isdigit() for part in parts):
            raise SettingsError(f"{option}: expected NAME=V1,V2 such as digits=1,2, got {word!r}")
        found.setdefault(name, []).extend(int(part) for part in parts)
    return found
