"""Bad input of every sort against the live server: it answers with an error that says something, stays up, and hurts nobody else."""

import contextlib
import gzip
import json
import re
import socket
import struct
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.dropin.processes import WAIT_S, Server, predict_request

from slipway_wire import messages, paths, predict

MODELS = ("half_plus_two", "tf2", "types", "labelled", "counter", "nope", "")
SIGNATURES = (
    "",
    "float",
    "string",
    "two",
    "none",
    "int8",
    "half",
    "regress_x_to_y",
    "classify_x_to_y",
    "get_counter",
    "S",
)
METHODS = (
    *(paths.GRPC_PREDICT, paths.GRPC_CLASSIFY, paths.GRPC_REGRESS, paths.GRPC_MULTI_INFERENCE),
    *(paths.GRPC_GET_MODEL_METADATA, paths.GRPC_GET_MODEL_STATUS),
)
# What a client's fault may be answered with; UNKNOWN, INTERNAL, DATA_LOSS and UNAVAILABLE would be ours.
CODES = {
    *("INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "OUT_OF_RANGE", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED"),
}
FUZZ = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


def resident_mb(server: Server) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024


@pytest.fixture(scope="module", autouse=True)
def beside(server):
    """A well-behaved client that asks all the while, and what the server's memory did."""
    before, done, wrong, asked = resident_mb(server), threading.Event(), [], []

    def ask():
        number = 0.0
        while not done.wait(0.002):
            number += 1
            asked.append(number)
            try:
                if server.predict("half_plus_two", {"x": np.float32([number])})[1] != {"y": [number / 2 + 2]}:
                    wrong.append(number)
            except grpc.RpcError as error:
                wrong.append((error.code(), error.details()))

    client = threading.Thread(target=ask)
    client.start()
    yield
    done.set()
    client.join()
    assert not wrong
    assert asked
    assert server.process.poll() is None
    # Buffers of the largest bodies may stay with the allocator; nothing may pile up.
    assert resident_mb(server) < before + 400


def grpc_outcome(server, method, body):
    """Give the code of a call, OK included, and check what an error says."""
    call = server.channel.unary_unary(method).future(
        body if isinstance(body, bytes) else body.SerializeToString(), timeout=WAIT_S
    )
    error = call.exception()
    if error is None:
        return "OK"
    assert error.code().name in CODES, (error.code(), error.details())
    assert error.details()
    return error.code().name


def rest_outcome(server, path, body, **headers):
    """Give the status of a request and check what an error says."""
    answer = server.send(path, body, **headers)
    if answer.status_code != 200:
        assert answer.status_code in {400, 404, 413, 501}, answer.content[:500]
        assert list(json.loads(answer.content.decode(errors="replace"))) == ["error"]
        assert json.loads(answer.content.decode(errors="replace"))["error"]
    return answer.status_code


@given(method=st.sampled_from(METHODS), body=st.binary(max_size=300))
@FUZZ
@pytest.mark.behaviour("5.1-missing")
def test_random_bytes_over_grpc(server, method, body):
    grpc_outcome(server, method, body)


@st.composite
def tensor_protos(draw):
    """TensorProtos whose parts need not fit together."""
    proto = messages.TensorProto(dtype=draw(st.integers(0, 30) | st.sampled_from([1, 3, 7, 19, 101, 2**31 - 1])))
    for size in draw(st.lists(st.sampled_from([-(2**63), -1, 0, 1, 2, 3, 1000, 2**31, 2**40, 2**63 - 1]), max_size=5)):
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_shape.unknown_rank = draw(st.booleans())
    proto.tensor_content = draw(st.binary(max_size=40))
    proto.float_val.extend(draw(st.lists(st.floats(width=32), max_size=4)))
    proto.int_val.extend(draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4)))
    proto.string_val.extend(draw(st.lists(st.binary(max_size=5), max_size=3)))
    proto.half_val.extend(draw(st.lists(st.integers(-5, 2**31 - 1), max_size=3)))
    return proto


@given(
    model=st.sampled_from(MODELS),
    signature=st.sampled_from(SIGNATURES),
    inputs=st.dictionaries(st.sampled_from(["x", "y", "a", "b", "inputs", "", "é"]), tensor_protos(), max_size=3),
    output_filter=st.lists(st.sampled_from(["y", "z", "outputs"]), max_size=2),
)
@FUZZ
@pytest.mark.behaviour("5.2-undecodable", "5.2-input-count", "5.2-wrong-dtype")
def test_tensors_that_do_not_fit_over_grpc(server, model, signature, inputs, output_filter):
    request = predict_request(model, signature, inputs, output_filter=output_filter)
    grpc_outcome(server, paths.GRPC_PREDICT, request)


@given(data=st.data())
@FUZZ
def test_damaged_messages_over_grpc(server, data):
    """A request that was good, with some bytes changed, cut off or doubled."""
    body = bytearray(predict.encode_request("types", {"x": np.float32([[1, 2], [3, 4]])}, signature_name="float"))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    grpc_outcome(server, paths.GRPC_PREDICT, bytes(body[:cut] if data.draw(st.booleans()) else body + body[cut:]))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["x", "a", "b", "b64", "é"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(
    model=st.sampled_from(["half_plus_two", "types", "labelled", "counter", "nope"]),
    verb=st.sampled_from(["predict", "classify", "regress"]),
    body=st.fixed_dictionaries(
        {},
        optional={
            "signature_name": st.sampled_from(SIGNATURES) | JSON,
            "instances": JSON,
            "inputs": JSON,
            "examples": JSON,
        },
    ),
)
@FUZZ
@pytest.mark.behaviour("4.1-row-wrapped", "4.1-type-error")
def test_json_that_does_not_fit(server, model, verb, body):
    rest_outcome(server, f"{model}:{verb}", json.dumps(body).encode())


@given(body=st.binary(max_size=200), is_zipped=st.booleans(), claims_zip=st.booleans())
@FUZZ
@pytest.mark.behaviour("3.4-parse-error", "3.7-gzip")
def test_random_bytes_and_wrong_encodings_over_rest(server, body, is_zipped, claims_zip):
    headers = {"Content-Encoding": "gzip"} if claims_zip else {}
    status = rest_outcome(server, "types:predict", gzip.compress(body) if is_zipped else body, **headers)
    assert status == 400


@given(
    pieces=st.lists(
        st.sampled_from(
            [
                b"POST /v1/models/types:predict HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n", b"GET /v1/models/tf2 HTTP/9.9\r\n",
                b"Host: a\r\n", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999\r\n",
                b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"\r\n", b"{}",
                b"ffffffffffffffffff\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x00\xff\x16\x03\x01",
                b": novalue\r\n", b"A" * 5000,
            ]
        ),
        min_size=1,
        max_size=8,
    )
)  # fmt: skip
@FUZZ
def test_http_that_is_none(server, pieces):
    """Whatever comes, the connection ends or is answered; the server does not mind."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.rest_port), timeout=5) as raw:
        raw.sendall(b"".join(pieces))
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(65536):
            pass
    assert server.process.poll() is None


@given(
    frames=st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=30)), max_size=6
    )
)
@FUZZ
def test_http2_that_is_none(server, frames):
    """Frames of any type, flags and stream, some of them cut off, behind a good preface or a bad one."""
    data = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">I", 0)[1:] + b"\x04\x00" + bytes(4)
    for kind, flags, stream, payload in frames:
        data += struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.grpc_port), timeout=5) as raw:
        raw.sendall(data)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(65536):
            pass
    assert server.process.poll() is None


def large_cases():
    """What is small on the wire and large behind it, or large on both sides."""
    huge = messages.TensorProto(dtype=1)
    huge.tensor_shape.dim.add(size=2**40)
    filled = messages.TensorProto(dtype=1, float_val=[1.0])
    filled.tensor_shape.dim.add(size=2**36)
    wide = messages.TensorProto(dtype=7)
    for _ in range(300):
        wide.tensor_shape.dim.add(size=1)
    return {
        "a shape without data": predict_request("types", "float", {"x": huge}),
        "one value for all": predict_request("types", "float", {"x": filled}),
        "too many dimensions": predict_request("types", "string", {"x": wide}),
        "hundreds of inputs": predict_request("types", "float", {f"x{n}": np.float32(n) for n in range(500)}),
    }


@pytest.mark.behaviour("5.2-undecodable")
@pytest.mark.parametrize("name", large_cases())
def test_huge_shapes_with_little_data(server, name):
    assert grpc_outcome(server, paths.GRPC_PREDICT, large_cases()[name]) in {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}


@pytest.mark.behaviour("3.7-gzip")
def test_a_gzip_bomb_is_refused(server):
    """A hundred kilobytes that want to be more than the limit of 100 MiB."""
    bomb = gzip.compress(bytes(110 * 1024 * 1024), compresslevel=1)
    before = resident_mb(server)

    assert rest_outcome(server, "types:predict", bomb, **{"Content-Encoding": "gzip"}) == 400
    assert resident_mb(server) < before + 300


@pytest.mark.behaviour("4.1-deep-nesting")
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"x":', b"}")], ids=["lists", "objects"])
def test_deep_nesting_where_it_counts(server, opening, closing):
    depth = 30_000
    for key in (b"instances", b"inputs", b"examples", b"signature_name"):
        body = b'{"signature_name": "float", "' + key + b'": ' + opening * depth
        assert rest_outcome(server, "types:predict", body) == 400
        assert rest_outcome(server, "types:predict", body + b"1" + closing * depth + b"}") == 400
