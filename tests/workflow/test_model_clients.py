"""What a server without errors answers is shown in test_verify.py and test_predict.py; here is what else may come."""

import http.server
import threading

import numpy as np
import pytest

from slipway.errors import ServerError
from slipway.model_clients import GrpcModel, RestModel, Security
from slipway_wire import dtypes
from slipway_wire.signatures import PREDICT, Signature, TensorSpec

SIGNATURE = Signature(
    "double",
    PREDICT,
    {"x": TensorSpec("x", dtypes.FLOAT, (None,), "x:0")},
    {"y": TensorSpec("y", dtypes.FLOAT, (None,), "y:0")},
)
X = {"x": np.float32([1])}


@pytest.fixture
def rest_server():
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            length = int(self.headers.get("Content-Length", 0))
            asked.append((self.path, self.headers.get("Authorization"), self.rfile.read(length)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(answers[0])))
            self.end_headers()
            self.wfile.write(answers[0])

        do_GET = do_POST = answer  # noqa: N815 - http.server's own names

        def log_message(self, *_):
            pass

    asked, answers = [], [b"{}"]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port, asked, answers
    server.shutdown()
    server.server_close()
    thread.join()


def test_label_prefix_token_and_signature_reach_the_server(rest_server):
    port, asked, answers = rest_server
    answers[0] = b'{"outputs": [2]}'
    with RestModel("127.0.0.1", port, "m", label="stable", prefix="/gate", security=Security(token="secret")) as client:
        found = client.call_predict(SIGNATURE, X)

    assert asked == [
        (
            "/gate/v1/models/m/labels/stable:predict",
            "Bearer secret",
            b'{"signature_name":"double","inputs":[1.0]}',
        )
    ]
    assert found["y"].dtype == np.float32


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.signatures(),
        lambda client: client.call_predict(SIGNATURE, X),
        lambda client: client.call_classify("c", [b""]),
        lambda client: client.call_regress("r", [b""]),
    ],
)
def test_answers_that_are_none_are_told_with_the_call(rest_server, call):
    with RestModel("127.0.0.1", rest_server[0], "m") as client, pytest.raises(ServerError, match=r"/v1/models/m"):
        call(client)


def test_what_json_cannot_carry_is_sent_to_grpc():
    with RestModel("127.0.0.1", 1, "m") as client, pytest.raises(ServerError, match="Over gRPC it goes"):
        client.call_predict(SIGNATURE, {"x": np.uint16([1])})


@pytest.mark.parametrize("client", [RestModel("127.0.0.1", 1, "m"), GrpcModel("127.0.0.1", 1, "m")])
def test_nobody_there_is_one_line(client):
    with client, pytest.raises(ServerError, match=r"no answer|UNAVAILABLE") as refused:
        client.signatures()

    assert len(str(refused.value).splitlines()) == 1
