import errno
import json
import os

import numpy as np
import pytest

from slipway_server import request_log as module
from slipway_server.callers import Caller
from slipway_server.config_files import RequestLogConfig, check_writable, request_log_config
from slipway_server.load_options import WarmupOptions
from slipway_server.metrics import Metrics
from slipway_server.request_log import RequestLog
from slipway_server.servables.calls import classify_call, inference_call, predict_call, regress_call
from slipway_server.servables.warmup import Warmup, as_it_is
from slipway_wire import inference, messages, payloads, predict, tfrecord
from slipway_wire.model_spec import ModelSpec
from slipway_wire.signatures import CLASSIFY, REGRESS
from slipway_wire.status import InvalidArgument, NotFound

WAIT_S = 90.0


def example(value):
    built = messages.Example()
    built.features.feature["x"].float_list.value.append(value)
    return built.SerializeToString()


@pytest.fixture
def logged(fakes, tmp_path):
    """`logged(kind, rate)` gives serving whose requests to m are logged below tmp_path, and its metrics."""
    logs = []

    def start(kind="tfrecord", rate=1.0, max_file_bytes=1 << 20):
        metrics = Metrics()
        serving, _ = fakes.make_serving(
            {("m", 7): fakes.HalfPlusTwo(), ("other", 1): fakes.HalfPlusTwo()}, metrics=metrics
        )
        log = RequestLog(metrics, max_file_bytes)
        logs.append(log)
        log.configure({"m": RequestLogConfig(kind, str(tmp_path / "requests"), rate)})
        serving.observers = (log,)
        serving.log, serving.metrics = log, metrics
        return serving

    yield start
    for log in logs:
        log.stop(WAIT_S)


def ask(serving, *values, protocol="grpc", model="m", caller=None):
    body = predict.encode_request(model, {"x": np.float32(values)}, label=None) if protocol == "grpc" else b"{}"
    request = predict.decode_request(predict.encode_request(model, {"x": np.float32(values)}))
    with serving.exchange(protocol, "Predict", body=body, caller=caller) as exchange:
        answer = exchange.start(request.spec, lambda signatures: predict_call(request, signatures)).result(WAIT_S)
        return exchange.encoded(predict.encode_response(exchange.spec, exchange.answered(answer)))


def ask_all_methods(serving, protocol):
    """Send one Predict, Classify and Regress request each; over gRPC a MultiInference request, too."""
    ask(serving, 1.0, 2.0, protocol=protocol)
    for api, signature, to_call, answer_of, encode in (
        ("Classify", "classify", classify_call, inference.classification, inference.encode_classify_response),
        ("Regress", "regress", regress_call, inference.regression, inference.encode_regress_response),
    ):
        body = inference.encode_request("m", [example(3.0)], signature_name=signature)
        request = inference.decode_classify_request(body)
        with serving.exchange(protocol, api, body=body if protocol == "grpc" else b"{}") as exchange:
            answer = exchange.start(request.spec, lambda found, r=request, to=to_call: to(r, found)).result(WAIT_S)
            exchange.encoded(encode(exchange.spec, answer_of(exchange.answered(answer), 1)))
    if protocol == "grpc":
        message = messages.MultiInferenceRequest()
        for signature, method in (("classify", CLASSIFY), ("regress", REGRESS)):
            task = message.tasks.add(method_name=method)
            task.model_spec.name, task.model_spec.signature_name = "m", signature
        message.input.example_list.examples.add().MergeFromString(example(3.0))
        body = message.SerializeToString()
        request = inference.decode_multi_inference_request(body)
        with serving.exchange(protocol, "MultiInference", body=body) as exchange:
            exchange.answered(exchange.start(request.spec, lambda found: inference_call(request, found)).result(WAIT_S))
            exchange.encoded(b"")


def files(tmp_path):
    return sorted(tmp_path.glob("requests-*"))


def records(path):
    with path.open("rb") as stream:
        return [messages.PredictionLog.FromString(record) for record in tfrecord.read(stream)]


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_every_method_is_logged_with_its_answer(logged, tmp_path, protocol):
    serving = logged()
    ask_all_methods(serving, protocol)
    serving.log.stop(WAIT_S)

    (path,) = files(tmp_path)
    logs = records(path)
    kinds = ["predict_log", "classify_log", "regress_log", "multi_inference_log"]
    assert [log.WhichOneof("log_type") for log in logs] == kinds[: 4 if protocol == "grpc" else 3]
    assert predict.decode_response(logs[0].predict_log.response.SerializeToString())[1]["y"].tolist() == [2.5, 3.0]
    assert predict.request_from_proto(logs[0].predict_log.request).inputs["x"].tolist() == [1.0, 2.0]
    assert logs[1].classify_log.response.result.classifications[0].classes[0].score == 3.5
    assert logs[2].regress_log.response.result.regressions[0].value == 3.5
    about = logs[0].log_metadata
    assert (about.model_spec.name, about.model_spec.version.value) == ("m", 7)
    assert about.model_spec.signature_name == "serving_default"
    assert about.sampling_config.sampling_rate == 1.0
    assert about.timestamp_secs > 1.7e9
    assert serving.metrics.sum_of(serving.metrics.request_log_count, model_name="m", status_code="OK") == len(logs)


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_a_log_is_replayed_as_warm_up_records(logged, tmp_path, protocol, fakes):
    serving = logged()
    ask_all_methods(serving, protocol)
    serving.log.stop(WAIT_S)
    servable = fakes.HalfPlusTwo()
    warmup = Warmup(servable, as_it_is, WarmupOptions(), "m", 1, serving.metrics)

    warmup.replay(files(tmp_path)[0])

    assert warmup.records == (4 if protocol == "grpc" else 3)
    assert servable.rows == [2]


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_a_log_of_predict_requests_is_load_with_the_answers_expected(logged, tmp_path, protocol):
    serving = logged()
    ask(serving, 1.0, 2.0, protocol=protocol)
    serving.log.stop(WAIT_S)

    (payload,) = payloads.read(files(tmp_path)[0])
    assert payload.inputs["x"].tolist() == [1.0, 2.0]
    assert payload.expected["y"].tolist() == [2.5, 3.0]
    assert json.loads(payload.rest_body)["instances"] == [1.0, 2.0]


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_a_log_may_be_lines_of_json(logged, tmp_path, protocol):
    serving = logged("jsonl")
    ask_all_methods(serving, protocol)
    ask(serving, float("inf"), protocol=protocol, caller=Caller("req-1"))
    serving.log.stop(WAIT_S)

    (path,) = files(tmp_path)
    assert path.suffix == ".jsonl"
    lines = [
        json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines() if "Infinity" not in line
    ]
    assert lines[0].pop("time") > 1.7e9
    assert lines[0] == {
        "protocol": protocol,
        "method": "predict",
        "model": "m",
        "version": 7,
        "signature": "serving_default",
        "request": {"inputs": [1.0, 2.0]},
        "response": {"outputs": [2.5, 3.0]},
    }
    assert lines[2]["response"]["result"]["regressions"] == [{"value": 3.5}]


def test_only_good_answers_of_that_model_are_logged(logged, tmp_path):
    serving = logged()
    ask(serving, 1.0, model="other")
    with pytest.raises(InvalidArgument):
        ask(serving, float("nan"))
    with pytest.raises(NotFound), serving.exchange("grpc", "Predict") as exchange:
        exchange.start(ModelSpec("nope"), lambda _: None)
    serving.log.stop(WAIT_S)

    assert files(tmp_path) == []


def test_a_sample_is_a_sample(logged, tmp_path):
    serving = logged(rate=0.5)
    for _ in range(400):
        ask(serving, 1.0)
    serving.log.stop(WAIT_S)

    # Ten standard deviations on either side.
    assert 100 < len(records(files(tmp_path)[0])) < 300


def test_files_are_exchanged_by_size_and_hold_whole_records(logged, tmp_path):
    serving = logged(max_file_bytes=500)
    for number in range(20):
        ask(serving, float(number))
    serving.log.stop(WAIT_S)

    found = files(tmp_path)
    assert len(found) > 3
    assert all(path.stat().st_size <= 500 for path in found)
    values = [
        predict.request_from_proto(log.predict_log.request).inputs["x"].tolist()
        for path in found
        for log in records(path)
    ]
    assert values == [[float(number)] for number in range(20)]


def test_a_full_disk_costs_records_not_requests(logged, tmp_path, monkeypatch, caplog):
    """What is in the file stays whole, the loss is counted and told once."""
    serving = logged()
    ask(serving, 1.0)
    serving.log.stop(WAIT_S)
    log = RequestLog(serving.metrics, 1 << 20)
    log.configure({"m": RequestLogConfig("tfrecord", str(tmp_path / "more"), 1.0)})
    serving.observers = (log,)
    room, real = [60], os.write

    def write(descriptor, data):
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(descriptor, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(module.os, "write", write)
    for _ in range(3):
        ask(serving, 1.0)
    log.stop(WAIT_S)

    (path,) = tmp_path.glob("more-*")
    assert path.stat().st_size == 0
    assert serving.metrics.sum_of(serving.metrics.request_log_count, model_name="m", status_code="UNKNOWN") == 3
    assert caplog.text.count("No space left on device") == 1


def test_what_cannot_be_kept_until_it_is_written_is_counted(logged, monkeypatch):
    monkeypatch.setattr(module, "_MAX_WAITING_BYTES", 10)
    serving = logged()
    ask(serving, 1.0)

    assert serving.metrics.sum_of(serving.metrics.request_log_count, status_code="RESOURCE_EXHAUSTED") == 1
    assert serving.metrics.sum_of(serving.metrics.dropped, log="request_log") == 1


def test_configuration_can_be_exchanged(logged, tmp_path):
    serving = logged()
    serving.log.configure({})
    ask(serving, 1.0)
    serving.log.configure({"m": RequestLogConfig("tfrecord", str(tmp_path / "requests-new"), 1.0)})
    ask(serving, 2.0)
    serving.log.stop(WAIT_S)

    (path,) = files(tmp_path)
    assert path.name.startswith("requests-new-")
    assert len(records(path)) == 1


def model(**logging_config):
    return messages.ModelConfig(name="m", logging_config=logging_config)


def test_the_config_file_is_read():
    found = request_log_config(
        model(
            log_collector_config={"type": "jsonl", "filename_prefix": "/logs/m"},
            sampling_config={"sampling_rate": 0.25},
        )
    )

    assert found == RequestLogConfig("jsonl", "/logs/m", 0.25)
    assert request_log_config(messages.ModelConfig(name="m")) is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "type must be tfrecord or jsonl; was ''"),
        ({"log_collector_config": {"type": "kafka"}}, "type must be tfrecord or jsonl; was 'kafka'"),
        ({"log_collector_config": {"type": "jsonl"}}, "filename_prefix must be set"),
        ({"log_collector_config": {"type": "jsonl", "filename_prefix": "/p"}}, "sampling_config must be set"),
        (
            {
                "log_collector_config": {"type": "jsonl", "filename_prefix": "/p"},
                "sampling_config": {"sampling_rate": 1.5},
            },
            "must be between 0 and 1; was 1.5",
        ),
    ],
)
def test_what_it_cannot_mean_is_refused(config, message):
    with pytest.raises(InvalidArgument, match=message):
        request_log_config(model(**config))


def test_a_directory_that_is_missing_is_told_before_the_first_request(tmp_path):
    check_writable(RequestLogConfig("jsonl", str(tmp_path / "m"), 1.0))
    with pytest.raises(InvalidArgument, match=r"there is no directory .*nowhere; make it"):
        check_writable(RequestLogConfig("jsonl", str(tmp_path / "nowhere" / "m"), 1.0))
