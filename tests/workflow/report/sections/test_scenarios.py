import pytest
from tests.workflow import result_factory as factory

from slipway.records import ScenarioRecord, ScenarioSeries, ScenarioValue, ScenarioWindow
from slipway.report.blocks import Figure, Folded, Items, Table
from slipway.report.sections.scenarios import TITLES, scenarios, shown
from slipway.scenario_settings import KINDS


def value(**changes):
    known = {"key": "p99", "name": "p99", "protocol": "rest", "value": 2500.0, "unit": "us"}
    return ScenarioValue(**(known | changes))


def windows(rows=(1, 8)):
    cells = [cell for cell in factory.benchmark("digits", 2).cells if cell.load.concurrency == 4]
    return [
        ScenarioWindow(label=f"{count} rows", protocol=c.protocol, rows=count, load=c.load, repetition=c.repetitions[0])
        for count in rows
        for c in cells
    ]


@pytest.fixture
def written(measured):
    """Write the sections of scenarios: a list of blocks for each."""

    def write(*records):
        record = factory.benchmark("digits", 2)
        return scenarios(measured(record.model_copy(update={"scenarios": list(records)})))

    return write


def scenario(kind="payload", name=None, **changes):
    known = {"name": name or kind, "kind": kind, "settings": {}, "duration_s": 12.0, "values": [value()], "windows": []}
    return ScenarioRecord(**(known | changes))


def test_every_kind_has_a_title():
    assert set(TITLES) == set(KINDS)


def test_numbers_stand_side_by_side_for_both_protocols(written):
    both = [value(), value(protocol="grpc", value=1500.0), value(key="slo", name="Bound", protocol=None, value=5000.0)]
    (section,) = written(scenario(values=both))
    (table,) = [block for block in section.blocks if isinstance(block, Table)]

    assert [cell.text for cell in table.head] == ["What", "Step", "REST", "gRPC", "both"]
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["p99", "", "2.5 ms", "1.5 ms", ""],
        ["Bound", "", "", "", "5 ms"],
    ]


def test_faults_reasons_and_notes_come_first(written):
    (section,) = written(scenario(faults=["a"], invalid=["b"], notes=["c"]))

    assert section.blocks[0] == Items((("The server's fault", "a"), ("Does not count", "b"), ("Note", "c")))


def test_what_could_not_be_tried_is_not_called_a_measurement_that_does_not_count(written):
    why = "not measured: no other version is served"
    (section,) = written(scenario(invalid=[why]))

    assert section.blocks[0] == Items((("Not tried", why),))


def test_rows_and_series_are_drawn_and_every_window_is_listed(written):
    series = [
        ScenarioSeries(name="p99 over time", protocol=p, unit="us", x_s=[1, 2], y=[900.0, None])
        for p in ("rest", "grpc")
    ]
    (section,) = written(scenario(series=series, windows=windows()))
    figures = [block for block in section.blocks if isinstance(block, Figure)]
    (folded,) = [block for block in section.blocks if isinstance(block, Folded)]

    assert [figure.title for figure in figures] == ["p99 over time", "Predictions per second by rows in a request"]
    # What was not measured has no point.
    assert len(figures[0].table.rows) == 2
    assert len(folded.blocks[0].rows) == 4


def test_only_the_first_is_in_the_navigation_and_names_are_told(written):
    first, second = written(scenario("soak"), scenario("soak", "night"))

    assert (first.short, second.short) == ("Scenarios", "")
    assert second.title == "A long time at one rate (night)"
    assert written() == ()


def test_what_serialization_costs_is_told_next_to_what_was_published(written):
    (section,) = written(scenario("serialization"))

    assert "7,680 images/s and 620 MB" in str(section.blocks)


def test_a_kind_of_a_newer_slipway_is_shown_by_its_name(written):
    (section,) = written(scenario("time_travel"))

    assert section.title == "time travel"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"value": None}, "–"),
        ({"unit": "1/s", "value": 812.0}, "812 /s"),
        ({"unit": "share/h", "value": 0.02, "low": 0.01, "high": 0.03}, "2% an hour [1% an hour, 3% an hour]"),
        ({"unit": "ratio", "value": 1.5}, "1.50×"),
    ],
)
def test_numbers_have_their_unit_and_interval(changes, expected):
    assert shown(value(**changes)) == expected
