import math
import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from slipway.report import svg
from slipway.report.svg import Scale

positive = st.floats(min_value=1e-6, max_value=1e12)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_whatever_is_written_is_read_back_as_text(text):
    element = ET.fromstring(svg.text(1, 2, text, "t")) if text else None

    assert element is None or element.text == text


def test_attributes_are_escaped_and_absent_ones_left_out():
    written = svg.element("rect", class_='a"><script>', stroke_width=2, fill=None)

    assert ET.fromstring(written).attrib == {"class": 'a"><script>', "stroke-width": "2"}


@given(st.floats(min_value=-1e6, max_value=1e6))
def test_coordinates_are_short_and_near(value):
    written = svg.coordinate(value)

    assert abs(float(written) - value) <= 0.0501
    assert written != "-0"
    assert "e" not in written


@given(st.lists(positive, min_size=1), st.booleans())
def test_every_value_lies_inside_its_scale(values, log):
    scale = svg.log_scale(values, 0, 100) if log else svg.linear_scale(values, 0, 100)

    assert all(-1e-6 <= scale(value) <= 100 + 1e-6 for value in values)


@given(st.lists(positive, min_size=1), st.booleans(), st.integers(3, 9))
def test_ticks_are_a_few_round_values_inside_the_scale(values, log, most):
    scale = svg.log_scale(values, 0, 100) if log else svg.linear_scale(values, 0, 100)
    ticks = scale.ticks(most)

    assert 1 <= len(ticks) <= most
    assert ticks == sorted(set(ticks))
    assert all(scale.low * 0.999 <= tick <= scale.high * 1.001 for tick in ticks)
    # Round: two digits and zeros.
    assert all(float(f"{tick:.1e}") == tick or math.isclose(float(f"{tick:.2e}"), tick) for tick in ticks)


def test_a_flat_line_lies_in_the_middle_of_a_logarithmic_scale():
    scale = svg.log_scale([100.0, 100.0], 0, 10)

    assert math.isclose(scale(100.0), 5.0)


def test_nothing_measured_still_has_a_scale():
    assert svg.linear_scale([], 0, 10).ticks()[0] == 0
    assert svg.log_scale([0.0], 0, 10).ticks()


def test_what_lies_outside_is_put_at_the_edge():
    assert Scale(0, 10, 0, 100)(25) == 100
    assert Scale(1, 10, 0, 100, log=True)(0.0) == 0
