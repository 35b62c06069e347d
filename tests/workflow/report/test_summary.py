import re

import pytest
from tests.workflow import result_factory as factory

from slipway.records import ScenarioRecord
from slipway.report.summary import MOST_LINES, summary_markdown

HOSTILE = "--> <script> | `x` *y* \n# z"


def test_it_opens_with_a_hidden_marker_and_the_verdict():
    lines = summary_markdown(factory.result()).splitlines()

    assert lines[0] == "<!-- slipway:digits -->"
    assert lines[1] == "### ✅ Proven: digits, version 2"
    assert lines[2].startswith("**gRPC answers 1.8")


def test_both_protocols_stand_side_by_side():
    summary = summary_markdown(factory.result())

    assert re.search(
        r"\| predictions/s at its best load \| 2.\d+ \[.*\] \(64 in flight\) \| 4.\d+ \[.*\] \(64 in flight\) \|",
        summary,
    )
    assert "| accuracy through the endpoint | 93.1% | 93.1% |" in summary


@pytest.mark.parametrize("versions", [1, 3, 40])
def test_it_stays_short_however_much_was_measured(versions):
    numbers = range(1, versions + 1)
    made = factory.result(
        [factory.model_result(versions=numbers, benchmarked=numbers, repetitions=1, concurrency=(1,), cold_starts=0)]
    )
    summary = summary_markdown(made)

    assert len(summary.splitlines()) <= MOST_LINES
    assert len(summary) < 65_536
    assert ("more measurements in the full report" in summary) == (versions == 40)


def test_names_are_no_markup():
    model = factory.model_result(model=HOSTILE)
    summary = summary_markdown(factory.result([model], command="a`b\nc"))

    assert "<script>" not in summary
    assert summary.splitlines()[0].count("-->") == 1
    assert "`a'b c`" in summary
    assert all(line.count("|") - line.count("\\|") in (0, 3, 4) for line in summary.splitlines())


def test_a_failure_is_told_in_its_first_words():
    record = factory.with_repetitions(
        factory.benchmark("digits", 2), lambda _c, r: r.model_copy(update={"wrong_answers": 1})
    )
    summary = summary_markdown(factory.with_benchmark(factory.result(), record))

    assert "### ❌ Answers wrong: digits, version 2" in summary


def test_a_fault_that_a_scenario_found_is_told_in_its_first_words():
    known = {"name": "soak", "kind": "soak", "settings": {}, "duration_s": 1.0, "values": [], "windows": []}
    fault = ScenarioRecord(**known, faults=["memory grows by 3.0% an hour"])
    record = factory.benchmark("digits", 2).model_copy(update={"scenarios": [fault]})
    lines = summary_markdown(factory.with_benchmark(factory.result(), record)).splitlines()

    assert lines[1] == "### ❌ The server is at fault: digits, version 2"
    assert "soak: memory grows by 3.0% an hour" in lines[2]
