import xml.etree.ElementTree as ET

from markupsafe import Markup

from slipway.report import overlays
from slipway.report.overlays import Limit, Mark
from slipway.report.svg import Scale

UP = Scale(0.0, 100.0, 200.0, 20.0)
NAMESPACED = '<svg xmlns="http://www.w3.org/2000/svg">{}</svg>'


def parsed(parts) -> list[ET.Element]:
    return list(ET.fromstring(NAMESPACED.format(Markup().join(parts))).iter())


def labels(parts) -> dict[str, float]:
    return {e.text: float(e.attrib["y"]) for e in parsed(parts) if e.tag.endswith("text")}


def test_a_limit_is_a_line_at_its_value_with_its_label_on_it():
    drawn = overlays.drawn([Limit(50, "ceiling")], UP, 56, 484)

    assert [e.attrib["d"] for e in parsed(drawn) if e.tag.endswith("path")] == ["M56 110H484"]
    assert labels(drawn) == {"ceiling": 106.0}


def test_labels_of_limits_close_together_do_not_touch():
    found = labels(overlays.drawn([Limit(50, "a"), Limit(51, "b"), Limit(52, "c")], UP, 0, 1))

    assert found["a"] - found["b"] >= 14
    assert found["b"] - found["c"] >= 14


def test_a_limit_far_above_what_was_measured_is_told_not_drawn():
    assert overlays.is_near(Limit(150, "near"), [10, 100])
    assert not overlays.is_near(Limit(170, "far"), [10, 100])
    told = overlays.told([Limit(260, "far"), Limit(900, "further")], 26, 484)

    assert list(labels(told)) == ["▲ further", "▲ far"]
    assert not [e for e in parsed(told) if e.tag.endswith("path")]


def test_what_happened_is_a_line_with_a_label_and_a_note():
    (drawn,) = [overlays.happened(Mark(2.5, "1", "<slower>"), Scale(0, 5, 0, 100), 20, 200)]

    assert 'd="M50 20L50 200"' in drawn
    assert "<title>&lt;slower&gt;</title>" in drawn
    assert ">1</text>" in drawn
