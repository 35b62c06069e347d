"""What a hostile client can send over gRPC: it costs an error, and neither the server nor anybody else."""

import random
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipway_wire import messages, paths, predict

WAIT_S = 90.0
METHODS = [
    paths.GRPC_PREDICT,
    paths.GRPC_CLASSIFY,
    paths.GRPC_REGRESS,
    paths.GRPC_MULTI_INFERENCE,
    paths.GRPC_GET_MODEL_METADATA,
    paths.GRPC_GET_MODEL_STATUS,
    paths.GRPC_HEALTH_CHECK,
]
# What only a fault of ours, or of a server that is gone, would be told with.
FAULTS = {"UNKNOWN", "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "DATA_LOSS", "CANCELLED"}
GOOD = predict.encode_request("default", {"x": np.float32([1.0])})


@pytest.fixture(scope="module", params=["grpcio", "slipway"])
def live(request, fakes, testdata, tmp_path_factory):
    server = fakes.ServerProcess(
        tmp_path_factory.mktemp("attacked"),
        f"--model_base_path={testdata}/saved_model_half_plus_two_cpu",
        "--enable_grpc_healthcheck_service",
        f"--grpc_transport={request.param}",
    )
    try:
        server.wait_until_ready()
        server.channel = grpc.insecure_channel(
            f"127.0.0.1:{server.ready['grpc_port']}", options=[("grpc.max_receive_message_length", -1)]
        )
        yield server
        assert server.process.poll() is None, server.log()
        assert "Traceback" not in server.log()
    finally:
        server.close()


def ask(server, method, body):
    """Return the code's name and the details; of an answer, "OK" and its bytes."""
    try:
        return "OK", server.channel.unary_unary(method)(body, timeout=WAIT_S)
    except grpc.RpcError as error:
        return error.code().name, error.details()


def assert_unharmed(server):
    code, answer = ask(server, paths.GRPC_PREDICT, GOOD)
    assert code == "OK", answer
    assert predict.decode_response(answer)[1]["y"].tolist() == [2.5]


def resident_mb(server):
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


LIVE = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@LIVE
@given(method=st.sampled_from(METHODS), body=st.binary(max_size=300))
def test_random_bytes(live, method, body):
    assert ask(live, method, body)[0] not in FAULTS


@LIVE
@given(data=st.data())
def test_damaged_requests(live, data):
    body = bytearray(predict.encode_request("default", {"x": np.float32([[1.0], [2.0]])}, output_filter=["y"]))
    for _ in range(data.draw(st.integers(0, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))

    assert ask(live, paths.GRPC_PREDICT, bytes(body[:cut]))[0] not in FAULTS


def request(**tensor):
    message = messages.PredictRequest(model_spec={"name": "default"})
    shape = tensor.pop("shape", [])
    message.inputs["x"].CopyFrom(messages.TensorProto(**tensor))
    for size in shape:
        message.inputs["x"].tensor_shape.dim.add(size=size)
    return message


def many_inputs():
    message = request(dtype=1, float_val=[1.0])
    for number in range(50_000):
        message.inputs[f"x{number}"].dtype = 1
    return message


def many_outputs():
    message = request(dtype=1, float_val=[1.0])
    message.output_filter.extend(["y"] * 200_000)
    return message


def nested(depth):
    body = b""
    for _ in range(depth):
        head, length = b"\x0a", len(body)
        while length > 0x7F:
            head += bytes([length & 0x7F | 0x80])
            length >>= 7
        body = head + bytes([length]) + body
    return body


@pytest.mark.parametrize(
    ("body", "details"),
    [
        (request(dtype=1, float_val=[1.0], shape=[2**40]).SerializeToString(), "filling up is limited"),
        (request(dtype=1, float_val=[1.0, 2.0], shape=[2**22]).SerializeToString(), "filling up is limited"),
        (request(dtype=1, shape=[2**62, 2**62]).SerializeToString(), "too many elements"),
        (request(dtype=1, shape=[0, 2**62]).SerializeToString(), "too many elements"),
        (request(dtype=1, shape=[-1]).SerializeToString(), "must not be negative"),
        (request(dtype=1, shape=[1] * 200, float_val=[1.0]).SerializeToString(), "up to 64 dimensions"),
        (request(dtype=1, tensor_content=b"123", shape=[2]).SerializeToString(), "tensor_content has 3 bytes"),
        (request(dtype=20).SerializeToString(), "tensors of type resource are not supported"),
        (request(dtype=101).SerializeToString(), "float_ref"),
        (request(dtype=7, string_val=[b"a"]).SerializeToString(), "expect"),
        (many_inputs().SerializeToString(), "input size does not match signature: 50001!=1"),
        (many_outputs().SerializeToString(), "duplicate output tensor alias: y"),
        (nested(20_000), "not a PredictRequest"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_asks_for_too_much_is_refused_and_takes_no_memory(live, body, details):
    before = resident_mb(live)

    code, found = ask(live, paths.GRPC_PREDICT, body)

    assert code == "INVALID_ARGUMENT"
    assert details in found
    assert len(found) <= 1024 + len("...TRUNCATED")
    assert resident_mb(live) - before < 150
    assert_unharmed(live)


def test_large_requests_that_fail_do_not_pile_up(live):
    """Each takes 4 MB for a moment; what is kept of the errors would be hundreds."""
    body = request(dtype=1, tensor_content=bytes(4_000_001), shape=[1_000_000]).SerializeToString()
    assert ask(live, paths.GRPC_PREDICT, body)[0] == "INVALID_ARGUMENT"
    before = resident_mb(live)

    for _ in range(60):
        assert ask(live, paths.GRPC_PREDICT, body)[0] == "INVALID_ARGUMENT"

    assert resident_mb(live) - before < 120


def test_calls_cancelled_in_mid_flight(live):
    method = live.channel.unary_unary(paths.GRPC_PREDICT)
    large = predict.encode_request("default", {"x": np.ones(500_000, np.float32)})
    randomness = random.Random(1)

    for number in range(400):
        method.future(large if number % 40 == 0 else GOOD, timeout=WAIT_S).cancel()
        if randomness.random() < 0.1:
            assert_unharmed(live)

    assert_unharmed(live)


def test_connections_that_speak_something_else(live):
    randomness = random.Random(2)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"

    def attack(number):
        with socket.create_connection(("127.0.0.1", live.ready["grpc_port"]), WAIT_S) as connection:
            connection.sendall((preface if number % 2 else b"") + randomness.randbytes(randomness.randrange(400)))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(attack, range(200)))

    assert_unharmed(live)


def test_metadata_beyond_what_is_taken(live):
    with pytest.raises(grpc.RpcError) as refusal:
        live.channel.unary_unary(paths.GRPC_PREDICT)(GOOD, metadata=[("x-big", "a" * 200_000)], timeout=WAIT_S)

    assert refusal.value.code() in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}
    assert_unharmed(live)
