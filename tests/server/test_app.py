"""The server as a process, with the real TensorFlow, real sockets and real signals."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import numpy as np
import pytest
import trustme
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tests.dropin import saved_models

from slipway_server.app import _batching, _told_settings
from slipway_server.load_options import from_settings
from slipway_server.settings import Settings
from slipway_wire import paths, predict, tfrecord, warmup_log
from slipway_wire.status import Code
from slipway_wire.warmup_log import WARMUP_FILE

WAIT_S = 90.0


@pytest.fixture(scope="module")
def live(fakes, testdata, tmp_path_factory):
    """One server for this module: batching on, several models, one whose versions come and go."""
    directory = tmp_path_factory.mktemp("live")
    rolling = directory / "rolling"
    shutil.copytree(testdata / "saved_model_half_plus_two_2_versions" / "00000123", rolling / "00000123")
    (directory / "models.config").write_text(f"""
        model_config_list {{
          config {{
            name: "half_plus_two" model_platform: "tensorflow"
            base_path: "{testdata}/saved_model_half_plus_two_2_versions"
            model_version_policy {{ specific {{ versions: 123 versions: 124 }} }}
            version_labels {{ key: "stable" value: 123 }}
            version_labels {{ key: "canary" value: 124 }}
          }}
          config {{
            name: "tf2" base_path: "{testdata}/saved_model_half_plus_two_tf2_cpu" model_platform: "tensorflow"
          }}
          config {{
            name: "three" base_path: "{testdata}/saved_model_half_plus_three" model_platform: "tensorflow"
          }}
          config {{ name: "matrix" base_path: "{testdata}/matrix_half_plus_two" model_platform: "tensorflow" }}
          config {{ name: "rolling" base_path: "{rolling}" model_platform: "tensorflow" }}
        }}""")
    (directory / "batching.config").write_text(
        "max_batch_size { value: 16 } max_enqueued_batches { value: 1000 } num_batch_threads { value: 2 } "
        "allowed_batch_sizes: 4 allowed_batch_sizes: 16"
    )
    for stale in ("ready.json", "socket"):
        (directory / stale).write_text("of an earlier server")
    server = fakes.ServerProcess(
        directory,
        f"--model_config_file={directory}/models.config",
        "--enable_batching",
        f"--batching_parameters_file={directory}/batching.config",
        f"--monitoring_config_file={testdata}/monitoring_config.txt",
        "--enable_grpc_healthcheck_service",
        f"--grpc_socket_path={directory}/socket",
        "--no_such_flag=1",
    )
    server.socket = directory / "socket"
    server.base_path = rolling
    try:
        yield server.wait_until_ready()
        server.signal(signal.SIGTERM)
        assert server.exit_code() == 0, server.log()
    finally:
        server.close()


def ask_grpc(server, model, *values, **options):
    answer = server.channel.unary_unary(paths.GRPC_PREDICT)(
        predict.encode_request(model, {"x": np.float32(values)}, **options), timeout=WAIT_S
    )
    spec, outputs = predict.decode_response(answer)
    return spec.version, outputs["y"].tolist()


def ask_rest(server, model, *values):
    return server.rest.post(f"/v1/models/{model}:predict", content=json.dumps({"instances": values})).json()


def test_start_up_tells_what_scripts_wait_for(live):
    log = live.log()

    assert "unknown argument: --no_such_flag=1" in log
    assert f"Running gRPC ModelServer at 127.0.0.1:{live.ready['grpc_port']} ..." in log
    assert f"Exporting HTTP/REST API at:localhost:{live.ready['rest_port']} ..." in log
    assert live.ready["pid"] == live.process.pid


@pytest.mark.parametrize(("model", "y"), [("half_plus_two", [2.5, 3.0]), ("tf2", [2.5, 3.0]), ("three", [3.5, 4.0])])
def test_both_protocols_give_the_same_answers(live, model, y):
    assert ask_grpc(live, model, 1.0, 2.0)[1] == y
    assert ask_rest(live, model, 1.0, 2.0) == {"predictions": y}


def test_the_unix_socket_is_served_and_replaces_a_stale_one(live):
    with grpc.insecure_channel(f"unix:{live.socket}") as channel:
        body = predict.encode_request("half_plus_two", {"x": np.float32([1.0])})
        answer = channel.unary_unary(paths.GRPC_PREDICT)(body, timeout=WAIT_S)

    assert predict.decode_response(answer)[1]["y"].tolist() == [2.5]


def test_versions_and_labels_choose(live):
    assert live.states("half_plus_two") == {124: "AVAILABLE", 123: "AVAILABLE"}
    assert ask_grpc(live, "half_plus_two", 1.0)[0] == 124
    assert ask_grpc(live, "half_plus_two", 1.0, version=123)[0] == 123
    assert ask_grpc(live, "half_plus_two", 1.0, label="stable")[0] == 123
    path = "/v1/models/half_plus_two/labels/canary:predict"
    assert live.rest.post(path, content=b'{"instances": [1]}').json() == {"predictions": [2.5]}


def test_tensorflow_servings_own_client_is_answered(live):
    """Its generated messages and stubs are the outside judge of what we put on the wire."""
    from tensorflow import make_ndarray, make_tensor_proto
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
        regression_pb2,
    )

    prediction = prediction_service_pb2_grpc.PredictionServiceStub(live.channel)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half_plus_two"
    request.model_spec.version.value = 123
    request.inputs["x"].CopyFrom(make_tensor_proto([[1.0], [3.0]], dtype="float32"))
    answer = prediction.Predict(request, timeout=WAIT_S)
    assert make_ndarray(answer.outputs["y"]).tolist() == [[2.5], [3.5]]
    assert answer.model_spec.version.value == 123

    for method, message, signature in (
        (prediction.Classify, classification_pb2.ClassificationRequest(), "classify_x_to_y"),
        (prediction.Regress, regression_pb2.RegressionRequest(), "regress_x_to_y"),
    ):
        message.model_spec.name = "half_plus_two"
        message.model_spec.signature_name = signature
        message.input.example_list.examples.add().features.feature["x"].float_list.value.append(2.0)
        result = method(message, timeout=WAIT_S).result
        if signature.startswith("classify"):
            assert [one.score for one in result.classifications[0].classes] == [3.0]
        else:
            assert [one.value for one in result.regressions] == [3.0]

    several = inference_pb2.MultiInferenceRequest()
    for signature, method in (("regress_x_to_y", "regress"), ("classify_x_to_y", "classify")):
        task = several.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = "half_plus_two", signature
    several.input.example_list.examples.add().features.feature["x"].float_list.value.append(2.0)
    regressed, classified = prediction.MultiInference(several, timeout=WAIT_S).results
    assert [one.value for one in regressed.regression_result.regressions] == [3.0]
    assert [one.score for one in classified.classification_result.classifications[0].classes] == [3.0]
    assert (regressed.model_spec.version.value, regressed.model_spec.signature_name) == (124, "regress_x_to_y")

    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = "half_plus_two"
    found = get_model_metadata_pb2.SignatureDefMap()
    assert prediction.GetModelMetadata(metadata, timeout=WAIT_S).metadata["signature_def"].Unpack(found)
    assert "serving_default" in found.signature_def

    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "half_plus_two"
    versions = model_service_pb2_grpc.ModelServiceStub(live.channel).GetModelStatus(status, timeout=WAIT_S)
    assert [(one.version, one.state) for one in versions.model_version_status] == [(124, 30), (123, 30)]


def test_tensorflows_profiler_client_takes_a_trace_even_of_an_idle_server(live, tmp_path):
    from tensorflow.profiler.experimental import client

    client.trace(f"grpc://127.0.0.1:{live.ready['grpc_port']}", str(tmp_path), 400, num_tracing_attempts=1)

    (trace,) = tmp_path.rglob("*.xplane.pb")
    assert b"slipway/event_loop" in trace.read_bytes()
    assert "tensorflow.ProfilerService" in ProtoReflectionDescriptorDatabase(live.channel).get_services()


def test_metadata_is_what_tf_serving_answers(live, testdata):
    """The file is TF Serving's own expectation for this model."""
    expected = json.loads((testdata / "saved_model_half_plus_two_2_versions_metadata.json").read_text())

    found = live.rest.get("/v1/models/half_plus_two/versions/123/metadata").json()

    assert found["metadata"] == expected["metadata"]
    assert found["model_spec"] == {**expected["model_spec"], "name": "half_plus_two", "version": "123"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"inputs": 1.0}', "Batching Run() input tensors must have at least one dimension"),
        (json.dumps({"instances": [1.0] * 17}).encode(), "Task size 17 is larger than maximum input batch size 16"),
    ],
)
def test_what_cannot_be_batched_is_refused(live, content, message):
    answer = live.rest.post("/v1/models/half_plus_two:predict", content=content)

    assert answer.status_code == 400
    assert answer.json()["error"].startswith(message)


def test_under_concurrency_requests_share_batches_and_get_their_own_answers(live):
    """REST and gRPC, one and several rows, two inner shapes, at once."""
    before = live.metric("slipway_batches_total"), live.metric("slipway_batch_padding_rows_total")
    requests = 0

    def ask(worker):
        asked = 0
        with httpx.Client(base_url=live.rest.base_url, trust_env=False, timeout=WAIT_S) as client:
            for step in range(40):
                values = [worker * 100.0 + step + row / 2 for row in range(1 + step % 3)]
                expected = [value / 2 + 2 for value in values]
                if worker % 2:
                    inner = [[value] for value in values] if step % 2 else values
                    body = json.dumps({"instances": inner})
                    found = client.post("/v1/models/half_plus_two:predict", content=body).json()
                    assert found == {"predictions": [[y] for y in expected] if step % 2 else expected}
                else:
                    assert ask_grpc(live, "half_plus_two", *values)[1] == expected
                asked += 1
        return asked

    with ThreadPoolExecutor(12) as pool:
        requests = sum(pool.map(ask, range(12)))
    # A server may be too quick for twelve clients to meet; these come in one piece.
    body = predict.encode_request("half_plus_two", {"x": np.float32([3.0])})
    burst = [live.channel.unary_unary(paths.GRPC_PREDICT).future(body, timeout=WAIT_S) for _ in range(200)]
    requests += sum(predict.decode_response(call.result())[1]["y"].tolist() == [3.5] for call in burst)

    assert requests == 680
    assert live.metric("slipway_batches_total") - before[0] < requests
    # Allowed sizes are 4 and 16; a batch of one row was padded.
    assert live.metric("slipway_batch_padding_rows_total") > before[1]


def test_clients_that_vanish_hold_up_nobody(live, fakes):
    """A prototype whose batcher answered them one by one came to a stand after some dozens."""
    body = json.dumps({"instances": [1.0]}).encode()
    request = b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", live.ready["rest_port"]), timeout=WAIT_S) as connection:
            connection.sendall((request + body) * 3)
    calls = [
        live.channel.unary_unary(paths.GRPC_PREDICT).future(
            predict.encode_request("half_plus_two", {"x": np.float32([1.0])})
        )
        for _ in range(100)
    ]
    for call in calls:
        call.cancel()

    assert ask_rest(live, "half_plus_two", 1.0) == {"predictions": [2.5]}
    assert ask_grpc(live, "half_plus_two", 1.0)[1] == [2.5]
    fakes.wait_for(lambda: live.metric("slipway_in_flight{} ") == 0, "every request to be accounted for")


def test_metrics_count_requests_stages_and_loads(live):
    before = live.metric('slipway_requests_total{model="matrix"')
    instance = np.eye(3).tolist()
    ask_rest(live, "matrix", instance)

    assert live.metric('slipway_requests_total{model="matrix"') == before + 1
    for stage in ("parse", "queue", "compute", "encode"):
        kind = 'model="matrix",version="1",signature="serving_default",protocol="rest",method="Predict"'
        labels = f'{kind},stage="{stage}"'
        assert live.metric(f"slipway_stage_seconds_count{{{labels}}}") >= 1
        assert live.metric(f"slipway_stage_seconds_sum{{{labels}}}") > 0
    assert live.metric('slipway_model_loads_total{model="matrix",version="1",status="OK"}') == 1
    assert live.metric(':tensorflow:serving:request_count{model_name="matrix",status="OK"}') == before + 1


def test_metrics_tell_the_settings_that_are_in_force(live):
    """Whoever measures a server sees whether its file and flags have reached it."""
    for setting, value in (
        ("batching", "on"),
        ("batching.max_batch_size", "16"),
        ("batching.batch_timeout_micros", "0"),
        ("batching.allowed_batch_sizes", "4,16"),
        ("tensorflow_intra_op_parallelism", "0"),
        ("thread_plan", "auto"),
        ("prefer_stablehlo", "false"),
    ):
        assert live.metric(f'slipway_setting_info{{setting="{setting}",value="{value}"}}') == 1


def test_threads_are_told_as_a_file_sets_them(tmp_path):
    """Flags that a file takes the place of are not in force, and what it says is."""
    (tmp_path / "session").write_text("intra_op_parallelism_threads: 3 inter_op_parallelism_threads: 2")
    (tmp_path / "platform").write_text(
        """platform_configs { key: "tensorflow" value { source_adapter_config {
        [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] {
        legacy_config { session_config { intra_op_parallelism_threads: 5 } } } } } }"""
    )

    def told(**flags):
        settings = Settings(**flags)
        found = _told_settings(settings, from_settings(settings), None, is_per_model=False)
        return [found[f"tensorflow_{name}_parallelism"] for name in ("session", "intra_op", "inter_op")]

    session, platform = str(tmp_path / "session"), str(tmp_path / "platform")
    assert told() == ["0", "0", "0"]
    assert told(tensorflow_session_config_file=session) == ["0", "3", "2"]
    assert told(tensorflow_session_config_file=session, tensorflow_intra_op_parallelism=7) == ["0", "7", "2"]
    assert told(platform_config_file=platform, tensorflow_session_parallelism=9) == ["0", "5", "0"]


def test_versions_come_and_go_without_a_request_lost(live, fakes, testdata):
    """A new version is found, loaded beside the old one and takes over; without it, the old one comes back."""
    wait_for = fakes.wait_for
    asked, done = [], threading.Event()

    def ask():
        while not done.is_set():
            version, y = ask_grpc(live, "rolling", 1.0)
            assert y == [2.5]
            asked.append(version)

    with ThreadPoolExecutor(2) as pool:
        askers = [pool.submit(ask) for _ in range(2)]
        wait_for(lambda: asked, "the first answer")
        staging = live.base_path / "staging"
        shutil.copytree(testdata / "saved_model_half_plus_two_2_versions" / "00000124", staging)
        staging.rename(live.base_path / "00000124")
        wait_for(lambda: live.states("rolling") == {124: "AVAILABLE", 123: "END"}, "version 124")
        wait_for(lambda: asked[-1] == 124, "an answer by version 124")
        shutil.rmtree(live.base_path / "00000124")
        wait_for(lambda: live.states("rolling") == {124: "END", 123: "AVAILABLE"}, "version 123 again")
        done.set()
        for asker in askers:
            asker.result(WAIT_S)

    assert asked[0] == 123
    assert ask_grpc(live, "rolling", 1.0)[0] == 123
    with pytest.raises(grpc.RpcError) as refusal:
        ask_grpc(live, "rolling", 1.0, version=124)
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_over_both_protocols(live):
    assert live.rest.get("/v1/health/ready").json() == {"status": "SERVING"}
    assert live.channel.unary_unary(paths.GRPC_HEALTH_CHECK)(b"", timeout=WAIT_S) == b"\x08\x01"


# --- how it starts and ends ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory):
    """A base path whose model answers when it is let go, so that a request takes as long as a test likes."""
    base_path = tmp_path_factory.mktemp("slow")
    saved_models.gated(base_path / "1")
    return base_path


def slow_request(pipe):
    """Make the body of a request that is answered once somebody reads *pipe*."""
    os.mkfifo(pipe)
    return json.dumps({"signature_name": "hold", "instances": [str(pipe)]}).encode()


@contextlib.contextmanager
def let_go(*pipes):
    """Let the requests that wait for *pipes* go on; their answers must be in before the block ends."""
    readers = [os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) for pipe in pipes]
    yield
    for reader in readers:
        os.close(reader)


def predict_later(server, pool, pipe):
    """Send a request in the background."""
    return pool.submit(server.rest.post, "/v1/models/slow:predict", content=slow_request(pipe))


def slow_flags(slow_model, testdata):
    return [
        "--model_name=slow",
        f"--model_base_path={slow_model}",
        f"--monitoring_config_file={testdata}/monitoring_config.txt",
    ]


def test_sigterm_answers_what_has_begun_refuses_what_is_new_and_exits_0(
    start_server, slow_model, testdata, fakes, tmp_path
):
    server = start_server(*slow_flags(slow_model, testdata)).wait_until_ready()
    url = str(server.rest.base_url)
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=url, trust_env=False, timeout=WAIT_S) as other:
        pipe = tmp_path / "pipe"
        future = predict_later(server, pool, pipe)
        lines = "slipway_in_flight{} 1"
        fakes.wait_for(lambda: lines in other.get("/monitoring/prometheus/metrics").text, "the request to be worked on")
        server.signal(signal.SIGTERM)
        fakes.wait_for(lambda: other.get("/v1/health/ready").status_code == 503, "the server to drain")
        refused = other.post("/v1/models/slow:predict", content=b'{"instances": [1]}')
        with pytest.raises(grpc.RpcError) as refused_grpc:
            ask_grpc(server, "slow", 1.0)
        assert not future.done()
        with let_go(pipe):
            answer = future.result(WAIT_S)

    assert (refused.status_code, refused.headers["connection"]) == (503, "close")
    assert refused_grpc.value.code() is grpc.StatusCode.UNAVAILABLE
    assert answer.json() == {"predictions": [str(pipe)]}
    assert answer.headers["connection"] == "close"
    assert server.exit_code() == 0, server.log()


def test_a_second_signal_ends_at_once(start_server, slow_model, testdata, fakes, tmp_path):
    server = start_server(*slow_flags(slow_model, testdata)).wait_until_ready()
    with ThreadPoolExecutor(1) as pool:
        url = str(server.rest.base_url)
        with httpx.Client(base_url=url, trust_env=False, timeout=WAIT_S) as other:
            future = predict_later(server, pool, tmp_path / "pipe")
            fakes.wait_for(
                lambda: "slipway_in_flight{} 1" in other.get("/monitoring/prometheus/metrics").text, "the request"
            )
            server.signal(signal.SIGINT)
            fakes.wait_for(lambda: other.get("/v1/health/ready").status_code == 503, "the server to drain")
        server.signal(signal.SIGINT)

        assert server.exit_code() == 128 + signal.SIGINT
        with pytest.raises(httpx.HTTPError):
            future.result(WAIT_S)


def test_a_server_that_waits_for_its_model_can_be_stopped(start_server, tmp_path, fakes):
    server = start_server("--model_name=m", f"--model_base_path={tmp_path}/nowhere")
    fakes.wait_for(lambda: "Could not find base path" in server.log(), "the server to look for its model")
    server.signal(signal.SIGTERM)

    assert server.exit_code() == 0
    assert not (tmp_path / "server0" / "ready.json").exists()


def test_a_broken_warm_up_record_fails_the_start_and_is_named(start_server, testdata, tmp_path):
    version = shutil.copytree(testdata / "saved_model_half_plus_two_cpu" / "00000123", tmp_path / "m" / "1")
    records = [
        warmup_log.encode("predict", predict.encode_request("m", {"x": values}))
        for values in (np.float32([1.0]), np.float64([1.0]))
    ]
    (version / WARMUP_FILE).parent.mkdir()
    (version / WARMUP_FILE).write_bytes(tfrecord.frame_all(records))

    server = start_server("--model_name=m", f"--model_base_path={tmp_path}/m", "--max_num_load_retries=0")

    assert server.exit_code() == 255
    last = server.log().rstrip().splitlines()
    start = next(line for line in last if line.startswith("Failed to start server."))
    assert start.startswith(
        "Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available: "
        "{{{name: m version: 1} due to error: INVALID_ARGUMENT: "
    )
    assert (
        "tf_serving_warmup_requests: warm-up record 1 (predict, signature serving_default): Type mismatch"
        in server.log()
    )


@pytest.mark.parametrize("flag", ["port", "rest_api_port"])
def test_a_port_in_use_is_told_before_anything_is_loaded(start_server, tmp_path, flag):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = start_server(f"--{flag}={port}", f"--model_base_path={tmp_path}")

        assert server.exit_code() == 255
    assert server.log() == (
        f"Failed to start server. Error: {Code.UNAVAILABLE.name}: port {port} on 127.0.0.1 is in use by another "
        f"process; choose another with --{flag}, or auto for any that is free\n"
    )


def test_a_config_file_that_does_not_parse_fails_the_start(testdata):
    result = subprocess.run(
        [sys.executable, "-I", "-m", "slipway_server", f"--model_config_file={testdata}/bad_model_config.txt"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert result.returncode == 255
    assert "Error parsing text-format tensorflow.serving.ModelServerConfig" in result.stderr
    assert result.stdout.startswith("Failed to start server. Error: INVALID_ARGUMENT: Invalid protobuf file: '")


@pytest.mark.behaviour("5.8-replaces", "5.8-unsupported", "5.8-failed-model", "5.8-metric-deltas", "5.8-file-untouched")
def test_a_running_server_is_given_another_configuration(start_server, testdata, tmp_path):
    """By TensorFlow Serving's own messages and stub."""
    from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc

    broken = tmp_path / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "saved_model.pb").write_bytes(b"no model")
    file = tmp_path / "models.config"
    file.write_text(
        f'model_config_list {{ config {{ name: "two" base_path: "{testdata}/saved_model_half_plus_two_cpu" '
        'model_platform: "tensorflow" } }'
    )
    written = file.read_bytes(), file.stat().st_mtime_ns
    server = start_server(f"--model_config_file={file}", "--max_num_load_retries=0").wait_until_ready()
    stub = model_service_pb2_grpc.ModelServiceStub(server.channel)

    def reload(models, *metrics):
        request = model_management_pb2.ReloadConfigRequest(metric_names=metrics)
        request.config.model_config_list.SetInParent()
        for name, base_path in models.items():
            request.config.model_config_list.config.add(
                name=name, base_path=str(base_path), model_platform="tensorflow"
            )
        return stub.HandleReloadConfigRequest(request, timeout=WAIT_S)

    def refused(*arguments):
        with pytest.raises(grpc.RpcError) as refusal:
            reload(*arguments)
        return refusal.value.code().name, refusal.value.details()

    two, three = testdata / "saved_model_half_plus_two_cpu", testdata / "saved_model_half_plus_three"
    loads, nothing = "/tensorflow/cc/saved_model/load_attempt_count", "/no/such/metric"

    answer = reload({"two": two, "three": three}, loads, nothing)
    assert answer.status.error_code == 0
    assert {metric.name: metric.int64_value_increase for metric in answer.metric} == {loads: 1, nothing: 0}
    assert ask_grpc(server, "three", 1.0)[1] == [3.5]

    with pytest.raises(grpc.RpcError) as unsupported:
        stub.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest(), timeout=WAIT_S)
    assert unsupported.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "Only ModelConfigList is currently supported" in unsupported.value.details()
    code, details = refused({"two": "relative"})
    assert code == "INVALID_ARGUMENT"
    assert "Expected model two to have an absolute path" in details
    assert ask_grpc(server, "three", 1.0)[1] == [3.5]

    code, details = refused({"three": three, "broken": tmp_path / "broken"})
    assert code == "UNKNOWN"
    assert "1 model(s) did not become available: {{{name: broken version: 1} due to error: " in details
    assert ask_grpc(server, "three", 1.0)[1] == [3.5]
    with pytest.raises(grpc.RpcError, match="Servable not found for request: Latest"):
        ask_grpc(server, "two", 1.0)
    assert (file.read_bytes(), file.stat().st_mtime_ns) == written


@pytest.mark.behaviour("1.3-ssl_config_file", "11-server", "11-client-verify", "11-rest")
@pytest.mark.parametrize("transport", ["slipway", "grpcio"])
def test_mutual_tls_on_both_protocols(start_server, testdata, tmp_path, transport):
    authority = trustme.CA()
    ours, friend = authority.issue_cert("localhost", "127.0.0.1"), authority.issue_cert("me")
    ours.private_key_pem.write_to_path(tmp_path / "key.pem")
    ours.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    friend.private_key_and_cert_chain_pem.write_to_path(tmp_path / "friend.pem")
    inline = authority.cert_pem.bytes().decode().replace("\n", "\\n")
    (tmp_path / "ssl.config").write_text(
        f'server_key: "key.pem" server_cert: "cert.pem" custom_ca: "{inline}" client_verify: true'
    )
    server = start_server(
        f"--model_base_path={testdata}/saved_model_half_plus_two_cpu",
        f"--ssl_config_file={tmp_path}/ssl.config",
        f"--grpc_transport={transport}",
        "--rest_api_tls",
    ).wait_until_ready()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    url = f"https://127.0.0.1:{server.ready['rest_port']}/v1/models/default:predict"

    with pytest.raises(httpx.TransportError):
        httpx.post(url, content=b'{"instances": [1]}', verify=trusting, trust_env=False, timeout=WAIT_S)
    trusting.load_cert_chain(tmp_path / "friend.pem")
    with httpx.Client(verify=trusting, trust_env=False, timeout=WAIT_S) as rest:
        large = rest.post(url, content=json.dumps({"instances": [1.0] * 200_000}))
        assert large.json() == {"predictions": [2.5] * 200_000}
    credentials = grpc.ssl_channel_credentials(
        authority.cert_pem.bytes(), friend.private_key_pem.bytes(), friend.cert_chain_pems[0].bytes()
    )
    with grpc.secure_channel(f"localhost:{server.ready['grpc_port']}", credentials) as channel:
        answer = channel.unary_unary(paths.GRPC_PREDICT)(predict.encode_request("default", {"x": np.float32([1.0])}))
    assert predict.decode_response(answer)[1]["y"].tolist() == [2.5]
    with pytest.raises(httpx.TransportError):
        server.rest.get("/v1/models/default")

    server.signal(signal.SIGTERM)
    assert server.exit_code() == 0


@pytest.fixture
def batched_on_its_own(start_server, testdata, tmp_path):
    """A server where each version brings its own batching parameters, one brings none, and one brings nonsense."""
    model = testdata / "saved_model_half_plus_two_2_versions" / "00000123"
    own = {
        "large/1": "max_batch_size { value: 24 } max_execution_batch_size { value: 4 } max_enqueued_batches { value: 9 } "
        "enable_large_batch_splitting { value: true } pad_variable_length_inputs: true allowed_batch_sizes: 4",
        "plain/1": None,
        "broken/1": "max_batch_size { value: 4 }",
        "broken/2": "max_batch_size { value: 0 }",
    }
    for version, parameters in own.items():
        shutil.copytree(model, tmp_path / version)
        if parameters:
            (tmp_path / version / "batching_params.pbtxt").write_text(parameters)
    (tmp_path / "models.config").write_text(
        "model_config_list {"
        + "".join(
            f'config {{ name: "{name}" base_path: "{tmp_path}/{name}" model_platform: "tensorflow" '
            "model_version_policy { all {} } }"
            for name in ("large", "plain", "broken")
        )
        + "}"
    )
    (tmp_path / "pool").write_text("max_batch_size { value: 1 } num_batch_threads { value: 2 }")
    server = start_server(
        "--enable_batching",
        "--enable_per_model_batching_parameters",
        f"--batching_parameters_file={tmp_path}/pool",
        f"--model_config_file={tmp_path}/models.config",
        f"--monitoring_config_file={testdata}/monitoring_config.txt",
        "--max_num_load_retries=0",
    )
    return server.wait_until_ready()


def test_each_version_is_batched_as_it_says_itself(batched_on_its_own):
    server = batched_on_its_own
    values = [float(number) for number in range(24)]

    # Divided over batches of four.
    assert ask_rest(server, "large", *values) == {"predictions": [value / 2 + 2 for value in values]}
    assert server.metric('slipway_batches_total{model="large",size="4"') == 6
    assert ask_grpc(server, "large", 1.0)[1] == [2.5]
    assert server.metric('slipway_batch_padding_rows_total{model="large"}') == 3
    too_large = server.rest.post("/v1/models/large:predict", content=json.dumps({"instances": [1.0] * 25}).encode())
    assert too_large.status_code == 400
    assert "Task size 25 is larger than maximum input batch size 24" in too_large.json()["error"]

    # Not batched: a scalar is as good as any, and the pool's sizes are not for it.
    assert server.rest.post("/v1/models/plain:predict", content=b'{"inputs": 2.0}').json() == {"outputs": 3.0}
    assert ask_rest(server, "plain", *values)["predictions"][-1] == 13.5

    # A version that cannot be batched as it says does not serve, and says why.
    assert server.states("broken") == {1: "AVAILABLE", 2: "END"}
    (failed, _) = server.rest.get("/v1/models/broken").json()["model_version_status"]
    assert failed["status"]["error_code"] == "INVALID_ARGUMENT"
    assert (
        "2/batching_params.pbtxt: input_batch_size_limit must be positive; was 0" in failed["status"]["error_message"]
    )


def test_pipelined_requests_and_streams_are_carried_through_the_drain(
    start_server, slow_model, testdata, fakes, tmp_path
):
    """Three requests on one connection are under way; each gets its answer, and who watches health is told."""
    server = start_server(*slow_flags(slow_model, testdata), "--enable_grpc_healthcheck_service").wait_until_ready()
    watch = server.channel.unary_stream(paths.GRPC_HEALTH_WATCH)(b"", timeout=WAIT_S)
    assert next(watch) == b"\x08\x01"
    pipes = [tmp_path / f"pipe{number}" for number in range(3)]
    bodies = [slow_request(pipe) for pipe in pipes]
    head = b"POST /v1/models/slow:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    with (
        socket.create_connection(("127.0.0.1", server.ready["rest_port"]), timeout=WAIT_S) as connection,
        httpx.Client(base_url=str(server.rest.base_url), trust_env=False, timeout=WAIT_S) as other,
    ):
        connection.sendall(b"".join(head % len(body) + body for body in bodies))
        metrics = "/monitoring/prometheus/metrics"
        fakes.wait_for(lambda: "slipway_in_flight{} 3" in other.get(metrics).text, "the requests to be worked on")
        server.signal(signal.SIGTERM)
        assert next(watch) == b"\x08\x02"
        received = b""
        with let_go(*pipes):
            while piece := connection.recv(65536):
                received += piece

    assert received.count(b"HTTP/1.1 200 OK\r\n") == 3
    answers = re.findall(rb'\{"predictions":\["([^"]*)"\]\}', received)
    assert answers == [str(pipe).encode() for pipe in pipes]
    assert b"Connection: close" in received
    assert server.exit_code() == 0, server.log()


PLATFORM_CONFIG = """
platform_configs {{
  key: "tensorflow"
  value {{
    source_adapter_config {{
      [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] {{ legacy_config {{ {} }} }}
    }}
  }}
}}
"""


@pytest.mark.parametrize(
    ("config", "max_batch_size", "is_per_model"),
    [
        ("", None, False),
        ("batching_parameters { max_batch_size { value: 5 } }", 5, False),
        ("batching_parameters { } enable_per_model_batching_params: true", 1000, True),
    ],
)
def test_batching_is_also_read_from_the_platform_config(tmp_path, config, max_batch_size, is_per_model):
    """It takes the place of --enable_batching, as in TF Serving."""
    (tmp_path / "platform").write_text(PLATFORM_CONFIG.format(config))
    settings = Settings(platform_config_file=str(tmp_path / "platform"), enable_batching=True)

    policy, found = _batching(settings)

    assert found == is_per_model
    assert (policy and policy.max_batch_size) == max_batch_size


def test_batching_is_off_by_default_and_says_so_if_only_half_of_it_was_asked_for(caplog):
    assert _batching(Settings(enable_per_model_batching_parameters=True)) == (None, False)
    assert "no effect without --enable_batching" in caplog.text


def test_batching_parameters_that_make_no_sense_are_named_at_start(tmp_path, caplog):
    (tmp_path / "parameters").write_text("max_enqueued_batches { value: 100000000 }")

    _batching(Settings(enable_batching=True, batching_parameters_file=str(tmp_path / "parameters")))

    assert f"{tmp_path}/parameters: max_enqueued_batches is 100000000" in caplog.text
    assert _batching(Settings(enable_batching=True))[0].thread_pool_name == "model_server_batch_threads"
