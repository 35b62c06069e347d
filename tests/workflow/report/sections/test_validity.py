import pytest
from tests.workflow import result_factory as factory

from slipway import repetitions as rules
from slipway.records import Placement
from slipway.report.sections.validity import _count_cpus, limits, validity


def table(measurement) -> dict[str, list[str]]:
    return {row[0].text: [cell.text for cell in row[1:]] for row in validity([measurement]).blocks[0].rows}


def test_every_rule_tells_its_limit_the_worst_seen_and_who_broke_it(measurement):
    found = table(measurement)

    limit, _, broken, verdict = found["The load generator was not the limit"]
    assert (limit, broken, verdict) == ("90% of a core", "0", "✓ pass")
    assert found["No request failed"] == ["0", "0", "0", "✓ pass"]
    assert found["Open loop: requests left on time (p99)"][1] == "90 µs"


def test_a_broken_rule_is_counted_and_an_unknown_one_told_in_its_own_words(measured):
    def broken(_cell, repetition):
        return repetition.model_copy(
            update={
                "invalid": [rules.SATURATED]
                if repetition.order < 3
                else ["a new rule"]
                if repetition.order == 9
                else []
            }
        )

    found = table(measured(factory.with_repetitions(factory.benchmark("digits", 2), broken)))

    assert found["The load generator was not the limit"][2:] == ["3", "! broken"]
    assert found["a new rule"][2:] == ["1", "! broken"]
    assert found["Repetitions that count"][2:] == ["4 of 60", "✓ pass"]


def test_limits_follow_from_what_was_measured(measured):
    record = factory.benchmark("digits", 2, repetitions=2)
    record = factory.with_repetitions(
        record, lambda _c, r: r.model_copy(update={"foreign_cpu_cores": 0.8, "generator_utilisation": 0.85})
    )
    placement = Placement(logical_cpus=2, server_cpus="0-1", generator_cpus="0-1", pinned=False)
    told = dict(limits(measured(record.model_copy(update={"placement": placement, "batching": None}))))

    assert "share all 2 CPUs" in told["One machine, unpinned"]
    assert "the ceiling may be the generator's" in told["gRPC at its peak"]
    assert told["Few repetitions"].startswith("2 valid ones")
    assert "0.8 cores" in told["A busy machine"]
    assert "No batching" in told


@pytest.mark.parametrize(("listed", "count"), [("0", 1), ("0-2,5", 4), ("", 0), ("all", 0), ("1-x", 0)])
def test_a_kernel_list_of_cpus_is_counted(listed, count):
    assert _count_cpus(listed) == count
