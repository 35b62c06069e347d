import contextlib

import grpc
import numpy as np
import psutil
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


def words_of(process):
    # Another test's child may have ended unseen.
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def test_connections_are_spread_over_processes_and_all_of_them_end(tmp_path):
    """One process would be what holds up several generators."""
    file = tmp_path / "payloads.tfrecord"
    file.write_bytes(payloads.encode(SMALL[:1]))
    with null_server(file, "--processes", "2") as ports:
        (first,) = (p for p in psutil.Process().children() if str(file) in words_of(p))
        processes = [first, *first.children()]
        request = http1.post("127.0.0.1", ports["rest_port"], SMALL[0].rest_path, SMALL[0].rest_body)
        # The kernel draws lots: that one process gets none of so many happens once in two thousand million times.
        connections = [http1.HttpConnection("127.0.0.1", ports["rest_port"]) for _ in range(32)]
        for connection in connections:
            connection.call(request)
        taken = [sum(c.status == psutil.CONN_ESTABLISHED for c in p.net_connections("tcp")) for p in processes]
        for connection in connections:
            connection.close()

    assert len(processes) == 2
    assert sum(taken) == 32
    assert min(taken) > 0
    assert psutil.wait_procs(processes, timeout=90)[1] == []
