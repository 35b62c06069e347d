import pytest
from tests.workflow import result_factory as factory

from slipway.records import ScenarioRecord, ScenarioValue
from slipway.report.blocks import Figure
from slipway.report.sections.scenarios import scenarios


def ratio(key, protocol, value, low=None, high=None):
    return ScenarioValue(
        key=f"{key}_ratio",
        name=key,
        protocol=protocol,
        value=value,
        unit="ratio",
        low=low,
        high=high,
        label="version 2 ÷ version 1",
    )


@pytest.fixture
def figures(measured):
    """Draw a record of `ab_versions` with these values."""

    def draw(*values):
        known = {"name": "ab_versions", "kind": "ab_versions", "settings": {}, "duration_s": 1.0, "windows": []}
        record = factory.benchmark("digits", 2).model_copy(
            update={"scenarios": [ScenarioRecord(**known, values=list(values))]}
        )
        (section,) = scenarios(measured(record))
        return [block for block in section.blocks if isinstance(block, Figure)]

    return draw


def test_ratios_are_drawn_with_their_intervals_and_what_they_show(figures):
    (figure,) = figures(
        ratio("predictions_per_s", "rest", 0.9, 0.85, 0.95),
        ratio("predictions_per_s", "grpc", 1.01, 0.98, 1.03),
        ratio("latency_p99", "grpc", 1.2),
    )
    told = [[cell.text for cell in row] for row in figure.table.rows]

    assert figure.title == "version 2 ÷ version 1, metric by metric"
    assert [(row[1], row[2], row[-1]) for row in told] == [
        ("REST", "0.900×", "shown"),
        ("gRPC", "1.01×", "not shown"),
        ("gRPC", "1.20×", "no interval: too few pairs"),
    ]
    body = str(figure.panels[0].drawing.body)
    # Two intervals, three dots, ticks on both sides of no difference.
    assert body.count("whisker") == 2
    assert "p99" in body
    assert "predictions / s" in body
    assert "1.20×" in body
    assert "0.833×" in body


def test_nothing_is_drawn_of_pairs_that_do_not_count(figures):
    assert figures(ratio("latency_p50", "rest", None)) == []


def test_alike_versions_have_a_drawing_too(figures):
    (figure,) = figures(ratio("latency_p50", "rest", 1.0, 1.0, 1.0))

    assert "1.02×" in str(figure.panels[0].drawing.body)
