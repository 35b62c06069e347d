import itertools
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.report import charts
from slipway.report.charts import GRPC, REST, Axis, Bar, Columns, Dot, DotRow, Line, Point, Segment
from slipway.report.overlays import Limit, Mark

NAMESPACED = '<svg xmlns="http://www.w3.org/2000/svg">{}</svg>'


def parsed(drawing: charts.Drawing) -> ET.Element:
    return ET.fromstring(NAMESPACED.format(drawing.body))


def marks(drawing: charts.Drawing) -> list[ET.Element]:
    return [e for e in parsed(drawing).iter() if "mark" in e.attrib.get("class", "").split()]


def texts(drawing: charts.Drawing) -> list[str]:
    return [e.text or "" for e in parsed(drawing).iter() if e.tag.endswith("text")]


def coordinates(drawing: charts.Drawing) -> list[tuple[float, float]]:
    return [(float(e.attrib["cx"]), float(e.attrib["cy"])) for e in marks(drawing) if "cx" in e.attrib]


positive = st.floats(min_value=1e-3, max_value=1e9)


@given(st.lists(st.tuples(positive, positive), min_size=1, max_size=8), st.booleans(), st.booleans())
def test_every_point_is_drawn_inside_the_picture(points, log_x, log_y):
    line = Line("gRPC", GRPC, tuple(Point(x, y) for x, y in sorted(points)))
    drawing = charts.line_chart([line], Axis("x", log=log_x), Axis("y", log=log_y))
    placed = coordinates(drawing)

    assert len(placed) == len(points)
    assert all(0 <= x <= drawing.width and 0 <= y <= drawing.height for x, y in placed)


def test_larger_is_higher_and_further_right():
    line = Line("gRPC", GRPC, (Point(1, 10), Point(2, 20)))
    (x1, y1), (x2, y2) = coordinates(charts.line_chart([line], Axis("x"), Axis("y")))

    assert x2 > x1
    assert y2 < y1


def test_what_broke_a_rule_is_grey_hollow_and_crossed():
    line = Line("REST", REST, (Point(1, 10), Point(2, 20, trusted=False)))
    drawn = [e.attrib["class"] for e in marks(charts.line_chart([line], Axis("x"), Axis("y")))]

    assert drawn == ["mark rest", "mark void", "mark void"]


def test_an_interval_is_a_band_and_a_lonely_one_a_whisker():
    band = Line("REST", REST, (Point(1, 10, 9, 11), Point(2, 20, 19, 22)))
    lonely = Line("REST", REST, (Point(1, 10, 9, 11),))

    assert 'class="ribbon rest"' in charts.line_chart([band], Axis("x"), Axis("y")).body
    assert 'class="whisker rest"' in charts.line_chart([lonely], Axis("x"), Axis("y")).body


def test_protocols_differ_by_shape_and_not_by_colour_alone():
    rows = [DotRow("p50", (Dot(1.0, REST), Dot(2.0, GRPC)))]
    shapes = [e.tag.rpartition("}")[2] for e in marks(charts.dot_chart(rows, Axis("ms")))]

    assert shapes == ["rect", "circle"]


def test_sides_of_a_reference_are_named():
    rows = [DotRow("throughput", (Dot(1.8, GRPC, 1.7, 1.9),), "1.80×")]
    drawing = charts.dot_chart(rows, Axis("ratio", log=True), reference=1.0, sides=("REST ahead", "gRPC ahead"))

    assert {"◀ REST ahead", "gRPC ahead ▶", "1.80×", "throughput"} <= set(texts(drawing))


@pytest.mark.parametrize("value", [1e-3, 0.5, 1.0, 2.0, 1e3])
def test_sides_are_named_inside_of_the_picture_and_apart(value):
    rows = [DotRow("throughput", (Dot(value, GRPC),), "1.80×")]
    drawing = charts.dot_chart(rows, Axis("ratio", log=True), reference=1.0, sides=("REST ahead", "gRPC ahead"))
    places = {
        e.text: float(e.attrib["x"]) for e in parsed(drawing).iter() if e.text in ("◀ REST ahead", "gRPC ahead ▶")
    }

    assert places["◀ REST ahead"] >= 80
    assert places["gRPC ahead ▶"] <= drawing.width - 80
    assert places["gRPC ahead ▶"] - places["◀ REST ahead"] >= 10


def test_bars_are_as_long_as_their_values():
    bars = [
        Bar("one", (Segment("a", 10, REST), Segment("b", 30, GRPC)), "40"),
        Bar("two", (Segment("a", 20, REST),), "20"),
    ]
    rects = [e for e in parsed(charts.bar_chart(bars, Axis("bytes"))).iter() if "fill" in e.attrib.get("class", "")]
    widths = [float(e.attrib["width"]) for e in rects]

    assert widths[1] == pytest.approx(3 * widths[0], abs=0.3)
    assert widths[2] == pytest.approx(2 * widths[0], abs=0.3)
    assert float(rects[1].attrib["x"]) == pytest.approx(float(rects[0].attrib["x"]) + widths[0], abs=0.2)


def test_bars_of_nothing_are_drawn_all_the_same():
    drawing = charts.bar_chart([Bar("none", (Segment("a", 0.0, REST),), "0")], Axis("bytes"))

    assert "none" in texts(drawing)


def test_rare_batches_stay_visible():
    series = [Columns("REST", REST, (99.99, 0.01, 0.0))]
    rects = [
        e
        for e in parsed(charts.column_chart(["1", "2", "3"], series, "rows", Axis("%"))).iter()
        if "fill" in e.attrib.get("class", "")
    ]

    assert [float(e.attrib["height"]) > 1 for e in rects] == [True, True, False]


def test_tick_labels_do_not_touch():
    line = Line("gRPC", GRPC, tuple(Point(float(x), 1.0) for x in range(1, 65)))
    drawing = charts.line_chart([line], Axis("x", at=tuple(float(x) for x in range(1, 65))), Axis("y"))
    places = [
        float(e.attrib["x"])
        for e in parsed(drawing).iter()
        if e.attrib.get("text-anchor") == "middle" and e.attrib["class"] == "t"
    ]

    assert len(places) > 5
    assert all(b - a >= 29 for a, b in itertools.pairwise(places))


def test_limits_and_marks_lie_over_the_lines():
    line = Line("gRPC", GRPC, (Point(1, 10), Point(2, 20)))
    limits = [Limit(25, "ceiling"), Limit(900, "far ceiling")]
    drawing = charts.line_chart([line], Axis("x"), Axis("y"), limits=limits, marks=[Mark(1.5, "1")])

    assert {"ceiling", "▲ far ceiling", "1"} <= set(texts(drawing))
    assert drawing.body.count('class="limit"') == 1
    assert drawing.body.count('class="happened"') == 1
    # The far one does not press the lines down.
    assert min(y for _, y in coordinates(drawing)) < 120


def test_legends_repeat_colour_dash_and_shape():
    hollow = charts.Style("rest", "square", hollow=True)
    (entry,) = charts.line_legend([Line("cold", hollow, (Point(1, 1),))])

    assert entry.name == "cold"
    assert 'class="line rest dashed"' in entry.key
    assert 'class="mark rest hollow"' in entry.key
    assert 'aria-hidden="true"' in entry.key
