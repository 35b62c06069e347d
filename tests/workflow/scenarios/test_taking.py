"""Every kind of scenario on a small server of real processes and sockets: what it takes down, not how fast anything is."""

import shutil
from functools import partial

import pytest
from tests.workflow import test_benchmark as stage
from tests.workflow.mischief import after_one_window
from tests.workflow.undisturbed import undisturb

from slipway import benchmark
from slipway.errors import InvalidMeasurement
from slipway.records import BenchmarkRecord
from slipway.scenarios import slo
from slipway.scenarios.streams import ENCODINGS
from slipway_wire import samples

SHORT = {"repetitions": 1, "window_s": 0.25}
SCENARIOS = {
    "single_stream": SHORT,
    "multi_stream": SHORT | {"protocols": ["rest"]},
    "offline": {"total_rows": 160, "rows": 5, "protocols": ["grpc"]},
    "sizes": SHORT | {"kind": "payload", "rows": [1, 4, 64]},
    "serialization": SHORT,
    "clients": SHORT | {"users": 2, "most_apart": 1},
    "server_slo": {"probe_s": 1, "resolution": 1, "confirmations": 1, "protocols": ["rest"], "slo_ms": 1000},
    "mixed": SHORT | {"share": 0.4, "window_s": 0.3},
    "row_mix": SHORT | {"rows": {1: 3, 5: 1}, "users": 2, "share": 0.3, "protocols": ["grpc"]},
    "overload": {"overload_s": 0.3, "recovery_s": 0.6, "protocols": ["grpc"], "slo_ms": 60_000},
    "soak": {"minutes": 0.01, "window_s": 0.1, "share": 0.8, "protocols": ["rest"]},
    "hot_reload": {"window_s": 0.2},
    "ab_versions": {"window_s": 0.1},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A machine that nothing disturbs, as the rules see it: whether a busy one is found out is not the question here."""
    made = stage.make_project(tmp_path_factory.mktemp("project"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "lock_path", lambda: made / "lock")
        undisturb(patch)
        # Less is proven, by so few requests that any machine answers them within a second.
        patch.setattr(slo, "LEAST_REQUESTS", 7)
        patch.setattr(slo, "prove", partial(slo.prove, confidence=0.05))
        yield made


@pytest.fixture(scope="module")
def record(project):
    with pytest.MonkeyPatch.context() as patch:
        stage.serve(patch)
        only = list(SCENARIOS)
        settings = {"concurrency": [4], "repetitions": 1, "window_s": 0.2, "warmup_s": 0.05}
        return stage.run(project, **settings, cold_starts=0, only=only, scenarios=SCENARIOS, generator_processes=2)


def scenario(record, name):
    (found,) = [one for one in record.scenarios if one.name == name]
    return found


def values(record, name):
    return {(v.key, v.protocol, v.label): v.value for v in scenario(record, name).values}


def test_scenarios_run_alone_and_in_the_order_of_the_config(record):
    assert [one.name for one in record.scenarios] == list(SCENARIOS)
    assert record.cells == []
    assert {"saturation", "open loop", "cold starts"} <= set(record.not_measured)
    assert BenchmarkRecord.model_validate_json(record.model_dump_json()) == record
    assert scenario(record, "sizes").settings["rows"] == [1, 4, 64]


def test_every_window_has_its_samples_and_right_answers(project, record):
    for one in record.scenarios:
        if one.name not in ("soak", "hot_reload", "ab_versions"):
            kept = sorted((project / "out/samples/scenarios" / one.name).glob("*.npz"))
            assert len(kept) == len(one.windows) > 0
            assert all(len(samples.read(path).planned_us) for path in kept)
        for window in one.windows:
            assert window.repetition.checked_answers > 0
            assert window.repetition.wrong_answers == 0


def test_rows_are_counted_and_what_the_server_does_not_take_is_left_out(record):
    found = scenario(record, "sizes")
    one, four = (values(record, "sizes")["bytes_per_row", "grpc", label] for label in ("1 row", "4 rows"))

    assert found.notes == ["64 rows: not measured, for the server's max_batch_size is 32"]
    assert 12 < four < one
    assert [payload.rows for payload in record.payloads] == [1, 8, 5, 4]
    for window in found.windows:
        assert window.repetition.predictions_per_s == pytest.approx(window.rows * window.repetition.throughput_rps)
    assert values(record, "offline")["rows_per_s", "grpc", "5 rows per request"] > 0


def test_one_request_in_flight_is_what_streams_have(record):
    assert {w.load.concurrency for w in scenario(record, "single_stream").windows} == {1}
    assert {w.rows for w in scenario(record, "multi_stream").windows} == {8}


def test_each_way_to_make_requests_has_its_cost_its_bytes_and_its_ratio(record):
    """How plain clients spell numbers is a matter of bytes, whoever has the time to spell them."""
    told = values(record, "serialization")
    weights = {
        label: value for (key, protocol, label), value in told.items() if (key, protocol) == ("bytes_per_row", "rest")
    }
    ways = {label for key, _, label in told if key == "client_cpu"}

    assert set(weights) == ways == set(ENCODINGS.values())
    assert weights[ENCODINGS["prebuilt"]] < weights[ENCODINGS["plain_prebuilt"]]
    assert {label for key, _, label in told if key == "grpc_over_rest"} == ways
    sizes = {label: value for (key, _, label), value in told.items() if key == "rest_over_grpc_bytes"}
    assert sizes.keys() == ways
    assert sizes[ENCODINGS["plain_prebuilt"]] > sizes[ENCODINGS["prebuilt"]] > 0


def test_clients_of_each_tier_send_the_same_and_are_named(record):
    """Who sends what decides what a ratio says; h2load is there to be held against."""
    found, told = scenario(record, "clients"), values(record, "clients")
    tiers = ["wire tier", "library tier", *(["native tier"] if shutil.which("h2load") else [])]

    assert {window.label.partition(" (")[0] for window in found.windows} == set(tiers)
    assert len(found.windows) == 2 * len(tiers)
    assert all(window.label.startswith(window.tier) for window in found.windows)
    for key in ("requests_per_s", "client_cpu", "latency_p50"):
        assert [value > 0 for (name, *_), value in told.items() if name == key] == [True] * 2 * len(tiers)
    # One number for both protocols would hide which one is wrong.
    assert {protocol for key, protocol, _ in told if key == "native_over_wire"} == (
        {"rest", "grpc"} if "native tier" in tiers else set()
    )
    assert {note.partition(" (")[0] for note in found.notes} == {"library tier", "native tier"}
    assert any(", grpcio " in note for note in found.notes)


def test_a_rate_is_found_that_keeps_the_bound(record):
    found = values(record, "server_slo")

    assert found["slo", None, ""] == 1_000_000
    assert 0 < found["rate_at_slo", "rest", ""] == found["predictions_at_slo", "rest", ""]
    labels = [window.label for window in scenario(record, "server_slo").windows]
    assert labels[0] == "probe 1"
    assert labels[-1] == "confirmation 1"


def test_two_protocols_at_once_share_their_beginning(record):
    found = scenario(record, "mixed")

    assert [(w.label, w.protocol) for w in found.windows[:2]] == [("both at once", "rest"), ("both at once", "grpc")]
    assert all(w.repetition.checked_answers > 0 for w in found.windows)
    assert {w.repetition.server_cpu_us_per_request for w in found.windows[:2]} == {None}
    assert 0 < values(record, "mixed")["generator_share", None, ""] < 1


def test_requests_of_a_mix_have_a_latency_for_each_number_of_rows(record):
    found = values(record, "row_mix")

    assert [w.load.kind for w in scenario(record, "row_mix").windows] == ["closed", "open"]
    assert scenario(record, "row_mix").notes == ["requests in a drawn order: 75% of 1 row, 25% of 5 rows"]
    assert found["latency_p50", "grpc", "1 row"] > 0
    assert ("latency_p99", "grpc", "5 rows") in found
    assert found["predictions_per_s", "grpc", ""] > found["offered", "grpc", ""] > 0


def test_an_overload_is_one_schedule_with_its_end(record):
    found = values(record, "overload")
    (series,) = scenario(record, "overload").series

    assert found["goodput", "grpc", ""] > 0
    assert found["offered", "grpc", ""] == scenario(record, "overload").windows[0].load.rate
    # How long it takes is the machine's affair; never would be a fault.
    assert found["recovery", "grpc", ""] >= 0
    assert len(series.x_s) == len(series.y) >= 6
    assert scenario(record, "overload").faults == []


def test_a_soak_has_a_point_per_window_and_keeps_no_raw_times(project, record):
    found = scenario(record, "soak")

    assert len(found.windows) == 6
    assert {s.name for s in found.series} == {"Memory of the server", "p99 of each window"}
    assert all(value > 1e6 for value in found.series[0].y)
    assert not list((project / "out/samples/scenarios/soak").glob("*.npz"))
    # Seconds say nothing of hours.
    assert found.faults == []


def test_what_cannot_be_measured_says_why(record):
    assert scenario(record, "hot_reload").invalid == ["not measured: the image serves no other version of m than 1"]
    assert scenario(record, "ab_versions").invalid == ["not measured: no other version is served beside version 1"]


def test_a_scenario_that_is_cut_short_keeps_its_windows(project, monkeypatch, tmp_path):
    stage.serve(monkeypatch, after_one_window(monkeypatch, tmp_path, "refuses"))
    with pytest.raises(InvalidMeasurement, match=r"scenario single_stream.*requests failed .*queue is full"):
        stage.run(
            project,
            cold_starts=0,
            concurrency=[4],
            only=["single_stream"],
            scenarios={"single_stream": {"window_s": 0.1, "repetitions": 3}},
        )

    (found,) = BenchmarkRecord.read(project / "out/benchmark.failed.json").scenarios
    assert found.invalid == ["it was cut short"]
    assert found.windows
