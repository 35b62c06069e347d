import bisect
import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from slipway_server import metrics as module
from slipway_server.instruments import Counter, Family, Histogram
from slipway_server.metrics import LATENCY_BOUNDS_US, OTHER, Metrics, RequestKind, size_label

KIND = RequestKind("half", "1", "serving_default", "grpc", "Predict")
STAGES_S = (0.00002, None, 0.001, 0.01, 0.00002)


def count(metrics, kind=KIND, status="OK", latency_s=0.00002, stages_s=STAGES_S, **sizes):
    metrics.count_request(kind, status, latency_s, stages_s, **sizes)


def samples(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def native(metrics):
    """The part that Prometheus' own parser is asked to read: it takes no colon at the begin of a name's labels amiss."""
    return samples(metrics.exposition())


def test_names_and_form_are_tf_servings():
    metrics = Metrics()
    count(metrics)
    lines = metrics.exposition().splitlines()

    assert "# TYPE :tensorflow:serving:request_count counter" in lines
    assert ':tensorflow:serving:request_count{model_name="half",status="OK"} 1' in lines
    labels = 'model_name="half",API="Predict",entrypoint="GRPC"'
    buckets = [line for line in lines if line.startswith(":tensorflow:serving:request_latency_bucket")]
    assert buckets[0] == f':tensorflow:serving:request_latency_bucket{{{labels},le="10"}} 0'
    assert buckets[2] == f':tensorflow:serving:request_latency_bucket{{{labels},le="32.4"}} 1'
    assert buckets[-1] == f':tensorflow:serving:request_latency_bucket{{{labels},le="+Inf"}} 1'
    assert len(buckets) == len(LATENCY_BOUNDS_US) + 1 == 34
    assert f":tensorflow:serving:request_latency_sum{{{labels}}} 20" in lines
    assert f":tensorflow:serving:request_latency_count{{{labels}}} 1" in lines
    assert ':tensorflow:serving:runtime_latency_sum{model_name="half",API="Predict",runtime="TF1"} 10000' in lines
    assert not any("# HELP :" in line for line in lines)


def test_rest_is_told_in_lower_case_and_failures_have_no_latency():
    metrics = Metrics()
    count(metrics, KIND._replace(protocol="rest"))
    count(metrics, status="NOT_FOUND")
    text = metrics.exposition()

    assert ':tensorflow:serving:request_latency_count{model_name="half",API="predict",entrypoint="REST"} 1' in text
    assert 'entrypoint="GRPC"' not in text
    assert ':tensorflow:serving:request_count{model_name="half",status="NOT_FOUND"} 1' in text


def test_versions_and_signatures_are_added_up_under_tf_servings_names():
    metrics = Metrics()
    for version in ("1", "2"):
        for signature in ("a", "b"):
            count(metrics, KIND._replace(version=version, signature=signature))
    text = metrics.exposition()

    assert ':tensorflow:serving:request_count{model_name="half",status="OK"} 4' in text
    assert ':tensorflow:serving:request_latency_count{model_name="half",API="Predict",entrypoint="GRPC"} 4' in text


def test_prometheus_own_parser_reads_it():
    metrics = Metrics()
    odd = KIND._replace(model='a"b\\c\nd', protocol="rest")
    count(metrics, odd, stages_s=(0.25, None, None, None, None), request_bytes=10, response_bytes=20)
    count(metrics, odd, stages_s=(0.25, None, None, None, None), request_bytes=10, response_bytes=20)
    metrics.batch("half", 3, 1, "full")
    metrics.watch(in_flight=lambda: 3, availability=lambda: [(("half", 1), 1.0)])
    metrics.watch_connections("rest", lambda: 5)
    found = native(metrics)

    labels = tuple(sorted(odd._asdict().items()))
    parse = tuple(sorted({**odd._asdict(), "stage": "parse"}.items()))
    assert found["slipway_stage_seconds_sum", *parse] == 0.5
    assert found["slipway_stage_seconds_count", *parse] == 2
    assert found["slipway_request_bytes_total", *labels] == 20
    assert found["slipway_response_bytes_total", *labels] == 40
    assert found["slipway_batches_total", ("model", "half"), ("reason", "full"), ("size", "3")] == 1
    assert found["slipway_batch_padding_rows_total", ("model", "half")] == 1
    assert found[("slipway_in_flight",)] == 3
    assert found["slipway_connections", ("protocol", "rest")] == 5
    assert found["slipway_model_available", ("model", "half"), ("version", "1")] == 1
    assert found[("process_resident_memory_bytes",)] > 1e6


def test_every_metric_of_our_own_says_what_it_is():
    for family in Metrics()._families():
        about = family.description
        assert about.help.endswith("."), f"{about.name} has no help"
        if not about.name.startswith(":"):
            assert about.name.startswith(("slipway_", "process_"))
            assert about.kind != "counter" or about.name.endswith("_total")


@given(st.lists(st.floats(0, 1e4), max_size=30))
def test_a_coarser_histogram_tells_of_the_same_values(values):
    """Every other bound is left out, and each of the others has as many values at or below it as before."""
    fine = Histogram([bound / 1e6 for bound in LATENCY_BOUNDS_US])
    for value in values:
        fine.observe(value)

    told = module._coarsened(fine)

    ordered = sorted(values)
    assert told.bounds == tuple(fine.bounds[1::2])
    at_most = list(itertools.accumulate(told.counts))
    assert at_most[:-1] == [bisect.bisect_right(ordered, bound) for bound in told.bounds]
    assert at_most[-1] == len(values)
    assert told.sum == fine.sum


def test_kinds_are_bounded_and_no_sum_over_versions_shrinks(monkeypatch):
    """A server that serves a new version every hour must not grow, nor lose a count."""
    monkeypatch.setattr(module, "MAX_REQUEST_KINDS", 3)
    metrics = Metrics()
    for version in range(20):
        count(metrics, KIND._replace(version=str(version)))
        count(metrics, KIND._replace(version=str(version)), status="INTERNAL")

        assert metrics.sum_of(metrics.request_count, model_name="half", status="OK") == version + 1
        assert metrics.sum_of(metrics.requests, model="half") == 2 * (version + 1)

    kinds = {labels[:2] for labels, _ in metrics.requests.rows()}
    assert len(kinds) <= 4
    assert ("half", OTHER) in kinds
    assert ("half", "19") in kinds


seconds = st.floats(0.0, 100.0)
maybe_seconds = st.one_of(st.none(), seconds)


@given(
    st.lists(st.tuples(seconds, seconds), min_size=1, max_size=20),
    st.tuples(maybe_seconds, maybe_seconds, maybe_seconds),
    seconds,
)
def test_answers_that_came_together_are_counted_as_if_they_had_come_one_by_one(each, waits_s, encode_s):
    together, one_by_one = Metrics(), Metrics()
    together.count_answers(
        KIND,
        latencies_s=[latency_s for latency_s, _ in each],
        parse_s=[parse_s for _, parse_s in each],
        waits_s=waits_s,
        encode_s=encode_s,
        request_bytes=10 * len(each),
        response_bytes=7 * len(each),
    )
    for latency_s, parse_s in each:
        stages_s = [parse_s, *waits_s, encode_s]
        count(one_by_one, latency_s=latency_s, stages_s=stages_s, request_bytes=10, response_bytes=7)

    of_requests = [
        {name: value for name, value in metrics.snapshot().items() if "process" not in name}
        for metrics in (together, one_by_one)
    ]
    assert of_requests[0] == pytest.approx(of_requests[1])
    assert together.sum_of(together.requests, status="OK") == len(each)


def test_loads_and_unloads_are_counted_and_timed():
    metrics = Metrics()
    for version, (state, status), now in (
        (1, ("LOADING", "OK"), 10.0),
        (2, ("LOADING", "OK"), 11.0),
        (1, ("AVAILABLE", "OK"), 12.5),
        (2, ("END", "DATA_LOSS"), 13.0),
        (1, ("UNLOADING", "OK"), 14.0),
        (1, ("END", "OK"), 15.0),
    ):
        metrics.version_moved("half", version, state, status, now)

    loads = dict(metrics.model_loads.rows())
    assert {labels: one.value for labels, one in loads.items()} == {("half", 1, "OK"): 1, ("half", 2, "DATA_LOSS"): 1}
    assert metrics.model_load_seconds.of("half").sum == 2.5
    assert metrics.sum_of(metrics.model_load_seconds) == 1
    assert metrics.sum_of(metrics.model_unloads, version="1") == metrics.sum_of(metrics.model_unloads) == 1


def test_examples_of_multi_inference_are_counted():
    metrics = Metrics()
    kind = KIND._replace(method="MultiInference")
    for examples in (3, 5):
        count(metrics, kind, examples=examples)

    assert metrics.sum_of(metrics.request_example_counts, model="half") == 2
    assert ':tensorflow:serving:request_example_count_total{model="half"} 8' in metrics.exposition()


def test_two_snapshots_tell_what_happened_in_between():
    metrics = Metrics()
    count(metrics)
    before = metrics.snapshot()
    count(metrics)
    name = ':tensorflow:serving:request_count{model_name="half",status="OK"}'

    assert metrics.snapshot()[name] - before[name] == 1


def test_no_count_is_lost_between_threads():
    metrics = Metrics()
    family = Family("n", "counter", ("who",), Counter)

    def one(number):
        family.of(number % 2).add()
        count(metrics, KIND._replace(version=str(number % 2)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(4000)))

    assert family.of(0).value == family.of(1).value == 2000
    assert metrics.sum_of(metrics.requests, version="0") == metrics.sum_of(metrics.stages_s, version="1", stage="queue")
    assert metrics.sum_of(metrics.requests) == 4000


def test_the_catalogue_is_what_the_code_says():
    """If this fails: `python -m slipway_server.metrics > docs/metrics.md`."""
    page = Path(__file__).parents[2] / "docs" / "metrics.md"

    assert page.read_text() == Metrics().catalogue()


def test_batching_metrics_have_tf_servings_names_and_buckets():
    metrics = Metrics()
    metrics.queuing_latency_us.of("batch_threads").observe(100.0)
    metrics.session_run(3, 1)
    lines = metrics.exposition().splitlines()

    session = ":tensorflow:serving:batching_session"
    waits = [line for line in lines if line.startswith(f"{session}:queuing_latency_bucket")]
    assert waits[0] == f'{session}:queuing_latency_bucket{{thread_pool_name="batch_threads",le="100"}} 1'
    assert waits[1].startswith(f'{session}:queuing_latency_bucket{{thread_pool_name="batch_threads",le="120"}}')
    assert len(waits) == 53
    assert f"{session}:wrapped_run_count{{}} 1" in lines
    assert f'{session}:padding_size_bucket{{execution_batch_size="4",le="1"}} 1' in lines
    assert f'{session}:processed_batch_size_bucket{{le="4"}} 1' in lines
    assert f'{session}:processed_batch_size_bucket{{le="2"}} 0' in lines


@pytest.mark.parametrize(("rows", "label"), [(0, 0), (1, 1), (1000, 1000), (1024, 1024), (1025, 2048), (5000, 8192)])
def test_sizes_make_a_bounded_number_of_series(rows, label):
    """Without batching, a caller chooses the size of a run."""
    assert size_label(rows) == label


def test_waiting_for_a_batch_is_a_stage_only_of_those_that_did():
    """Without a batch timeout nobody waits for a batch: no series says for ever that it took no time."""
    metrics = Metrics()
    count(metrics)
    assert 'stage="queue"' in metrics.exposition()
    assert 'batch_wait"' not in metrics.exposition()

    count(metrics, stages_s=(0.00002, 0.5, 0.001, 0.01, 0.00002))
    assert metrics.sum_of(metrics.stages_s, stage="batch_wait") == 1
    assert metrics.sum_of(metrics.stages_s, stage="queue") == 2
