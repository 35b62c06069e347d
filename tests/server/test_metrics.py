from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families

from slipway_server.metrics import LATENCY_BOUNDS_US, Counter, Family, Histogram, Metrics, size_label


def test_names_and_form_are_tf_servings():
    metrics = Metrics()
    metrics.request_count.of("half", "OK").add()
    metrics.request_latency_us.of("half", "Predict", "GRPC").observe(20.0)
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
    assert not any("# HELP" in line for line in lines)


def test_prometheus_own_parser_reads_it():
    metrics = Metrics()
    metrics.stage('a"b\\c\nd', "rest", "parse", 0.25)
    metrics.stage('a"b\\c\nd', "rest", "parse", 0.25)
    metrics.batch("half", 3, 1, "full")
    metrics.in_flight.of().add(2)
    metrics.in_flight.of().add(-1)

    samples = {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.exposition())
        for sample in family.samples
    }

    assert samples["slipway_stage_seconds_sum", ('a"b\\c\nd', "rest", "parse")] == 0.5
    assert samples["slipway_stage_seconds_count", ('a"b\\c\nd', "rest", "parse")] == 2
    assert samples["slipway_batches_total", ("half", "3", "full")] == 1
    assert samples["slipway_batch_padding_rows_total", ("half",)] == 1
    assert samples["slipway_in_flight", ()] == 1


def test_a_value_on_a_bound_belongs_to_it():
    histogram = Histogram([1.0, 2.0])
    for value in (0.5, 1.0, 1.5, 2.0, 3.0):
        histogram.observe(value)

    assert histogram.counts == [2, 2, 1]
    assert histogram.sum == 8.0


def test_no_count_is_lost_between_threads():
    family = Family("n", "counter", ("who",), Counter)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: family.of(number % 2).add(), range(4000)))

    assert family.of(0).value == family.of(1).value == 2000


def test_values_that_come_together_count_like_values_that_come_alone():
    alone, together = Histogram([1.0, 2.0]), Histogram([1.0, 2.0])
    values = [0.5, 1.0, 1.5, 9.0]
    for value in values:
        alone.observe(value)

    together.observe_all(values)

    assert (together.counts, together.sum) == (alone.counts, alone.sum)


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
