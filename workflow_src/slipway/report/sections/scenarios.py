"""Scenarios: what each asked, its numbers, how they went over time, and every window."""

from collections.abc import Callable, Sequence

import numpy as np

from slipway.records import Protocol, ScenarioRecord, ScenarioSeries, ScenarioValue, ScenarioWindow
from slipway.report import charts, numbers
from slipway.report.blocks import Block, Figure, Folded, Items, Section, Table, TableCell, heads
from slipway.report.charts import PROTOCOL_STYLES, Axis, Line, Point
from slipway.report.content import PROTOCOL_NAMES, PROTOCOLS, Loads, slug
from slipway.report.sections.figures import PREDICTIONS, distinct, identifier, measured_figure
from slipway.report.sections.version_pairs import version_pairs

# Kind -> title and the question; a kind of a newer Slipway has its name for a title.
TITLES = {
    "single_stream": ("One caller alone", "One connection with one request in flight: what a lone user waits."),
    "multi_stream": ("One caller with several rows", "One connection, several rows in each request."),
    "offline": (
        "All rows at once",
        "Rows that are all there from the start, in large requests: how fast they are through.",
    ),
    "server_slo": (
        "The highest rate within a bound",
        (
            "Requests arrive at random; the rate is raised and bisected. A rate counts if its 99th percentile is proven to lie "
            "within the bound with 99% confidence (MLPerf's early stopping), and again in longer windows afterwards."
        ),
    ),
    "payload": ("Rows per request", "The same load with more and more rows in each request."),
    "mixed": (
        "Both protocols at once",
        "REST and gRPC arrive together at fixed rates, then each of them alone at the same rate.",
    ),
    "row_mix": (
        "Few rows and many, mixed",
        (
            "Requests with different numbers of rows arrive together, in a drawn order, at a share of what a closed loop gets through "
            "with the same mix: how long those with few rows wait for those with many."
        ),
    ),
    "overload": (
        "More than the server can do",
        (
            "For a while far more is offered than the server answers at its peak, then little again: how much is still answered "
            "in time, how the rest is turned away, and how long until all is well."
        ),
    ),
    "soak": (
        "A long time at one rate",
        "Slopes are Theil–Sen estimates with 95% intervals: one odd window does not move them.",
    ),
    "hot_reload": (
        "Versions change under load",
        (
            "Versions of the model are unloaded and loaded while requests arrive at a steady rate; none may fail, or be answered by "
            "a version whose time it is not."
        ),
    ),
    "ab_versions": (
        "Two versions side by side",
        (
            "Two versions that one server has at the same time, loaded in turns: each pair of windows is one of each, right after "
            "the other in a drawn order. Latencies are those at one offered rate for both."
        ),
    ),
    "serialization": (
        "What serialization costs the client",
        (
            "The same requests: prepared beforehand; made and answers read while the clock runs; and as plain clients do it, "
            "with `json.dumps` of lists and one protobuf field per value."
        ),
    ),
    "clients": (
        "The same load by other clients",
        (
            "One request again and again: by the load generator itself, by the clients that Python programs take, and by h2load. "
            "Each ratio is of one kind of client on both sides. h2load is there to find out whether the load generator is right."
        ),
    ),
}
_PUBLISHED = (
    "One that is often quoted served 100,000 MNIST images with requests that were prepared beforehand: 7,680 images/s and 620 MB over "
    "REST, 25,961 images/s and 320 MB over gRPC, 3.4 times as fast in 0.52 of the bytes. Such ratios are of the values and of "
    "the digits as much as of the protocols: 784 floats that are mostly zero take 6,268 bytes of JSON with the digits of doubles, "
    "as json.dumps writes them (that is the 620 MB), and 4,134 with the shortest digits that read back equal; 784 that are all "
    "different take 15,903 and 8,346; in protobuf all take 3,183. So compare like with like: “prepared beforehand, as plain clients "
    "make them” is what was published, and every row has its own ratio."
)
_COLUMNS: tuple[Protocol | None, ...] = (*PROTOCOLS, None)
_SHOWN: dict[str, Callable[[float | None], str]] = {
    "1/s": lambda v: numbers.number(v) + ("" if v is None else " /s"),
    "rows/s": lambda v: numbers.number(v) + ("" if v is None else " rows/s"),
    "us": numbers.microseconds,
    "s": numbers.duration,
    "bytes": numbers.size,
    "share": numbers.percent,
    "count": numbers.number,
    "share/h": lambda v: numbers.percent(v) + ("" if v is None else " an hour"),
    "ratio": numbers.times,
}


def scenarios(measurement: Loads) -> tuple[Section, ...]:
    """Write a section for each scenario that was run."""
    return tuple(_section(measurement, one, place) for place, one in enumerate(measurement.record.scenarios))


def _section(measurement: Loads, scenario: ScenarioRecord, place: int) -> Section:
    title, lead = TITLES.get(scenario.kind, (scenario.kind.replace("_", " "), ""))
    if scenario.name != scenario.kind:
        title = f"{title} ({scenario.name})"
    told = [
        *(("The server's fault", fault) for fault in scenario.faults),
        *(("Not tried" if scenario.is_untried else "Does not count", why) for why in scenario.invalid),
        *(("Note", note) for note in scenario.notes),
    ]
    blocks: list[Block] = [Items(tuple(told))] if told else []
    blocks += [_values(scenario)] if scenario.values else []
    if scenario.kind == "serialization":
        blocks.append(Items((("Next to a published comparison", _PUBLISHED),)))
    blocks += _figures(measurement, scenario)
    if scenario.windows:
        count = numbers.counted(len(scenario.windows), "window")
        blocks.append(Folded(f"Every window ({count}, {numbers.duration(scenario.duration_s)})", (_windows(scenario),)))
    return Section(
        id=identifier(measurement, f"scenario-{slug(scenario.name)}"),
        title=title,
        short="" if place else "Scenarios",
        lead=lead,
        blocks=tuple(blocks),
    )


def _values(scenario: ScenarioRecord) -> Table:
    """List the numbers, one line for each with a column for each protocol that has it."""
    lines: dict[tuple[str, str, str], dict[Protocol | None, ScenarioValue]] = {}
    for value in scenario.values:
        lines.setdefault((value.key, value.name, value.label), {})[value.protocol] = value
    columns = [p for p in _COLUMNS if any(p in found for found in lines.values())]
    names = [PROTOCOL_NAMES[p] if p else "both" if len(columns) > 1 else "" for p in columns]
    rows = tuple(
        (
            TableCell(name),
            TableCell(label),
            *(TableCell(shown(found[p]) if p in found else "", "n") for p in columns),
        )
        for (_, name, label), found in lines.items()
    )
    return Table(f"Numbers of {scenario.name}", heads("What", "Step", *names, numbers_from=2), rows)


def shown(value: ScenarioValue) -> str:
    """Show a number with its unit, and its interval where it has one."""
    show = _SHOWN[value.unit]
    if value.value is None or value.low is None or value.high is None:
        return show(value.value)
    return f"{show(value.value)} [{show(value.low)}, {show(value.high)}]"


def _windows(scenario: ScenarioRecord) -> Table:
    head = heads(
        "Step", "Protocol", "Load", "rows", "requests / s", "p50", "p99", "errors", "does not count", numbers_from=3
    )
    return Table(
        f"Windows of {scenario.name}", head, tuple(_window(window) for window in scenario.windows), sortable=True
    )


def _window(window: ScenarioWindow) -> tuple[TableCell, ...]:
    repetition, load = window.repetition, window.load
    offered = f"{load.concurrency} in flight" if load.kind == "closed" else f"{numbers.number(load.rate)} /s offered"
    return (
        TableCell(window.label or "–"),
        TableCell(PROTOCOL_NAMES[window.protocol]),
        TableCell(offered),
        TableCell(numbers.integer(window.rows), "n"),
        TableCell(numbers.number(repetition.throughput_rps), "n", value=repetition.throughput_rps),
        TableCell(numbers.microseconds(repetition.latency.p50_us), "n", value=repetition.latency.p50_us),
        TableCell(numbers.microseconds(repetition.latency.p99_us), "n", value=repetition.latency.p99_us),
        TableCell(numbers.integer(sum(repetition.errors.values())), "n"),
        TableCell("; ".join(repetition.invalid)),
    )


# --- figures ---------------------------------------------------------------------------------------


def _figures(measurement: Loads, scenario: ScenarioRecord) -> list[Figure]:
    named: dict[str, list[ScenarioSeries]] = {}
    for series in scenario.series:
        named.setdefault(series.name, []).append(series)
    figures = [
        _over_time(measurement, scenario, place, name, alike) for place, (name, alike) in enumerate(named.items())
    ]
    figures.append(_by_rows(measurement, scenario))
    if scenario.kind == "ab_versions":
        figures.append(version_pairs(measurement, scenario))
    return [figure for figure in figures if figure]


def _over_time(
    measurement: Loads, scenario: ScenarioRecord, place: int, name: str, alike: Sequence[ScenarioSeries]
) -> Figure | None:
    scale, unit = {"us": (1e-3, "ms (log)"), "bytes": (1e-6, "MB"), "1/s": (1.0, "1/s")}[alike[0].unit]
    show = _SHOWN[alike[0].unit]
    lines = [
        Line(
            PROTOCOL_NAMES[series.protocol] if series.protocol else "server",
            PROTOCOL_STYLES[series.protocol] if series.protocol else charts.CATEGORIES[1],
            tuple(Point(x, y * scale) for x, y in zip(series.x_s, series.y, strict=True) if y),
            markers=False,
        )
        for series in alike
    ]
    drawn = [line for line in lines if line.points]
    if not drawn:
        return None
    table = Table(
        name,
        heads("Line", "seconds", name),
        tuple(
            (TableCell(line.name), TableCell(numbers.number(p.x), "n"), TableCell(show(p.y / scale), "n"))
            for line in drawn
            for p in line.points
        ),
    )
    return measured_figure(
        measurement,
        f"{slug(scenario.name)}-series-{place}",
        name,
        "Over the seconds since the load began.",
        [("", charts.line_chart(drawn, Axis("seconds"), Axis(f"{name}, {unit}", log=alike[0].unit == "us")))],
        charts.line_legend(drawn),
        table,
        wide=True,
    )


def _by_rows(measurement: Loads, scenario: ScenarioRecord) -> Figure | None:
    """Draw predictions per second by rows per request, where a scenario changes those."""
    rows = distinct([float(window.rows) for window in scenario.windows])
    if scenario.kind != "payload" or len(rows) < 2:
        return None
    lines = []
    for protocol in PROTOCOLS:
        points = []
        for count in rows:
            found = [
                w.repetition.predictions_per_s
                for w in scenario.windows
                if (w.protocol, float(w.rows)) == (protocol, count) and not w.repetition.invalid
            ]
            points += [Point(count, float(np.median(found)))] if found and np.median(found) > 0 else []
        if points:
            lines.append(Line(PROTOCOL_NAMES[protocol], PROTOCOL_STYLES[protocol], tuple(points)))
    if not lines:
        return None
    table = Table(
        "Predictions by rows",
        heads("Protocol", "rows", PREDICTIONS),
        tuple(
            (TableCell(line.name), TableCell(numbers.number(p.x), "n"), TableCell(numbers.number(p.y), "n"))
            for line in lines
            for p in line.points
        ),
    )
    return measured_figure(
        measurement,
        f"{slug(scenario.name)}-rows",
        "Predictions per second by rows in a request",
        "Medians over the windows that count.",
        [("", charts.line_chart(lines, Axis("rows per request (log)", log=True, at=rows), Axis(PREDICTIONS)))],
        charts.line_legend(lines),
        table,
    )
