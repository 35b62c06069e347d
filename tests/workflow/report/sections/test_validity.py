import pytest
from tests.workflow import result_factory as factory

from slipway import repetitions as rules
from slipway.records import Placement, ScenarioRecord, ScenarioValue, TargetRecord
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


def test_how_many_processes_made_the_load_is_told(measured):
    record = factory.benchmark("digits", 2, repetitions=2)
    placement = record.placement.model_copy(update={"generator_processes": 4})
    ceilings = [ceiling.model_copy(update={"processes": 4}) for ceiling in record.ceilings]
    told = dict(limits(measured(record.model_copy(update={"placement": placement, "ceilings": ceilings}))))

    assert "load generator on 1 (4 processes)" in told["One machine"]
    assert told["Ceiling over gRPC"].startswith("the load generator with 4 processes gets")
    assert "the load generator's busiest process used" in told["gRPC at its peak"]


def test_what_another_generator_found_is_told(measured):
    record = factory.benchmark("digits", 2, repetitions=2)
    values = [
        ScenarioValue(key="native_over_wire", name="", protocol=protocol, value=value, unit="ratio")
        for protocol, value in (("rest", 1.026), ("grpc", 1.07))
    ]
    scenario = ScenarioRecord(name="clients", kind="clients", settings={}, duration_s=1, values=values, windows=[])

    told = dict(limits(measured(record.model_copy(update={"scenarios": [scenario]}))))
    assert told["Held against h2load"] == (
        "h2load gets 1.03× over REST and 1.07× over gRPC as many requests/s of the server as the load generator"
    )
    assert "Held against h2load" not in dict(limits(measured(record)))


def test_tls_on_one_side_is_part_of_a_ratio(measured):
    record = factory.benchmark("digits", 2, repetitions=2)
    target = TargetRecord(
        addresses={"rest": "h:8501", "grpc": "h:8500"},
        signature=factory.version("digits", 2).validation.signatures[0],
        payload="drawn",
        tls={"grpc": "TLSv1.3"},
    )

    def told(tls):
        return dict(limits(measured(record.model_copy(update={"target": target.model_copy(update={"tls": tls})}))))

    assert told(target.tls)["TLS on one side"].startswith("gRPC has TLS and REST has none")
    assert "TLS on one side" not in told({"rest": "TLSv1.3", "grpc": "TLSv1.3"})
    assert "TLS on one side" not in told({})


@pytest.mark.parametrize(("listed", "count"), [("0", 1), ("0-2,5", 4), ("", 0), ("all", 0), ("1-x", 0)])
def test_a_kernel_list_of_cpus_is_counted(listed, count):
    assert _count_cpus(listed) == count


def test_what_was_seen_of_the_machine_stands_beside_its_limits(measured):
    seen = {"stolen_share": 0.004, "clock_share": 0.97, "throttled_share": 0.0, "trend": -1.25, "reconnects": 0}
    seen |= {"in_flight": 3.6, "disturbed_slots": 0.125, "undeclared": ["batching: declared on, the server says off"]}
    record = factory.with_repetitions(
        factory.benchmark("digits", 2, concurrency=(1, 4)),
        lambda _c, r: r.model_copy(update={**seen, "invalid": [rules.UNDECLARED] if r.order == 0 else []}),
    )
    found = table(measured(record))

    assert found["No hypervisor took the CPUs"] == ["1% of their time", "0.4%", "0", "✓ pass"]
    assert found["The server's CPUs kept their clock"][1] == "97%"
    assert found["Answers per second had settled (Mann–Kendall's z)"][:2] == ["±2.24", "1.25"]
    assert found["Closed loop: all users had a request under way"][:2] == ["80% of them", "90%"]
    assert found["Nothing else used the CPUs (mean; half seconds)"][1] == "0.02; 12.5%"
    assert found["The server runs with the settings that were declared"][1:] == [
        *("batching: declared on, the server says off", "1", "! broken")
    ]


def test_a_result_of_before_these_rules_says_that_they_were_not_looked_at(measurement):
    found = table(measurement)

    assert found["No hypervisor took the CPUs"][1:] == ["–", "0", "not looked at"]
    assert found["No GPU was slowed down"][1:] == ["–", "0", "not looked at"]
    assert found["The server runs with the settings that were declared"][1:] == ["–", "0", "not looked at"]
    assert found["The load generator woke up in time (p99, worst)"][1:] == ["–, –", "0", "not looked at"]
