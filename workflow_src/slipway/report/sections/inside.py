"""Inside the server: where a request spends its time, batches, CPU."""

from collections.abc import Sequence

from slipway.report import charts, content, numbers
from slipway.report.blocks import (
    Figure,
    Pair,
    Section,
    Table,
    heads,
    row,
)
from slipway.report.charts import PROTOCOL_STYLES, Axis, Bar, Segment, Style
from slipway.report.content import PROTOCOL_NAMES, PROTOCOLS, Level, Loads
from slipway.report.sections.figures import bars_table, identifier, measured_figure


def inside(measurement: Loads) -> Section | None:
    """Write what the server tells of itself; None if it told nothing."""
    figures = (*_stages_figures(measurement), _batch_figure(measurement), _cpu_figure(measurement))
    drawn = tuple(figure for figure in figures if figure)
    if not drawn:
        return None
    return Section(
        id=identifier(measurement, "server"),
        title="Inside the server",
        short="Server",
        lead="",
        blocks=(Pair(drawn),),
    )


_REMAINDER = "client, wire, scheduling"
# The server's words -> what the page says.
_STAGE_NAMES = {
    "batch_wait": "wait for a batch to fill",
    "queue": "wait for a thread",
    "compute": "compute (the whole batch)",
}
# Where the server does not tell the two apart: it is an older one, or it never holds a batch back.
_QUEUE_ALONE = "wait for a batch and a thread"


def _stages_figures(measurement: Loads) -> list[Figure | None]:
    """Draw the lightest load, where nothing queues, and the one that the headline is about, where most does."""
    told = [level for level in measurement.closed if any(map(content.stages, level.cells.values()))]
    busiest = [level for level in told if level is measurement.headline]
    return [
        _stages_figure(measurement, level, f"stages{'-peak' * place}")
        for place, level in enumerate([*told[:1], *(level for level in busiest if level is not told[0])])
    ]


def _stage_name(stage: str, found: dict[str, float]) -> str:
    if stage == "queue" and "batch_wait" not in found:
        return _QUEUE_ALONE
    return _STAGE_NAMES.get(stage, stage)


def _stages_figure(measurement: Loads, level: Level, name_of_figure: str) -> Figure | None:
    """A request's mean latency, split by the server's own clocks; what they do not explain is a part of its own."""
    bars, names = [], dict[str, Style]()
    for protocol in PROTOCOLS:
        cell = level.cells.get(protocol)
        found = content.stages(cell) if cell else {}
        if cell is None or cell.mean_us is None or not found:
            continue
        segments = [
            Segment(
                shown,
                us,
                names.setdefault(shown, charts.CATEGORIES[1 + len(names) % (len(charts.CATEGORIES) - 1)]),
            )
            for name, us in found.items()
            for shown in (_stage_name(name, found),)
        ]
        rest = max(cell.mean_us.value - sum(found.values()), 0.0)
        segments.append(Segment(_REMAINDER, rest, charts.CATEGORIES[0]))
        bars.append(Bar(PROTOCOL_NAMES[protocol], tuple(segments), numbers.microseconds(cell.mean_us.value)))
    if not bars:
        return None
    return measured_figure(
        measurement,
        name_of_figure,
        f"Where a request spends its time, at {level.name}",
        "Mean time per request by stage, as the server's own clocks tell it; the grey remainder is what they do not see: "
        "the client, the wire, and waiting for a turn.",
        [("", charts.bar_chart(bars, Axis("µs")))],
        charts.fill_legend([*names.items(), (_REMAINDER, charts.CATEGORIES[0])]),
        bars_table("Time by stage", bars, "µs"),
    )


def _batch_figure(measurement: Loads) -> Figure | None:
    level = measurement.headline
    if level is None:
        return None
    found = {p: content.batch_sizes(level.cells[p]) for p in PROTOCOLS}
    if not any(found.values()):
        return None
    ranges = _ranges(sorted({size for sizes in found.values() for size in sizes}))
    series = [
        charts.Columns(PROTOCOL_NAMES[p], PROTOCOL_STYLES[p], tuple(_share(sizes, low, high) for low, high in ranges))
        for p, sizes in found.items()
    ]
    names = [str(low) if low == high else f"{low}–{high}" for low, high in ranges]
    means = ", ".join(
        f"{sum(s * n for s, n in sizes.items()) / sum(sizes.values()):.1f} rows over {PROTOCOL_NAMES[p]}"
        for p, sizes in found.items()
        if sizes
    )
    table = Table(
        "Batches by size",
        heads("Rows in batch", *(f"{PROTOCOL_NAMES[p]} batches" for p in found)),
        tuple(
            row(
                name,
                *(numbers.integer(sum(n for s, n in sizes.items() if low <= s <= high)) for sizes in found.values()),
            )
            for name, (low, high) in zip(names, ranges, strict=True)
        ),
    )
    return measured_figure(
        measurement,
        "batches",
        f"Batches that the server put together, at {level.name}",
        f"Share of executed batches by their rows, before padding; on average {means}.{_released(level)}",
        [("", charts.column_chart(names, series, "rows in batch", Axis("% of batches")))],
        charts.fill_legend([(PROTOCOL_NAMES[p], PROTOCOL_STYLES[p]) for p in PROTOCOLS]),
        table,
    )


# The server's word for why a batch left -> what it means.
_REASONS = {
    "full": "because they were full",
    "timeout": "because their oldest request had waited long enough",
    "free": "because a thread was free",
    "rerun": "again in parts, after a failure",
}


def _released(level: Level) -> str:
    """Say why batches left the queue; "" if the server does not tell."""
    told = []
    for protocol in PROTOCOLS:
        reasons = content.batch_reasons(level.cells[protocol])
        if total := sum(reasons.values()):
            shares = ", ".join(
                f"{numbers.percent(count / total, 2)} {_REASONS.get(why, why)}" for why, count in reasons.items()
            )
            told.append(f"over {PROTOCOL_NAMES[protocol]} {shares}")
    return f" They were released: {'; '.join(told)}." if told else ""


def _share(sizes: dict[int, int], low: int, high: int) -> float:
    total = sum(sizes.values())
    return 100 * sum(count for size, count in sizes.items() if low <= size <= high) / total if total else 0.0


def _ranges(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Take each size by itself while they are few, else ranges that end at powers of two: 1, 2, 3–4, 5–8, …."""
    if len(sizes) <= 10:
        return [(size, size) for size in sizes]
    ranges = [(1, 1)]
    while ranges[-1][1] < sizes[-1]:
        ranges.append((ranges[-1][1] + 1, ranges[-1][1] * 2))
    return ranges


def _cpu_figure(measurement: Loads) -> Figure | None:
    bars, cells = [], []
    for level in measurement.closed:
        for protocol in PROTOCOLS:
            cell = level.cells.get(protocol)
            if cell is None or cell.server_cpu_us is None:
                continue
            cells.append(cell)
            bars.append(
                Bar(
                    f"{cell.name}, {level.name}",
                    (Segment("server CPU", cell.server_cpu_us.value, PROTOCOL_STYLES[protocol]),),
                    numbers.microseconds(cell.server_cpu_us.value),
                    cell.server_cpu_us.low,
                    cell.server_cpu_us.high,
                )
            )
    if not bars:
        return None
    return measured_figure(
        measurement,
        "cpu",
        "Server CPU per request",
        "CPU time of the whole server process divided by requests: what a prediction costs, and the number that a busy "
        "machine disturbs least. Medians with 95% intervals.",
        [("", charts.bar_chart(bars, Axis("CPU µs per request")))],
        charts.fill_legend([(PROTOCOL_NAMES[p], PROTOCOL_STYLES[p]) for p in PROTOCOLS]),
        bars_table("Server CPU per request", bars, "µs"),
        cells,
    )
