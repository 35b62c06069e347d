import pytest

from slipway import server_metrics
from slipway.server_metrics import ServerSide, between, parse

BEFORE = """
# TYPE slipway_requests_total counter
slipway_requests_total{model="m",version="1",signature="serving_default",protocol="rest",status="OK"} 10
slipway_batches_total{model="m",size="1",reason="idle"} 5
slipway_batches_total{model="other",size="9",reason="idle"} 5
slipway_stage_seconds_sum{model="m",protocol="rest",stage="queue"} 1.5
slipway_stage_seconds_count{model="m",protocol="rest",stage="queue"} 10
"""
AFTER = """
slipway_requests_total{model="m",version="1",signature="serving_default",protocol="rest",status="OK"} 1.2e1
slipway_requests_total{model="m",version="1",signature="serving_default",protocol="rest",status="NOT_FOUND"} 1
slipway_requests_total{model="m",version="1",signature="serving_default",protocol="grpc",status="OK"} 50
slipway_batches_total{model="m",size="1",reason="idle"} 5
slipway_batches_total{model="m",size="16",reason="full"} 2
slipway_batches_total{model="m",size="16",reason="idle"} 1
slipway_batches_total{model="m",size="2",reason="idle"} 4
slipway_batches_total{model="other",size="9",reason="idle"} 6
slipway_stage_seconds_sum{model="m",protocol="rest",stage="queue"} 1.50004
slipway_stage_seconds_count{model="m",protocol="rest",stage="queue"} 12
slipway_stage_seconds_sum{model="m",protocol="grpc",stage="queue"} 9
slipway_stage_seconds_count{model="m",protocol="grpc",stage="queue"} 9
:tensorflow:serving:request_count{model_name="m",status="OK"} 12
"""


def test_the_difference_is_that_of_one_protocol_and_model():
    found = between(parse(BEFORE), parse(AFTER), model="m", protocol="rest")

    assert found.requests == 3
    assert found.batch_sizes == {2: 4, 16: 3}
    assert list(found.batch_sizes) == [2, 16]
    assert found.batch_reasons == {"full": 2, "idle": 5}
    assert found.stages_us == {"queue": pytest.approx(20)}


def test_a_server_that_counts_nothing_of_ours_leaves_blanks_not_zeros():
    """TF Serving itself has no such metrics; some servers have none at all."""
    nothing = ServerSide(None, {}, {})

    assert (
        between({}, parse(':tensorflow:serving:request_count{status="OK"} 12\n'), model="m", protocol="rest") == nothing
    )
    assert between(None, parse(AFTER), model="m", protocol="rest") == nothing


def test_latency_and_settings_are_read_where_they_are_told():
    before = 'slipway_request_seconds_sum{model="m",protocol="rest"} 1\nslipway_request_seconds_count{model="m",protocol="rest"} 4\n'
    after = before.replace("} 1\n", "} 1.5\n").replace("} 4\n", "} 9\n")
    after += 'slipway_setting_info{setting="batching.allowed_batch_sizes",value="1,2"} 1\n'
    found = between(parse(before), parse(after), model="m", protocol="rest")

    assert found.latency_s == pytest.approx(0.1)
    assert found.settings == {"batching.allowed_batch_sizes": "1,2"}


def test_replayed_records_are_counted_by_version():
    """Those that failed, that the server made up, or that are another model's are not among them."""
    text = """
slipway_warmup_requests_total{model="m",version="1",source="record",status="OK"} 12
slipway_warmup_requests_total{model="m",version="2",source="record",status="OK"} 3
slipway_warmup_requests_total{model="m",version="2",source="record",status="UNKNOWN"} 1
slipway_warmup_requests_total{model="m",version="3",source="batch_size",status="OK"} 9
slipway_warmup_requests_total{model="other",version="1",source="record",status="OK"} 9
"""
    assert server_metrics.replayed(parse(text), "m") == {1: 12, 2: 3}
    assert server_metrics.replayed(None, "m") == {}


def test_a_thread_plan_is_read_for_the_version_that_has_it():
    read = parse(
        'slipway_thread_plan{model="m",version="1",plan="batch_per_core",reason="flag"} 0\n'
        'slipway_thread_plan{model="m",version="1",plan="one_batch",reason="measured"} 1\n'
        'slipway_thread_plan{model="m",version="2",plan="batch_per_core",reason="flag"} 1\n'
    )

    assert [server_metrics.thread_plan(read, "m", version) for version in (1, 2, 3)] == [
        "one_batch",
        "batch_per_core",
        "",
    ]
    assert server_metrics.thread_plan(None, "m", 1) == ""


def test_labels_are_read_with_their_escapes_and_in_any_order():
    found = parse('a_total{x="1 \\"quoted\\", comma",y="}"} 3 1700000000000\nb 4\n')

    assert found["b", frozenset()] == 4
    assert {name for name, _ in found} == {"a_total", "b"}
    assert found["a_total", frozenset({("x", '1 \\"quoted\\", comma'), ("y", "}")})] == 3


def test_nobody_there_has_no_metrics():
    assert server_metrics.scrape("127.0.0.1", 1) is None
