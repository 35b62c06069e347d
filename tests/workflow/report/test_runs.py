import numpy as np
import pytest
from tests.workflow import result_factory as factory
from tests.workflow.run_factory import entry, made

from slipway.records import Result
from slipway.report.history import series
from slipway.report.runs import run_entry


def test_an_entry_sums_a_run_up():
    found = entry(made(4))
    (measured,) = found.measured

    assert found.state == "proven"
    assert found.headline.startswith("gRPC answers")
    assert (measured.model, measured.version) == ("digits", 2)
    assert [one.protocol for one in measured.numbers] == ["rest", "grpc"]
    assert all(one.predictions_per_s and one.server_cpu_us and one.p50_us and one.p99_us for one in measured.numbers)
    assert (measured.ready_s, measured.resident_bytes) == (5.2, 612_000_000)


def test_numbers_are_read_at_loads_that_do_not_depend_on_what_was_measured():
    """A peak that wanders from one load to the next would look like a change of latency."""
    found = {one.protocol: one for one in entry(made(1)).measured[0].numbers}
    record = made(1).models[0].benchmarks[0]
    least = next(cell for cell in record.cells if cell.id == "rest-closed-1")

    assert found["rest"].p50_us == np.median([r.latency.p50_us for r in least.repetitions])


def test_a_run_that_measured_nothing_valid_has_no_numbers():
    record = factory.with_repetitions(
        factory.benchmark("digits", 2), lambda _c, r: r.model_copy(update={"invalid": ["x"]})
    )
    bad = factory.with_benchmark(factory.result(), record)
    found = run_entry(bad, bad.run_id, factory.digest("x"))

    assert found.state == "invalid"
    assert all(one.predictions_per_s is None and one.server_cpu_us is None for one in found.measured[0].numbers)


def changed(**changes) -> Result:
    small = {"repetitions": 1, "concurrency": (1,), "cold_starts": 0, "rate": None}
    record = factory.benchmark("digits", 2, **small)
    return factory.with_benchmark(factory.result([factory.model_result(**small)]), record.model_copy(update=changes))


@pytest.mark.parametrize(
    ("fact", "changes"),
    [
        ("batching", {"batching": None}),
        ("server flags", {"server_flags": ["--enable_batching=false"]}),
        ("window", {"window_s": 6.0}),
        ("warm-up", {"warmup_s": 2.0}),
        ("placement", {"placement": factory.benchmark("x", 1).placement.model_copy(update={"pinned": False})}),
        ("engine", {"engine": factory.ENGINE.model_copy(update={"version": "5"})}),
        ("load generator", {"locust": {"locust": "3"}}),
        (
            "load generator",
            {"placement": factory.benchmark("x", 1).placement.model_copy(update={"generator_processes": 2})},
        ),
        ("CPU", {"environment": factory.environment().model_copy(update={"cpu": "Another"})}),
    ],
)
def test_what_numbers_depend_on_is_a_fact_and_what_they_are_to_show_is_none(fact, changes):
    one, other = (entry(result).measured[0] for result in (changed(), changed(**changes)))

    assert [name for name in other.facts if one.facts.get(name) != other.facts[name]] == [fact]
    assert entry(changed(servable_digest=factory.digest("retrained"))).measured[0].facts == one.facts


def repeated(result: Result, **configured) -> Result:
    """As it is where one window had not settled and was measured again, and another one settled late."""

    def measured(_, r):
        again, late = {"window_s": 2 * r.window_s}, {"window_s": r.window_s - 1.25, "discarded_s": 1.75}
        return r.model_copy(update={1: again, 2: late}.get(r.order, {}))

    record = factory.with_repetitions(result.models[0].benchmarks[0], measured)
    return factory.with_benchmark(result, record.model_copy(update=configured))


@pytest.mark.parametrize("configured", [{}, {"window_s": None, "warmup_s": None}])
def test_a_window_that_was_measured_again_leaves_a_run_in_its_series(configured):
    """With or without what was configured: an older Slipway did not write it down."""
    older, newer = made(1), repeated(made(2), **configured)
    found = series([entry(newer), entry(older)], "digits")

    assert [len(one.runs) for one in found] == [2]
    assert (found[0].facts["window"], found[0].facts["warm-up"]) == ("3 s", "0.5 s")


def test_older_results_of_other_windows_are_in_a_series_of_their_own():
    configured = {"window_s": None, "warmup_s": None}
    short, long = repeated(made(1), **configured), repeated(made(2, window_s=6.0), **configured)

    assert len(series([entry(long), entry(short)], "digits")) == 2


def test_what_may_change_between_joined_runs_is_told():
    origin = entry(made(1)).measured[0].origin
    one, chosen = (entry(changed(**plan)).measured[0] for plan in ({}, {"thread_plan": "batch_per_core"}))

    assert (chosen.facts, chosen.origin) == (one.facts, one.origin | {"thread plan": "batch_per_core"})
    assert origin["commit"] == "9f3c2ab51d"
    assert origin["version"] == "2"
    assert origin["package tensorflow-cpu"] == "2.21.0"
