"""How the key numbers moved from run to run: trends, change points, and which runs could not be joined and why."""

from collections.abc import Sequence
from itertools import pairwise

from slipway.report import charts, numbers
from slipway.report.blocks import (
    Block,
    Figure,
    Folded,
    Heading,
    Items,
    Panel,
    Part,
    Section,
    Table,
    TableCell,
    heads,
)
from slipway.report.charts import PROTOCOL_STYLES, Axis, Line, Point, Style
from slipway.report.content import PROTOCOL_NAMES, PROTOCOLS, slug
from slipway.report.history import Metric, Moved, Series, Track, differences, models, series, tracks, value
from slipway.report.overlays import Mark
from slipway.report.runs import RunEntry

# A trend of fewer runs is a dot.
_LEAST_RUNS = 2
# Series further back are listed, not drawn.
_MOST_DRAWN = 5
_LEVEL = Style("tool", "diamond")
_PLAIN = Style("k1", "diamond")


def history(entries: Sequence[RunEntry]) -> Part | None:
    """
    Write the history of every model.

    Args:
        entries: All runs, newest first.

    Returns:
        None while no model has two runs.
    """
    sections = tuple(section for model in models(entries) if (section := _model(entries, model)))
    if not sections:
        return None
    return Part(
        "history",
        "History",
        "Numbers of runs on the same machine, under the same load, with the same settings. A history tells and decides "
        "nothing: whether a change is worse is measured side by side, by slipway compare.",
        sections,
    )


def _model(entries: Sequence[RunEntry], model: str) -> Section | None:
    found = series(entries, model)
    if sum(len(one.runs) for one in found) < _LEAST_RUNS:
        return None
    newest, *others = found
    blocks: list[Block] = [*_drawn(model, newest)]
    if others:
        blocks.append(Heading("Runs that are not joined with the newest"))
        blocks.append(_kept_apart(model, newest, others))
        blocks += [
            Folded(f"Series {one.name}: {numbers.counted(len(one.runs), 'run')}", _drawn(model, one))
            for one in others[: _MOST_DRAWN - 1]
            if len(one.runs) >= _LEAST_RUNS
        ]
    return Section(f"history-{slug(model)}", model, "", _lead(newest), tuple(blocks))


def _lead(newest: Series) -> str:
    many = numbers.counted(len(newest.runs), "run")
    left_out = f"; {numbers.counted(newest.left_out, 'older one')} are in runs.csv" if newest.left_out else ""
    if len(newest.runs) < _LEAST_RUNS:
        return f"The newest run is the first of its kind (series {newest.name}): there is nothing yet to join it with."
    return f"Series {newest.name}: {many} alike{left_out}. Runs are numbered from the oldest one."


# --- trends ----------------------------------------------------------------------------------------


def _drawn(model: str, one: Series) -> tuple[Block, ...]:
    if len(one.runs) < _LEAST_RUNS:
        return ()
    found = tracks(one)
    moved = [point for track in found for point in track.moved]
    figures = [
        _figure(model, one, "speed", "Speed over runs", [t for t in found if t.protocol], moved),
        _figure(model, one, "size", "Start and size over runs", [t for t in found if not t.protocol], moved),
    ]
    return (*(figure for figure in figures if figure), _changes(one, moved))


def _figure(
    model: str, one: Series, name: str, title: str, found: Sequence[Track], moved: Sequence[Moved]
) -> Figure | None:
    metrics = list(dict.fromkeys(track.metric.id for track in found))
    if not metrics:
        return None
    grouped = [[track for track in found if track.metric.id == metric] for metric in metrics]
    id_ = f"history-{slug(model)}-{one.name.lower()}-{name}"
    count = sum(1 for tracks_ in grouped for track in tracks_ for _ in track.moved)
    caption = "Each point is a run, medians as in its report; equal ratios are equally far apart, and the axis does not begin at 0."
    if count:
        caption += " Grey: the mean between change points; a numbered line is a change point of the table below."
    return Figure(
        id=id_,
        title=f"{title}: {numbers.counted(count, 'change point') if count else 'no change point'}",
        caption=caption,
        panels=tuple(
            Panel(f"{id_}-{place}", _sentence(tracks_[0].metric), _described(tracks_), _panel(one, tracks_, moved))
            for place, tracks_ in enumerate(grouped)
        ),
        legend=charts.line_legend(
            [
                *(Line(PROTOCOL_NAMES[p], PROTOCOL_STYLES[p], ()) for p in PROTOCOLS if found[0].protocol),
                *([Line("mean between change points", _LEVEL, (), markers=False)] if count else []),
            ]
        ),
        table=_table(title, one, found),
        class_="wide",
    )


def _sentence(metric: Metric) -> str:
    return f"{metric.name[0].upper()}{metric.name[1:]}"


def _described(found: Sequence[Track]) -> str:
    return "; ".join(
        f"{PROTOCOL_NAMES[track.protocol] if track.protocol else _sentence(track.metric)} over "
        f"{numbers.counted(len(track.values), 'run')}: from {track.metric.show(track.values[0])} to "
        f"{track.metric.show(track.values[-1])}"
        for track in found
    )


def _panel(one: Series, found: Sequence[Track], moved: Sequence[Moved]) -> charts.Drawing:
    metric = found[0].metric
    lines = [line for track in found for line in (*_levels(track), _line(one, track))]
    marks = [
        # Between the last run at the old level and the first at the new one.
        Mark(point.place + 0.5, str(moved.index(point) + 1), f"{point.name}: {_step(point)}")
        for track in found
        for point in track.moved
    ]
    last = len(one.runs)
    every = max(1, -(-last // 8))
    ticks = tuple(float(run) for run in range(1, last + 1) if run == 1 or run % every == 0)
    return charts.line_chart(
        lines,
        Axis("run", at=ticks, show=lambda run: str(int(run))),
        Axis(metric.axis, log=True),
        width=400,
        height=260,
        marks=_apart(marks),
    )


def _apart(marks: Sequence[Mark]) -> list[Mark]:
    """Let change points of REST and gRPC at the same run share one line."""
    joined: dict[float, Mark] = {}
    for mark in marks:
        there = joined.get(mark.x)
        joined[mark.x] = Mark(mark.x, f"{there.label}, {mark.label}", f"{there.note}; {mark.note}") if there else mark
    return list(joined.values())


def _line(one: Series, track: Track) -> Line:
    metric = track.metric
    points = [
        Point(
            place + 1,
            number * metric.scale,
            note=f"run {place + 1}, {numbers.moment(one.runs[place].entry.created)}: {metric.show(number)}",
        )
        for place, number in zip(track.places, track.values, strict=True)
    ]
    name = PROTOCOL_NAMES[track.protocol] if track.protocol else metric.name
    return Line(name, PROTOCOL_STYLES[track.protocol] if track.protocol else _PLAIN, tuple(points))


def _levels(track: Track) -> list[Line]:
    """Draw the mean between each two change points; nothing for a track without any."""
    if not track.moved:
        return []
    edges = [track.places[0], *(point.place for point in track.moved), track.places[-1] + 1]
    means = [track.moved[0].from_value, *(point.to_value for point in track.moved)]
    return [
        Line(
            "mean",
            _LEVEL,
            tuple(Point(place + shift, mean * track.metric.scale) for place, shift in ((low, 0.6), (high, 0.4))),
            markers=False,
        )
        for (low, high), mean in zip(pairwise(edges), means, strict=True)
    ]


def _table(name: str, one: Series, found: Sequence[Track]) -> Table:
    names = [f"{track.metric.name}{f', {PROTOCOL_NAMES[track.protocol]}' if track.protocol else ''}" for track in found]
    rows = []
    for place in reversed(range(len(one.runs))):
        run = one.runs[place]
        read = (value(run, track.metric, track.protocol) for track in found)
        rows.append(
            (
                TableCell(str(place + 1)),
                TableCell(numbers.moment(run.entry.created), link=f"{run.entry.run_id}/index.html"),
                *(TableCell(track.metric.show(number), "n") for track, number in zip(found, read, strict=True)),
            )
        )
    return Table(name, heads("Run", "When", *names, numbers_from=2), tuple(rows))


# --- change points ---------------------------------------------------------------------------------


def _changes(one: Series, moved: Sequence[Moved]) -> Block:
    if not moved:
        told = "no number moved by 3 % or more in a way that the spread of its runs does not explain"
        return Items((("Change points", told),))
    return Table(
        f"Change points of series {one.name}",
        heads("No.", "What", "From → to", "First run", "What else changed between the two runs", numbers_from=9),
        tuple(_change(number, point) for number, point in enumerate(moved, start=1)),
    )


def _change(number: int, point: Moved) -> tuple[TableCell, ...]:
    changed = [f"{name}: {before} → {after}" for name, before, after in point.changed]
    return (
        TableCell(str(number)),
        TableCell(point.name),
        TableCell(f"{_step(point)}, {'worse' if point.is_worse else 'better'}"),
        TableCell(
            f"{point.place + 1}: {numbers.moment(point.after.entry.created)}",
            full=point.after.entry.run_id,
            link=f"{point.after.entry.run_id}/index.html",
        ),
        TableCell("; ".join(changed) or "nothing that is recorded: the machine itself, perhaps"),
    )


def _step(point: Moved) -> str:
    ratio = point.to_value / point.from_value
    sign = "+" if ratio > 1 else "−"
    share = numbers.percent(abs(ratio - 1), 2)
    return f"{point.metric.show(point.from_value)} → {point.metric.show(point.to_value)} ({sign}{share})"


# --- what is kept apart ----------------------------------------------------------------------------


def _kept_apart(model: str, newest: Series, others: Sequence[Series]) -> Table:
    """One line for each series: how many runs it has, and every fact in which it differs from the newest."""
    rows = []
    for one in others:
        facts = differences(newest, one)
        first, last = one.runs[0].entry.created[:10], one.runs[-1].entry.created[:10]
        rows.append(
            (
                TableCell(one.name),
                TableCell(str(len(one.runs) + one.left_out), "n"),
                TableCell(first if first == last else f"{first} – {last}"),
                TableCell("\n".join(f"{name}: {there}, in series {newest.name} {here}" for name, here, there in facts)),
            )
        )
    head = (*heads("Series"), *heads("runs", numbers_from=0), *heads("When", "What differs", numbers_from=9))
    return Table(f"Series of {model}", head, tuple(rows))
