"""Two stored results beside each other: told, never judged, and only if their numbers mean the same."""

from pathlib import Path

from slipway.errors import SourceError
from slipway.records import Result
from slipway.report import history, numbers
from slipway.report.content import PROTOCOL_NAMES, PROTOCOLS
from slipway.report.runs import RunEntry, run_entry


def compare(base: Path, head: Path) -> str:
    """
    Put the key numbers of two results into a table.

    Returns:
        Markdown.

    Raises:
        SourceError: One cannot be read or was cut short, or they differ in a fact that numbers depend on; it names the
            fact and both values.
    """
    read = {path: Result.read(path) for path in (base, head)}
    for path, result in read.items():
        for record in (record for model in result.models for record in model.benchmarks if record.cut_short):
            reason = record.cut_short.splitlines()[0].rstrip(".")
            raise SourceError(
                f"{path}: its numbers are not those of a whole run: {record.model} was cut short: {reason}."
            )
    entries = {path: run_entry(result, result.run_id, "sha256:" + "0" * 64) for path, result in read.items()}
    runs = {path: _only(entry, path) for path, entry in entries.items()}
    one, other = runs[base], runs[head]
    if one.measured.model != other.measured.model:
        raise SourceError(
            f"{base} and {head} cannot be compared: model: {one.measured.model} in base, {other.measured.model} in head"
        )
    if differing := history.differing(one.measured.facts, other.measured.facts):
        told = "; ".join(f"{fact}: {mine} in base, {theirs} in head" for fact, mine, theirs in differing)
        raise SourceError(f"{base} and {head} cannot be compared: {told}")
    lines = [
        f"{one.measured.model}: run {one.entry.run_id} (base) and {other.entry.run_id} (head).",
        "",
        "| metric | base | head | change |",
        "|---|--:|--:|--:|",
    ]
    for metric in history.METRICS:
        for protocol in PROTOCOLS if metric.by_protocol else (None,):
            before, after = (history.value(run, metric, protocol) for run in (one, other))
            name = metric.name + (f", {PROTOCOL_NAMES[protocol]}" if protocol else "")
            change = numbers.change(after / before) if before and after else numbers.NOT_MEASURED
            lines.append(f"| {name} | {metric.show(before)} | {metric.show(after)} | {change} |")
    mine, theirs = (run.measured.origin.get("thread plan") for run in (one, other))
    if mine and theirs and mine != theirs:
        lines += ["", f"Thread plan: base has {mine}, head {theirs}: part of a change may be that."]
    lines += [
        "",
        "No verdict: these are numbers of different hours. `slipway compare --base RESULT --head .` measures both side by side.",
    ]
    return "\n".join(lines) + "\n"


def _only(entry: RunEntry, path: Path) -> history.Run:
    if not entry.measured:
        raise SourceError(f"{path}: nothing was measured in it")
    return history.Run(entry, max(entry.measured, key=lambda measured: measured.version))
