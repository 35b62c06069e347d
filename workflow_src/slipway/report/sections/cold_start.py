"""Cold start: the first requests of fresh servers, with and without warm-up records."""

from collections.abc import Sequence

from slipway import statistics
from slipway.report import charts, numbers
from slipway.report.blocks import (
    Figure,
    Pair,
    Section,
    Table,
    heads,
    row,
)
from slipway.report.charts import PROTOCOL_STYLES, Axis, Bar, Line, Point, Segment, Style
from slipway.report.content import PROTOCOL_NAMES, PROTOCOLS, ColdGroup, Loads
from slipway.report.sections.figures import bars_table, identifier, measured_figure
from slipway.report.sections.first_requests import first_requests


def cold_start(measurement: Loads) -> Section | None:
    """Write what a fresh server's first requests take; None if no server was started for it."""
    if not measurement.cold:
        return None
    groups = measurement.cold
    title, told = _warm_up_effect(groups)
    return Section(
        id=identifier(measurement, "cold"),
        title="Cold start and warm-up",
        short="Cold start",
        lead=told,
        blocks=(
            Pair((_first_requests(measurement, title), _ready_figure(measurement))),
            *([by_batch] if (by_batch := first_requests(measurement)) else []),
        ),
    )


def _warm_up_effect(groups: Sequence[ColdGroup]) -> tuple[str, str]:
    """Say what replaying warm-up records saves on the first request, and what it costs before AVAILABLE."""
    lead = "Fresh servers, their first requests one after the other, with and without warm-up records."
    for protocol in reversed(PROTOCOLS):
        found = {group.warmed: group for group in groups if group.protocol == protocol}
        if len(found) == 2:
            cold, warm = found[False].median_us[0], found[True].median_us[0]
            name = PROTOCOL_NAMES[protocol]
            title = f"Warm-up takes the first {name} answer from {numbers.microseconds(cold)} to {numbers.microseconds(warm)}"
            added = _median(found[True].ready_s) - _median(found[False].ready_s)
            cost = (
                f"and adds {numbers.duration(added)} before the server is ready"
                if added > 0
                else "without making the server ready any later"
            )
            return title, f"{lead} Replaying them makes the first answer {numbers.times(cold / warm)} as fast {cost}."
    return "First requests after start", lead


def _median(values: Sequence[float]) -> float:
    estimate = statistics.median_interval(values)
    assert estimate is not None  # groups are not empty
    return estimate.value


def _group_style(group: ColdGroup) -> Style:
    style = PROTOCOL_STYLES[group.protocol]
    return style if group.warmed else Style(style.class_, style.marker, hollow=True)


def _group_name(group: ColdGroup) -> str:
    return f"{PROTOCOL_NAMES[group.protocol]}, {'with' if group.warmed else 'without'} warm-up"


# Equally far apart on a logarithmic axis, so that a hundred markers do not become a smear.
_SHOWN_REQUESTS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)


def _first_requests(measurement: Loads, title: str) -> Figure:
    groups = measurement.cold
    lines = [
        Line(
            _group_name(group),
            _group_style(group),
            tuple(
                Point(
                    number,
                    group.median_us[number - 1] / 1e3,
                    group.low_us[number - 1] / 1e3 if group.warmed else None,
                    group.high_us[number - 1] / 1e3 if group.warmed else None,
                    f"{_group_name(group)}, request {number}: {numbers.microseconds(group.median_us[number - 1])}",
                )
                for number in _SHOWN_REQUESTS
                if number <= len(group.median_us)
            ),
        )
        for group in groups
    ]
    last = max(point.x for line in lines for point in line.points)
    ticks = tuple(float(n) for n in (1, 2, 5, 10, 20, 50, 100) if n <= last)
    table = Table(
        "First requests",
        heads("Server", "request", "median", "least", "greatest"),
        tuple(
            row(
                _group_name(group),
                str(number),
                *(
                    numbers.microseconds(column[number - 1])
                    for column in (group.median_us, group.low_us, group.high_us)
                ),
            )
            for group in groups
            for number in _SHOWN_REQUESTS
            if number <= len(group.median_us)
        ),
    )
    starts = numbers.counted(min(group.starts for group in groups), "start")
    return measured_figure(
        measurement,
        "cold-lines",
        title,
        f"Latency of the first requests after the server says it is ready; medians over {starts} of each kind.",
        [
            (
                "",
                charts.line_chart(
                    lines, Axis("request number (log)", log=True, at=ticks), Axis("latency, ms (log)", log=True)
                ),
            )
        ],
        charts.line_legend(lines),
        table,
    )


def _ready_figure(measurement: Loads) -> Figure:
    bars = [
        Bar(
            f"{PROTOCOL_NAMES[group.protocol]}, {'warmed' if group.warmed else 'not warmed'}",
            (Segment("until ready", _median(group.ready_s), _faded(group)),),
            numbers.duration(_median(group.ready_s)),
            min(group.ready_s),
            max(group.ready_s),
        )
        for group in measurement.cold
    ]
    return measured_figure(
        measurement,
        "ready",
        "From start to ready",
        "Median time from the start of the container until the version is AVAILABLE; the dark line spans all starts.",
        [("", charts.bar_chart(bars, Axis("seconds")))],
        (),
        bars_table("Time until ready", bars, "seconds"),
    )


def _faded(group: ColdGroup) -> Style:
    return PROTOCOL_STYLES[group.protocol] if group.warmed else charts.CATEGORIES[0]
