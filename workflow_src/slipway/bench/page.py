"""TargetResult -> one self-contained page, made of the report's own sections; and a table for the terminal."""

import json
from dataclasses import dataclass
from pathlib import Path

from slipway import files
from slipway.records import BenchmarkRecord, ScenarioRecord, TargetResult
from slipway.report import charts, numbers, sections
from slipway.report.advice import advice
from slipway.report.blocks import Heading, Items, Link, Links, Part, Section, Tile, Tiles, VerdictBlock
from slipway.report.cells import csv_of
from slipway.report.content import PROTOCOL_NAMES, PROTOCOLS, CellSummary, Loads, loads
from slipway.report.page import Page, page_meta, render
from slipway.report.sections.figures import untrusted
from slipway.report.sections.scenarios import shown
from slipway.report.verdict import MOST_INVALID, State, fault_lines, not_counted_lines
from slipway.statistics import Estimate

_FILES = (
    Link("result.json", "result.json", "everything on this page was drawn from this file"),
    Link("cells.csv", "cells.csv", "one line per repetition"),
)


@dataclass(frozen=True, slots=True)
class Found:
    """What a run came to, as the page shows it first."""

    state: State
    sign: str
    word: str
    headline: str
    sentences: tuple[str, ...]
    warnings: tuple[str, ...]


def judge(seen: Loads) -> Found:
    """Say in a sentence what was found, and whether it counts."""
    record = seen.record
    faults = fault_lines(record)
    without_finding = tuple(f"Without a finding: {line}." for line in not_counted_lines(record))
    warnings = (*(f"{fault}." for fault in faults), *without_finding)
    sentence = (f"{numbers.integer(seen.checked_answers)} answers under load were held against what was expected.",)
    if record.cut_short:
        return Found("invalid", "!", "Cut short", record.cut_short.splitlines()[0].rstrip("."), sentence, warnings)
    if faults:
        return Found("faulty", "✕", "The server is at fault", faults[0], sentence, warnings[1:])
    if why := why_invalid(seen):
        sentences = (*sentence, *advice(seen.broken, MOST_INVALID * seen.repetitions))
        return Found("invalid", "!", "Measurement invalid", f"{why[0].upper()}{why[1:]}", sentences, warnings)
    peaks = [
        f"{PROTOCOL_NAMES[p]} up to {numbers.number(peak.predictions_per_s.value)} predictions/s"
        for p in PROTOCOLS
        if (peak := seen.peak(p)) and peak.predictions_per_s
    ]
    told = ", ".join(peaks) or numbers.counted(len(_counting(record)), "scenario")
    headline = f"{told}; every checked answer was right"
    if any(one.invalid and not one.is_untried for one in record.scenarios):
        return Found("unproven", "?", "Measured in part", headline, sentence, warnings)
    return Found("proven", "✓", "Measured", headline, sentence, warnings)


def why_invalid(seen: Loads) -> str:
    """
    Say why the whole does not count; empty if it does.

    A scenario that does not count voids itself: the numbers of loads and of other scenarios are as good as without it.
    """
    if seen.repetitions and seen.invalid > MOST_INVALID * seen.repetitions:
        rule, count = next(iter(seen.broken.items()))
        return f"{seen.invalid} of {numbers.counted(seen.repetitions, 'window')} broke a rule, {count} of them: {rule}"
    if not seen.cells and seen.record.scenarios and not _counting(seen.record):
        return f"no scenario counts: {not_counted_lines(seen.record)[0]}"
    return ""


def _counting(record: BenchmarkRecord) -> list[ScenarioRecord]:
    return [one for one in record.scenarios if not one.invalid]


def render_page(result: TargetResult) -> str:
    """Draw the page: the same result, the same bytes."""
    seen = loads(result.benchmark)
    data = result.model_dump(mode="json")
    found = judge(seen)
    compact = json.dumps(data, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    part = Part(
        id=seen.anchor,
        title=f"{result.benchmark.model}, version {result.benchmark.version}",
        subtitle=_subtitle(result),
        sections=(_overview(seen, found, result), *sections.of_target(seen), _data(result)),
    )
    return render(
        "report.html",
        page=Page(
            title=f"{result.title} – Slipway – {found.word}",
            heading=result.title,
            meta=page_meta(result.created, result.environment),
            state=found.state,
            parts=(part,),
            navigation=tuple((section.id, section.short) for section in part.sections if section.short),
            embedded=compact if len(compact) <= 600_000 else "",
            digest=files.sha256_bytes(result_bytes(result)),
            footer=f"Slipway {result.environment.slipway} · run {result.run_id}",
        ),
    )


def write(result: TargetResult, directory: Path) -> None:
    """Write result.json, index.html and cells.csv into *directory*: the same result, the same bytes."""
    files.write_bytes(directory / "result.json", result_bytes(result))
    files.write_text(directory / "index.html", render_page(result))
    files.write_text(directory / "cells.csv", csv_of([result.benchmark]))


def result_bytes(result: TargetResult) -> bytes:
    """Write *result* as it stands in result.json."""
    return files.canonical_json(result.model_dump(mode="json"))


def _subtitle(result: TargetResult) -> str:
    target = result.benchmark.target
    assert target is not None  # `slipway bench` wrote it
    places = ", ".join(f"{PROTOCOL_NAMES[p]} at {target.addresses[p]}" for p in PROTOCOLS if p in target.addresses)
    return f"A server that was running already: {places}. Requests: {target.payload}."


def _overview(seen: Loads, found: Found, result: TargetResult) -> Section:
    tiles = []
    for protocol in PROTOCOLS:
        peak = seen.peak(protocol)
        if peak and peak.predictions_per_s:
            name = PROTOCOL_NAMES[protocol]
            tiles.append(
                Tile(
                    numbers.number(peak.predictions_per_s.value),
                    f"predictions/s over {name}, at its peak",
                    "",
                    protocol,
                )
            )
            if peak.p99_us:
                tiles.append(Tile(numbers.microseconds(peak.p99_us.value), f"p99 over {name}, there", "", protocol))
    blocks = (VerdictBlock(found, result.command, ()), *((Tiles(tuple(tiles)),) if tiles else ()))
    return Section("verdict", "Verdict", "Verdict", "", blocks)


def _data(result: TargetResult) -> Section:
    record, where = result.benchmark, result.environment
    target = record.target
    assert target is not None  # `slipway bench` wrote it
    versions = ", ".join(f"{v}: {state}" for v, state in sorted((target.versions or {}).items()))
    facts = (
        ("Versions", versions or "the server does not say"),
        ("Signature", f"{target.signature.name}, called by {target.method}"),
        *((("Asked by label", target.label),) if target.label else ()),
        ("TLS", "; ".join(f"{PROTOCOL_NAMES[p]}: {target.tls[p]}" for p in PROTOCOLS if p in target.tls) or "none"),
        ("Load generator's machine", f"{where.cpu}, {numbers.counted(where.logical_cpus, 'CPU')}, {where.kernel}"),
        ("Load generator", numbers.counted(record.placement.generator_processes, "process", "processes")),
        ("Began", f"{record.started}, took {numbers.duration(record.duration_s)}, seed {record.seed}"),
        ("Slipway", where.slipway),
    )
    missing = tuple(sorted(record.not_measured.items()))
    blocks = (
        Links(_FILES),
        Items(facts),
        *((Heading("Not measured in this run"), Items(missing)) if missing else ()),
    )
    return Section("data", "Data, and what is not in them", "Data", "", blocks)


# --- the terminal ----------------------------------------------------------------------------------


def text_table(result: TargetResult) -> str:
    """Write the numbers as plain lines: a table of the standard loads, then each scenario's numbers."""
    seen = loads(result.benchmark)
    lines = []
    if seen.cells:
        rows = [("load", "protocol", "requests/s", "p50", "p99", "counts")]
        rows += [
            (
                level.name,
                cell.name,
                _plain(cell, "throughput_rps", numbers.number),
                _plain(cell, "p50_us", numbers.microseconds),
                _plain(cell, "p99_us", numbers.microseconds),
                f"{cell.valid} of {len(cell.cell.repetitions)}",
            )
            for level in seen.levels
            for protocol in PROTOCOLS
            if (cell := level.cells.get(protocol))
        ]
        widths = [max(len(line[place]) for line in rows) for place in range(len(rows[0]))]
        lines += [
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in rows
        ]
    for scenario in result.benchmark.scenarios:
        lines += ["", f"{scenario.name}:"]
        for value in scenario.values:
            who = f"{PROTOCOL_NAMES[value.protocol]} " if value.protocol else ""
            step = f" ({value.label})" if value.label else ""
            lines.append(f"  {who}{value.name}{step}: {shown(value)}")
        lines += [f"  fault: {fault}" for fault in scenario.faults]
        # What was not tried says so itself.
        lines += [f"  {'' if scenario.is_untried else 'does not count: '}{why}" for why in scenario.invalid]
    return "\n".join(lines) + "\n"


def _plain(cell: CellSummary, metric: str, show: charts.Show) -> str:
    """Show a median; in parentheses one of windows that do not count."""
    estimate: Estimate | None = getattr(cell, metric) if cell.trusted else untrusted(cell, metric)
    if estimate is None:
        return numbers.NOT_MEASURED
    return show(estimate.value) if cell.trusted else f"({show(estimate.value)})"
