import grpc
import numpy as np
import pytest
from tests.loadtests.conftest import PREDICT, null_server

from slipway_loadtests import h2c, http1
from slipway_loadtests.connections import RequestFailed
from slipway_wire import payloads, predict

ROWS = np.random.default_rng(2).random((4, 50_000), np.float32)
SMALL = [payloads.make("m", {"x": row[None, :3]}, {"y": row[None, :3] / 2}) for row in ROWS]
# Beyond every default window and frame of HTTP/2.
LARGE = [payloads.make("m", {"x": ROWS}, {"y": ROWS / 2})]


@pytest.fixture(scope="module")
def ports(tmp_path_factory):
    file = tmp_path_factory.mktemp("null") / "payloads.tfrecord"
    file.write_bytes(payloads.encode(SMALL + LARGE))
    with null_server(file) as found:
        yield found


@pytest.mark.parametrize("payload", SMALL + LARGE, ids=lambda payload: f"{len(payload.grpc_message)}B")
def test_rest_users_get_the_answers_of_the_payload_file(ports, payload):
    connection = http1.HttpConnection("127.0.0.1", ports["rest_port"])
    for _ in range(3):
        body = connection.call(http1.post("127.0.0.1", ports["rest_port"], payload.rest_path, payload.rest_body))
        answer = payloads.decode_rest_answer(payload, body)
        np.testing.assert_array_equal(answer["y"], payload.expected["y"])
    connection.close()


@pytest.mark.parametrize("payload", SMALL + LARGE, ids=lambda payload: f"{len(payload.grpc_message)}B")
def test_grpc_users_get_the_answers_of_the_payload_file(ports, payload):
    connection = h2c.GrpcConnection("127.0.0.1", ports["grpc_port"], PREDICT)
    for _ in range(3):
        _, outputs = predict.decode_response(connection.call(h2c.message(payload.grpc_message)))
        np.testing.assert_array_equal(outputs["y"], payload.expected["y"])
    connection.close()


def test_grpcio_understands_it_too(ports):
    with grpc.insecure_channel(f"127.0.0.1:{ports['grpc_port']}") as channel:
        _, outputs = predict.decode_response(channel.unary_unary(PREDICT)(SMALL[0].grpc_message, timeout=90))
        np.testing.assert_array_equal(outputs["y"], SMALL[0].expected["y"])
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(PREDICT)(b"something else", timeout=90)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_what_is_not_in_the_payload_file_is_not_found(ports):
    rest = http1.HttpConnection("127.0.0.1", ports["rest_port"])
    with pytest.raises(RequestFailed, match="404"):
        rest.call(http1.post("127.0.0.1", ports["rest_port"], "/v1/models/m:predict", b"{}"))
    rest.close()
