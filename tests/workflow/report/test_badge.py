import xml.etree.ElementTree as ET

import pytest
from tests.workflow import result_factory as factory

from slipway.report.badge import COLOURS, badge_message, badge_svg
from slipway.report.verdict import STATES


def test_it_says_the_verdict_and_the_best_rates():
    made = factory.result()
    drawn = ET.fromstring(badge_svg(made))

    assert badge_message(made).startswith("Proven · REST ")
    assert ", gRPC " in badge_message(made)
    assert drawn.get("aria-label") == f"slipway: {badge_message(made)}"
    assert float(drawn.get("width")) > 100


def test_of_several_measurements_it_says_the_worst_verdict_alone():
    models = [factory.model_result(name) for name in ("one", "two")]

    assert badge_message(factory.result(models)) == "Proven"


def test_without_a_measurement_it_says_so():
    made = factory.result([factory.model_result(benchmarked=())])

    assert badge_message(made) == "Measured, not proven"


@pytest.mark.parametrize("state", STATES)
def test_white_can_be_read_on_every_colour(state):
    """WCAG 2.2, 1.4.3: 4.5 : 1."""
    channels = [int(COLOURS[state][i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    assert 1.05 / (luminance + 0.05) >= 4.5
