"""What an operator sees of a running server: metrics, logs, request log, spans, admin, health, the end."""

import json
import os
import shutil
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from slipway_wire import messages, paths, predict, tfrecord

WAIT_S = 90.0
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
MODEL = "saved_model_half_plus_two_cpu"


@pytest.fixture(scope="module")
def collector():
    """A port where spans arrive as OTLP/HTTP; what came is in the list beside it."""
    bodies = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection):
            with connection, connection.makefile("rb") as stream:
                while head := stream.readline():
                    length = 0
                    while (line := stream.readline()) not in {b"\r\n", b""}:
                        if line.lower().startswith(b"content-length:"):
                            length = int(line.split(b":")[1])
                    assert head.startswith(b"POST /v1/traces ")
                    bodies.append(stream.read(length))
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1], bodies
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def observed(fakes, testdata, tmp_path_factory, collector):
    """A server that everything is asked of."""
    directory = tmp_path_factory.mktemp("observed")
    (directory / "models.config").write_text(f"""
        model_config_list {{ config {{
          name: "half" model_platform: "tensorflow" base_path: "{testdata}/{MODEL}"
          logging_config {{
            log_collector_config {{ type: "tfrecord" filename_prefix: "{directory}/requests" }}
            sampling_config {{ sampling_rate: 1.0 }}
          }}
        }} }}""")
    # OpenTelemetry's own variable: spans leave at once.
    os.environ["OTEL_BSP_SCHEDULE_DELAY"] = "50"
    server = fakes.ServerProcess(
        directory,
        f"--model_config_file={directory}/models.config",
        f"--monitoring_config_file={testdata}/monitoring_config.txt",
        "--enable_grpc_healthcheck_service",
        "--access_log=all",
        "--log_format=json",
        "--admin_port=auto",
        "--lame_duck_s=4",
        f"--otlp_endpoint=http://127.0.0.1:{collector[0]}",
        "--trace_sample_rate=0",
    )
    del os.environ["OTEL_BSP_SCHEDULE_DELAY"]
    server.directory = directory
    try:
        server.wait_until_ready()
        base_url = f"http://127.0.0.1:{server.ready['admin_port']}"
        with httpx.Client(base_url=base_url, trust_env=False, timeout=WAIT_S) as server.admin:
            yield server
    finally:
        server.close()


def ask_rest(server, *values, model="half", **options):
    return server.rest.post(f"/v1/models/{model}:predict", content=json.dumps({"instances": values}), **options)


def ask_grpc(server, *values, metadata=()):
    body = predict.encode_request("half", {"x": np.float32(values)})
    return server.channel.unary_unary(paths.GRPC_PREDICT).with_call(body, timeout=WAIT_S, metadata=metadata)


def lines(server, **wanted):
    """Return the objects of the log that have these values."""
    found = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    return [one for one in found if wanted.items() <= one.items()]


def test_scrapes_count_exactly_what_was_sent(observed):
    sent = {("rest", "OK"): 5, ("rest", "INVALID_ARGUMENT"): 2, ("grpc", "OK"): 7}
    names = {
        key: f'slipway_requests_total{{model="half",version="123",signature="serving_default",protocol="{key[0]}",'
        f'method="Predict",status="{key[1]}"'
        for key in sent
    }
    # What fails before its signature is known is counted without one.
    names["rest", "INVALID_ARGUMENT"] = 'slipway_requests_total{model="half",version="123",signature="",protocol="rest"'
    before = {key: observed.metric(name) for key, name in names.items()}
    request_count = observed.metric(':tensorflow:serving:request_count{model_name="half",status="OK"}')
    for _ in range(5):
        assert ask_rest(observed, 1.0).status_code == 200
    for _ in range(2):
        assert ask_rest(observed, "one").status_code == 400
    for _ in range(7):
        ask_grpc(observed, 1.0, 2.0)

    assert {key: observed.metric(name) - before[key] for key, name in names.items()} == sent
    assert observed.metric(':tensorflow:serving:request_count{model_name="half",status="OK"}') == request_count + 12
    text = observed.rest.get("/monitoring/prometheus/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for name, family in families.items():
        assert family.documentation or name.startswith(":"), f"{name} has no HELP line"
    for name in (
        "process_start_time_seconds",
        "process_resident_memory_bytes",
        "process_open_fds",
        "slipway_build_info",
    ):
        assert families[name].samples, name
    assert observed.admin.get("/monitoring/prometheus/metrics").text.startswith("# TYPE ")


def test_a_line_of_the_access_log_is_found_by_what_the_caller_sent(observed, fakes, collector):
    sent = {"X-Request-ID": "find-me", "traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}
    assert ask_rest(observed, 1.0, 2.0, headers=sent).headers["x-request-id"] == "find-me"
    _, call = ask_grpc(observed, 3.0, metadata=(("x-request-id", "find-me-too"),))
    assert dict(call.trailing_metadata())["x-request-id"] == "find-me-too"
    made = ask_rest(observed, "one").headers["x-request-id"]

    fakes.wait_for(lambda: lines(observed, request_id=made), "the lines")
    (rest,), (grpc,) = lines(observed, request_id="find-me"), lines(observed, request_id="find-me-too")
    assert (rest["protocol"], rest["model"], rest["version"], rest["rows"], rest["status"]) == (
        *("rest", "half", 123, 2, "OK"),
    )
    assert rest["trace_id"] == TRACE_ID
    fakes.wait_for(lambda: bytes.fromhex(TRACE_ID) in b"".join(collector[1]), "the span of the first request")
    assert rest["compute_ms"] <= rest["latency_ms"]
    assert (grpc["protocol"], grpc["rows"]) == ("grpc", 1)
    assert grpc["peer"].startswith("ipv4:127.0.0.1:")
    (refused,) = lines(observed, request_id=made)
    assert "is not of expected type: float" in refused["error"]


def test_models_come_and_go_by_the_admin_port(observed, testdata):
    base_path = str(testdata / "saved_model_half_plus_three")
    assert observed.rest.get("/v1/health/ready/three").status_code == 404
    assert observed.admin.put("/v1/admin/models/three", json={"base_path": base_path}).json()["added"] == ["three"]

    assert ask_rest(observed, 1.0, model="three").json() == {"predictions": [3.5]}
    assert observed.rest.get("/v1/health/ready/three").json() == {"status": "SERVING"}
    assert observed.admin.delete("/v1/admin/models/three").json()["removed"] == ["three"]
    assert ask_rest(observed, 1.0, model="three").status_code == 404
    assert observed.rest.get("/v1/admin/models").status_code == 400, "the port of clients manages nothing"
    assert lines(observed, model="three", version=123, level="INFO")


def test_the_end_is_announced_and_everything_is_written(observed, fakes, collector, testdata, start_server, tmp_path):
    """The last test of this server. While a balancer looks elsewhere, requests are still answered."""
    looks_elsewhere = threading.Event()

    def ask_until_told(ask):
        asked = 0
        while not looks_elsewhere.is_set():
            ask()
            asked += 1
        return asked

    def ask_over_rest():
        assert ask_rest(observed, 5.0).json() == {"predictions": [4.5]}

    with ThreadPoolExecutor(4) as pool:
        askers = [pool.submit(ask_until_told, ask) for ask in (ask_over_rest, lambda: ask_grpc(observed, 5.0)) * 2]
        observed.signal(signal.SIGTERM)
        fakes.wait_for(lambda: observed.rest.get("/v1/health/ready").status_code == 503, "the lame duck")
        looks_elsewhere.set()
        assert all(asker.result(WAIT_S) for asker in askers), "no request failed before a balancer could know"
    assert observed.rest.get("/v1/health/ready").json()["reason"] == "The server is shutting down"
    body = messages.HealthCheckRequest(service="half").SerializeToString()
    health = observed.channel.unary_unary(paths.GRPC_HEALTH_CHECK)(body, timeout=WAIT_S)
    assert messages.HealthCheckResponse.FromString(health).status == 2
    assert ask_rest(observed, 6.0).json() == {"predictions": [5.0]}
    assert observed.exit_code() == 0, observed.log()

    (path,) = observed.directory.glob("requests-*.tfrecord")
    with path.open("rb") as stream:
        logs = [messages.PredictionLog.FromString(record) for record in tfrecord.read(stream)]
    values = [predict.request_from_proto(log.predict_log.request).inputs["x"].tolist() for log in logs]
    assert values[-2:] == [[5.0], [6.0]]
    assert bytes.fromhex(TRACE_ID) in b"".join(collector[1]), observed.log()
    assert lines(observed, message="All requests are answered; bye")

    # The same file warms up a version of the model.
    version = shutil.copytree(testdata / MODEL / "00000123", tmp_path / "half" / "1")
    (version / "assets.extra").mkdir(exist_ok=True)
    shutil.copy(path, version / "assets.extra" / "tf_serving_warmup_requests")
    warmed = start_server("--model_name=half", f"--model_base_path={tmp_path}/half").wait_until_ready()
    assert f"Number of warmup records read: {len(logs)}." in warmed.log()


def test_a_server_that_was_killed_leaves_nothing_in_the_way(start_server, testdata, tmp_path):
    """Connections are open, one with a request half sent, and the UNIX socket's file stays behind."""
    flags = ["--model_name=half", f"--model_base_path={testdata}/{MODEL}", f"--grpc_socket_path={tmp_path}/socket"]
    first = start_server(*flags).wait_until_ready()
    rest_port, grpc_port = first.ready["rest_port"], first.ready["grpc_port"]
    assert ask_rest(first, 1.0).status_code == 200
    ask_grpc(first, 1.0)
    with socket.create_connection(("127.0.0.1", rest_port)) as half_sent:
        half_sent.sendall(b"POST /v1/models/half:predict HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
        first.signal(signal.SIGKILL)
        assert first.exit_code() == -signal.SIGKILL
        second = start_server(*flags, f"--port={grpc_port}", f"--rest_api_port={rest_port}").wait_until_ready()

    assert second.ready["rest_port"] == rest_port
    assert ask_rest(second, 1.0).status_code == 200
    ask_grpc(second, 1.0)
