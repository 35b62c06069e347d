"""Metrics in TF Serving's names and form."""

import contextlib
import re

import numpy as np
import pytest
from tests.dropin.processes import WAIT_S, predict_request, wait_for
from tests.dropin.test_grpc import classify, regress

from slipway_wire import messages, paths, predict, tensors, tfrecord
from slipway_wire.status import WireError

PATH = "/monitoring/prometheus/metrics"
SAMPLE = re.compile(r'^(?P<name>[\w:]+)\{(?P<labels>(?:\w+="(?:[^"\\]|\\.)*",?)*)\} (?P<value>[-+.\deE]+|\+Inf|NaN)$')


def samples(server):
    """Parse what stands under TF Serving's names: name -> [(labels as written, value)], and name -> type."""
    found, types = {}, {}
    for line in server.rest.get(PATH).text.splitlines():
        if line.startswith("# TYPE :tensorflow:"):
            _, _, name, kind = line.split(" ")
            types[name] = kind
        elif line.startswith(":tensorflow:"):
            match = SAMPLE.match(line)
            assert match, line
            found.setdefault(match["name"], []).append((match["labels"], float(match["value"])))
    return found, types


@pytest.mark.behaviour("10.1-path", "1.3-monitoring_config_file")
def test_the_configured_path_is_served(server, bare):
    answer = server.rest.get(PATH)

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert server.rest.post(PATH).status_code != 200
    assert server.rest.get(PATH + "/more").status_code == 404
    assert bare.rest.get(PATH).status_code == 404


@pytest.mark.behaviour("10.1-format")
def test_the_form_is_tf_servings(server):
    server.predict("matrix", {"x": np.zeros((1, 3, 3), np.float32)})
    found, types = samples(server)

    for name, kind in types.items():
        if kind != "histogram":
            assert kind in {"counter", "gauge"}
            continue
        by_labels = {}
        for labels, value in found.get(f"{name}_bucket", ()):
            rest = ",".join(part for part in labels.split(",") if not part.startswith("le="))
            by_labels.setdefault(rest, []).append((re.search(r'le="([^"]*)"', labels)[1], value))
        counts = {labels.rstrip(","): value for labels, value in found.get(f"{name}_count", ())}
        for labels, buckets in by_labels.items():
            values = [value for _, value in buckets]
            assert buckets[-1][0] == "+Inf"
            assert values == sorted(values)
            assert values[-1] == counts[labels]
    assert types[":tensorflow:serving:request_count"] == "counter"
    assert types[":tensorflow:serving:request_latency"] == "histogram"


@pytest.mark.behaviour("10.2-request-metrics")
def test_each_request_is_counted_under_its_name(server, example):
    def metric(name, **labels):
        prefix = f":tensorflow:serving:{name}{{" + ",".join(f'{key}="{value}"' for key, value in labels.items())
        return server.metric(prefix)

    def counts():
        return {
            "ok": metric("request_count", model_name="half_plus_three", status="OK"),
            "bad": metric("request_count", model_name="half_plus_three", status="INVALID_ARGUMENT"),
            "grpc": metric("request_latency_count", model_name="half_plus_three", API="Predict", entrypoint="GRPC"),
            "rest": metric("request_latency_count", model_name="half_plus_three", API="predict", entrypoint="REST"),
            "run": metric("runtime_latency_count", model_name="half_plus_three", API="Predict", runtime="TF1"),
        }

    before = counts()
    server.predict("half_plus_three", {"x": np.float32([1])})
    server.ask("half_plus_three:predict", {"instances": [1.0]})
    server.ask("half_plus_three:predict", {"instances": ["a"]})
    server.refusal(paths.GRPC_PREDICT, predict_request("half_plus_three", "", {"x": np.float64([1])}))
    after = counts()

    assert {name: after[name] - before[name] for name in after} == {"ok": 2, "bad": 2, "grpc": 1, "rest": 1, "run": 2}

    names = {"model_name": "half_plus_two", "API": "Classify", "entrypoint": "GRPC"}
    before = metric("request_latency_count", **names), metric("request_latency_count", **{**names, "API": "Regress"})
    server.call(paths.GRPC_CLASSIFY, classify("half_plus_two", "classify_x_to_y", example(x=1.0)))
    server.call(paths.GRPC_REGRESS, regress("half_plus_two", "regress_x_to_y", example(x=1.0)))
    after = metric("request_latency_count", **names), metric("request_latency_count", **{**names, "API": "Regress"})
    assert (after[0] - before[0], after[1] - before[1]) == (1, 1)


@pytest.mark.behaviour("10.2-load-metrics")
def test_loads_are_counted_under_their_path(server, testdata):
    path = testdata / "matrix_half_plus_two" / "1"

    assert server.metric(f':tensorflow:cc:saved_model:load_attempt_count{{model_path="{path}",status="success"') == 1
    assert server.metric(f':tensorflow:cc:saved_model:load_latency{{model_path="{path}"') > 0


@pytest.mark.behaviour("10.2-batching-metrics", "8.1-fields")
def test_batches_are_measured(batched):
    def metric(name):
        return batched.metric(f":tensorflow:serving:batching_session:{name}")

    before = metric("wrapped_run_count")
    batched.predict("half_plus_two", {"x": np.float32([1, 2, 3])})

    assert metric("wrapped_run_count") == before + 1
    assert metric('queuing_latency_count{thread_pool_name="pool"') > 0
    assert metric('padding_size_count{execution_batch_size="4"') > 0
    assert metric("input_batch_size_count") > 0
    assert metric("processed_batch_size_count") > 0


@pytest.mark.behaviour("6.2-logging-config")
def test_requests_are_logged_where_the_configuration_says(server, fleet):
    """TF Serving refuses to start with it."""
    value = np.full((1, 3, 3), 8.5, np.float32)
    server.predict("matrix", {"x": value})

    def logged():
        records = []
        for path in fleet.directory.glob("log*"):
            with path.open("rb") as file, contextlib.suppress(WireError):
                # The newest file may end in the middle of a record.
                records.extend(messages.PredictionLog.FromString(one) for one in tfrecord.read(file))
        inputs = [
            tensors.from_proto(one.predict_log.request.inputs["x"]) for one in records if one.HasField("predict_log")
        ]
        return any(np.array_equal(one, value) for one in inputs)

    wait_for(logged, "the request to be logged")


@pytest.mark.behaviour("1.3-grpc_max_threads")
def test_requests_above_the_bound_of_threads_wait(moving, hold):
    """Two may run at once."""
    held = [hold(moving, "held"), hold(moving, "held")]
    body = predict.encode_request("held", {"x": np.float32([3])})
    waiting = moving.channel.unary_unary(paths.GRPC_PREDICT).future(body, timeout=WAIT_S)
    wait_for(lambda: moving.metric("slipway_in_flight") >= 3, "the third request")
    assert not waiting.done()
    for one in held:
        one.release()

    assert predict.decode_response(waiting.result())[1]["y"].tolist() == [3.0]
