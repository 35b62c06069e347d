"""Against servers of a few lines that speak the protocol; the real server is called in test_launch.py."""

import http.server
import threading
from concurrent import futures

import grpc
import numpy as np
import pytest

from slipway.clients import GrpcClient, RestClient, predict_in_parts
from slipway.contract import PredictSignature
from slipway.errors import ServerError
from slipway_wire import json_predict, predict
from slipway_wire.model_spec import ModelSpec

SIGNATURE = PredictSignature.model_validate(
    {
        "method": "predict",
        "inputs": {"x": {"dtype": "float32", "shape": ["N"]}},
        "outputs": {"y": {"dtype": "float32", "shape": ["N"]}},
    }
)


@pytest.fixture
def rest_server():
    """Answers POST with what the test put into `answers`, and keeps what it was asked."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            asked.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            status, body = answers[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    asked, answers = [], [(200, b'{"predictions": [2.5]}')]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port, asked, answers
    server.shutdown()
    server.server_close()
    thread.join()


def test_rest_asks_for_the_version_and_gives_typed_arrays(rest_server):
    port, asked, _ = rest_server
    with RestClient("127.0.0.1", port, "half", SIGNATURE) as client:
        found = client.predict(2, {"x": np.array([1], np.float32)})

    assert asked == [
        ("/v1/models/half/versions/2:predict", json_predict.encode_request({"x": np.array([1], np.float32)}))
    ]
    assert found["y"].dtype == np.float32
    assert found["y"].tolist() == [2.5]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, b'{"error": "no such model"}'), r"expected 200, found 404: no such model"),
        ((502, b"<html>"), r"found 502: <html>"),
        ((200, b'{"predictions"'), r"POST /v1/models/half/versions/1:predict"),
    ],
)
def test_a_rest_error_is_told_in_the_servers_words(rest_server, answer, said):
    port, _, answers = rest_server
    answers[0] = answer
    with RestClient("127.0.0.1", port, "half", SIGNATURE) as client, pytest.raises(ServerError, match=said):
        client.predict(1, {"x": np.array([1], np.float32)})


def test_nobody_answering_over_rest_is_told():
    with RestClient("127.0.0.1", 1, "half", SIGNATURE) as client, pytest.raises(ServerError, match="no answer"):
        client.predict(1, {"x": np.array([1], np.float32)})


@pytest.fixture
def grpc_server():
    def serve(request: bytes, context):
        asked = predict.decode_request(request)
        if asked.spec.version == 9:
            context.abort(grpc.StatusCode.NOT_FOUND, "no version 9")
        if asked.spec.version == 8:
            return b"\xff"
        return predict.encode_response(ModelSpec("half", asked.spec.version), {"y": asked.inputs["x"] / 2 + 2})

    handler = grpc.unary_unary_rpc_method_handler(serve)
    service = grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", {"Predict": handler})
    server = grpc.server(futures.ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((service,))
    yield server.add_insecure_port("127.0.0.1:0"), server.start()
    server.stop(0).wait()


def test_grpc_gives_arrays_as_they_were_sent(grpc_server):
    with GrpcClient("127.0.0.1", grpc_server[0], "half") as client:
        found = client.predict(1, {"x": np.array([1, 2], np.float32)})

    assert found["y"].dtype == np.float32
    assert found["y"].tolist() == [2.5, 3.0]


@pytest.mark.parametrize(("version", "said"), [(9, "NOT_FOUND: no version 9"), (8, "not a PredictResponse")])
def test_a_grpc_error_is_told_in_the_servers_words(grpc_server, version, said):
    with GrpcClient("127.0.0.1", grpc_server[0], "half") as client, pytest.raises(ServerError, match=said):
        client.predict(version, {"x": np.array([1], np.float32)})


@pytest.mark.parametrize("sizes", [[1], [2, 3], [100]])
def test_parts_come_together_in_order(sizes):
    class Echo:
        def __init__(self):
            self.sent = []

        def predict(self, version, inputs):
            self.sent.append(len(inputs["x"]))
            return {"y": inputs["x"] + version}

    client = Echo()
    found = predict_in_parts(client, 10, {"x": np.arange(7)}, sizes)

    assert found["y"].tolist() == list(range(10, 17))
    assert sum(client.sent) == 7
    assert client.sent[0] == min(sizes[0], 7)
