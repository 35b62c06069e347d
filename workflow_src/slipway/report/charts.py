"""
Series -> drawings: lines, dots with intervals, stacked bars, columns. Pure; same series, same bytes.

Grammar: hue says the protocol (REST orange square, gRPC blue circle), grey what did not count, hollow and
dashed the other variant; a shape or a word always repeats what a colour says.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from slipway.report import numbers, overlays, svg
from slipway.report.overlays import Limit, Mark
from slipway.report.svg import Scale

Marker = Literal["square", "circle", "triangle", "diamond"]
Show = Callable[[float], str]

# Units of the drawing. Half a desktop page is some 560 px wide and a phone some 390 px: text of 12 to 13
# units is readable on both without a second drawing.
WIDTH = 500
_TOP, _BOTTOM, _LEFT, _RIGHT = 26, 44, 56, 16
_ROW = 30


@dataclass(frozen=True, slots=True)
class Style:
    """
    How one series looks, everywhere on the page.

    Attributes:
        class_: CSS class that gives its colour.
        marker: Shape of its points.
        hollow: Dashed line, unfilled points.
    """

    class_: str
    marker: Marker = "circle"
    hollow: bool = False


REST = Style("rest", "square")
GRPC = Style("grpc", "circle")
PROTOCOL_STYLES = {"rest": REST, "grpc": GRPC}
# Of what is neither REST nor gRPC: steps, layers, stages; told apart by order and label too.
CATEGORIES = tuple(Style(f"k{index}", "diamond") for index in range(7))


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """One line of a legend: *key* is a small drawing."""

    name: str
    key: Markup


@dataclass(frozen=True, slots=True)
class Drawing:
    """An SVG's inside, and its size in units."""

    body: Markup
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Axis:
    """
    What an axis says.

    Attributes:
        label: Quantity and unit.
        log: Logarithmic.
        show: How its ticks are written.
        at: Ticks to use instead of round values.
    """

    label: str
    log: bool = False
    show: Show = numbers.number
    at: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Point:
    """
    One value of a line.

    Attributes:
        x: Place on the x axis.
        y: Value.
        low: Lower end of its interval.
        high: Upper end.
        note: Said when it is pointed at.
        trusted: False: the measurement broke a validity rule; drawn grey, hollow and crossed.
        label: Written above it.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    trusted: bool = True
    label: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """Points of one series, in the order of x."""

    name: str
    style: Style
    points: tuple[Point, ...]
    markers: bool = True


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of the x axis that is set apart."""

    low: float
    high: float
    label: str


def line_chart(
    lines: Sequence[Line],
    x: Axis,
    y: Axis,
    *,
    bands: Sequence[Band] = (),
    height: float = 300,
    width: float = WIDTH,
    y_values: Sequence[float] = (),
    limits: Sequence[Limit] = (),
    marks: Sequence[Mark] = (),
) -> Drawing:
    """
    Draw lines with their interval as a band around them.

    Args:
        lines: At least one, with at least one point each.
        x: The x axis.
        y: The y axis; linear ones begin at 0.
        bands: Stretches to shade.
        height: Of the whole drawing.
        width: Of the whole drawing.
        y_values: More values that the y axis must reach, so that panels share one scale.
        limits: Values of y to draw a line at; one far above everything else is told at the top instead.
        marks: Places of x to draw a line at.
    """
    xs = [point.x for line in lines for point in line.points] + [
        edge for band in bands for edge in (band.low, band.high)
    ]
    ys = [v for line in lines for p in line.points for v in (p.y, p.low, p.high) if v is not None] + list(y_values)
    near = [limit for limit in limits if y.log or overlays.is_near(limit, ys)]
    ys += [limit.value for limit in near]
    above = [limit for limit in limits if limit not in near]
    left, right, bottom = _LEFT, width - _RIGHT, height - _BOTTOM
    # What is said above the plot stands below what the axis says.
    top = _TOP + overlays.LABEL_GAP * (len(above) + bool(marks))
    # Points at the edge keep their whole marker inside.
    across = (
        svg.log_scale(xs, left, right, margin=1.12)
        if x.log
        else Scale(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, left + 6, right - 6)
    )
    up = svg.log_scale(ys, bottom, top) if y.log else svg.linear_scale(ys, bottom, top, headroom=0.1)
    body = [
        *[_band(band, across, top, bottom) for band in bands],
        *_y_axis(up, y, left, right),
        *_x_axis(across, x, bottom, left, right, height),
        *overlays.drawn(near, up, left, right),
        *overlays.told(above, _TOP, right),
        *[overlays.happened(mark, across, top, bottom) for mark in marks],
        *[_ribbon(line, across, up) for line in lines],
        *[_line(line, across, up) for line in lines],
    ]
    return Drawing(Markup().join(body), width, height)


def _band(band: Band, across: Scale, top: float, bottom: float) -> Markup:
    start, end = across(band.low), across(band.high)
    return svg.element(
        "rect",
        svg.element("title", band.label),
        class_="band",
        x=start,
        y=top,
        width=max(end - start, 1),
        height=bottom - top,
    )


def _y_axis(up: Scale, axis: Axis, left: float, right: float) -> list[Markup]:
    ticks = axis.at or up.ticks(6)
    lines = [svg.horizontal(left, right, up(tick), "grid") for tick in ticks]
    labels = [svg.text(left - 7, up(tick) + 4, axis.show(tick), "t", "end") for tick in ticks]
    return [*lines, *labels, svg.text(0, 13, axis.label, "l")]


def _x_axis(across: Scale, axis: Axis, bottom: float, left: float, right: float, height: float) -> list[Markup]:
    ticks = axis.at or across.ticks(7)
    marks = [svg.vertical(across(tick), bottom, bottom + 5, "tick") for tick in ticks]
    labels = [svg.text(across(tick), bottom + 19, axis.show(tick), "t", "middle") for tick in _apart(ticks, across)]
    title = svg.text((left + right) / 2, height - 4, axis.label, "l", "middle")
    return [svg.horizontal(left, right, bottom, "axis"), *marks, *labels, title]


def _apart(ticks: Sequence[float], across: Scale, gap: float = 30) -> list[float]:
    """Leave out ticks whose labels would touch the one before."""
    kept: list[float] = []
    for tick in ticks:
        if not kept or across(tick) - across(kept[-1]) >= gap:
            kept.append(tick)
    return kept


def _ribbon(line: Line, across: Scale, up: Scale) -> Markup:
    around = [(p.x, p.low, p.high) for p in line.points if p.low is not None and p.high is not None]
    if len(around) < 2:
        return Markup()
    upper = [(across(x), up(high)) for x, _, high in around]
    lower = [(across(x), up(low)) for x, low, _ in reversed(around)]
    return svg.path([*upper, *lower], f"ribbon {line.style.class_}", closed=True)


def _line(line: Line, across: Scale, up: Scale) -> Markup:
    style = line.style
    places = [(across(point.x), up(point.y)) for point in line.points]
    parts = [svg.path(places, f"line {style.class_}{' dashed' if style.hollow else ''}")] if len(places) > 1 else []
    for point, (px, py) in zip(line.points, places, strict=True):
        if point.low is not None and point.high is not None and len(line.points) == 1:
            parts.append(svg.vertical(px, up(point.low), up(point.high), f"whisker {style.class_}"))
        if line.markers or not point.trusted:
            parts.append(_marker(style, px, py, point.note, trusted=point.trusted))
        if point.label:
            parts.append(svg.text(px, py - 10, point.label, f"v b {style.class_}", "middle"))
    return Markup().join(parts)


def _marker(style: Style, x: float, y: float, note: str = "", *, trusted: bool = True) -> Markup:
    title = svg.element("title", note) if note else Markup()
    if not trusted:
        cross = f"M{svg.coordinate(x - 3)} {svg.coordinate(y - 3)}l6 6m0 -6l-6 6"
        ring = svg.element("circle", title, class_="mark void", cx=x, cy=y, r=5)
        return ring + svg.element("path", class_="mark void", d=cross)
    class_ = f"mark {style.class_}{' hollow' if style.hollow else ''}"
    if style.marker == "circle":
        return svg.element("circle", title, class_=class_, cx=x, cy=y, r=4)
    if style.marker == "square":
        return svg.element("rect", title, class_=class_, x=x - 3.6, y=y - 3.6, width=7.2, height=7.2)
    shape = {"triangle": ((0, -4.8), (4.6, 3.6), (-4.6, 3.6)), "diamond": ((0, -5.2), (5.2, 0), (0, 5.2), (-5.2, 0))}
    joined = "L".join(f"{svg.coordinate(x + dx)} {svg.coordinate(y + dy)}" for dx, dy in shape[style.marker])
    return svg.element("path", title, class_=class_, d=f"M{joined}Z")


def line_legend(lines: Sequence[Line]) -> tuple[LegendEntry, ...]:
    """Explain lines; the key repeats colour, dash and marker."""
    return tuple(LegendEntry(line.name, _line_key(line.style, markers=line.markers)) for line in lines)


def marker_legend(entries: Sequence[tuple[str, Style]]) -> tuple[LegendEntry, ...]:
    """Explain markers that stand alone."""
    return tuple(LegendEntry(name, _key(_marker(style, 8, 7), 16)) for name, style in entries)


def fill_legend(entries: Sequence[tuple[str, Style]]) -> tuple[LegendEntry, ...]:
    """Explain fills."""
    return tuple(
        LegendEntry(name, _key(svg.element("rect", class_=f"fill {style.class_}", width=14, height=14, rx=2), 14))
        for name, style in entries
    )


def _line_key(style: Style, *, markers: bool) -> Markup:
    line = svg.horizontal(1, 33, 7, f"line {style.class_}{' dashed' if style.hollow else ''}")
    return _key(line + (_marker(style, 17, 7) if markers else Markup()), 34)


def _key(content: Markup, width: float) -> Markup:
    return svg.element(
        "svg", content, width=width, height=14, viewBox=f"0 0 {svg.coordinate(width)} 14", aria_hidden="true"
    )


# --- dots with intervals ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dot:
    """One value in a row, with its interval."""

    value: float
    style: Style
    low: float | None = None
    high: float | None = None
    note: str = ""
    trusted: bool = True


@dataclass(frozen=True, slots=True)
class DotRow:
    """A row of dots: its name on the left, its *text* on the right."""

    label: str
    dots: tuple[Dot, ...]
    text: str = ""


def dot_chart(
    rows: Sequence[DotRow],
    x: Axis,
    *,
    reference: float | None = None,
    sides: tuple[str, str] = ("", ""),
    width: float = WIDTH,
    limits: tuple[float, float] | None = None,
) -> Drawing:
    """
    Draw rows of dots, each with a whisker for its interval.

    Args:
        rows: From top to bottom.
        x: The x axis, at the bottom.
        reference: Value with a line through all rows.
        sides: What it means to lie left and right of the reference.
        width: Of the whole drawing.
        limits: Least and greatest value of the axis, instead of what the dots need.
    """
    left = _label_room([row.label for row in rows])
    text_room = max((len(row.text) for row in rows), default=0) * svg.CHARACTER_WIDTH
    right = width - (text_room + 14 if text_room else _RIGHT)
    top = 30 if any(sides) else 8
    bottom = top + _ROW * len(rows)
    height = bottom + _BOTTOM
    values = [v for row in rows for d in row.dots for v in (d.value, d.low, d.high, reference) if v is not None]
    if limits:
        across = Scale(*limits, left, right, log=x.log)
    elif x.log:
        across = svg.log_scale(values, left, right, margin=1.12)
    else:
        across = svg.linear_scale(values, left, right)
    ticks = tuple(tick for tick in x.at or across.ticks(5) if across.low <= tick <= across.high)
    body = [svg.vertical(across(tick), top, bottom, "grid") for tick in ticks]
    body += _x_axis(across, Axis(x.label, show=x.show, at=ticks), bottom, left, right, height)
    if reference is not None:
        at = across(reference)
        body.append(svg.vertical(at, top - 6, bottom, "reference"))
        # Beside the line, but inside of the drawing, wherever the line is.
        left_room, right_room = (svg.CHARACTER_WIDTH * (len(side) + 2) for side in sides)
        begin = min(at + 10, width - right_room)
        end = max(min(at, begin) - 10, left_room)
        body += [svg.text(end, 14, f"◀ {sides[0]}", "l rest", "end")] if sides[0] else []
        body += [svg.text(max(begin, end + 10), 14, f"{sides[1]} ▶", "l grpc")] if sides[1] else []
    for index, row in enumerate(rows):
        body += _dot_row(row, across, top + _ROW * index, left, right)
    return Drawing(Markup().join(body), width, height)


def _dot_row(row: DotRow, across: Scale, top: float, left: float, right: float) -> list[Markup]:
    body = [svg.text(left - 10, top + _ROW / 2 + 4, row.label, "v", "end")]
    # Several dots in one row are spread a little, so that none hides another.
    spread = min(9.0, 18 / max(len(row.dots), 1)) if len(row.dots) > 1 else 0
    for index, dot in enumerate(row.dots):
        y = top + _ROW / 2 + (index - (len(row.dots) - 1) / 2) * spread
        if dot.low is not None and dot.high is not None:
            body.append(svg.horizontal(across(dot.low), across(dot.high), y, f"whisker {dot.style.class_}"))
        body.append(_marker(dot.style, across(dot.value), y, dot.note, trusted=dot.trusted))
    if row.text:
        body.append(svg.text(right + 12, top + _ROW / 2 + 4, row.text, "v"))
    return body


def _label_room(labels: Sequence[str]) -> float:
    return min(16 + max((len(label) for label in labels), default=0) * svg.CHARACTER_WIDTH * 0.92, 200)


# --- bars ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a bar."""

    name: str
    value: float
    style: Style


@dataclass(frozen=True, slots=True)
class Bar:
    """A stacked bar, its name on the left, its *text* at its end."""

    label: str
    segments: tuple[Segment, ...]
    text: str = ""
    low: float | None = None
    high: float | None = None


def bar_chart(bars: Sequence[Bar], x: Axis, *, width: float = WIDTH) -> Drawing:
    """Draw horizontal stacked bars from 0."""
    left = _label_room([bar.label for bar in bars])
    text_room = max((len(bar.text) for bar in bars), default=0) * svg.CHARACTER_WIDTH
    right = width - text_room - 14
    top, bottom = 6, 6 + _ROW * len(bars)
    height = bottom + _BOTTOM
    totals = [sum(segment.value for segment in bar.segments) for bar in bars]
    across = svg.linear_scale([*totals, *[bar.high for bar in bars if bar.high is not None]], left, right, headroom=0)
    # Labels of a narrow plot are left out, not squeezed.
    most = max(2, int((right - left) / 60))
    ticks = x.at or across.ticks(most)
    body = [svg.vertical(across(tick), top, bottom, "grid") for tick in ticks]
    body += _x_axis(across, Axis(x.label, show=x.show, at=tuple(ticks)), bottom, left, right, height)
    for index, (bar, total) in enumerate(zip(bars, totals, strict=True)):
        body += _bar(bar, total, across, top + _ROW * index, left)
    return Drawing(Markup().join(body), width, height)


def _bar(bar: Bar, total: float, across: Scale, top: float, left: float) -> list[Markup]:
    body = [svg.text(left - 10, top + _ROW / 2 + 4, bar.label, "v", "end")]
    begin = 0.0
    for segment in bar.segments:
        start, end = across(begin), across(begin + segment.value)
        title = svg.element("title", f"{bar.label}, {segment.name}: {numbers.number(segment.value)}")
        wide = max(end - start, 0.8 if segment.value else 0)
        body.append(
            svg.element(
                "rect", title, class_=f"fill {segment.style.class_}", x=start, y=top + 5, width=wide, height=_ROW - 10
            )
        )
        begin += segment.value
    middle = top + _ROW / 2
    if bar.low is not None and bar.high is not None:
        body.append(svg.horizontal(across(bar.low), across(bar.high), middle, "whisker over"))
    body.append(svg.text(across(max(total, bar.high or 0)) + 7, middle + 4, bar.text, "v b"))
    return body


@dataclass(frozen=True, slots=True)
class Columns:
    """One series of a column chart: a value for each category."""

    name: str
    style: Style
    values: tuple[float, ...]


def column_chart(categories: Sequence[str], series: Sequence[Columns], x: str, y: Axis, height: float = 280) -> Drawing:
    """Draw groups of columns from 0: one group per category, one column per series."""
    left, right, top, bottom = _LEFT, WIDTH - _RIGHT, _TOP, height - _BOTTOM
    up = svg.linear_scale([value for s in series for value in s.values], bottom, top)
    group = (right - left) / len(categories)
    column = min(group * 0.8 / len(series), 46)
    body = [*_y_axis(up, y, left, right), svg.horizontal(left, right, bottom, "axis")]
    for place, category in enumerate(categories):
        middle = left + (place + 0.5) * group
        body.append(svg.text(middle, bottom + 19, category, "t", "middle"))
        for index, one in enumerate(series):
            start = middle + (index - len(series) / 2) * column
            value = one.values[place]
            title = svg.element("title", f"{one.name}, {category}: {y.show(value)}")
            # What happened at all is visible, however seldom.
            tall = max(bottom - up(value), 1.2 if value else 0)
            body.append(
                svg.element(
                    "rect",
                    title,
                    class_=f"fill {one.style.class_}",
                    x=start + 0.5,
                    y=bottom - tall,
                    width=column - 1,
                    height=tall,
                )
            )
    body.append(svg.text((left + right) / 2, height - 4, x, "l", "middle"))
    return Drawing(Markup().join(body), WIDTH, height)
