"""Comparison -> one self-contained page, made of the report's own blocks."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from slipway import files, repetitions
from slipway.compare import described
from slipway.compare.records import ComparedCell, Comparison, MetricResult, Verdict, WindowPair
from slipway.compare.verdict import change, describe, number
from slipway.report import charts, numbers
from slipway.report.blocks import (
    Figure,
    Folded,
    Heading,
    Items,
    Panel,
    Part,
    Section,
    Table,
    TableCell,
    Tile,
    Tiles,
    VerdictBlock,
    heads,
)
from slipway.report.charts import GRPC, REST, Axis, Dot, DotRow, Style
from slipway.report.content import PROTOCOL_NAMES
from slipway.report.page import Page
from slipway.report.page import render as fill_in

# The colours of the report's own verdicts.
_COLOURS: dict[Verdict, str] = {
    "pass": "proven",
    "fail": "wrong",
    "inconclusive": "unproven",
    "invalid": "invalid",
    "wrong": "wrong",
}
_SIGNS: dict[Verdict, str] = {"pass": "✓", "fail": "✕", "inconclusive": "?", "invalid": "!", "wrong": "✕"}
_WORDS: dict[Verdict, str] = {
    "pass": "Not worse",
    "fail": "Worse",
    "inconclusive": "Inconclusive",
    "invalid": "Measurement invalid",
    "wrong": "Wrong answers",
}
_MARKS = {"pass": ("✓ pass", "ok"), "fail": ("✕ worse", "bad"), "inconclusive": ("? inconclusive", "")}
_UNDECIDED = Style("tool", "diamond", hollow=True)


@dataclass(frozen=True, slots=True)
class _Shown:
    state: str
    sign: str
    word: str
    headline: str
    sentences: tuple[str, ...]
    warnings: tuple[str, ...]


def render(comparison: Comparison) -> str:
    """Draw the page of *comparison*: the same comparison gives the same bytes."""
    data = comparison.jsonable()
    compact = json.dumps(data, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    part = Part("comparison", "Base against head", _subtitle(comparison), _sections(comparison))
    where = comparison.environment
    page = Page(
        title=f"{comparison.title} – Slipway comparison – {_WORDS[comparison.verdict]}",
        heading=comparison.title,
        meta=(
            numbers.moment(comparison.started.replace("+00:00", "Z")),
            f"{numbers.counted(where.logical_cpus, 'CPU')} · {where.cpu}",
            ", ".join(where.gpus) or "no GPU",
        ),
        state="proven",
        parts=(part,),
        navigation=tuple((section.id, section.short) for section in part.sections if section.short),
        embedded=compact,
        digest=files.sha256_bytes(files.canonical_json(data)),
        footer=f"Slipway {where.slipway} · the data lie beside this page",
        data="comparison.json",
    )
    return fill_in("report.html", page=page)


def _subtitle(comparison: Comparison) -> str:
    lengths = f"{numbers.number(comparison.window_s)} s a window"
    if comparison.open_window_s not in (None, comparison.window_s):
        lengths += f" ({numbers.number(comparison.open_window_s)} s at the offered rate)"
    return (
        f"Both servers ran at once and were loaded in turns, {lengths}, in pairs whose order is drawn anew each time."
    )


def _sections(comparison: Comparison) -> tuple[Section, ...]:
    return tuple(
        section
        for section in (
            _overview(comparison),
            _pairs(comparison),
            described.section(comparison),
            _validity(comparison),
        )
        if section
    )


# --- verdict ---------------------------------------------------------------------------------------


def _overview(comparison: Comparison) -> Section:
    shown = _Shown(
        _COLOURS[comparison.verdict],
        _SIGNS[comparison.verdict],
        _WORDS[comparison.verdict],
        _headline(comparison),
        tuple(f"{reason[0].upper()}{reason[1:]}." for reason in comparison.reasons[1:]),
        (f"It was cut short: {comparison.cut_short}.",) if comparison.cut_short else (),
    )
    figure = _changes(comparison.metrics)
    blocks = (
        VerdictBlock(shown, comparison.command, (figure,) if figure else ()),
        Tiles(tuple(map(_tile, comparison.metrics))),
        Heading("Every metric"),
        _metric_table(comparison),
        *((Items(silent),) if (silent := _silent(comparison.metrics)) else ()),
    )
    return Section("verdict", "Verdict", "Verdict", "", blocks)


def _headline(comparison: Comparison) -> str:
    first = (comparison.reasons or ["nothing was measured"])[0].rstrip(".")
    return first[0].upper() + first[1:]


def _tile(metric: MetricResult) -> Tile:
    interval = change(metric).partition(" [")[2]
    return Tile(
        numbers.change(metric.ratio) if metric.ratio else numbers.NOT_MEASURED,
        f"{metric.name}, {PROTOCOL_NAMES[metric.protocol]}",
        f"[{interval}" if interval else f"{metric.pairs} pairs",
        metric.protocol,
    )


# Beside a picture there is room for so many words.
_IN_CHART = {"cpu": "CPU / prediction", "throughput": "predictions / s", "p50": "p50 latency", "p99": "p99 latency"}


def _changes(metrics: Sequence[MetricResult]) -> Figure | None:
    shown = [metric for metric in metrics if metric.ratio is not None]
    if not shown:
        return None
    rows = [
        DotRow(
            f"{_IN_CHART.get(metric.metric, metric.name)}, {PROTOCOL_NAMES[metric.protocol]}",
            (
                Dot(
                    _good(metric, metric.ratio),
                    _style(metric),
                    *_ends(metric),
                    f"{describe(metric)}: {change(metric)}",
                ),
            ),
            numbers.change(metric.ratio or 1.0),
        )
        for metric in shown
    ]
    title = "How head stands to base"
    caption = (
        "Right of the line head is better, left of it worse: less throughput, or more CPU or time. Dots are Hodges–Lehmann "
        "estimates over pairs of windows, bars exact 95% intervals; a grey dot's interval includes no change. "
        "Numbers on the right are head against base."
    )
    drawing = charts.dot_chart(
        rows,
        Axis(
            "times as good (log)", log=True, show=lambda lead: numbers.times_tick(max(lead, 1 / lead)), at=_ticks(shown)
        ),
        reference=1.0,
        sides=("worse", "better"),
    )
    return Figure(
        "changes",
        title,
        caption,
        (Panel("changes-0", title, caption, drawing),),
        charts.marker_legend([("worse", REST), ("better", GRPC), ("not told apart", _UNDECIDED)]),
        Table(
            "Head against base",
            heads("Metric", "head ÷ base", "95% low", "95% high", "pairs"),
            tuple(
                (
                    TableCell(describe(metric)),
                    *(TableCell(numbers.ratio(value), "n") for value in (metric.ratio, metric.low, metric.high)),
                    TableCell(str(metric.pairs), "n"),
                )
                for metric in shown
            ),
        ),
    )


# Marks on both sides of no change, by the largest change: few enough to be told apart.
_TICKS = {1.1: (1.05, 1.1), 1.3: (1.1, 1.2, 1.3), 2.0: (1.25, 1.5, 2.0), 5.0: (2.0, 4.0), 20.0: (3.0, 10.0)}


def _ticks(metrics: Sequence[MetricResult]) -> tuple[float, ...]:
    ends = [end for metric in metrics for end in (_good(metric, metric.ratio), *_ends(metric)) if end]
    furthest = max(max(end, 1 / end) for end in ends)
    marks = next((marks for most, marks in _TICKS.items() if furthest <= most), (10.0, 100.0, 1000.0))
    return (*(1 / mark for mark in reversed(marks)), 1.0, *marks)


def _good(metric: MetricResult, ratio: float | None) -> float:
    assert ratio is not None
    return 1 / ratio if metric.more_is_worse else ratio


def _ends(metric: MetricResult) -> tuple[float | None, float | None]:
    if metric.low is None or metric.high is None:
        return None, None
    low, high = sorted((_good(metric, metric.low), _good(metric, metric.high)))
    return low, high


def _style(metric: MetricResult) -> Style:
    low, high = _ends(metric)
    if low is None or high is None or low <= 1 <= high:
        return _UNDECIDED
    return GRPC if low > 1 else REST


def _metric_table(comparison: Comparison) -> Table:
    rows = [
        (
            TableCell(describe(metric)),
            TableCell(number(metric.base, metric.unit), "n"),
            TableCell(number(metric.head, metric.unit), "n"),
            TableCell(change(metric), "n"),
            TableCell(numbers.percent(metric.margin), "n"),
            TableCell(str(metric.pairs), "n"),
            _state(metric.state, metric.why_not),
        )
        for metric in comparison.metrics
    ]
    rows += [
        (
            TableCell(result.name),
            TableCell(numbers.size(result.base), "n"),
            TableCell(numbers.size(result.head), "n"),
            TableCell(numbers.change(result.head / result.base), "n"),
            TableCell(numbers.percent(result.margin), "n"),
            TableCell("–", "n"),
            _state(result.state, ""),
        )
        for result in comparison.fixed
    ]
    head = ("Metric", "base", "head", "change [95%]", "margin", "pairs", "verdict")
    return Table("Every metric", heads(*head), tuple(rows))


def _silent(metrics: Sequence[MetricResult]) -> tuple[tuple[str, str], ...]:
    """Say of every metric that does not decide why not: what shows up only under a pointer is not said."""
    silent = tuple((f"{describe(metric)} does not decide", metric.why_not) for metric in metrics if metric.why_not)
    late = tuple(
        (
            f"{describe(metric)} is worse at least by that",
            f"requests left late in {metric.late} of {metric.pairs} pairs, which is taken off head's",
        )
        for metric in metrics
        if metric.late
    )
    return silent + late


def _state(state: str, why_not: str) -> TableCell:
    if why_not:
        return TableCell("does not decide", "c", full=why_not)
    text, mark = _MARKS.get(state, ("– not decided", ""))
    return TableCell(text, "c", mark)


# --- pairs -----------------------------------------------------------------------------------------


def _pairs(comparison: Comparison) -> Section | None:
    if not any(cell.pairs for cell in comparison.cells):
        return None
    blocks = tuple(
        Folded(f"{cell.id}: {numbers.counted(len(cell.pairs), 'pair')}", (_pair_table(cell),))
        for cell in comparison.cells
    )
    lead = "Every pair of windows, in the order they were measured. What the rules mean is said under Validity."
    return Section("pairs", "The pairs", "Pairs", lead, blocks)


def _pair_table(cell: ComparedCell) -> Table:
    head = ("Pair", "first", "base /s", "head /s", "base CPU", "head CPU", "base p99", "head p99", "rules broken")
    named = (*heads(*head[:-1], numbers_from=2), TableCell(head[-1]))
    return Table(cell.id, named, tuple(map(_pair_row, cell.pairs)))


def _pair_row(pair: WindowPair) -> tuple[TableCell, ...]:
    both = (pair.base, pair.head)
    named = [(name, side.invalid) for name, side in (("base", pair.base), ("head", pair.head)) if side.invalid]
    short = [f"{name} {', '.join(map(_short, rules))}" for name, rules in named]
    full = [f"{name}: {'; '.join(rules)}" for name, rules in named]
    return (
        TableCell(str(pair.index + 1)),
        TableCell(pair.first),
        *(TableCell(numbers.number(side.predictions_per_s), "n") for side in both),
        *(TableCell(numbers.microseconds(side.server_cpu_us_per_request), "n") for side in both),
        *(TableCell(numbers.microseconds(side.latency.p99_us), "n") for side in both),
        TableCell("; ".join(short) or "none", full="; ".join(full)),
    )


def _short(rule: str) -> str:
    return repetitions.SHORT.get(rule, rule)


# --- validity --------------------------------------------------------------------------------------


def _validity(comparison: Comparison) -> Section:
    broken: dict[str, int] = {}
    windows = 0
    for cell in comparison.cells:
        for pair in cell.pairs:
            for side in (pair.base, pair.head):
                windows += 1
                for rule in side.invalid:
                    broken[rule] = broken.get(rule, 0) + 1
    items = [
        (f"{_short(rule)}: {numbers.counted(count, 'window')}", rule)
        for rule, count in sorted(broken.items(), key=lambda item: (-item[1], item[0]))
    ]
    items += [(f"Not measured: {what}", why) for what, why in comparison.not_measured.items()]
    lead = (
        f"{sum(broken.values())} times a rule was broken in {numbers.counted(windows, 'window')}. A disturbed window voids "
        "throughput and latency of its pair; CPU time stays."
    )
    return Section("validity", "Validity", "Validity", lead, (Items(tuple(items)),) if items else ())
