"""summary.md: the verdict in a few lines, for a pull request's comment or a CI step summary."""

import re

from slipway.records import Result
from slipway.report import numbers
from slipway.report.content import PROTOCOLS, CellSummary, Measurement, measurements
from slipway.report.verdict import State, judge

# GitHub takes 65 536 characters in a comment; nobody reads more than a screen.
MOST_LINES = 60
_EMOJI: dict[State, str] = {
    "proven": "✅",
    "unproven": "❔",
    "unisolated": "⚠️",
    "invalid": "⚠️",
    "faulty": "❌",
    "wrong": "❌",
}


def summary_markdown(result: Result) -> str:
    """
    Write the summary.

    Returns:
        Markdown of at most MOST_LINES lines. Its first line is a hidden marker by which the next run finds
        the comment that it replaces.
    """
    measured = measurements(result)
    names = ",".join(model.model for model in result.models)
    lines = [f"<!-- slipway:{_comment(names)} -->"]
    for shown, measurement in enumerate(measured):
        section = _measurement(measurement)
        if len(lines) + len(section) > MOST_LINES - 16:
            left = len(measured) - shown
            lines += ["", f"{numbers.counted(left, 'more measurement')} in the full report."]
            break
        lines += section
    lines += _provenance(result)
    lines += [
        "",
        f"Run `{_code(result.run_id)}` · the full report is `index.html` · redo it: `{_code(result.command)}`",
    ]
    return "\n".join(lines) + "\n"


def _measurement(measurement: Measurement) -> list[str]:
    verdict = judge(measurement)
    name = f"{measurement.model.model}, version {measurement.version.version}"
    lines = [
        f"### {_EMOJI[verdict.state]} {verdict.word}: {_text(name)}",
        f"**{_text(verdict.headline)}.**",
        *(f"> **Warning.** {_text(warning)}" for warning in verdict.warnings),
        *((_text(" ".join(verdict.sentences)),) if verdict.sentences else ()),
        "",
        "| | REST | gRPC |",
        "|---|--:|--:|",
    ]
    lines += [f"| {what} | {rest} | {grpc} |" for what, rest, grpc in _rows(measurement)]
    return [*lines, ""]


def _rows(measurement: Measurement) -> list[tuple[str, str, str]]:
    rows = []
    peaks = {p: measurement.peak(p) for p in PROTOCOLS}
    rows.append(("predictions/s at its best load", *(_peak(peaks[p]) for p in PROTOCOLS)))
    for level in [measurement.rated] if measurement.rated else []:
        for metric, name in (("p50_us", "p50"), ("p99_us", "p99")):
            values = (_estimate(level.cells.get(p), metric) for p in PROTOCOLS)
            rows.append((f"{name} at {numbers.number(level.load.rate)} requests/s", *values))
    rows.append(("server CPU per request", *(_estimate(peaks[p], "server_cpu_us") for p in PROTOCOLS)))
    answers = {a.protocol: a.accuracy for a in measurement.answers}
    rows.append(("accuracy through the endpoint", *(numbers.percent(answers.get(p)) for p in PROTOCOLS)))
    return [(what, rest, grpc) for what, rest, grpc in rows if {rest, grpc} != {numbers.NOT_MEASURED}]


def _peak(cell: CellSummary | None) -> str:
    if cell is None or cell.predictions_per_s is None:
        return numbers.NOT_MEASURED
    return f"{numbers.with_interval(cell.predictions_per_s)} ({cell.cell.load.concurrency} in flight)"


def _estimate(cell: CellSummary | None, metric: str) -> str:
    return numbers.with_interval(getattr(cell, metric), numbers.microseconds) if cell else numbers.NOT_MEASURED


def _provenance(result: Result) -> list[str]:
    where = result.environment
    lines = ["<details><summary>Provenance, environment, validity</summary>", "", "| | |", "|---|---|"]
    for model in result.models[:3]:
        newest = max(model.versions, key=lambda version: version.version)
        lines += [
            f"| checkpoint of {_text(model.model)} {newest.version} | `{numbers.short_digest(newest.checkpoint.tree.digest)}` |",
            f"| servable | `{numbers.short_digest(newest.servable.tree.digest)}` |",
            f"| image, {numbers.size(model.image.bytes)} | `{numbers.short_digest(model.image.image_id)}` |",
        ]
    broken = [(m.invalid, m.repetitions) for m in measurements(result)]
    commit = where.commit[:10] if where.commit else "none"
    lines += [
        f"| machine | {_text(where.cpu)}, {numbers.counted(where.logical_cpus, 'CPU')}, {_text(', '.join(where.gpus) or 'no GPU')} |",
        f"| commit | `{commit}`{' with uncommitted changes' if where.dirty else ''} |",
        f"| repetitions that broke a rule | {sum(b for b, _ in broken)} of {sum(n for _, n in broken)} |",
        "",
        "</details>",
    ]
    return lines


def _text(text: str) -> str:
    """Escape what Markdown or HTML would take for markup, and keep it on one line."""
    escaped = re.sub(r"([\\`*_\[\]|#~])", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _code(text: str) -> str:
    return " ".join(text.replace("`", "'").split())


def _comment(text: str) -> str:
    """Keep a name from ending the comment that it stands in."""
    return re.sub(r"[^A-Za-z0-9_,.-]|--+", "-", text)
